//! Who sessions send tunnel packets to, kept with the sessions instead of searched in them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Peers, each with how many sessions name it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerIndex {
    counts: BTreeMap<SocketAddr, usize>,
    changes: u64,
}

impl PeerIndex {
    /// Nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            counts: BTreeMap::new(),
            changes: 0,
        }
    }

    /// A session names `peer`.
    pub fn add(&mut self, peer: SocketAddr) {
        let count = self.counts.entry(peer).or_insert_with(|| {
            self.changes = self.changes.wrapping_add(1);
            0
        });
        *count = count.saturating_add(1);
    }

    /// A session names `peer` no more.
    pub fn remove(&mut self, peer: SocketAddr) {
        let Some(count) = self.counts.get_mut(&peer) else {
            return;
        };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.counts.remove(&peer);
            self.changes = self.changes.wrapping_add(1);
        }
    }

    /// The peers in order, and how many sessions name each.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, usize)> + '_ {
        self.counts.iter().map(|(peer, count)| (*peer, *count))
    }

    /// Another number whenever somebody became a peer or ceased to be one.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_stays_as_long_as_a_session_names_it() {
        let peer = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let mut index = PeerIndex::new();
        index.add(peer(1));
        index.add(peer(1));
        index.add(peer(2));
        let before = index.changes();

        index.remove(peer(1));
        index.remove(peer(3));
        let unchanged = index.changes();
        index.remove(peer(2));

        assert_eq!(unchanged, before);
        assert_ne!(index.changes(), before);
        assert_eq!(index.iter().collect::<Vec<_>>(), [(peer(1), 1)]);
    }
}
