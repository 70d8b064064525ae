//! The viewer's side: a pseudonym per package, acceptance, receipts, and claims.
//!
//! A viewer key is derived from the wallet's key and the package, so the chain shows package,
//! pseudonym, bytes and units, and never the wallet. Builds for wasm32.

#![forbid(unsafe_code)]

mod pseudonym;

pub use pseudonym::Pseudonym;
