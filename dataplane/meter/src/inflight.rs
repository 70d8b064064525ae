//! What the running burst will add, noted before its packets leave.
//!
//! A kill between sending and counting leaves the notes behind. Recovery compares each note's
//! guard value with the session's: where the count had not happened yet, the note's network bytes
//! go to `uncertain_bytes`, and nothing is billed.

use std::sync::atomic::AtomicU64;

use crate::record::{load, store};
use crate::session::SessionSlot;
use crate::usage::Usage;

/// Most sessions in one burst.
pub const INFLIGHT_MAX: usize = qlink_io::BURST_MAX;

/// Words of one note.
pub(crate) const ENTRY_WORDS: usize = 10;

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
    /// Adds another packet's delta.
    #[inline]
    pub const fn add(&mut self, other: &Self) {
        self.uplink_bytes = self.uplink_bytes.saturating_add(other.uplink_bytes);
        self.uplink_packets = self.uplink_packets.saturating_add(other.uplink_packets);
        self.downlink_bytes = self.downlink_bytes.saturating_add(other.downlink_bytes);
        self.downlink_packets = self.downlink_packets.saturating_add(other.downlink_packets);
        self.user_charged = self.user_charged.saturating_add(other.user_charged);
        self.personal = self.personal.saturating_add(other.personal);
    }

    /// Adds this to a session's counters.
    #[inline]
    pub(crate) const fn apply(&self, usage: &mut Usage) {
        usage.uplink_bytes = usage.uplink_bytes.saturating_add(self.uplink_bytes);
        usage.uplink_packets = usage.uplink_packets.saturating_add(self.uplink_packets);
        usage.downlink_bytes = usage.downlink_bytes.saturating_add(self.downlink_bytes);
        usage.downlink_packets = usage.downlink_packets.saturating_add(self.downlink_packets);
        usage.wire_payload = usage.wire_payload.saturating_add(self.user_charged);
        usage.user_charged = usage.user_charged.saturating_add(self.user_charged);
        usage.personal = usage.personal.saturating_add(self.personal);
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

/// Writes the notes of a burst at `at`; they count from the last store on.
#[inline]
pub(crate) fn note<'a>(
    words: &[AtomicU64],
    at: usize,
    entries: impl Iterator<Item = (SessionSlot, u64, &'a BurstDelta)>,
) {
    let mut place = at.saturating_add(1);
    let mut count = 0;
    for (slot, guard, delta) in entries.take(INFLIGHT_MAX) {
        store(words, place, u64::from(slot.get()));
        store(words, place.saturating_add(1), guard);
        store(words, place.saturating_add(2), delta.uplink_bytes);
        store(words, place.saturating_add(3), delta.uplink_packets);
        store(words, place.saturating_add(4), delta.downlink_bytes);
        store(words, place.saturating_add(5), delta.downlink_packets);
        store(words, place.saturating_add(6), delta.user_charged);
        store(words, place.saturating_add(7), delta.personal);
        place = place.saturating_add(ENTRY_WORDS);
        count = count_up(count);
    }
    store(words, at, count);
}

const fn count_up(count: u64) -> u64 {
    count.saturating_add(1)
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
