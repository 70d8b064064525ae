//! The table `tunnel` of a configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use qlink_tunnel::{Lane, Limits, PublicKey};
use serde::{Deserialize, Serialize};

use crate::ports::Network;

/// BaseStations over WireGuard. Each is known by its tunnel key, which gives it one address in the
/// tunnel; it may stand behind a translator and move. With a table `mtu`, packets to BaseStations are
/// kept 60 bytes shorter than `mtu.n3` says (80 where `listen` is IPv6), so that they fit the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelSettings {
    /// UDP address at which BaseStations reach us, for example `0.0.0.0:51820`; port 0 chooses one.
    pub listen: SocketAddr,
    /// File with our private key, mode 0600: made by `qlink key new` or `wg genkey`.
    pub key_file: PathBuf,
    /// Our address in the tunnel with the network of all tunnel addresses, for example
    /// `10.99.0.1/16`. The network is used for nothing else: what comes from it outside of the
    /// tunnel is refused.
    pub address: Network,
    /// Most BaseStations, 1 to 65536.
    #[serde(default = "default_peers")]
    pub peers_max: u32,
    /// Handshakes per second, 1 to 10000, from which on a sender must prove its address first. Eight
    /// times as many are worked on at most.
    #[serde(default = "default_handshakes")]
    pub handshakes_per_second: u32,
    /// BaseStations that are known from the start; the gateway adds others while we run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<TunnelPeer>,
}

/// A BaseStation in the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelPeer {
    /// Its public key: 44 characters of base64, as `wg pubkey` writes it, or 64 hexadecimal digits.
    pub key: PublicKey,
    /// Its address in the tunnel, for example `10.99.0.2`.
    pub address: IpAddr,
}

fn default_peers() -> u32 {
    Limits::default().peers
}

fn default_handshakes() -> u32 {
    Limits::default().handshakes_per_second
}

/// Which key of the table is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelSettingsError {
    /// A number is outside its range.
    #[error("tunnel.{key} is {value}, allowed is 1 to {max}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u32,
        /// Largest allowed value.
        max: u32,
    },
    /// A BaseStation's address is outside the tunnel's network, or is ours.
    #[error(
        "tunnel.peers has address {0}, which is not one of the tunnel's network beside our own"
    )]
    PeerAddress(IpAddr),
    /// Two BaseStations have one key or address, or there are too many.
    #[error("tunnel.peers cannot be used")]
    Peers(#[from] qlink_tunnel::PeerError),
}

impl TunnelSettings {
    /// Whether every key is usable.
    ///
    /// # Errors
    ///
    /// The first [`TunnelSettingsError`].
    pub fn validate(&self) -> Result<(), TunnelSettingsError> {
        let ranges = [
            ("peers_max", self.peers_max, 1 << 16),
            ("handshakes_per_second", self.handshakes_per_second, 10_000),
        ];
        for (key, value, max) in ranges {
            if value == 0 || value > max {
                return Err(TunnelSettingsError::Range { key, value, max });
            }
        }
        match self.peers.iter().find(|peer| !self.admits(peer.address)) {
            Some(peer) => Err(TunnelSettingsError::PeerAddress(peer.address)),
            None => Ok(()),
        }
    }

    /// Whether a BaseStation may have this tunnel address.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.address.contains(address) && self.address.address != address
    }

    /// Bytes that the tunnel adds to a GTP-U packet on the link.
    #[must_use]
    pub fn overhead(&self) -> u16 {
        u16::try_from(qlink_tunnel::overhead(self.listen.ip())).unwrap_or(0)
    }

    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            peers: self.peers_max,
            handshakes_per_second: self.handshakes_per_second,
            lane: Lane::ONLY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(address: &str, peer: &str) -> Result<TunnelSettings, serde_json::Error> {
        serde_json::from_value(serde_json::json!({
            "listen": "0.0.0.0:51820", "key_file": "tunnel.key", "address": address,
            "peers": [{"key": "09".repeat(32), "address": peer}],
        }))
    }

    #[test]
    fn a_peer_outside_the_network_or_with_our_address_is_refused() {
        for (address, peer, fits) in [
            ("10.99.0.1/16", "10.99.255.2", true),
            ("10.99.0.1/16", "10.98.0.2", false),
            ("10.99.0.1/16", "10.99.0.1", false),
            ("10.99.0.1/16", "fd00::2", false),
            ("fd00::1/64", "fd00::2", true),
            ("fd00::1/64", "fd00:0:0:1::2", false),
            ("10.99.0.1/0", "192.0.2.1", true),
        ] {
            let checked = settings(address, peer).unwrap().validate();
            assert_eq!(checked.is_ok(), fits, "{address} {peer}: {checked:?}");
        }
    }

    #[test]
    fn the_overhead_is_that_of_the_link_the_tunnel_listens_on() {
        let mut settings = settings("10.99.0.1/16", "10.99.0.2").unwrap();
        assert_eq!(settings.overhead(), 60);

        settings.listen = "[::]:51820".parse().unwrap();

        assert_eq!(settings.overhead(), 80);
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_what_it_may_be() {
        let mut value =
            serde_json::to_value(settings("10.99.0.1/16", "10.99.0.2").unwrap()).unwrap();
        value["peers"][0]["key"] = "abc".into();

        let error = serde_json::from_value::<TunnelSettings>(value).unwrap_err();

        assert!(error.to_string().contains("44 characters"), "{error}");
    }
}
