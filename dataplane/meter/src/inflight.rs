//! What the running burst will add, noted before its packets leave.
//!
//! A kill between sending and counting leaves the notes behind. Recovery compares each note's
//! guard value with the session's: where the count had not happened yet, the note's network bytes
//! go to `uncertain_bytes`, and nothing is billed.
//!
//! ```text
//! note   slot, guard, uplink bytes, not used, downlink bytes, five not used
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use crate::direction::Direction;
use crate::record::{load, store, write_word};
use crate::session::SessionSlot;
use crate::usage::Traffic;

/// Most sessions in one burst.
pub const INFLIGHT_MAX: usize = qlink_io::BURST_MAX;

/// Words of one note.
pub(crate) const ENTRY_WORDS: usize = 10;

/// What one forwarded packet adds to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketDelta {
    /// Where it goes.
    pub direction: Direction,
    /// Inner IP bytes.
    pub bytes: u32,
    /// Payload bytes that are `user_charged`, and wire payload at once.
    pub user_charged: u64,
    /// The part of them that the personal payer is billed.
    pub personal: u64,
}

impl PacketDelta {
    /// Nothing.
    pub const NONE: Self = Self {
        direction: Direction::Uplink,
        bytes: 0,
        user_charged: 0,
        personal: 0,
    };
}

/// What forwarded packets of one burst add to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BurstDelta {
    /// Inner IP bytes from the subscriber.
    pub uplink_bytes: u64,
    /// Packets from the subscriber.
    pub uplink_packets: u64,
    /// Inner IP bytes to the subscriber.
    pub downlink_bytes: u64,
    /// Packets to the subscriber.
    pub downlink_packets: u64,
    /// Payload bytes that are `user_charged`, and wire payload at once.
    pub user_charged: u64,
    /// The part of them that the personal payer is billed.
    pub personal: u64,
}

impl BurstDelta {
    /// Adds a packet.
    #[inline(always)]
    pub const fn add(&mut self, packet: &PacketDelta) {
        let (bytes, packets) = match packet.direction {
            Direction::Uplink => (&mut self.uplink_bytes, &mut self.uplink_packets),
            Direction::Downlink => (&mut self.downlink_bytes, &mut self.downlink_packets),
        };
        *bytes = bytes.saturating_add(packet.bytes as u64);
        *packets = packets.saturating_add(1);
        self.user_charged = self.user_charged.saturating_add(packet.user_charged);
        self.personal = self.personal.saturating_add(packet.personal);
    }

    /// Becomes one packet.
    #[inline(always)]
    pub(crate) const fn set(&mut self, packet: &PacketDelta) {
        let (bytes, one) = (packet.bytes as u64, 1);
        (self.uplink_bytes, self.uplink_packets) = (0, 0);
        (self.downlink_bytes, self.downlink_packets) = (0, 0);
        match packet.direction {
            Direction::Uplink => (self.uplink_bytes, self.uplink_packets) = (bytes, one),
            Direction::Downlink => (self.downlink_bytes, self.downlink_packets) = (bytes, one),
        }
        (self.user_charged, self.personal) = (packet.user_charged, packet.personal);
    }

    /// Adds this to what a session's packets count.
    #[inline]
    pub(crate) const fn apply(&self, traffic: &mut Traffic) {
        traffic.uplink_bytes = traffic.uplink_bytes.saturating_add(self.uplink_bytes);
        traffic.uplink_packets = traffic.uplink_packets.saturating_add(self.uplink_packets);
        traffic.downlink_bytes = traffic.downlink_bytes.saturating_add(self.downlink_bytes);
        traffic.downlink_packets = traffic
            .downlink_packets
            .saturating_add(self.downlink_packets);
        traffic.charged = traffic.charged.saturating_add(self.user_charged);
        traffic.personal = traffic.personal.saturating_add(self.personal);
    }

    const fn network_bytes(&self) -> u64 {
        self.uplink_bytes.saturating_add(self.downlink_bytes)
    }
}

/// A note that a dead worker left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leftover {
    pub(crate) slot: SessionSlot,
    /// The session's guard before the count.
    pub(crate) guard: u64,
    pub(crate) network_bytes: u64,
}

/// Writes the notes of a burst at `at`, with the `guard` of each session's row; they count from the
/// last store on.
#[inline(always)]
pub(crate) fn note(
    words: &[AtomicU64],
    at: usize,
    entries: &[(SessionSlot, BurstDelta)],
    guard: impl Fn(SessionSlot) -> u64,
) {
    let (places, _) = words
        .get(at.saturating_add(1)..)
        .unwrap_or_default()
        .as_chunks();
    let places: &[[AtomicU64; ENTRY_WORDS]] = places.get(..INFLIGHT_MAX).unwrap_or_default();
    for (place, (slot, delta)) in places.iter().zip(entries) {
        let [slot_word, guard_word, uplink_bytes, _, downlink_bytes, ..] = place;
        let relaxed = Ordering::Relaxed;
        write_word(slot_word, slot.get().into(), relaxed);
        write_word(guard_word, guard(*slot), relaxed);
        write_word(uplink_bytes, delta.uplink_bytes, relaxed);
        write_word(downlink_bytes, delta.downlink_bytes, relaxed);
    }
    store(words, at, places.len().min(entries.len()) as u64);
}

/// Forgets the notes.
#[inline]
pub(crate) fn clear(words: &[AtomicU64], at: usize) {
    store(words, at, 0);
}

/// The notes that stand.
pub(crate) fn leftovers(words: &[AtomicU64], at: usize) -> Vec<Leftover> {
    let count = usize::try_from(load(words, at)).unwrap_or(0);
    (0..count.min(INFLIGHT_MAX))
        .filter_map(|index| {
            let place = at.saturating_add(1 + index.saturating_mul(ENTRY_WORDS));
            let delta = BurstDelta {
                uplink_bytes: load(words, place.saturating_add(2)),
                downlink_bytes: load(words, place.saturating_add(4)),
                ..BurstDelta::default()
            };
            Some(Leftover {
                slot: SessionSlot::new(u32::try_from(load(words, place)).ok()?),
                guard: load(words, place.saturating_add(1)),
                network_bytes: delta.network_bytes(),
            })
        })
        .collect()
}
