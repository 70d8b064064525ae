//! RPC client of a node, event following with a durable cursor, and the chain's port traits.
//!
//! The answer types in [`rpc`] are shared with the node, so both sides cannot drift apart.

#![forbid(unsafe_code)]

pub mod asset;
mod client;
mod follow;
pub mod http;
pub mod rpc;
pub mod stake;

pub use client::{ChainClient, SubmitError};
pub use follow::{CursorStore, EventFollower, FileCursor, FollowError};
