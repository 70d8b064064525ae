//! How much longer the tunnel makes a packet.

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
