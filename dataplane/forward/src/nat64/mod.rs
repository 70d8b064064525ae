//! NAT64: packets of IPv6 subscribers to IPv4 hosts and back.
//!
//! ```text
//! IPv6  subscriber:port -> prefix::192.0.2.1:80      64:ff9b::/96 or an own /96
//! IPv4  pool address:port -> 192.0.2.1:80
//! ```
//!
//! | Rule | Source |
//! |---|---|
//! | mappings and sessions | RFC 6146 §3.5; [`crate::nat`] |
//! | an IPv4 address in a /96 prefix, bits 64 to 71 zero | RFC 6052 §2.2 |
//! | the well-known prefix reaches no private address | RFC 6052 §3.1 |
//! | headers, hop limit minus one, traffic class kept | RFC 7915 §4.1, §5.1 |
//! | don't fragment is clear up to 1260 bytes of IPv4 packet | RFC 7915 §5.1 |
//! | IPv4 options and IPv6 extension headers are left out, source routes refused | RFC 7915 §4.1, §5.1.1 |
//! | ICMP types, codes, pointers and MTU (20 bytes apart) | RFC 7915 §4.2, §5.2 |
//! | errors are translated with the packet that they quote | RFC 7915 §4.3, §5.3 |
//! | a UDP checksum of zero is made, or refused in fragments | RFC 7915 §4.5 |
//! | fragmented ICMP is refused | RFC 7915 §1.2 |
//!
//! Known gap: lengths of ICMP extension objects (RFC 4884) are set to zero, so that receivers see
//! the objects as part of the quoted packet.

mod header;
mod icmp;
mod prefix;

pub use prefix::{Nat64, Nat64Config, Nat64ConfigError};
