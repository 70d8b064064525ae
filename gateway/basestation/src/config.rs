//! The BaseStation's configuration.
use std::net::SocketAddr;
use std::path::PathBuf;

use qlink_types::ids::{BaseStationId, GatewayId};
use qlink_types::signature::ChainId;
use serde::{Deserialize, Serialize};

/// How a BaseStation is set up. Every key is one of the TOML file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The chain that signatures are for.
    pub chain: ChainId,
    /// This BaseStation's registered id.
    pub basestation: BaseStationId,
    /// The gateway it forwards through.
    pub gateway: GatewayId,
    /// The gateway's REST address, for example `http://127.0.0.1:8080`.
    pub api: String,
    /// File with the device key: 64 hexadecimal digits, mode 0600.
    pub key_file: PathBuf,
    /// UDP address of the radio side: raw inner IP packets.
    pub radio: SocketAddr,
    /// UDP address of N3, port 2152 as a rule. The gateway must see this address.
    pub n3: SocketAddr,
    /// The gateway's N3 addresses; GTP-U from anywhere else is dropped.
    pub trusted_gateways: Vec<SocketAddr>,
    /// Unix socket for local control, created with mode 0600.
    pub control: PathBuf,
    /// Sessions at a time, 1 to 65,536.
    #[serde(default = "sessions_max")]
    pub sessions_max: usize,
}

/// Chosen: what a small node with 512 MB serves.
const fn sessions_max() -> usize {
    4096
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `sessions_max` is 0 or too large.
    #[error("sessions_max is {0}, allowed are 1 to 65536")]
    SessionsMax(usize),
    /// `trusted_gateways` is empty: nothing could ever be forwarded.
    #[error("trusted_gateways is empty")]
    NoGateway,
    /// `api` is no `http://` address.
    #[error("api is {0:?}, which is no http:// address")]
    Api(String),
}

impl Config {
    /// Checks what the types do not.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first wrong key and its value.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=65_536).contains(&self.sessions_max) {
            return Err(ConfigError::SessionsMax(self.sessions_max));
        }
        if self.trusted_gateways.is_empty() {
            return Err(ConfigError::NoGateway);
        }
        let uri = self.api.parse::<http::Uri>().ok();
        if uri.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.authority().is_none()) {
            return Err(ConfigError::Api(self.api.clone()));
        }
        Ok(())
    }
}
