//! `qlink replay`: the same parsing and proving on captures, without sessions being told.
//!
//! Tunnels are learned: each (outer destination, TEID) is one. A content flow belongs to the hop,
//! that is the pair of outer addresses, on which its first packet was seen; copies of its packets
//! on other hops of the same capture count in their tunnels and prove nothing again.
//!
//! Invariant: the same files in the same order give the same digest.

mod flows;
mod report;
mod run;
mod tunnels;

pub use report::{ContentRow, Report, TunnelRow};
pub use run::{ReplayError, ReplayOptions, replay};
