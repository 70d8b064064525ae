//! Messages by type.

use qlink_pfcp::model::*;
use qlink_pfcp::wire::*;

use super::Source;
use super::rules::*;
use super::values::*;

pub(super) fn up_features(s: &mut Source<'_>) -> UpFeatures {
    let all = [
        UpFeatures::FTUP,
        UpFeatures::PFDM,
        UpFeatures::EMPU,
        UpFeatures::UEIP,
        UpFeatures::BUNDL,
        UpFeatures::VTIME,
        UpFeatures::IP6PL,
    ];
    s.list(4, |s| all[usize::from(s.below(7))])
        .into_iter()
        .fold(UpFeatures::NONE, UpFeatures::with)
}

pub(super) fn cp_features(s: &mut Source<'_>) -> CpFeatures {
    if s.coin() {
        CpFeatures::LOAD.with(CpFeatures::BUNDL)
    } else {
        CpFeatures::NONE
    }
}

pub(super) fn resource(s: &mut Source<'_>) -> UserPlaneResource {
    let (v4, v6) = addresses(s);
    UserPlaneResource {
        teid_range: s.maybe(|s| (s.u8(), s.below(7) + 1)),
        v4,
        v6,
        network_instance: s.maybe(instance),
        source: s.maybe(interface),
    }
}

pub(super) fn peer(s: &mut Source<'_>) -> RemotePeer {
    let (v4, v6) = addresses(s);
    RemotePeer {
        v4,
        v6,
        destination: s.maybe(interface),
        network_instance: s.maybe(instance),
    }
}

pub(super) fn cause(s: &mut Source<'_>) -> CauseCode {
    CauseCode::NAMED[usize::from(s.u8()) % CauseCode::NAMED.len()]
}

pub(super) fn offending(s: &mut Source<'_>) -> Option<IeType> {
    s.maybe(|s| IeType::NAMED[usize::from(s.u8()) % IeType::NAMED.len()])
}

pub(super) fn text(s: &mut Source<'_>) -> Vec<u8> {
    s.bytes(12)
}

pub(super) fn flow(s: &mut Source<'_>) -> PfdFlow {
    let rule = rule(s);
    PfdFlow {
        text: format_flow(&rule),
        rule,
    }
}

pub(super) fn pfd(s: &mut Source<'_>) -> Pfd {
    Pfd {
        flow: s.maybe(flow),
        url: s.maybe(text),
        domain: s.maybe(text),
        custom: Some(match s.coin() {
            true => CustomPfd::Contents(NamedContents {
                contents: s.some(3, content),
                packages: s.list(2, package),
            }),
            false => CustomPfd::Other(s.bytes(20)),
        }),
        domain_protocol: s.maybe(text),
        more_flows: s.list(2, flow),
        more_urls: s.list(2, text),
        more_domains: s.list(2, |s| (text(s), text(s))),
    }
}

pub(super) fn csid(s: &mut Source<'_>) -> FqCsid {
    FqCsid {
        node: match s.below(3) {
            0 => CsidNode::V4(v4(s)),
            1 => CsidNode::V6(v6(s)),
            _ => CsidNode::Other(s.u32().to_be_bytes()),
        },
        csids: s.some(15, Source::u16),
        kind: s.maybe(|s| s.below(16)),
    }
}

pub(super) fn group(s: &mut Source<'_>) -> GroupId {
    GroupId(s.bytes(20))
}

pub(super) fn cp_address(s: &mut Source<'_>) -> CpAddress {
    let (v4, v6) = addresses(s);
    CpAddress { v4, v6 }
}

pub(super) fn session_change_info(s: &mut Source<'_>) -> SessionChangeInfo {
    SessionChangeInfo {
        sets: s.list(2, csid),
        groups: s.list(2, group),
        addresses: s.list(2, cp_address),
        alternative: alternative(s),
    }
}

fn alternative(s: &mut Source<'_>) -> AlternativeSmf {
    AlternativeSmf {
        address: cp_address(s),
        preferred: s.coin(),
    }
}

pub(super) fn session_sets(s: &mut Source<'_>) -> SessionSets {
    SessionSets {
        csids: s.list(2, csid),
        group: s.maybe(group),
    }
}

pub(super) fn further(s: &mut Source<'_>) -> FurtherReports {
    match s.coin() {
        true => FurtherReports::Some,
        false => FurtherReports::Count((s.u16() & 0x7fff).max(1)),
    }
}

pub(super) fn created(s: &mut Source<'_>) -> CreatedPdr {
    CreatedPdr {
        id: PdrId::new(s.u16()),
        local_fteid: s.maybe(fteid),
        ue: s.maybe(ue_address),
    }
}

pub(super) fn created_endpoint(s: &mut Source<'_>) -> CreatedTrafficEndpoint {
    CreatedTrafficEndpoint {
        id: traffic_endpoint_id(s),
        local_fteid: s.maybe(fteid),
        ue: s.maybe(ue_address),
    }
}

pub(super) fn failed(s: &mut Source<'_>) -> FailedRule {
    match s.below(5) {
        0 => FailedRule::Pdr(PdrId::new(s.u16())),
        1 => FailedRule::Far(far_id(s)),
        2 => FailedRule::Qer(qer_id(s)),
        3 => FailedRule::Urr(urr_id(s)),
        _ => FailedRule::Bar(bar_id(s)),
    }
}

fn association_message(s: &mut Source<'_>, kind: MessageType) -> Option<Message> {
    Some(match kind {
        MessageType::ASSOCIATION_SETUP_REQUEST => AssociationSetupRequest {
            alternatives: s.list(2, alternative),
            set: s.maybe(smf_set),
            node: node(s),
            recovery: time(s),
            up_features: s.maybe(up_features),
            cp_features: s.maybe(cp_features),
            resources: s.list(2, resource),
        }
        .into(),
        MessageType::ASSOCIATION_SETUP_RESPONSE => AssociationSetupResponse {
            set: s.maybe(smf_set),
            node: node(s),
            cause: cause(s),
            recovery: time(s),
            up_features: s.maybe(up_features),
            cp_features: s.maybe(cp_features),
            resources: s.list(2, resource),
        }
        .into(),
        MessageType::ASSOCIATION_UPDATE_REQUEST => AssociationUpdateRequest {
            alternatives: s.list(2, alternative),
            set: s.maybe(smf_set),
            node: node(s),
            up_features: s.maybe(up_features),
            cp_features: s.maybe(cp_features),
            release: s.maybe(|s| ReleaseRequest {
                release: s.coin(),
                reports_sent: s.coin(),
            }),
            graceful: s.maybe(|s| Timer::at_least(s.u32())),
            resources: s.list(2, resource),
        }
        .into(),
        MessageType::ASSOCIATION_UPDATE_RESPONSE => AssociationUpdateResponse {
            node: node(s),
            cause: cause(s),
            up_features: s.maybe(up_features),
            cp_features: s.maybe(cp_features),
        }
        .into(),
        MessageType::ASSOCIATION_RELEASE_REQUEST => {
            AssociationReleaseRequest { node: node(s) }.into()
        }
        MessageType::ASSOCIATION_RELEASE_RESPONSE => AssociationReleaseResponse {
            node: node(s),
            cause: cause(s),
        }
        .into(),
        _ => return None,
    })
}

pub(super) fn node_message(s: &mut Source<'_>, kind: MessageType) -> Message {
    if let Some(message) = association_message(s, kind) {
        return message;
    }
    match kind {
        MessageType::HEARTBEAT_REQUEST => HeartbeatRequest { recovery: time(s) }.into(),
        MessageType::HEARTBEAT_RESPONSE => HeartbeatResponse { recovery: time(s) }.into(),
        MessageType::PFD_MANAGEMENT_REQUEST => PfdManagementRequest {
            applications: s.list(3, |s| ApplicationPfds {
                application: application(s),
                pfds: s.list(3, pfd),
            }),
        }
        .into(),
        MessageType::PFD_MANAGEMENT_RESPONSE => PfdManagementResponse {
            cause: cause(s),
            offending: offending(s),
        }
        .into(),
        MessageType::VERSION_NOT_SUPPORTED_RESPONSE => VersionNotSupportedResponse {}.into(),
        MessageType::NODE_REPORT_REQUEST => NodeReportRequest {
            node: node(s),
            failures: s.list(2, peer),
            recoveries: s.list(2, peer),
        }
        .into(),
        MessageType::NODE_REPORT_RESPONSE => NodeReportResponse {
            node: node(s),
            cause: cause(s),
            offending: offending(s),
        }
        .into(),
        MessageType::SESSION_SET_DELETION_REQUEST => SessionSetDeletionRequest {
            node: node(s),
            sets: s.list(2, csid),
        }
        .into(),
        MessageType::SESSION_SET_DELETION_RESPONSE => SessionSetDeletionResponse {
            node: node(s),
            cause: cause(s),
            offending: offending(s),
        }
        .into(),
        MessageType::SESSION_SET_MODIFICATION_REQUEST => SessionSetModificationRequest {
            node: node(s),
            changes: s.some(2, session_change_info),
        }
        .into(),
        _ => SessionSetModificationResponse {
            node: node(s),
            cause: cause(s),
            offending: offending(s),
        }
        .into(),
    }
}

fn session_answer(s: &mut Source<'_>, kind: MessageType) -> Option<Message> {
    Some(match kind {
        MessageType::SESSION_ESTABLISHMENT_RESPONSE => SessionEstablishmentResponse {
            node: node(s),
            cause: cause(s),
            offending: offending(s),
            up: s.maybe(fseid),
            created: s.list(3, created),
            created_endpoints: s.list(2, created_endpoint),
            failed: s.maybe(failed),
        }
        .into(),
        MessageType::SESSION_MODIFICATION_RESPONSE => SessionModificationResponse {
            cause: cause(s),
            offending: offending(s),
            created: s.list(3, created),
            created_endpoints: s.list(2, created_endpoint),
            reports: s.list(3, report),
            failed: s.maybe(failed),
            further_reports: s.maybe(further),
        }
        .into(),
        MessageType::SESSION_DELETION_RESPONSE => SessionDeletionResponse {
            cause: cause(s),
            offending: offending(s),
            reports: s.list(3, report),
            further_reports: s.maybe(further),
        }
        .into(),
        _ => return None,
    })
}

pub(super) fn session_message(s: &mut Source<'_>, kind: MessageType) -> Message {
    if let Some(message) = session_answer(s, kind) {
        return message;
    }
    match kind {
        MessageType::SESSION_ESTABLISHMENT_REQUEST => SessionEstablishmentRequest {
            node: node(s),
            cp: fseid(s),
            rules: creations(s),
            pdn: s.maybe(|s| match s.below(3) {
                0 => PdnType::V4,
                1 => PdnType::V6,
                _ => PdnType::V4V6,
            }),
            inactivity_timer: s.maybe(Source::u32),
            sets: session_sets(s),
        }
        .into(),
        MessageType::SESSION_MODIFICATION_REQUEST => SessionModificationRequest {
            node: s.maybe(node),
            cp: s.maybe(fseid),
            change: change(s),
            flags: ModificationFlags {
                drop_buffered: s.coin(),
                send_end_marker: s.coin(),
                query_all: s.coin(),
            },
            query: s.list(3, urr_id),
            inactivity_timer: s.maybe(Source::u32),
            query_reference: s.maybe(Source::u32),
            sets: session_sets(s),
        }
        .into(),
        MessageType::SESSION_DELETION_REQUEST => SessionDeletionRequest {}.into(),
        MessageType::SESSION_REPORT_REQUEST => SessionReportRequest {
            downlink_data: s.maybe(|s| DownlinkDataReport {
                pdrs: s.some(3, |s| PdrId::new(s.u16())),
                service: s.maybe(|s| ServiceInformation {
                    paging_policy: s.maybe(|s| s.below(64)),
                    qfi: s.maybe(qfi),
                }),
            }),
            reports: s.list(3, report),
            error_indication: s.list(3, fteid),
            inactivity: s.coin(),
            further_reports: s.maybe(further),
            flags: ReportFlags { deleted: s.coin() },
        }
        .into(),
        _ => SessionReportResponse {
            cause: cause(s),
            offending: offending(s),
            bars: s.list(2, |s| BarOrder {
                changes: bar_changes(s),
                duration: s.maybe(|s| Timer::at_least(s.u32())),
                packets: s.maybe(|s| SuggestedPackets(s.u16())),
            }),
            flags: ReportResponseFlags {
                drop_buffered: s.coin(),
            },
            cp: s.maybe(fseid),
        }
        .into(),
    }
}
