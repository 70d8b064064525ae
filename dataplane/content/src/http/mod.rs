//! Fail-closed HTTP/1.1 framing of a byte stream, for either direction.
//!
//! The parser sees heads and chunk framing byte by byte and never a body: it says how long the
//! body is and the caller steps over it. Its state has a fixed size: no head is stored, only one
//! short line. Whatever two parsers could read in two ways ends the framing for good
//! ([`Violation`]); nothing is repaired. Source: RFC 9112, RFC 9110.

mod fields;
mod line;
mod parser;
mod queue;
mod violation;

pub use fields::ContentRange;
pub use parser::{BODY_LIMIT, Body, Event, Fed, Head, Nomination, Parser, Role, Side};
pub use queue::{QUEUE_LIMIT, Queue, RequestKind};
pub use violation::Violation;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers of a test")]
mod tests;
