//! Simulated viewers, origin and lossy link of demo and dev.
//!
//! ```text
//! viewers --radio--> BaseStation --N3: GTP-U--> data plane --N6--> origin
//!    ^ lossy link, both directions                 ^ both simulators count on this side of it
//! ```
//! Viewers and origin have real user-space TCP/IP stacks; all packets travel as UDP payload over
//! loopback. The crate also holds the simulators' own account of what cheaters sent, which shares
//! no code with the gateway.
#![forbid(unsafe_code)]

mod browser;
mod capture;
mod catalog;
mod cheat;
mod control;
mod http;
mod loss;
mod mode;
mod origin;
mod packet;
mod port;
mod script;
mod service;
mod stack;
mod station;
mod viewer;

pub use browser::{ResponseReader, encode_request};
pub use capture::{CaptureError, N3Capture, N6Capture};
pub use catalog::{Catalog, CatalogError, Film, foreign_byte};
pub use cheat::{
    CheatMeter, CheatReport, Direction, FlowCount, ForeignCount, PayloadCount, foreign_bytes,
};
pub use control::{ControlClient, ControlError};
pub use loss::{LossCount, LossyLink};
pub use mode::CheatMode;
pub use origin::{Origin, OriginConfig, OriginCount};
pub use port::{PortCount, socket_drops};
pub use script::{
    CloseKind, ConnectionScript, FetchResult, FetchScript, LossAboveWhole, LossPpm, Order, Outcome,
    PLAY_HEADER, Play, RequestResult, RequestScript,
};
pub use service::{
    Done, OriginRequest, OriginServiceConfig, OriginServiceCount, ServiceError, ViewersConfig,
    ViewersCount, ViewersRequest, run_origin, run_viewers,
};
pub use stack::{SocketSize, StackClock};
pub use station::{StationPacket, StationQuestion, StationTap};
pub use viewer::{JobId, JobRefused, Viewer};

/// Stack seconds per second of the simulators. Measured on two cores: 10 MB at 3 % loss in both
/// directions; see `StackClock`.
pub const STACK_SPEED: u32 = 40;
