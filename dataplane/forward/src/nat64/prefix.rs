//! IPv4 addresses inside IPv6 addresses. Source: RFC 6052.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::header::IPV6_MTU_MIN;
use crate::mtu::INNER_MTU_MIN;
use crate::translate::TranslateRefusal;

/// 64:ff9b::/96. Source: RFC 6052 §2.1.
const WELL_KNOWN: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

/// How NAT64 is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat64Config {
    /// The first 96 bits of addresses that stand for IPv4 hosts; the last 32 are zero.
    pub prefix: Ipv6Addr,
    /// MTU of the path to the IPv4 network, in bytes.
    pub mtu_v4: u16,
    /// MTU of the path to subscribers, in bytes.
    pub mtu_v6: u16,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nat64ConfigError {
    /// The last 32 bits, or bits 64 to 71, are not zero.
    #[error("{0} is no /96 prefix for ipv4 addresses: its last 32 bits and bits 64 to 71 are zero")]
    Prefix(Ipv6Addr),
    /// An MTU below 576 (IPv4) or 1280 (IPv6) bytes.
    #[error("an mtu of {0} bytes is below what every host takes")]
    Mtu(u16),
}

/// The translation of headers.
#[derive(Debug, Clone)]
pub struct Nat64 {
    prefix: Ipv6Addr,
    pub(super) mtu_v4: u16,
    pub(super) mtu_v6: u16,
    /// Identification of the last IPv4 packet.
    pub(super) last_id: u16,
}

impl Default for Nat64Config {
    /// The well-known prefix, 1500 bytes on both sides.
    fn default() -> Self {
        Self {
            prefix: WELL_KNOWN,
            mtu_v4: 1500,
            mtu_v6: 1500,
        }
    }
}

impl Nat64 {
    /// A translation.
    ///
    /// # Errors
    ///
    /// [`Nat64ConfigError`].
    pub const fn try_new(config: Nat64Config) -> Result<Self, Nat64ConfigError> {
        let [_, _, _, _, _, _, _, _, reserved, _, _, _, a, b, c, d] = config.prefix.octets();
        if reserved | a | b | c | d != 0 {
            return Err(Nat64ConfigError::Prefix(config.prefix));
        }
        if config.mtu_v4 < INNER_MTU_MIN {
            return Err(Nat64ConfigError::Mtu(config.mtu_v4));
        }
        if config.mtu_v6 < IPV6_MTU_MIN {
            return Err(Nat64ConfigError::Mtu(config.mtu_v6));
        }
        Ok(Self {
            prefix: config.prefix,
            mtu_v4: config.mtu_v4,
            mtu_v6: config.mtu_v6,
            last_id: 0,
        })
    }

    /// The IPv6 address of an IPv4 host.
    #[must_use]
    pub fn embed(&self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.prefix.to_bits() | u128::from(address.to_bits()))
    }

    /// The IPv4 host of an IPv6 address; `None` when the address is not in the prefix.
    #[must_use]
    pub fn extract(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let [.., a, b, c, d] = address.octets();
        let host = Ipv4Addr::new(a, b, c, d);
        (self.embed(host) == address).then_some(host)
    }

    /// As [`Self::extract`], with the hosts refused that no subscriber may reach.
    pub(crate) fn reach(&self, address: Ipv6Addr) -> Result<Option<Ipv4Addr>, TranslateRefusal> {
        let Some(host) = self.extract(address) else {
            return Ok(None);
        };
        let [first, second, ..] = host.octets();
        let no_host = first == 0 || first == 127 || first >= 224;
        let shared = first == 100 && second & 0xc0 == 64;
        let local = host.is_private() || host.is_link_local() || shared;
        if no_host || local && self.prefix == WELL_KNOWN {
            return Err(TranslateRefusal::DestinationForbidden);
        }
        Ok(Some(host))
    }
}
