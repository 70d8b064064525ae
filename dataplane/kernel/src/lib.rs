//! Prefetch and byte compare behind safe signatures.
//!
//! The two loops of the data path that need instructions the compiler does not choose by itself:
//! the length of the equal prefix of two byte ranges (the copy oracle runs it on every sponsored
//! payload byte) and a cache prefetch (the batched table lookups). Nothing here allocates, keeps
//! state or knows what the bytes mean; scanning and hashing do not live here.
//!
//! Invariant: every variant of [`equal_prefix`] gives the result of the naive loop. The widest
//! one the processor offers is chosen at run time; the detection is read once per process and
//! cached by the standard library.
#![allow(
    unsafe_code,
    reason = "vector loads and the prefetch instruction have no safe form; each use is one \
              operation whose pointer comes from a live slice or reference"
)]

mod compare;
mod prefetch;

pub use compare::equal_prefix;
pub use prefetch::{prefetch, prefetch_slice};
