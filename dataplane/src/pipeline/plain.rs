//! Stages 2 to 6 of a burst in which nothing but sessions decides: the way of nearly all uplink.
//!
//! While no trace and no forwarding is on, a packet of the usual shape in a plain session
//! ([`qlink_meter::HotSession::is_plain`]) needs its session's line and nothing else; what it adds
//! and where it goes is known at once. Packets are taken as long as they are such; from the first
//! other one on, the rest of the burst goes the general way.
//!
//! **Invariant**: the general way says the same of every packet that is taken here.

use std::net::{IpAddr, Ipv4Addr};

use qlink_io::{BURST_MAX, Outgoing, PacketSink};
use qlink_meter::{Direction, PacketDelta, SessionSlot, TeidAllocator};
use qlink_types::ids::Teid;

use super::{Parsed, Planned, Side, check_port, check_source};
use crate::parse::UsualInner;
use crate::plane::Plane;

/// How many packets of a burst were taken: the first ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) count: usize,
    /// Their inner IP bytes.
    bytes: u64,
}

/// Addresses of our own network, as far as one look tells.
#[derive(Debug, Clone, Copy)]
struct OwnAddresses {
    /// A bit for each place that an address may have.
    places: u64,
}

impl OwnAddresses {
    fn new(own: &[IpAddr]) -> Self {
        let places = own.iter().fold(0, |places, address| match address {
            IpAddr::V4(address) => places | Self::place(*address),
            IpAddr::V6(_) => places,
        });
        Self { places }
    }

    /// Chosen by the highest bits of a product, in which every bit of the address counts (2^32
    /// divided by the golden ratio spreads neighbours apart).
    #[inline(always)]
    const fn place(address: Ipv4Addr) -> u64 {
        1 << (address.to_bits().wrapping_mul(0x9e37_79b1) >> 26)
    }

    /// `false`: it is none of them.
    #[inline(always)]
    const fn may_have(self, address: Ipv4Addr) -> bool {
        self.places & Self::place(address) != 0
    }
}

impl Plane {
    /// Whether a burst from `side` may go the plain way, by what is on and by its first packet.
    #[inline(always)]
    pub(super) fn is_plain(&self, side: Side, parsed: &[Parsed<'_>]) -> bool {
        let first = parsed.first().is_some_and(|packet| {
            matches!(packet, Parsed::Usual { teid, .. } if self.sessions.plain(*teid).is_some())
        });
        first && side == Side::N3 && self.forwarding.is_none() && !self.tracer.is_on()
    }

    /// Room for what is taken: all of it leaves towards origins.
    #[inline(always)]
    pub(super) const fn plain_items<'a>(&self) -> [Outgoing<'a>; BURST_MAX] {
        let item = Outgoing {
            to: self.neighbours.n6_peer,
            ..Outgoing::EMPTY
        };
        [item; BURST_MAX]
    }

    /// Takes packets up to the first one that needs more than its plain session, and says in
    /// `items` what to send.
    #[inline(always)]
    pub(super) fn take_plain<'a>(
        &mut self,
        parsed: &[Parsed<'a>],
        items: &mut [Outgoing<'a>; BURST_MAX],
    ) -> Taken {
        let own = OwnAddresses::new(&self.neighbours.own);
        let (sessions, rows) = (&self.sessions, self.arena.traffic_rows());
        let mut taken = Taken { count: 0, bytes: 0 };
        for (packet, item) in parsed.iter().zip(items) {
            let Parsed::Usual {
                teid,
                source,
                inner,
                ..
            } = packet
            else {
                break;
            };
            let Some((slot, hot)) = sessions.plain(*teid) else {
                break;
            };
            if check_source(hot, IpAddr::V4(*source), IpAddr::V4(inner.src)).is_err()
                || own.may_have(inner.dst)
                || check_port(inner.udp_port()).is_err()
            {
                break;
            }
            rows.prefetch(slot);
            let delta = plain_delta(inner);
            self.entries.add(slot, &delta);
            item.body = inner.bytes;
            taken.count = taken.count.saturating_add(1);
            // Below 2^21: 32 packets of at most 65,535 bytes.
            taken.bytes = taken.bytes.wrapping_add(delta.bytes.into());
        }
        taken
    }

    /// Notes, sends and counts a burst of which all packets were taken.
    #[inline(always)]
    pub(super) fn send_plain(
        &mut self,
        n6: &mut impl PacketSink,
        items: &[Outgoing<'_>],
        parsed: &[Parsed<'_>],
        taken: Taken,
    ) {
        self.note();
        let items = items.get(..taken.count).unwrap_or_default();
        let (mut packets, mut bytes) = (taken.count as u64, taken.bytes);
        if let Some(accepted) = self.send(n6, items) {
            (packets, bytes) = self.expect_plain(parsed, &accepted);
        }
        self.commit_plain();
        self.count_burst(taken.count, packets, bytes);
    }

    /// Sums up again what the burst adds, of accepted packets alone: how many, and their bytes.
    #[cold]
    fn expect_plain(&mut self, parsed: &[Parsed<'_>], accepted: &[bool]) -> (u64, u64) {
        self.entries.reset();
        let (mut packets, mut bytes) = (0_u64, 0_u64);
        for (packet, accepted) in parsed.iter().zip(accepted) {
            if let (true, Parsed::Usual { teid, inner, .. }) = (*accepted, packet) {
                let delta = plain_delta(inner);
                self.expect_packet(slot_of(*teid), &delta);
                packets = packets.saturating_add(1);
                bytes = bytes.saturating_add(delta.bytes.into());
            }
        }
        (packets, bytes)
    }

    /// Plans packets that were taken, for the general way; how many there are.
    pub(super) fn plan_taken<'a>(
        &self,
        taken: &[Parsed<'a>],
        planned: &mut [Planned<'a>],
    ) -> usize {
        for (packet, plan) in taken.iter().zip(planned) {
            if let Parsed::Usual { teid, inner, .. } = packet {
                plan.body = inner.bytes;
                plan.to = self.neighbours.n6_peer;
                plan.slot = slot_of(*teid);
                plan.delta = plain_delta(inner);
            }
        }
        taken.len()
    }
}

/// What a packet adds to its plain session.
#[inline(always)]
fn plain_delta(inner: &UsualInner<'_>) -> PacketDelta {
    PacketDelta {
        direction: Direction::Uplink,
        bytes: inner.total_len(),
        user_charged: inner.payload_len.into(),
        personal: 0,
    }
}

/// The slot of a plain session, whose TEID is always one of ours.
const fn slot_of(teid: Teid) -> SessionSlot {
    TeidAllocator::slot_of(teid)
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
