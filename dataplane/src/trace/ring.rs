//! The buffers between a worker and a capture thread.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use qlink_meter::DropReason;
use qlink_wire::LinkType;

use crate::pipeline::Side;

/// Buffers of one ring (chosen: what 400,000 packets a second fill in 10 ms, in 8 MB).
const BUFFERS: usize = 4096;

/// Bytes kept of a packet (chosen: any packet of an Ethernet network, whole).
pub(super) const KEPT: usize = 2048;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It left.
    Forwarded,
    /// It was dropped.
    Dropped(DropReason),
    /// It was to leave, and the send queue or the system did not take it.
    NotSent,
}

/// Where and how a packet was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Which side.
    pub(crate) side: Side,
    /// The other end of the packet's outer headers, where a socket keeps those from us.
    pub(crate) peer: Option<SocketAddr>,
    /// What its first byte is.
    pub(crate) link: LinkType,
    /// Monotonic time of its burst in nanoseconds.
    pub(crate) now_ns: u64,
    /// Whether it came or left.
    pub(crate) came: bool,
    /// What became of it.
    pub(crate) verdict: Verdict,
    /// Its payload bytes that are charged to the session's payer for sure.
    pub(crate) charged: u64,
}

/// One packet.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(super) sight: Sight,
    pub(super) orig_len: u32,
    len: usize,
    bytes: [u8; KEPT],
}

impl Packet {
    fn empty() -> Box<Self> {
        Box::new(Self {
            sight: Sight {
                side: Side::N3,
                peer: None,
                link: LinkType::RawIp,
                now_ns: 0,
                came: true,
                verdict: Verdict::Forwarded,
                charged: 0,
            },
            orig_len: 0,
            len: 0,
            bytes: [0; KEPT],
        })
    }

    /// The bytes kept.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn fill(&mut self, head: &[u8], body: &[u8]) {
        let mut len = 0_usize;
        for part in [head, body] {
            let room = self.bytes.get_mut(len..).unwrap_or_default();
            let kept = part.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..kept), part.get(..kept)) {
                to.copy_from_slice(from);
            }
            len = len.saturating_add(kept);
        }
        self.len = len;
        let whole = head.len().saturating_add(body.len());
        self.orig_len = u32::try_from(whole).unwrap_or(u32::MAX);
    }
}

/// A fixed set of buffers that are free or full.
#[derive(Debug)]
pub(crate) struct Ring {
    free: ArrayQueue<Box<Packet>>,
    full: ArrayQueue<Box<Packet>>,
    /// By side.
    lost: [AtomicU64; 2],
    closed: AtomicBool,
}

impl Ring {
    /// All buffers free.
    pub(crate) fn new() -> Self {
        let free = ArrayQueue::new(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for each of them.
            let _ = free.push(Packet::empty());
        }
        Self {
            free,
            full: ArrayQueue::new(BUFFERS),
            lost: [AtomicU64::new(0), AtomicU64::new(0)],
            closed: AtomicBool::new(false),
        }
    }

    /// Copies a packet made of `head` and `body`; counts it when no buffer is free.
    pub(crate) fn offer(&self, sight: Sight, head: &[u8], body: &[u8]) {
        let Some(mut packet) = self.free.pop() else {
            self.lost_of(sight.side).fetch_add(1, Ordering::Relaxed);
            return;
        };
        packet.sight = sight;
        packet.fill(head, body);
        // There are as many places as buffers.
        let _ = self.full.push(packet);
    }

    /// The packet that waits longest.
    pub(super) fn take(&self) -> Option<Box<Packet>> {
        self.full.pop()
    }

    /// Gives a buffer back.
    pub(super) fn give_back(&self, packet: Box<Packet>) {
        let _ = self.free.push(packet);
    }

    /// Packets of a side that found no buffer.
    pub(super) fn lost(&self, side: Side) -> u64 {
        self.lost_of(side).load(Ordering::Relaxed)
    }

    const fn lost_of(&self, side: Side) -> &AtomicU64 {
        let [n3, n6] = &self.lost;
        match side {
            Side::N3 => n3,
            Side::N6 => n6,
        }
    }

    /// Nothing is taken out any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        Packet::empty().sight
    }

    #[test]
    fn a_full_ring_counts_what_it_loses_and_keeps_what_it_has() {
        let ring = Ring::new();
        for _ in 0..BUFFERS + 3 {
            ring.offer(sight(), &[1, 2], &[3]);
        }

        assert_eq!(ring.lost(Side::N3), 3);
        let packet = ring.take().unwrap();
        assert_eq!(packet.bytes(), [1, 2, 3]);
        ring.give_back(packet);
        ring.offer(sight(), &[], &[4]);
        assert_eq!(ring.lost(Side::N3), 3);
    }

    #[test]
    fn a_long_packet_is_cut_and_its_length_remembered() {
        let ring = Ring::new();

        ring.offer(sight(), &[7; 8], &[9; 60_000]);

        let packet = ring.take().unwrap();
        assert_eq!(packet.bytes().len(), KEPT);
        assert_eq!(packet.orig_len, 60_008);
    }
}
