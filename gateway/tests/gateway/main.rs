//! The gateway between a real node and a data plane's control side: REST v1, bad input at every
//! route, sessions, settlement, and the console, also in a browser.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod browser;
mod console;
mod denials;
mod rest;
mod sessions;
mod support;
mod terms;
mod transactions;
mod tunnels;
