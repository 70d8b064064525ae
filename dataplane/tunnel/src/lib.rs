//! The BaseStation link `tunnel`: WireGuard peers by device key.
//!
//! ```text
//! UDP datagram --[Tunnels::receive]--> IP packet --[inner::open]--> GTP-U and its peer's tunnel address
//!      peer's endpoint <--[Tunnels::send]-- IP packet <--[inner::write_header]-- GTP-U
//!
//!     +---------------+---------------+---------------+----------------------------------+
//!     | type 4, 0 0 0 | receiver index| counter, 8 B  | IP, UDP, GTP-U ... encrypted, tag|
//!     +---------------+---------------+---------------+----------------------------------+
//!     receiver index (24 bits peer's slot, 8 bits session) is ours and finds the peer
//! ```
//!
//! The protocol itself (handshake, cookies, replay window, rekey) is `defguard_boringtun`'s; it reads
//! the monotonic clock and the system's random bytes itself, so its timers are not replayed from a
//! seed. This crate keeps the table of peers and what the library leaves to its user: bounds, who may
//! send from which address, where a peer is reached now, and a reason for every refused datagram.
//!
//! [`Tunnels`] has no socket, thread or file. [`TunnelPort`] puts it around any packet port.
//!
//! Nothing is queued and nothing allocated per packet: a packet for a peer without keys is refused
//! and starts a handshake, and whoever sent it sends it again.
//!
//! Invariant: a packet comes out only with the tunnel address of the key that authenticated it, and
//! goes in only for the peer whose tunnel address it is sent to; an endpoint changes only by a
//! message that its peer's key authenticated.
//!
//! Source: WireGuard white paper (Donenfeld, NDSS 2017), §5 and §6.
#![forbid(unsafe_code)]

mod count;
pub mod inner;
mod key;
mod key_file;
mod peer;
mod port;
mod table;

pub use count::{Refusal, TunnelCounts};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use key_file::{KeyFileError, read_key_file};
pub use peer::{PeerSetup, PeerState};
pub use port::{MESSAGE_MAX, TICK, TunnelPort};
pub use table::{Limits, PeerError, Received, Sending, Tunnels};

use std::net::IpAddr;

/// Bytes that a WireGuard message puts around an IP packet, UDP and outer IP left out: header 16,
/// authentication tag 16.
///
/// Source: white paper §5.4.6.
pub const MESSAGE_OVERHEAD: usize = 32;

/// Smallest buffer for any call that writes a message: an initiation.
///
/// Source: white paper §5.4.2.
pub const MESSAGE_MIN: usize = 148;

/// Bytes that the tunnel adds to an IP packet on the way to an `endpoint`: 60 over IPv4, 80 over
/// IPv6. An N3 path through a tunnel has this much less room than the path to the endpoint.
#[must_use]
pub const fn overhead(endpoint: IpAddr) -> usize {
    let udp_and_message = 8 + MESSAGE_OVERHEAD;
    match endpoint {
        IpAddr::V4(_) => 20 + udp_and_message,
        IpAddr::V6(_) => 40 + udp_and_message,
    }
}
