//! Stages 1 and 2: from a frame to its session.

use std::net::{IpAddr, SocketAddr};

use qlink_io::Descriptor;
use qlink_meter::{DropReason, SessionSlot, WorkerCounter};
use qlink_types::ids::Teid;
use qlink_wire::{
    GTPU_PORT, GtpuPacket, LinkType, parse_gtpu, parse_ip, parse_udp, protocol, strip_link,
    usual_gpdu, usual_gpdu_packet,
};

use super::heed::{SignalIn, signal};
use super::{NO_QFI, Parsed, Side};
use crate::parse::{FrequentFrame, UsualInner, usual_packet};
use crate::plane::Plane;
use crate::shard::Handed;

impl Plane {
    /// Parses a frame from `side` into its `place`.
    #[inline]
    pub(super) fn parse<'a>(
        &self,
        side: Side,
        descriptor: &Descriptor,
        frame: &'a [u8],
        place: &mut Parsed<'a>,
    ) {
        if side == Side::N3
            && descriptor.peer.is_none()
            && descriptor.link == LinkType::Ethernet
            && let Some(found) = FrequentFrame::of(frame)
        {
            let teid = Teid::new(found.teid);
            self.sessions.prefetch(teid);
            // Written in place: results as large as this are put together and taken apart in
            // pieces of other sizes, and wait for that.
            *place = Parsed::Usual {
                teid,
                source: found.source,
                qfi: found.qfi,
                inner: found.inner,
            };
        } else {
            self.parse_any(side, descriptor, frame, place);
        }
    }

    #[inline(never)]
    fn parse_any<'a>(
        &self,
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
            *place = Parsed::Refused(reason);
        }
    }

    #[inline]
    fn parse_n3<'a>(
        &self,
        descriptor: &Descriptor,
        frame: &'a [u8],
        place: &mut Parsed<'a>,
    ) -> Result<(), DropReason> {
        let usual = match descriptor.peer {
            Some(SocketAddr::V4(peer)) => usual_gpdu(frame).map(|gpdu| (*peer.ip(), gpdu)),
            Some(SocketAddr::V6(_)) => None,
            None => usual_packet(descriptor.link, frame).and_then(usual_gpdu_packet),
        };
        if let Some((source, gpdu)) = usual
            && let Some(inner) = UsualInner::of(gpdu.payload)
        {
            let teid = Teid::new(gpdu.teid);
            self.sessions.prefetch(teid);
            *place = Parsed::Usual {
                teid,
                source,
                qfi: gpdu.qfi.unwrap_or(NO_QFI),
                inner,
            };
            return Ok(());
        }
        self.parse_n3_unusual(descriptor, frame, place)
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
        let teid = Teid::new(gtpu.teid);
        self.sessions.prefetch(teid);
        *place = Parsed::Uplink {
            teid,
            source,
            qfi: gtpu.pdu_session.map_or(NO_QFI, |info| info.qfi),
            bytes: gtpu.payload,
        };
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
    #[inline(always)]
    pub(super) fn find(&self, packet: &Parsed<'_>) -> Option<SessionSlot> {
        // One question after the other: a table of jumps costs more than both.
        let slot = if let Parsed::Usual { teid, .. } | Parsed::Uplink { teid, .. } = packet {
            // Finding it has loaded it.
            self.sessions.by_teid(*teid)?.0
        } else if let Parsed::Downlink { ue_hash, ue, .. } = packet {
            self.find_subscriber(*ue_hash, ue)?
        } else {
            return None;
        };
        self.arena.prefetch_usage(slot);
        Some(slot)
    }

    #[inline]
    fn find_subscriber(&self, ue_hash: u64, ue: &IpAddr) -> Option<SessionSlot> {
        let found = self.sessions.slot_of_ue(ue_hash, ue);
        let slot = found.or_else(|| self.slot_of_prefix(ue))?;
        self.sessions.prefetch_slot(slot);
        Some(slot)
    }

    /// Counts a packet that does not pass; who sends into a tunnel that is not there is told so.
    pub(super) fn refuse(&mut self, reason: DropReason, packet: &Parsed<'_>, now_ns: u64) {
        self.arena.count_drop(reason, 1);
        if reason == DropReason::TeidUnknown
            && let Some((teid, source, _)) = packet.tunnel()
        {
            let mut own = self.neighbours.n3.iter();
            let Some(own) = own.find(|own| own.is_ipv4() == source.is_ipv4()) else {
                return;
            };
            // Whether it is sent is counted where it is sent.
            let _ = self.signals.unknown_tunnel(teid, (*own, source), now_ns);
        }
    }

    /// Gives a packet whose session is not ours to the worker that has it.
    pub(super) fn hand_over(
        &mut self,
        packet: &Parsed<'_>,
        descriptor: &Descriptor,
        frame: &[u8],
    ) -> Handed {
        let handed = match packet {
            Parsed::Empty | Parsed::Refused(_) | Parsed::Signal(_) => Handed::Nobody,
            Parsed::Usual { teid, .. } | Parsed::Uplink { teid, .. } => {
                self.others.uplink(*teid, descriptor, frame)
            }
            Parsed::Downlink { ue, .. } => self.others.downlink(ue, descriptor, frame),
        };
        match handed {
            Handed::Over => self.arena.count(WorkerCounter::HandedOver, 1),
            Handed::Refused => self.arena.count_drop(DropReason::HandoverFull, 1),
            Handed::Nobody => {}
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
