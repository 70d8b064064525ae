//! What is durable: a key-value seam with RocksDB, memory and fault-injecting stores behind it, and
//! the chain's state with its authenticated tree on top.
//!
//! ```text
//! StateStore  rows, tree (jmt, BLAKE3), blocks, receipts, index: one write per block
//!     |
//! KvStore     named columns, ordered keys, atomic batches, Sync::{Durable, Lazy}
//!     |
//! RocksStore | MemoryStore | FaultyStore
//! ```
//!
//! [`KvStore`] knows nothing of chains: a gateway keeps its outbox and sessions in one too, with a
//! [`Layout`] of its own. Invariants: a crash leaves a prefix of all writes, with every durable one
//! in it; a directory of another kind or of a newer format is refused before anything is written.
//! No other crate names RocksDB.
#![forbid(unsafe_code)]

mod faulty;
mod kv;
mod layout;
mod memory;
mod proof;
mod rocks;
mod state;
mod tree;

pub use faulty::{Fault, FaultyStore};
pub use kv::{Change, Column, Entry, KvStore, StoreError, Sync, WriteBatch};
pub use layout::{FormatError, Layout};
pub use memory::MemoryStore;
pub use proof::{MAX_PROOF_BYTES, ProofError, StateProof};
pub use rocks::{RocksOptions, RocksStore};
pub use state::{
    CHAIN_LAYOUT, KEEP_VERSIONS, Prepared, Receipts, StateStore, StateStoreError, Summary, Tip,
    TxPlace,
};
pub use tree::{TreeChange, TreeError};
