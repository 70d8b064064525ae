//! A worker thread: bursts from its ports and from other workers, commands in between, sleep
//! otherwise.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use crossbeam::channel::Receiver;
use qlink_io::handover::Sleeper;
use qlink_io::mem::MemSource;
use qlink_io::wait::wait;
use qlink_io::{
    BURST_MAX, Burst, IoError, Losses, Outgoing, PacketPort, PacketSink, PacketSource, clock,
};
use qlink_meter::DropReason;
use qlink_pfcp::Refusal;
use qlink_wire::LinkType;

use crate::control::{Command, Order, Outcome};
use crate::patience::Patience;
use crate::pipeline::{Arrival, Ingress, Ports, Side, process_burst};
use crate::plane::Plane;
use crate::process::{DataplaneError, IDLE};
use crate::shard::Inboxes;
use crate::tunnel::Entrance;

/// A port that sends through a shared borrow, because the burst being processed borrows it too.
#[derive(Debug)]
struct SharedPort<'a, P>(&'a P);

impl<P: PacketPort> PacketSink for SharedPort<'_, P> {
    #[inline]
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.0.send(items)
    }
}

/// A worker's loop, whatever its packets come through.
pub(crate) trait Work {
    /// Works until told to stop.
    fn work(self, stopped: &impl Fn() -> bool) -> Result<(), DataplaneError>;
}

/// What every worker has besides its ports.
pub(crate) struct Seat {
    pub(crate) plane: Plane,
    pub(crate) inboxes: Inboxes,
    /// The way to BaseStations in the tunnel, where there is one.
    pub(crate) entrance: Option<Entrance>,
    pub(crate) orders: Receiver<Order>,
    pub(crate) sleeper: Sleeper,
}

impl Seat {
    /// Does what the control thread wants, and says through `n3` what follows from it.
    pub(crate) fn take_orders(&mut self, n3: &mut impl PacketSink) {
        while let Ok((command, result)) = self.orders.try_recv() {
            // The control thread may have given up waiting.
            let _ = result.try_send(apply(&mut self.plane, command));
        }
        if !self.plane.signals.is_empty() {
            self.plane.send_signals(n3);
        }
    }

    /// Sleeps until one of the ports, another worker or the control thread has something;
    /// `descriptors` are the ports' and, last, the sleeper's.
    pub(crate) fn sleep(&self, descriptors: &[BorrowedFd<'_>]) -> Result<(), DataplaneError> {
        self.sleeper.prepare();
        if self.orders.is_empty() && self.inboxes.are_empty() {
            wait(descriptors, Some(IDLE))?;
        }
        self.sleeper.awake();
        Ok(())
    }

    /// Sleeps until another worker or the control thread has something, or for a moment: until
    /// others may have room again.
    fn pause(&self) -> Result<(), DataplaneError> {
        self.sleeper.prepare();
        if self.orders.is_empty() && self.inboxes.are_empty() {
            wait(&[self.sleeper.as_fd()], Some(PAUSE))?;
        }
        self.sleeper.awake();
        Ok(())
    }

    /// Counts what a port has lost since `before`, and remembers it there.
    pub(crate) fn count_losses(&mut self, now: Losses, before: &mut Losses) {
        let lost = now.since(before);
        *before = now;
        let arena = &mut self.plane.arena;
        for (reason, packets) in [
            (DropReason::ReceiveFull, lost.full),
            (DropReason::NotGtpu, lost.foreign),
            (DropReason::FragmentUnsupported, lost.fragments),
            (DropReason::FragmentExpired, lost.expired),
        ] {
            if packets > 0 {
                arena.count_drop(reason, packets);
            }
        }
    }
}

/// Bursts that one turn takes from an inbox (chosen: two other workers' for each of ours, twice).
const INBOX_BURSTS: usize = 4;

/// How long a worker that waits for others looks away (chosen: as long as they need for a hundred
/// packets).
const PAUSE: Duration = Duration::from_micros(50);

/// How often ports are asked for what they have lost.
pub(crate) const LOSS_EVERY_NS: u64 = 1_000_000_000;

/// Everything that one worker thread owns; `A` is the port towards BaseStations, `B` that towards
/// origins.
pub(crate) struct Worker<A, B> {
    pub(crate) seat: Seat,
    pub(crate) n3: A,
    pub(crate) n6: B,
    /// What N3 and N6 had lost when they were last asked.
    lost: (Losses, Losses),
    lost_asked_ns: u64,
}

impl<A: PacketPort, B: PacketPort> Work for Worker<A, B> {
    fn work(mut self, stopped: &impl Fn() -> bool) -> Result<(), DataplaneError> {
        let mut burst = Burst::new();
        let mut patience = Patience::default();
        while !stopped() {
            self.seat.take_orders(&mut SharedPort(&self.n3));
            let now_ns = clock::now_ns();
            self.drain(now_ns);
            if now_ns.saturating_sub(self.lost_asked_ns) >= LOSS_EVERY_NS {
                self.lost_asked_ns = now_ns;
                self.seat.count_losses(self.n3.losses(), &mut self.lost.0);
                self.seat.count_losses(self.n6.losses(), &mut self.lost.1);
            }
            let waits = patience.waits(self.seat.plane.others.have_room(), now_ns);
            let mut packets = self.inboxes(&mut burst, now_ns)?;
            if !waits {
                packets = packets.saturating_add(self.turn(&mut burst, now_ns)?);
            }
            if packets == 0 {
                self.seat.plane.sweep(now_ns);
                if waits {
                    self.seat.pause()?;
                } else {
                    self.sleep()?;
                }
            }
        }
        Ok(())
    }
}

impl<A: PacketPort, B: PacketPort> Worker<A, B> {
    pub(crate) fn new(seat: Seat, n3: A, n6: B) -> Self {
        Self {
            seat,
            n3,
            n6,
            lost: Default::default(),
            lost_asked_ns: clock::now_ns(),
        }
    }

    /// Packets that were kept go the way of all packets once their rules let them.
    fn drain(&mut self, now_ns: u64) {
        while let Some(slot) = self.seat.plane.next_drain() {
            let mut packets = MemSource::new(Vec::new(), LinkType::RawIp, 1);
            let mut burst = Burst::new();
            // As many as there are now: those that are kept again come behind them.
            let mut left = self.seat.plane.kept(slot);
            while left > 0 {
                packets.clear();
                for _ in 0..BURST_MAX {
                    if left == 0 {
                        break;
                    }
                    left = left.saturating_sub(1);
                    self.seat
                        .plane
                        .take_kept(slot, |packet| packets.push(packet));
                }
                if packets.recv_burst(&mut burst).is_err() {
                    break;
                }
                let ports = &mut shared(&self.n3, &self.n6);
                let ingress = Ingress {
                    side: Side::N6,
                    arrival: Arrival::HandedOver,
                };
                let plane = &mut self.seat.plane;
                process_burst(plane, ingress, &packets, &burst, ports, now_ns);
            }
        }
    }

    /// One burst of each port; returns how many packets there were.
    fn turn(&mut self, burst: &mut Burst, now_ns: u64) -> Result<usize, DataplaneError> {
        let mut packets = self.n3.recv_burst(burst)?;
        if !burst.is_empty() {
            let ports = &mut shared(&self.n3, &self.n6);
            process_burst(
                &mut self.seat.plane,
                Side::N3,
                &self.n3,
                burst,
                ports,
                now_ns,
            );
        }
        packets = packets.saturating_add(self.n6.recv_burst(burst)?);
        if !burst.is_empty() {
            let ports = &mut shared(&self.n3, &self.n6);
            process_burst(
                &mut self.seat.plane,
                Side::N6,
                &self.n6,
                burst,
                ports,
                now_ns,
            );
        }
        Ok(packets)
    }

    /// What others handed over, one burst from the tunnel and up to [`INBOX_BURSTS`] of each side;
    /// returns how many packets there were.
    fn inboxes(&mut self, burst: &mut Burst, now_ns: u64) -> Result<usize, DataplaneError> {
        let mut packets = 0_usize;
        if let Some(tunnel) = &mut self.seat.inboxes.tunnel {
            packets = packets.saturating_add(tunnel.recv_burst(burst)?);
            if !burst.is_empty() {
                let ports = &mut shared(&self.n3, &self.n6);
                process_burst(&mut self.seat.plane, Side::N3, tunnel, burst, ports, now_ns);
            }
        }
        for side in [Side::N3, Side::N6] {
            let inbox = match side {
                Side::N3 => &mut self.seat.inboxes.n3,
                Side::N6 => &mut self.seat.inboxes.n6,
            };
            for _ in 0..INBOX_BURSTS {
                packets = packets.saturating_add(inbox.recv_burst(burst)?);
                if burst.is_empty() {
                    break;
                }
                let ports = &mut shared(&self.n3, &self.n6);
                let arrival = Arrival::HandedOver;
                let ingress = Ingress { side, arrival };
                process_burst(&mut self.seat.plane, ingress, inbox, burst, ports, now_ns);
            }
        }
        Ok(packets)
    }

    fn sleep(&self) -> Result<(), DataplaneError> {
        let sleeper = self.seat.sleeper.as_fd();
        // Where a port has one descriptor, the places of further ones are the sleeper's again.
        let [n3, n3_other] = self.n3.more_fds().map(|fd| fd.unwrap_or(sleeper));
        let [n6, n6_other] = self.n6.more_fds().map(|fd| fd.unwrap_or(sleeper));
        let ports = (self.n3.as_fd(), self.n6.as_fd());
        self.seat
            .sleep(&[ports.0, n3, n3_other, ports.1, n6, n6_other, sleeper])
    }
}

const fn shared<'a, A, B>(n3: &'a A, n6: &'a B) -> Ports<SharedPort<'a, A>, SharedPort<'a, B>> {
    Ports {
        n3: SharedPort(n3),
        n6: SharedPort(n6),
    }
}

/// Does what the control thread wants of the plane.
pub(crate) fn apply(plane: &mut Plane, command: Command) -> Result<Outcome, Refusal> {
    match command {
        Command::Establish {
            slot,
            rules,
            copies,
        } => plane.establish(slot, &rules, copies)?,
        Command::Modify { slot, rules } => plane.modify(slot, &rules)?,
        Command::Delete { slot } => return Ok(Outcome::Usage(Box::new(plane.delete(slot)))),
        Command::Charges { slot, into } => {
            // The control thread may have given up waiting.
            let _ = into.try_send((plane.charges(slot), plane.redirect_rows(slot)));
        }
        Command::Echo { expected, ask } => plane.ask_peers(expected, &ask),
        Command::Probe => {}
        Command::Trace { tap } => plane.trace(tap)?,
        Command::AddRoute(route) => plane.others.add(&route),
        Command::RemoveRoute(route) => plane.others.remove(&route),
        Command::RuledEstablish { slot, setup } => plane.establish_ruled(slot, *setup, None)?,
        Command::RuledModify { slot, change } => {
            return plane.modify_ruled(slot, *change).map(Outcome::Reports);
        }
        Command::RuledRecompile { slot, setup } => plane.recompile_ruled(slot, *setup)?,
        Command::RuledDelete { slot } => return plane.delete_ruled(slot).map(Outcome::Reports),
        Command::RuledClose { slot } => plane.close_ruled(slot),
        Command::RuledAcknowledge { slot, reports } => plane.acknowledge_ruled(slot, &reports),
        Command::RuledKept { slot, kept } => plane.settle_kept(slot, kept),
    }
    Ok(Outcome::Done)
}
