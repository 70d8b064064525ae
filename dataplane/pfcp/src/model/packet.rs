//! Packet detection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_types::ids::{ContentId, PackageId};

use super::ids::{FTeid, FarId, PdrId, Precedence, QerId, Qfi, TrafficEndpointId, UrrId};

/// Where traffic comes from or goes to. Source: TS 29.244 §8.2.2 and §8.2.24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// Towards subscribers: N3.
    Access,
    /// Towards the network: N6, N9 of an uplink.
    Core,
    /// Services inside the operator's network, reached like [`Self::Core`].
    SgiLan,
    /// The control plane function: packets for and from an SMF (router advertisements).
    ControlPlane,
    /// The function that intercepts: where copies go, and nothing comes from.
    LiFunction,
}

/// A network instance (a data network name or a label), 1 to 100 bytes.
///
/// Source: TS 29.244 §8.2.4.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkInstance(pub Vec<u8>);

/// The name of an application whose filters the node knows or was given as PFDs, 1 to 255 bytes.
///
/// Source: TS 29.244 §8.2.6.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId(pub Vec<u8>);

/// The local tunnel endpoint of a rule. Source: TS 29.244 §8.2.3 and §5.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalFTeid {
    /// Chosen: by the control plane, or by us and now fixed.
    Fixed(FTeid),
    /// To be chosen by us.
    Choose {
        /// With an IPv4 address.
        v4: bool,
        /// With an IPv6 address.
        v6: bool,
        /// Rules of one message with the same number share one endpoint.
        choose_id: Option<u8>,
    },
}

/// Which end of a packet is the subscriber. Source: TS 29.244 §8.2.62, flag S/D.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UeRole {
    /// The packet comes from it.
    Source,
    /// The packet goes to it.
    Destination,
}

/// A subscriber's addresses; where an address is absent and its `choose` flag set, we choose.
///
/// Source: TS 29.244 §8.2.62.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UeAddress {
    /// Which end of the packet it is.
    pub role: UeRole,
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 prefix and its length in bits, 1 to 128 (64 when nothing was said).
    pub v6: Option<(Ipv6Addr, u8)>,
    /// We choose the IPv4 address.
    pub choose_v4: bool,
    /// We choose the IPv6 prefix.
    pub choose_v6: bool,
}

/// One direction-less packet filter: an IP filter rule's action `permit`.
///
/// Source: TS 29.212 §5.4.2 and RFC 6733 §4.3.1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SdfRule {
    /// Protocol number; `None`: any.
    pub protocol: Option<u8>,
    /// Remote side's address (`from` of a rule written `permit out`) and prefix length; `None`: any.
    pub remote: Option<(IpAddr, u8)>,
    /// Remote ports, inclusive ranges; empty: any. At most 16.
    pub remote_ports: Vec<(u16, u16)>,
    /// Subscriber's side; `None`: any or `assigned`.
    pub local: Option<(IpAddr, u8)>,
    /// Subscriber's ports, inclusive ranges; empty: any. At most 16.
    pub local_ports: Vec<(u16, u16)>,
}

/// A service data flow filter. Every part that is present must match.
///
/// Source: TS 29.244 §8.2.5.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SdfFilter {
    /// The flow description, parsed.
    pub rule: Option<SdfRule>,
    /// Type of service or traffic class: value and mask.
    pub tos: Option<(u8, u8)>,
    /// Security parameter index of IPsec.
    pub spi: Option<u32>,
    /// IPv6 flow label, 20 bits.
    pub flow_label: Option<u32>,
    /// Number by which other rules of the session refer to this filter.
    pub id: Option<u32>,
    /// The flow description's text as it came, for answers and traces; empty when there was none.
    pub text: String,
}

/// Packet detection information: a packet matches when every part that is present matches; of
/// several filters (or QFIs) one suffices.
///
/// Source: TS 29.244 §7.5.2.2, table 7.5.2.2-2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pdi {
    /// Where the packet comes from.
    pub source: Interface,
    /// Network instance.
    pub network_instance: Option<NetworkInstance>,
    /// Traffic endpoint whose parts this one has.
    pub endpoint: Option<TrafficEndpointId>,
    /// Local tunnel endpoint.
    pub local_fteid: Option<LocalFTeid>,
    /// Subscriber's address.
    pub ue: Option<UeAddress>,
    /// Filters.
    pub filters: Vec<SdfFilter>,
    /// Application, resolved through PFDs.
    pub application: Option<ApplicationId>,
    /// QFIs.
    pub qfis: Vec<Qfi>,
    /// Our extension: contents whose proven bytes the rule's usage rules measure. Such a rule
    /// forwards nothing itself.
    pub contents: Vec<ContentId>,
    /// Our extension: packages, each of which stands for the contents that it has.
    pub packages: Vec<PackageId>,
}

impl Pdi {
    /// Whether nothing but the tunnel of a packet is looked at.
    #[must_use]
    pub const fn matches_tunnels_alone(&self) -> bool {
        self.ue.is_none()
            && self.filters.is_empty()
            && self.application.is_none()
            && self.qfis.is_empty()
            && self.endpoint.is_none()
            && !self.names_contents()
    }

    /// Whether the rule measures contents instead of detecting packets.
    #[must_use]
    pub const fn names_contents(&self) -> bool {
        !self.contents.is_empty() || !self.packages.is_empty()
    }
}

/// Which outer header is taken off. Source: TS 29.244 §8.2.64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OuterHeaderRemoval {
    /// GTP-U over UDP over IPv4.
    GtpuUdpIpv4,
    /// GTP-U over UDP over IPv6.
    GtpuUdpIpv6,
    /// GTP-U over UDP over either.
    GtpuUdpIp,
    /// UDP over IPv4.
    UdpIpv4,
    /// UDP over IPv6.
    UdpIpv6,
}

/// A packet detection rule. Source: TS 29.244 §7.5.2.2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pdr {
    /// Its id in the session.
    pub id: PdrId,
    /// Its precedence.
    pub precedence: Precedence,
    /// What it detects.
    pub pdi: Pdi,
    /// Which outer header goes.
    pub removal: Option<OuterHeaderRemoval>,
    /// What happens to the packet; a rule without is refused unless it names contents.
    pub far: Option<FarId>,
    /// What measures it, in order.
    pub urrs: Vec<UrrId>,
    /// What limits it, in order.
    pub qers: Vec<QerId>,
}

/// What a modification changes in a [`Pdr`]; absent parts stay, lists replace lists.
///
/// Source: TS 29.244 §7.5.4.2.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of Pdr")]
pub struct PdrChanges {
    pub id: PdrId,
    pub precedence: Option<Precedence>,
    pub pdi: Option<Pdi>,
    pub removal: Option<OuterHeaderRemoval>,
    pub far: Option<FarId>,
    pub urrs: Option<Vec<UrrId>>,
    pub qers: Option<Vec<QerId>>,
}
