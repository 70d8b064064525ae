//! Short lists of indexes that are copied with their rule.

/// Most usage rules of one detection rule (chosen: session, service and content level, for online
/// and offline charging, with two to spare).
pub const PDR_URRS_MAX: usize = 8;

/// Most `QoS` rules of one detection rule (chosen: session, flow, and slice level with one to spare).
pub const PDR_QERS_MAX: usize = 4;

/// Indexes into the usage states of the session.
pub type UrrList = IndexList<PDR_URRS_MAX>;

/// Indexes into the `QoS` states of the session.
pub type QerList = IndexList<PDR_QERS_MAX>;

/// Up to `N` indexes, each below 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IndexList<const N: usize> {
    items: [u8; N],
    len: u8,
}

impl<const N: usize> IndexList<N> {
    /// The empty list.
    pub const EMPTY: Self = Self {
        items: [0; N],
        len: 0,
    };

    /// Appends an index that is not in the list yet; `false` when there is no room for it.
    #[must_use]
    pub fn push(&mut self, index: u8) -> bool {
        if self.iter().any(|known| known == usize::from(index)) {
            return true;
        }
        let Some(place) = self.items.get_mut(usize::from(self.len)) else {
            return false;
        };
        *place = index;
        self.len = self.len.saturating_add(1);
        true
    }

    /// The indexes in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let items = self.items.get(..usize::from(self.len)).unwrap_or_default();
        items.iter().map(|index| usize::from(*index))
    }

    /// How many.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether nothing is in it.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for IndexList<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}
