//! Viewer SDK: pseudonym keys, acceptance, receipts, claims.
#![forbid(unsafe_code)]
