//! Packets of single sessions, as they came and as they left, into a pcapng file.
//!
//! ```text
//! worker: Tracer --(ring of buffers made beforehand)--> capture thread --> file
//! ```
//!
//! A worker that traces nothing looks at one flag per burst. One that does copies each packet of
//! a traced session into a buffer of the session's ring, with its verdict; where the ring has no
//! buffer left the packet is counted as lost and forwarded all the same. The file says how many
//! those were.
//!
//! Invariant: nothing here is allocated, locked or waited for on the packet path.

mod capture;
mod file;
mod order;
mod ring;
mod tracer;

pub(crate) use capture::Traces;
#[cfg(test)]
pub(crate) use ring::Ring;
pub(crate) use tracer::{Tap, Tracer};
