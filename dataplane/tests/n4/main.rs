//! A data plane process's inside with a simulated SMF over PFCP, a BaseStation and an origin, all on
//! loopback.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod copies;
mod elsewhere;
mod endpoints;
#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "../film/mod.rs"]
mod film;
mod films;
mod floods;
mod handover;
mod kills;
mod network;
mod networks;
mod paths;
mod redirect;
mod sessions;
mod sets;
mod takeovers;
mod tunnels;
