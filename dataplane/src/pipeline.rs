//! The packet path, one burst at a time.
//!
//! ```text
//! 1 parse    every outer header, prefetch every session
//! 2 find     every session, prefetch its counters
//! 3 judge    inner headers, peer, source, quota, proof; proof and classes stand in the arena
//! 4 note     what the burst will add once it is sent
//! 5 send     one gathered send per port
//! 6 count    what was accepted, then send signals of our own
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use qlink_content::Direction;
use qlink_io::{BURST_MAX, Burst, Descriptor, IoError, Outgoing, PacketSink, PacketSource};
use qlink_kernel::prefetch_slice;
use qlink_meter::{
    BurstDelta, DropReason, HotSession, PacketDelta, SessionKind, SessionSlot, WorkerCounter,
};
use qlink_pfcp::model::Qfi;
use qlink_types::ids::Teid;
use qlink_wire::{
    GTPU_PORT, GtpuPacket, LinkType, UsualGpdu, gpdu_header, message_type, parse_error_indication,
    parse_gtpu, parse_ip, parse_udp, protocol, strip_link, usual_gpdu, usual_gpdu_packet,
};

use crate::forwarding::process_from_network;
use crate::parse::{Inner, UsualInner, UsualPorts, parse_inner};
use crate::paths::{Answered, Expected};
use crate::plane::{NO_ENTRY, Plane};
use crate::ruled::RuledPacket;
use crate::shard::Handed;
use crate::signal::Queued;

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
    /// Dropped already, or nothing to do.
    Done,
    /// A G-PDU with its inner packet.
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

/// A GTP-U message that this end acts on.
#[derive(Debug, Clone, Copy)]
enum SignalIn {
    /// An echo request.
    Echo { sequence: u16, to: SocketAddr },
    /// The answer to one of ours.
    EchoAnswer { sequence: u16, from: SocketAddr },
    /// A G-PDU with an extension header that we would have to understand.
    Extension { from: IpAddr },
    /// A peer does not know a tunnel of ours.
    ErrorIndication { from: IpAddr, teid: u32 },
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
}

impl Planned<'_> {
    /// Into the session's tunnel.
    #[inline(always)]
    fn tunnel(&mut self, hot: &HotSession) -> Result<(), DropReason> {
        let length = u16::try_from(self.body.len())
            .ok()
            .filter(|length| *length <= INNER_MAX)
            .ok_or(DropReason::TooLong)?;
        self.head = Head::from(gpdu_header(hot.downlink_teid.get(), length));
        self.way = Side::N3;
        self.to = hot.peer;
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
    Ingress { side, arrival }: Ingress,
    source: &S,
    burst: &Burst,
    ports: &mut Ports<A, B>,
    now_ns: u64,
) {
    let mut parsed = [Parsed::Done; BURST_MAX];
    let mut slots = [None; BURST_MAX];
    let mut planned = [Planned::EMPTY; BURST_MAX];

    for descriptor in burst {
        let frame = source.frame(descriptor);
        prefetch_slice(frame, 0);
        prefetch_slice(frame, 64);
    }
    for (place, descriptor) in parsed.iter_mut().zip(burst) {
        plane.parse(side, descriptor, source.frame(descriptor), place);
    }
    for (slot, packet) in slots.iter_mut().zip(&parsed).take(burst.len()) {
        *slot = plane.find(packet);
    }
    let mut count = 0;
    let traced = plane.tracer.is_on();
    let found = slots.iter().zip(&parsed).zip(burst).enumerate();
    for (number, ((slot, packet), descriptor)) in found {
        if slot.is_none() && arrival == Arrival::Port {
            match plane.hand_over(packet, descriptor, source.frame(descriptor)) {
                Handed::Over => continue,
                Handed::Refused => {
                    plane.arena.count_drop(DropReason::HandoverFull, 1);
                    continue;
                }
                Handed::Nobody => {}
            }
        }
        let Some(plan) = planned.get_mut(count) else {
            break;
        };
        match plane.judge_parsed(*slot, packet, now_ns, plan) {
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
    let sent = if plane.forwarding.is_none() {
        plane.send_both(side, ports, planned)
    } else {
        plane.send_forwarded(ports, planned, now_ns)
    };
    plane.count(planned, sent, burst.len(), now_ns);
    if traced {
        let received = (source, burst);
        plane.tracer.copy(side, received, &slots, planned, now_ns);
    }
    if side == Side::N3 {
        plane.heed_signals(&parsed, now_ns);
    }
    if !plane.signals.is_empty() {
        plane.send_signals(&mut ports.n3);
    }
    if !plane.ruled.replies.is_empty() {
        plane.send_replies(&mut ports.n3);
    }
    plane.others.ring();
    plane.sweep(now_ns);
}

impl Plane {
    #[inline]
    fn parse<'a>(
        &mut self,
        side: Side,
        descriptor: &Descriptor,
        frame: &'a [u8],
        place: &mut Parsed<'a>,
    ) {
        let parsed = match side {
            Side::N3 => self.parse_n3(descriptor, frame, place),
            Side::N6 => self.parse_n6(descriptor, frame, place),
        };
        if let Err(reason) = parsed {
            self.arena.count_drop(reason, 1);
        }
    }

    #[inline]
    fn parse_n3<'a>(
        &self,
        descriptor: &Descriptor,
        frame: &'a [u8],
        place: &mut Parsed<'a>,
    ) -> Result<(), DropReason> {
        match descriptor.peer {
            Some(peer) => {
                if let Some(gpdu) = usual_gpdu(frame) {
                    self.place_uplink(peer.ip(), &gpdu, place);
                    return Ok(());
                }
            }
            None => {
                let packet = usual_packet(descriptor.link, frame);
                if let Some((source, gpdu)) = packet.and_then(usual_gpdu_packet) {
                    self.place_uplink(IpAddr::V4(source), &gpdu, place);
                    return Ok(());
                }
            }
        }
        self.parse_n3_unusual(descriptor, frame, place)
    }

    /// What was parsed is written in place: results as large as these are put together and taken
    /// apart in pieces of other sizes, and wait for that.
    #[inline(always)]
    fn place_uplink<'a>(&self, source: IpAddr, gpdu: &UsualGpdu<'a>, place: &mut Parsed<'a>) {
        let teid = Teid::new(gpdu.teid);
        self.sessions.prefetch(teid);
        *place = Parsed::Uplink {
            teid,
            source,
            qfi: gpdu.pdu_session.map_or(NO_QFI, |info| info.qfi),
            bytes: gpdu.payload,
        };
    }

    #[inline(never)]
    fn parse_n3_unusual<'a>(
        &self,
        descriptor: &Descriptor,
        frame: &'a [u8],
        place: &mut Parsed<'a>,
    ) -> Result<(), DropReason> {
        let (source, port, gtpu) = outer(descriptor, frame)?;
        if !gtpu.is_gpdu() {
            *place = Parsed::Signal(signal(SocketAddr::new(source, port), &gtpu)?);
            return Ok(());
        }
        if gtpu.unknown_required_extension.is_some() {
            *place = Parsed::Signal(SignalIn::Extension { from: source });
            return Ok(());
        }
        let gpdu = UsualGpdu {
            teid: gtpu.teid,
            pdu_session: gtpu.pdu_session,
            payload: gtpu.payload,
        };
        self.place_uplink(source, &gpdu, place);
        Ok(())
    }

    #[inline]
    fn parse_n6<'a>(
        &self,
        descriptor: &Descriptor,
        frame: &'a [u8],
        place: &mut Parsed<'a>,
    ) -> Result<(), DropReason> {
        let bytes = match descriptor.peer {
            Some(peer) if peer != self.neighbours.n6_peer => {
                return Err(DropReason::NeighbourUnknown);
            }
            Some(_) => frame,
            None => strip_link(descriptor.link, frame).map_err(DropReason::Wire)?,
        };
        let ip = parse_ip(bytes).map_err(|_| DropReason::InnerMalformed)?;
        let ue_hash = self.sessions.hash_ue(&ip.dst);
        self.sessions.prefetch_ue(ue_hash);
        *place = Parsed::Downlink {
            ue_hash,
            ue: ip.dst,
            bytes,
        };
        Ok(())
    }

    /// The session of a packet.
    #[inline]
    fn find(&self, packet: &Parsed<'_>) -> Option<SessionSlot> {
        let slot = match packet {
            Parsed::Done | Parsed::Signal(_) => None,
            Parsed::Uplink { teid, .. } => self.sessions.by_teid(*teid).map(|(slot, _)| slot),
            Parsed::Downlink { ue_hash, ue, .. } => match self.sessions.slot_of_ue(*ue_hash, ue) {
                None => self.slot_of_prefix(ue),
                found => found,
            },
        }?;
        self.sessions.prefetch_slot(slot);
        self.arena.prefetch_usage(slot);
        Some(slot)
    }

    /// Counts a packet that does not pass; who sends into a tunnel that is not there is told so.
    fn refuse(&mut self, reason: DropReason, packet: &Parsed<'_>, now_ns: u64) {
        self.arena.count_drop(reason, 1);
        if let (DropReason::TeidUnknown, Parsed::Uplink { teid, source, .. }) = (reason, packet)
            && let Some(own) = self.neighbours.n3
        {
            // Whether it is sent is counted where it is sent.
            let _ = self.signals.unknown_tunnel(*teid, (own, *source), now_ns);
        }
    }

    /// Gives a packet whose session is not ours to the worker that has it.
    fn hand_over(&mut self, packet: &Parsed<'_>, descriptor: &Descriptor, frame: &[u8]) -> Handed {
        let handed = match packet {
            Parsed::Done | Parsed::Signal(_) => Handed::Nobody,
            Parsed::Uplink { teid, .. } => self.others.uplink(*teid, descriptor, frame),
            Parsed::Downlink { ue, .. } => self.others.downlink(ue, descriptor, frame),
        };
        if handed == Handed::Over {
            self.arena.count(WorkerCounter::HandedOver, 1);
        }
        handed
    }

    /// Sessions with rules may have a whole IPv6 prefix.
    #[cold]
    fn slot_of_prefix(&self, ue: &IpAddr) -> Option<SessionSlot> {
        match ue {
            IpAddr::V4(_) => None,
            IpAddr::V6(ue) => self.sessions.slot_of_prefix(*ue),
        }
    }

    /// Plans what to send; `Ok(false)`: nothing of a session.
    #[inline]
    fn judge_parsed<'a>(
        &mut self,
        slot: Option<SessionSlot>,
        packet: &Parsed<'a>,
        now_ns: u64,
        plan: &mut Planned<'a>,
    ) -> Result<bool, DropReason> {
        let (bytes, unknown) = match packet {
            Parsed::Done | Parsed::Signal(_) => return Ok(false),
            Parsed::Uplink { bytes, .. } => (*bytes, DropReason::TeidUnknown),
            Parsed::Downlink { bytes, .. } => (*bytes, DropReason::UeUnknown),
        };
        let Some((slot, hot)) = slot.and_then(|slot| Some((slot, self.sessions.get(slot)?))) else {
            return Err(unknown);
        };
        plan.slot = slot;
        match UsualInner::of(bytes) {
            Some(inner)
                if hot.kind == SessionKind::Direct
                    && (inner.ports != UsualPorts::Tcp || hot.sponsor_limit.is_none()) =>
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
        let direction = match packet {
            Parsed::Uplink { source, .. } => {
                let dst_port = match inner.ports {
                    UsualPorts::Tcp => None,
                    UsualPorts::Udp { dst_port } => Some(dst_port),
                };
                check_source(hot, *source, IpAddr::V4(inner.src))?;
                self.check_destination(IpAddr::V4(inner.dst), dst_port)?;
                plan.to = self.neighbours.n6_peer;
                Direction::Uplink
            }
            Parsed::Downlink { .. } | Parsed::Done | Parsed::Signal(_) => {
                plan.tunnel(hot)?;
                Direction::Downlink
            }
        };
        let charge = self.judge_plain(slot, hot.quota, inner.payload_len)?;
        plan.delta = charge.of_packet(direction, inner.total_len);
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
        let (Parsed::Uplink { bytes, .. } | Parsed::Downlink { bytes, .. }) = packet else {
            return Ok(false);
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
        let direction = match packet {
            Parsed::Uplink { source, .. } => {
                check_source(hot, *source, inner.ip.src)?;
                self.check_destination(inner.ip.dst, inner.udp_port())?;
                plan.to = self.neighbours.n6_peer;
                Direction::Uplink
            }
            Parsed::Downlink { .. } | Parsed::Done | Parsed::Signal(_) => {
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
        if self.neighbours.own.iter().any(|own| *own == dst) {
            return Err(DropReason::ToInfrastructure);
        }
        match udp_port {
            Some(GTPU_PORT) => Err(DropReason::GtpuNested),
            Some(PFCP_PORT | GTPC_PORT) => Err(DropReason::CoreSignalling),
            _ => Ok(()),
        }
    }

    /// What the burst will add to a session.
    #[inline(always)]
    pub(crate) fn expect(&mut self, slot: SessionSlot) -> Option<&mut BurstDelta> {
        let mark = self.marks.get_mut(slot.index())?;
        if *mark == NO_ENTRY {
            *mark = u8::try_from(self.entries.len()).unwrap_or(NO_ENTRY);
            self.entries.push((slot, BurstDelta::default()));
        }
        let (_, sum) = self.entries.get_mut(usize::from(*mark))?;
        Some(sum)
    }

    /// Adds a packet to what the burst will add to its session.
    #[inline(always)]
    pub(crate) fn expect_packet(&mut self, slot: SessionSlot, packet: &PacketDelta) {
        if let Some(sum) = self.expect(slot) {
            sum.add(packet);
        }
    }

    #[inline]
    fn note(&mut self) {
        if !self.entries.is_empty() {
            self.arena.note_burst(&self.entries);
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
        let items: [_; BURST_MAX] = std::array::from_fn(|number| outgoing(planned.get(number)));
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
                *item = outgoing(Some(plan));
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
    fn count(&mut self, planned: &[Planned<'_>], sent: Sent, received: usize, now_ns: u64) {
        if sent == Sent::Part {
            self.expect_accepted(planned);
        }
        if self.has_rules && !self.entries.is_empty() {
            if sent == Sent::Part {
                self.retract_measured(planned);
            }
            self.ruled.measured.clear();
            self.commit_ruled(now_ns);
        } else if !self.entries.is_empty() {
            self.arena.commit_burst(&self.entries);
        }
        let (mut packets, mut bytes) = (0_u64, 0_u64);
        for (slot, delta) in &self.entries {
            packets = packets
                .saturating_add(delta.uplink_packets)
                .saturating_add(delta.downlink_packets);
            bytes = bytes
                .saturating_add(delta.uplink_bytes)
                .saturating_add(delta.downlink_bytes);
            if let Some(mark) = self.marks.get_mut(slot.index()) {
                *mark = NO_ENTRY;
            }
        }
        self.entries.clear();
        self.arena
            .count(WorkerCounter::ReceivedPackets, received as u64);
        self.arena.count(WorkerCounter::SentPackets, packets);
        self.arena.count(WorkerCounter::NetworkBytes, bytes);
        self.arena.count(WorkerCounter::Bursts, 1);
    }

    /// Sums up again what the burst adds, of accepted packets alone.
    #[cold]
    fn expect_accepted(&mut self, planned: &[Planned<'_>]) {
        for (_, delta) in &mut self.entries {
            *delta = BurstDelta::default();
        }
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

    /// Acts on the messages of a burst; what they provoke is sent behind the burst's packets.
    fn heed_signals(&mut self, parsed: &[Parsed<'_>], now_ns: u64) {
        for packet in parsed {
            let Parsed::Signal(signal) = packet else {
                continue;
            };
            match *signal {
                SignalIn::Echo { sequence, to } => self.heed_echo(sequence, to),
                SignalIn::EchoAnswer { sequence, from } => {
                    if self.answers.take((from, sequence)) == Answered::Refused {
                        self.arena.count_drop(DropReason::GtpuSignalling, 1);
                    }
                }
                SignalIn::Extension { from } => {
                    self.arena.count_drop(DropReason::GtpuExtensionUnknown, 1);
                    // Whether it is sent is counted where it is sent.
                    let _ = self.signals.supported_extensions(from, now_ns);
                }
                SignalIn::ErrorIndication { from, teid } => {
                    if !self.heed_error(from, teid) {
                        self.arena.count_drop(DropReason::GtpuSignalling, 1);
                    }
                }
            }
        }
    }

    /// Only BaseStations of sessions are answered, so that nobody can make us send to a third
    /// party.
    fn heed_echo(&mut self, sequence: u16, to: SocketAddr) {
        let ip = to.ip();
        if !self.sessions.is_peer(&ip) && !self.others.is_peer(&ip) {
            self.arena.count_drop(DropReason::PeerUnknown, 1);
        } else if self.signals.echo(sequence, to) == Queued::No {
            self.arena.count_drop(DropReason::GtpuSignalling, 1);
        }
    }

    /// Asks peers, and lets their answers through.
    pub(crate) fn ask_peers(&mut self, expected: Arc<[Expected]>, ask: &[Expected]) {
        self.answers.expect(expected);
        for (to, sequence) in ask {
            // One that finds no room is asked again, as one that got lost.
            let _ = self.signals.ask(*sequence, *to);
        }
    }

    /// Sends what this end has to say of its own.
    pub(crate) fn send_signals(&mut self, n3: &mut impl PacketSink) {
        for signal in self.signals.waiting() {
            let item = Outgoing {
                head: signal.bytes(),
                body: &[],
                to: signal.to,
            };
            let counter = if signal.is_echo() {
                WorkerCounter::EchoReplies
            } else {
                WorkerCounter::SignalsSent
            };
            match n3.send_burst(&[item]) {
                Ok(1) => self.arena.count(counter, 1),
                Ok(_) => self.arena.count_drop(DropReason::TransmitFull, 1),
                Err(_) => self.arena.count_drop(DropReason::TransmitRefused, 1),
            }
        }
        self.signals.clear();
    }
}

/// A packet as a session with rules looks at it.
fn ruled_packet(packet: &Parsed<'_>) -> RuledPacket {
    match packet {
        Parsed::Uplink {
            teid, source, qfi, ..
        } => RuledPacket::Tunnel {
            teid: *teid,
            source: *source,
            qfi: (*qfi != NO_QFI).then(|| Qfi::new(*qfi)),
        },
        Parsed::Downlink { .. } | Parsed::Done | Parsed::Signal(_) => RuledPacket::Plain,
    }
}

/// What a message that is no G-PDU asks of us.
fn signal(from: SocketAddr, gtpu: &GtpuPacket<'_>) -> Result<SignalIn, DropReason> {
    match (gtpu.message_type, gtpu.sequence) {
        (message_type::ECHO_REQUEST, Some(sequence)) => Ok(SignalIn::Echo { sequence, to: from }),
        (message_type::ECHO_RESPONSE, Some(sequence)) => {
            Ok(SignalIn::EchoAnswer { sequence, from })
        }
        (message_type::ERROR_INDICATION, _) => {
            let about = parse_error_indication(gtpu.payload).map_err(DropReason::Wire)?;
            Ok(SignalIn::ErrorIndication {
                from: from.ip(),
                teid: about.teid,
            })
        }
        _ => Err(DropReason::GtpuSignalling),
    }
}

/// What may be a usual G-PDU, from the IPv4 header on.
#[inline(always)]
fn usual_packet(link: LinkType, frame: &[u8]) -> Option<&[u8]> {
    match link {
        LinkType::Ethernet => match frame.split_first_chunk::<14>()? {
            ([.., 0x08, 0x00], packet) => Some(packet),
            _ => None,
        },
        LinkType::RawIp => Some(frame),
        _ => None,
    }
}

/// Tunnel's peer and subscriber's address.
#[inline(always)]
fn check_source(hot: &HotSession, peer: IpAddr, src: IpAddr) -> Result<(), DropReason> {
    if hot.peer.ip() != peer {
        return Err(DropReason::PeerMismatch);
    }
    if hot.ue != src {
        return Err(DropReason::SourceSpoofed);
    }
    Ok(())
}

/// A planned packet as a port wants it.
#[inline]
fn outgoing<'a>(plan: Option<&'a Planned<'_>>) -> Outgoing<'a> {
    plan.map_or(Outgoing::EMPTY, |plan| Outgoing {
        head: plan.head.as_slice(),
        body: plan.body,
        to: plan.to,
    })
}

fn mark_accepted<'a, 'b: 'a>(
    planned: impl Iterator<Item = &'a mut Planned<'b>>,
    accepted: &[bool],
) {
    for (plan, accepted) in planned.zip(accepted) {
        plan.accepted = *accepted;
    }
}

/// The peer's address and port and the GTP-U message of a frame. A socket has taken the outer
/// headers off already.
#[inline(always)]
fn outer<'a>(
    descriptor: &Descriptor,
    frame: &'a [u8],
) -> Result<(IpAddr, u16, GtpuPacket<'a>), DropReason> {
    if let Some(peer) = descriptor.peer {
        let gtpu = parse_gtpu(frame).map_err(DropReason::Wire)?;
        return Ok((peer.ip(), peer.port(), gtpu));
    }
    let bytes = strip_link(descriptor.link, frame).map_err(DropReason::Wire)?;
    let ip = parse_ip(bytes).map_err(DropReason::Wire)?;
    if ip.fragment.is_some() {
        return Err(DropReason::FragmentUnsupported);
    }
    if ip.protocol != protocol::UDP {
        return Err(DropReason::NotGtpu);
    }
    let udp = parse_udp(ip.payload).map_err(DropReason::Wire)?;
    if udp.dst_port != GTPU_PORT {
        return Err(DropReason::NotGtpu);
    }
    let gtpu = parse_gtpu(udp.payload).map_err(DropReason::Wire)?;
    Ok((ip.src, udp.src_port, gtpu))
}

/// The bytes of an inner packet up to the length that its header states; all must be there.
#[inline]
fn whole<'a>(bytes: &'a [u8], inner: &Inner<'_>) -> Result<&'a [u8], DropReason> {
    let length = usize::try_from(inner.ip.total_len).unwrap_or(usize::MAX);
    bytes.get(..length).ok_or(DropReason::InnerMalformed)
}
