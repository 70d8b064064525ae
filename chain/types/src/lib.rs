//! The shared types of Qlink: units, ids, usage and ratio records, receipts, rating, batches with
//! their Merkle root, transactions, headers, the canonical codec and domain-tagged signatures.
//!
//! No I/O, no clock, no randomness, no float. This crate is the only home of shared types and
//! builds for wasm32.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing
    )
)]

pub mod batch;
pub mod block;
pub mod codec;
pub mod content;
pub mod ids;
pub mod merkle;
pub mod outcome;
pub mod package;
pub mod rating;
pub mod receipt;
pub mod record;
pub mod ruling;
pub mod session;
pub mod signature;
pub mod stake;
pub mod text;
pub mod transaction;
pub mod tunnel;
pub mod units;
