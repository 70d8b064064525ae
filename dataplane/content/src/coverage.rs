//! Sets of positions as few sorted intervals in a fixed array.
//!
//! Invariant: members are sorted, not empty, and separated by at least one position.

use crate::words::{WordSink, WordSource, WordsError};

/// Positions `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// First position inside.
    pub start: u64,
    /// First position behind.
    pub end: u64,
}

impl Range {
    /// `start..end`.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// Number of positions; 0 when `end` is not behind `start`.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no position inside.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end <= self.start
    }
}

/// An insertion or subtraction would need more intervals than the set has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the set would need more than {capacity} ranges")]
pub struct Full {
    /// Room of the set.
    pub capacity: usize,
}

/// A set of at most `N` disjoint intervals over u64; never allocates.
#[derive(Debug, Clone, Copy)]
pub struct Ranges<const N: usize> {
    len: usize,
    items: [Range; N],
}

impl<const N: usize> PartialEq for Ranges<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<const N: usize> Eq for Ranges<N> {}

impl<const N: usize> Default for Ranges<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Ranges<N> {
    /// Words of the largest encoding.
    pub const WORDS: usize = 1 + 2 * N;

    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            len: 0,
            items: [Range { start: 0, end: 0 }; N],
        }
    }

    /// The intervals in order.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[Range] {
        self.items.get(..self.len).unwrap_or_default()
    }

    /// The interval with the smallest positions.
    #[must_use]
    #[inline]
    pub fn first(&self) -> Option<Range> {
        self.as_slice().first().copied()
    }

    /// The interval with the largest positions.
    #[must_use]
    #[inline]
    pub fn last(&self) -> Option<Range> {
        self.as_slice().last().copied()
    }

    /// Number of positions in the set.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.as_slice()
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// The members touched or overlapped by `range`, as indices `from..to`.
    fn touched(&self, range: Range) -> (usize, usize) {
        let items = self.as_slice();
        let from = items.partition_point(|item| item.end < range.start);
        let to = items.partition_point(|item| item.start <= range.end);
        (from, to.max(from))
    }

    /// Whether [`Self::insert`] of `start..end` would succeed.
    #[must_use]
    #[inline]
    pub fn insert_would_fit(&self, start: u64, end: u64) -> bool {
        let (from, to) = self.touched(Range::new(start, end));
        self.len < N || from < to || end <= start
    }

    /// Adds `start..end`; the number of positions that were not in the set before.
    ///
    /// # Errors
    ///
    /// [`Full`] when one interval more than `N` would be needed; the set is unchanged.
    #[inline]
    pub fn insert(&mut self, start: u64, end: u64) -> Result<u64, Full> {
        // The common case: the interval continues the last one.
        if let Some(last) = self.len.checked_sub(1).and_then(|i| self.items.get_mut(i))
            && last.end == start
            && end > start
        {
            last.end = end;
            return Ok(end.saturating_sub(start));
        }
        self.insert_anywhere(Range::new(start, end))
    }

    fn insert_anywhere(&mut self, range: Range) -> Result<u64, Full> {
        if range.is_empty() {
            return Ok(0);
        }
        let (from, to) = self.touched(range);
        if from == to {
            if self.len >= N {
                return Err(Full { capacity: N });
            }
            self.items
                .copy_within(from..self.len, from.saturating_add(1));
            self.put(from, range);
            self.len = self.len.saturating_add(1);
            return Ok(range.len());
        }
        let known = self.covered_in(range.start, range.end);
        let merged = self
            .as_slice()
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .fold(range, |sum, item| {
                Range::new(sum.start.min(item.start), sum.end.max(item.end))
            });
        self.put(from, merged);
        self.close_hole(from.saturating_add(1), to);
        Ok(range.len().saturating_sub(known))
    }

    /// Adds `start..end`, covering foreign positions between intervals rather than refusing: for
    /// sets in which a position too many is the safe side.
    pub fn insert_coarse(&mut self, start: u64, end: u64) {
        if self.insert(start, end).is_ok() {
            return;
        }
        let range = Range::new(start, end);
        let items = self.as_slice();
        let behind = items.partition_point(|item| item.end < start);
        let index = behind.min(items.len().saturating_sub(1));
        if let Some(near) = items.get(index).copied() {
            let wide = Range::new(near.start.min(range.start), near.end.max(range.end));
            // Touches a member, so it needs no further interval.
            let _ = self.insert(wide.start, wide.end);
        }
    }

    /// Number of positions of `start..end` in the set.
    #[must_use]
    pub fn covered_in(&self, start: u64, end: u64) -> u64 {
        let items = self.as_slice();
        let from = items.partition_point(|item| item.end <= start);
        items
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|item| item.start < end)
            .fold(0, |sum, item| {
                let cut = Range::new(item.start.max(start), item.end.min(end));
                sum.saturating_add(cut.len())
            })
    }

    /// Whether `at` is in the set, and up to where (at most `limit`) that stays so.
    #[must_use]
    #[inline]
    pub fn run(&self, at: u64, limit: u64) -> (bool, u64) {
        let items = self.as_slice();
        let index = items.partition_point(|item| item.end <= at);
        match items.get(index) {
            Some(item) if item.start <= at => (true, item.end.min(limit)),
            Some(item) => (false, item.start.min(limit)),
            None => (false, limit),
        }
    }

    /// The first interval of `start..end` that is not in the set.
    #[must_use]
    #[inline]
    pub fn next_gap(&self, start: u64, end: u64) -> Option<Range> {
        let mut at = start;
        while at < end {
            let (inside, until) = self.run(at, end);
            if !inside {
                return Some(Range::new(at, until));
            }
            at = until;
        }
        None
    }

    /// The intervals of `start..end` that are not in the set, in order.
    pub fn gaps(&self, start: u64, end: u64) -> impl Iterator<Item = Range> + '_ {
        let mut at = start;
        std::iter::from_fn(move || {
            let gap = self.next_gap(at, end)?;
            at = gap.end;
            Some(gap)
        })
    }

    /// Takes `start..end` out of the set.
    ///
    /// # Errors
    ///
    /// [`Full`] when that cuts an interval in two and there is no room; the set is unchanged.
    pub fn subtract(&mut self, start: u64, end: u64) -> Result<(), Full> {
        if end <= start {
            return Ok(());
        }
        let items = self.as_slice();
        let from = items.partition_point(|item| item.end <= start);
        let to = items.partition_point(|item| item.start < end).max(from);
        let (Some(first), Some(last)) = (
            items.get(from).copied().filter(|_| from < to),
            to.checked_sub(1).and_then(|i| items.get(i)).copied(),
        ) else {
            return Ok(());
        };
        let left = Range::new(first.start, start);
        let right = Range::new(end, last.end);
        if !left.is_empty() && !right.is_empty() && to == from.saturating_add(1) {
            if self.len >= N {
                return Err(Full { capacity: N });
            }
            self.items
                .copy_within(from..self.len, from.saturating_add(1));
            self.len = self.len.saturating_add(1);
            self.put(from, left);
            self.put(from.saturating_add(1), right);
            return Ok(());
        }
        let mut keep = from;
        for rest in [left, right] {
            if !rest.is_empty() {
                self.put(keep, rest);
                keep = keep.saturating_add(1);
            }
        }
        self.close_hole(keep, to);
        Ok(())
    }

    /// Takes everything below `at` out of the set.
    #[inline]
    pub fn remove_below(&mut self, at: u64) {
        match self.items.first_mut() {
            Some(first) if self.len > 0 && first.end > at => {
                // Nothing but the first interval can reach below.
                first.start = first.start.max(at);
                return;
            }
            _ => {}
        }
        let gone = self.as_slice().partition_point(|item| item.end <= at);
        self.close_hole(0, gone);
        if let Some(first) = self.items.first_mut() {
            first.start = first.start.max(at.min(first.end));
        }
    }

    fn put(&mut self, index: usize, range: Range) {
        if let Some(place) = self.items.get_mut(index) {
            *place = range;
        }
    }

    /// Removes the members `from..to`.
    fn close_hole(&mut self, from: usize, to: usize) {
        if from >= to || to > self.len {
            return;
        }
        self.items.copy_within(to..self.len, from);
        self.len = self.len.saturating_sub(to.saturating_sub(from));
    }

    /// Writes the set.
    pub fn encode(&self, sink: &mut impl WordSink) {
        sink.put(self.len as u64);
        for range in self.as_slice() {
            sink.put(range.start);
            sink.put(range.end);
        }
    }

    pub(crate) fn decode(source: &mut WordSource<'_>) -> Result<Self, WordsError> {
        let mut set = Self::new();
        let len = source.take_at_most("ranges", N)?;
        let mut floor = 0;
        for index in 0..len {
            let range = Range::new(source.take()?, source.take()?);
            if range.is_empty() || (index > 0 && range.start <= floor) {
                let value = range.start;
                return Err(WordsError::Value {
                    field: "range",
                    value,
                });
            }
            floor = range.end;
            set.put(index, range);
        }
        set.len = len;
        Ok(set)
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPAN: u64 = 96;

    #[derive(Debug, Clone, Copy)]
    enum Change {
        Insert(u64, u64),
        Coarse(u64, u64),
        Subtract(u64, u64),
        Below(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        let pair = (0..SPAN, 0..12_u64).prop_map(|(at, len)| (at, (at + len).min(SPAN)));
        prop_oneof![
            6 => pair.clone().prop_map(|(a, b)| Change::Insert(a, b)),
            1 => pair.clone().prop_map(|(a, b)| Change::Coarse(a, b)),
            3 => pair.prop_map(|(a, b)| Change::Subtract(a, b)),
            1 => (0..SPAN).prop_map(Change::Below),
        ]
    }

    fn bitmap<const N: usize>(set: &Ranges<N>) -> Vec<bool> {
        (0..SPAN).map(|at| set.run(at, SPAN).0).collect()
    }

    fn islands(bits: &[bool]) -> usize {
        let starts = bits
            .iter()
            .enumerate()
            .filter(|&(i, &b)| b && (i == 0 || !bits[i - 1]));
        starts.count()
    }

    proptest! {
        #[test]
        fn a_set_of_ranges_equals_a_bitmap(changes in proptest::collection::vec(change(), 0..80)) {
            let mut set = Ranges::<5>::new();
            let mut bits = vec![false; SPAN as usize];
            for step in changes {
                let mut wanted = bits.clone();
                match step {
                    Change::Insert(a, b) => {
                        let fresh = (a..b).filter(|&i| !bits[i as usize]).count() as u64;
                        wanted[a as usize..b as usize].fill(true);
                        let fits = islands(&wanted) <= 5;
                        prop_assert_eq!(set.insert_would_fit(a, b), fits);
                        prop_assert_eq!(set.insert(a, b).ok(), fits.then_some(fresh));
                        if !fits { wanted = bits; }
                    }
                    Change::Coarse(a, b) => {
                        set.insert_coarse(a, b);
                        prop_assert_eq!(set.covered_in(a, b), b - a);
                        let now = bitmap(&set);
                        prop_assert!(bits.iter().zip(&now).all(|(was, is)| !was || *is));
                        wanted = now;
                    }
                    Change::Subtract(a, b) => {
                        wanted[a as usize..b as usize].fill(false);
                        let fits = islands(&wanted) <= 5;
                        prop_assert_eq!(set.subtract(a, b).is_ok(), fits);
                        if !fits { wanted = bits; }
                    }
                    Change::Below(at) => {
                        wanted[..at as usize].fill(false);
                        set.remove_below(at);
                    }
                }
                bits = wanted;
                prop_assert_eq!(&bitmap(&set), &bits);
                prop_assert_eq!(set.as_slice().len(), islands(&bits));
                prop_assert_eq!(set.total(), bits.iter().filter(|b| **b).count() as u64);
                let missing: u64 = set.gaps(3, 90).map(Range::len).sum();
                prop_assert_eq!(missing + set.covered_in(3, 90), 87);
                let mut words = [0; Ranges::<5>::WORDS];
                let used = crate::words::fill(&mut words, |put| set.encode(put)).unwrap();
                let again = Ranges::<5>::decode(&mut WordSource::new(&words[..used])).unwrap();
                prop_assert_eq!(again.as_slice(), set.as_slice());
            }
        }
    }

    #[test]
    fn the_33rd_range_is_refused_and_changes_nothing() {
        let mut set = Ranges::<32>::new();
        for i in 0..32 {
            set.insert(i * 10, i * 10 + 1).unwrap();
        }
        let before = set;

        assert_eq!(set.insert(1_000, 1_001), Err(Full { capacity: 32 }));
        assert_eq!(set, before);
    }

    #[test]
    fn overlapping_ranges_are_not_decoded() {
        let words = [2, 0, 10, 5, 12];

        let got = Ranges::<4>::decode(&mut WordSource::new(&words));

        assert!(got.is_err());
    }
}
