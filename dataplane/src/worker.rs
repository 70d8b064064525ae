//! A worker thread: bursts from its ports and from other workers, commands in between, sleep
//! otherwise.

use std::os::fd::AsFd as _;

use crossbeam::channel::Receiver;
use qlink_io::handover::Sleeper;
use qlink_io::mem::MemSource;
use qlink_io::wait::wait;
use qlink_io::{Burst, IoError, Outgoing, PacketPort, PacketSink, PacketSource, clock};
use qlink_pfcp::Refusal;
use qlink_wire::LinkType;

use crate::control::{Command, Order, Outcome};
use crate::pipeline::{Arrival, Ingress, Ports, Side, process_burst};
use crate::plane::Plane;
use crate::process::{DataplaneError, IDLE};
use crate::shard::Inboxes;

/// A port that sends through a shared borrow, because the burst being processed borrows it too.
#[derive(Debug)]
struct SharedPort<'a, P>(&'a P);

impl<P: PacketPort> PacketSink for SharedPort<'_, P> {
    #[inline]
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.0.send(items)
    }
}

/// Everything that one worker thread owns; `A` is the port towards BaseStations, `B` that towards
/// origins.
pub(crate) struct Worker<A, B> {
    pub(crate) plane: Plane,
    pub(crate) n3: A,
    pub(crate) n6: B,
    pub(crate) inboxes: Inboxes,
    pub(crate) orders: Receiver<Order>,
    pub(crate) sleeper: Sleeper,
}

impl<A: PacketPort, B: PacketPort> Worker<A, B> {
    /// Works until told to stop.
    pub(crate) fn run(mut self, stopped: &impl Fn() -> bool) -> Result<(), DataplaneError> {
        let mut burst = Burst::new();
        while !stopped() {
            self.take_orders();
            let now_ns = clock::now_ns();
            self.drain(now_ns);
            if self.turn(&mut burst, now_ns)? == 0 {
                self.plane.sweep(now_ns);
                self.sleep()?;
            }
        }
        Ok(())
    }

    fn take_orders(&mut self) {
        while let Ok((command, result)) = self.orders.try_recv() {
            // The control thread may have given up waiting.
            let _ = result.try_send(apply(&mut self.plane, command));
        }
        if !self.plane.signals.is_empty() {
            self.plane.send_signals(&mut SharedPort(&self.n3));
        }
    }

    /// Packets that were kept go the way of all packets once their rules let them.
    fn drain(&mut self, now_ns: u64) {
        while let Some(slot) = self.plane.next_drain() {
            // As many as there are now: those that are kept again come behind them.
            for _ in 0..self.plane.kept(slot) {
                let mut kept = Vec::new();
                if !self.plane.take_kept(slot, &mut kept) {
                    break;
                }
                let mut packet = MemSource::new(vec![kept], LinkType::RawIp, 1);
                let mut burst = Burst::new();
                if packet.recv_burst(&mut burst).is_ok() {
                    let ports = &mut shared(&self.n3, &self.n6);
                    let ingress = Ingress {
                        side: Side::N6,
                        arrival: Arrival::HandedOver,
                    };
                    process_burst(&mut self.plane, ingress, &packet, &burst, ports, now_ns);
                }
            }
        }
    }

    /// One burst of each source; returns how many packets there were.
    fn turn(&mut self, burst: &mut Burst, now_ns: u64) -> Result<usize, DataplaneError> {
        let mut packets = self.n3.recv_burst(burst)?;
        if !burst.is_empty() {
            let ports = &mut shared(&self.n3, &self.n6);
            process_burst(&mut self.plane, Side::N3, &self.n3, burst, ports, now_ns);
        }
        packets = packets.saturating_add(self.n6.recv_burst(burst)?);
        if !burst.is_empty() {
            let ports = &mut shared(&self.n3, &self.n6);
            process_burst(&mut self.plane, Side::N6, &self.n6, burst, ports, now_ns);
        }
        for side in [Side::N3, Side::N6] {
            let inbox = match side {
                Side::N3 => &mut self.inboxes.n3,
                Side::N6 => &mut self.inboxes.n6,
            };
            packets = packets.saturating_add(inbox.recv_burst(burst)?);
            if !burst.is_empty() {
                let ports = &mut shared(&self.n3, &self.n6);
                let arrival = Arrival::HandedOver;
                let ingress = Ingress { side, arrival };
                process_burst(&mut self.plane, ingress, inbox, burst, ports, now_ns);
            }
        }
        Ok(packets)
    }

    fn sleep(&self) -> Result<(), DataplaneError> {
        self.sleeper.prepare();
        let idle =
            self.orders.is_empty() && self.inboxes.n3.is_empty() && self.inboxes.n6.is_empty();
        if idle {
            let sleeper = self.sleeper.as_fd();
            // Where a port has one descriptor, the place of its second is the sleeper's again.
            let descriptors = [
                self.n3.as_fd(),
                self.n3.second_fd().unwrap_or(sleeper),
                self.n6.as_fd(),
                self.n6.second_fd().unwrap_or(sleeper),
                sleeper,
            ];
            wait(&descriptors, Some(IDLE))?;
        }
        self.sleeper.awake();
        Ok(())
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
            let _ = into.try_send(plane.charges(slot));
        }
        Command::Trace { tap } => plane.trace(tap)?,
        Command::AddRoute(route) => plane.others.add(&route),
        Command::RemoveRoute(route) => plane.others.remove(&route),
        Command::RuledEstablish { slot, setup } => plane.establish_ruled(slot, *setup, None)?,
        Command::RuledModify { slot, change } => {
            return plane.modify_ruled(slot, *change).map(Outcome::Reports);
        }
        Command::RuledRecompile { slot, block } => plane.recompile_ruled(slot, *block),
        Command::RuledDelete { slot } => return plane.delete_ruled(slot).map(Outcome::Reports),
        Command::RuledClose { slot } => plane.close_ruled(slot),
        Command::RuledAcknowledge { slot, reports } => plane.acknowledge_ruled(slot, &reports),
        Command::RuledKept { slot, kept } => plane.settle_kept(slot, kept),
    }
    Ok(Outcome::Done)
}
