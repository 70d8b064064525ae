//! The node: mempool, execution, RPC, metrics.
#![forbid(unsafe_code)]
