//! The decision about one packet of a session with rules.

use std::net::{IpAddr, SocketAddr};

use qlink_forward::buffer::{BufferRefusal, Buffered};
use qlink_forward::fragments::{Classified, FragmentRefusal};
use qlink_meter::{
    Action, CompiledPdr, Direction, DropReason, Out, PacketCount, PacketMeta, SessionSlot,
    WorkerCounter,
};
use qlink_pfcp::model::{Interface, Qfi};
use qlink_types::ids::Teid;
use qlink_wire::{PduSessionInfo, gpdu_header, gpdu_header_with_container, protocol};

use super::event::{RuledEvent, RuledNews};
use super::session::Measured;
use crate::forwarding::of_fragment;
use crate::parse::{Inner, Transport, parse_inner};
use crate::pipeline::{Head, INNER_MAX, Planned, Side};
use crate::plane::{NO_ENTRY, Plane};

/// Where a packet of a session with rules came from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RuledPacket {
    /// Through a tunnel: from a BaseStation, another user plane or the control plane.
    Tunnel {
        teid: Teid,
        source: IpAddr,
        qfi: Option<Qfi>,
    },
    /// From the network as it is.
    Plain,
}

impl Plane {
    /// Plans what to send of a packet whose whole bytes are `plan.body`; `Ok(false)`: it is kept.
    pub(crate) fn judge_ruled(
        &mut self,
        slot: SessionSlot,
        from: RuledPacket,
        inner: &Inner<'_>,
        now_ns: u64,
        plan: &mut Planned<'_>,
    ) -> Result<bool, DropReason> {
        let source = self.check_ruled(slot, from, inner)?;
        let direction = Direction::from_source(source);
        let mut meta = meta(source, from, inner, plan.body);
        if inner.ip.fragment.is_some() {
            self.take_ports(slot, direction, inner, now_ns, &mut meta)?;
        }
        let Some(ruled) = self.ruled.get_mut(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let pdr = ruled.block.classify(&meta).copied();
        let pdr = pdr.ok_or(DropReason::NoPdr)?;
        ruled.last_packet_ns = now_ns;
        let mut packet = PacketCount {
            direction,
            bytes: inner.ip.total_len.into(),
            charged: 0,
        };
        let to = match pdr.action {
            Action::Forward {
                to: Out::RedirectUrl(url),
                ..
            } => return self.redirect(slot, (url, direction), inner, now_ns),
            Action::Forward { to, .. } => to,
            Action::Drop => {
                ruled.urrs.dropped(&pdr.urrs, &packet);
                self.expect(slot);
                return Err(DropReason::FarDrop);
            }
            Action::Buffer { notify, .. } => {
                let notify = notify.then_some(&pdr);
                return self.keep(slot, notify, &pdr, &packet, plan.body);
            }
        };
        let admitted = match ruled.urrs.judge(&pdr.urrs, &packet) {
            Ok(()) => Some(to),
            Err(urr) => match ruled.block.quota_action(urr) {
                Some(Action::Forward { to, .. }) => {
                    let way = (to, direction);
                    return self.forward_uncounted(slot, way, inner, now_ns, plan);
                }
                _ => None,
            },
        };
        // What was judged has to be settled with the burst, sent or not.
        self.expect(slot);
        let to = admitted.ok_or(DropReason::UrrQuotaExhausted)?;
        self.enforce(slot, &pdr, &packet, now_ns)?;
        let judged = self.judge_content(slot, (to, direction), inner, now_ns, plan);
        let Some(ruled) = self.ruled.get_mut(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        if let Err(reason) = judged {
            ruled.urrs.retract(&pdr.urrs, &packet);
            return Err(reason);
        }
        packet.charged = plan.delta.user_charged;
        ruled.urrs.charge(&pdr.urrs, &packet);
        plan.measured = u8::try_from(self.ruled.measured.len()).unwrap_or(NO_ENTRY);
        let urrs = pdr.urrs;
        self.ruled.measured.push(Measured { urrs, packet });
        self.expect_packet(slot, &plan.delta);
        Ok(true)
    }

    /// Gives a fragment the ports of its datagram, so that all of it is of one rule. A later
    /// fragment without a first one would be of any rule that its sender likes: it is refused.
    #[cold]
    fn take_ports(
        &mut self,
        slot: SessionSlot,
        direction: Direction,
        inner: &Inner<'_>,
        now_ns: u64,
        meta: &mut PacketMeta,
    ) -> Result<(), DropReason> {
        // Equal addresses on both sides are different datagrams; slots have 20 bits.
        let realm = match direction {
            Direction::Uplink => slot.get(),
            Direction::Downlink => slot.get() | 1 << 31,
        };
        let Some(fragments) = &mut self.ruled.fragments else {
            return Ok(());
        };
        match fragments.classify(realm, slot.get(), &inner.ip, now_ns) {
            Ok(Classified::First(ports) | Classified::Later(ports)) => {
                // An ICMP identifier is no port that a rule sees.
                if matches!(inner.ip.protocol, protocol::TCP | protocol::UDP) {
                    (meta.src_port, meta.dst_port) = (ports.src, ports.dst);
                }
                Ok(())
            }
            // Rules see no ports of such a protocol, in fragments or not.
            Ok(Classified::Whole) | Err(FragmentRefusal::Portless) => Ok(()),
            Err(refusal) => Err(of_fragment(refusal)),
        }
    }

    /// Tunnel's peer, subscriber's address, and where nobody may send to; where the packet is from.
    fn check_ruled(
        &self,
        slot: SessionSlot,
        from: RuledPacket,
        inner: &Inner<'_>,
    ) -> Result<Interface, DropReason> {
        let RuledPacket::Tunnel { source, teid, .. } = from else {
            return Ok(Interface::Core);
        };
        let Some(ruled) = self.ruled.get(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let access = &self.neighbours.access;
        if !ruled.places.is_peer(source) && !access.iter().any(|of| of.contains(source)) {
            return Err(DropReason::PeerMismatch);
        }
        let interface = ruled.places.source_of(teid);
        match Direction::from_source(interface) {
            Direction::Uplink if !ruled.places.is_ue(inner.ip.src) => {
                Err(DropReason::SourceSpoofed)
            }
            Direction::Uplink => self
                .check_destination(inner.ip.dst, inner.udp_port())
                .map(|()| interface),
            // A router advertisement goes to all of the session's link.
            Direction::Downlink if inner.ip.dst.is_multicast() => Ok(interface),
            Direction::Downlink if !ruled.places.is_ue(inner.ip.dst) => Err(DropReason::UeUnknown),
            Direction::Downlink => Ok(interface),
        }
    }

    /// Gates and rates.
    fn enforce(
        &mut self,
        slot: SessionSlot,
        pdr: &CompiledPdr,
        packet: &PacketCount,
        now_ns: u64,
    ) -> Result<(), DropReason> {
        let Some(ruled) = self.ruled.get_mut(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let judged = ruled
            .policer
            .judge(&pdr.qers, packet.direction, packet.bytes, now_ns);
        if judged.is_err() {
            ruled.urrs.enforced(&pdr.urrs, packet);
        }
        judged
    }

    /// A packet behind a used-up quota that another forwarding rule still lets pass.
    fn forward_uncounted(
        &mut self,
        slot: SessionSlot,
        (to, direction): (Out, Direction),
        inner: &Inner<'_>,
        now_ns: u64,
        plan: &mut Planned<'_>,
    ) -> Result<bool, DropReason> {
        if let Out::RedirectUrl(url) = to {
            self.expect(slot);
            return self.redirect(slot, (url, direction), inner, now_ns);
        }
        self.judge_content(slot, (to, direction), inner, now_ns, plan)?;
        self.expect_packet(slot, &plan.delta);
        Ok(true)
    }

    /// Sets a packet on its way and proves what is in it. Behind a used-up quota of proven bytes
    /// content goes where the rule for that says, or nowhere.
    fn judge_content(
        &mut self,
        slot: SessionSlot,
        (to, direction): (Out, Direction),
        inner: &Inner<'_>,
        now_ns: u64,
        plan: &mut Planned<'_>,
    ) -> Result<(), DropReason> {
        let n6_peer = self.neighbours.n6_peer;
        set_out(plan, to, direction, &n6_peer)?;
        let content = content_direction(direction);
        let judged = self.judge(slot, content, inner, now_ns, &mut plan.delta);
        let Err(DropReason::UrrQuotaExhausted) = judged else {
            return judged;
        };
        let ruled = self.ruled.get_mut(slot).ok_or(DropReason::TeidUnknown)?;
        let beyond = ruled.proven.open(&ruled.block);
        let to = beyond.ok_or(DropReason::UrrQuotaExhausted)?;
        let judged = set_out(plan, to, direction, &n6_peer)
            .and_then(|()| self.judge(slot, content, inner, now_ns, &mut plan.delta));
        if let Some(ruled) = self.ruled.get_mut(slot) {
            ruled.proven.hold();
        }
        judged
    }

    /// The tunnel through which a packet of our own, whose first bytes are `packet`, reaches the
    /// session's subscriber: the header without a length, and the peer.
    pub(crate) fn ruled_way_down(
        &self,
        slot: SessionSlot,
        packet: &[u8],
    ) -> Option<(Head, SocketAddr)> {
        let inner = parse_inner(packet).ok()?;
        let meta = meta(Interface::Core, RuledPacket::Plain, &inner, packet);
        let Action::Forward { to, .. } = self.ruled.get(slot)?.block.classify(&meta)?.action else {
            return None;
        };
        match to {
            Out::Tunnel {
                teid, peer, qfi, ..
            } => Some((head_of(teid, qfi, Direction::Downlink, 0), peer)),
            _ => None,
        }
    }

    /// Keeps a downlink packet; uplink ones are never kept, they are dropped.
    fn keep(
        &mut self,
        slot: SessionSlot,
        notify: Option<&CompiledPdr>,
        pdr: &CompiledPdr,
        packet: &PacketCount,
        body: &[u8],
    ) -> Result<bool, DropReason> {
        if packet.direction == Direction::Uplink {
            return Err(DropReason::FarDrop);
        }
        let kept = self.ruled.buffer.push(slot.get(), &[], body);
        let Some(ruled) = self.ruled.get_mut(slot) else {
            return Err(DropReason::UeUnknown);
        };
        match kept {
            Ok(Buffered::First { .. }) => {
                let news = RuledNews::DownlinkData(pdr.id);
                let seid = ruled.seid;
                if notify.is_some() && self.ruled.tell(RuledEvent { seid, news }).is_err() {
                    // The next packet tries again.
                    self.ruled.buffer.reset(slot.get());
                    self.arena.count(WorkerCounter::EventsDelayed, 1);
                }
            }
            Ok(Buffered::Further { .. }) => {}
            Err(refusal) => {
                ruled.urrs.dropped(&pdr.urrs, packet);
                self.expect(slot);
                return Err(match refusal {
                    BufferRefusal::TooLong => DropReason::TooLong,
                    BufferRefusal::SessionUnknown
                    | BufferRefusal::SessionFull
                    | BufferRefusal::BufferFull => DropReason::BufferFull,
                });
            }
        }
        self.arena.count(WorkerCounter::Buffered, 1);
        Ok(false)
    }
}

const fn content_direction(direction: Direction) -> qlink_content::Direction {
    match direction {
        Direction::Uplink => qlink_content::Direction::Uplink,
        Direction::Downlink => qlink_content::Direction::Downlink,
    }
}

/// Where a planned packet goes, and what goes in front of it.
fn set_out(
    plan: &mut Planned<'_>,
    to: Out,
    direction: Direction,
    n6_peer: &SocketAddr,
) -> Result<(), DropReason> {
    match to {
        Out::N6 => {
            plan.head = Head::NONE;
            plan.way = Side::N6;
            plan.to = *n6_peer;
            Ok(())
        }
        Out::Tunnel {
            teid, peer, qfi, ..
        } => {
            let length = u16::try_from(plan.body.len())
                .ok()
                .filter(|length| *length <= INNER_MAX)
                .ok_or(DropReason::TooLong)?;
            plan.head = head_of(teid, qfi, direction, length);
            plan.way = Side::N3;
            plan.to = peer;
            Ok(())
        }
        // The control thread refuses rules that need these; redirections are answered earlier.
        Out::ControlPlane | Out::Udp { .. } | Out::RedirectAddress(_) | Out::RedirectUrl(_) => {
            Err(DropReason::FarDrop)
        }
    }
}

/// The header of a tunnel packet.
fn head_of(teid: Teid, qfi: Option<Qfi>, direction: Direction, length: u16) -> Head {
    match qfi {
        None => Head::from(gpdu_header(teid.get(), length)),
        Some(qfi) => {
            let container = PduSessionInfo {
                qfi: qfi.get(),
                downlink: direction == Direction::Downlink,
            };
            Head::from(gpdu_header_with_container(teid.get(), length, container))
        }
    }
}

/// The header in front of a packet to a subscriber; `None` without a tunnel.
pub(super) fn tunnel_head(out: Out, length: u16) -> Option<Head> {
    match out {
        Out::Tunnel { teid, qfi, .. } => Some(head_of(teid, qfi, Direction::Downlink, length)),
        _ => None,
    }
}

/// What rules look at.
fn meta(source: Interface, from: RuledPacket, inner: &Inner<'_>, bytes: &[u8]) -> PacketMeta {
    let (src_port, dst_port) = match inner.transport {
        Transport::Tcp(tcp) => (tcp.src_port, tcp.dst_port),
        Transport::Udp { src_port, dst_port } => (src_port, dst_port),
        Transport::Other => (0, 0),
    };
    let (teid, qfi) = match from {
        RuledPacket::Tunnel { teid, qfi, .. } => (Some(teid), qfi),
        RuledPacket::Plain => (None, None),
    };
    let (tos, flow_label) = marks(bytes);
    PacketMeta {
        source,
        teid,
        src: inner.ip.src,
        dst: inner.ip.dst,
        protocol: inner.ip.protocol,
        src_port,
        dst_port,
        tos,
        flow_label,
        spi: match inner.ip.protocol {
            protocol::ESP => word(inner.ip.payload),
            _ => 0,
        },
        qfi,
    }
}

/// Type of service (or traffic class) and flow label of an IP packet.
fn marks(bytes: &[u8]) -> (u8, u32) {
    let first = word(bytes);
    match first >> 28 {
        4 => (first.to_be_bytes()[1], 0),
        _ => ((first >> 20).to_le_bytes()[0], first & 0x000f_ffff),
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk::<4>()
        .map_or(0, |octets| u32::from_be_bytes(*octets))
}
