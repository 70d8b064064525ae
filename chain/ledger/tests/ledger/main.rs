//! The ledger through its public API.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod formats;
mod laws;
mod model;
mod stake_laws;
mod stake_refusals;
mod stake_world;
mod stakes;
mod statuses;
mod story;
mod world;
