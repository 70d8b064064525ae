//! A TUN interface: inner IP packets to and from the machine's own kernel, which routes them.
//!
//! ```text
//! kernel's route --> queue of the interface --> TunPort::recv_burst   (one packet a read)
//! kernel's input <-- TunPort::send                                    (one packet a write)
//! ```
//! The gateway stands here towards the Internet and a BaseStation towards its subscribers. The
//! interface carries whole IP packets without any header in front (`IFF_NO_PI`).
//!
//! No offload is asked for (`TUNSETOFFLOAD`, `IFF_VNET_HDR`): the kernel cuts a segmentation-offload
//! packet into packets of the wire and fills their checksums before this port reads them. So one
//! read is one packet, its length is what is billed, and none is longer than the MTU.
//!
//! The character device takes and gives one packet per system call; a burst bounds how many are
//! read before they are worked on, it does not save calls. When this port reads too slowly the
//! kernel drops at the interface's queue, see [`TunPort::queue_drops`].
//!
//! It deliberately sets no routes, rules or firewall: those are the machine's own configuration.

mod config;
mod device;
mod port;
#[cfg(test)]
mod tests;

pub use config::{
    DEFAULT_MTU, MTU_MAX, MTU_MIN, TunAddress, TunConfig, TunMtu, TunName, TunTextError,
};
pub use device::TunError;
pub use port::{PACKET_MAX, TunPort, TunStats};
