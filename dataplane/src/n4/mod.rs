//! The control plane's way in: PFCP on UDP, where an SMF states sessions by rules.
//!
//! ```text
//! datagrams, timers, workers' events -> Node -> commands to workers
//!                                            -> records -> journal (one sync a turn) -> answers
//! ```
//!
//! It deliberately decides nothing about PFCP: that is [`qlink_pfcp::node`]; here its effects are
//! carried out.
//!
//! Invariant: an answer leaves after the records in front of it are on storage.

mod compile;
mod config;
mod endpoint;
mod naming;
mod pool;
mod restore;

pub use config::{Ipv4Pool, Ipv6Pool, PfcpConfig, PfcpConfigError, ServedNetwork, ServedPort};
pub(crate) use endpoint::N4;
pub(crate) use restore::{N4Start, restore};
