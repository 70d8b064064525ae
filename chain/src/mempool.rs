//! Transactions that wait for a block: bounded, admitted in sequence, picked by lanes.
//!
//! A transaction is admitted when the ledger would accept it on the last state with every pending
//! one on top. So an account's transactions enter in the order of their nonces, and what is in the
//! pool pays its fee. Lanes keep the network's own work moving under a flood of transfers:
//!
//! ```text
//! metering  batches of gateways       half of each block is theirs first
//! claims    viewers' claims           a tenth
//! accounts  everything else           the rest, and what the others leave
//! ```
//! Within a block transactions keep the order of their admission.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use qlink_ledger::{BlockContext, Changes, StateError, StateView, admit};
use qlink_types::ids::TxId;
use qlink_types::outcome::Status;
use qlink_types::transaction::{Sender, SignedTransaction};
use qlink_types::units::TimeMs;

/// Bounds of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most bytes of all transactions together.
    pub bytes: usize,
    /// Most transactions.
    pub transactions: usize,
    /// Most transactions of one sender.
    pub per_sender: usize,
    /// How long a transaction may wait, in milliseconds.
    pub wait_ms: u64,
}

impl Default for PoolLimits {
    /// Source: chain reference, section 7: 8 MB and 10,000 transactions on a node of 512 MB.
    fn default() -> Self {
        Self {
            bytes: 8 << 20,
            transactions: 10_000,
            per_sender: 1_000,
            wait_ms: 10 * 60 * 1000,
        }
    }
}

/// Why the pool did not take a transaction.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// The ledger would refuse it now.
    #[error("the ledger would refuse it: {0}")]
    Refused(Status),
    /// The pool is full, as a whole or for this sender.
    #[error("the pool has no room: {bound} is reached")]
    Full {
        /// Which bound.
        bound: &'static str,
    },
    /// The state cannot be read.
    #[error("the state cannot be read")]
    State(#[from] StateError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Metering,
    Claims,
    Accounts,
}

impl Lane {
    const ALL: [Self; 3] = [Self::Metering, Self::Claims, Self::Accounts];

    fn of(transaction: &SignedTransaction) -> Self {
        match transaction.transaction.sender {
            Sender::Gateway { .. } => Self::Metering,
            Sender::Viewer { .. } => Self::Claims,
            Sender::Account { .. } => Self::Accounts,
        }
    }

    /// What is this lane's own of `budget` bytes.
    const fn reserve(self, budget: usize) -> usize {
        match self {
            Self::Metering => budget / 2,
            Self::Claims => budget / 10,
            Self::Accounts => budget - budget / 2 - budget / 10,
        }
    }
}

#[derive(Debug)]
struct Entry {
    transaction: Arc<SignedTransaction>,
    bytes: usize,
    lane: Lane,
    since: TimeMs,
}

/// Blocks after which the pending state is built anew even if nothing went wrong (chosen: bounds
/// what time alone can change under it).
const REBUILD_EVERY: u32 = 16;

/// The pool. It has no clock and no threads.
#[derive(Debug)]
pub struct Mempool {
    limits: PoolLimits,
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<TxId, u64>,
    per_sender: HashMap<Sender, usize>,
    pending: Changes,
    bytes: usize,
    next: u64,
    blocks: u32,
}

impl Mempool {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            numbers: HashMap::new(),
            per_sender: HashMap::new(),
            pending: Changes::new(),
            bytes: 0,
            next: 0,
            blocks: 0,
        }
    }

    /// Number of transactions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all transactions.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a transaction waits.
    #[must_use]
    pub fn contains(&self, id: &TxId) -> bool {
        self.numbers.contains_key(id)
    }

    /// Whether what waits fills a block of `budget` bytes.
    #[must_use]
    pub const fn fills(&self, budget: usize) -> bool {
        self.bytes >= budget
    }

    /// Takes a transaction of `bytes` encoded bytes; one that waits already is taken again.
    ///
    /// # Errors
    ///
    /// [`AdmitError`]; the pool is as before then.
    pub fn admit(
        &mut self,
        state: &dyn StateView,
        context: &BlockContext,
        transaction: Arc<SignedTransaction>,
        bytes: usize,
    ) -> Result<(), AdmitError> {
        let id = transaction.id();
        if self.contains(&id) {
            return Ok(());
        }
        self.check_room(&transaction, bytes)?;
        match admit(state, context, &mut self.pending, &transaction)? {
            Status::Accepted => {}
            refused => return Err(AdmitError::Refused(refused)),
        }
        let since = context.time_ms;
        self.insert(id, transaction, bytes, since);
        Ok(())
    }

    fn check_room(&self, transaction: &SignedTransaction, bytes: usize) -> Result<(), AdmitError> {
        let sender = transaction.transaction.sender;
        let of_sender = self.per_sender.get(&sender).copied().unwrap_or(0);
        let bound = if self.entries.len() >= self.limits.transactions {
            "transactions"
        } else if self.bytes.saturating_add(bytes) > self.limits.bytes {
            "bytes"
        } else if of_sender >= self.limits.per_sender {
            "per_sender"
        } else {
            return Ok(());
        };
        Err(AdmitError::Full { bound })
    }

    fn insert(
        &mut self,
        id: TxId,
        transaction: Arc<SignedTransaction>,
        bytes: usize,
        since: TimeMs,
    ) {
        let count = self
            .per_sender
            .entry(transaction.transaction.sender)
            .or_default();
        *count = count.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.numbers.insert(id, self.next);
        let entry = Entry {
            lane: Lane::of(&transaction),
            transaction,
            bytes,
            since,
        };
        self.entries.insert(self.next, entry);
        self.next = self.next.saturating_add(1);
    }

    fn remove(&mut self, id: &TxId) -> bool {
        let removed = self.numbers.remove(id);
        let Some(entry) = removed.and_then(|number| self.entries.remove(&number)) else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        let sender = entry.transaction.transaction.sender;
        if let Some(count) = self.per_sender.get_mut(&sender) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.per_sender.remove(&sender);
            }
        }
        true
    }

    /// What goes into a block of at most `budget` bytes, in order of admission. It stays in the
    /// pool until [`Self::settle`].
    #[must_use]
    pub fn select(&self, budget: usize) -> Vec<Arc<SignedTransaction>> {
        let mut chosen: BTreeMap<u64, &Entry> = BTreeMap::new();
        let mut left = budget;
        for lane in Lane::ALL {
            let reserve = lane.reserve(budget);
            let own = self.entries.iter().filter(|(_, entry)| entry.lane == lane);
            left = left.saturating_sub(take(own, reserve, &mut chosen));
        }
        take(self.entries.iter(), left, &mut chosen);
        chosen
            .into_values()
            .map(|entry| Arc::clone(&entry.transaction))
            .collect()
    }

    /// A block with these results is final: its transactions leave, and what remains is held
    /// against the new state. `state` and `context` are those after the block.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the state cannot be read.
    pub fn settle(
        &mut self,
        state: &dyn StateView,
        context: &BlockContext,
        results: &[(TxId, Status)],
    ) -> Result<usize, StateError> {
        let mut surprise = false;
        for (id, status) in results {
            let was_here = self.remove(id);
            surprise |= !was_here || *status != Status::Accepted;
        }
        self.blocks = self.blocks.saturating_add(1);
        if self.entries.is_empty() {
            self.pending.clear();
            self.blocks = 0;
            return Ok(0);
        }
        // The pending state holds this block's effects and those of what remains; it stays right
        // as long as the block did what was expected.
        if surprise || self.blocks >= REBUILD_EVERY {
            return self.rebuild(state, context);
        }
        Ok(0)
    }

    /// Admits everything again; returns how many transactions dropped out.
    fn rebuild(
        &mut self,
        state: &dyn StateView,
        context: &BlockContext,
    ) -> Result<usize, StateError> {
        self.blocks = 0;
        self.pending.clear();
        let mut lost = Vec::new();
        for entry in self.entries.values() {
            let waited = context.time_ms.get().saturating_sub(entry.since.get());
            let kept = waited < self.limits.wait_ms
                && admit(state, context, &mut self.pending, &entry.transaction)?
                    == Status::Accepted;
            if !kept {
                lost.push(entry.transaction.id());
            }
        }
        for id in &lost {
            self.remove(id);
        }
        Ok(lost.len())
    }
}

/// Chooses entries in order until one does not fit; returns the bytes taken.
fn take<'a>(
    entries: impl Iterator<Item = (&'a u64, &'a Entry)>,
    budget: usize,
    chosen: &mut BTreeMap<u64, &'a Entry>,
) -> usize {
    let mut taken: usize = 0;
    for (number, entry) in entries {
        if chosen.contains_key(number) {
            continue;
        }
        let total = taken.saturating_add(entry.bytes);
        // Stopping here, not skipping, keeps each sender's transactions in sequence.
        if total > budget {
            break;
        }
        taken = total;
        chosen.insert(*number, entry);
    }
    taken
}

#[cfg(test)]
mod tests;
