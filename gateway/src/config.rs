//! Configuration of the gateway process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use qlink_types::ids::{GatewayId, OperatorId};
use serde::{Deserialize, Serialize};

use crate::tunnels::TunnelConfig;

/// The gateway's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where the REST API and the console listen. Example: `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// The node's RPC. Example: `http://127.0.0.1:7001`.
    pub node: String,
    /// The data plane's control socket. Example: `/run/qlink/dataplane.sock`.
    pub dataplane: PathBuf,
    /// Folder of everything durable. Example: `/var/lib/qlink/gateway`.
    pub directory: PathBuf,
    /// File with the gateway's secret key: 64 hexadecimal digits, mode 0600.
    pub key_file: PathBuf,
    /// This gateway's registration on the chain.
    pub gateway: GatewayId,
    /// The mobile operator's registration on the chain.
    pub operator: OperatorId,
    /// First subscriber address. Example: `10.45.0.1`.
    pub ue_base: Ipv4Addr,
    /// Number of subscriber addresses. Example: `1024`; at most 65536.
    pub ue_count: u32,
    /// Servers that sponsored contents may come from; empty: any.
    #[serde(default)]
    pub origins: Vec<SocketAddr>,
    /// Largest content that may be uploaded, in bytes. Default: 4 GiB.
    #[serde(default = "default_upload")]
    pub upload_bytes_max: u64,
    /// Pause between two looks at the counters, in milliseconds. Default: 250.
    #[serde(default = "default_tick")]
    pub settle_every_ms: u64,
    /// BaseStations may enrol for the data plane's tunnel by themselves; a table of its own. Absent:
    /// only the operator lets them in, by `qlink tunnel add`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelConfig>,
}

const fn default_upload() -> u64 {
    4 << 30
}

const fn default_tick() -> u64 {
    250
}

/// Why a configuration is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number is out of its range.
    #[error("{key} is {value}; it must be from {low} to {high}")]
    Range {
        /// Which key.
        key: &'static str,
        /// What was given.
        value: u64,
        /// Least.
        low: u64,
        /// Most.
        high: u64,
    },
    /// The node's address is not one.
    #[error("node is '{0}'; it must begin with http://")]
    Node(String),
}

impl GatewayConfig {
    /// Checks what types alone do not.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let tunnels = self.tunnel.map_or(1, |tunnel| tunnel.count);
        let ranges = [
            ("tunnel.count", u64::from(tunnels), 1, 65_536),
            ("ue_count", u64::from(self.ue_count), 1, 65_536),
            ("settle_every_ms", self.settle_every_ms, 10, 60_000),
            ("upload_bytes_max", self.upload_bytes_max, 1, 1 << 40),
        ];
        for (key, value, low, high) in ranges {
            if value < low || value > high {
                return Err(ConfigError::Range {
                    key,
                    value,
                    low,
                    high,
                });
            }
        }
        if self.node.starts_with("http://") {
            Ok(())
        } else {
            Err(ConfigError::Node(self.node.clone()))
        }
    }
}
