//! BaseStation agent: forwards subscriber traffic as GTP-U, signs session opens and receipts.
//!
//! ```text
//! devices --radio: raw IP over UDP, or an interface--> [forwarding thread] --N3: GTP-U--> gateway
//! owner --control socket--> [agent] --REST: signed session open, signed receipt--> gateway
//! ```
//! It does not look into payload, knows no package terms and decides no price. Its invariant: only
//! packets of an open session pass, in both directions, and the network bytes it signs are those it
//! forwarded.
#![forbid(unsafe_code)]

mod agent;
mod config;
mod control;
mod enrol;
mod every;
mod forward;
mod gateway_api;
mod keeper;
mod key;
mod link;
mod renewal;
mod service;
mod tap;
mod worker;

pub use agent::{Agent, AgentError, Closed, Identity, OpenRequest, Opened};
pub use config::{Config, ConfigError, Radio, RadioInterface};
pub use control::{ControlRequest, Counters, NetworkCounters};
pub use every::Every;
pub use forward::{
    Downlink, DropCount, DropReason, EntryIndex, Forwarder, InstallError, NetworkCount, Tunnel,
    UPLINK_HEAD, Uplink,
};
pub use gateway_api::{GatewayApi, GatewayError, HttpGateway};
pub use keeper::NewKeyError;
pub use key::{KeyError, read_key};
pub use link::{LinkSetup, TunnelLink, TunnelSetup};
pub use service::{RunError, run};
pub use tap::{NoTap, Tap, TapDirection, TapPacket};
pub use worker::{RadioKind, Worker, WorkerCount, WorkerError, WorkerGone, WorkerHandle};
