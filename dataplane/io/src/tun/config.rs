//! What an interface is to be: read from configuration files, checked while it is read.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name, bytes. Source: `IFNAMSIZ` of linux/if.h less its closing zero.
const NAME_MAX: usize = 15;

/// Smallest MTU: what every IPv4 link carries. Source: RFC 791 §3.2.
pub const MTU_MIN: u16 = 68;

/// Largest MTU; a packet of this length fits a receive place of this back end.
pub const MTU_MAX: u16 = 9216;

/// The MTU that leaves room for GTP-U on a link of 1500 bytes: 36 bytes of IPv4, UDP and GTP-U
/// headers, 8 more with a PDU session container, and some to spare (chosen).
pub const DEFAULT_MTU: u16 = 1400;

/// Why a text names no interface, MTU or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunTextError {
    /// No name that Linux takes.
    #[error("interface name {0:?} must be 1 to 15 of a-z A-Z 0-9 . _ - and at most one %d")]
    Name(String),
    /// Outside [`MTU_MIN`] to [`MTU_MAX`].
    #[error("MTU {0} must be 68 to 9216")]
    Mtu(u16),
    /// Not an address with a prefix length.
    #[error("interface address {0:?} must be like 10.45.0.1/16")]
    Address(String),
}

/// An interface to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunConfig {
    /// Its name, for example `qlink-n6`; `%d` in it is the first free number.
    pub name: TunName,
    /// Its MTU in bytes, 68 to 9216, for example 1400. Absent together with `address`: the
    /// interface was set up beforehand (`ip tuntap add`) and is used as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<TunMtu>,
    /// Its IPv4 address and prefix, for example `10.45.0.1/16`; absent: none is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<TunAddress>,
}

impl TunConfig {
    /// What is set on the interface: MTU and address; `None`: nothing, it is used as it stands.
    pub(super) fn setup(&self) -> Option<(TunMtu, Option<TunAddress>)> {
        let mtu = self
            .mtu
            .or_else(|| self.address.map(|_| TunMtu(DEFAULT_MTU)))?;
        Some((mtu, self.address))
    }
}

/// The name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TunName(String);

impl TunName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TunName {
    type Error = TunTextError;

    fn try_from(text: String) -> Result<Self, TunTextError> {
        let plain = text.replacen("%d", "0", 1);
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let usable = (1..=NAME_MAX).contains(&text.len())
            && plain.bytes().all(known)
            && !matches!(text.as_str(), "." | "..");
        if usable {
            Ok(Self(text))
        } else {
            Err(TunTextError::Name(text))
        }
    }
}

impl FromStr for TunName {
    type Err = TunTextError;

    fn from_str(text: &str) -> Result<Self, TunTextError> {
        Self::try_from(text.to_owned())
    }
}

impl From<TunName> for String {
    fn from(name: TunName) -> Self {
        name.0
    }
}

impl fmt::Display for TunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An MTU, [`MTU_MIN`] to [`MTU_MAX`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct TunMtu(u16);

impl TunMtu {
    /// Bytes.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for TunMtu {
    type Error = TunTextError;

    fn try_from(bytes: u16) -> Result<Self, TunTextError> {
        if (MTU_MIN..=MTU_MAX).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(TunTextError::Mtu(bytes))
        }
    }
}

impl From<TunMtu> for u16 {
    fn from(mtu: TunMtu) -> Self {
        mtu.0
    }
}

/// An IPv4 address with its prefix length, 0 to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TunAddress {
    address: Ipv4Addr,
    prefix: u8,
}

impl TunAddress {
    /// The interface's own address.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.address
    }

    /// The network mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        let host_bits = 32_u32.saturating_sub(self.prefix.into());
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }
}

impl FromStr for TunAddress {
    type Err = TunTextError;

    fn from_str(text: &str) -> Result<Self, TunTextError> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
            let address = address.parse().ok()?;
            Some(Self { address, prefix })
        });
        parsed.ok_or_else(|| TunTextError::Address(text.to_owned()))
    }
}

impl TryFrom<String> for TunAddress {
    type Error = TunTextError;

    fn try_from(text: String) -> Result<Self, TunTextError> {
        text.parse()
    }
}

impl From<TunAddress> for String {
    fn from(address: TunAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for TunAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_linux_refuses_are_refused_while_reading() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a%",
            "%d%d",
            "sixteen-letters-",
        ] {
            assert!(name.parse::<TunName>().is_err(), "{name:?}");
        }
        for name in ["qlink-n6", "tun%d", "a", "exactly-fifteen"] {
            assert!(name.parse::<TunName>().is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_mask_covers_exactly_the_prefix() {
        let masks = [
            ("10.0.0.1/0", "0.0.0.0"),
            ("10.0.0.1/16", "255.255.0.0"),
            ("10.0.0.1/32", "255.255.255.255"),
        ];
        for (text, mask) in masks {
            let address: TunAddress = text.parse().unwrap();

            assert_eq!(address.mask().to_string(), mask);
            assert_eq!(address.to_string(), text);
        }
        for text in ["10.0.0.1", "10.0.0.1/33", "10.0.0/8", "::1/64"] {
            assert!(text.parse::<TunAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn mtus_out_of_range_are_refused() {
        assert!(TunMtu::try_from(67).is_err() && TunMtu::try_from(9217).is_err());
        assert!(TunMtu::try_from(68).is_ok() && TunMtu::try_from(9216).is_ok());
    }

    #[test]
    fn an_interface_without_mtu_and_address_is_used_as_it_stands() {
        let name: TunName = "a".parse().unwrap();
        let bare = TunConfig {
            name,
            mtu: None,
            address: None,
        };
        let addressed = TunConfig {
            address: Some("10.0.0.1/8".parse().unwrap()),
            ..bare.clone()
        };

        assert_eq!(bare.setup(), None);
        assert_eq!(
            addressed.setup(),
            Some((TunMtu(DEFAULT_MTU), addressed.address))
        );
    }
}
