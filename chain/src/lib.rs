//! The node: transactions wait in the pool, one thread makes, applies and stores blocks, and the RPC
//! shows what is final.
//!
//! ```text
//! RPC (axum) -> Mempool -> Executor: Orderer -> ledger::apply_block -> store (one synced write)
//!     ^                        |
//!     '---- reads, SSE --------'  heights
//! ```
//!
//! A node that is killed goes on from its last stored block with the same height and root: what was
//! answered 202 may be lost with it (ask again, submit again), what was answered `final` never is.
//! No sync, no peers: with the engine `solo` there is one node that makes blocks.
#![forbid(unsafe_code)]

mod config;
mod cursor;
mod executor;
mod export;
mod genesis;
mod mempool;
mod metrics;
mod node;
mod rpc;
mod time;

pub use config::{NodeConfig, Size, Span, StartCheck};
pub use cursor::{EventCursor, ParseCursorError};
pub use executor::ExecutorError;
pub use export::{ExportError, export_directory, export_node};
pub use genesis::{SCHEME_GENESIS, genesis_block};
pub use mempool::{AdmitError, Mempool, PoolLimits};
pub use node::{NodeError, run};
pub use time::rfc3339;
