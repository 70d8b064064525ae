//! Messages of one session, and the IEs that only they hold.

use super::defect::Fault;
use super::ie::{Group, Octets, Part, Value, Writer, flags, message, part};
use super::node::Timer;
use super::numbers::{CauseCode, IeType};
use super::rules::ModificationFlags;
use super::sets::SessionSets;
use crate::model::{
    BarChanges, CreatedPdr, CreatedTrafficEndpoint, FSeid, FTeid, FailedRule, NodeId, PdrId, Qfi,
    SessionChange, UrrId, UsageReport,
};

message! {
    /// Opens a session. Source: TS 29.244 §7.5.2.
    SessionEstablishmentRequest {
        /// The control plane function.
        node: NodeId = required NODE_ID,
        /// The session there.
        cp: FSeid = required F_SEID,
        /// Its rules: creations only.
        rules: SessionChange = creations,
        /// Which packets it carries.
        pdn: Option<PdnType> = optional PDN_TYPE,
        /// Seconds without a packet after which a report is made.
        inactivity_timer: Option<u32> = optional USER_PLANE_INACTIVITY_TIMER,
        /// The sets that it belongs to.
        sets: SessionSets = inline,
    }
    refuses [CREATE_MAR, CREATE_SRR]
}

message! {
    /// Source: TS 29.244 §7.5.3.
    SessionEstablishmentResponse {
        /// The user plane function.
        node: NodeId = required NODE_ID,
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
        /// The session here, when it stands.
        up: Option<FSeid> = optional F_SEID,
        /// What was chosen here for detection rules.
        created: Vec<CreatedPdr> = list CREATED_PDR,
        /// What was chosen here for traffic endpoints.
        created_endpoints: Vec<CreatedTrafficEndpoint> = list CREATED_TRAFFIC_ENDPOINT,
        /// The rule at fault.
        failed: Option<FailedRule> = optional FAILED_RULE_ID,
    }
}

message! {
    /// Changes a session. Source: TS 29.244 §7.5.4.
    SessionModificationRequest {
        /// The control plane function, when it takes the session over from another one of its set.
        node: Option<NodeId> = optional NODE_ID,
        /// The session at the control plane function, when it moved.
        cp: Option<FSeid> = optional F_SEID,
        /// Changes of rules.
        change: SessionChange = inline,
        /// What else is asked for.
        flags: ModificationFlags = defaulted PFCPSMREQ_FLAGS,
        /// Usage rules that report at once.
        query: Vec<UrrId> = named QUERY_URR,
        /// Seconds without a packet after which a report is made.
        inactivity_timer: Option<u32> = optional USER_PLANE_INACTIVITY_TIMER,
        /// Number that the reports asked for repeat.
        query_reference: Option<u32> = optional QUERY_URR_REFERENCE,
        /// The sets that it belongs to from now on; see [`SessionSets::changed`].
        sets: SessionSets = inline,
    }
    refuses [CREATE_MAR, UPDATE_MAR, REMOVE_MAR, CREATE_SRR]
}

message! {
    /// Source: TS 29.244 §7.5.5.
    SessionModificationResponse {
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
        /// What was chosen here for detection rules.
        created: Vec<CreatedPdr> = list CREATED_PDR,
        /// What was chosen here for traffic endpoints.
        created_endpoints: Vec<CreatedTrafficEndpoint> = list CREATED_TRAFFIC_ENDPOINT,
        /// Usage that was asked for, and of rules that ended.
        reports: Vec<UsageReport> = list USAGE_REPORT_IN_MODIFICATION_RESPONSE,
        /// The rule at fault.
        failed: Option<FailedRule> = optional FAILED_RULE_ID,
        /// Reports that follow in report requests.
        further_reports: Option<FurtherReports> = optional ADDITIONAL_USAGE_REPORTS_INFORMATION,
    }
}

message! {
    /// Ends a session. Source: TS 29.244 §7.5.6.
    SessionDeletionRequest {}
}

message! {
    /// Source: TS 29.244 §7.5.7.
    SessionDeletionResponse {
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
        /// The last usage of every rule.
        reports: Vec<UsageReport> = list USAGE_REPORT_IN_DELETION_RESPONSE,
        /// Reports that follow in report requests.
        further_reports: Option<FurtherReports> = optional ADDITIONAL_USAGE_REPORTS_INFORMATION,
    }
}

/// A user plane function tells of a session; at least one part is there.
///
/// Source: TS 29.244 §7.5.8.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionReportRequest {
    /// A packet for a subscriber who has to be paged.
    pub downlink_data: Option<DownlinkDataReport>,
    /// Usage.
    pub reports: Vec<UsageReport>,
    /// Tunnel endpoints that their node does not know.
    pub error_indication: Vec<FTeid>,
    /// No packet for the time that was asked for.
    pub inactivity: bool,
    /// Reports of usage that follow.
    pub further_reports: Option<FurtherReports>,
    /// What else is said.
    pub flags: ReportFlags,
}

flags! {
    /// Source: TS 29.244 §8.2.119, PFCPSRReq-Flags.
    pub ReportFlags {
        /// The user plane function has ended the session: nothing follows (PSDBU).
        deleted = 1,
    }
}

flags! {
    /// Parts of a session report. Source: TS 29.244 §8.2.21.
    ReportType {
        /// DLDR.
        downlink_data = 1,
        /// USAR.
        usage = 2,
        /// ERIR.
        error_indication = 3,
        /// UPIR.
        inactivity = 4,
    }
}

/// Endpoints of an Error Indication Report.
struct Endpoints(Vec<FTeid>);

impl Part for Endpoints {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        group.some(IeType::F_TEID).map(Self)
    }

    fn put(&self, out: &mut Writer) {
        out.list(IeType::F_TEID, &self.0);
    }
}

impl Part for SessionReportRequest {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        let kind: ReportType = group.required(IeType::REPORT_TYPE)?;
        let missing = |flag: bool, ie| match flag && !group.has(ie) {
            true => Err(Fault::missing_here(ie)),
            false => Ok(()),
        };
        missing(kind.downlink_data, IeType::DOWNLINK_DATA_REPORT)?;
        missing(kind.usage, IeType::USAGE_REPORT_IN_REPORT_REQUEST)?;
        missing(kind.error_indication, IeType::ERROR_INDICATION_REPORT)?;
        let endpoints: Option<Endpoints> = group.optional(IeType::ERROR_INDICATION_REPORT)?;
        Ok(Self {
            downlink_data: group.optional(IeType::DOWNLINK_DATA_REPORT)?,
            reports: group.list(IeType::USAGE_REPORT_IN_REPORT_REQUEST)?,
            error_indication: endpoints.map(|Endpoints(list)| list).unwrap_or_default(),
            inactivity: kind.inactivity,
            further_reports: group.optional(IeType::ADDITIONAL_USAGE_REPORTS_INFORMATION)?,
            flags: group.defaulted(IeType::PFCPSRREQ_FLAGS)?,
        })
    }

    fn put(&self, out: &mut Writer) {
        let kind = ReportType {
            downlink_data: self.downlink_data.is_some(),
            usage: !self.reports.is_empty(),
            error_indication: !self.error_indication.is_empty(),
            inactivity: self.inactivity,
        };
        let endpoints = &self.error_indication;
        let endpoints = (!endpoints.is_empty()).then(|| Endpoints(endpoints.clone()));
        out.required(IeType::REPORT_TYPE, &kind);
        out.optional(IeType::DOWNLINK_DATA_REPORT, &self.downlink_data);
        out.list(IeType::USAGE_REPORT_IN_REPORT_REQUEST, &self.reports);
        out.optional(IeType::ERROR_INDICATION_REPORT, &endpoints);
        out.optional(
            IeType::ADDITIONAL_USAGE_REPORTS_INFORMATION,
            &self.further_reports,
        );
        out.defaulted(IeType::PFCPSRREQ_FLAGS, &self.flags);
    }
}

message! {
    /// Source: TS 29.244 §7.5.9.
    SessionReportResponse {
        /// What came of it.
        cause: CauseCode = required CAUSE,
        /// The IE at fault.
        offending: Option<IeType> = optional OFFENDING_IE,
        /// How packets are kept from now on.
        bars: Vec<BarOrder> = list UPDATE_BAR_IN_REPORT_RESPONSE,
        /// What else is asked for.
        flags: ReportResponseFlags = defaulted PFCPSRRSP_FLAGS,
        /// The session at the control plane function, when it moved.
        cp: Option<FSeid> = optional F_SEID,
    }
}

flags! {
    /// Source: TS 29.244 §8.2.32, PFCPSRRsp-Flags.
    pub ReportResponseFlags {
        /// Kept packets are thrown away (DROBU).
        drop_buffered = 1,
    }
}

/// Which packets a session carries; others than IP are refused. Source: TS 29.244 §8.2.79.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PdnType {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// Both.
    V4V6,
}

impl Value for PdnType {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match octets.u8()? & 0x07 {
            1 => Ok(Self::V4),
            2 => Ok(Self::V6),
            3 => Ok(Self::V4V6),
            4 | 5 => Err(Fault::Unsupported),
            _ => Err(Fault::Incorrect),
        }
    }
    fn write(&self, out: &mut Writer) {
        out.u8(match self {
            Self::V4 => 1,
            Self::V6 => 2,
            Self::V4V6 => 3,
        });
    }
}

part!(CreatedPdr {
    id: required PDR_ID,
    local_fteid: optional F_TEID,
    ue: optional UE_IP_ADDRESS,
});

part!(CreatedTrafficEndpoint {
    id: required TRAFFIC_ENDPOINT_ID,
    local_fteid: optional F_TEID,
    ue: optional UE_IP_ADDRESS,
});

impl Value for FailedRule {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        match octets.u8()? & 0x1f {
            0 => Value::read(octets).map(Self::Pdr),
            1 => Value::read(octets).map(Self::Far),
            2 => Value::read(octets).map(Self::Qer),
            3 => Value::read(octets).map(Self::Urr),
            4 => Value::read(octets).map(Self::Bar),
            _ => Err(Fault::Unsupported),
        }
    }
    fn write(&self, out: &mut Writer) {
        match self {
            Self::Pdr(id) => {
                out.u8(0);
                id.write(out);
            }
            Self::Far(id) => {
                out.u8(1);
                id.write(out);
            }
            Self::Qer(id) => {
                out.u8(2);
                id.write(out);
            }
            Self::Urr(id) => {
                out.u8(3);
                id.write(out);
            }
            Self::Bar(id) => {
                out.u8(4);
                id.write(out);
            }
        }
    }
}

/// Reports that follow behind an answer. Source: TS 29.244 §8.2.91.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FurtherReports {
    /// How many is not known yet (AURI without a number).
    Some,
    /// So many, 1 to 32767.
    Count(u16),
}

impl Value for FurtherReports {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let value = octets.u16()?;
        Ok(match value & 0x7fff {
            0 => Self::Some,
            count => Self::Count(count),
        })
    }
    fn write(&self, out: &mut Writer) {
        match *self {
            Self::Some => out.u16(0x8000),
            Self::Count(count @ 1..=0x7fff) => out.u16(count),
            Self::Count(_) => out.fail(),
        }
    }
}

/// A packet for a subscriber who has to be paged. Source: TS 29.244 §7.5.8.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownlinkDataReport {
    /// The rules that it matched, at least one.
    pub pdrs: Vec<PdrId>,
    /// What is known of it.
    pub service: Option<ServiceInformation>,
}

part!(DownlinkDataReport {
    pdrs: some PDR_ID,
    service: optional DOWNLINK_DATA_SERVICE_INFORMATION,
});

/// How urgent a downlink packet is. Source: TS 29.244 §8.2.27.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceInformation {
    /// Paging policy indication, 0 to 63.
    pub paging_policy: Option<u8>,
    /// QFI.
    pub qfi: Option<Qfi>,
}

impl Value for ServiceInformation {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let flags = octets.u8()?;
        let paging_policy = octets.when(flags & 0x01, Octets::u8)?;
        Ok(Self {
            paging_policy: paging_policy.map(|policy| policy & 0x3f),
            qfi: octets.when(flags & 0x02, Qfi::read)?,
        })
    }
    fn write(&self, out: &mut Writer) {
        let flags = super::values::flag(1, self.paging_policy.is_some());
        out.u8(flags | super::values::flag(2, self.qfi.is_some()));
        if let Some(policy) = self.paging_policy {
            if policy > 0x3f {
                out.fail();
            }
            out.u8(policy);
        }
        if let Some(qfi) = self.qfi {
            qfi.write(out);
        }
    }
}

/// What the answer to a report says about keeping packets. Source: TS 29.244 §7.5.9.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarOrder {
    /// Changes of the rule.
    pub changes: BarChanges,
    /// How long packets are kept.
    pub duration: Option<Timer>,
    /// How many are kept in that time.
    pub packets: Option<SuggestedPackets>,
}

part!(BarOrder {
    changes: inline,
    duration: optional DL_BUFFERING_DURATION,
    packets: optional DL_BUFFERING_SUGGESTED_PACKET_COUNT,
});

/// A number of packets, in one octet or two. Source: TS 29.244 §8.2.30.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SuggestedPackets(pub u16);

impl Value for SuggestedPackets {
    fn read(octets: &mut Octets<'_>) -> Result<Self, Fault> {
        let first = octets.u8()?;
        Ok(Self(match octets.u8() {
            Ok(second) => u16::from_be_bytes([first, second]),
            Err(_) => first.into(),
        }))
    }
    fn write(&self, out: &mut Writer) {
        match u8::try_from(self.0) {
            Ok(count) => out.u8(count),
            Err(_) => out.u16(self.0),
        }
    }
}
