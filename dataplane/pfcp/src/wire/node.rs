//! Messages between nodes, and the IEs that only they hold.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::defect::Fault;
use super::features::{CpFeatures, UpFeatures};
use super::ie::{Group, Octets, Part, Value, Writer, flags, message};
use super::numbers::{CauseCode, IeType};
use super::pfd::ApplicationPfds;
use super::sets::AlternativeSmf;
use super::values::flag;
use crate::model::{Interface, NetworkInstance, NodeId, SmfSetId, Time};

message! {
    /// Are you there? Source: TS 29.244 §7.4.2.1.
    HeartbeatRequest {
        /// When the sender started; a later one means that it lost its sessions.
        recovery: Time = required RECOVERY_TIME_STAMP,
    }
}

message! {
    /// Yes. Source: TS 29.244 §7.4.2.2.
    HeartbeatResponse {
        /// When the sender started.
        recovery: Time = required RECOVERY_TIME_STAMP,
    }
}

message! {
    /// Filters of applications. Source: TS 29.244 §7.4.3.1.
    PfdManagementRequest {
        /// Filters by application; without one, all of every application go.
        applications: Vec<ApplicationPfds> = list APPLICATION_IDS_PFDS,
    }
}

message! {
    /// Source: TS 29.244 §7.4.3.2.
    PfdManagementResponse {
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
    }
}

message! {
    /// Opens an association. Source: TS 29.244 §7.4.4.1.
    AssociationSetupRequest {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// When it started.
        recovery: Time = required RECOVERY_TIME_STAMP,
        /// Its features, when it is a user plane function.
        up_features: Option<UpFeatures> = optional UP_FUNCTION_FEATURES,
        /// Its features, when it is a control plane function.
        cp_features: Option<CpFeatures> = optional CP_FUNCTION_FEATURES,
        /// The set that it belongs to, when it is a control plane function.
        set: Option<SmfSetId> = optional SMF_SET_ID,
        /// Where other functions of its set are.
        alternatives: Vec<AlternativeSmf> = list ALTERNATIVE_SMF_IP_ADDRESS,
        /// Its user plane addresses.
        resources: Vec<UserPlaneResource> = list USER_PLANE_IP_RESOURCE_INFORMATION,
    }
}

message! {
    /// Source: TS 29.244 §7.4.4.2.
    AssociationSetupResponse {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// When the sender started.
        recovery: Time = required RECOVERY_TIME_STAMP,
        /// Its features, when it is a user plane function.
        up_features: Option<UpFeatures> = optional UP_FUNCTION_FEATURES,
        /// Its features, when it is a control plane function.
        cp_features: Option<CpFeatures> = optional CP_FUNCTION_FEATURES,
        /// The set that it belongs to, when it is a control plane function.
        set: Option<SmfSetId> = optional SMF_SET_ID,
        /// Its user plane addresses.
        resources: Vec<UserPlaneResource> = list USER_PLANE_IP_RESOURCE_INFORMATION,
    }
}

message! {
    /// Changes an association. Source: TS 29.244 §7.4.4.3.
    AssociationUpdateRequest {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// Its new features, when it is a user plane function.
        up_features: Option<UpFeatures> = optional UP_FUNCTION_FEATURES,
        /// Its new features, when it is a control plane function.
        cp_features: Option<CpFeatures> = optional CP_FUNCTION_FEATURES,
        /// The set that it belongs to, when it is a control plane function.
        set: Option<SmfSetId> = optional SMF_SET_ID,
        /// Where other functions of its set are.
        alternatives: Vec<AlternativeSmf> = list ALTERNATIVE_SMF_IP_ADDRESS,
        /// A user plane function wants to leave.
        release: Option<ReleaseRequest> = optional PFCP_ASSOCIATION_RELEASE_REQUEST,
        /// How long the control plane function may take until it releases.
        graceful: Option<Timer> = optional GRACEFUL_RELEASE_PERIOD,
        /// New user plane addresses.
        resources: Vec<UserPlaneResource> = list USER_PLANE_IP_RESOURCE_INFORMATION,
    }
}

message! {
    /// Source: TS 29.244 §7.4.4.4.
    AssociationUpdateResponse {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// Its features, when it is a user plane function.
        up_features: Option<UpFeatures> = optional UP_FUNCTION_FEATURES,
        /// Its features, when it is a control plane function.
        cp_features: Option<CpFeatures> = optional CP_FUNCTION_FEATURES,
    }
}

message! {
    /// Ends an association. Source: TS 29.244 §7.4.4.5.
    AssociationReleaseRequest {
        /// The sender.
        node: NodeId = required NODE_ID,
    }
}

message! {
    /// Source: TS 29.244 §7.4.4.6.
    AssociationReleaseResponse {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// What came of it.
        cause: CauseCode = required CAUSE,
    }
}

message! {
    /// The version of the request is not ours. Source: TS 29.244 §7.4.4.7.
    VersionNotSupportedResponse {}
}

/// A user plane function tells of paths. Source: TS 29.244 §7.4.5.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReportRequest {
    /// The sender.
    pub node: NodeId,
    /// GTP-U peers that no longer answer.
    pub failures: Vec<RemotePeer>,
    /// GTP-U peers that answer again.
    pub recoveries: Vec<RemotePeer>,
}

flags! {
    /// Parts of a node report. Source: TS 29.244 §8.2.69.
    NodeReportType {
        /// UPFR.
        failure = 1,
        /// UPRR.
        recovery = 2,
    }
}

/// Peers of a path report.
struct Peers(Vec<RemotePeer>);

impl Part for Peers {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        group.some(IeType::REMOTE_GTPU_PEER).map(Self)
    }

    fn put(&self, out: &mut Writer) {
        out.list(IeType::REMOTE_GTPU_PEER, &self.0);
    }
}

/// The report that a flag announces is there.
fn peers_of(group: &Group<'_>, announced: bool, ie: IeType) -> Result<Vec<RemotePeer>, Fault> {
    match (group.optional::<Peers>(ie)?, announced) {
        (Some(Peers(peers)), true) => Ok(peers),
        (None, true) => Err(Fault::missing_here(ie)),
        (_, false) => Ok(Vec::new()),
    }
}

impl Part for NodeReportRequest {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        let kind: NodeReportType = group.required(IeType::NODE_REPORT_TYPE)?;
        Ok(Self {
            node: group.required(IeType::NODE_ID)?,
            failures: peers_of(group, kind.failure, IeType::USER_PLANE_PATH_FAILURE_REPORT)?,
            recoveries: peers_of(
                group,
                kind.recovery,
                IeType::USER_PLANE_PATH_RECOVERY_REPORT,
            )?,
        })
    }

    fn put(&self, out: &mut Writer) {
        let kind = NodeReportType {
            failure: !self.failures.is_empty(),
            recovery: !self.recoveries.is_empty(),
        };
        let report = |peers: &[RemotePeer]| (!peers.is_empty()).then(|| Peers(peers.to_vec()));
        out.required(IeType::NODE_ID, &self.node);
        out.required(IeType::NODE_REPORT_TYPE, &kind);
        out.optional(
            IeType::USER_PLANE_PATH_FAILURE_REPORT,
            &report(&self.failures),
        );
        out.optional(
            IeType::USER_PLANE_PATH_RECOVERY_REPORT,
            &report(&self.recoveries),
        );
    }
}

message! {
    /// Source: TS 29.244 §7.4.5.2.
    NodeReportResponse {
        /// The sender.
        node: NodeId = required NODE_ID,
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
    }
}

flags! {
    /// How a user plane function wants to leave. Source: TS 29.244 §8.2.77.
    pub ReleaseRequest {
        /// It asks for the release (SARR).
        release = 1,
        /// It has sent every usage report of the sessions that it gave up (URSS).
        reports_sent = 2,
    }
}

/// A span of time in few units. Source: TS 29.244 §8.2.78.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timer(u8);

impl Timer {
    /// No end.
    pub const INFINITE: Self = Self(0xe0);

    /// Units in seconds with their codes, the finest first.
    const UNITS: [(u32, u8); 5] = [
        (2, 0x00),
        (60, 0x20),
        (600, 0x40),
        (3600, 0x60),
        (36_000, 0x80),
    ];

    /// The shortest span that can be stated and is not below `seconds`; infinite above 310 hours.
    #[must_use]
    pub fn at_least(seconds: u32) -> Self {
        Self::UNITS
            .into_iter()
            .filter_map(|(unit, code)| {
                let count = u8::try_from(seconds.div_ceil(unit)).ok()?;
                (count < 32).then_some(Self(code | count))
            })
            .min_by_key(|timer| timer.seconds())
            .unwrap_or(Self::INFINITE)
    }

    /// Its seconds; `None` without end.
    #[must_use]
    pub const fn seconds(self) -> Option<u32> {
        let count = (self.0 & 0x1f) as u32;
        let unit = match self.0 & 0xe0 {
            0x00 => 2,
            0x40 => 600,
            0x60 => 3600,
            0x80 => 36_000,
            0xe0 => return None,
            // Units that are not defined count minutes.
            _ => 60,
        };
        Some(count.saturating_mul(unit))
    }
}

impl Value for Timer {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        octets.u8().map(Self)
    }
    fn write(&self, out: &mut Writer) {
        out.u8(self.0);
    }
}

/// Addresses at which a user plane function takes GTP-U. Source: TS 29.244 §8.2.82.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserPlaneResource {
    /// The first bits of its tunnel endpoints and how many of them count, 1 to 7.
    pub teid_range: Option<(u8, u8)>,
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Network instance.
    pub network_instance: Option<NetworkInstance>,
    /// Side.
    pub source: Option<Interface>,
}

impl Value for UserPlaneResource {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let bits = flags >> 2 & 0x07;
        let teid_range = octets.when(bits, Octets::u8)?;
        let v4 = octets.when(flags & 0x01, Octets::v4)?;
        let v6 = octets.when(flags & 0x02, Octets::v6)?;
        // The source interface stands behind a name without a length.
        let name = octets.rest();
        let (name, source) = match (flags & 0x40, name.split_last()) {
            (0, _) => (name, None),
            (_, Some((source, name))) => (name, Some(*source)),
            (_, None) => return Err(Fault::Length),
        };
        let read = |code| Interface::read(&mut Octets::new(&[code], 0));
        let network_instance = match flags & 0x20 {
            0 => None,
            _ => Some(NetworkInstance::read(&mut Octets::new(name, 0))?),
        };
        if v4.is_none() && v6.is_none() {
            return Err(Fault::Incorrect);
        }
        Ok(Self {
            teid_range: teid_range.map(|range| (range, bits)),
            v4,
            v6,
            network_instance,
            source: source.map(read).transpose()?,
        })
    }
    fn write(&self, out: &mut Writer) {
        let bits = self.teid_range.map_or(0, |(_, bits)| bits);
        let no_address = self.v4.is_none() && self.v6.is_none();
        if no_address || bits > 7 || (self.teid_range.is_some() && bits == 0) {
            out.fail();
        }
        out.u8(flag(1, self.v4.is_some())
            | flag(2, self.v6.is_some())
            | bits << 2
            | flag(6, self.network_instance.is_some())
            | flag(7, self.source.is_some()));
        if let Some((range, _)) = self.teid_range {
            out.u8(range);
        }
        out.v4(self.v4);
        out.v6(self.v6);
        if let Some(name) = &self.network_instance {
            name.write(out);
        }
        if let Some(source) = self.source {
            source.write(out);
        }
    }
}

/// A GTP-U peer. Source: TS 29.244 §8.2.70.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RemotePeer {
    /// IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// The side on which it is.
    pub destination: Option<Interface>,
    /// Network instance.
    pub network_instance: Option<NetworkInstance>,
}

impl Value for RemotePeer {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let peer = Self {
            v4: octets.when(flags & 0x02, Octets::v4)?,
            v6: octets.when(flags & 0x01, Octets::v6)?,
            destination: octets
                .when(flags & 0x04, |octets| Interface::read(&mut octets.inner()?))?,
            network_instance: octets.when(flags & 0x08, |octets| {
                NetworkInstance::read(&mut octets.inner()?)
            })?,
        };
        if peer.v4.is_none() && peer.v6.is_none() {
            return Err(Fault::Incorrect);
        }
        Ok(peer)
    }
    fn write(&self, out: &mut Writer) {
        if self.v4.is_none() && self.v6.is_none() {
            out.fail();
        }
        out.u8(flag(1, self.v6.is_some())
            | flag(2, self.v4.is_some())
            | flag(3, self.destination.is_some())
            | flag(4, self.network_instance.is_some()));
        out.v4(self.v4);
        out.v6(self.v6);
        if let Some(destination) = self.destination {
            out.counted(|out| destination.write(out));
        }
        if let Some(name) = &self.network_instance {
            out.counted(|out| name.write(out));
        }
    }
}
