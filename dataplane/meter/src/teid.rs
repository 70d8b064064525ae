//! Choosing tunnel endpoint identifiers.
//!
//! ```text
//! TEID  shard (4) | slot (20) | generation (8)
//! ```
//!
//! The slot is the session's place in its table, so a lookup is one array index and one compare;
//! the generation is random, so that a late packet of a deleted session meets no heir. 0 is never
//! given out.

use std::collections::VecDeque;

use qlink_types::ids::Teid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::session::SessionSlot;

/// How long a freed slot rests, in nanoseconds. Source: design.md section 5.
pub const TEID_REST_NS: u64 = 30_000_000_000;

/// Most slots of one shard.
const SLOTS_MAX: u32 = 1 << 20;

/// Gives out session slots and their TEIDs.
#[derive(Debug)]
pub struct TeidAllocator {
    shard: u8,
    used: Box<[bool]>,
    /// Slots never used since the start lie at or above this.
    fresh: u32,
    /// Freed slots with the time from which they may be used again, oldest first.
    resting: VecDeque<(u32, u64)>,
    secret: u64,
    draws: u64,
}

impl TeidAllocator {
    /// `slots` slots (1 to 2^20) of `shard` (0 to 15), none used. `secret` drives the generations.
    #[must_use]
    pub fn new(shard: u8, slots: u32, secret: u64) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        Self {
            shard: shard & 0x0f,
            used: vec![false; slots as usize].into_boxed_slice(),
            fresh: 0,
            resting: VecDeque::with_capacity(slots as usize),
            secret,
            draws: 0,
        }
    }

    /// The slot in a TEID; whether the TEID is one of ours only a compare can tell.
    #[inline]
    #[must_use]
    pub const fn slot_of(teid: Teid) -> SessionSlot {
        SessionSlot::new((teid.get() >> 8) & (SLOTS_MAX - 1))
    }

    /// Takes a slot that has rested, and a TEID for it that `is_taken` does not know.
    ///
    /// `None`: no slot is free at `now_ns`.
    pub fn allocate(
        &mut self,
        now_ns: u64,
        is_taken: impl Fn(Teid) -> bool,
    ) -> Option<(SessionSlot, Teid)> {
        let slot = self.next_slot(now_ns)?;
        if let Some(used) = self.used.get_mut(slot as usize) {
            *used = true;
        }
        // 256 generations, of which others may have taken a few: 4096 draws miss all free ones
        // with a probability below 10^-6 even if only one is free.
        for _ in 0..4096 {
            let teid = self.draw(slot);
            if teid.get() != 0 && !is_taken(teid) {
                return Some((SessionSlot::new(slot), teid));
            }
        }
        self.release(SessionSlot::new(slot), now_ns);
        None
    }

    /// Takes `slot` for a session that stands already; `false` when it is used or out of range.
    pub fn claim(&mut self, slot: SessionSlot) -> bool {
        match self.used.get_mut(slot.index()) {
            Some(used) if !*used => *used = true,
            _ => return false,
        }
        self.resting.retain(|(resting, _)| *resting != slot.get());
        // Slots below `fresh` that were never used wait in the queue without a rest.
        while self.fresh <= slot.get() {
            if self.fresh < slot.get() {
                self.resting.push_front((self.fresh, 0));
            }
            self.fresh = self.fresh.saturating_add(1);
        }
        true
    }

    /// Gives `slot` back at `now_ns`; it rests for [`TEID_REST_NS`].
    pub fn release(&mut self, slot: SessionSlot, now_ns: u64) {
        match self.used.get_mut(slot.index()) {
            Some(used) if *used => *used = false,
            _ => return,
        }
        let until = now_ns.saturating_add(TEID_REST_NS);
        self.resting.push_back((slot.get(), until));
    }

    fn next_slot(&mut self, now_ns: u64) -> Option<u32> {
        if (self.fresh as usize) < self.used.len() {
            let slot = self.fresh;
            self.fresh = self.fresh.saturating_add(1);
            return Some(slot);
        }
        match self.resting.front() {
            Some((slot, until)) if *until <= now_ns => {
                let slot = *slot;
                self.resting.pop_front();
                Some(slot)
            }
            _ => None,
        }
    }

    fn draw(&mut self, slot: u32) -> Teid {
        self.draws = self.draws.wrapping_add(1);
        let random = xxh3_64_with_seed(&self.draws.to_le_bytes(), self.secret);
        let [generation, ..] = random.to_le_bytes();
        Teid::new(u32::from(self.shard) << 28 | slot << 8 | u32::from(generation))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_freed_slot_rests_thirty_seconds() {
        let mut allocator = TeidAllocator::new(0, 1, 7);
        let (slot, _) = allocator.allocate(0, |_| false).unwrap();
        allocator.release(slot, 1_000);

        assert_eq!(allocator.allocate(TEID_REST_NS + 999, |_| false), None);
        assert!(
            allocator
                .allocate(TEID_REST_NS + 1_000, |_| false)
                .is_some()
        );
    }

    #[test]
    fn zero_is_never_given_out_and_no_teid_twice() {
        for secret in 0..600 {
            let mut allocator = TeidAllocator::new(0, 4, secret);
            let given: BTreeSet<u32> = (0..4)
                .map(|_| allocator.allocate(0, |_| false).unwrap().1.get())
                .collect();
            assert_eq!(given.len(), 4);
            assert!(!given.contains(&0));
        }
    }

    #[test]
    fn a_claimed_slot_is_not_given_out_and_the_others_are() {
        let mut allocator = TeidAllocator::new(3, 4, 1);
        assert!(allocator.claim(SessionSlot::new(2)));
        assert!(!allocator.claim(SessionSlot::new(2)));

        let given: BTreeSet<u32> = (0..3)
            .map(|_| allocator.allocate(0, |_| false).unwrap().0.get())
            .collect();

        assert_eq!(given, BTreeSet::from([0, 1, 3]));
        assert_eq!(allocator.allocate(0, |_| false), None);
    }

    #[test]
    fn the_slot_comes_back_out_of_the_teid() {
        let mut allocator = TeidAllocator::new(15, 300, 1);
        for _ in 0..300 {
            let (slot, teid) = allocator.allocate(0, |_| false).unwrap();
            assert_eq!(TeidAllocator::slot_of(teid), slot);
            assert_eq!(teid.get() >> 28, 15);
        }
    }
}
