//! REST service, sessions, settlement, outbox, console.
#![forbid(unsafe_code)]
