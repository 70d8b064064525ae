//! Rows of words that are always whole: two slots and a guard.
//!
//! ```text
//! guard | slot 0 | slot 1        slot (guard & 1) is the state, the other one is being prepared
//! ```
//!
//! The single writer prepares the other slot and then raises the guard by one: that store is the
//! change, before it everything is old, after it everything is new. A reader copies the slot that
//! the guard names and looks at the guard again; it tries again when the guard has moved.
//!
//! What changes rarely has one slot, and a guard that is odd while it changes ([`Sealed`]).

use crate::sync::{AtomicU64, Ordering, fence};

/// How often a reader tries before it gives up (chosen: a writer commits a row at most some
/// million times a second, a copy takes less than a microsecond).
const TRIES: usize = if cfg!(loom) { 2 } else { 10_000 };

/// Where a guarded row of `len` words per slot begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Place of the guard.
    pub(crate) at: usize,
    /// Words of one slot.
    pub(crate) len: usize,
}

impl Row {
    /// Words of a row with slots of `len` words.
    pub(crate) const fn words(len: usize) -> usize {
        len.saturating_mul(2).saturating_add(1)
    }

    #[inline]
    pub(crate) fn guard(self, words: &[AtomicU64]) -> u64 {
        load(words, self.at)
    }

    /// The slot that a guard value names.
    #[inline]
    fn slot(self, words: &[AtomicU64], guard: u64) -> &[AtomicU64] {
        let skip = if guard & 1 == 0 { 0 } else { self.len };
        let start = self.at.saturating_add(1).saturating_add(skip);
        words
            .get(start..start.saturating_add(self.len))
            .unwrap_or_default()
    }

    /// The slot to prepare. The fence keeps what is written there behind the last change, for the
    /// reader's fence in [`Self::read`].
    #[inline]
    pub(crate) fn stage(self, words: &[AtomicU64]) -> StageSink<'_> {
        fence(Ordering::Release);
        StageSink {
            slot: self.slot(words, self.guard(words).wrapping_add(1)),
            used: 0,
        }
    }

    /// What stands in a row of `N` words, for its only writer; zeros where there is no such row.
    #[inline]
    pub(crate) fn standing<const N: usize>(self, words: &[AtomicU64]) -> [u64; N] {
        match self.whole(words) {
            Some(row) => row.slots(row.guard.load(Ordering::Relaxed)).0,
            None => [0; N],
        }
    }

    /// Prepares what follows on what stands, as [`Self::stage`]; nothing happens where there is no
    /// row of `N` words.
    #[inline]
    pub(crate) fn prepare<const N: usize>(
        self,
        words: &[AtomicU64],
        next: impl FnOnce([u64; N]) -> [u64; N],
    ) {
        if let Some(row) = self.whole(words) {
            row.prepare(next);
        }
    }

    /// Changes what stands.
    #[inline]
    pub(crate) fn change<const N: usize>(
        self,
        words: &[AtomicU64],
        next: impl FnOnce([u64; N]) -> [u64; N],
    ) {
        if let Some(row) = self.whole(words) {
            row.change(next);
        }
    }

    #[inline]
    fn whole<const N: usize>(self, words: &[AtomicU64]) -> Option<Whole<'_, N>> {
        Whole::first_of(words.get(self.at..)?)
    }

    /// Makes the prepared slot the state.
    #[inline]
    pub(crate) fn flip(self, words: &[AtomicU64]) {
        let next = self.guard(words).wrapping_add(1);
        store(words, self.at, next);
    }

    /// Copies the state to `out`; `None` when the writer changes it faster than it can be read.
    pub(crate) fn read(self, words: &[AtomicU64], out: &mut [u64]) -> Option<()> {
        let guard = words.get(self.at)?;
        for _ in 0..TRIES {
            // Pairs with the Release store of `flip`.
            let before = guard.load(Ordering::Acquire);
            for (to, from) in out.iter_mut().zip(self.slot(words, before)) {
                *to = from.load(Ordering::Relaxed);
            }
            // Pairs with the Release fence of `stage`.
            fence(Ordering::Acquire);
            if guard.load(Ordering::Relaxed) == before {
                return Some(());
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// A row of one slot of `len` words behind a guard at `at`; readers wait while it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Place of the guard.
    pub(crate) at: usize,
    /// Words of the slot.
    pub(crate) len: usize,
}

impl Sealed {
    /// Replaces the slot by `content`, filled up with zeros.
    pub(crate) fn write(self, words: &[AtomicU64], content: &[u64]) {
        let guard = load(words, self.at) | 1;
        store(words, self.at, guard);
        // Whoever sees a word of the new slot sees the guard odd: for the fence in `read`.
        fence(Ordering::Release);
        let padded = content.iter().chain(std::iter::repeat(&0)).take(self.len);
        for (place, word) in (self.at.saturating_add(1)..).zip(padded) {
            if let Some(place) = words.get(place) {
                write_word(place, *word, Ordering::Relaxed);
            }
        }
        store(words, self.at, guard.wrapping_add(1));
    }

    /// Copies the slot to `out`; `None` when it is changing all the time, or was left half
    /// changed by a writer that died.
    pub(crate) fn read(self, words: &[AtomicU64], out: &mut [u64]) -> Option<()> {
        let guard = words.get(self.at)?;
        for _ in 0..TRIES {
            // Pairs with the Release store that ends `write`.
            let before = guard.load(Ordering::Acquire);
            for (to, place) in out.iter_mut().zip(self.at.saturating_add(1)..) {
                *to = load(words, place);
            }
            // Pairs with the Release fence of `write`.
            fence(Ordering::Acquire);
            if before & 1 == 0 && guard.load(Ordering::Relaxed) == before {
                return Some(());
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// A row in memory.
pub(crate) struct Whole<'a, const N: usize> {
    guard: &'a AtomicU64,
    slots: &'a [[AtomicU64; N]; 2],
}

impl<'a, const N: usize> Whole<'a, N> {
    /// Guard and slots of the row that `words` begin with, in one look, so that no word is looked
    /// up on its own.
    #[inline(always)]
    pub(crate) fn first_of(words: &'a [AtomicU64]) -> Option<Self> {
        let (guard, slots) = words.split_first()?;
        let slots = slots.as_chunks::<N>().0.first_chunk()?;
        Some(Self { guard, slots })
    }

    /// Prepares what follows on what stands; the guard's next value.
    #[inline(always)]
    fn prepare(&self, next: impl FnOnce([u64; N]) -> [u64; N]) -> u64 {
        let guard = self.guard.load(Ordering::Relaxed);
        let (standing, places) = self.slots(guard);
        let following = next(standing);
        // As in `Row::stage`: what is written now stays behind the last change.
        fence(Ordering::Release);
        for (place, word) in places.iter().zip(following) {
            write_word(place, word, Ordering::Relaxed);
        }
        guard.wrapping_add(1)
    }

    /// Changes what stands.
    #[inline(always)]
    pub(crate) fn change(&self, next: impl FnOnce([u64; N]) -> [u64; N]) {
        let guard = self.prepare(next);
        write_word(self.guard, guard, Ordering::Release);
    }

    /// What stands, and where the next state goes.
    #[inline(always)]
    fn slots(&self, guard: u64) -> ([u64; N], &'a [AtomicU64; N]) {
        // Which of two it is differs from row to row: a branch would be guessed wrong half the
        // time, so it is an index (a choice between two references becomes a branch again).
        let [even, odd] = self.slots;
        let at = usize::from(guard & 1 == 1);
        let standing = self.slots.get(at).unwrap_or(even);
        let next = self.slots.get(1 - at).unwrap_or(odd);
        let words = std::array::from_fn(|at| {
            let word = standing.get(at);
            word.map_or(0, |word| word.load(Ordering::Relaxed))
        });
        (words, next)
    }
}

/// Takes the words of a slot in order; words beyond its room are counted but not kept.
#[derive(Debug)]
pub struct StageSink<'a> {
    slot: &'a [AtomicU64],
    used: usize,
}

impl StageSink<'_> {
    /// Writes the next words; cheaper than one by one.
    #[inline]
    pub fn put_all<const N: usize>(&mut self, next: [u64; N]) {
        let end = self.used.saturating_add(N);
        let places = self.slot.get(self.used..end).unwrap_or_default();
        for (place, word) in places.iter().zip(next) {
            write_word(place, word, Ordering::Relaxed);
        }
        self.used = end;
    }

    /// Writes the next word.
    #[inline]
    pub fn put(&mut self, word: u64) {
        if let Some(place) = self.slot.get(self.used) {
            write_word(place, word, Ordering::Relaxed);
        }
        self.used = self.used.saturating_add(1);
    }

    /// Whether every word found room.
    #[inline]
    pub(crate) const fn fits(&self) -> bool {
        self.used <= self.slot.len()
    }
}

#[inline]
pub(crate) fn load(words: &[AtomicU64], at: usize) -> u64 {
    words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
}

/// Stores with Release: behind everything written before.
#[inline]
pub(crate) fn store(words: &[AtomicU64], at: usize, value: u64) {
    if let Some(word) = words.get(at) {
        write_word(word, value, Ordering::Release);
    }
}

/// Writes who has the place at `at`, behind the state that it begins with. The first word says
/// whether a place is open, so it goes last.
pub(crate) fn open_place(words: &[AtomicU64], at: usize, identity: &[u64]) {
    let Some((open, rest)) = identity.split_first() else {
        return;
    };
    for (place, word) in (at.saturating_add(1)..).zip(rest) {
        store(words, place, *word);
    }
    store(words, at, *open);
}

/// Reads who has the place at `at`. A row that was read between two equal answers is theirs: a
/// place is closed before its row is made ready for the next one.
pub(crate) fn read_identity(words: &[AtomicU64], at: usize, out: &mut [u64]) {
    let places = words.get(at..).unwrap_or_default();
    for (to, word) in out.iter_mut().zip(places) {
        // Pairs with the Release store that opens the place.
        *to = word.load(Ordering::Acquire);
    }
}

/// Adds to a counter that has one writer: a load and a store, no locked instruction.
#[inline]
pub(crate) fn add(words: &[AtomicU64], at: usize, by: u64) {
    if let Some(word) = words.get(at) {
        let sum = word.load(Ordering::Relaxed).wrapping_add(by);
        write_word(word, sum, Ordering::Relaxed);
    }
}

/// Every store to an arena passes here, so that tests can end a writer's life between any two.
#[inline]
pub(crate) fn write_word(word: &AtomicU64, value: u64, order: Ordering) {
    #[cfg(test)]
    if !death::may_store() {
        return;
    }
    word.store(value, order);
}

/// A writer that dies after a number of stores.
#[cfg(test)]
pub(crate) mod death {
    use std::cell::Cell;

    thread_local! {
        static STORES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    /// From now on this thread has `stores` stores to live; `u64::MAX`: for ever.
    pub(crate) fn after(stores: u64) {
        STORES_LEFT.set(stores);
    }

    pub(super) fn may_store() -> bool {
        let left = STORES_LEFT.get();
        if left != u64::MAX {
            STORES_LEFT.set(left.saturating_sub(1));
        }
        left > 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_prepared_slot_is_invisible_until_the_flip() {
        let words: Vec<AtomicU64> = (0..5).map(|_| AtomicU64::new(0)).collect();
        let row = Row { at: 0, len: 2 };
        let mut out = [0; 2];

        let mut stage = row.stage(&words);
        stage.put(7);
        stage.put(8);
        row.read(&words, &mut out).unwrap();
        assert_eq!(out, [0, 0]);

        row.flip(&words);
        row.read(&words, &mut out).unwrap();
        assert_eq!(out, [7, 8]);
    }

    /// A writer counts all words of a row up together; every copy must be of one moment.
    #[test]
    fn a_reader_never_sees_half_of_a_change() {
        let words: Arc<[AtomicU64]> = (0..33).map(|_| AtomicU64::new(0)).collect();
        let row = Row { at: 0, len: 16 };
        let stop = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (words, stop) = (Arc::clone(&words), Arc::clone(&stop));
            move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    count += 1;
                    let mut stage = row.stage(&words);
                    (0..16).for_each(|_| stage.put(count));
                    row.flip(&words);
                }
            }
        });

        let mut copies = 0;
        for _ in 0..200_000 {
            let mut out = [0; 16];
            if row.read(&words, &mut out).is_some() {
                copies += 1;
                assert!(out.iter().all(|word| *word == out[0]), "{out:?}");
            }
        }

        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        assert!(copies > 0);
    }
}
