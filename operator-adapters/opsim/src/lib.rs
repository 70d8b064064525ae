//! opsim: a simulated mobile operator behind a real HTTP top-up platform.
//!
//! ```text
//! POST /v1/transactions              create, by our reference       -> CREATED | REJECTED
//! POST /v1/transactions/{id}/confirm                                -> CONFIRMED | DECLINED
//! POST /v1/transactions/{id}/cancel                                 -> CANCELLED
//! GET  /v1/transactions?reference=   query
//! GET  /v1/statement?from_ms=&until_ms=&cursor=   GET /v1/balance
//! POST /v1/usage                     the operator's own mediation feed (its meter)
//! CREATED -> CONFIRMED -> SUBMITTED -> COMPLETED -> (REVERSED), callback at each final state
//! ```
//!
//! Every request and callback is signed with HMAC-SHA256. A fault script makes it misbehave as
//! real platforms do. It is a simulator: no money and no data move.
#![forbid(unsafe_code)]

mod config;
mod feed;
mod http;
mod operator;
mod run;

pub use config::{Action, Config, Fault, FaultScript, Offer, Point};
pub use feed::{Feed, FeedError};
pub use operator::{State, Transaction, Usage};
pub use run::{RunError, run};
