//! Stop 7: batches on their way. A row is durable before its batch is sent and goes when the batch
//! is final, so a kill at any instant repeats a transaction at most, and its id makes that harmless.
//!
//! ```text
//! Outbox column:  u64 sequence -> signed transaction
//! ```

use std::sync::Arc;

use qlink_store::{Column, KvStore, StoreError, Sync, WriteBatch};
use qlink_types::codec::{Decode as _, DecodeError, Encode as _};
use qlink_types::transaction::SignedTransaction;

/// Most rows read at a time; more than one waits only after a crash.
const PAGE: usize = 64;

/// Why the outbox could not be used.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The store failed.
    #[error("the outbox cannot be kept")]
    Store(#[from] StoreError),
    /// A row is damaged.
    #[error("an outbox row cannot be read")]
    Row(#[from] DecodeError),
}

/// Batches that are not final yet.
#[derive(Debug)]
pub(crate) struct Outbox {
    store: Arc<dyn KvStore>,
}

impl Outbox {
    /// The outbox in `store`.
    #[must_use]
    pub(crate) fn new(store: Arc<dyn KvStore>) -> Self {
        Self { store }
    }

    /// What waits, in the order of sequences.
    ///
    /// # Errors
    ///
    /// [`OutboxError`] when a row cannot be read.
    pub(crate) fn waiting(&self) -> Result<Vec<(u64, SignedTransaction)>, OutboxError> {
        let rows = self.store.scan(Column::Outbox, &[], None, PAGE)?;
        let decoded = rows
            .iter()
            .map(|(key, value)| Ok((u64::from_bytes(key)?, SignedTransaction::from_bytes(value)?)));
        decoded.collect()
    }

    /// Keeps a batch before it is sent; durable when this returns.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`]; the batch must not be sent then.
    pub(crate) fn keep(&self, sequence: u64, batch: &SignedTransaction) -> Result<(), OutboxError> {
        let mut write = WriteBatch::new();
        write.put(Column::Outbox, sequence.to_bytes(), batch.to_bytes());
        Ok(self.store.write(write, Sync::Durable)?)
    }

    /// Drops a batch that is final.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Store`]; it will be sent again, which is harmless.
    pub(crate) fn done(&self, sequence: u64) -> Result<(), OutboxError> {
        let mut write = WriteBatch::new();
        write.delete(Column::Outbox, sequence.to_bytes());
        Ok(self.store.write(write, Sync::Durable)?)
    }
}
