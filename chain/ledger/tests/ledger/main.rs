//! The ledger through its public API.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

mod formats;
mod laws;
mod model;
mod statuses;
mod story;
mod world;
