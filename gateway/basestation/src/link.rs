//! The link to the gateway: GTP-U as it is, or through a tunnel.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use qlink_io::udp::{Offload, UdpOptions, UdpPort};
use qlink_io::{Burst, Descriptor, IoError, Outgoing, PacketPort, PacketSource, clock};
use qlink_tunnel::{Lane, Limits, PeerSetup, PrivateKey, PublicKey, TICK, TunnelPort, Tunnels};
use qlink_types::signature::PublicKey as DeviceKey;
use qlink_wire::LinkType;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::enrol::Granted;
use crate::every::Every;
use crate::renewal::Sight;
use crate::worker::WorkerError;

/// The link `tunnel`: N3 through WireGuard. Either the gateway's end is named by hand, then `n3` is
/// our address in the tunnel and `trusted_gateways` has one entry, the gateway's address in it. Or the
/// BaseStation enrols at `api` whenever it starts, then all four come from the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelLink {
    /// To enrol: the key with which the gateway is registered on the chain, `ed25519:` and 64
    /// hexadecimal digits. The gateway's answer must be signed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_device_key: Option<DeviceKey>,
    /// By hand: the gateway's UDP address, for example `198.51.100.1:51820`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// By hand: the gateway's tunnel key, 44 characters of base64 or 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_key: Option<PublicKey>,
    /// File with our own tunnel key, mode 0600; not the device key. `qlink key new FILE` makes one,
    /// `qlink key tunnel FILE` shows what a gateway's operator needs of it by hand.
    pub key_file: PathBuf,
    /// Our own UDP address; the default `0.0.0.0:0` lets the system choose.
    #[serde(default = "any_address")]
    pub listen: SocketAddr,
    /// Seconds between signs of life when nothing else is sent, 1 to 3600, so that translators on the
    /// way keep their mapping.
    #[serde(default = "keepalive_s")]
    pub keepalive_s: u16,
    /// Where the gateway lets us enrol: how often we ask whether its key or address has changed, 10s
    /// to 7d, for example `10min` (the default). A gateway that does not answer any more is asked at
    /// once.
    #[serde(default = "refresh_every")]
    pub refresh_every: Every,
    /// Where the gateway lets us enrol: how often our tunnel key is replaced by a new one, 5s to 365d,
    /// for example `24h`. The new key takes the place of the old one in `key_file`, whose folder must
    /// be writable. No packet is lost by it. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every: Option<Every>,
}

const fn any_address() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0)
}

/// Chosen: shorter than the mapping of any common translator (30 s; RFC 4787 §4.3 asks for two
/// minutes).
const fn keepalive_s() -> u16 {
    25
}

/// Chosen: 4,096 BaseStations ask a gateway seven times a second.
const fn refresh_every() -> Every {
    Every(Duration::from_mins(10))
}

/// How N3 is to be opened.
#[derive(Debug)]
pub enum LinkSetup {
    /// GTP-U from this address.
    Plain(SocketAddr),
    /// Through a tunnel.
    Tunnel(Box<TunnelSetup>),
}

/// A tunnel to be opened.
#[derive(Debug)]
pub struct TunnelSetup {
    /// Our UDP address.
    pub listen: SocketAddr,
    /// Our private key.
    pub key: PrivateKey,
    /// Our address and GTP-U port in the tunnel.
    pub n3: SocketAddr,
    /// The gateway.
    pub gateway: PeerSetup,
}

impl From<TunnelSetup> for LinkSetup {
    fn from(setup: TunnelSetup) -> Self {
        Self::Tunnel(Box::new(setup))
    }
}

impl From<SocketAddr> for LinkSetup {
    fn from(n3: SocketAddr) -> Self {
        Self::Plain(n3)
    }
}

impl TunnelLink {
    /// Checks how often what is renewed.
    pub(crate) fn check_times(&self) -> Result<(), ConfigError> {
        const DAY: u64 = 86_400;
        let refresh = ("refresh_every", Some(self.refresh_every), 10, 7 * DAY);
        let rotate = ("rotate_every", self.rotate_every, 5, 365 * DAY);
        for (key, every, min, max) in [refresh, rotate] {
            let value = every.map_or(min, |every| every.0.as_secs());
            if value < min || value > max {
                return Err(ConfigError::TunnelTime {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        match (&self.gateway_device_key, self.rotate_every) {
            (None, Some(_)) => Err(ConfigError::RotateByHand),
            _ => Ok(()),
        }
    }

    /// What this link is made of with our private `key` and the gateway's end.
    pub(crate) fn setup(&self, key: PrivateKey, end: &Granted) -> TunnelSetup {
        TunnelSetup {
            listen: self.listen,
            key,
            n3: end.n3,
            gateway: PeerSetup {
                key: end.gateway_key,
                address: end.gtpu.ip(),
                endpoint: Some(end.endpoint),
                keepalive_s: Some(self.keepalive_s),
            },
        }
    }
}

/// Two ends share the socket by turns.
const LANES: (Lane, Lane) = match (Lane::new(0, 2), Lane::new(1, 2)) {
    (Some(first), Some(second)) => (first, second),
    _ => unreachable!(),
};

/// The open link.
#[derive(Debug)]
pub(crate) enum Link {
    Plain(Box<UdpPort>),
    Tunnel {
        port: Box<TunnelPort<UdpPort>>,
        next_tick_ns: u64,
    },
}

impl Link {
    pub(crate) fn open(setup: LinkSetup) -> Result<Self, WorkerError> {
        match setup {
            LinkSetup::Plain(n3) => Ok(Self::Plain(Box::new(UdpPort::bind(n3, LinkType::RawIp)?))),
            LinkSetup::Tunnel(setup) => {
                let options = UdpOptions {
                    offload: Offload::Segmentation,
                    ..UdpOptions::default()
                };
                let socket = UdpPort::bind_with(setup.listen, LinkType::RawIp, options)?;
                let (gtpu, tunnels) = (setup.n3.port(), tunnels(*setup, LANES.0)?);
                Ok(Self::Tunnel {
                    port: Box::new(TunnelPort::new(socket, tunnels, gtpu)),
                    next_tick_ns: 0,
                })
            }
        }
    }

    /// Brings up another end of the tunnel beside the one in use, on the same socket; it takes over as
    /// soon as it has keys.
    pub(crate) fn begin(&mut self, setup: TunnelSetup) -> Result<(), WorkerError> {
        if let Self::Tunnel { port, next_tick_ns } = self {
            let lane = match port.tunnels().lane() {
                used if used == LANES.0 => LANES.1,
                _ => LANES.0,
            };
            port.begin(tunnels(setup, lane)?);
            // It calls at once.
            *next_tick_ns = 0;
        }
        Ok(())
    }

    /// Forgets the end beside the one in use.
    pub(crate) fn end_beside(&mut self) {
        if let Self::Tunnel { port, .. } = self {
            port.end_beside();
        }
    }

    /// What the tunnel looks like.
    pub(crate) fn sight(&mut self) -> Sight {
        match self {
            Self::Plain(_) => Sight::default(),
            Self::Tunnel { port, .. } => Sight {
                beside: port.beside(),
                unanswered: port
                    .tunnels()
                    .peers()
                    .map(|peer| peer.unanswered)
                    .max()
                    .unwrap_or(0),
            },
        }
    }

    /// Our N3 address: that of the socket, or the one in the tunnel.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Plain(port) => port.local_addr(),
            Self::Tunnel { port, .. } => port.own(),
        }
    }

    /// How long a wait may take before [`tick`](Self::tick) is due; `None`: for ever.
    pub(crate) const fn pause(&self) -> Option<Duration> {
        match self {
            Self::Plain(_) => None,
            Self::Tunnel { .. } => Some(TICK),
        }
    }

    /// Whether packets may wait that do not make it readable.
    pub(crate) const fn has_more(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tunnel { port, .. } => port.has_more(),
        }
    }

    /// Does what time asks for.
    pub(crate) fn tick(&mut self) {
        if let Self::Tunnel { port, next_tick_ns } = self {
            let now_ns = clock::now_ns();
            if now_ns >= *next_tick_ns {
                let pause_ns = u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX);
                *next_tick_ns = now_ns.saturating_add(pause_ns);
                port.tick();
            }
        }
    }
}

/// An end of the tunnel to one gateway.
fn tunnels(setup: TunnelSetup, lane: Lane) -> Result<Tunnels, WorkerError> {
    let limits = Limits {
        peers: 1,
        lane,
        ..Limits::default()
    };
    let mut tunnels = Tunnels::new(setup.key, setup.n3.ip(), limits);
    tunnels.add(setup.gateway)?;
    Ok(tunnels)
}

impl PacketSource for Link {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        match self {
            Self::Plain(port) => port.recv_burst(burst),
            Self::Tunnel { port, .. } => port.recv_burst(burst),
        }
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        match self {
            Self::Plain(port) => port.frame(descriptor),
            Self::Tunnel { port, .. } => port.frame(descriptor),
        }
    }
}

impl PacketPort for Link {
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        match self {
            Self::Plain(port) => port.send(items),
            Self::Tunnel { port, .. } => port.send(items),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(port) => port.as_fd(),
            Self::Tunnel { port, .. } => port.as_fd(),
        }
    }
}
