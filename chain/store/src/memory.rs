//! A store that forgets everything with its process: for tests and simulation.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use crate::kv::{Column, Entry, KvStore, StoreError, Sync, WriteBatch};

type Entries = BTreeMap<(Column, Vec<u8>), Vec<u8>>;

/// Sorted maps in memory; it has every column.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: RwLock<Entries>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl KvStore for MemoryStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.get(&(column, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        column: Column,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded((column, after.to_vec())),
            _ => Bound::Included((column, prefix.to_vec())),
        };
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Ok(entries
            .range((start, Bound::Unbounded))
            .take_while(|((found, key), _)| *found == column && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn write(&self, batch: WriteBatch, _: Sync) -> Result<(), StoreError> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for change in batch.into_changes() {
            match change.value {
                Some(value) => entries.insert((change.column, change.key), value),
                None => entries.remove(&(change.column, change.key)),
            };
        }
        Ok(())
    }
}
