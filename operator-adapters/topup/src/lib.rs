//! HTTP top-up platform adapter.
#![forbid(unsafe_code)]
