//! The `qlink` binary.
#![forbid(unsafe_code)]
fn main() {}
