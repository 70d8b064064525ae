//! The work of [`crate::udp`] over io_uring: one standing receive request, sends in one system
//! call per burst.
//!
//! ```text
//! receive:  multishot recvmsg -> buffer ring -> completions -> descriptors
//!           buffers of a burst go back when the burst after the last of them is asked for
//! send:     linked sendmsg requests, one submit; the first that fails cancels those behind it,
//!           so that what was sent is a prefix
//! ```
//!
//! It needs Linux 6.1 and no privilege, but many systems forbid io_uring; binding a
//! [`UringPort`] then says so and the caller takes [`crate::udp::UdpPort`], which is as fast: the kernel's work
//! per message decides, and trains ([`Offload::Segmentation`](crate::udp::Offload)) work in both.
//!
//! Invariant: the kernel writes only into buffers that are in the buffer ring; a frame is shown
//! only from a buffer that is not.

mod pool;
mod receiver;
mod rings;
mod sender;

#[cfg(test)]
mod tests;

pub use rings::{Rings, UringPort, available};
