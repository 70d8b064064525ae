//! A journal in memory that can fail on command; for tests and simulations.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::journal::{Journal, JournalError};

/// What the next append does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It succeeds.
    None,
    /// It fails and the record is lost.
    Lost,
    /// It fails although the record is durable: the crash came after the sync.
    DurableButFailed,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Vec<u8>>,
    faults: VecDeque<Fault>,
}

/// Records shared by all clones, so that they outlive the desk that wrote them.
#[derive(Debug, Clone, Default)]
pub struct MemoryJournal(Arc<Mutex<Inner>>);

impl MemoryJournal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the next appends do, in turn; later ones succeed.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.with(|inner| inner.faults.extend(faults));
    }

    /// All durable records.
    #[must_use]
    pub fn records(&self) -> Vec<Vec<u8>> {
        self.with(|inner| inner.records.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, payload: &[u8]) -> Result<u64, JournalError> {
        self.with(|inner| {
            let fault = inner.faults.pop_front().unwrap_or(Fault::None);
            let sequence = u64::try_from(inner.records.len()).unwrap_or(u64::MAX);
            if fault != Fault::Lost {
                inner.records.push(payload.to_vec());
            }
            match fault {
                Fault::None => Ok(sequence),
                Fault::Lost | Fault::DurableButFailed => Err(JournalError::Poisoned),
            }
        })
    }
}
