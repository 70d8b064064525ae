//! The table `pfcp` of a data plane's configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use qlink_pfcp::model::{NetworkInstance, Networks, Port};
use qlink_pfcp::node::{PeerPrefix, RequestPort, Timers};
use qlink_pfcp::wire::ENTERPRISE_ID;
use serde::{Deserialize, Serialize};

use crate::export::Span;

/// How the PFCP endpoint is set up. Every key is one of the TOML file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PfcpConfig {
    /// Our PFCP endpoint, port 8805 as a rule; its address is our node id.
    pub listen: SocketAddr,
    /// Control planes that are listened to: addresses or prefixes, for example `10.0.0.0/24`; at
    /// least one.
    pub peers: Vec<String>,
    /// Path of the node's journal.
    pub journal: PathBuf,
    /// IPv4 addresses that we give to subscribers when we are asked to, for example
    /// `10.60.0.0/16`, 8 to 30 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ue_v4: Option<String>,
    /// IPv6 prefix out of which we give prefixes of 64 bits, for example `2001:db8::/48`, 32 to 63
    /// bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ue_v6: Option<String>,
    /// Access networks: BaseStations that may send into a session's tunnel before one of its rules
    /// names them, addresses or prefixes, at most 256, for example `["10.2.0.0/16"]`. A handover
    /// needs it: the target sends uplink packets before the control plane states its tunnel (TS
    /// 23.502 §4.9.1.2), and without this they are dropped as `peer_mismatch` until then. Such
    /// packets are the session's by the tunnel endpoint and the subscriber's own address alone,
    /// and nothing is learned from them: downlink packets go where the rules say. Where anybody
    /// outside can send to our N3 address, name no more than the BaseStations' own network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<String>,
    /// How often a control plane is asked whether it is there, 1 s to 1 h. `"10s"`
    #[serde(default = "heartbeat")]
    pub heartbeat: Span,
    /// How long the sessions of a control plane stay that does not answer, 1 s to 7 days; its user
    /// planes go on meanwhile. Another function of its set gets them at once. `"10m"`
    #[serde(default = "keep_sessions")]
    pub keep_sessions: Span,
    /// Most usage reporting rules, 1 to 4194304; each takes about 1.2 KB of the arena. The arena
    /// belongs to this bound.
    #[serde(default = "max_urrs")]
    pub max_urrs: u32,
    /// Enterprise number of our own information elements. The default is the number for examples.
    #[serde(default = "enterprise")]
    pub enterprise: u16,
    /// Network instances that rules may name, for example `[{ name = "internet" }, { name =
    /// "access", port = "n3" }]`; at most 64. Absent: any. A rule that names another one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<ServedNetwork>>,
    /// Where our requests go at a peer: `standard`, to port 8805, or `source`, to the port from
    /// which it opened the association.
    #[serde(default)]
    pub requests_to: RequestsTo,
}

/// A network instance and where its packets pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServedNetwork {
    /// Its name as control planes state it: a data network name or a label, 1 to 100 bytes. Small
    /// and large letters are the same.
    pub name: String,
    /// `n3`: in tunnels; `n6`: as they are; absent: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<ServedPort>,
}

/// Where packets of a network instance pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServedPort {
    /// In tunnels, to and from BaseStations and other user planes.
    N3,
    /// As they are, to and from the network.
    N6,
}

impl ServedNetwork {
    fn ports(&self) -> impl Iterator<Item = (Port, NetworkInstance)> + '_ {
        let ports: &[Port] = match self.port {
            Some(ServedPort::N3) => &[Port::Tunnels],
            Some(ServedPort::N6) => &[Port::Plain],
            None => &[Port::Tunnels, Port::Plain],
        };
        let name = NetworkInstance(self.name.as_bytes().to_vec());
        ports.iter().map(move |port| (*port, name.clone()))
    }
}

/// Where requests go at a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestsTo {
    /// To the registered port.
    #[default]
    Standard,
    /// To the port that the peer sends from.
    Source,
}

impl From<RequestsTo> for RequestPort {
    fn from(to: RequestsTo) -> Self {
        match to {
            RequestsTo::Standard => Self::Standard,
            RequestsTo::Source => Self::Source,
        }
    }
}

const fn max_urrs() -> u32 {
    4096
}

fn heartbeat() -> Span {
    Span(Timers::default().heartbeat)
}

fn keep_sessions() -> Span {
    Span(Timers::default().keep_sessions)
}

const fn enterprise() -> u16 {
    ENTERPRISE_ID
}

/// Which key of the table is not usable; exit code 64 at the shell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PfcpConfigError {
    /// Nobody could ever speak to us.
    #[error("pfcp.peers is empty: name the control planes that are listened to")]
    NoPeer,
    /// A value is not what the key takes.
    #[error("pfcp.{key} is {value:?}, which is not {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What the key takes.
        wanted: &'static str,
    },
}

impl PfcpConfig {
    /// The peers as prefixes.
    ///
    /// # Errors
    ///
    /// [`PfcpConfigError`].
    pub fn peers(&self) -> Result<Vec<PeerPrefix>, PfcpConfigError> {
        if self.peers.is_empty() {
            return Err(PfcpConfigError::NoPeer);
        }
        prefixes("peers", &self.peers)
    }

    /// The access networks.
    ///
    /// # Errors
    ///
    /// [`PfcpConfigError`].
    pub fn access(&self) -> Result<Vec<PeerPrefix>, PfcpConfigError> {
        prefixes("access", &self.access)
    }

    /// The addresses for subscribers.
    ///
    /// # Errors
    ///
    /// [`PfcpConfigError`].
    pub fn pools(&self) -> Result<(Option<Ipv4Pool>, Option<Ipv6Pool>), PfcpConfigError> {
        let v4 = self.ue_v4.as_deref().map(Ipv4Pool::parse).transpose()?;
        let v6 = self.ue_v6.as_deref().map(Ipv6Pool::parse).transpose()?;
        Ok((v4, v6))
    }

    /// The network instances that rules may name.
    #[must_use]
    pub fn networks(&self) -> Networks {
        match &self.networks {
            None => Networks::Any,
            Some(served) => Networks::named(served.iter().flat_map(ServedNetwork::ports)),
        }
    }

    /// Whether every key is usable.
    ///
    /// # Errors
    ///
    /// The first [`PfcpConfigError`].
    pub fn validate(&self) -> Result<(), PfcpConfigError> {
        self.peers()?;
        self.access()?;
        self.pools()?;
        let wrong = |key, value: String, wanted| Err(PfcpConfigError::Value { key, value, wanted });
        if self.listen.ip().is_unspecified() {
            return wrong("listen", self.listen.to_string(), "one endpoint's address");
        }
        let spans = [
            ("heartbeat", self.heartbeat, 3600, "1 s to 1 h"),
            (
                "keep_sessions",
                self.keep_sessions,
                604_800,
                "1 s to 7 days",
            ),
        ];
        for (key, Span(span), most, wanted) in spans {
            if !(1..=most).contains(&span.as_secs()) {
                return wrong(key, format!("{span:?}"), wanted);
            }
        }
        if self.access.len() > 256 {
            return wrong(
                "access",
                self.access.len().to_string(),
                "at most 256 addresses or prefixes",
            );
        }
        let networks = self.networks.as_deref().unwrap_or_default();
        if networks.len() > 64 {
            let count = networks.len().to_string();
            return wrong("networks", count, "at most 64 names");
        }
        let named = |network: &&ServedNetwork| !(1..=100).contains(&network.name.len());
        if let Some(network) = networks.iter().find(named) {
            let name = network.name.clone();
            return wrong("networks", name, "a name of 1 to 100 bytes");
        }
        if !(1..=1 << 22).contains(&self.max_urrs) {
            return wrong("max_urrs", self.max_urrs.to_string(), "1 to 4194304");
        }
        Ok(())
    }
}

fn prefixes(key: &'static str, texts: &[String]) -> Result<Vec<PeerPrefix>, PfcpConfigError> {
    texts.iter().map(|text| peer_prefix(key, text)).collect()
}

fn peer_prefix(key: &'static str, text: &str) -> Result<PeerPrefix, PfcpConfigError> {
    let wrong = || PfcpConfigError::Value {
        key,
        value: text.to_owned(),
        wanted: "an address or a prefix",
    };
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        Some(length) => length.parse().ok().filter(|bits| *bits <= width),
        None => Some(width),
    };
    let length = length.ok_or_else(wrong)?;
    Ok(PeerPrefix { address, length })
}

fn prefix<A: FromStr>(text: &str) -> Option<(A, u8)> {
    let (address, length) = text.split_once('/')?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

/// IPv4 addresses for subscribers: all of a prefix but the first and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Pool {
    first: u32,
    count: u32,
}

impl Ipv4Pool {
    /// From `a.b.c.d/n`, n from 8 to 30.
    ///
    /// # Errors
    ///
    /// [`PfcpConfigError::Value`].
    pub fn parse(text: &str) -> Result<Self, PfcpConfigError> {
        prefix::<Ipv4Addr>(text)
            .filter(|(_, length)| (8..=30).contains(length))
            .map(|(address, length)| {
                let size = 1_u32 << 32_u32.saturating_sub(length.into());
                let network = address.to_bits() & !size.saturating_sub(1);
                Self {
                    first: network.saturating_add(1),
                    count: size.saturating_sub(2),
                }
            })
            .ok_or_else(|| PfcpConfigError::Value {
                key: "ue_v4",
                value: text.to_owned(),
                wanted: "a prefix of 8 to 30 bits",
            })
    }

    /// How many addresses there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The address with this number.
    #[must_use]
    pub const fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.saturating_add(number))
    }
}

/// IPv6 prefixes of 64 bits for subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Pool {
    first: u64,
    count: u32,
}

impl Ipv6Pool {
    /// From `prefix/n`, n from 32 to 63.
    ///
    /// # Errors
    ///
    /// [`PfcpConfigError::Value`].
    pub fn parse(text: &str) -> Result<Self, PfcpConfigError> {
        prefix::<Ipv6Addr>(text)
            .filter(|(_, length)| (32..=63).contains(length))
            .map(|(address, length)| {
                let bits = 64_u32.saturating_sub(length.into());
                let size = 1_u64 << bits;
                let upper = u64::try_from(address.to_bits() >> 64).unwrap_or(0);
                Self {
                    first: upper & !size.saturating_sub(1),
                    count: u32::try_from(size).unwrap_or(u32::MAX),
                }
            })
            .ok_or_else(|| PfcpConfigError::Value {
                key: "ue_v6",
                value: text.to_owned(),
                wanted: "a prefix of 32 to 63 bits",
            })
    }

    /// How many prefixes there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The first address of the prefix with this number.
    #[must_use]
    pub fn prefix(&self, number: u32) -> Ipv6Addr {
        let upper = self.first.saturating_add(number.into());
        Ipv6Addr::from_bits(u128::from(upper) << 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_leaves_the_first_and_last_address_of_its_network_out() {
        let pool = Ipv4Pool::parse("10.60.0.7/29").unwrap();

        assert_eq!(pool.count(), 6);
        assert_eq!(pool.address(0), Ipv4Addr::new(10, 60, 0, 1));
        assert_eq!(pool.address(5), Ipv4Addr::new(10, 60, 0, 6));
        assert!(Ipv4Pool::parse("10.60.0.0/31").is_err());
        assert!(Ipv4Pool::parse("10.60.0.0").is_err());
    }

    #[test]
    fn prefixes_of_64_bits_come_out_of_a_larger_one() {
        let pool = Ipv6Pool::parse("2001:db8::/62").unwrap();

        assert_eq!(pool.count(), 4);
        assert_eq!(
            pool.prefix(3),
            "2001:db8:0:3::".parse::<Ipv6Addr>().unwrap()
        );
        assert!(Ipv6Pool::parse("2001:db8::/64").is_err());
    }

    #[test]
    fn a_network_is_served_where_it_is_said_to_be() {
        let config: Vec<ServedNetwork> =
            serde_json::from_str(r#"[{ "name": "internet" }, { "name": "access", "port": "n3" }]"#)
                .unwrap();
        let networks = Networks::named(config.iter().flat_map(ServedNetwork::ports));
        let serves =
            |port, name: &str| networks.serves(port, &NetworkInstance(name.as_bytes().to_vec()));

        assert!(serves(Port::Plain, "internet") && serves(Port::Tunnels, "internet"));
        assert!(serves(Port::Tunnels, "access") && !serves(Port::Plain, "access"));
    }

    #[test]
    fn peers_are_addresses_or_prefixes_and_there_is_one() {
        let mut config = PfcpConfig {
            listen: "127.0.0.1:8805".parse().unwrap(),
            peers: vec!["10.0.0.0/24".to_owned(), "2001:db8::1".to_owned()],
            journal: PathBuf::new(),
            ue_v4: None,
            ue_v6: None,
            access: Vec::new(),
            heartbeat: heartbeat(),
            keep_sessions: keep_sessions(),
            max_urrs: 1,
            enterprise: ENTERPRISE_ID,
            networks: None,
            requests_to: RequestsTo::Standard,
        };

        config.validate().unwrap();
        config.peers = vec!["10.0.0.0/33".to_owned()];
        assert!(config.validate().is_err());
        config.peers.clear();
        assert_eq!(config.validate(), Err(PfcpConfigError::NoPeer));
    }
}
