//! The user-plane session model, sans-I/O, and its control messages.
#![forbid(unsafe_code)]
