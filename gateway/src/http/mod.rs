//! REST v1.

mod events;
mod idempotency;
mod problem;
mod read;
mod router;
mod sessions;
mod submit;

pub(crate) use router::router;
