//! A store whose writes fail and whose power goes out by script.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kv::{Column, Entry, KvStore, StoreError, Sync, WriteBatch};
use crate::memory::MemoryStore;

/// What happens to one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It returns an error and changes nothing.
    Refuse,
    /// It takes effect, then returns an error: the caller cannot know.
    FailAfterEffect,
    /// It returns success, and power fails at once: unsynced writes are lost, this one included
    /// unless it is [`Sync::Durable`].
    PowerLoss,
}

/// Memory with a script of faults. A crash keeps exactly the writes up to the last durable one.
#[derive(Debug)]
pub struct FaultyStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    visible: MemoryStore,
    durable: MemoryStore,
    unsynced: Vec<WriteBatch>,
    script: BTreeMap<u64, Fault>,
    writes: u64,
}

impl FaultyStore {
    /// A store in which write number `n` (from 0) meets the fault that `script` holds for `n`.
    pub fn new(script: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        Self {
            state: Mutex::new(State {
                visible: MemoryStore::new(),
                durable: MemoryStore::new(),
                unsynced: Vec::new(),
                script: script.into_iter().collect(),
                writes: 0,
            }),
        }
    }

    /// Power fails and comes back: everything since the last durable write is gone.
    ///
    /// # Errors
    ///
    /// None that this store causes.
    pub fn crash(&self) -> Result<(), StoreError> {
        self.lock().lose_power()
    }

    /// Number of writes that were asked for so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, batch: WriteBatch, sync: Sync) -> Result<(), StoreError> {
        self.visible.write(batch.clone(), sync)?;
        self.unsynced.push(batch);
        if sync == Sync::Durable {
            for batch in std::mem::take(&mut self.unsynced) {
                self.durable.write(batch, sync)?;
            }
        }
        Ok(())
    }

    fn lose_power(&mut self) -> Result<(), StoreError> {
        self.unsynced.clear();
        self.visible = MemoryStore::new();
        for column in ALL_COLUMNS {
            let mut copy = WriteBatch::new();
            for (key, value) in self.durable.scan(column, &[], None, usize::MAX)? {
                copy.put(column, key, value);
            }
            self.visible.write(copy, Sync::Durable)?;
        }
        Ok(())
    }
}

const ALL_COLUMNS: [Column; 8] = [
    Column::Meta,
    Column::Rows,
    Column::TreeNodes,
    Column::TreeValues,
    Column::Blocks,
    Column::Index,
    Column::Outbox,
    Column::Sessions,
];

impl KvStore for FaultyStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.lock().visible.get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.lock().visible.scan(column, prefix, after, limit)
    }

    fn write(&self, batch: WriteBatch, sync: Sync) -> Result<(), StoreError> {
        let mut state = self.lock();
        let write = state.writes;
        state.writes = state.writes.saturating_add(1);
        match state.script.get(&write).copied() {
            None => state.apply(batch, sync),
            Some(Fault::Refuse) => Err(StoreError::Injected { write }),
            Some(Fault::FailAfterEffect) => {
                state.apply(batch, sync)?;
                Err(StoreError::Injected { write })
            }
            Some(Fault::PowerLoss) => {
                state.apply(batch, sync)?;
                state.lose_power()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: u8) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(Column::Rows, *b"key", [value]);
        batch
    }

    #[test]
    fn a_crash_keeps_exactly_the_writes_up_to_the_last_durable_one() {
        let store = FaultyStore::new([]);
        store.write(put(1), Sync::Lazy).unwrap();
        store.write(put(2), Sync::Durable).unwrap();
        store.write(put(3), Sync::Lazy).unwrap();

        store.crash().unwrap();

        assert_eq!(store.get(Column::Rows, b"key").unwrap(), Some(vec![2]));
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        let store = FaultyStore::new([(1, Fault::Refuse)]);
        store.write(put(1), Sync::Durable).unwrap();

        assert!(store.write(put(2), Sync::Durable).is_err());

        assert_eq!(store.get(Column::Rows, b"key").unwrap(), Some(vec![1]));
    }

    #[test]
    fn power_loss_drops_the_unsynced_write_that_met_it() {
        let store = FaultyStore::new([(1, Fault::PowerLoss)]);
        store.write(put(1), Sync::Durable).unwrap();

        store.write(put(2), Sync::Lazy).unwrap();

        assert_eq!(store.get(Column::Rows, b"key").unwrap(), Some(vec![1]));
    }
}
