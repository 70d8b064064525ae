//! Rules of a session: PDR, FAR, QER, URR and BAR, created, changed and removed.

use super::defect::Fault;
use super::ie::{Group, Part, Writer, flags, part};
use super::numbers::IeType;
use crate::model::{
    ApplyAction, Bar, BarChanges, BarId, Buffering, Duplication, DuplicationChanges, Far,
    FarChanges, FarId, Forwarding, Gate, Interface, MeasurementInformation, NetworkInstance,
    OuterHeaderCreation, Pdi, Pdr, PdrChanges, PdrId, Precedence, Qer, QerChanges, QerId, Redirect,
    SessionChange, Split, TrafficEndpoint, TrafficEndpointChanges, TrafficEndpointId, Urr,
    UrrChanges, UrrId, UsageReport,
};

part!(Pdi {
    source: required SOURCE_INTERFACE,
    endpoint: single TRAFFIC_ENDPOINT_ID,
    local_fteid: optional F_TEID,
    network_instance: optional NETWORK_INSTANCE,
    ue: optional UE_IP_ADDRESS,
    filters: list SDF_FILTER,
    application: optional APPLICATION_ID,
    qfis: list QFI,
    contents: list CONTENT_ROOT,
    packages: list PACKAGE,
} refuses [
    ETHERNET_PACKET_FILTER, ETHERNET_PDU_SESSION_INFORMATION, IP_MULTICAST_ADDRESSING_INFO,
]);

part!(TrafficEndpoint {
    id: required TRAFFIC_ENDPOINT_ID,
    local_fteid: optional F_TEID,
    network_instance: optional NETWORK_INSTANCE,
    ue: optional UE_IP_ADDRESS,
} refuses [ETHERNET_PDU_SESSION_INFORMATION]);

part!(TrafficEndpointChanges {
    id: required TRAFFIC_ENDPOINT_ID,
    local_fteid: optional F_TEID,
    network_instance: optional NETWORK_INSTANCE,
    ue: optional UE_IP_ADDRESS,
} refuses [ETHERNET_PDU_SESSION_INFORMATION]);

part!(Pdr {
    id: required PDR_ID,
    precedence: or_last PRECEDENCE,
    pdi: required PDI,
    removal: optional OUTER_HEADER_REMOVAL,
    far: optional FAR_ID,
    urrs: list URR_ID,
    qers: list QER_ID,
} refuses [ACTIVATE_PREDEFINED_RULES, ACTIVATION_TIME, DEACTIVATION_TIME, MAR_ID]);

impl Group<'_> {
    /// The precedence of a rule. Between parts of a gateway (Sxa), where nothing but tunnels is
    /// matched, none is stated and none is needed; everywhere else it is mandatory.
    ///
    /// Source: TS 29.244 §7.5.2.2, table 7.5.2.2-1.
    fn or_last(&self, ie: IeType) -> Result<Precedence, Fault> {
        if let Some(precedence) = self.optional(ie)? {
            return Ok(precedence);
        }
        let pdi: Pdi = self.required(IeType::PDI)?;
        if pdi.matches_tunnels_alone() {
            Ok(Precedence::new(u32::MAX))
        } else {
            Err(Fault::missing(ie))
        }
    }
}

impl Writer {
    fn or_last(&mut self, ie: IeType, precedence: &Precedence) {
        self.required(ie, precedence);
    }
}

part!(PdrChanges {
    id: required PDR_ID,
    removal: optional OUTER_HEADER_REMOVAL,
    precedence: optional PRECEDENCE,
    pdi: optional PDI,
    far: optional FAR_ID,
    urrs: stated URR_ID,
    qers: stated QER_ID,
} refuses [
    ACTIVATE_PREDEFINED_RULES, DEACTIVATE_PREDEFINED_RULES, ACTIVATION_TIME, DEACTIVATION_TIME,
]);

part!(Forwarding {
    destination: required DESTINATION_INTERFACE,
    network_instance: optional NETWORK_INSTANCE,
    redirect: optional REDIRECT_INFORMATION,
    outer: optional OUTER_HEADER_CREATION,
    transport_marking: optional TRANSPORT_LEVEL_MARKING,
} refuses [FORWARDING_POLICY, HEADER_ENRICHMENT]);

part!(Duplication {
    destination: required DESTINATION_INTERFACE,
    outer: optional OUTER_HEADER_CREATION,
    transport_marking: optional TRANSPORT_LEVEL_MARKING,
} refuses [FORWARDING_POLICY]);

part!(DuplicationChanges {
    destination: optional DESTINATION_INTERFACE,
    outer: optional OUTER_HEADER_CREATION,
    transport_marking: optional TRANSPORT_LEVEL_MARKING,
} refuses [FORWARDING_POLICY]);

impl Part for Far {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        group.refuse(&[IeType::REDUNDANT_TRANSMISSION_PARAMETERS])?;
        let far = Self {
            id: group.required(IeType::FAR_ID)?,
            action: group.required(IeType::APPLY_ACTION)?,
            forwarding: group.optional(IeType::FORWARDING_PARAMETERS)?,
            duplicating: group.list(IeType::DUPLICATING_PARAMETERS)?,
            bar: group.optional(IeType::BAR_ID)?,
        };
        if matches!(far.action, ApplyAction::Forward { .. }) && far.forwarding.is_none() {
            return Err(Fault::missing_here(IeType::FORWARDING_PARAMETERS));
        }
        if far.action.duplicates() && far.duplicating.is_empty() {
            return Err(Fault::missing_here(IeType::DUPLICATING_PARAMETERS));
        }
        Ok(far)
    }

    fn put(&self, out: &mut Writer) {
        out.required(IeType::FAR_ID, &self.id);
        out.required(IeType::APPLY_ACTION, &self.action);
        if matches!(self.action, ApplyAction::Forward { .. }) && self.forwarding.is_none() {
            out.fail();
        }
        if self.action.duplicates() && self.duplicating.is_empty() {
            out.fail();
        }
        out.optional(IeType::FORWARDING_PARAMETERS, &self.forwarding);
        out.list(IeType::DUPLICATING_PARAMETERS, &self.duplicating);
        out.optional(IeType::BAR_ID, &self.bar);
    }
}

/// The part of [`FarChanges`] that stands in Update Forwarding Parameters.
#[derive(Default, PartialEq)]
struct ForwardingChanges {
    destination: Option<Interface>,
    network_instance: Option<NetworkInstance>,
    redirect: Option<Redirect>,
    outer: Option<OuterHeaderCreation>,
    transport_marking: Option<(u8, u8)>,
    flags: ModificationFlags,
}

part!(ForwardingChanges {
    destination: optional DESTINATION_INTERFACE,
    network_instance: optional NETWORK_INSTANCE,
    redirect: optional REDIRECT_INFORMATION,
    outer: optional OUTER_HEADER_CREATION,
    transport_marking: optional TRANSPORT_LEVEL_MARKING,
    flags: defaulted PFCPSMREQ_FLAGS,
} refuses [FORWARDING_POLICY, HEADER_ENRICHMENT]);

impl Part for FarChanges {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        group.refuse(&[IeType::REDUNDANT_TRANSMISSION_PARAMETERS])?;
        let forwarding: ForwardingChanges =
            group.defaulted(IeType::UPDATE_FORWARDING_PARAMETERS)?;
        Ok(Self {
            id: group.required(IeType::FAR_ID)?,
            action: group.optional(IeType::APPLY_ACTION)?,
            destination: forwarding.destination,
            network_instance: forwarding.network_instance,
            outer: forwarding.outer,
            redirect: forwarding.redirect,
            transport_marking: forwarding.transport_marking,
            duplicating: group.list(IeType::UPDATE_DUPLICATING_PARAMETERS)?,
            bar: group.optional(IeType::BAR_ID)?,
            send_end_marker: forwarding.flags.send_end_marker,
        })
    }

    fn put(&self, out: &mut Writer) {
        let forwarding = ForwardingChanges {
            destination: self.destination,
            network_instance: self.network_instance.clone(),
            redirect: self.redirect.clone(),
            outer: self.outer,
            transport_marking: self.transport_marking,
            flags: ModificationFlags {
                send_end_marker: self.send_end_marker,
                ..ModificationFlags::default()
            },
        };
        out.required(IeType::FAR_ID, &self.id);
        out.optional(IeType::APPLY_ACTION, &self.action);
        out.defaulted(IeType::UPDATE_FORWARDING_PARAMETERS, &forwarding);
        out.list(IeType::UPDATE_DUPLICATING_PARAMETERS, &self.duplicating);
        out.optional(IeType::BAR_ID, &self.bar);
    }
}

flags! {
    /// What a modification asks for besides rules; the end marker belongs to a forwarding rule.
    ///
    /// Source: TS 29.244 §8.2.31, PFCPSMReq-Flags.
    pub ModificationFlags {
        /// Kept packets are thrown away (DROBU).
        drop_buffered = 1,
        /// End markers go to the old tunnel (SNDEM).
        send_end_marker = 2,
        /// Every usage rule reports at once (QAURR).
        query_all = 3,
    }
}

part!(QerChanges {
    id: required QER_ID,
    correlation: optional QER_CORRELATION_ID,
    gates: optional GATE_STATUS,
    mbr: optional MBR,
    gbr: optional GBR,
    qfi: optional QFI,
} refuses [PACKET_RATE]);

impl Part for Qer {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        let stated = QerChanges::take(group)?;
        let (uplink, downlink): (Gate, Gate) =
            stated.gates.ok_or(Fault::missing(IeType::GATE_STATUS))?;
        Ok(Self {
            id: stated.id,
            correlation: stated.correlation,
            uplink,
            downlink,
            mbr: stated.mbr,
            gbr: stated.gbr,
            qfi: stated.qfi,
        })
    }

    fn put(&self, out: &mut Writer) {
        QerChanges {
            id: self.id,
            correlation: self.correlation,
            gates: Some((self.uplink, self.downlink)),
            mbr: self.mbr,
            gbr: self.gbr,
            qfi: self.qfi,
        }
        .put(out);
    }
}

part!(UrrChanges {
    id: required URR_ID,
    method: optional MEASUREMENT_METHOD,
    triggers: optional REPORTING_TRIGGERS,
    period: optional MEASUREMENT_PERIOD,
    volume_threshold: optional VOLUME_THRESHOLD,
    volume_quota: optional VOLUME_QUOTA,
    event_threshold: optional EVENT_THRESHOLD,
    event_quota: optional EVENT_QUOTA,
    time_threshold: optional TIME_THRESHOLD,
    time_quota: optional TIME_QUOTA,
    quota_holding: optional QUOTA_HOLDING_TIME,
    dropped_threshold: optional DROPPED_DL_TRAFFIC_THRESHOLD,
    quota_validity: optional QUOTA_VALIDITY_TIME,
    monitoring: inline,
    inactivity: optional INACTIVITY_DETECTION_TIME,
    linked: stated LINKED_URR_ID,
    measurement_information: optional MEASUREMENT_INFORMATION,
    quota_action: optional FAR_ID,
    volume_kind: optional VOLUME_KIND,
} refuses [AGGREGATED_URRS]);

impl Part for Urr {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        let stated = UrrChanges::take(group)?;
        let information = stated.measurement_information.unwrap_or_default();
        Ok(Self {
            id: stated.id,
            method: stated
                .method
                .ok_or(Fault::missing(IeType::MEASUREMENT_METHOD))?,
            volume_kind: stated.volume_kind.unwrap_or_default(),
            triggers: stated
                .triggers
                .ok_or(Fault::missing(IeType::REPORTING_TRIGGERS))?,
            period: stated.period,
            volume_threshold: stated.volume_threshold,
            volume_quota: stated.volume_quota,
            time_threshold: stated.time_threshold,
            time_quota: stated.time_quota,
            event_threshold: stated.event_threshold,
            event_quota: stated.event_quota,
            quota_holding: stated.quota_holding,
            quota_validity: stated.quota_validity,
            monitoring: stated.monitoring.unwrap_or_default(),
            inactivity: stated.inactivity,
            dropped_threshold: stated.dropped_threshold,
            linked: stated.linked.unwrap_or_default(),
            quota_action: stated.quota_action,
            before_enforcement: information.before_enforcement,
            inactive: information.inactive,
            packets: information.packets,
        })
    }

    fn put(&self, out: &mut Writer) {
        let information = MeasurementInformation {
            before_enforcement: self.before_enforcement,
            inactive: self.inactive,
            packets: self.packets,
        };
        UrrChanges {
            id: self.id,
            method: Some(self.method),
            volume_kind: unless_default(self.volume_kind),
            triggers: Some(self.triggers),
            period: self.period,
            volume_threshold: self.volume_threshold,
            volume_quota: self.volume_quota,
            time_threshold: self.time_threshold,
            time_quota: self.time_quota,
            event_threshold: self.event_threshold,
            event_quota: self.event_quota,
            quota_holding: self.quota_holding,
            quota_validity: self.quota_validity,
            monitoring: unless_default(self.monitoring.clone()),
            inactivity: self.inactivity,
            dropped_threshold: self.dropped_threshold,
            linked: unless_default(self.linked.clone()),
            quota_action: self.quota_action,
            measurement_information: unless_default(information),
        }
        .put(out);
    }
}

fn unless_default<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

part!(Split {
    at: required MONITORING_TIME,
    volume_threshold: optional SUBSEQUENT_VOLUME_THRESHOLD,
    time_threshold: optional SUBSEQUENT_TIME_THRESHOLD,
    volume_quota: optional SUBSEQUENT_VOLUME_QUOTA,
    time_quota: optional SUBSEQUENT_TIME_QUOTA,
});

/// The first monitoring time stands in the rule itself, each further one in a group of its own.
impl Part for Option<Vec<Split>> {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        if !group.has(IeType::MONITORING_TIME) {
            return match group.has(IeType::ADDITIONAL_MONITORING_TIME) {
                true => Err(Fault::missing_here(IeType::MONITORING_TIME)),
                false => Ok(None),
            };
        }
        let mut splits = vec![Split::take(group)?];
        splits.extend(group.list::<Split>(IeType::ADDITIONAL_MONITORING_TIME)?);
        Ok(Some(splits))
    }

    fn put(&self, out: &mut Writer) {
        match self.as_deref() {
            None => {}
            Some([]) => out.fail(),
            Some([first, further @ ..]) => {
                first.put(out);
                out.list(IeType::ADDITIONAL_MONITORING_TIME, further);
            }
        }
    }
}

/// A unit of the notification delay in milliseconds. Source: TS 29.244 §8.2.28.
const DELAY_UNIT_MS: u32 = 50;

impl Part for Buffering {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        let delay: Option<u8> = group.optional(IeType::DOWNLINK_DATA_NOTIFICATION_DELAY)?;
        Ok(Self {
            packets: group.optional(IeType::SUGGESTED_BUFFERING_PACKETS_COUNT)?,
            notification_delay_ms: delay
                .map(|units| u32::from(units).saturating_mul(DELAY_UNIT_MS)),
        })
    }

    fn put(&self, out: &mut Writer) {
        if let Some(delay) = self.notification_delay_ms {
            match u8::try_from(delay / DELAY_UNIT_MS) {
                Ok(units) if delay.is_multiple_of(DELAY_UNIT_MS) => {
                    out.required(IeType::DOWNLINK_DATA_NOTIFICATION_DELAY, &units);
                }
                _ => out.fail(),
            }
        }
        out.optional(IeType::SUGGESTED_BUFFERING_PACKETS_COUNT, &self.packets);
    }
}

part!(Bar {
    id: required BAR_ID,
    buffering: inline,
});

part!(BarChanges {
    id: required BAR_ID,
    buffering: inline,
});

part!(UsageReport {
    urr: required URR_ID,
    sequence: required UR_SEQN,
    triggers: required USAGE_REPORT_TRIGGER,
    start: optional START_TIME,
    end: optional END_TIME,
    volume: optional VOLUME_MEASUREMENT,
    duration: optional DURATION_MEASUREMENT,
    first_packet: optional TIME_OF_FIRST_PACKET,
    last_packet: optional TIME_OF_LAST_PACKET,
    split: defaulted USAGE_INFORMATION,
});

/// A group that names one rule: what Remove and Query IEs are.
pub(super) trait Named: Sized + super::ie::Value {
    const IE: IeType;
}

macro_rules! named {
    ($($name:ident = $ie:ident),* $(,)?) => {
        $(impl Named for $name {
            const IE: IeType = IeType::$ie;
        })*
    };
}

named!(
    PdrId = PDR_ID,
    FarId = FAR_ID,
    UrrId = URR_ID,
    QerId = QER_ID,
    BarId = BAR_ID,
    TrafficEndpointId = TRAFFIC_ENDPOINT_ID
);

struct Naming<T>(T);

impl<T: Named> Part for Naming<T> {
    fn take(group: &Group<'_>) -> Result<Self, Fault> {
        group.required(T::IE).map(Self)
    }

    fn put(&self, out: &mut Writer) {
        out.required(T::IE, &self.0);
    }
}

impl Group<'_> {
    /// The rules that the groups of type `ie` name.
    pub(super) fn named<T: Named>(&self, ie: IeType) -> Result<Vec<T>, Fault> {
        let groups: Vec<Naming<T>> = self.list(ie)?;
        Ok(groups.into_iter().map(|Naming(id)| id).collect())
    }
}

impl Writer {
    /// A group of type `ie` for each rule.
    pub(super) fn named<T: Named + Copy>(&mut self, ie: IeType, ids: &[T]) {
        for id in ids {
            self.required(ie, &Naming(*id));
        }
    }
}

part!(SessionChange {
    remove_pdrs: named REMOVE_PDR,
    remove_fars: named REMOVE_FAR,
    remove_urrs: named REMOVE_URR,
    remove_qers: named REMOVE_QER,
    remove_bars: named REMOVE_BAR,
    remove_endpoints: named REMOVE_TRAFFIC_ENDPOINT,
    create_pdrs: list CREATE_PDR,
    create_fars: list CREATE_FAR,
    create_urrs: list CREATE_URR,
    create_qers: list CREATE_QER,
    create_bars: list CREATE_BAR,
    create_endpoints: list CREATE_TRAFFIC_ENDPOINT,
    update_pdrs: list UPDATE_PDR,
    update_fars: list UPDATE_FAR,
    update_urrs: list UPDATE_URR,
    update_qers: list UPDATE_QER,
    update_bars: list UPDATE_BAR,
    update_endpoints: list UPDATE_TRAFFIC_ENDPOINT,
});

/// The creations of a group; other changes make no sense there and are skipped.
pub(super) fn take_creations(group: &Group<'_>) -> Result<SessionChange, Fault> {
    Ok(SessionChange {
        create_pdrs: group.list(IeType::CREATE_PDR)?,
        create_fars: group.list(IeType::CREATE_FAR)?,
        create_urrs: group.list(IeType::CREATE_URR)?,
        create_qers: group.list(IeType::CREATE_QER)?,
        create_bars: group.list(IeType::CREATE_BAR)?,
        create_endpoints: group.list(IeType::CREATE_TRAFFIC_ENDPOINT)?,
        ..SessionChange::default()
    })
}

/// Puts a change that is made of creations only.
pub(super) fn put_creations(change: &SessionChange, out: &mut Writer) {
    let creations = SessionChange {
        create_pdrs: change.create_pdrs.clone(),
        create_fars: change.create_fars.clone(),
        create_urrs: change.create_urrs.clone(),
        create_qers: change.create_qers.clone(),
        create_bars: change.create_bars.clone(),
        create_endpoints: change.create_endpoints.clone(),
        ..SessionChange::default()
    };
    if creations != *change {
        out.fail();
    }
    creations.put(out);
}
