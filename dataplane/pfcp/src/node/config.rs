//! Who the node is, whom it talks to, and how much of everything it holds.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::inbox::Room;
use crate::model::{ModelLimits, Networks, NodeId, Time};
use crate::wire::UpFeatures;

/// The port of PFCP. Source: TS 29.244 §4.2.2.
pub const PFCP_PORT: u16 = 8805;

/// What makes the numbers of sessions hard to guess; it does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SeidKey([u8; 32]);

impl SeidKey {
    /// From 32 secret bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SeidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeidKey")
    }
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerPrefix {
    /// One of them.
    pub address: IpAddr,
    /// How many bits count; more than the address has: all.
    pub length: u8,
}

impl PeerPrefix {
    /// One address.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self {
            address,
            length: 128,
        }
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let free = width.saturating_sub(u32::from(self.length));
            (a ^ b).checked_shr(free).unwrap_or(0) == 0
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Where our requests go at a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RequestPort {
    /// To [`PFCP_PORT`], as the standard says.
    #[default]
    Standard,
    /// To the port from which it opened the association: several peers on one host.
    Source,
}

impl RequestPort {
    /// Whether messages from two endpoints are one peer's.
    pub(super) fn is_same_peer(self, one: SocketAddr, other: SocketAddr) -> bool {
        match self {
            Self::Standard => one.ip() == other.ip(),
            Self::Source => one == other,
        }
    }
}

/// Bounds of a node; hitting one is answered with its cause and counted with a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// Associations.
    pub associations: usize,
    /// Sessions of one association.
    pub sessions: usize,
    /// Our requests to one peer that wait for an answer; more wait in their sessions.
    pub outstanding: usize,
    /// Requests that wait for a busy session.
    pub waiting: usize,
    /// Endpoints (address and port) from which requests come.
    pub sources: usize,
    /// Requests of one endpoint whose answers are remembered.
    pub responses: usize,
    /// Bytes of those answers.
    pub response_bytes: usize,
    /// Bytes of all filters of applications.
    pub pfd_bytes: usize,
    /// Usage reports of one session that are not acknowledged.
    pub reports: usize,
    /// Bounds of one session.
    pub model: ModelLimits,
}

impl NodeLimits {
    pub(super) const fn room(&self) -> Room {
        Room {
            requests: self.responses,
            bytes: self.response_bytes,
        }
    }
}

impl Default for NodeLimits {
    /// Chosen: a city's SMF set, at most some 100 MB.
    fn default() -> Self {
        Self {
            associations: 16,
            sessions: 100_000,
            outstanding: 256,
            waiting: 4,
            sources: 64,
            responses: 8192,
            response_bytes: 4 << 20,
            pfd_bytes: 1 << 20,
            reports: 256,
            model: ModelLimits::default(),
        }
    }
}

/// How long the node waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Until a request is sent again (T1). Source: TS 29.244 §6.4.
    pub t1: Duration,
    /// How often a request is sent at most (N1), 1 or more.
    pub n1: u8,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// How long the sessions of a peer stay that does not answer: its user planes go on, because
    /// a path that fails is more frequent than a peer that is gone, then they are deleted.
    pub keep_sessions: Duration,
    /// How long answers are remembered; not shorter than peers send requests again.
    pub remember: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            t1: Duration::from_secs(3),
            n1: 3,
            heartbeat: Duration::from_secs(10),
            keep_sessions: Duration::from_secs(600),
            remember: Duration::from_secs(30),
        }
    }
}

/// What a node is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Our name.
    pub node: NodeId,
    /// Our IPv4 address in session endpoints; one of both is there.
    pub v4: Option<Ipv4Addr>,
    /// Our IPv6 address in session endpoints.
    pub v6: Option<Ipv6Addr>,
    /// When the sessions that stand began to be kept: it stays over a restart that restores them
    /// and changes when they are lost. Source: TS 23.527 §4.2.
    pub recovery: Time,
    /// Differs at every start, so that numbers of sessions do not come again.
    pub start: u64,
    /// What makes them hard to guess.
    pub key: SeidKey,
    /// Peers that are listened to; empty: none.
    pub peers: Vec<PeerPrefix>,
    /// Where our requests go.
    pub request_port: RequestPort,
    /// Which network instances rules may name.
    pub networks: Networks,
    /// What we say that we can do, see [`FEATURES`](super::FEATURES).
    pub features: UpFeatures,
    /// Number of vendor-specific information elements.
    pub enterprise: u16,
    /// Bounds.
    pub limits: NodeLimits,
    /// Times.
    pub timers: Timers,
}

impl NodeConfig {
    /// Whether a peer is listened to.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.peers.iter().any(|prefix| prefix.contains(address))
    }
}
