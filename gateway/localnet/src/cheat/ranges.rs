//! A set of stream positions, kept as ranges.
use std::collections::BTreeMap;

/// Disjoint ranges, start -> end (exclusive), with gaps between them.
#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds `start..end`.
    pub(super) fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut from, mut to) = (start, end);
        // Everything that touches the new range melts into it.
        while let Some((&low, &high)) = self.0.range(..=to).next_back() {
            if high < from {
                break;
            }
            from = from.min(low);
            to = to.max(high);
            self.0.remove(&low);
        }
        self.0.insert(from, to);
    }

    /// Whether `at` is in the set, and up to where (at most `stop`) that stays so.
    pub(super) fn run(&self, at: u64, stop: u64) -> (bool, u64) {
        match self.0.range(..=at).next_back() {
            Some((_, &high)) if high > at => (true, high.min(stop)),
            _ => {
                let next = self.0.range(at..stop).next();
                (false, next.map_or(stop, |(&low, _)| low))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_melt_and_runs_end_at_their_borders() {
        let mut set = Ranges::default();
        for (start, end) in [(10, 20), (30, 40), (20, 25), (5, 5), (39, 50), (0, 1)] {
            set.insert(start, end);
        }

        assert_eq!(set.0, BTreeMap::from([(0, 1), (10, 25), (30, 50)]));
        assert_eq!(set.run(10, 100), (true, 25));
        assert_eq!(set.run(12, 15), (true, 15));
        assert_eq!(set.run(25, 100), (false, 30));
        assert_eq!(set.run(50, 60), (false, 60));
        set.insert(0, 100);
        assert_eq!(set.0, BTreeMap::from([(0, 100)]));
    }
}
