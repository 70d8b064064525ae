//! Copies of packets for others, as forwarding rules ask for them.
//!
//! A copy is the subscriber's packet as it came, in a tunnel of its own. It leaves behind the burst:
//! a packet never waits for its copies, and a copy that finds no room is shed alone. A packet that a
//! gate, a rate or a quota stops is not copied; one that its rule drops is, and one that is kept is
//! once it goes.
//!
//! Invariant: no usage rule, no session and no content counts a copy.
//!
//! Source: TS 29.244 §5.2.3.1 and §8.2.26, flag DUPL.

use qlink_io::{BURST_MAX, PacketSink};
use qlink_meter::{CopiesAt, Out, RuleBlock, SessionSlot, WorkerCounter};

use super::judge::tunnel_head;
use super::outbox::Outbox;
use crate::pipeline::Head;
use crate::plane::Plane;

/// Copies that wait for the end of a burst (chosen: two of each packet).
const COPIES_MAX: usize = 2 * BURST_MAX;

/// Octets of those copies.
const OCTETS_MAX: usize = COPIES_MAX * 1536;

/// Copies of the running burst.
#[derive(Debug)]
pub(crate) struct Copies(Outbox);

impl Copies {
    /// Without room: nobody asks for copies.
    pub(super) fn none() -> Self {
        Self(Outbox::new(0, 0))
    }

    /// Takes room once rules ask for copies.
    pub(super) fn prepare(&mut self, block: &RuleBlock) {
        if block.makes_copies() && !self.0.has_any_room() {
            self.0 = Outbox::new(COPIES_MAX, OCTETS_MAX);
        }
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Plane {
    /// Copies a packet into each tunnel of its action.
    #[inline]
    pub(super) fn copy_packet(&mut self, slot: SessionSlot, to: Option<CopiesAt>, packet: &[u8]) {
        if let Some(to) = to {
            self.copy_into(slot, to, packet);
        }
    }

    #[cold]
    fn copy_into(&mut self, slot: SessionSlot, to: CopiesAt, packet: &[u8]) {
        let (ruled, copies) = self.ruled.ruled_and_copies(slot);
        let tunnels = ruled.map_or(&[][..], |ruled| ruled.block.copies(to));
        for tunnel in tunnels {
            let length = u16::try_from(packet.len()).ok();
            let head = length.and_then(|length| tunnel_head(*tunnel, length));
            let made = match (head, tunnel) {
                (Some(head), Out::Tunnel { peer, .. }) => {
                    let most = packet.len().saturating_add(Head::LEN_MAX);
                    copies.0.put(*peer, most, |out| {
                        out.extend_from_slice(head.as_slice());
                        out.extend_from_slice(packet);
                    })
                }
                _ => false,
            };
            if !made {
                self.arena.count(WorkerCounter::CopiesShed, 1);
            }
        }
    }

    /// Sends the copies of the burst.
    pub(super) fn send_copies(&mut self, n3: &mut impl PacketSink) {
        if self.ruled.copies.is_empty() {
            return;
        }
        let delivery = self.ruled.copies.0.send(n3);
        let shed = delivery.full.saturating_add(delivery.refused);
        self.arena.count(WorkerCounter::CopiesSent, delivery.sent);
        self.arena.count(WorkerCounter::CopiesShed, shed);
    }
}
