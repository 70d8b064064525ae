//! Asset registry of the local network; later the NEO bridge.
#![forbid(unsafe_code)]
