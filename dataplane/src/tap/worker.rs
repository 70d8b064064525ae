//! The loop of a tap: frames out of the ring, copies into the pipeline, in the order of the wire.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use qlink_content::Policy;
use qlink_io::packet::PacketTap;
use qlink_io::{Burst, Descriptor, Losses, PacketSource as _, clock};
use qlink_meter::DropReason;
use qlink_types::ids::Teid;
use qlink_wire::{Reassembler, ReassemblyLimits, parse_ip};

use super::copies::{Copies, Nowhere};
use super::learner::{Learned, LearnerLine};
use crate::parse::parse_frame;
use crate::pipeline::{Ports, Side, process_burst};
use crate::plane::Plane;
use crate::process::DataplaneError;
use crate::worker::{LOSS_EVERY_NS, Seat, Work};

/// Packets that wait for their session (chosen: 64 flows with an initial window of 10 segments).
const HELD_MAX: usize = 640;

/// How long a packet waits for its session (chosen: a session is established in milliseconds; a
/// downlink packet may come before any uplink packet of its session).
const HELD_NS: u64 = 1_000_000_000;

/// Whose packet it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Uplink: the session with this TEID.
    Tunnel(Teid),
    /// Downlink: the session of this subscriber.
    Subscriber(IpAddr),
}

impl Owner {
    const fn side(self) -> Side {
        match self {
            Self::Tunnel(_) => Side::N3,
            Self::Subscriber(_) => Side::N6,
        }
    }

    fn is_known(self, plane: &Plane) -> bool {
        match self {
            Self::Tunnel(teid) => plane.sessions.by_teid(teid).is_some(),
            Self::Subscriber(ue) => {
                let hash = plane.sessions.hash_ue(&ue);
                plane.sessions.slot_of_ue(hash, &ue).is_some()
            }
        }
    }

    const fn unknown(self) -> DropReason {
        match self {
            Self::Tunnel(_) => DropReason::TeidUnknown,
            Self::Subscriber(_) => DropReason::UeUnknown,
        }
    }
}

/// A packet on its way into the pipeline: behind the outer headers uplink, plain downlink.
#[derive(Debug, Clone, Copy)]
struct Message<'a> {
    owner: Owner,
    bytes: &'a [u8],
    peer: Option<SocketAddr>,
    /// The subscriber of an uplink packet.
    learned: Option<Learned>,
}

/// A packet that waits for its session.
#[derive(Debug)]
struct Held {
    owner: Owner,
    bytes: Vec<u8>,
    peer: Option<SocketAddr>,
    since_ns: u64,
}

/// Everything that the thread of a tap owns.
pub(crate) struct TapWorker {
    seat: Seat,
    tap: PacketTap,
    /// The gateway that is watched.
    gateway: IpAddr,
    fragments: Reassembler,
    copies: Copies,
    /// The direction of the copies.
    side: Side,
    held: VecDeque<Held>,
    learner: Option<LearnerLine>,
    lost: Losses,
    lost_asked_ns: u64,
}

impl Work for TapWorker {
    fn work(mut self, stopped: &impl Fn() -> bool) -> Result<(), DataplaneError> {
        let mut burst = Burst::new();
        while !stopped() {
            self.seat.take_orders(&mut Nowhere);
            let now_ns = clock::now_ns();
            self.release(now_ns);
            self.count_losses(now_ns)?;
            if self.tap.recv_burst(&mut burst)? > 0 {
                for descriptor in &burst {
                    self.frame(descriptor, now_ns);
                }
                self.flush(now_ns);
            } else {
                self.seat.plane.sweep(now_ns);
                let descriptors = [self.tap.as_fd(), self.seat.sleeper.as_fd()];
                self.seat.sleep(&descriptors)?;
            }
        }
        Ok(())
    }
}

impl TapWorker {
    /// `learner` absent: only sessions that are told of are metered.
    pub(crate) fn new(
        mut seat: Seat,
        tap: PacketTap,
        gateway: IpAddr,
        learner: Option<LearnerLine>,
    ) -> Self {
        // What cannot be proven has passed all the same.
        seat.plane.policy = Policy::Replay;
        // Nobody is told of tunnels that are not ours.
        seat.plane.neighbours.n3.clear();
        Self {
            seat,
            tap,
            gateway,
            fragments: Reassembler::new(ReassemblyLimits::default()),
            copies: Copies::new(),
            side: Side::N3,
            held: VecDeque::with_capacity(HELD_MAX),
            learner,
            lost: Losses::default(),
            lost_asked_ns: clock::now_ns(),
        }
    }

    /// Takes one frame of the ring.
    fn frame(&mut self, descriptor: &Descriptor, now_ns: u64) {
        let frame = self.tap.frame(descriptor);
        let message = match message(descriptor, frame, &mut self.fragments, self.gateway) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(reason) => return self.seat.plane.arena.count_drop(reason, 1),
        };
        let waits = self.learner.is_some()
            && (self.held.iter().any(|held| held.owner == message.owner)
                || !message.owner.is_known(&self.seat.plane));
        if waits {
            let learner = self.learner.as_ref();
            let learned = learner.zip(message.learned);
            let asked = learned.is_none_or(|(learner, learned)| {
                self.held.iter().any(|held| held.owner == message.owner) || learner.ask(learned)
            });
            if !asked || self.held.len() >= HELD_MAX {
                let unknown = message.owner.unknown();
                return self.seat.plane.arena.count_drop(unknown, 1);
            }
            return self.held.push_back(Held {
                owner: message.owner,
                bytes: message.bytes.to_vec(),
                peer: message.peer,
                since_ns: now_ns,
            });
        }
        let side = message.owner.side();
        if !self.copies.is_empty() && (side != self.side || self.copies.is_full()) {
            process(&mut self.seat.plane, self.side, &mut self.copies, now_ns);
        }
        self.side = side;
        self.copies.push(message.bytes, message.peer, now_ns);
    }

    /// Gives what was copied to the pipeline.
    fn flush(&mut self, now_ns: u64) {
        if !self.copies.is_empty() {
            process(&mut self.seat.plane, self.side, &mut self.copies, now_ns);
        }
    }

    /// Lets packets go whose sessions stand by now, in their order, and those that waited too long.
    fn release(&mut self, now_ns: u64) {
        if self.held.is_empty() {
            return;
        }
        for held in std::mem::take(&mut self.held) {
            if held.owner.is_known(&self.seat.plane) {
                self.side = held.owner.side();
                self.copies.push(&held.bytes, held.peer, now_ns);
                self.flush(now_ns);
            } else if now_ns.saturating_sub(held.since_ns) > HELD_NS {
                self.seat.plane.arena.count_drop(held.owner.unknown(), 1);
            } else {
                self.held.push_back(held);
            }
        }
    }

    /// Counts what the ring and the reassembly lost.
    fn count_losses(&mut self, now_ns: u64) -> Result<(), DataplaneError> {
        if now_ns.saturating_sub(self.lost_asked_ns) < LOSS_EVERY_NS {
            return Ok(());
        }
        self.lost_asked_ns = now_ns;
        self.fragments.expire(now_ns);
        let now = Losses {
            full: self.tap.stats()?.dropped,
            expired: self.fragments.stats().fragments_expired,
            ..Losses::default()
        };
        if now.full > self.lost.full {
            let packets = now.full.saturating_sub(self.lost.full);
            tracing::warn!(packets, "the ring was full: mirrored packets are missing");
        }
        self.seat.count_losses(now, &mut self.lost);
        Ok(())
    }
}

/// Takes the copies through the pipeline.
fn process(plane: &mut Plane, side: Side, copies: &mut Copies, now_ns: u64) {
    let mut nowhere = Ports {
        n3: Nowhere,
        n6: Nowhere,
    };
    process_burst(plane, side, copies, copies.burst(), &mut nowhere, now_ns);
    copies.clear();
}

/// The G-PDU in a frame; `None`: a fragment that waits for the rest.
fn message<'a>(
    descriptor: &Descriptor,
    frame: &'a [u8],
    fragments: &'a mut Reassembler,
    gateway: IpAddr,
) -> Result<Option<Message<'a>>, DropReason> {
    let Some(tunnelled) = parse_frame(descriptor, frame, fragments)? else {
        return Ok(None);
    };
    if !tunnelled.gtpu.is_gpdu() {
        return Err(DropReason::GtpuSignalling);
    }
    let inner = parse_ip(tunnelled.gtpu.payload).map_err(|_| DropReason::InnerMalformed)?;
    if tunnelled.destination == gateway {
        let teid = Teid::new(tunnelled.gtpu.teid);
        let peer = SocketAddr::new(tunnelled.source, tunnelled.source_port);
        let learned = Learned {
            teid,
            ue: inner.src,
            peer,
        };
        return Ok(Some(Message {
            owner: Owner::Tunnel(teid),
            bytes: tunnelled.message,
            peer: Some(peer),
            learned: Some(learned),
        }));
    }
    if tunnelled.source == gateway {
        return Ok(Some(Message {
            owner: Owner::Subscriber(inner.dst),
            bytes: tunnelled.gtpu.payload,
            peer: None,
            learned: None,
        }));
    }
    Err(DropReason::NeighbourUnknown)
}

#[cfg(test)]
mod tests {
    use qlink_wire::LinkType;
    use qlink_wire::build::{gpdu_packet, udp_packet};

    use super::*;

    const GATEWAY: &str = "10.0.3.1:2152";
    const STATION: &str = "10.0.3.7:2153";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn inner(from: &str, to: &str) -> Vec<u8> {
        udp_packet(at(from), at(to), b"payload").unwrap()
    }

    fn seen<'a>(
        frame: &'a [u8],
        fragments: &'a mut Reassembler,
    ) -> Result<Option<Message<'a>>, DropReason> {
        let descriptor = Descriptor {
            offset: 0,
            len: u32::try_from(frame.len()).unwrap(),
            orig_len: u32::try_from(frame.len()).unwrap(),
            timestamp_ns: 1,
            peer: None,
            link: LinkType::RawIp,
        };
        message(&descriptor, frame, fragments, at(GATEWAY).ip())
    }

    #[test]
    fn packets_to_the_gateway_are_uplink_and_packets_from_it_downlink() {
        let (up, down) = (
            inner("10.45.0.2:1", "192.0.2.1:2"),
            inner("192.0.2.1:2", "10.45.0.2:1"),
        );
        let uplink = gpdu_packet(at(STATION), at(GATEWAY), 77, &up).unwrap();
        let downlink = gpdu_packet(at(GATEWAY), at(STATION), 78, &down).unwrap();
        let mut fragments = Reassembler::new(ReassemblyLimits::default());

        let message = seen(&uplink, &mut fragments).unwrap().unwrap();
        assert_eq!(message.owner, Owner::Tunnel(Teid::new(77)));
        assert_eq!(
            (message.bytes, message.peer),
            (&uplink[28..], Some(at(STATION)))
        );
        let learned = message.learned.unwrap();
        assert_eq!(
            (learned.ue, learned.peer),
            (at("10.45.0.2:1").ip(), at(STATION))
        );

        let message = seen(&downlink, &mut fragments).unwrap().unwrap();
        assert_eq!(message.owner, Owner::Subscriber(at("10.45.0.2:1").ip()));
        assert_eq!((message.bytes, message.peer), (down.as_slice(), None));
    }

    #[test]
    fn what_is_of_another_gateway_is_not_metered() {
        let up = inner("10.45.0.2:1", "192.0.2.1:2");
        let frame = gpdu_packet(at(STATION), at("10.0.3.2:2152"), 77, &up).unwrap();
        let mut fragments = Reassembler::new(ReassemblyLimits::default());

        let refused = seen(&frame, &mut fragments).err();

        assert_eq!(refused, Some(DropReason::NeighbourUnknown));
    }
}
