//! Benches, load generator, peer comparisons.
#![forbid(unsafe_code)]
