//! The one HTTP server of Qlink: an accept loop with deadlines and limits around an
//! [`axum::Router`], problem+json for every refusal, SSE framing, and request metrics.
//!
//! ```text
//! TcpListener -> caps (all, per IP) -> GuardedIo (head, idle, write deadlines) -> hyper h1
//!   -> preflight (one length, one Host, body cap) -> Router -> finish (request id, problem+json)
//! ```
//!
//! `axum::serve` is not used: it installs no timer, so a half-sent header is held for ever.
//! Invariant: tasks <= `max_connections`, and each of them has a deadline in every phase but the
//! handler's own. TLS, HTTP/2 and clients are out of scope.
#![forbid(unsafe_code)]

mod body;
mod connection;
mod extract;
mod io;
mod metrics;
mod problem;
mod server;
mod sse;

pub use body::BodyFault;
pub use connection::RequestId;
pub use extract::{JSON_BYTES_MAX, Json};
pub use metrics::{
    HttpMetrics, ServerMetrics, families_response, metrics_response, metrics_router,
};
pub use problem::{FieldError, Problem};
pub use server::{Drained, ServeConfig, ServeError, Server};
pub use sse::{Event, LAST_EVENT_ID_BYTES_MAX, LastEventId, sse_stream, sse_stream_every};
