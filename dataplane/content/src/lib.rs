//! Proves whose byte is whose: registration of content, the copy oracle, coverage, HTTP/1.1
//! framing, and the state machine that puts every TCP payload byte of a flow into one class.
//!
//! No I/O, no clock, no allocation per packet. Nothing here reads a label: Host, URL and address
//! nominate nothing, sizes and first bytes nominate, and only equal bytes that the receiver
//! acknowledged become `verified_unique`.
//!
//! Invariant, checked after every packet: `wire_payload = verified_unique + retransmit +
//! verified_repeat + overhead_allowed + undelivered + user_charged + pending`.

#![forbid(unsafe_code)]

mod coverage;
mod deltas;
mod flow;
mod heads;
pub mod http;
mod map;
mod oracle;
mod registration;
mod view;
mod words;

pub use coverage::{Full, Range, Ranges};
pub use deltas::{ChargeReason, Deltas};
pub use flow::{CloseReason, Context, Direction, DropReason, FlowProof, Policy, Segment, Verdict};
pub use heads::{HEAD_WORDS, HeadWords};
pub use oracle::{CopyOracle, Oracle};
pub use registration::{
    GroupTree, Registered, RegistrationError, WrongCopy, register_bytes, register_reader,
    verify_copy,
};
pub use view::{Candidate, ContentSet, LimitReason, VIEW_RANGES, View};
pub use words::{WordSink, WordsError};

/// When nothing of a flow was seen for this long, what is pending in it counts as undelivered.
/// Source: design.md law 2.
pub const IDLE_NS: u64 = 60_000_000_000;

/// How long a server may go on sending after the subscriber's reset, in nanoseconds, counted anew
/// from each segment (chosen: more than the round trip of any access network).
pub const EBB_NS: u64 = 5_000_000_000;

/// A flow of which nothing was seen for two hours, in nanoseconds, is over. Source: RFC 9293
/// §3.8.4, the default of a keep-alive.
pub const FORGET_NS: u64 = 7_200_000_000_000;
