//! What every bench shares: how long it measures, and inputs that are the same in every run.
//!
//! The benches themselves are in `benches/benches`, the promises and the figures in
//! `benches/SPECIFICATION.md`. No bench opens a socket or a file: sources, sinks and states are in
//! memory, so that a figure is that of our code.
#![forbid(unsafe_code)]

mod harness;
mod random;

pub use harness::criterion;
pub use random::Random;
