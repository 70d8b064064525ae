//! How a data plane reaches its networks: a file for each back end, which opens the ports of all
//! workers on one side.
//!
//! ```text
//! configuration, command line --> choice --> one back end for N3, one for N6
//!                                               |                 |
//!                                           Opened<A>         Opened<B>
//!                                               +---> Worker<A, B> each, one loop per pair
//! ```
//!
//! A further back end is a file here whose function gives an [`Opened`], and an arm where
//! [`crate::process`] joins both sides. Nothing else knows which ports there are.

mod choice;
#[cfg(feature = "dpdk")]
pub(crate) mod dpdk;
mod dpdk_settings;
mod neighbours;
mod opened;
pub(crate) mod tun;
pub(crate) mod udp;
pub(crate) mod xdp;
mod xdp_settings;

pub use choice::{Choice, N3Backend, N3BackendError, PassedOver, choose};
pub use dpdk_settings::{DpdkN6, DpdkNeighbour, DpdkSettings, HardwareAddress};
pub(crate) use neighbours::Neighbourhood;
pub(crate) use opened::Opened;
pub use xdp_settings::{
    Network, NetworkError, XdpCopy, XdpFrameBytes, XdpFrameBytesError, XdpMode, XdpN6, XdpSettings,
};
