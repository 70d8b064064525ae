//! Doubly linked lists over numbered items, so that items can be in a queue without memory of
//! their own being taken.

/// No item.
pub(crate) const NONE: u32 = u32::MAX;

/// One list of a [`Chain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct List {
    head: u32,
    tail: u32,
}

impl List {
    /// A list without items.
    pub(crate) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
    };

    /// The first item.
    #[inline]
    pub(crate) const fn first(&self) -> Option<u32> {
        item(self.head)
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

/// The links of all items; an item is in one list at most, which the caller knows.
#[derive(Debug, Clone)]
pub(crate) struct Chain(Box<[Link]>);

impl Chain {
    /// Links for the items `0..count`.
    pub(crate) fn new(count: usize) -> Self {
        let free = Link {
            before: NONE,
            after: NONE,
        };
        Self(vec![free; count].into_boxed_slice())
    }

    /// Adds an item that is in no list.
    #[inline]
    pub(crate) fn push_back(&mut self, list: &mut List, new: u32) {
        self.link(list.tail, new, list);
        self.link(new, NONE, list);
    }

    /// Takes an item out of its list.
    #[inline]
    pub(crate) fn remove(&mut self, list: &mut List, old: u32) {
        if let Some(link) = self.0.get(place(old)).copied() {
            self.link(link.before, link.after, list);
        }
    }

    /// Takes the first item out.
    #[inline]
    pub(crate) fn pop_front(&mut self, list: &mut List) -> Option<u32> {
        let first = list.first()?;
        self.remove(list, first);
        Some(first)
    }

    /// The item behind another one.
    #[inline]
    pub(crate) fn after(&self, current: u32) -> Option<u32> {
        self.0.get(place(current)).and_then(|link| item(link.after))
    }

    fn link(&mut self, before: u32, after: u32, list: &mut List) {
        match self.0.get_mut(place(before)) {
            Some(link) => link.after = after,
            None => list.head = after,
        }
        match self.0.get_mut(place(after)) {
            Some(link) => link.before = before,
            None => list.tail = before,
        }
    }
}

#[inline]
const fn item(number: u32) -> Option<u32> {
    if number == NONE { None } else { Some(number) }
}

/// The place of an item; of [`NONE`], a place that no slice has.
#[inline]
pub(crate) fn place(number: u32) -> usize {
    match item(number) {
        Some(number) => usize::try_from(number).unwrap_or(usize::MAX),
        None => usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_equal_queues(steps in prop::collection::vec((0..3_u8, 0..2_usize, 0..8_u32), 0..200)) {
            let (mut chain, mut lists) = (Chain::new(8), [List::EMPTY; 2]);
            let mut queues = [VecDeque::new(), VecDeque::new()];
            for (step, which, number) in steps {
                let held = queues.iter().position(|queue: &VecDeque<u32>| queue.contains(&number));
                match (step, held) {
                    (0, None) => {
                        chain.push_back(&mut lists[which], number);
                        queues[which].push_back(number);
                    }
                    (1, Some(at)) => {
                        chain.remove(&mut lists[at], number);
                        queues[at].retain(|other| *other != number);
                    }
                    (2, _) => prop_assert_eq!(
                        chain.pop_front(&mut lists[which]), queues[which].pop_front()
                    ),
                    _ => {}
                }
                for (list, queue) in lists.iter().zip(&queues) {
                    let walked: Vec<u32> =
                        std::iter::successors(list.first(), |at| chain.after(*at)).collect();
                    prop_assert!(walked.iter().eq(queue));
                }
            }
        }
    }
}
