//! A UDP endpoint that receives and sends in bursts of 32, without privileges.
//!
//! It carries GTP-U towards BaseStations (the caller knows that and does not look at the link
//! type) and, in the local network, raw inner IP packets towards the origin. The kernel
//! reassembles outer fragments, so a datagram may be longer than the path's MTU;
//! [`DATAGRAM_MAX`] is the limit here, longer ones are dropped and counted.
//!
//! One port belongs to one worker. Sending borrows the port shared ([`UdpPort::send`]), so that a
//! received frame can go out again through the port it came from without a copy.
//!
//! With [`Offload::Segmentation`] the kernel carries trains of datagrams as one message:
//!
//! ```text
//! received:  | peer A, 4000 bytes, segment 1400 |  ->  descriptors of 1400, 1400 and 1200 bytes,
//!                                                      all inside the same place of the slab
//! sent:      adjacent packets to one peer, equal lengths (the last may be shorter)
//!            head body head body head body         ->  one message, gathered, UDP_SEGMENT
//! ```
//!
//! What the other side sees on the wire is the same either way. Packets of a train that do not fit
//! into a burst come with the next one, before anything else is asked of the kernel: therefore
//! sleep only after [`recv_burst`](crate::PacketSource::recv_burst) said 0.

pub(crate) mod batch;
pub(crate) mod endpoint;
mod group;
mod options;
pub(crate) mod port;
pub(crate) mod system_calls;
pub(crate) mod train;

#[cfg(test)]
mod offload_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod traffic;

pub use group::Steering;
pub use options::{Checksum, DATAGRAM_MAX, Offload, UdpOptions, UdpStats};
pub use port::{Port, UdpPort};
pub use system_calls::SystemCalls;
