//! A hash index of fixed capacity: open addressing, linear probing, keyed hash, prefetch.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;

use qlink_io::huge;
use qlink_kernel::prefetch_slice;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A random number that is the same during the life of a caller's tables and unknown outside, so
/// that nobody can choose keys that collide.
#[must_use]
pub fn process_secret() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A key of a [`KeyedIndex`].
pub trait TableKey: Copy + Eq {
    /// Fills the unused places of a table; never looked up.
    const EMPTY: Self;

    /// Hash under `secret`; every bit counts.
    fn hash(&self, secret: u64) -> u64;
}

impl TableKey for u32 {
    const EMPTY: Self = 0;

    #[inline]
    fn hash(&self, secret: u64) -> u64 {
        xxh3_64_with_seed(&self.to_le_bytes(), secret)
    }
}

impl TableKey for IpAddr {
    const EMPTY: Self = Self::V4(std::net::Ipv4Addr::UNSPECIFIED);

    #[inline]
    fn hash(&self, secret: u64) -> u64 {
        match self {
            Self::V4(address) => xxh3_64_with_seed(&address.octets(), secret),
            Self::V6(address) => xxh3_64_with_seed(&address.octets(), secret),
        }
    }
}

/// Outer destination and TEID: names a tunnel of somebody else.
impl TableKey for (IpAddr, u32) {
    const EMPTY: Self = (IpAddr::EMPTY, 0);

    #[inline]
    fn hash(&self, secret: u64) -> u64 {
        let mut bytes = [0; 20];
        let (address, teid) = bytes.split_at_mut(16);
        match self.0 {
            IpAddr::V4(v4) => address
                .iter_mut()
                .zip(v4.octets())
                .for_each(|(to, from)| *to = from),
            IpAddr::V6(v6) => address.copy_from_slice(&v6.octets()),
        }
        teid.copy_from_slice(&self.1.to_le_bytes());
        xxh3_64_with_seed(&bytes, secret)
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry<K> {
    key: K,
    /// [`VACANT`] or the value.
    value: u32,
}

const VACANT: u32 = u32::MAX;

/// Maps keys to 32-bit values below `u32::MAX`; at most half of its places are ever used.
#[derive(Debug, Clone)]
pub struct KeyedIndex<K> {
    entries: Box<[Entry<K>]>,
    mask: usize,
    len: usize,
    limit: usize,
    secret: u64,
}

impl<K: TableKey> KeyedIndex<K> {
    /// Room for `limit` keys (at least 1), hashed under `secret`. Allocates once, here.
    #[must_use]
    pub fn new(limit: usize, secret: u64) -> Self {
        let limit = limit.clamp(1, 1 << 30);
        let places = limit.saturating_mul(2).next_power_of_two();
        let vacant = Entry {
            key: K::EMPTY,
            value: VACANT,
        };
        Self {
            entries: huge::table(places, |_| vacant),
            mask: places.saturating_sub(1),
            len: 0,
            limit,
            secret,
        }
    }

    /// Keys in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no key is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The hash to be used with [`Self::prefetch`] and [`Self::get_hashed`].
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &K) -> u64 {
        key.hash(self.secret)
    }

    /// Starts loading the place of a hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch_slice(&self.entries, self.home(hash));
    }

    /// Value of `key`.
    #[inline]
    #[must_use]
    pub fn get(&self, key: &K) -> Option<u32> {
        self.get_hashed(self.hash(key), key)
    }

    /// Value of `key` whose hash is known.
    #[inline]
    #[must_use]
    pub fn get_hashed(&self, hash: u64, key: &K) -> Option<u32> {
        self.find(hash, key).ok().map(|(_, value)| value)
    }

    /// Sets the value of `key`; `false`, and nothing changes, when the index is full or `value`
    /// is `u32::MAX`.
    pub fn insert(&mut self, key: K, value: u32) -> bool {
        if value == VACANT {
            return false;
        }
        let place = match self.find(self.hash(&key), &key) {
            Ok((place, _)) => place,
            Err(_) if self.len >= self.limit => return false,
            Err(place) => {
                self.len = self.len.saturating_add(1);
                place
            }
        };
        if let Some(entry) = self.entries.get_mut(place) {
            *entry = Entry { key, value };
        }
        true
    }

    /// Takes `key` out; its value.
    pub fn remove(&mut self, key: &K) -> Option<u32> {
        let (place, value) = self.find(self.hash(key), key).ok()?;
        self.len = self.len.saturating_sub(1);
        self.close_gap(place);
        Some(value)
    }

    /// Moves later members of the probe chain back, so that no chain has a hole.
    fn close_gap(&mut self, mut gap: usize) {
        let mut place = gap;
        loop {
            place = place.wrapping_add(1) & self.mask;
            let Some(entry) = self.entries.get(place).copied() else {
                return;
            };
            if entry.value == VACANT {
                break;
            }
            let home = self.home(self.hash(&entry.key));
            let distance = place.wrapping_sub(home) & self.mask;
            if distance >= place.wrapping_sub(gap) & self.mask {
                if let Some(to) = self.entries.get_mut(gap) {
                    *to = entry;
                }
                gap = place;
            }
        }
        if let Some(entry) = self.entries.get_mut(gap) {
            entry.value = VACANT;
        }
    }

    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the low bits of a hash choose the place"
    )]
    const fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    /// Place and value of `key`, or the vacant place where it would go. Ends because at most half
    /// of the places are used.
    #[inline]
    fn find(&self, hash: u64, key: &K) -> Result<(usize, u32), usize> {
        let mut place = self.home(hash);
        loop {
            match self.entries.get(place) {
                Some(entry) if entry.value == VACANT => return Err(place),
                Some(entry) if entry.key == *key => return Ok((place, entry.value)),
                Some(_) => place = place.wrapping_add(1) & self.mask,
                None => return Err(0),
            }
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
        fn an_index_equals_a_map(
            secret: u64, steps in prop::collection::vec((0..3u8, 0..40u32, 0..1000u32), 0..300),
        ) {
            let (mut index, mut map) = (KeyedIndex::<u32>::new(16, secret), BTreeMap::new());
            for (step, key, value) in steps {
                if step == 0 {
                    prop_assert_eq!(index.remove(&key), map.remove(&key));
                } else {
                    let fits = map.len() < 16 || map.contains_key(&key);
                    prop_assert_eq!(index.insert(key, value), fits);
                    if fits {
                        map.insert(key, value);
                    }
                }
                prop_assert_eq!(index.len(), map.len());
                for key in 0..40 {
                    prop_assert_eq!(index.get(&key), map.get(&key).copied());
                }
            }
        }
    }
}
