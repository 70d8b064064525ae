//! Session and flow tables, single-writer counters, quotas.
#![forbid(unsafe_code)]
