//! Stages 4 to 6: what a burst adds is noted, its packets are sent, what was accepted is counted.

use qlink_io::{BURST_MAX, IoError, Outgoing, PacketSink};
use qlink_meter::{DropReason, WorkerCounter};

use super::{Planned, Ports, Sent, Side};
use crate::plane::Plane;

impl Plane {
    #[inline]
    pub(super) fn note(&mut self) {
        if !self.entries.is_empty() {
            self.arena.note_burst(self.entries.as_slice());
        }
    }

    /// Sends a burst of `side`, through forwarding where that is configured.
    #[inline]
    pub(super) fn send_planned<A: PacketSink, B: PacketSink>(
        &mut self,
        side: Side,
        ports: &mut Ports<A, B>,
        planned: &mut [Planned<'_>],
        now_ns: u64,
    ) -> Sent {
        if self.forwarding.is_none() {
            if self.ruled.has_edited() {
                return self.send_edited(ports, planned);
            }
            self.send_both(side, ports, planned)
        } else {
            self.send_forwarded(ports, planned, now_ns)
        }
    }

    /// Sends a burst of `side`. Without rules all of it leaves through the other port.
    #[inline]
    fn send_both<A: PacketSink, B: PacketSink>(
        &mut self,
        side: Side,
        ports: &mut Ports<A, B>,
        planned: &mut [Planned<'_>],
    ) -> Sent {
        let other = match side {
            Side::N3 => Side::N6,
            Side::N6 => Side::N3,
        };
        if self.has_rules && planned.iter().any(|plan| plan.way != other) {
            return self.send_sorted(ports, planned);
        }
        let items: [_; BURST_MAX] =
            std::array::from_fn(|at| planned.get(at).map_or(Outgoing::EMPTY, outgoing));
        let items = items.get(..planned.len()).unwrap_or_default();
        let accepted = match other {
            Side::N6 => self.send(&mut ports.n6, items),
            Side::N3 => self.send(&mut ports.n3, items),
        };
        match accepted {
            None => Sent::All,
            Some(accepted) => {
                mark_accepted(planned.iter_mut(), &accepted);
                Sent::Part
            }
        }
    }

    /// Sends each planned packet through its port.
    fn send_sorted<A: PacketSink, B: PacketSink>(
        &mut self,
        ports: &mut Ports<A, B>,
        planned: &mut [Planned<'_>],
    ) -> Sent {
        let mut sent = Sent::All;
        for way in [Side::N6, Side::N3] {
            let mut items = [Outgoing::EMPTY; BURST_MAX];
            let mut count = 0_usize;
            let own = planned.iter().filter(|plan| plan.way == way);
            for (item, plan) in items.iter_mut().zip(own) {
                *item = outgoing(plan);
                count = count.saturating_add(1);
            }
            let items = items.get(..count).unwrap_or_default();
            let accepted = match way {
                Side::N6 => self.send(&mut ports.n6, items),
                Side::N3 => self.send(&mut ports.n3, items),
            };
            if let Some(accepted) = accepted {
                let own = planned.iter_mut().filter(|plan| plan.way == way);
                mark_accepted(own, &accepted);
                sent = Sent::Part;
            }
        }
        sent
    }

    /// Which of the packets the port took; `None`: all.
    #[inline]
    pub(crate) fn send(
        &mut self,
        sink: &mut impl PacketSink,
        items: &[Outgoing<'_>],
    ) -> Option<[bool; BURST_MAX]> {
        if items.is_empty() {
            return None;
        }
        match sink.send_burst(items) {
            Ok(sent) if sent == items.len() => None,
            first => Some(self.send_rest(sink, items, first)),
        }
    }

    /// Goes on behind a first answer that was not all of them.
    #[cold]
    fn send_rest(
        &mut self,
        sink: &mut impl PacketSink,
        items: &[Outgoing<'_>],
        first: Result<usize, IoError>,
    ) -> [bool; BURST_MAX] {
        let mut accepted = [false; BURST_MAX];
        let (mut done, mut answer) = (0_usize, first);
        loop {
            let left = items.len().saturating_sub(done) as u64;
            match answer {
                Ok(0) => {
                    self.arena.count_drop(DropReason::TransmitFull, left);
                    return accepted;
                }
                Ok(sent) => {
                    let end = done.saturating_add(sent);
                    if let Some(now) = accepted.get_mut(done..end) {
                        now.fill(true);
                    }
                    done = end;
                }
                Err(IoError::Refused { .. }) => {
                    self.arena.count_drop(DropReason::TransmitRefused, 1);
                    done = done.saturating_add(1);
                }
                Err(_) => {
                    self.arena.count_drop(DropReason::TransmitRefused, left);
                    return accepted;
                }
            }
            answer = match items.get(done..) {
                Some(rest) if !rest.is_empty() => sink.send_burst(rest),
                _ => return accepted,
            };
        }
    }

    /// Counts what was accepted and forgets the burst.
    #[inline]
    pub(super) fn count(
        &mut self,
        planned: &[Planned<'_>],
        sent: Sent,
        received: usize,
        now_ns: u64,
    ) {
        if sent == Sent::Part {
            self.expect_accepted(planned);
        }
        let (mut packets, mut bytes) = (0_u64, 0_u64);
        for (_, delta) in self.entries.as_slice() {
            packets = packets
                .saturating_add(delta.uplink_packets)
                .saturating_add(delta.downlink_packets);
            bytes = bytes
                .saturating_add(delta.uplink_bytes)
                .saturating_add(delta.downlink_bytes);
        }
        if self.has_rules && !self.entries.is_empty() {
            if sent == Sent::Part {
                self.retract_measured(planned);
            }
            self.ruled.clear_measured();
            self.commit_ruled(now_ns);
            self.entries.clear();
        } else {
            self.commit_plain();
        }
        self.count_burst(received, packets, bytes);
    }

    /// Counts what the burst adds to sessions without rules, and forgets the burst.
    #[inline(always)]
    pub(super) fn commit_plain(&mut self) {
        if !self.entries.is_empty() {
            self.arena.commit_burst(self.entries.as_slice());
        }
        self.entries.clear();
    }

    /// Counts a burst of the worker: packets received, those sent, and their inner bytes.
    #[inline(always)]
    pub(super) fn count_burst(&mut self, received: usize, packets: u64, bytes: u64) {
        self.arena
            .count(WorkerCounter::ReceivedPackets, received as u64);
        self.arena.count(WorkerCounter::SentPackets, packets);
        self.arena.count(WorkerCounter::NetworkBytes, bytes);
        self.arena.count(WorkerCounter::Bursts, 1);
    }

    /// Sums up again what the burst adds, of accepted packets alone.
    #[cold]
    fn expect_accepted(&mut self, planned: &[Planned<'_>]) {
        self.entries.reset();
        for plan in planned.iter().filter(|plan| plan.accepted) {
            self.expect_packet(plan.slot, &plan.delta);
        }
    }

    /// Usage rules count what was accepted only.
    #[cold]
    fn retract_measured(&mut self, planned: &[Planned<'_>]) {
        for plan in planned.iter().filter(|plan| !plan.accepted) {
            let measured = self.ruled.measured.get(usize::from(plan.measured)).copied();
            if let (Some(measured), Some(ruled)) = (measured, self.ruled.get_mut(plan.slot)) {
                ruled.urrs.retract(&measured.urrs, &measured.packet);
            }
        }
    }
}

/// A planned packet as a port wants it.
#[inline]
fn outgoing<'a>(plan: &'a Planned<'_>) -> Outgoing<'a> {
    Outgoing {
        head: plan.head.as_slice(),
        body: plan.body,
        to: plan.to,
    }
}

pub(crate) fn mark_accepted<'a, 'b: 'a>(
    planned: impl Iterator<Item = &'a mut Planned<'b>>,
    accepted: &[bool],
) {
    for (plan, accepted) in planned.zip(accepted) {
        plan.accepted = *accepted;
    }
}
