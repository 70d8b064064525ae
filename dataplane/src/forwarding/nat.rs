//! The `[nat]` table of the configuration.

use std::net::{Ipv4Addr, Ipv6Addr};

use qlink_forward::nat::{Filtering, Hairpinning, NatConfig, PoolShare, Timeouts};
use qlink_forward::nat64::{Nat64, Nat64Config};
use serde::{Deserialize, Serialize};

use super::mtu::Paths;
use crate::config::ConfigError;
use crate::export::Span;

/// Most addresses of a pool: each takes 768 KiB of memory over all workers (chosen: 768 MiB).
const POOL_MAX: usize = 1024;

/// Most mappings, and most connections.
const TABLE_MAX: u32 = 1 << 24;

/// Source: RFC 8200 §5.
pub(super) const IPV6_MTU_MIN: u16 = 1280;

/// Addresses of the pool: one, or all of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolEntry {
    first: Ipv4Addr,
    prefix: u8,
}

impl PoolEntry {
    fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = self.first.to_bits();
        let last = first | u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        (first..=last).map(Ipv4Addr::from_bits)
    }
}

impl TryFrom<String> for PoolEntry {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((&text, "32"));
        let entry = || {
            let first: Ipv4Addr = address.parse().ok()?;
            let prefix: u8 = prefix
                .parse()
                .ok()
                .filter(|bits| (16..=32).contains(bits))?;
            let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            (first.to_bits() & host == 0).then_some(Self { first, prefix })
        };
        entry().ok_or_else(|| {
            format!(
                "'{text}' is no address such as \"198.51.100.7\" and no prefix of 16 to 32 bits \
                 such as \"203.0.113.0/28\""
            )
        })
    }
}

impl From<PoolEntry> for String {
    fn from(entry: PoolEntry) -> Self {
        match entry.prefix {
            32 => entry.first.to_string(),
            prefix => format!("{}/{prefix}", entry.first),
        }
    }
}

/// Which packets from outside reach a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatFiltering {
    /// Whoever knows the outside port may answer; what peers that meet through a server need.
    #[default]
    EndpointIndependent,
    /// Only hosts that the subscriber wrote to.
    AddressDependent,
}

/// What becomes of subscribers' IPv4 packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NatIpv4 {
    /// They leave with an address of the pool.
    #[default]
    Translate,
    /// They leave as they are: subscribers have public addresses, and the pool is for NAT64 alone.
    Leave,
}

/// Where port blocks are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NatLog {
    /// To the collector of the table `ipfix`.
    #[default]
    Ipfix,
    /// Nowhere but in the counters.
    None,
}

/// Translation of subscribers' addresses to public ones: NAT44, and NAT64 where a prefix is given.
/// IPv4 packets to origins leave with an address and a port of the pool; IPv6 is left alone but for
/// the prefix. The pool must be routed to this gateway, and be none of this machine's addresses.
/// Without a table `mtu` its defaults hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatTable {
    /// Public addresses, 1 to 1024 in all: single ones and prefixes of 16 to 32 bits.
    /// `["198.51.100.7", "203.0.113.0/28"]`.
    pub pool: Vec<PoolEntry>,
    /// Ports of a block, a power of two from 64 to 4096; a block is what a subscriber is given and
    /// what is logged. Default `512`.
    #[serde(default = "default_block_ports")]
    pub block_ports: u16,
    /// Most blocks of one subscriber, 1 to 8, all on one address. Default `4`.
    #[serde(default = "default_blocks")]
    pub blocks_per_subscriber: u8,
    /// Most mappings (inside address and port) of all subscribers, 1 to 16777216. Default `65536`.
    #[serde(default = "default_table")]
    pub max_mappings: u32,
    /// Most TCP connections, and with `address_dependent` most remote addresses of mappings, of all
    /// subscribers, 1 to 16777216. Default `65536`.
    #[serde(default = "default_table")]
    pub max_connections: u32,
    /// The same of one subscriber, 1 to 65536. Default `2048`.
    #[serde(default = "default_subscriber")]
    pub connections_per_subscriber: u32,
    /// Which packets from outside reach a subscriber: `endpoint_independent` (the default) or
    /// `address_dependent`.
    #[serde(default)]
    pub filtering: NatFiltering,
    /// How long a port, and a block, rests before another subscriber has it, 0 s to 1 h. Default
    /// `"120s"` (RFC 6888 §3 REQ-8). It holds over a restart and a kill.
    #[serde(default = "default_hold")]
    pub hold: Span,
    /// How long a UDP mapping lives without a packet from inside, 2 min to 1 h. Default `"300s"`.
    #[serde(default = "default_udp")]
    pub udp_timeout: Span,
    /// How long an open TCP connection lives without a segment, 5 min to 24 h. Default `"7440s"`
    /// (RFC 5382 §5 REQ-5).
    #[serde(default = "default_tcp")]
    pub tcp_timeout: Span,
    /// The prefix of 96 bits under which IPv6 subscribers reach IPv4 hosts; absent: no NAT64. The
    /// well-known one, `"64:ff9b::"`, reaches public addresses only (RFC 6052 §3.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat64_prefix: Option<Ipv6Addr>,
    /// What becomes of subscribers' IPv4 packets: `translate` (the default), or `leave`, which needs
    /// `nat64_prefix`.
    #[serde(default)]
    pub ipv4: NatIpv4,
    /// Where blocks are logged when they are given and taken back: `ipfix` (the default), which
    /// needs that table, or `none`.
    #[serde(default)]
    pub log: NatLog,
}

const fn default_block_ports() -> u16 {
    512
}

const fn default_blocks() -> u8 {
    4
}

const fn default_table() -> u32 {
    65_536
}

const fn default_subscriber() -> u32 {
    2048
}

const fn seconds(seconds: u64) -> Span {
    Span(std::time::Duration::from_secs(seconds))
}

const fn default_hold() -> Span {
    seconds(120)
}

const fn default_udp() -> Span {
    seconds(300)
}

const fn default_tcp() -> Span {
    seconds(7440)
}

/// One worker among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerShare {
    /// Its number.
    pub worker: u8,
    /// How many there are.
    pub workers: u8,
    /// Most sessions of it.
    pub sessions: u32,
    /// Seed of hashes, unknown outside.
    pub secret: u64,
}

impl NatTable {
    /// # Errors
    ///
    /// The first [`ConfigError`].
    pub(crate) fn validate(&self, workers: u8) -> Result<(), ConfigError> {
        let seconds = |span: Span| u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
        let ranges = [
            ("nat.max_mappings", self.max_mappings, 1, TABLE_MAX),
            ("nat.max_connections", self.max_connections, 1, TABLE_MAX),
            (
                "nat.connections_per_subscriber",
                self.connections_per_subscriber,
                1,
                65_536,
            ),
            ("nat.hold in s", seconds(self.hold), 0, 3600),
            ("nat.udp_timeout in s", seconds(self.udp_timeout), 120, 3600),
            (
                "nat.tcp_timeout in s",
                seconds(self.tcp_timeout),
                300,
                86_400,
            ),
        ];
        for (key, value, min, max) in ranges {
            if value < min || value > max {
                return Err(ConfigError::Range {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        if self.ipv4 == NatIpv4::Leave && self.nat64_prefix.is_none() {
            return Err(ConfigError::Key {
                key: "nat.ipv4",
                value: "leave".to_owned(),
                allowed: "translate, or leave with nat.nat64_prefix: else nothing is translated",
            });
        }
        let addresses = self.addresses().count();
        if addresses > POOL_MAX {
            return Err(ConfigError::Pool(addresses));
        }
        for worker in 0..workers {
            let share = WorkerShare {
                worker,
                workers,
                sessions: 1,
                secret: 0,
            };
            self.engine(share).check().map_err(ConfigError::Nat)?;
        }
        let paths = super::MtuConfig::default().paths(Ipv4Addr::LOCALHOST.into())?;
        self.nat64(&paths).map(drop)
    }

    /// Every address of the pool.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.pool.iter().flat_map(|entry| entry.addresses())
    }

    /// The engine of one worker.
    pub(super) fn engine(&self, share: WorkerShare) -> NatConfig {
        let nanos = |span: Span| u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX);
        let workers = u32::from(share.workers).max(1);
        NatConfig {
            pool: self.addresses().collect(),
            share: PoolShare {
                index: share.worker,
                of: share.workers,
            },
            block_ports: self.block_ports,
            blocks_per_subscriber: self.blocks_per_subscriber,
            subscribers: share.sessions,
            mappings: self.max_mappings.div_ceil(workers),
            sessions: self.max_connections.div_ceil(workers),
            sessions_per_subscriber: self.connections_per_subscriber,
            filtering: match self.filtering {
                NatFiltering::EndpointIndependent => Filtering::EndpointIndependent,
                NatFiltering::AddressDependent => Filtering::AddressDependent,
            },
            hairpinning: Hairpinning::Refuse,
            timeouts: Timeouts {
                udp_ns: nanos(self.udp_timeout),
                tcp_established_ns: nanos(self.tcp_timeout),
                rest_ns: nanos(self.hold),
                ..Timeouts::default()
            },
            secret: share.secret,
        }
    }

    /// The translation between families, where there is one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Nat64`].
    pub(super) fn nat64(&self, paths: &Paths) -> Result<Option<Nat64>, ConfigError> {
        let Some(prefix) = self.nat64_prefix else {
            return Ok(None);
        };
        Nat64::try_new(Nat64Config {
            prefix,
            mtu_v4: paths.n6.inner_mtu(),
            mtu_v6: paths.narrowest_tunnel().inner_mtu().max(IPV6_MTU_MIN),
        })
        .map(Some)
        .map_err(ConfigError::Nat64)
    }
}

#[cfg(test)]
#[path = "nat_tests.rs"]
mod tests;
