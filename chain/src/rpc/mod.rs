//! The RPC: JSON over HTTP, finalized events as SSE. The answers' types live in `qlink-client`.

mod events;
mod read;
mod request;
mod router;
mod stake;
mod submit;

pub(crate) use read::block_answer;
pub(crate) use router::router;
