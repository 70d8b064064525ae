//! BaseStations over WireGuard: the link `tunnel`, beside N3.
//!
//! ```text
//!                      +--------------- tunnel thread ----------------+
//! UDP, WireGuard <---->| TunnelPort: keys, peers, timers              |
//!                      |   GTP-U by its TEID --> inbox of the worker  |--> worker: as from N3,
//!                      |   GTP-U to a tunnel address <-- its own inbox|<-- N3Port::send
//!                      +----------------------------------------------+
//! ```
//!
//! One thread owns the state of every peer, which any worker's packets may need: so handshakes and
//! encryption take nothing from the packets of plain N3, and workers need no lock. A datagram that
//! came out has the peer's tunnel address as its sender, to which TEIDs bind as to any other, so a
//! session belongs to a device key. [`N3Port`] refuses what claims a tunnel address outside of the
//! tunnel.
//!
//! Where peers were heard last is kept in `<journal>.places`, and after a restart they are called there.
//!
//! A packet counts as sent once the thread's inbox has it; what the thread then cannot send it counts
//! under its own reasons.

mod control;
mod open;
mod places;
mod port;
mod settings;
mod tell;
mod thread;

pub(crate) use open::Tunnel;
pub(crate) use port::{Entrance, N3Port};
pub use settings::{TunnelPeer, TunnelSettings, TunnelSettingsError};
pub(crate) use thread::{TunnelHandle, TunnelThread};
