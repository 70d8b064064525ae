//! Paths to GTP-U peers: whether those that sessions name still answer.
//!
//! ```text
//! sessions -> watch -> machine -> ask -> worker 0 -> echo request ----------\
//!                        ^                                                    peer
//!             control thread <- bounded channel <- any worker <- response --/
//! failed, answers again -> Node Report (peers of PFCP sessions), metrics, log
//! ```
//!
//! A worker lets through only what the control thread waits for: an answer from another address or
//! with another number never reaches the channel.
//!
//! It deliberately ends no session: who stated one decides that. The restart counter of an answer
//! means nothing in GTP-U (TS 29.281 §8.2) and is not read.
//!
//! Invariant: a path is reported failed and answering again in turns, and failed only when as many
//! requests in a row as configured were not answered.
//!
//! Source: TS 29.281 §7.2, TS 23.007 §20.2, TS 29.244 §7.4.5.

mod answers;
mod config;
mod machine;
mod sweep;
mod watch;

pub(crate) use answers::{Answered, AnswersIn, Expected};
pub use config::PathsConfig;
pub(crate) use machine::PathCounts;
pub(crate) use watch::PathWatch;
