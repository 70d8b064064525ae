//! The ledger through its public API.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod laws;
mod model;
mod statuses;
mod story;
mod world;
