//! Keys that were peers' until lately: so that who was taken out and calls on is told from strangers.

use std::collections::{HashSet, VecDeque};

use crate::key::PublicKey;

/// Most keys that are remembered; the oldest go first (chosen: 160 KB).
const KEYS_MAX: usize = 4096;

/// The keys.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    keys: HashSet<PublicKey>,
    order: VecDeque<PublicKey>,
}

impl Removed {
    /// A peer went.
    pub(crate) fn add(&mut self, key: PublicKey) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }

    /// It is a peer again.
    pub(crate) fn forget(&mut self, key: &PublicKey) {
        if self.keys.remove(key) {
            self.order.retain(|other| other != key);
        }
    }

    /// Whether it was a peer.
    pub(crate) fn contains(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> PublicKey {
        let mut bytes = [9; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        PublicKey::from_bytes(bytes).unwrap()
    }

    #[test]
    fn the_latest_keys_are_remembered_each_once() {
        let mut removed = Removed::default();
        for number in 0..=KEYS_MAX {
            removed.add(key(number));
            removed.add(key(number));
        }

        assert!(!removed.contains(&key(0)));
        assert!(removed.contains(&key(1)) && removed.contains(&key(KEYS_MAX)));
        removed.forget(&key(1));
        assert!(!removed.contains(&key(1)));
        assert_eq!(
            (removed.keys.len(), removed.order.len()),
            (KEYS_MAX - 1, KEYS_MAX - 1)
        );
    }
}
