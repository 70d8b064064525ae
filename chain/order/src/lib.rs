//! The Orderer trait and its engines.
#![forbid(unsafe_code)]
