//! The deterministic machine: apply(block) -> receipts.
#![forbid(unsafe_code)]
