//! Any of a session's usage rules, each once.

use super::list::UrrList;

/// A set of indexes into the usage states of a session, each below 64
/// ([`crate::SESSION_URRS_MAX`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UrrSet(u64);

impl UrrSet {
    /// Nothing.
    pub const EMPTY: Self = Self(0);

    /// With `index` as well; one that no session can have is left out.
    #[must_use]
    pub const fn with(self, index: usize) -> Self {
        match index {
            0..64 => Self(self.0 | 1 << index),
            _ => self,
        }
    }

    /// With those of `list` as well.
    #[must_use]
    pub fn with_list(self, list: &UrrList) -> Self {
        list.iter().fold(self, Self::with)
    }

    /// Whether `index` is in it.
    #[inline]
    #[must_use]
    pub const fn has(self, index: usize) -> bool {
        matches!(index, 0..64) && self.0 >> index & 1 == 1
    }

    /// The indexes in order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let index = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            Some(index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_each_index_once_and_in_order() {
        let mut list = UrrList::EMPTY;
        for index in [7, 0, 63] {
            assert!(list.push(index));
        }

        let set = UrrSet::EMPTY.with(9).with(7).with(64).with_list(&list);

        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 7, 9, 63]);
        assert!(set.has(63) && !set.has(8) && !set.has(64));
    }
}
