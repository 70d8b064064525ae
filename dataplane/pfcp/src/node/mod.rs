//! The user plane function's end of PFCP (TS 29.244), as a machine without I/O.
//!
//! ```text
//! datagram -> inbox (once?) -> association / session -> Command -> data plane
//!                                                           Outcome -> Persist -> Send answer
//! usage, downlink data, errors -> session's queue -> outbox (again until answered) -> Send
//! ```
//!
//! - A request is done once: its answer is remembered and goes again when the request does.
//! - Requests of a session are done in order, one at a time; a change of rules is judged here,
//!   done by the data plane as a whole or not at all, persisted, and answered then.
//! - A peer that does not answer heartbeats keeps its sessions for
//!   [`Timers::keep_sessions`]; one that started anew loses them at once (TS 23.527 §4.3).
//! - Filters of applications (PFDs) are one table for all peers: each associated peer may replace
//!   entries.
//!
//! It deliberately does no I/O, has no clock, and does not know how rules become packet rules:
//! [`Endpoints`](crate::model::Endpoints) gives addresses, [`Command`]s go to the data plane.
//!
//! Invariant: a node that is [restored](Node::restore) from the records that it persisted has the
//! sessions that it answered for, and answers nothing that is not persisted.

mod association;
mod config;
mod event;
mod features;
mod inbox;
mod machine;
mod outbox;
mod pfd;
mod receive;
mod record;
mod report;
mod restore;
mod session;
mod sets;

pub use config::{NodeConfig, NodeLimits, PFCP_PORT, PeerPrefix, RequestPort, SeidKey, Timers};
pub use event::{Command, Effect, End, Event, Kept, Note, Query, Token};
pub use features::FEATURES;
pub(crate) use inbox::{Age, Digest, Inbox, Room, Verdict};
pub use machine::Node;
pub(crate) use outbox::{Due, Outbox};
pub use record::{
    AssociationRecord, EndAnswer, LastUsage, RECORD_VERSION, Record, RecordTooLong, SessionRecord,
};
pub use restore::RestoreError;

#[cfg(test)]
mod tests;
