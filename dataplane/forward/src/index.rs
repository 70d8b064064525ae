//! A hash index over numbered places whose keys live in those places.

use std::net::IpAddr;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::chain::{NONE, place};

/// Hash of a key's bytes under a secret, so that nobody outside can choose keys that collide.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "any 32 bits of the hash are as good as the others"
)]
pub(crate) fn tag_of(bytes: &[u8], secret: u64) -> u32 {
    xxh3_64_with_seed(bytes, secret) as u32
}

/// Sixteen bytes that name an address of either family.
#[inline]
pub(crate) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The key's hash: tells most strangers apart without a look at their keys, and says where an
    /// entry belongs when a gap is closed.
    tag: u32,
    number: u32,
}

const VACANT: Entry = Entry {
    tag: 0,
    number: NONE,
};

/// Finds places by the hash of their key: open addressing, linear probing, at most half full.
#[derive(Debug, Clone)]
pub(crate) struct PlaceIndex {
    entries: Box<[Entry]>,
    mask: usize,
}

impl PlaceIndex {
    /// An index for `limit` places; the caller never inserts more.
    pub(crate) fn new(limit: u32) -> Self {
        let places = place(limit).clamp(1, 1 << 30).saturating_mul(2);
        let places = places.next_power_of_two();
        Self {
            entries: vec![VACANT; places].into_boxed_slice(),
            mask: places.saturating_sub(1),
        }
    }

    /// The number whose key has this hash and of which `is` says that the key is the one.
    #[inline]
    pub(crate) fn find(&self, tag: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(tag);
        loop {
            let entry = self.entries.get(at)?;
            if entry.number == NONE {
                return None;
            }
            if entry.tag == tag && is(entry.number) {
                return Some(entry.number);
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    /// Adds a number whose key is not in the index.
    #[inline]
    pub(crate) fn insert(&mut self, tag: u32, number: u32) {
        let mut at = self.home(tag);
        while let Some(entry) = self.entries.get_mut(at) {
            if entry.number == NONE {
                *entry = Entry { tag, number };
                return;
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    /// Takes a number out.
    #[inline]
    pub(crate) fn remove(&mut self, tag: u32, number: u32) {
        let mut at = self.home(tag);
        while let Some(entry) = self.entries.get(at) {
            if entry.number == number {
                self.close_gap(at);
                return;
            }
            if entry.number == NONE {
                return;
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    /// Moves later entries of the run back, so that no run has a hole.
    fn close_gap(&mut self, mut gap: usize) {
        let mut at = gap;
        loop {
            at = at.wrapping_add(1) & self.mask;
            let entry = self.entries.get(at).copied().unwrap_or(VACANT);
            let next = if entry.number == NONE {
                VACANT
            } else if at.wrapping_sub(self.home(entry.tag)) & self.mask
                >= at.wrapping_sub(gap) & self.mask
            {
                entry
            } else {
                continue;
            };
            if let Some(to) = self.entries.get_mut(gap) {
                *to = next;
            }
            if next.number == NONE {
                return;
            }
            gap = at;
        }
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        place(tag) & self.mask
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        // Few hashes for many keys, so that runs are long and wrap.
        #[test]
        fn an_index_equals_a_map(
            steps in prop::collection::vec((any::<bool>(), 0..16_u32), 0..300), spread in 1..9_u32,
        ) {
            let (mut index, mut map) = (PlaceIndex::new(16), BTreeMap::new());
            let tag = |key: u32| u32::MAX - key % spread;
            for (insert, key) in steps {
                if !insert {
                    index.remove(tag(key), key);
                    map.remove(&key);
                } else if map.insert(key, key).is_none() {
                    index.insert(tag(key), key);
                }
                for key in 0..16 {
                    let found = index.find(tag(key), |number| number == key);
                    prop_assert_eq!(found, map.get(&key).copied());
                }
            }
        }
    }
}
