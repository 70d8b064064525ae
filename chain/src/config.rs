//! Configuration of a node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use qlink_ledger::Genesis;
use qlink_types::signature::SecretKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::mempool::PoolLimits;
use crate::node::NodeError;

/// A length of time with its unit: `"200ms"`, `"5s"`, `"10min"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes with its unit: `"512B"`, `"64KB"`, `"8MB"` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SPANS: [(&str, u64); 4] = [("ms", 1), ("min", 60_000), ("s", 1_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 4] = [
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        number.checked_mul(*factor)
    })
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let millis = parse(&text, &SPANS).ok_or_else(|| {
            serde::de::Error::custom(format!("'{text}' is no time such as \"200ms\" or \"5s\""))
        })?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text, &SIZES).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("'{text}' is no size such as \"8MB\" or \"64KB\""))
        })
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}B", self.0))
    }
}

/// How much of the stored chain is checked before a node goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartCheck {
    /// The last block against tree root, receipts, parent and certificate.
    #[default]
    Tip,
    /// Also the state root against every value; takes time and memory in proportion to the state.
    Full,
}

/// Configuration of a node. `genesis` and `seat_key` have no defaults that exist by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Folder of the chain's data, created if missing. `"./chain"`.
    pub data_dir: PathBuf,
    /// Address of the RPC; port 0 takes any. `"127.0.0.1:7001"`.
    pub listen: SocketAddr,
    /// File with the genesis as JSON. `"./genesis.json"`.
    pub genesis: PathBuf,
    /// File with the seat's secret: 64 hexadecimal digits. `"./seat.key"`.
    pub seat_key: PathBuf,
    /// Shortest time between blocks, 1 ms to 1 h. `"200ms"`.
    pub block_interval: Span,
    /// Time between empty blocks while nothing happens, which let ledger time pass; at least
    /// `block_interval`. `"5s"`.
    pub idle_block_interval: Span,
    /// Most bytes of transactions that wait, at least 1 MB. `"8MB"`.
    pub pool_size: Size,
    /// Most transactions that wait, at least 1. `10000`.
    pub pool_transactions: usize,
    /// Versions of the state tree that stay provable, at least 1. `256`.
    pub keep_versions: u64,
    /// What is checked before the node goes on: `"tip"` or `"full"`. `"tip"`.
    pub start_check: StartCheck,
    /// Most RPC connections, at least 1. `256`.
    pub max_connections: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("chain"),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7001),
            genesis: PathBuf::from("genesis.json"),
            seat_key: PathBuf::from("seat.key"),
            block_interval: Span(Duration::from_millis(200)),
            idle_block_interval: Span(Duration::from_secs(5)),
            pool_size: Size(8_000_000),
            pool_transactions: 10_000,
            keep_versions: qlink_store::KEEP_VERSIONS,
            start_check: StartCheck::default(),
            max_connections: 256,
        }
    }
}

impl NodeConfig {
    /// Checks what types alone do not.
    ///
    /// # Errors
    ///
    /// [`NodeError::Config`] names the key, the value and what is allowed.
    pub fn validate(&self) -> Result<(), NodeError> {
        let refuse = |key, detail: String| Err(NodeError::Config { key, detail });
        let interval = self.block_interval.0;
        if interval.is_zero() || interval > Duration::from_secs(3600) {
            return refuse("block_interval", "must be 1ms to 1h".to_owned());
        }
        if self.idle_block_interval.0 < interval {
            let detail = format!("must be at least block_interval, {interval:?}");
            return refuse("idle_block_interval", detail);
        }
        if self.pool_size.0 < 1_000_000 || self.pool_size.0 > 1_000_000_000 {
            return refuse("pool_size", "must be 1MB to 1GB".to_owned());
        }
        if self.pool_transactions == 0 {
            return refuse("pool_transactions", "must be at least 1".to_owned());
        }
        if self.keep_versions == 0 {
            return refuse("keep_versions", "must be at least 1".to_owned());
        }
        if self.max_connections == 0 {
            return refuse("max_connections", "must be at least 1".to_owned());
        }
        Ok(())
    }

    /// The pool's bounds.
    pub(crate) fn pool_limits(&self) -> PoolLimits {
        let limits = PoolLimits::default();
        PoolLimits {
            bytes: usize::try_from(self.pool_size.0).unwrap_or(limits.bytes),
            transactions: self.pool_transactions,
            ..limits
        }
    }

    /// The genesis from its file.
    ///
    /// # Errors
    ///
    /// [`NodeError::Config`] when it cannot be read or breaks a rule.
    pub fn load_genesis(&self) -> Result<Genesis, NodeError> {
        let text = read(&self.genesis, "genesis")?;
        serde_json::from_str(&text).map_err(|error| NodeError::Config {
            key: "genesis",
            detail: format!("{}: {error}", self.genesis.display()),
        })
    }

    /// The seat's key from its file.
    ///
    /// # Errors
    ///
    /// [`NodeError::Config`] when it cannot be read or is no key; the message does not show it.
    pub fn load_seat_key(&self) -> Result<SecretKey, NodeError> {
        let text = read(&self.seat_key, "seat_key")?;
        let mut seed = [0; 32];
        match hex::decode_to_slice(text.trim(), &mut seed) {
            Ok(()) => Ok(SecretKey::from_seed(seed)),
            Err(_) => Err(NodeError::Config {
                key: "seat_key",
                detail: format!(
                    "{} does not hold 64 hexadecimal digits",
                    self.seat_key.display()
                ),
            }),
        }
    }
}

fn read(path: &Path, key: &'static str) -> Result<String, NodeError> {
    std::fs::read_to_string(path).map_err(|error| NodeError::Config {
        key,
        detail: format!("{}: {error}", path.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_its_units_and_refuses_unknown_keys() {
        let good = r#"{"block_interval":"1s","idle_block_interval":"1min","pool_size":"2MB"}"#;
        let config: NodeConfig = serde_json::from_str(good).unwrap();

        assert_eq!(config.idle_block_interval.0, Duration::from_secs(60));
        assert_eq!(config.pool_size, Size(2_000_000));
        config.validate().unwrap();
        for bad in [
            r#"{"block_interval":1}"#,
            r#"{"block_interval":"1"}"#,
            r#"{"pool_size":"2 apples"}"#,
            r#"{"blok_interval":"1s"}"#,
        ] {
            assert!(serde_json::from_str::<NodeConfig>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn contradictory_values_are_refused_by_key() {
        let config = NodeConfig {
            idle_block_interval: Span(Duration::from_millis(1)),
            ..NodeConfig::default()
        };

        let refused = config.validate();

        assert!(matches!(
            refused,
            Err(NodeError::Config {
                key: "idle_block_interval",
                ..
            })
        ));
    }
}
