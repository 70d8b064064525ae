//! The packet path, one burst at a time.
//!
//! ```text
//! 1 parse    every header of the usual shape, prefetch every session
//! 2 find     every session some packets ahead, prefetch its counters
//! 3 judge    peer, source, quota, proof; proof and classes stand in the arena
//! 4 note     what the burst will add once it is sent
//! 5 send     one gathered send per port
//! 6 count    what was accepted, then send signals of our own
//! ```

mod arrive;
mod depart;
mod heed;
mod plain;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use qlink_content::Direction;
use qlink_io::{BURST_MAX, Burst, PacketSink, PacketSource};
use qlink_meter::{DropReason, HotSession, PacketDelta, SessionKind, SessionSlot};
use qlink_pfcp::model::Qfi;
use qlink_types::ids::Teid;
use qlink_wire::{GTPU_PORT, gpdu_header};

pub(crate) use self::depart::mark_accepted;
use self::heed::SignalIn;
use crate::forwarding::process_from_network;
use crate::parse::{Inner, UsualInner, parse_inner};
use crate::plane::{NO_ENTRY, Plane};
use crate::ruled::RuledPacket;
use crate::shard::Handed;

/// Which side a burst came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// BaseStations: GTP-U.
    N3,
    /// Origins: plain inner IP packets.
    N6,
}

/// How a burst reached this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Through a port: packets of other workers' sessions are handed over.
    Port,
    /// From a worker that says that the sessions are ours.
    HandedOver,
}

/// Where a burst came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingress {
    /// Which side.
    pub side: Side,
    /// How.
    pub arrival: Arrival,
}

impl From<Side> for Ingress {
    fn from(side: Side) -> Self {
        Self {
            side,
            arrival: Arrival::Port,
        }
    }
}

/// How many packets earlier than a packet is judged its session is found (chosen: its counters take
/// a hundred nanoseconds from memory, and what is asked for at once waits in one queue).
const FIND_AHEAD: usize = 8;

/// Source: TS 29.244 §4.4.
const PFCP_PORT: u16 = 8805;

/// Source: TS 29.274 §4.1.
const GTPC_PORT: u16 = 2123;

/// Longest inner packet that an IPv4 UDP tunnel packet can hold: 65,535 less 20, 8 and 16 bytes of
/// headers.
pub(crate) const INNER_MAX: u16 = 65_491;

/// Where packets leave.
#[derive(Debug)]
pub struct Ports<A, B> {
    /// Towards BaseStations.
    pub n3: A,
    /// Towards origins.
    pub n6: B,
}

/// A packet on its way to its session. Small: a burst of them stays in the first-level cache, and
/// inner headers are parsed where they are used.
#[derive(Debug, Clone, Copy)]
enum Parsed<'a> {
    /// Nothing came.
    Empty,
    /// Not what belongs here.
    Refused(DropReason),
    /// A G-PDU with an inner packet whose headers have the usual shape, both.
    Usual {
        teid: Teid,
        source: Ipv4Addr,
        /// As in [`Self::Uplink`].
        qfi: u8,
        inner: UsualInner<'a>,
    },
    /// A G-PDU with any inner packet.
    Uplink {
        teid: Teid,
        source: IpAddr,
        /// QoS flow of the PDU session container; [`NO_QFI`]: there is none.
        qfi: u8,
        bytes: &'a [u8],
    },
    /// A plain packet to a subscriber.
    Downlink {
        ue_hash: u64,
        ue: IpAddr,
        bytes: &'a [u8],
    },
    /// A message about tunnels instead of a packet in one.
    Signal(SignalIn),
}

impl Parsed<'_> {
    /// Tunnel, its peer and QoS flow of a packet from a BaseStation.
    fn tunnel(&self) -> Option<(Teid, IpAddr, u8)> {
        match self {
            Self::Usual {
                teid, source, qfi, ..
            } => Some((*teid, IpAddr::V4(*source), *qfi)),
            Self::Uplink {
                teid, source, qfi, ..
            } => Some((*teid, *source, *qfi)),
            Self::Downlink { .. } | Self::Empty | Self::Refused(_) | Self::Signal(_) => None,
        }
    }
}

/// No QFI: it has six bits.
const NO_QFI: u8 = u8::MAX;

/// What goes in front of an inner packet: nothing, or a GTP-U header without or with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    bytes: [u8; 16],
    len: u8,
}

impl Head {
    /// Longest one.
    pub(crate) const LEN_MAX: usize = 16;

    /// Nothing.
    pub(crate) const NONE: Self = Self {
        bytes: [0; 16],
        len: 0,
    };

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

impl From<[u8; 8]> for Head {
    #[inline]
    fn from([a, b, c, d, e, f, g, h]: [u8; 8]) -> Self {
        Self {
            bytes: [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0],
            len: 8,
        }
    }
}

impl From<[u8; 16]> for Head {
    #[inline]
    fn from(bytes: [u8; 16]) -> Self {
        Self { bytes, len: 16 }
    }
}

/// A packet that will be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Planned<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) to: SocketAddr,
    pub(crate) delta: PacketDelta,
    pub(crate) slot: SessionSlot,
    pub(crate) head: Head,
    /// Its place among what usage rules count of the burst, or [`NO_ENTRY`].
    pub(crate) measured: u8,
    /// Through which port it leaves.
    pub(crate) way: Side,
    /// Whether the port took it; before it is asked, that it will.
    pub(crate) accepted: bool,
}

impl Planned<'_> {
    const EMPTY: Self = Self {
        body: &[],
        to: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        delta: PacketDelta::NONE,
        slot: SessionSlot::new(0),
        head: Head::NONE,
        measured: NO_ENTRY,
        way: Side::N6,
        accepted: true,
    };

    /// Into the session's tunnel.
    #[inline(always)]
    fn tunnel(&mut self, hot: &HotSession) -> Result<(), DropReason> {
        let length = u16::try_from(self.body.len())
            .ok()
            .filter(|length| *length <= INNER_MAX)
            .ok_or(DropReason::TooLong)?;
        self.head = Head::from(gpdu_header(hot.downlink_teid.get(), length));
        self.way = Side::N3;
        self.to = hot.downlink();
        Ok(())
    }
}

/// How much of a burst the ports took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    Part,
}

/// Takes one received burst through all stages. `now_ns` is the monotonic time of the burst.
#[inline]
pub fn process_burst<S: PacketSource, A: PacketSink, B: PacketSink>(
    plane: &mut Plane,
    ingress: impl Into<Ingress>,
    source: &S,
    burst: &Burst,
    ports: &mut Ports<A, B>,
    now_ns: u64,
) {
    let ingress = ingress.into();
    if ingress.side == Side::N6 && plane.translates() {
        process_from_network(plane, ingress, (source, burst), ports, now_ns);
    } else {
        run_stages(plane, ingress, source, burst, ports, now_ns);
    }
}

/// [`process_burst`] of packets under their subscribers' own addresses.
#[inline]
pub(crate) fn run_stages<S: PacketSource, A: PacketSink, B: PacketSink>(
    plane: &mut Plane,
    ingress: Ingress,
    source: &S,
    burst: &Burst,
    ports: &mut Ports<A, B>,
    now_ns: u64,
) {
    let mut parsed = [Parsed::Empty; BURST_MAX];
    source.prefetch(burst);
    for (place, descriptor) in parsed.iter_mut().zip(burst) {
        plane.parse(ingress.side, descriptor, source.frame(descriptor), place);
    }
    let parsed = parsed.get(..burst.len()).unwrap_or_default();
    let mut taken = 0;
    let mut is_sent = false;
    if plane.is_plain(ingress.side, parsed) {
        let mut items = plane.plain_items();
        let plain = plane.take_plain(parsed, &mut items);
        taken = plain.count;
        is_sent = taken == parsed.len();
        if is_sent {
            plane.send_plain(&mut ports.n6, &items, parsed, plain);
        }
    }
    if !is_sent {
        let received = (source, burst);
        run_all(plane, ingress, received, parsed, taken, ports, now_ns);
    }
    if plane.has_own_packets() {
        plane.send_own_packets(&mut ports.n3);
    }
    plane.others.ring();
    plane.sweep(now_ns);
}

/// Stages 2 to 6 of any burst. The first `taken` packets of `parsed` are taken already.
#[inline(never)]
fn run_all<'a, S: PacketSource, A: PacketSink, B: PacketSink>(
    plane: &mut Plane,
    Ingress { side, arrival }: Ingress,
    (source, burst): (&S, &Burst),
    parsed: &[Parsed<'a>],
    taken: usize,
    ports: &mut Ports<A, B>,
    now_ns: u64,
) {
    let mut slots = [None; BURST_MAX];
    let mut planned = [Planned::EMPTY; BURST_MAX];
    let mut count = plane.plan_taken(parsed.get(..taken).unwrap_or_default(), &mut planned);
    for (slot, packet) in slots.iter_mut().zip(parsed).skip(taken).take(FIND_AHEAD) {
        *slot = plane.find(packet);
    }
    let traced = plane.tracer.is_on();
    for (number, packet) in parsed.iter().enumerate().skip(taken) {
        let ahead = number.saturating_add(FIND_AHEAD);
        if let (Some(slot), Some(packet)) = (slots.get_mut(ahead), parsed.get(ahead)) {
            *slot = plane.find(packet);
        }
        let slot = slots.get(number).copied().flatten();
        if slot.is_none()
            && arrival == Arrival::Port
            && let Some(descriptor) = burst.as_slice().get(number)
        {
            let handed = plane.hand_over(packet, descriptor, source.frame(descriptor));
            if handed != Handed::Nobody {
                continue;
            }
        }
        let Some(plan) = planned.get_mut(count) else {
            break;
        };
        match plane.judge_parsed(slot, packet, now_ns, plan) {
            Ok(true) => {
                if traced {
                    plane.tracer.planned(number, count);
                }
                count = count.saturating_add(1);
            }
            Ok(false) => {}
            Err(reason) => {
                if traced {
                    plane.tracer.dropped(number, reason);
                }
                plane.refuse(reason, packet, now_ns);
                // What was planned before it was refused is not of the next packet here.
                *plan = Planned::EMPTY;
            }
        }
    }
    let planned = planned.get_mut(..count).unwrap_or_default();
    plane.note();
    let sent = plane.send_planned(side, ports, planned, now_ns);
    plane.count(planned, sent, burst.len(), now_ns);
    if traced {
        let received = (source, burst);
        plane.tracer.copy(side, received, &slots, planned, now_ns);
    }
    if side == Side::N3 {
        plane.heed_signals(parsed, now_ns);
    }
}

impl Plane {
    /// Plans what to send; `Ok(false)`: nothing of a session.
    #[inline]
    fn judge_parsed<'a>(
        &mut self,
        slot: Option<SessionSlot>,
        packet: &Parsed<'a>,
        now_ns: u64,
        plan: &mut Planned<'a>,
    ) -> Result<bool, DropReason> {
        let (unknown, usual) = match packet {
            Parsed::Usual { inner, .. } => (DropReason::TeidUnknown, Some(*inner)),
            Parsed::Uplink { .. } => (DropReason::TeidUnknown, None),
            Parsed::Downlink { bytes, .. } => (DropReason::UeUnknown, UsualInner::of(bytes)),
            Parsed::Refused(reason) => {
                self.arena.count_drop(*reason, 1);
                return Ok(false);
            }
            Parsed::Empty | Parsed::Signal(_) => return Ok(false),
        };
        let Some((slot, hot)) = slot.and_then(|slot| Some((slot, self.sessions.get(slot)?))) else {
            return Err(unknown);
        };
        plan.slot = slot;
        match usual {
            Some(inner)
                if hot.kind == SessionKind::Direct && (!inner.is_tcp() || !hot.is_sponsored()) =>
            {
                self.judge_usual((slot, hot), packet, &inner, plan)?;
            }
            _ => return self.judge_unusual(slot, packet, now_ns, plan),
        }
        self.expect_packet(slot, &plan.delta);
        Ok(true)
    }

    /// A packet of the usual shape whose session has neither rules nor a flow for it.
    #[inline(always)]
    fn judge_usual<'a>(
        &self,
        (slot, hot): (SessionSlot, &HotSession),
        packet: &Parsed<'_>,
        inner: &UsualInner<'a>,
        plan: &mut Planned<'a>,
    ) -> Result<(), DropReason> {
        plan.body = inner.bytes;
        let direction = if let Parsed::Usual { source, .. } = packet {
            check_source(hot, IpAddr::V4(*source), IpAddr::V4(inner.src))?;
            self.check_destination(IpAddr::V4(inner.dst), inner.udp_port())?;
            plan.to = self.neighbours.n6_peer;
            Direction::Uplink
        } else {
            plan.tunnel(hot)?;
            Direction::Downlink
        };
        let charge = self.judge_plain(slot, hot.quota(), inner.payload_len.into())?;
        plan.delta = charge.of_packet(direction, inner.total_len());
        Ok(())
    }

    /// Any packet of any session.
    #[inline(never)]
    fn judge_unusual<'a>(
        &mut self,
        slot: SessionSlot,
        packet: &Parsed<'a>,
        now_ns: u64,
        plan: &mut Planned<'a>,
    ) -> Result<bool, DropReason> {
        let bytes = match packet {
            Parsed::Usual { inner, .. } => inner.bytes,
            Parsed::Uplink { bytes, .. } | Parsed::Downlink { bytes, .. } => bytes,
            Parsed::Empty | Parsed::Refused(_) | Parsed::Signal(_) => return Ok(false),
        };
        let Some(hot) = self.sessions.get(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let Ok(inner) = parse_inner(bytes) else {
            return Err(DropReason::InnerMalformed);
        };
        plan.body = whole(bytes, &inner)?;
        if hot.kind == SessionKind::Ruled {
            return self.judge_ruled(slot, ruled_packet(packet), &inner, now_ns, plan);
        }
        let direction = match packet.tunnel() {
            Some((_, source, _)) => {
                check_source(hot, source, inner.ip.src)?;
                self.check_destination(inner.ip.dst, inner.udp_port())?;
                plan.to = self.neighbours.n6_peer;
                Direction::Uplink
            }
            None => {
                plan.tunnel(hot)?;
                Direction::Downlink
            }
        };
        self.judge(slot, direction, &inner, now_ns, &mut plan.delta)?;
        self.expect_packet(slot, &plan.delta);
        Ok(true)
    }

    /// Nobody sends to our own network, nor tunnels or control messages of the core.
    #[inline(always)]
    pub(crate) fn check_destination(
        &self,
        dst: IpAddr,
        udp_port: Option<u16>,
    ) -> Result<(), DropReason> {
        #[expect(
            clippy::manual_contains,
            reason = "`contains` is a call, which costs more than the compare (pipeline::uplink)"
        )]
        let to_us = self.neighbours.own.iter().any(|own| *own == dst);
        if to_us {
            return Err(DropReason::ToInfrastructure);
        }
        check_port(udp_port)
    }

    /// Lets the burst count a session, although it may add nothing to it.
    pub(crate) fn expect(&mut self, slot: SessionSlot) {
        self.entries.expect(slot);
    }

    /// Adds a packet to what the burst will add to its session.
    #[inline(always)]
    pub(crate) fn expect_packet(&mut self, slot: SessionSlot, packet: &PacketDelta) {
        self.entries.add(slot, packet);
    }
}

/// A packet as a session with rules looks at it.
fn ruled_packet(packet: &Parsed<'_>) -> RuledPacket {
    match packet.tunnel() {
        Some((teid, source, qfi)) => RuledPacket::Tunnel {
            teid,
            source,
            qfi: (qfi != NO_QFI).then(|| Qfi::new(qfi)),
        },
        None => RuledPacket::Plain,
    }
}

/// No subscriber sends tunnels or control messages of the core.
#[inline(always)]
const fn check_port(udp_port: Option<u16>) -> Result<(), DropReason> {
    match udp_port {
        Some(GTPU_PORT) => Err(DropReason::GtpuNested),
        Some(PFCP_PORT | GTPC_PORT) => Err(DropReason::CoreSignalling),
        _ => Ok(()),
    }
}

/// Tunnel's peer and subscriber's address.
#[inline(always)]
fn check_source(hot: &HotSession, peer: IpAddr, src: IpAddr) -> Result<(), DropReason> {
    if hot.peer != peer {
        return Err(DropReason::PeerMismatch);
    }
    if hot.ue != src {
        return Err(DropReason::SourceSpoofed);
    }
    Ok(())
}

/// The bytes of an inner packet up to the length that its header states; all must be there.
#[inline]
fn whole<'a>(bytes: &'a [u8], inner: &Inner<'_>) -> Result<&'a [u8], DropReason> {
    let length = usize::try_from(inner.ip.total_len).unwrap_or(usize::MAX);
    bytes.get(..length).ok_or(DropReason::InnerMalformed)
}
