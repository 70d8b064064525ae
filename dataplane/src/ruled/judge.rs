//! The decision about one packet of a session with rules.

use std::net::{IpAddr, SocketAddr};

use qlink_forward::buffer::{BufferRefusal, Buffered};
use qlink_forward::fragments::{Classified, FragmentRefusal};
use qlink_forward::redirect::Readdress;
use qlink_meter::{
    Action, CompiledPdr, CopiesAt, Direction, DropReason, Out, PacketCount, PacketMeta, RedirectAt,
    SessionSlot, UrrList, WorkerCounter,
};
use qlink_pfcp::model::{Interface, Qfi};
use qlink_types::ids::Teid;
use qlink_wire::{PduSessionInfo, gpdu_header, gpdu_header_with_container, protocol};

use super::event::{RuledEvent, RuledNews};
use super::session::Measured;
use crate::forwarding::of_fragment;
use crate::parse::{Inner, Transport, parse_inner};
use crate::pipeline::{Head, INNER_MAX, Planned, Side};
use crate::plane::Plane;

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

/// What the forwarding rule of a packet says.
#[derive(Debug, Clone, Copy)]
struct Way {
    to: Out,
    redirect: Option<RedirectAt>,
    copies: Option<CopiesAt>,
}

impl Way {
    /// The way behind a used-up quota. An answer to what that redirects comes back the usual way.
    fn beyond(&self, action: &Action, met: &Met<'_, '_>) -> Self {
        let Action::Forward {
            to,
            redirect,
            copies,
        } = *action
        else {
            return *self;
        };
        let down = met.direction == Direction::Downlink;
        let answer = down && redirect.is_some() && met.edit.is_some();
        Self {
            to: if answer { self.to } else { to },
            redirect,
            copies,
        }
    }
}

/// A packet as its rules see it.
struct Met<'a, 'p> {
    inner: &'a Inner<'p>,
    meta: &'a PacketMeta,
    /// The other ends that it had on the wire.
    edit: Option<Readdress>,
    direction: Direction,
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
        let mut turned = None;
        if direction == Direction::Downlink && self.ruled.diverted.is_some() {
            turned = self.turn_back(slot, inner, &mut meta, now_ns);
        }
        let met = Met {
            inner: turned.as_ref().map_or(inner, |turned| &turned.inner),
            meta: &meta,
            edit: turned.as_ref().map(|turned| turned.edit),
            direction,
        };
        self.follow(slot, &met, now_ns, plan)
    }

    /// Does with a packet what the forwarding rule of its detection rule says.
    #[inline]
    fn follow(
        &mut self,
        slot: SessionSlot,
        met: &Met<'_, '_>,
        now_ns: u64,
        plan: &mut Planned<'_>,
    ) -> Result<bool, DropReason> {
        let Some(ruled) = self.ruled.get_mut(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let pdr = ruled.block.classify(met.meta).copied();
        let pdr = pdr.ok_or(DropReason::NoPdr)?;
        ruled.last_packet_ns = now_ns;
        let packet = PacketCount {
            direction: met.direction,
            bytes: met.inner.ip.total_len.into(),
            charged: 0,
        };
        match pdr.action {
            Action::Forward {
                to: Out::RedirectUrl(url),
                copies,
                ..
            } => {
                self.copy_packet(slot, copies, plan.body);
                self.redirect(slot, (url, met.direction), met.inner, now_ns)
            }
            Action::Forward {
                to,
                redirect,
                copies,
            } => {
                let way = Way {
                    to,
                    redirect,
                    copies,
                };
                self.forward(slot, (&pdr, &way), (met, packet), now_ns, plan)
            }
            Action::Drop { copies } => {
                ruled.urrs.dropped(&pdr.urrs, &packet);
                self.expect(slot);
                self.copy_packet(slot, copies, plan.body);
                Err(DropReason::FarDrop)
            }
            Action::Buffer { notify, .. } => {
                let notify = notify.then_some(&pdr);
                self.keep(slot, notify, &pdr, &packet, plan.body)
            }
        }
    }

    /// A packet that its rule lets pass: quotas, gates, rates, proof.
    #[inline]
    fn forward(
        &mut self,
        slot: SessionSlot,
        (pdr, way): (&CompiledPdr, &Way),
        (met, mut packet): (&Met<'_, '_>, PacketCount),
        now_ns: u64,
        plan: &mut Planned<'_>,
    ) -> Result<bool, DropReason> {
        let Some(ruled) = self.ruled.get_mut(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let admitted = match ruled.urrs.judge(&pdr.urrs, &packet) {
            Ok(()) => true,
            Err(urr) => match ruled.block.quota_action(urr) {
                Some(beyond @ Action::Forward { .. }) => {
                    let way = way.beyond(&beyond, met);
                    return self.forward_uncounted(slot, &way, met, now_ns, plan);
                }
                _ => false,
            },
        };
        // What was judged has to be settled with the burst, sent or not.
        self.expect(slot);
        if !admitted {
            return Err(DropReason::UrrQuotaExhausted);
        }
        self.enforce(slot, pdr, &packet, now_ns)?;
        let judged = self.set_on_way(slot, way, met, now_ns, plan);
        let Some(ruled) = self.ruled.get_mut(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let edit = match judged {
            Ok(edit) => edit,
            Err(reason) => {
                ruled.urrs.retract(&pdr.urrs, &packet);
                return Err(reason);
            }
        };
        packet.charged = plan.delta.user_charged;
        ruled.urrs.charge(&pdr.urrs, &packet);
        let urrs = pdr.urrs;
        plan.measured = self.ruled.measure(Measured { urrs, packet, edit });
        self.expect_packet(slot, &plan.delta);
        self.copy_packet(slot, way.copies, plan.body);
        Ok(true)
    }

    /// Says where a packet goes and proves what is in it; the other ends under which it leaves.
    fn set_on_way(
        &mut self,
        slot: SessionSlot,
        way: &Way,
        met: &Met<'_, '_>,
        now_ns: u64,
        plan: &mut Planned<'_>,
    ) -> Result<Option<Readdress>, DropReason> {
        let mut edit = met.edit;
        if met.direction == Direction::Uplink && self.ruled.diverted.is_some() {
            let of = (met.inner, met.meta);
            edit = self.turn_away(slot, way.redirect, of, now_ns)?;
        }
        if edit.is_some() {
            self.arena.count(WorkerCounter::Redirected, 1);
        }
        let to = (way.to, met.direction);
        self.judge_content(slot, to, met.inner, now_ns, plan)?;
        Ok(edit)
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
        way: &Way,
        met: &Met<'_, '_>,
        now_ns: u64,
        plan: &mut Planned<'_>,
    ) -> Result<bool, DropReason> {
        if let Out::RedirectUrl(url) = way.to {
            self.expect(slot);
            return self.redirect(slot, (url, met.direction), met.inner, now_ns);
        }
        if met.direction == Direction::Downlink && way.redirect.is_some() && met.edit.is_none() {
            self.expect(slot);
            return Err(DropReason::NotRedirectable);
        }
        let edit = self.set_on_way(slot, way, met, now_ns, plan)?;
        if edit.is_some() {
            plan.measured = self.ruled.measure(Measured {
                urrs: UrrList::EMPTY,
                packet: PacketCount {
                    direction: met.direction,
                    bytes: 0,
                    charged: 0,
                },
                edit,
            });
        }
        self.expect_packet(slot, &plan.delta);
        self.copy_packet(slot, way.copies, plan.body);
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
        Out::ControlPlane | Out::Udp { .. } | Out::RedirectUrl(_) => Err(DropReason::FarDrop),
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
