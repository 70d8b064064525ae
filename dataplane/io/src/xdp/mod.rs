//! One queue of a network interface as a packet source and sink, through AF_XDP.
//!
//! ```text
//!            driver or kernel core            this process
//!  packet -> steering program -- metered --> receive ring -> XdpPort -> worker
//!                   |                        ^ frames of our own memory
//!                   +-- everything else --> kernel
//!
//!  worker -> XdpPort: framer + next hop -> transmit ring -> kernel -> packet
//! ```
//!
//! A [`Steering`] is an embedded program on one interface; an [`XdpPort`] serves one queue of it,
//! and a worker per queue serves them all. Nothing but the kernel is needed: no compiler, no
//! library, no file system. Privileges: CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF.
//!
//! # Fragments
//!
//! Fragmented tunnel packets stay with the kernel, which reassembles them for a UDP socket on the
//! same endpoint: an [`XdpEndpoint`] keeps one open beside an N3 port. Why is told in
//! the steering program's own documentation, `xdp/program.rs`.
//!
//! # What it does not do
//!
//! It never fragments or answers ARP (the kernel does, see [`NeighbourKeeper`]); it does not share
//! packet memory between ports; it does not undo what the other end of a veth left to a card:
//! merged packets (GSO, GRO) do not fit a frame and are dropped and counted by the kernel, and
//! checksums left open stay open, so a peer on the same machine turns these offloads off.
//!
//! **Invariant**: every frame of packet memory has one owner at any time, and only that one reads
//! or writes it; a frame is never lost (see [`XdpPort::frame_use`]).

mod assembler;
mod available;
mod bpf;
mod endpoint;
mod error;
mod interface;
mod mapping;
mod port;
mod program;
mod ring;
mod socket;
mod steering;
mod transmit;
mod umem;

pub use available::{Availability, Support, available};
pub use endpoint::XdpEndpoint;
pub use error::XdpError;
pub use interface::Interface;
pub use port::{FRAMES_RANGE, FrameUse, XdpConfig, XdpPort, XdpStats};
pub use socket::{CopyChoice, CopyMode};
pub use steering::{AttachChoice, AttachMode, ENDPOINTS_MAX, PREFIXES_MAX, Steering, SteeringRule};
pub use transmit::TransmitStats;
pub use umem::{FrameSize, HEADROOM};

pub use crate::frame;
pub use crate::neighbour::{
    NEIGHBOURS_MAX, NeighbourKeeper, NeighbourReader, NeighbourTable, ROUTES_MAX, Route,
};
