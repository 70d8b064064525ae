//! Configuration of a data plane process.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use qlink_io::probe::BackEnd;
use qlink_io::tun::TunConfig;
use qlink_io::udp::Offload;
use qlink_wire::GTPU_PORT;
use serde::{Deserialize, Serialize};

use crate::export::IpfixConfig;
use crate::forwarding::{MtuConfig, NatLog, NatTable};
use crate::n4::{PfcpConfig, PfcpConfigError};
use crate::paths::PathsConfig;
use crate::plane::PlaneLimits;
use crate::ports::{DpdkN6, DpdkSettings, N3Backend, XdpN6, XdpSettings};
use crate::shard::WORKERS_MAX;
use crate::tap::PacketSettings;
use crate::tunnel::{TunnelSettings, TunnelSettingsError};

/// Configuration as written; [`Self::validate`] before use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataplaneConfig {
    /// Our GTP-U endpoint, for example `127.0.0.1:2152`; port 0 chooses one.
    pub n3: SocketAddr,
    /// A second GTP-U endpoint, where `n3` is of IPv4 and BaseStations of IPv6 are to be served too,
    /// for example `[2001:db8::1]:2152`; `udp`, `uring` and `xdp` have it. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n3_v6: Option<SocketAddrV6>,
    /// Our endpoint towards origins where these are another process of ours that takes raw IP over
    /// UDP, for example `127.0.0.1:5000`; port 0 chooses one. With `n6_peer`, or else `n6_tun`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n6_local: Option<SocketAddr>,
    /// With `n6_local`: where uplink packets go, and from where downlink packets come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n6_peer: Option<SocketAddr>,
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
    /// Most content flows at once, 1 to 65536; each takes some 48 KB of the arena and 8 KB beside it.
    /// 256: a worker with 60,000 sessions stays below 64 MiB.
    #[serde(default = "default_flows")]
    pub max_flows: u32,
    /// Most (session, content) pairs, 1 to 4194304.
    #[serde(default = "default_views")]
    pub max_views: u32,
    /// Most bound contents, 1 to 1048576.
    #[serde(default = "default_contents")]
    pub max_contents: u32,
    /// How UDP ports pass datagrams to the kernel: `segmentation`, in trains where the kernel can
    /// (GSO and GRO), or `none`, one by one. A capture on this machine shows a train as one long
    /// datagram, of which dissectors read the first packet only: take `none` while capturing.
    #[serde(default)]
    pub udp_offload: UdpOffload,
    /// Further addresses of our own network that no subscriber may send to, at most 256, for
    /// example those of BaseStations and nodes. Our endpoints are among them without being named;
    /// with `n6_tun` so is every address that this machine has when the process starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<IpAddr>,
    /// The interface through which this machine's kernel routes packets to origins and back; a
    /// table with `name`, `mtu`, `address`. In place of `n6_local` and `n6_peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n6_tun: Option<TunConfig>,
    /// PFCP, so that a mobile core's control plane states sessions; a table of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pfcp: Option<PfcpConfig>,
    /// How long packets may be on both sides and what is done with longer ones; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<MtuConfig>,
    /// Translation of subscribers' addresses to public ones; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatTable>,
    /// Export of counters as IPFIX; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipfix: Option<IpfixConfig>,
    /// How paths to GTP-U peers are watched; a table of its own.
    #[serde(default)]
    pub paths: PathsConfig,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered over HTTP, for example
    /// `127.0.0.1:9102`; port 0 chooses one and logs it. Who reaches it reads how much passes, not
    /// whose it is: keep it off subscribers' networks. Absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// What carries N3: `auto`, the fastest one that works here and now, of those that this
    /// configuration describes; `udp`, a socket; `uring`, a socket by io_uring; `xdp`, the interface
    /// of the table `xdp`; `dpdk`, a device of the table `dpdk`; `packet`, a passive tap on the
    /// interface of the table `packet`, which forwards nothing. `qlink doctor` says what works, and
    /// a line in the log what was taken and why.
    #[serde(default)]
    pub backend: N3Backend,
    /// AF_XDP; a table of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp: Option<XdpSettings>,
    /// DPDK; a table of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpdk: Option<DpdkSettings>,
    /// A passive tap; a table of its own. Metering without forwarding is another task than a
    /// gateway's, so only `backend = "packet"` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<PacketSettings>,
    /// BaseStations over WireGuard, beside those at `n3`; a table of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelSettings>,
}

const fn default_workers() -> u8 {
    1
}

/// How UDP ports pass datagrams to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UdpOffload {
    /// Trains of datagrams as one message.
    #[default]
    Segmentation,
    /// One by one.
    None,
}

impl From<UdpOffload> for Offload {
    fn from(offload: UdpOffload) -> Self {
        match offload {
            UdpOffload::Segmentation => Self::Segmentation,
            UdpOffload::None => Self::None,
        }
    }
}

/// How packets go to origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum N6 {
    /// As raw IP over UDP.
    Udp {
        /// Our endpoint.
        local: SocketAddr,
        /// The only endpoint that packets go to and come from.
        peer: SocketAddr,
    },
    /// Through the kernel.
    Tun(TunConfig),
    /// Through AF_XDP.
    Xdp(XdpSettings, XdpN6),
    /// Through DPDK, with N3.
    Dpdk(DpdkN6),
    /// Nowhere: a tap forwards nothing.
    Nowhere,
}

impl N6 {
    /// What carries it.
    #[must_use]
    pub const fn back_end(&self) -> Option<BackEnd> {
        match self {
            Self::Udp { .. } => Some(BackEnd::Udp),
            Self::Tun(_) => Some(BackEnd::Tun),
            Self::Xdp(..) => Some(BackEnd::Xdp),
            Self::Dpdk(_) => Some(BackEnd::Dpdk),
            Self::Nowhere => None,
        }
    }
}

/// Most addresses of [`DataplaneConfig::own`]: every uplink packet is compared with each (chosen).
const OWN_MAX: usize = 256;

const fn default_sessions() -> u32 {
    1024
}

const fn default_flows() -> u32 {
    256
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
    /// A key of the table `pfcp`.
    #[error(transparent)]
    Pfcp(#[from] PfcpConfigError),
    /// A key of the table `tunnel`.
    #[error(transparent)]
    Tunnel(#[from] TunnelSettingsError),
    /// Not exactly one way to the origins.
    #[error(
        "exactly one of the tables n6_tun, xdp.n6, dpdk.n6 and the pair n6_local, n6_peer must be \
         there"
    )]
    N6,
    /// N6 through a back end that needs N3 through it too, which is not the case.
    #[error("the table {back_end}.n6 needs N3 through {back_end} too, and N3 goes another way")]
    N6Alone {
        /// The back end.
        back_end: &'static str,
    },
    /// A tap with a way to origins.
    #[error(
        "a tap (backend packet) forwards nothing: leave out n6_tun, xdp.n6, dpdk.n6, \
         n6_local, n6_peer"
    )]
    TapForwards,
    /// A back end is named and not described.
    #[error("backend is {table}, which needs the table {table}")]
    Table {
        /// The table that is missing.
        table: &'static str,
    },
    /// A value that is not usable.
    #[error("{key} is {value}, allowed is {allowed}")]
    Key {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Too many own addresses.
    #[error("own has {0} addresses, allowed are at most {OWN_MAX}")]
    Own(usize),
    /// An address cannot be a peer's.
    #[error("{key} is {value}, which is not one endpoint's address")]
    Address {
        /// The key.
        key: &'static str,
        /// Its value.
        value: SocketAddr,
    },
    /// The back end named is not in this program.
    #[error("backend is {backend}, which this program was built without")]
    NotBuilt {
        /// Its name.
        backend: &'static str,
    },
    /// Too many addresses for the translator's pool.
    #[error("nat.pool has {0} addresses, allowed are 1 to 1024")]
    Pool(usize),
    /// An address of the pool is used otherwise.
    #[error("nat.pool holds {0}, which is an address of this gateway's own network")]
    PoolOwn(IpAddr),
    /// A key of the table `nat`.
    #[error("nat: {0}")]
    Nat(#[source] qlink_forward::nat::NatConfigError),
    /// The prefix of NAT64.
    #[error("nat.nat64_prefix: {0}")]
    Nat64(#[source] qlink_forward::nat64::Nat64ConfigError),
    /// Port blocks shall be logged, and there is no collector.
    #[error("nat.log is ipfix, but there is no table ipfix: add one, or set nat.log to none")]
    NatLog,
    /// An enterprise number under which we may not define elements.
    #[error("ipfix.pen is {value}, which is no enterprise number of ours")]
    Enterprise {
        /// Its value.
        value: u32,
    },
}

impl DataplaneConfig {
    /// The way to the origins.
    ///
    /// # Errors
    ///
    /// [`ConfigError::N6`].
    pub fn n6(&self) -> Result<N6, ConfigError> {
        let xdp = self.xdp.as_ref().filter(|xdp| xdp.n6.is_some());
        let dpdk = self.dpdk.as_ref().and_then(|dpdk| dpdk.n6.clone());
        match (self.n6_local, self.n6_peer, &self.n6_tun, (xdp, dpdk)) {
            (None, None, None, (None, None)) if self.backend == N3Backend::Packet => {
                Ok(N6::Nowhere)
            }
            _ if self.backend == N3Backend::Packet => Err(ConfigError::TapForwards),
            (Some(local), Some(peer), None, (None, None)) => Ok(N6::Udp { local, peer }),
            (None, None, Some(tun), (None, None)) => Ok(N6::Tun(tun.clone())),
            (None, None, None, (Some(xdp), None)) => {
                let n6 = xdp.n6.clone().ok_or(ConfigError::N6)?;
                Ok(N6::Xdp(xdp.clone(), n6))
            }
            (None, None, None, (None, Some(n6))) => Ok(N6::Dpdk(n6)),
            _ => Err(ConfigError::N6),
        }
    }

    /// Where uplink packets go, where a back end does not find that out by itself: the other
    /// process's endpoint, or a router.
    pub(crate) fn next_hop(&self) -> Option<SocketAddr> {
        let xdp = self.xdp.iter().flat_map(|xdp| &xdp.n6);
        let dpdk = self.dpdk.iter().flat_map(|dpdk| &dpdk.n6);
        let mut routers = xdp.map(|n6| n6.next_hop).chain(dpdk.map(|n6| n6.next_hop));
        self.n6_peer
            .or_else(|| routers.next().map(|router| SocketAddr::new(router, 0)))
    }

    /// Whether the second endpoint can be one beside the first.
    fn validate_n3_v6(&self) -> Result<(), ConfigError> {
        let Some(second) = self.n3_v6 else {
            return Ok(());
        };
        let with_one = matches!(self.backend, N3Backend::Dpdk | N3Backend::Packet);
        if with_one || self.n3.is_ipv6() || second.ip().is_unspecified() {
            return Err(ConfigError::Key {
                key: "n3_v6",
                value: second.to_string(),
                allowed: "one address of IPv6 beside an n3 of IPv4, carried by udp, uring or xdp",
            });
        }
        Ok(())
    }

    /// Whether the tables of back ends are usable, and the one that is named is there.
    fn validate_backend(&self) -> Result<(), ConfigError> {
        let of_forwarding = [
            ("tunnel", self.tunnel.is_some()),
            ("mtu", self.mtu.is_some()),
            ("nat", self.nat.is_some()),
        ];
        let forwards = of_forwarding.into_iter().find(|(_, is_there)| *is_there);
        if let Some(xdp) = &self.xdp {
            xdp.validate()?;
        }
        if let Some(packet) = &self.packet {
            packet.validate()?;
        }
        if let Some(dpdk) = &self.dpdk {
            dpdk.validate()?;
        }
        match self.backend {
            N3Backend::Dpdk if self.dpdk.is_none() => Err(ConfigError::Table { table: "dpdk" }),
            N3Backend::Dpdk if self.workers > 1 => Err(ConfigError::Range {
                key: "workers with dpdk",
                value: self.workers.into(),
                min: 1,
                max: 1,
            }),
            N3Backend::Dpdk if self.n3.port() == 0 => Err(ConfigError::Address {
                key: "n3",
                value: self.n3,
            }),
            N3Backend::Packet if self.packet.is_none() => {
                Err(ConfigError::Table { table: "packet" })
            }
            N3Backend::Packet if self.workers > 1 => Err(ConfigError::Range {
                key: "workers of a tap",
                value: self.workers.into(),
                min: 1,
                max: 1,
            }),
            N3Backend::Packet if self.pfcp.is_some() => Err(ConfigError::Key {
                key: "pfcp",
                value: "there".to_owned(),
                allowed: "none with a tap: no control plane can rule what it only watches",
            }),
            N3Backend::Packet if let Some((key, _)) = forwards => Err(ConfigError::Key {
                key,
                value: "there".to_owned(),
                allowed: "none with a tap: what it watches is forwarded by others",
            }),
            N3Backend::Xdp if self.xdp.is_none() => Err(ConfigError::Table { table: "xdp" }),
            N3Backend::Xdp if self.n3.port() != GTPU_PORT => Err(ConfigError::Key {
                key: "n3",
                value: self.n3.to_string(),
                allowed: "port 2152, the only one that is steered to AF_XDP",
            }),
            _ => Ok(()),
        }
    }

    fn check_nat(&self, nat: &NatTable) -> Result<(), ConfigError> {
        nat.validate(self.workers)?;
        if nat.log == NatLog::Ipfix && self.ipfix.is_none() {
            return Err(ConfigError::NatLog);
        }
        let own = |address: &IpAddr| *address == self.n3.ip() || self.own.contains(address);
        match nat.addresses().map(IpAddr::from).find(own) {
            Some(address) => Err(ConfigError::PoolOwn(address)),
            None => Ok(()),
        }
    }

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
        if self.own.len() > OWN_MAX {
            return Err(ConfigError::Own(self.own.len()));
        }
        let peer = match self.n6()? {
            N6::Udp { peer, .. } => Some(("n6_peer", peer)),
            N6::Tun(_) | N6::Xdp(..) | N6::Dpdk(_) | N6::Nowhere => None,
        };
        for (key, value) in [("n3", self.n3)].into_iter().chain(peer) {
            let port_missing = key == "n6_peer" && value.port() == 0;
            if value.ip().is_unspecified() || port_missing {
                return Err(ConfigError::Address { key, value });
            }
        }
        let urrs = match &self.pfcp {
            Some(pfcp) => {
                pfcp.validate()?;
                pfcp.max_urrs
            }
            None => 0,
        };
        if let Some(mtu) = &self.mtu {
            mtu.validate()?;
        }
        if let Some(nat) = &self.nat {
            self.check_nat(nat)?;
        }
        self.paths.validate()?;
        if let Some(tunnel) = &self.tunnel {
            tunnel.validate()?;
        }
        if let Some(ipfix) = &self.ipfix {
            ipfix.validate()?;
        }
        self.validate_backend()?;
        self.validate_n3_v6()?;
        Ok(PlaneLimits {
            sessions: self.max_sessions.div_ceil(workers),
            flows: self.max_flows.div_ceil(workers),
            views: self.max_views.div_ceil(workers),
            urrs: urrs.div_ceil(workers),
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
    fn exactly_one_way_to_the_origins_is_taken() {
        let tun = serde_json::json!({"name": "qlink-n6", "mtu": 1400, "address": "10.45.0.1/16"});
        let udp = ["n6_local", "n6_peer"];
        let check = |with_tun: bool, without: &[&str]| {
            let mut value = config();
            for key in without {
                value.as_object_mut().unwrap().remove(*key);
            }
            if with_tun {
                value["n6_tun"] = tun.clone();
            }
            let config: DataplaneConfig = serde_json::from_value(value).unwrap();
            config.validate().map(|_| config.n6().unwrap())
        };

        assert!(matches!(check(false, &[]), Ok(N6::Udp { .. })));
        assert!(matches!(check(true, &udp), Ok(N6::Tun(_))));
        assert_eq!(check(true, &[]), Err(ConfigError::N6));
        assert_eq!(check(false, &udp), Err(ConfigError::N6));
        assert_eq!(check(true, &["n6_peer"]), Err(ConfigError::N6));
        assert_eq!(check(false, &["n6_peer"]), Err(ConfigError::N6));
    }

    #[test]
    fn an_interface_survives_the_configuration_file() {
        let mut value = config();
        for key in ["n6_local", "n6_peer"] {
            value.as_object_mut().unwrap().remove(key);
        }
        value["n6_tun"] = serde_json::json!({"name": "tun%d", "address": "10.45.0.1/16"});
        value["own"] = serde_json::json!(["10.47.0.2"]);
        let config: DataplaneConfig = serde_json::from_value(value).unwrap();

        let written = serde_json::to_value(&config).unwrap();

        assert_eq!(written["n6_tun"]["address"], "10.45.0.1/16");
        assert_eq!(
            serde_json::from_value::<DataplaneConfig>(written).unwrap(),
            config
        );
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
