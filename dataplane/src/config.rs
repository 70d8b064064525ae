//! Configuration of a data plane process.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plane::PlaneLimits;
use crate::shard::WORKERS_MAX;

/// Configuration as written; [`Self::validate`] before use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataplaneConfig {
    /// Our GTP-U endpoint, for example `127.0.0.1:2152`; port 0 chooses one.
    pub n3: SocketAddr,
    /// Our endpoint towards origins, for example `127.0.0.1:5000`; port 0 chooses one.
    pub n6_local: SocketAddr,
    /// Where uplink packets go, and from where downlink packets come.
    pub n6_peer: SocketAddr,
    /// Path of the control socket.
    pub control_socket: PathBuf,
    /// Path of the counter arena.
    pub arena: PathBuf,
    /// Path of the control journal.
    pub journal: PathBuf,
    /// Worker threads, 1 to 16, each with an arena of its own (`arena`, `arena.1`, ...) and an equal
    /// share of the bounds below. The arenas belong to this number.
    #[serde(default = "default_workers")]
    pub workers: u8,
    /// Most sessions, 1 to 1048576. The arena belongs to these bounds.
    #[serde(default = "default_sessions")]
    pub max_sessions: u32,
    /// Most content flows at once, 1 to 65536; each takes some 40 KB of the arena.
    #[serde(default = "default_flows")]
    pub max_flows: u32,
    /// Most (session, content) pairs, 1 to 4194304.
    #[serde(default = "default_views")]
    pub max_views: u32,
    /// Most bound contents, 1 to 1048576.
    #[serde(default = "default_contents")]
    pub max_contents: u32,
}

const fn default_workers() -> u8 {
    1
}

const fn default_sessions() -> u32 {
    1024
}

const fn default_flows() -> u32 {
    512
}

const fn default_views() -> u32 {
    2048
}

const fn default_contents() -> u32 {
    1024
}

/// Which key of a configuration is not usable; exit code 64 at the shell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number is outside its range.
    #[error("{key} is {value}, allowed is {min} to {max}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u32,
        /// Smallest allowed value.
        min: u32,
        /// Largest allowed value.
        max: u32,
    },
    /// An address cannot be a peer's.
    #[error("{key} is {value}, which is not one endpoint's address")]
    Address {
        /// The key.
        key: &'static str,
        /// Its value.
        value: SocketAddr,
    },
}

impl DataplaneConfig {
    /// The bounds of each worker, once every key is known to be usable.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`].
    pub fn validate(&self) -> Result<PlaneLimits, ConfigError> {
        let workers = u32::from(self.workers);
        let ranges = [
            ("workers", workers, WORKERS_MAX.into()),
            ("max_sessions", self.max_sessions, 1 << 20),
            ("max_flows", self.max_flows, 1 << 16),
            ("max_views", self.max_views, 1 << 22),
            ("max_contents", self.max_contents, 1 << 20),
        ];
        for (key, value, max) in ranges {
            if value == 0 || value > max {
                let min = 1;
                return Err(ConfigError::Range {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        for (key, value) in [("n3", self.n3), ("n6_peer", self.n6_peer)] {
            let port_missing = key == "n6_peer" && value.port() == 0;
            if value.ip().is_unspecified() || port_missing {
                return Err(ConfigError::Address { key, value });
            }
        }
        Ok(PlaneLimits {
            sessions: self.max_sessions.div_ceil(workers),
            flows: self.max_flows.div_ceil(workers),
            views: self.max_views.div_ceil(workers),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> serde_json::Value {
        serde_json::json!({
            "n3": "127.0.0.1:2152", "n6_local": "127.0.0.1:0", "n6_peer": "127.0.0.3:5000",
            "control_socket": "control", "arena": "arena", "journal": "journal",
        })
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let mut value = config();
        value["n4"] = "x".into();

        assert!(serde_json::from_value::<DataplaneConfig>(value).is_err());
    }

    #[test]
    fn bounds_are_checked_with_key_and_value() {
        let mut value = config();
        value["max_flows"] = 0.into();
        let config: DataplaneConfig = serde_json::from_value(value).unwrap();

        let error = config.validate().unwrap_err();

        assert_eq!(error.to_string(), "max_flows is 0, allowed is 1 to 65536");
    }
}
