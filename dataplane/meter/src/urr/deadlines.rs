//! When each session has to be looked at next: a heap of fixed size.

/// No entry.
const ABSENT: u32 = u32::MAX;

/// The earliest deadline of each of a fixed number of slots. Nothing is allocated after the start;
/// moving a deadline back costs a comparison, everything else a walk of at most log2(slots) steps.
///
/// A deadline may be earlier than needed: who looks at a session asks it for the next one anyway.
/// So the packet path only ever calls [`Self::at_latest`].
#[derive(Debug, Clone)]
pub struct Deadlines {
    /// A binary heap of (deadline, slot).
    heap: Vec<(u64, u32)>,
    /// For each slot its place in the heap.
    places: Box<[u32]>,
}

impl Deadlines {
    /// Room for `slots` slots: 20 bytes each.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self {
            heap: Vec::with_capacity(slots as usize),
            places: vec![ABSENT; slots as usize].into_boxed_slice(),
        }
    }

    /// Slots with a deadline.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no slot has a deadline.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest deadline.
    #[inline]
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Makes sure that `slot` comes up at `at_ns` at the latest; `None`: nothing to do.
    #[inline]
    pub fn at_latest(&mut self, slot: u32, at_ns: Option<u64>) {
        let Some(at_ns) = at_ns else {
            return;
        };
        let Some(place) = self.places.get(slot as usize).copied() else {
            return;
        };
        match self.heap.get_mut(place as usize) {
            Some((standing, _)) if *standing <= at_ns => {}
            Some((standing, _)) => {
                *standing = at_ns;
                self.rise(place as usize);
            }
            None => {
                self.heap.push((at_ns, slot));
                let last = self.heap.len().saturating_sub(1);
                self.put(last);
                self.rise(last);
            }
        }
    }

    /// Takes out a slot whose deadline is not behind `now_ns`.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<u32> {
        let (at, slot) = self.heap.first().copied()?;
        (at <= now_ns).then(|| {
            self.remove(slot);
            slot
        })
    }

    /// Takes out a slot.
    pub fn remove(&mut self, slot: u32) {
        let Some(place) = self.places.get_mut(slot as usize) else {
            return;
        };
        let at = std::mem::replace(place, ABSENT) as usize;
        if at >= self.heap.len() {
            return;
        }
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            self.put(at);
            self.rise(at);
            self.sink(at);
        }
    }

    /// Tells a slot its place in the heap.
    fn put(&mut self, at: usize) {
        if let Some((_, slot)) = self.heap.get(at).copied()
            && let Some(place) = self.places.get_mut(slot as usize)
        {
            *place = u32::try_from(at).unwrap_or(ABSENT);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.put(a);
        self.put(b);
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 {
            let parent = at.saturating_sub(1) >> 1;
            if self.heap.get(parent) <= self.heap.get(at) {
                return;
            }
            self.swap(at, parent);
            at = parent;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let left = at.saturating_mul(2).saturating_add(1);
            let children = left..left.saturating_add(2).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap.get(*child)) else {
                return;
            };
            if self.heap.get(at) <= self.heap.get(least) {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_come_up_as_in_a_sorted_map(
            steps in prop::collection::vec((0..4u8, 0..8u32, 0..50u64), 0..200),
        ) {
            let (mut heap, mut map) = (Deadlines::new(8), BTreeMap::<u32, u64>::new());
            for (step, slot, at) in steps {
                match step {
                    0 => {
                        heap.remove(slot);
                        map.remove(&slot);
                    }
                    1 => {
                        let first = map.iter().map(|(slot, at)| (*at, *slot)).min();
                        let due = first.filter(|(first, _)| *first <= at).map(|(_, slot)| slot);
                        let popped = heap.pop_due(at);
                        prop_assert_eq!(popped.is_some(), due.is_some());
                        if let Some(slot) = popped {
                            prop_assert_eq!(map.remove(&slot), first.map(|(at, _)| at));
                        }
                    }
                    _ => {
                        heap.at_latest(slot, Some(at));
                        let standing = map.entry(slot).or_insert(at);
                        *standing = at.min(*standing);
                    }
                }
                prop_assert_eq!(heap.next(), map.values().min().copied());
                prop_assert_eq!(heap.len(), map.len());
            }
        }
    }
}
