//! Rules and reports of sessions.

use std::net::IpAddr;

use qlink_pfcp::model::*;
use qlink_pfcp::wire::format_flow;
use qlink_types::ids::{ContentId, PackageId};

use super::Source;
use super::values::*;

pub(super) fn side(s: &mut Source<'_>, is_v4: bool) -> Option<(IpAddr, u8)> {
    s.maybe(|s| match is_v4 {
        true => (v4(s).into(), s.below(33)),
        false => (v6(s).into(), s.below(129)),
    })
}

pub(super) fn ports(s: &mut Source<'_>) -> Vec<(u16, u16)> {
    s.list(3, |s| {
        let (low, more) = (s.u16(), s.u8());
        (low, low.saturating_add(more.into()))
    })
}

pub(crate) fn rule(s: &mut Source<'_>) -> SdfRule {
    let is_v4 = s.coin();
    SdfRule {
        protocol: s.maybe(Source::u8),
        remote: side(s, is_v4),
        remote_ports: ports(s),
        local: side(s, is_v4),
        local_ports: ports(s),
    }
}

pub(super) fn filter(s: &mut Source<'_>) -> SdfFilter {
    let rule = s.maybe(rule);
    let tos = s.maybe(|s| (s.u8(), s.u8()));
    let bare = rule.is_none() && tos.is_none();
    SdfFilter {
        text: rule.as_ref().map(format_flow).unwrap_or_default(),
        rule,
        tos,
        spi: s.maybe(Source::u32),
        flow_label: s.maybe(|s| s.u32() & 0x000f_ffff),
        id: match bare {
            true => Some(s.u32()),
            false => s.maybe(Source::u32),
        },
    }
}

pub(super) fn content(s: &mut Source<'_>) -> ContentId {
    ContentId::new(std::array::from_fn(|_| s.u8()))
}

pub(super) fn application(s: &mut Source<'_>) -> ApplicationId {
    ApplicationId(s.bytes(30))
}

pub(super) fn package(s: &mut Source<'_>) -> PackageId {
    let content = content(s);
    PackageId::new(*content.as_bytes().first_chunk().unwrap())
}

pub(super) fn pdi(s: &mut Source<'_>) -> Pdi {
    Pdi {
        source: interface(s),
        endpoint: s.maybe(traffic_endpoint_id),
        network_instance: s.maybe(instance),
        local_fteid: s.maybe(local_fteid),
        ue: s.maybe(ue_address),
        filters: s.list(3, filter),
        application: s.maybe(application),
        qfis: s.list(3, qfi),
        contents: s.list(2, content),
        packages: s.list(2, package),
    }
}

pub(super) fn traffic_endpoint_id(s: &mut Source<'_>) -> TrafficEndpointId {
    TrafficEndpointId::new(s.u8())
}

pub(super) fn traffic_endpoint(s: &mut Source<'_>) -> TrafficEndpoint {
    TrafficEndpoint {
        id: traffic_endpoint_id(s),
        local_fteid: s.maybe(local_fteid),
        network_instance: s.maybe(instance),
        ue: s.maybe(ue_address),
    }
}

pub(super) fn traffic_endpoint_changes(s: &mut Source<'_>) -> TrafficEndpointChanges {
    TrafficEndpointChanges {
        id: traffic_endpoint_id(s),
        local_fteid: s.maybe(local_fteid),
        network_instance: s.maybe(instance),
        ue: s.maybe(ue_address),
    }
}

pub(super) fn removal(s: &mut Source<'_>) -> OuterHeaderRemoval {
    match s.below(5) {
        0 => OuterHeaderRemoval::GtpuUdpIpv4,
        1 => OuterHeaderRemoval::GtpuUdpIpv6,
        2 => OuterHeaderRemoval::GtpuUdpIp,
        3 => OuterHeaderRemoval::UdpIpv4,
        _ => OuterHeaderRemoval::UdpIpv6,
    }
}

pub(super) fn pdr(s: &mut Source<'_>) -> Pdr {
    Pdr {
        id: PdrId::new(s.u16()),
        precedence: Precedence::new(s.u32()),
        pdi: pdi(s),
        removal: s.maybe(removal),
        far: s.maybe(far_id),
        urrs: s.list(3, urr_id),
        qers: s.list(3, qer_id),
    }
}

pub(super) fn pdr_changes(s: &mut Source<'_>) -> PdrChanges {
    PdrChanges {
        id: PdrId::new(s.u16()),
        precedence: s.maybe(|s| Precedence::new(s.u32())),
        pdi: s.maybe(pdi),
        removal: s.maybe(removal),
        far: s.maybe(far_id),
        urrs: s.maybe(|s| s.some(3, urr_id)),
        qers: s.maybe(|s| s.some(3, qer_id)),
    }
}

pub(super) fn far_id(s: &mut Source<'_>) -> FarId {
    FarId::new(s.u32())
}

pub(super) fn urr_id(s: &mut Source<'_>) -> UrrId {
    UrrId::new(s.u32())
}

pub(super) fn qer_id(s: &mut Source<'_>) -> QerId {
    QerId::new(s.u32())
}

pub(super) fn bar_id(s: &mut Source<'_>) -> BarId {
    BarId::new(s.u8())
}

pub(super) fn action(s: &mut Source<'_>) -> ApplyAction {
    match s.below(3) {
        0 => ApplyAction::Drop {
            duplicate: s.coin(),
        },
        1 => ApplyAction::Forward {
            duplicate: s.coin(),
        },
        _ => ApplyAction::Buffer {
            notify: s.coin(),
            duplicate: s.coin(),
        },
    }
}

pub(super) fn creation(s: &mut Source<'_>) -> OuterHeaderCreation {
    if s.coin() {
        return OuterHeaderCreation::Udp {
            to: ip(s),
            port: s.u16(),
        };
    }
    let (v4, v6) = addresses(s);
    OuterHeaderCreation::Gtpu {
        teid: teid(s),
        v4,
        v6,
    }
}

pub(super) fn redirect(s: &mut Source<'_>) -> Redirect {
    if s.coin() {
        return Redirect::To(destination(s));
    }
    let name = String::from_utf8(s.bytes(20)).unwrap_or_default();
    Redirect::Url(format!("http://{name}.example/"))
}

fn destination(s: &mut Source<'_>) -> Destination {
    let (v4, v6) = if s.coin() { addresses(s) } else { (None, None) };
    let port = s.u16().max(1);
    let needed = v4.is_none() && v6.is_none();
    Destination {
        v4,
        v6,
        port: (needed || s.coin()).then_some(port),
    }
}

fn duplication(s: &mut Source<'_>) -> Duplication {
    Duplication {
        destination: interface(s),
        outer: s.maybe(creation),
        transport_marking: s.maybe(marking),
    }
}

fn duplication_changes(s: &mut Source<'_>) -> DuplicationChanges {
    DuplicationChanges {
        destination: s.maybe(interface),
        outer: s.maybe(creation),
        transport_marking: s.maybe(marking),
    }
}

pub(super) fn marking(s: &mut Source<'_>) -> (u8, u8) {
    (s.u8(), s.u8())
}

pub(super) fn forwarding(s: &mut Source<'_>) -> Forwarding {
    Forwarding {
        destination: interface(s),
        network_instance: s.maybe(instance),
        outer: s.maybe(creation),
        redirect: s.maybe(redirect),
        transport_marking: s.maybe(marking),
    }
}

pub(super) fn far(s: &mut Source<'_>) -> Far {
    let action = action(s);
    Far {
        id: far_id(s),
        action,
        forwarding: match action {
            ApplyAction::Forward { .. } => Some(forwarding(s)),
            ApplyAction::Drop { .. } | ApplyAction::Buffer { .. } => s.maybe(forwarding),
        },
        duplicating: match action.duplicates() {
            true => (0..=s.below(3)).map(|_| duplication(s)).collect(),
            false => (0..s.below(3)).map(|_| duplication(s)).collect(),
        },
        bar: s.maybe(bar_id),
    }
}

pub(super) fn far_changes(s: &mut Source<'_>) -> FarChanges {
    FarChanges {
        id: far_id(s),
        action: s.maybe(action),
        destination: s.maybe(interface),
        network_instance: s.maybe(instance),
        outer: s.maybe(creation),
        redirect: s.maybe(redirect),
        transport_marking: s.maybe(marking),
        duplicating: (0..s.below(3)).map(|_| duplication_changes(s)).collect(),
        bar: s.maybe(bar_id),
        send_end_marker: s.coin(),
    }
}

pub(super) fn gate(s: &mut Source<'_>) -> Gate {
    if s.coin() { Gate::Open } else { Gate::Closed }
}

pub(super) fn rate(s: &mut Source<'_>) -> BitRate {
    BitRate {
        uplink_kbps: s.u64() >> 24,
        downlink_kbps: s.u64() >> 24,
    }
}

pub(super) fn qer(s: &mut Source<'_>) -> Qer {
    Qer {
        id: qer_id(s),
        correlation: s.maybe(Source::u32),
        uplink: gate(s),
        downlink: gate(s),
        mbr: s.maybe(rate),
        gbr: s.maybe(rate),
        qfi: s.maybe(qfi),
    }
}

pub(super) fn qer_changes(s: &mut Source<'_>) -> QerChanges {
    QerChanges {
        id: qer_id(s),
        correlation: s.maybe(Source::u32),
        gates: s.maybe(|s| (gate(s), gate(s))),
        mbr: s.maybe(rate),
        gbr: s.maybe(rate),
        qfi: s.maybe(qfi),
    }
}

pub(super) fn method(s: &mut Source<'_>) -> MeasurementMethod {
    let flags = s.below(7) + 1;
    MeasurementMethod {
        volume: flags & 1 != 0,
        duration: flags & 2 != 0,
        event: flags & 4 != 0,
    }
}

pub(super) fn volume_kind(s: &mut Source<'_>) -> VolumeKind {
    match s.below(3) {
        0 => VolumeKind::Network,
        1 => VolumeKind::Proven,
        _ => VolumeKind::Charged,
    }
}

/// Triggers that a rule can ask for, or that a report can give.
pub(super) fn triggers(s: &mut Source<'_>, impossible: &[Trigger]) -> Triggers {
    let chosen = s.u16();
    Trigger::ALL
        .iter()
        .enumerate()
        .filter(|(index, trigger)| chosen >> index & 1 == 1 && !impossible.contains(trigger))
        .fold(Triggers::NONE, |set, (_, trigger)| set.with(*trigger))
}

const ONLY_REPORTED: &[Trigger] = &[
    Trigger::MonitoringTime,
    Trigger::Immediate,
    Trigger::Termination,
];

pub(super) fn limit(s: &mut Source<'_>) -> VolumeLimit {
    VolumeLimit {
        total: s.maybe(Source::u64),
        uplink: s.maybe(Source::u64),
        downlink: s.maybe(Source::u64),
    }
}

pub(super) fn split(s: &mut Source<'_>) -> Split {
    Split {
        at: time(s),
        volume_threshold: s.maybe(limit),
        time_threshold: s.maybe(Source::u32),
        volume_quota: s.maybe(limit),
        time_quota: s.maybe(Source::u32),
    }
}

pub(super) fn dropped(s: &mut Source<'_>) -> (Option<u64>, Option<u64>) {
    (s.maybe(Source::u64), s.maybe(Source::u64))
}

pub(super) fn urr(s: &mut Source<'_>) -> Urr {
    Urr {
        id: urr_id(s),
        method: method(s),
        volume_kind: volume_kind(s),
        triggers: triggers(s, ONLY_REPORTED),
        period: s.maybe(Source::u32),
        volume_threshold: s.maybe(limit),
        volume_quota: s.maybe(limit),
        time_threshold: s.maybe(Source::u32),
        time_quota: s.maybe(Source::u32),
        event_threshold: s.maybe(Source::u32),
        event_quota: s.maybe(Source::u32),
        quota_holding: s.maybe(Source::u32),
        quota_validity: s.maybe(Source::u32),
        monitoring: s.list(3, split),
        inactivity: s.maybe(Source::u32),
        dropped_threshold: s.maybe(dropped),
        linked: s.list(3, urr_id),
        quota_action: s.maybe(far_id),
        before_enforcement: s.coin(),
        inactive: s.coin(),
        packets: s.coin(),
    }
}

pub(super) fn urr_changes(s: &mut Source<'_>) -> UrrChanges {
    UrrChanges {
        id: urr_id(s),
        method: s.maybe(method),
        volume_kind: s.maybe(volume_kind),
        triggers: s.maybe(|s| triggers(s, ONLY_REPORTED)),
        period: s.maybe(Source::u32),
        volume_threshold: s.maybe(limit),
        volume_quota: s.maybe(limit),
        time_threshold: s.maybe(Source::u32),
        time_quota: s.maybe(Source::u32),
        event_threshold: s.maybe(Source::u32),
        event_quota: s.maybe(Source::u32),
        quota_holding: s.maybe(Source::u32),
        quota_validity: s.maybe(Source::u32),
        monitoring: s.maybe(|s| s.some(3, split)),
        inactivity: s.maybe(Source::u32),
        dropped_threshold: s.maybe(dropped),
        linked: s.maybe(|s| s.some(3, urr_id)),
        quota_action: s.maybe(far_id),
        measurement_information: s.maybe(|s| MeasurementInformation {
            before_enforcement: s.coin(),
            inactive: s.coin(),
            packets: s.coin(),
        }),
    }
}

pub(super) fn buffering(s: &mut Source<'_>) -> Buffering {
    Buffering {
        packets: s.maybe(Source::u8),
        notification_delay_ms: s.maybe(|s| u32::from(s.u8()) * 50),
    }
}

pub(super) fn bar(s: &mut Source<'_>) -> Bar {
    Bar {
        id: bar_id(s),
        buffering: buffering(s),
    }
}

pub(super) fn bar_changes(s: &mut Source<'_>) -> BarChanges {
    BarChanges {
        id: bar_id(s),
        buffering: buffering(s),
    }
}

pub(super) fn report(s: &mut Source<'_>) -> UsageReport {
    UsageReport {
        urr: urr_id(s),
        sequence: s.u32(),
        triggers: triggers(s, &[]),
        start: s.maybe(time),
        end: s.maybe(time),
        volume: s.maybe(|s| Volume {
            uplink: s.u64(),
            downlink: s.u64(),
            packets: s.maybe(|s| (s.u64(), s.u64())),
        }),
        duration: s.maybe(Source::u32),
        first_packet: s.maybe(time),
        last_packet: s.maybe(time),
        split: s.maybe(|s| match s.coin() {
            true => SplitSide::Before,
            false => SplitSide::After,
        }),
    }
}

pub(super) fn creations(s: &mut Source<'_>) -> SessionChange {
    SessionChange {
        create_pdrs: s.list(3, pdr),
        create_fars: s.list(3, far),
        create_urrs: s.list(3, urr),
        create_qers: s.list(3, qer),
        create_bars: s.list(2, bar),
        create_endpoints: s.list(2, traffic_endpoint),
        ..SessionChange::default()
    }
}

pub(super) fn change(s: &mut Source<'_>) -> SessionChange {
    SessionChange {
        remove_pdrs: s.list(2, |s| PdrId::new(s.u16())),
        remove_fars: s.list(2, far_id),
        remove_urrs: s.list(2, urr_id),
        remove_qers: s.list(2, qer_id),
        remove_bars: s.list(2, bar_id),
        remove_endpoints: s.list(2, traffic_endpoint_id),
        update_pdrs: s.list(2, pdr_changes),
        update_fars: s.list(2, far_changes),
        update_urrs: s.list(2, urr_changes),
        update_qers: s.list(2, qer_changes),
        update_bars: s.list(2, bar_changes),
        update_endpoints: s.list(2, traffic_endpoint_changes),
        ..creations(s)
    }
}
