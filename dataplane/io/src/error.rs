//! Why a packet back end could not go on.

use std::io;
use std::net::SocketAddr;

use crate::pcap::CaptureError;
use crate::xdp::XdpError;

/// Why a burst could not be received or sent.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The source is exhausted; every packet has been delivered.
    #[error("end of packets")]
    End,
    /// The capture is malformed, cut or unreadable.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The system refuses this one packet; the sink itself works.
    #[error("packet of {len} bytes to {to} refused")]
    Refused {
        /// Head and body together.
        len: usize,
        /// The receiver.
        to: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// An XDP port failed.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// A system call on a socket failed.
    #[error("{operation} failed on {address}")]
    Socket {
        /// What was tried, for example `bind`.
        operation: &'static str,
        /// The socket's own address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A system call on a network interface failed.
    #[error("{operation} failed on interface {name}")]
    Device {
        /// What was tried, for example `attach filter`.
        operation: &'static str,
        /// The interface's name.
        name: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}
