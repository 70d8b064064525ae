//! The binary as people and programs use it: real processes, real packets, every figure exact.
//!
//! Full counts with `QLINK_LONG=1`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

mod bad_input;
mod captures;
mod cheats;
mod dev;
mod figures;
mod fire;
mod rates;
mod report;
mod run;
mod tshark;
