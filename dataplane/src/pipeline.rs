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

use qlink_content::Direction;
use qlink_io::{BURST_MAX, Burst, Descriptor, IoError, Outgoing, PacketSink, PacketSource};
use qlink_kernel::prefetch_slice;
use qlink_meter::{BurstDelta, DropReason, HotSession, SessionKind, SessionSlot, WorkerCounter};
use qlink_pfcp::model::Qfi;
use qlink_types::ids::Teid;
use qlink_wire::{
    GTPU_PORT, GtpuPacket, gpdu_header, message_type, parse_error_indication, parse_gtpu, parse_ip,
    parse_udp, protocol, strip_link,
};

use crate::parse::{Inner, Transport, parse_inner};
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
    pub(crate) head: Head,
    /// Its place among what usage rules count of the burst, or [`NO_ENTRY`].
    pub(crate) measured: u8,
    pub(crate) body: &'a [u8],
    /// Through which port it leaves.
    pub(crate) way: Side,
    pub(crate) to: SocketAddr,
    slot: SessionSlot,
    pub(crate) delta: BurstDelta,
    pub(crate) accepted: bool,
}

impl Planned<'_> {
    const EMPTY: Self = Self {
        head: Head::NONE,
        measured: NO_ENTRY,
        way: Side::N6,
        body: &[],
        to: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        slot: SessionSlot::new(0),
        delta: BurstDelta {
            uplink_bytes: 0,
            uplink_packets: 0,
            downlink_bytes: 0,
            downlink_packets: 0,
            user_charged: 0,
            personal: 0,
        },
        accepted: false,
    };
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
    let Ingress { side, arrival } = ingress.into();
    let mut parsed = [Parsed::Done; BURST_MAX];
    let mut planned = [Planned::EMPTY; BURST_MAX];

    let mut slots = [None; BURST_MAX];

    for descriptor in burst {
        let frame = source.frame(descriptor);
        prefetch_slice(frame, 0);
        prefetch_slice(frame, 64);
    }
    for (place, descriptor) in parsed.iter_mut().zip(burst) {
        *place = plane.parse(side, descriptor, source.frame(descriptor));
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
    plane.note(planned);
    plane.send_both(side, ports, planned);
    plane.count(planned, burst.len(), now_ns);
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
    plane.others.ring();
    plane.sweep(now_ns);
}

impl Plane {
    #[inline]
    fn parse<'a>(&mut self, side: Side, descriptor: &Descriptor, frame: &'a [u8]) -> Parsed<'a> {
        let parsed = match side {
            Side::N3 => self.parse_n3(descriptor, frame),
            Side::N6 => self.parse_n6(descriptor, frame),
        };
        match parsed {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.arena.count_drop(reason, 1);
                Parsed::Done
            }
        }
    }

    #[inline]
    fn parse_n3<'a>(
        &self,
        descriptor: &Descriptor,
        frame: &'a [u8],
    ) -> Result<Parsed<'a>, DropReason> {
        let (from, gtpu) = outer(descriptor, frame)?;
        if !gtpu.is_gpdu() {
            return signal(from, &gtpu).map(Parsed::Signal);
        }
        if gtpu.unknown_required_extension.is_some() {
            return Ok(Parsed::Signal(SignalIn::Extension { from: from.ip() }));
        }
        let teid = Teid::new(gtpu.teid);
        self.sessions.prefetch(teid);
        Ok(Parsed::Uplink {
            teid,
            source: from.ip(),
            qfi: gtpu.pdu_session.map_or(NO_QFI, |info| info.qfi),
            bytes: gtpu.payload,
        })
    }

    #[inline]
    fn parse_n6<'a>(
        &self,
        descriptor: &Descriptor,
        frame: &'a [u8],
    ) -> Result<Parsed<'a>, DropReason> {
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
        Ok(Parsed::Downlink {
            ue_hash,
            ue: ip.dst,
            bytes,
        })
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
        // No `ok_or(..)?` on what was found, and the delta is written in place: results as large as
        // these are put together and taken apart in pieces of other sizes, and wait for that.
        let (bytes, unknown) = match packet {
            Parsed::Done | Parsed::Signal(_) => return Ok(false),
            Parsed::Uplink { bytes, .. } => (*bytes, DropReason::TeidUnknown),
            Parsed::Downlink { bytes, .. } => (*bytes, DropReason::UeUnknown),
        };
        let Some((slot, hot)) = slot.and_then(|slot| Some((slot, self.sessions.get(slot)?))) else {
            return Err(unknown);
        };
        let Ok(inner) = parse_inner(bytes) else {
            return Err(DropReason::InnerMalformed);
        };
        plan.slot = slot;
        plan.body = whole(bytes, &inner)?;
        if hot.kind == SessionKind::Ruled {
            return self.judge_ruled(slot, ruled_packet(packet), &inner, now_ns, plan);
        }
        let direction = match packet {
            Parsed::Uplink { source, .. } => {
                self.check_uplink(hot, *source, &inner)?;
                plan.way = Side::N6;
                plan.to = self.neighbours.n6_peer;
                Direction::Uplink
            }
            Parsed::Downlink { .. } | Parsed::Done | Parsed::Signal(_) => {
                let length = u16::try_from(plan.body.len())
                    .ok()
                    .filter(|length| *length <= INNER_MAX)
                    .ok_or(DropReason::TooLong)?;
                plan.head = Head::from(gpdu_header(hot.downlink_teid.get(), length));
                plan.way = Side::N3;
                plan.to = hot.peer;
                Direction::Downlink
            }
        };
        self.judge(slot, direction, &inner, now_ns, &mut plan.delta)?;
        self.expect(plan.slot, &plan.delta);
        Ok(true)
    }

    #[inline]
    fn check_uplink(
        &self,
        hot: &HotSession,
        source: IpAddr,
        inner: &Inner<'_>,
    ) -> Result<(), DropReason> {
        if hot.peer.ip() != source {
            return Err(DropReason::PeerMismatch);
        }
        if hot.ue != inner.ip.src {
            return Err(DropReason::SourceSpoofed);
        }
        self.check_destination(inner)
    }

    /// Nobody sends to our own network, nor tunnels or control messages of the core.
    #[inline]
    pub(crate) fn check_destination(&self, inner: &Inner<'_>) -> Result<(), DropReason> {
        if self.neighbours.own.contains(&inner.ip.dst) {
            return Err(DropReason::ToInfrastructure);
        }
        match inner.transport {
            Transport::Udp { dst_port, .. } => match dst_port {
                GTPU_PORT => Err(DropReason::GtpuNested),
                PFCP_PORT | GTPC_PORT => Err(DropReason::CoreSignalling),
                _ => Ok(()),
            },
            Transport::Tcp(_) | Transport::Other => Ok(()),
        }
    }

    /// Adds a packet to what the burst will add to its session.
    #[inline]
    pub(crate) fn expect(&mut self, slot: SessionSlot, delta: &BurstDelta) {
        let Some(mark) = self.marks.get_mut(slot.index()) else {
            return;
        };
        if *mark == NO_ENTRY {
            *mark = u8::try_from(self.entries.len()).unwrap_or(NO_ENTRY);
            self.entries.push((slot, BurstDelta::default()));
        }
        if let Some((_, sum)) = self.entries.get_mut(usize::from(*mark)) {
            sum.add(delta);
        }
    }

    #[inline]
    fn note(&mut self, planned: &[Planned<'_>]) {
        if !planned.is_empty() {
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
    ) {
        if side == Side::N3 || self.has_rules {
            self.send(Side::N6, &mut ports.n6, planned);
        }
        if side == Side::N6 || self.has_rules {
            self.send(Side::N3, &mut ports.n3, planned);
        }
    }

    /// Sends those planned packets that leave through `way`.
    #[inline]
    fn send(&mut self, way: Side, sink: &mut impl PacketSink, planned: &mut [Planned<'_>]) {
        let mut items = [Outgoing::EMPTY; BURST_MAX];
        let mut count = 0_usize;
        let own = planned.iter().filter(|plan| plan.way == way);
        for (item, plan) in items.iter_mut().zip(own) {
            *item = Outgoing {
                head: plan.head.as_slice(),
                body: plan.body,
                to: plan.to,
            };
            count = count.saturating_add(1);
        }
        let accepted = self.send_items(sink, items.get(..count).unwrap_or_default());
        let own = planned.iter_mut().filter(|plan| plan.way == way);
        for (plan, accepted) in own.zip(accepted) {
            plan.accepted = accepted;
        }
    }

    /// Which of the packets the port took.
    #[inline]
    fn send_items(
        &mut self,
        sink: &mut impl PacketSink,
        items: &[Outgoing<'_>],
    ) -> [bool; BURST_MAX] {
        let mut accepted = [false; BURST_MAX];
        let mut done = 0_usize;
        while let Some(rest) = items.get(done..).filter(|rest| !rest.is_empty()) {
            match sink.send_burst(rest) {
                Ok(0) => {
                    self.arena
                        .count_drop(DropReason::TransmitFull, rest.len() as u64);
                    break;
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
                    self.arena
                        .count_drop(DropReason::TransmitRefused, rest.len() as u64);
                    break;
                }
            }
        }
        accepted
    }

    /// Counts what was accepted and forgets the burst.
    #[inline]
    fn count(&mut self, planned: &[Planned<'_>], received: usize, now_ns: u64) {
        let refused = planned.iter().any(|plan| !plan.accepted);
        if refused {
            self.entries
                .iter_mut()
                .for_each(|(_, delta)| *delta = BurstDelta::default());
            for plan in planned.iter().filter(|plan| plan.accepted) {
                let mark = self.marks.get(plan.slot.index()).copied();
                let entry = mark.and_then(|mark| self.entries.get_mut(usize::from(mark)));
                if let Some((_, sum)) = entry {
                    sum.add(&plan.delta);
                }
            }
        }
        if self.has_rules && !self.entries.is_empty() {
            self.retract_measured(planned);
            self.commit_ruled(now_ns);
        } else if !planned.is_empty() {
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

    /// Usage rules count what was accepted only.
    fn retract_measured(&mut self, planned: &[Planned<'_>]) {
        for plan in planned.iter().filter(|plan| !plan.accepted) {
            let measured = self.ruled.measured.get(usize::from(plan.measured)).copied();
            if let (Some(measured), Some(ruled)) = (measured, self.ruled.get_mut(plan.slot)) {
                ruled.urrs.retract(&measured.urrs, &measured.packet);
            }
        }
        self.ruled.measured.clear();
    }

    /// Acts on the messages of a burst; what they provoke is sent behind the burst's packets.
    fn heed_signals(&mut self, parsed: &[Parsed<'_>], now_ns: u64) {
        for packet in parsed {
            let Parsed::Signal(signal) = packet else {
                continue;
            };
            match *signal {
                SignalIn::Echo { sequence, to } => self.heed_echo(sequence, to),
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

/// The peer and the GTP-U message of a frame. A socket has taken the outer headers off already.
#[inline]
fn outer<'a>(
    descriptor: &Descriptor,
    frame: &'a [u8],
) -> Result<(SocketAddr, GtpuPacket<'a>), DropReason> {
    if let Some(peer) = descriptor.peer {
        let gtpu = parse_gtpu(frame).map_err(DropReason::Wire)?;
        return Ok((peer, gtpu));
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
    Ok((SocketAddr::new(ip.src, udp.src_port), gtpu))
}

/// The bytes of an inner packet up to the length that its header states; all must be there.
#[inline]
fn whole<'a>(bytes: &'a [u8], inner: &Inner<'_>) -> Result<&'a [u8], DropReason> {
    let length = usize::try_from(inner.ip.total_len).unwrap_or(usize::MAX);
    bytes.get(..length).ok_or(DropReason::InnerMalformed)
}
