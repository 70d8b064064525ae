//! Registration trees, the copy oracle, coverage, HTTP nomination.
#![forbid(unsafe_code)]
