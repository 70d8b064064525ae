//! The BaseStation's configuration.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use qlink_io::tun::TunConfig;
use qlink_types::ids::{BaseStationId, GatewayId};
use qlink_types::signature::ChainId;
use serde::{Deserialize, Serialize};

use crate::link::TunnelLink;

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
    /// Where subscribers' packets come from: `radio = "127.0.0.1:2153"`, or a table `[radio.tun]`.
    pub radio: Radio,
    /// UDP address of N3, port 2152 as a rule. The gateway must see this address; with a tunnel it is
    /// our address in it.
    pub n3: SocketAddr,
    /// The gateway's N3 addresses; GTP-U from anywhere else is dropped.
    pub trusted_gateways: Vec<SocketAddr>,
    /// The link `tunnel`: N3 through WireGuard, from behind translators and over networks that nobody
    /// trusts; a table of its own. Absent: the link `plain`, GTP-U from an address that the gateway
    /// trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelLink>,
    /// Unix socket for local control, created with mode 0600.
    pub control: PathBuf,
    /// Sessions at a time, 1 to 65,536.
    #[serde(default = "sessions_max")]
    pub sessions_max: usize,
}

/// The radio side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "radio must be a UDP address such as \"127.0.0.1:2153\" or a table radio.tun with name, mtu and address"
)]
pub enum Radio {
    /// Raw inner IP packets over UDP; every session names its device's address there.
    Udp(SocketAddr),
    /// An interface of this machine; its kernel routes subscribers' packets into it and back out.
    Interface(RadioInterface),
}

/// The radio side as an interface.
///
/// A packet's source address alone names its session there. That one device cannot send as another
/// is the access network's duty (reverse path filter, client isolation), as it is the radio
/// network's duty in a mobile network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RadioInterface {
    /// The interface that this BaseStation makes.
    pub tun: TunConfig,
}

impl fmt::Display for Radio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => address.fmt(f),
            Self::Interface(interface) => interface.tun.name.fmt(f),
        }
    }
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
    /// A tunnel leads to one gateway.
    #[error(
        "trusted_gateways has {0} entries, with a tunnel it has one: the gateway in the tunnel"
    )]
    TunnelGateways(usize),
    /// `n3` is not our address in the tunnel.
    #[error("n3 is {0}, with a tunnel it is our address in the tunnel")]
    TunnelAddress(SocketAddr),
    /// `tunnel.keepalive_s` is outside its range.
    #[error("tunnel.keepalive_s is {0}, allowed are 1 to 3600")]
    Keepalive(u16),
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
        if let Some(tunnel) = &self.tunnel {
            self.validate_tunnel(tunnel)?;
        }
        let uri = self.api.parse::<http::Uri>().ok();
        if uri.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.authority().is_none()) {
            return Err(ConfigError::Api(self.api.clone()));
        }
        Ok(())
    }

    fn validate_tunnel(&self, tunnel: &TunnelLink) -> Result<(), ConfigError> {
        let [gateway] = self.trusted_gateways.as_slice() else {
            return Err(ConfigError::TunnelGateways(self.trusted_gateways.len()));
        };
        let one_family = gateway.is_ipv4() == self.n3.is_ipv4();
        if self.n3.ip().is_unspecified() || self.n3.port() == 0 || !one_family {
            return Err(ConfigError::TunnelAddress(self.n3));
        }
        if !(1..=3600).contains(&tunnel.keepalive_s) {
            return Err(ConfigError::Keepalive(tunnel.keepalive_s));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn radio(value: serde_json::Value) -> Result<Radio, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn radio_is_an_address_or_an_interface() {
        let tun = serde_json::json!({"tun": {"name": "radio%d", "mtu": 1400}});

        assert!(matches!(radio("127.0.0.1:2153".into()), Ok(Radio::Udp(_))));
        let interface = radio(tun.clone()).unwrap();
        assert_eq!(interface.to_string(), "radio%d");
        assert_eq!(serde_json::to_value(&interface).unwrap(), tun);
    }

    #[test]
    fn any_other_radio_is_refused_with_what_it_may_be() {
        for value in [
            serde_json::json!("127.0.0.1"),
            serde_json::json!({"tun": {"name": "a/b"}}),
            serde_json::json!({"tun": {"name": "a"}, "tap": {}}),
        ] {
            let error = radio(value).unwrap_err().to_string();

            assert!(error.contains("radio.tun"), "{error}");
        }
    }
}
