//! Identifiers of PFCP and points in time.

use std::net::{Ipv4Addr, Ipv6Addr};

use qlink_types::ids::Teid;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {
        $($(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name($inner);

        impl $name {
            /// From its number.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// Its number.
            #[inline]
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        })*
    };
}

numbers! {
    /// Session endpoint identifier; 0 means that the peer's is not known yet.
    ///
    /// Source: TS 29.244 §5.6.2 and §7.2.2.4.2.
    Seid(u64);
    /// Packet detection rule id. Source: TS 29.244 §8.2.36.
    PdrId(u16);
    /// Forwarding action rule id. Source: TS 29.244 §8.2.74.
    FarId(u32);
    /// Usage reporting rule id. Source: TS 29.244 §8.2.54.
    UrrId(u32);
    /// `QoS` enforcement rule id. Source: TS 29.244 §8.2.75.
    QerId(u32);
    /// Buffering action rule id. Source: TS 29.244 §8.2.57.
    BarId(u8);
    /// Number of a traffic endpoint in its session. Source: TS 29.244 §8.2.92.
    TrafficEndpointId(u8);
    /// Precedence of a packet detection rule: the lowest value is looked at first.
    ///
    /// Source: TS 29.244 §8.2.11.
    Precedence(u32);
    /// `QoS` flow identifier, 0 to 63. Source: TS 29.244 §8.2.89.
    Qfi(u8);
    /// Seconds since the Unix epoch; PFCP carries NTP seconds. Source: RFC 5905 §6.
    Time(u64);
}

/// A PFCP session endpoint with its node's addresses; at least one is there.
///
/// Source: TS 29.244 §8.2.37.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FSeid {
    /// Its number at that node.
    pub seid: Seid,
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// A tunnel endpoint with its addresses; at least one is there.
///
/// Source: TS 29.244 §8.2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FTeid {
    /// Its number at those addresses; never 0.
    pub teid: Teid,
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

/// The name of a PFCP node; it outlives its addresses.
///
/// Source: TS 29.244 §8.2.38.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// IPv4 address.
    V4(Ipv4Addr),
    /// IPv6 address.
    V6(Ipv6Addr),
    /// Fully qualified domain name in text form, 1 to 253 bytes, lower case.
    Fqdn(String),
}

/// A set of session management functions that share what they store: a domain name in text form,
/// as [`NodeId::Fqdn`].
///
/// Source: TS 29.244 §5.22 and §8.2.147.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SmfSetId(pub String);
