//! The gateway: REST service, sessions, settlement, outbox, console.
//!
//! ```text
//! BaseStation --REST--> sessions --seqpacket--> data plane
//!                          |                        |
//!                          +---- reads counters ----+ (arena)
//!                          |
//!            tally -> batch -> outbox -> node          (stops 6 and 7)
//! ```
//!
//! It owns sessions, bindings, idempotency keys, outbox and content copies. Money is the chain's:
//! the gateway never holds an account's key and reads balances and packages at the newest final
//! block.

#![forbid(unsafe_code)]

mod admission;
mod causes;
mod config;
mod console;
mod copies;
mod deny;
mod enrol;
mod http;
mod link;
mod metrics;
mod outbox;
mod registry;
mod rulings;
mod run;
mod service;
mod session;
mod settle;
mod tally;
mod tunnels;
mod usage;

pub use admission::{OpenRefusal, acceptance_hash, session_id};
pub use config::{ConfigError, GatewayConfig};
pub use rulings::{Denied, RulingRefusal};
pub use run::{RunError, read_key, run};
pub use tunnels::{EnrolRefusal, TunnelConfig};
