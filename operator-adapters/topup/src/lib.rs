//! The adapter for HTTP top-up platforms: two-step create and confirm, query by our reference,
//! signed callbacks, paged statement.
//!
//! ```text
//! submit  = create -> confirm -> state        resolve = query by reference -> state
//!                                                       404 -> submit again, same reference
//! COMPLETED -> Done    REJECTED, CANCELLED, DECLINED -> Rejected    anything else -> Unknown
//! ```
//!
//! Plain HTTP inside the operator's private link; every message is signed with HMAC-SHA256.
//! Invariant: what is not known to be final is Unknown, and nothing is ever sent under a new
//! reference. Requests are repeated only where the profile's dedupe class makes it harmless.
#![forbid(unsafe_code)]

mod adapter;
mod callback;
mod client;
mod wire;

pub use adapter::{TopUp, TopUpConfig, TopUpError};
pub use callback::{Callback, CallbackError, verify_callback};
