//! RPC client with a durable event cursor; port traits of the chain.
#![forbid(unsafe_code)]
