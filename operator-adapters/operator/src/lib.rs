//! Adapter core: journal, dedupe, double-entry books, reconciliation, settlement cycle.
#![forbid(unsafe_code)]
