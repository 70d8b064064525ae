//! The BaseStation's configuration.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use qlink_io::tun::TunConfig;
use qlink_types::ids::{BaseStationId, GatewayId};
use qlink_types::signature::{ChainId, PublicKey};
use serde::{Deserialize, Serialize};

use crate::enrol::Granted;
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
    /// our address in it. Absent where the gateway assigns it: with `tunnel.gateway_device_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n3: Option<SocketAddr>,
    /// The gateway's N3 addresses; GTP-U from anywhere else is dropped. Absent where the gateway tells
    /// them: with `tunnel.gateway_device_key`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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

/// How the gateway is reached.
#[derive(Debug)]
pub(crate) enum Way<'a> {
    /// GTP-U from this address.
    Plain(SocketAddr),
    /// Through a tunnel whose ends are configured.
    Tunnel(&'a TunnelLink, Granted),
    /// Through a tunnel that the gateway with this device key grants.
    Enrol(&'a TunnelLink, &'a PublicKey),
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
    /// `n3` is absent, and nobody assigns it.
    #[error("n3 is missing; only with tunnel.gateway_device_key the gateway assigns it")]
    NoN3,
    /// Addresses are given that the gateway assigns.
    #[error(
        "n3 and trusted_gateways come from the gateway with tunnel.gateway_device_key: remove them"
    )]
    Assigned,
    /// Neither or both ways into the tunnel are given.
    #[error("tunnel needs either gateway_device_key, or endpoint and gateway_key")]
    TunnelEnd,
    /// `n3` is not our address in the tunnel.
    #[error("n3 is {0}, with a tunnel it is our address in the tunnel")]
    TunnelAddress(SocketAddr),
    /// `tunnel.keepalive_s` is outside its range.
    #[error("tunnel.keepalive_s is {0}, allowed are 1 to 3600")]
    Keepalive(u16),
    /// A time of the table `tunnel` is outside its range.
    #[error("tunnel.{key} is {value} s, allowed are {min} to {max} s")]
    TunnelTime {
        /// The key.
        key: &'static str,
        /// Its value, seconds.
        value: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// Keys and addresses that nobody grants cannot be renewed.
    #[error(
        "tunnel.rotate_every needs tunnel.gateway_device_key: by hand nobody learns the new key"
    )]
    RotateByHand,
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
        self.way()?;
        let uri = self.api.parse::<http::Uri>().ok();
        if uri.is_none_or(|uri| uri.scheme_str() != Some("http") || uri.authority().is_none()) {
            return Err(ConfigError::Api(self.api.clone()));
        }
        Ok(())
    }

    /// How the gateway is reached.
    pub(crate) fn way(&self) -> Result<Way<'_>, ConfigError> {
        let Some(link) = &self.tunnel else {
            let n3 = self.n3.ok_or(ConfigError::NoN3)?;
            if self.trusted_gateways.is_empty() {
                return Err(ConfigError::NoGateway);
            }
            return Ok(Way::Plain(n3));
        };
        if !(1..=3600).contains(&link.keepalive_s) {
            return Err(ConfigError::Keepalive(link.keepalive_s));
        }
        link.check_times()?;
        match (&link.gateway_device_key, link.endpoint, link.gateway_key) {
            (Some(gateway), None, None) => {
                if self.n3.is_some() || !self.trusted_gateways.is_empty() {
                    return Err(ConfigError::Assigned);
                }
                Ok(Way::Enrol(link, gateway))
            }
            (None, Some(endpoint), Some(gateway_key)) => {
                let (n3, gtpu) = self.tunnel_ends()?;
                let end = Granted {
                    gateway_key,
                    endpoint,
                    gtpu,
                    n3,
                };
                Ok(Way::Tunnel(link, end))
            }
            _ => Err(ConfigError::TunnelEnd),
        }
    }

    /// Our GTP-U address in the tunnel and the gateway's.
    fn tunnel_ends(&self) -> Result<(SocketAddr, SocketAddr), ConfigError> {
        let n3 = self.n3.ok_or(ConfigError::NoN3)?;
        let [gateway] = self.trusted_gateways.as_slice() else {
            return Err(ConfigError::TunnelGateways(self.trusted_gateways.len()));
        };
        let one_family = gateway.is_ipv4() == n3.is_ipv4();
        if n3.ip().is_unspecified() || n3.port() == 0 || !one_family {
            return Err(ConfigError::TunnelAddress(n3));
        }
        Ok((n3, *gateway))
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

    fn config(n3: &str, trusted: &[&str], tunnel: serde_json::Value) -> Result<(), ConfigError> {
        let mut config = serde_json::json!({
            "chain": ChainId::new([9; 32]), "basestation": BaseStationId::new([1; 16]),
            "gateway": GatewayId::new([2; 16]), "api": "http://127.0.0.1:1", "key_file": "key",
            "radio": "127.0.0.1:2153", "control": "control", "trusted_gateways": trusted,
        });
        if !n3.is_empty() {
            config["n3"] = n3.into();
        }
        if !tunnel.is_null() {
            config["tunnel"] = tunnel;
            config["tunnel"]["key_file"] = "tunnel.key".into();
        }
        serde_json::from_value::<Config>(config).unwrap().validate()
    }

    #[test]
    fn a_tunnel_is_by_hand_or_by_enrolment_and_never_half_of_both() {
        let (own, gateway) = ("10.99.0.2:2152", ["10.99.0.1:2152"]);
        let none = serde_json::Value::Null;
        let device = serde_json::json!(format!("ed25519:{}", "0a".repeat(32)));
        let enrol = serde_json::json!({"gateway_device_key": device});
        let hand =
            serde_json::json!({"endpoint": "198.51.100.1:51820", "gateway_key": "09".repeat(32)});
        let mut both = hand.clone();
        both["gateway_device_key"] = device;
        let half = serde_json::json!({"endpoint": "198.51.100.1:51820"});

        assert_eq!(config(own, &gateway, none.clone()), Ok(()));
        assert_eq!(config("", &gateway, none.clone()), Err(ConfigError::NoN3));
        assert_eq!(config(own, &[], none), Err(ConfigError::NoGateway));
        assert_eq!(config(own, &gateway, hand.clone()), Ok(()));
        assert_eq!(config("", &gateway, hand), Err(ConfigError::NoN3));
        assert_eq!(config("", &[], enrol.clone()), Ok(()));
        assert_eq!(config(own, &[], enrol.clone()), Err(ConfigError::Assigned));
        assert_eq!(config("", &gateway, enrol), Err(ConfigError::Assigned));
        assert_eq!(config(own, &gateway, both), Err(ConfigError::TunnelEnd));
        assert_eq!(config(own, &gateway, half), Err(ConfigError::TunnelEnd));
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
