//! REST v1 of the gateway: its request and answer types. The OpenAPI document is assembled from
//! them by the gateway's router.
//!
//! Every integer is a string, money is an object with its scale, states are lower case.

#![forbid(unsafe_code)]

pub mod list;
pub mod money;
pub mod package;
pub mod session;
pub mod transaction;
pub mod tunnel;
