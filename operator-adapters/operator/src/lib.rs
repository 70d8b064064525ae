//! The core every operator adapter stands on: journal, engine of operations, double-entry books,
//! reconciliation, settlement cycle.
//!
//! ```text
//! Request -> Engine -> Persist(Intent) -> submit -> Outcome -> Persist(Result) -> Books
//!                                           |Unknown -> resolve, same key, until final
//! chain lines + meter lines + statement -> SettlementCycle -> Reconciliation -> pay -> prove
//! ```
//!
//! No socket, no clock, no runtime: machines take events with the time in them and return
//! effects; [`Desk`] performs those effects over a [`Journal`] and an [`OperatorAdapter`].
//! Invariants: an Intent is durable before its effect; an Unknown outcome is never retried under
//! another key; every entry of the books balances per asset; replaying the journal gives the same
//! state and the same books.
#![forbid(unsafe_code)]

mod adapter;
mod books;
mod desk;
mod engine;
mod journal;
mod memory;
mod op;
mod reconcile;
mod settlement;
mod signing;

pub use adapter::{
    AdapterError, Answer, OperatorAdapter, Period, StatementLine, StatementPage, fetch_statement,
};
pub use books::{Asset, Books, BooksError, Entry, EntryNo, Posting};
pub use desk::{Desk, DeskError, Record};
pub use engine::{Effect, Engine, EngineError, Event, OpRecord, OpState};
pub use journal::{FileJournal, JOURNAL_VERSION, Journal, JournalError, Opened, RECORD_BYTES_MAX};
pub use memory::{Fault, MemoryJournal};
pub use op::{
    DedupClass, Money, Op, OpId, OperatorReceipt, Outcome, ParseOpIdError, Profile, Reason,
};
pub use reconcile::{
    Amounts, Line, LineState, ReconciledLine, Reconciliation, STATEMENT_TOTAL, Statement,
    Tolerance, reconcile,
};
pub use settlement::{
    ChainLine, CycleEffect, CycleError, CycleEvent, CycleState, SettlementCycle, Summary,
};
pub use signing::{
    KeyError, SIGNATURE_HEADER, SharedKey, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE_MS,
    countersigning_input, signing_input,
};
