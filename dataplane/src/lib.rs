//! The data plane: packets in, every payload byte judged, packets out.
//!
//! ```text
//! recv_burst -> parse -> session, flow, rule, quota -> prove -> count -> transmit
//! ```
//!
//! The same parsing and proving runs on captures ([`replay`]).
//!
//! It deliberately knows no money and no chain: it states bytes, others rate them.
//!
//! Invariant: per packet no allocation, lock, log or system call; what is written before a packet
//! leaves is enough to continue after a kill without counting a byte twice.
#![forbid(unsafe_code)]

mod charges;
mod checked;
mod config;
pub mod contents;
mod control;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod forwarding;
mod journal;
mod metrics;
mod n4;
pub mod parse;
mod paths;
mod patience;
pub mod pipeline;
pub mod plane;
mod ports;
mod process;
mod prove;
pub mod replay;
mod ruled;
mod serve;
mod shard;
mod signal;
mod start;
mod tap;
pub mod top;
mod trace;
mod tunnel;
mod verifier;
mod worker;

pub use config::{ConfigError, DataplaneConfig, N6, UdpOffload};
pub use forwarding::{MssPolicy, MtuConfig, NatFiltering, NatIpv4, NatLog, NatTable};
pub use journal::JournalError;
pub use metrics::metrics_text;
pub use n4::{Ipv4Pool, Ipv6Pool, PfcpConfig, PfcpConfigError, ServedNetwork, ServedPort};
pub use paths::PathsConfig;
pub use ports::{
    Choice, DpdkN6, DpdkNeighbour, DpdkSettings, HardwareAddress, N3Backend, N3BackendError,
    Network, NetworkError, PassedOver, XdpCopy, XdpFrameBytes, XdpFrameBytesError, XdpMode, XdpN6,
    XdpSettings, choose,
};
pub use process::{DataplaneError, run};
pub use tap::{PacketSettings, TapFrames};
pub use tunnel::{TunnelPeer, TunnelSettings, TunnelSettingsError};
