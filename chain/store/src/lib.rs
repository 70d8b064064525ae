//! RocksDB, memory and fault-injecting stores; the state tree.
#![forbid(unsafe_code)]
