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
//! Who restarts has lost its keys, and its peers do not notice: they encrypt with the old ones until
//! data stays unanswered, and one that only receives has no data to send. So the user of this crate
//! keeps what [`Tunnels::moved`] tells and hands it to [`Tunnels::recall`] at the next start, and
//! [`Tunnels::tick`] calls those peers: at a bounded rate, first those that send with old keys.
//!
//! Invariant: a packet comes out only with the tunnel address of the key that authenticated it, and
//! goes in only for the peer whose tunnel address it is sent to; an endpoint changes only by a
//! message that its peer's key authenticated.
//!
//! Source: WireGuard white paper (Donenfeld, NDSS 2017), §5 and §6.
#![forbid(unsafe_code)]

mod calls;
mod count;
pub mod inner;
mod key;
mod key_file;
mod lane;
mod overhead;
mod peer;
mod port;
mod removed;
#[cfg(test)]
mod succession_tests;
mod table;

pub use count::{Refusal, TunnelCounts};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use key_file::{KeyFileError, read_key_file};
pub use lane::{LANES_MAX, Lane};
pub use overhead::{MESSAGE_MIN, MESSAGE_OVERHEAD, overhead};
pub use peer::{PeerSetup, PeerState};
pub use port::{Beside, MESSAGE_MAX, TICK, TunnelPort};
pub use table::{Limits, PeerError, Received, Sending, Tunnels};
