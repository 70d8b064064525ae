//! The seam between everything that must be durable and the disk: ordered keys in named columns,
//! written in atomic batches.

use std::fmt::Debug;

/// A named part of a store with its own order of keys.
///
/// A store holds only the columns that its [`crate::Layout`] lists; each costs memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Format mark, tip, counters. Every store has it.
    Meta,
    /// Ledger rows outside the tree.
    Rows,
    /// Nodes of the state tree and the index of those that are stale.
    TreeNodes,
    /// Values of the state tree, current ones and those of retained versions.
    TreeValues,
    /// Headers, certificates, transactions and receipts by height.
    Blocks,
    /// From transaction ids to their place in a block.
    Index,
    /// What a gateway still has to send.
    Outbox,
    /// A gateway's sessions and idempotency keys.
    Sessions,
}

impl Column {
    /// The stable name on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            // RocksDB has a column "default" in any case; using it saves one set of buffers.
            Self::Meta => "default",
            Self::Rows => "rows",
            Self::TreeNodes => "tree_nodes",
            Self::TreeValues => "tree_values",
            Self::Blocks => "blocks",
            Self::Index => "index",
            Self::Outbox => "outbox",
            Self::Sessions => "sessions",
        }
    }
}

/// When a write is safe from power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before the call returns.
    Durable,
    /// Some time later, and never before an earlier write: a crash keeps a prefix of all writes.
    Lazy,
}

/// A key with its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Changes that take effect together or not at all; of two changes to one key the later holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteBatch {
    changes: Vec<Change>,
}

/// One change of a [`WriteBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub column: Column,
    /// Which key.
    pub key: Vec<u8>,
    /// Its new value; `None` removes it.
    pub value: Option<Vec<u8>>,
}

impl WriteBatch {
    /// No changes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            changes: Vec::new(),
        }
    }

    /// Sets a key.
    pub fn put(&mut self, column: Column, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push(Change {
            column,
            key: key.into(),
            value: Some(value.into()),
        });
    }

    /// Removes a key, whether it exists or not.
    pub fn delete(&mut self, column: Column, key: impl Into<Vec<u8>>) {
        self.changes.push(Change {
            column,
            key: key.into(),
            value: None,
        });
    }

    /// The changes in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Gives the changes up.
    #[must_use]
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine below failed; what was asked did not happen.
    #[error("the storage engine failed to {operation}")]
    Engine {
        /// What it was doing.
        operation: &'static str,
        /// Its own words.
        #[source]
        source: rocksdb::Error,
    },
    /// The layout of this store has no such column.
    #[error("this store has no column '{}'", column.name())]
    NoColumn {
        /// Which was asked for.
        column: Column,
    },
    /// A fault was injected.
    #[error("injected fault at write {write}")]
    Injected {
        /// Number of the write, from 0.
        write: u64,
    },
}

/// Ordered keys in named columns. Readers may run beside the one writer, which the caller keeps to
/// one thread.
pub trait KvStore: Debug + Send + std::marker::Sync {
    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the engine fails or the column is missing.
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` entries whose keys start with `prefix` and are above `after` (which starts
    /// with `prefix` too), in ascending order of keys.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the engine fails or the column is missing.
    fn scan(
        &self,
        column: Column,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Applies `batch` atomically.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the engine fails or a column is missing; nothing has changed then.
    fn write(&self, batch: WriteBatch, sync: Sync) -> Result<(), StoreError>;
}

impl<S: KvStore + ?Sized> KvStore for std::sync::Arc<S> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).get(column, key)
    }

    fn scan(
        &self,
        column: Column,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        (**self).scan(column, prefix, after, limit)
    }

    fn write(&self, batch: WriteBatch, sync: Sync) -> Result<(), StoreError> {
        (**self).write(batch, sync)
    }
}
