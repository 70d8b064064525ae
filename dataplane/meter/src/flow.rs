//! Flows inside sessions.

use std::net::IpAddr;

use qlink_kernel::prefetch_slice;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::{KeyedIndex, TableKey};
use crate::session::SessionSlot;

/// The 5-tuple of a flow inside its session; the subscriber's address is the session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Whose flow.
    pub session: SessionSlot,
    /// IP protocol number.
    pub protocol: u8,
    /// The subscriber's port.
    pub ue_port: u16,
    /// The other side.
    pub remote: IpAddr,
    /// The other side's port.
    pub remote_port: u16,
}

impl TableKey for FlowKey {
    const EMPTY: Self = Self {
        session: SessionSlot::new(0),
        protocol: 0,
        ue_port: 0,
        remote: IpAddr::EMPTY,
        remote_port: 0,
    };

    #[inline]
    fn hash(&self, secret: u64) -> u64 {
        let [s0, s1, s2, s3] = self.session.get().to_le_bytes();
        let [u0, u1] = self.ue_port.to_le_bytes();
        let [r0, r1] = self.remote_port.to_le_bytes();
        match self.remote {
            IpAddr::V4(remote) => {
                let [a, b, c, d] = remote.octets();
                let bytes = [s0, s1, s2, s3, self.protocol, u0, u1, r0, r1, a, b, c, d];
                xxh3_64_with_seed(&bytes, secret)
            }
            IpAddr::V6(remote) => {
                let mut bytes = [0; 25];
                let (head, address) = bytes.split_at_mut(9);
                head.copy_from_slice(&[s0, s1, s2, s3, self.protocol, u0, u1, r0, r1]);
                address.copy_from_slice(&remote.octets());
                xxh3_64_with_seed(&bytes, secret)
            }
        }
    }
}

/// Flows by key. All memory is taken at construction.
#[derive(Debug)]
pub struct FlowTable {
    index: KeyedIndex<FlowKey>,
    keys: Box<[Option<FlowKey>]>,
    /// Open flows by session number.
    by_session: KeyedIndex<u32>,
    free: Vec<u32>,
    refused: u64,
}

impl FlowTable {
    /// Room for `capacity` flows (at least 1).
    #[must_use]
    pub fn new(capacity: u32, secret: u64) -> Self {
        let capacity = capacity.clamp(1, 1 << 24);
        Self {
            index: KeyedIndex::new(capacity as usize, secret),
            keys: vec![None; capacity as usize].into_boxed_slice(),
            by_session: KeyedIndex::new(capacity as usize, secret),
            free: (0..capacity).rev().collect(),
            refused: 0,
        }
    }

    /// Hash of a key, for [`Self::prefetch`] and [`Self::find`].
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.index.hash(key)
    }

    /// Starts loading the place of a hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The flow of a key whose hash is known.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, key: &FlowKey) -> Option<usize> {
        let flow = self.index.get_hashed(hash, key)? as usize;
        prefetch_slice(&self.keys, flow);
        Some(flow)
    }

    /// A place for a new flow; `None`, and the refusal is counted, when there is no room.
    pub fn open(&mut self, key: FlowKey) -> Option<usize> {
        let Some(flow) = self.free.pop() else {
            self.refused = self.refused.saturating_add(1);
            return None;
        };
        if !self.index.insert(key, flow) {
            self.free.push(flow);
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        if let Some(place) = self.keys.get_mut(flow as usize) {
            *place = Some(key);
        }
        self.count(key.session, true);
        Some(flow as usize)
    }

    /// Puts a flow that stands already at `flow`; `false` when the place or the key is taken.
    pub fn restore(&mut self, flow: usize, key: FlowKey) -> bool {
        let Some(position) = self.free.iter().position(|free| *free as usize == flow) else {
            return false;
        };
        if self.index.get(&key).is_some() {
            return false;
        }
        let number = self.free.remove(position);
        if let Some(place) = self.keys.get_mut(flow) {
            *place = Some(key);
        }
        self.count(key.session, true);
        self.index.insert(key, number)
    }

    /// Frees a flow's place.
    pub fn close(&mut self, flow: usize) {
        let Some(key) = self.keys.get_mut(flow).and_then(Option::take) else {
            return;
        };
        if let Some(flow) = self.index.remove(&key) {
            self.free.push(flow);
            self.count(key.session, false);
        }
    }

    /// Open flows of one session.
    #[must_use]
    pub fn of_session(&self, session: SessionSlot) -> u32 {
        self.by_session.get(&session.get()).unwrap_or(0)
    }

    /// A flow of `session` came or went.
    fn count(&mut self, session: SessionSlot, came: bool) {
        let before = self.of_session(session);
        let now = if came {
            before.saturating_add(1)
        } else {
            before.saturating_sub(1)
        };
        if now == 0 {
            self.by_session.remove(&session.get());
        } else {
            // Sessions with flows are at most as many as flows, for which there is room.
            let _ = self.by_session.insert(session.get(), now);
        }
    }

    /// The key of an open flow.
    #[inline]
    #[must_use]
    pub fn key(&self, flow: usize) -> Option<&FlowKey> {
        self.keys.get(flow).and_then(Option::as_ref)
    }

    /// Open flows.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no flow is open.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Room.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.keys.len()
    }

    /// How often the bound was hit.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            session: SessionSlot::new(1),
            protocol: 6,
            ue_port: port,
            remote: IpAddr::from([1, 2, 3, 4]),
            remote_port: 80,
        }
    }

    #[test]
    fn a_full_table_refuses_counts_and_recovers() {
        let mut table = FlowTable::new(2, 9);
        let first = table.open(key(1)).unwrap();
        table.open(key(2)).unwrap();

        assert_eq!(table.open(key(3)), None);
        assert_eq!(table.refused(), 1);
        table.close(first);
        assert_eq!(table.open(key(3)), Some(first));
        assert_eq!(table.find(table.hash(&key(1)), &key(1)), None);
    }

    #[test]
    fn the_flows_of_a_session_are_counted() {
        let mut table = FlowTable::new(4, 9);
        let first = table.open(key(1)).unwrap();
        table.restore(3, key(2));
        let session = key(1).session;

        assert_eq!(table.of_session(session), 2);
        table.close(first);
        table.close(first);
        assert_eq!(table.of_session(session), 1);
        table.close(3);
        assert_eq!(table.of_session(session), 0);
    }

    #[test]
    fn a_restored_flow_keeps_its_place() {
        let mut table = FlowTable::new(4, 9);

        assert!(table.restore(2, key(1)));
        assert!(!table.restore(2, key(2)));
        assert!(!table.restore(3, key(1)));
        assert_eq!(table.find(table.hash(&key(1)), &key(1)), Some(2));
    }
}
