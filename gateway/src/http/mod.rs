//! REST v1.

mod events;
mod idempotency;
mod problem;
mod read;
mod router;
mod sessions;
mod submit;
mod tunnels;

pub(crate) use read::qlc;
pub(crate) use router::router;
pub(crate) use sessions::view as session_view;
