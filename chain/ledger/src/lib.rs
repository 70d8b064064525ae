//! The deterministic machine: `apply(block) -> receipts`.
//!
//! [`apply_block`] reads the state before a block through [`StateView`] and returns what each
//! transaction did and which rows change. It has no clock, no randomness, no float and no storage
//! of its own: one block on one state gives one outcome on every machine.
//!
//! ```text
//! block -> due queue -> each transaction: signature -> nonce -> fee -> effect -> receipt
//!                                                       |
//!                       working set: decoded rows, one read and one write per row and block
//! ```
//!
//! Invariants, checked after every block: the supply is constant (law 7), and for every package
//! `escrow + paid + unclaimed + refund = deposit` (law 5).

#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::indexing_slicing
)]

mod account;
mod apply;
mod audit;
mod carriage;
mod chain;
mod claim;
mod close;
mod content;
mod due;
mod genesis;
mod package;
mod params;
mod party;
mod purchase;
mod ratio;
mod register;
mod row;
mod settle;
mod signatures;
mod stake;
mod state;
mod table;
mod view;
mod viewer;
mod working;

pub use account::{Account, ModuleAccount};
pub use apply::{BlockContext, Outcome, SignatureCheck, admit, apply_block, check_transaction};
pub use audit::{Audit, audit};
pub use carriage::{CarriageSum, PathBytes, PayeeRow};
pub use chain::{ChainRow, SupplyRow};
pub use content::Content;
pub use genesis::{GENESIS_VERSION, Genesis, GenesisError, MAX_GENESIS_ACCOUNTS, genesis_changes};
pub use package::{BatchRoot, Closing, EpochTotals, Package, PackageTotals, PendingTopUp};
pub use params::Params;
pub use party::PartyRow;
pub use row::CorruptRow;
pub use stake::{
    Candidate, Elected, Ranked, Release, Seat, SeatsRow, StakeParams, Standing, Vote, Waiting,
};
pub use state::{Changes, KeyValue, Layered, MemoryState, Space, StateError, StateView};
pub use view::{StakeView, View, WaitingStake};
pub use viewer::{Component, MAX_COMPONENTS, ViewerRow};
