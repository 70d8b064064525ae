//! Counters per learned tunnel.

use std::net::IpAddr;

use qlink_meter::{KeyedIndex, process_secret};
use qlink_types::ids::Teid;
use qlink_types::units::Bytes;

use super::report::TunnelRow;

/// Most tunnels of one replay (chosen: 2^20 as in one shard).
const TUNNELS_MAX: usize = 1 << 20;
/// Room of the first index; it doubles until [`TUNNELS_MAX`].
const TUNNELS_FIRST: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Tunnel {
    key: (IpAddr, u32),
    packets: u64,
    network_bytes: u64,
}

/// Tunnels by outer destination and TEID.
#[derive(Debug)]
pub(super) struct Tunnels {
    index: KeyedIndex<(IpAddr, u32)>,
    room: usize,
    tunnels: Vec<Tunnel>,
    secret: u64,
}

impl Tunnels {
    pub(super) fn new() -> Self {
        let secret = process_secret();
        Self {
            index: KeyedIndex::new(TUNNELS_FIRST, secret),
            room: TUNNELS_FIRST,
            tunnels: Vec::with_capacity(TUNNELS_FIRST),
            secret,
        }
    }

    /// The hash to be used with [`Self::prefetch`] and [`Self::count`].
    #[inline]
    pub(super) fn hash(&self, key: &(IpAddr, u32)) -> u64 {
        self.index.hash(key)
    }

    /// Starts loading the place of a hash.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Counts a packet of `length` inner bytes; `false` when there is no room for another tunnel.
    #[inline]
    pub(super) fn count(&mut self, hash: u64, key: (IpAddr, u32), length: u32) -> bool {
        let place = match self.index.get_hashed(hash, &key) {
            Some(place) => place as usize,
            None => match self.learn(key) {
                Some(place) => place,
                None => return false,
            },
        };
        if let Some(tunnel) = self.tunnels.get_mut(place) {
            tunnel.packets = tunnel.packets.saturating_add(1);
            tunnel.network_bytes = tunnel.network_bytes.saturating_add(length.into());
        }
        true
    }

    #[cold]
    fn learn(&mut self, key: (IpAddr, u32)) -> Option<usize> {
        if self.tunnels.len() >= TUNNELS_MAX {
            return None;
        }
        if self.tunnels.len() >= self.room {
            self.grow();
        }
        let place = self.tunnels.len();
        self.tunnels.push(Tunnel {
            key,
            packets: 0,
            network_bytes: 0,
        });
        self.index.insert(key, u32::try_from(place).ok()?);
        Some(place)
    }

    fn grow(&mut self) {
        self.room = self.room.saturating_mul(2);
        self.index = KeyedIndex::new(self.room, self.secret);
        for (place, tunnel) in (0_u32..).zip(&self.tunnels) {
            self.index.insert(tunnel.key, place);
        }
    }

    /// Sorted by outer destination, then TEID.
    pub(super) fn rows(&self) -> Vec<TunnelRow> {
        let mut sorted: Vec<&Tunnel> = self.tunnels.iter().collect();
        sorted.sort_by_key(|tunnel| tunnel.key);
        sorted
            .into_iter()
            .map(|tunnel| TunnelRow {
                network_bytes: Bytes::new(tunnel.network_bytes),
                packets: tunnel.packets,
                peer: tunnel.key.0,
                teid: Teid::new(tunnel.key.1),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tunnels_than_the_first_room_are_counted() {
        let mut tunnels = Tunnels::new();
        for round in 0..2 {
            for teid in 0..10_000 {
                let key = (IpAddr::from([1, 1, 1, 1]), teid);
                assert!(tunnels.count(tunnels.hash(&key), key, 10 + round));
            }
        }

        let rows = tunnels.rows();

        assert_eq!(rows.len(), 10_000);
        assert!(rows.iter().all(|row| row.network_bytes.get() == 21));
    }
}
