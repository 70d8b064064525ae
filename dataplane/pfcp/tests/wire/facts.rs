//! What a message states, in the names and forms in which tshark prints it.

use std::collections::BTreeMap;

use qlink_pfcp::model::*;
use qlink_pfcp::wire::*;

/// Values by field, sorted.
pub(crate) type Facts = BTreeMap<&'static str, Vec<String>>;

/// Fields that [`facts`] states completely.
pub(crate) const FIELDS: &[&str] = &[
    "pfcp.msg_type",
    "pfcp.seqno",
    "pfcp.seid",
    "pfcp.cause",
    "pfcp.offending_ie",
    "pfcp.pdr_id",
    "pfcp.far_id",
    "pfcp.urr_id",
    "pfcp.qer_id",
    "pfcp.bar_id",
    "pfcp.f_teid.teid",
    "pfcp.f_teid.choose_id",
    "pfcp.traffic_endpoint_id",
    "pfcp.ue_ip_addr_ipv4",
    "pfcp.flow_desc",
    "pfcp.spi",
    "pfcp.sdf_filter_id",
    "pfcp.qfi_value",
    "pfcp.apply_action.forw",
    "pfcp.apply_action.nocp",
    "pfcp.outer_hdr_creation.teid",
    "pfcp.outer_hdr_creation.port",
    "pfcp.redirect_server_address",
    "pfcp.ul_mbr",
    "pfcp.dl_mbr",
    "pfcp.ul_gbr",
    "pfcp.dl_gbr",
    "pfcp.qer_correlation_id",
    "pfcp.gate_status.ulgate",
    "pfcp.volume_threshold.tovol",
    "pfcp.volume_threshold.ulvol",
    "pfcp.volume_threshold.dlvol",
    "pfcp.volume_quota.tovol",
    "pfcp.volume_quota.ulvol",
    "pfcp.volume_quota.dlvol",
    "pfcp.subseq_volume_threshold.tovol",
    "pfcp.subsequent_volume_quota.dlvol",
    "pfcp.time_threshold",
    "pfcp.time_quota",
    "pfcp.subsequent_time_threshold",
    "pfcp.subsequent_time_quota",
    "pfcp.measurement_period",
    "pfcp.event_threshold",
    "pfcp.event_quota",
    "pfcp.quota_holding_time",
    "pfcp.validity_time_value",
    "pfcp.inactivity_detection_time",
    "pfcp.apply_action.dupl",
    "pfcp.other_redirect_server_address",
    "pfcp.redirect_port",
    "pfcp.downlink_packets",
    "pfcp.bytes_downlink_data",
    "pfcp.reporting_triggers_flags.quvti",
    "pfcp.reporting_triggers_flags.evequ",
    "pfcp.measurement_info.mnop",
    "pfcp.ur_seqn",
    "pfcp.volume_measurement.ulvol",
    "pfcp.volume_measurement.dlvol",
    "pfcp.volume_measurement.ulnop",
    "pfcp.volume_measurement.dlnop",
    "pfcp.duration_measurement",
    "pfcp.usage_report_trigger.term",
    "pfcp.usage_report_trigger_flags.quvti",
    "pfcp.usage_information.aft",
    "pfcp.user_plane_inactivity_time",
    "pfcp.query_urr_reference",
    "pfcp.enterprise_id",
];

#[derive(Default)]
struct Collector(Facts);

impl Collector {
    #[expect(
        clippy::needless_pass_by_value,
        reason = "values of many types, made at the call"
    )]
    fn add(&mut self, field: &'static str, value: impl ToString) {
        assert!(FIELDS.contains(&field), "{field}");
        self.0.entry(field).or_default().push(value.to_string());
    }

    fn maybe(&mut self, field: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.add(field, value);
        }
    }

    fn flag(&mut self, field: &'static str, set: bool) {
        self.add(field, u8::from(set));
    }

    fn teid(&mut self, fteid: &FTeid) {
        self.add("pfcp.f_teid.teid", format!("0x{:08x}", fteid.teid.get()));
    }

    fn fseid(&mut self, fseid: Option<&FSeid>) {
        self.maybe("pfcp.seid", fseid.map(|fseid| hex(fseid.seid)));
    }

    fn ue(&mut self, ue: Option<&UeAddress>) {
        self.maybe("pfcp.ue_ip_addr_ipv4", ue.and_then(|ue| ue.v4));
    }

    fn rule(&mut self, field: &'static str, number: u32) {
        // The highest bit has a field of its own.
        self.add(field, number & 0x7fff_ffff);
    }

    fn qfi(&mut self, qfi: Qfi) {
        self.add("pfcp.qfi_value", format!("0x{:02x}", qfi.get()));
    }

    fn local(&mut self, local: Option<&LocalFTeid>) {
        match local {
            Some(LocalFTeid::Fixed(fteid)) => self.teid(fteid),
            Some(LocalFTeid::Choose { choose_id, .. }) => {
                self.maybe(
                    "pfcp.f_teid.choose_id",
                    choose_id.map(|id| format!("{id:02x}")),
                );
            }
            None => {}
        }
    }

    fn pdi(&mut self, pdi: &Pdi) {
        let endpoint = pdi.endpoint.map(TrafficEndpointId::get);
        self.maybe("pfcp.traffic_endpoint_id", endpoint);
        self.local(pdi.local_fteid.as_ref());
        self.ue(pdi.ue.as_ref());
        for filter in &pdi.filters {
            self.maybe("pfcp.flow_desc", filter.rule.as_ref().map(format_flow));
            self.maybe("pfcp.spi", filter.spi.map(|spi| format!("0x{spi:08x}")));
            self.maybe("pfcp.sdf_filter_id", filter.id);
        }
        for qfi in &pdi.qfis {
            self.qfi(*qfi);
        }
        for _ in 0..pdi.contents.len() + pdi.packages.len() {
            self.add("pfcp.enterprise_id", ENTERPRISE_ID);
        }
    }

    fn references(&mut self, far: Option<FarId>, urrs: &[UrrId], qers: &[QerId]) {
        if let Some(far) = far {
            self.rule("pfcp.far_id", far.get());
        }
        for urr in urrs {
            self.rule("pfcp.urr_id", urr.get());
        }
        for qer in qers {
            self.rule("pfcp.qer_id", qer.get());
        }
    }

    fn forwarding(&mut self, outer: Option<&OuterHeaderCreation>, redirect: Option<&Redirect>) {
        match outer {
            Some(OuterHeaderCreation::Gtpu { teid, .. }) => self.add(
                "pfcp.outer_hdr_creation.teid",
                format!("0x{:08x}", teid.get()),
            ),
            Some(OuterHeaderCreation::Udp { port, .. }) => {
                self.add("pfcp.outer_hdr_creation.port", port);
            }
            None => {}
        }
        match redirect {
            Some(Redirect::To(to)) => {
                let mut addresses = to.addresses();
                if let Some(address) = addresses.next() {
                    self.add("pfcp.redirect_server_address", address);
                }
                self.maybe("pfcp.other_redirect_server_address", addresses.next());
                self.maybe("pfcp.redirect_port", to.port);
            }
            Some(Redirect::Url(url)) => self.add("pfcp.redirect_server_address", url),
            None => {}
        }
    }

    fn action(&mut self, action: ApplyAction) {
        let forward = matches!(action, ApplyAction::Forward { .. });
        self.flag("pfcp.apply_action.forw", forward);
        self.flag("pfcp.apply_action.dupl", action.duplicates());
        let notify = matches!(action, ApplyAction::Buffer { notify: true, .. });
        self.flag("pfcp.apply_action.nocp", notify);
    }

    fn qer(&mut self, qer: &QerChanges) {
        self.rule("pfcp.qer_id", qer.id.get());
        self.maybe("pfcp.qer_correlation_id", qer.correlation);
        if let Some((uplink, _)) = qer.gates {
            self.flag("pfcp.gate_status.ulgate", uplink == Gate::Closed);
        }
        if let Some(rate) = qer.mbr {
            self.add("pfcp.ul_mbr", rate.uplink_kbps);
            self.add("pfcp.dl_mbr", rate.downlink_kbps);
        }
        if let Some(rate) = qer.gbr {
            self.add("pfcp.ul_gbr", rate.uplink_kbps);
            self.add("pfcp.dl_gbr", rate.downlink_kbps);
        }
        qer.qfi.into_iter().for_each(|qfi| self.qfi(qfi));
    }

    fn urr(&mut self, urr: &UrrChanges) {
        self.rule("pfcp.urr_id", urr.id.get());
        if let Some(limit) = urr.volume_threshold {
            self.maybe("pfcp.volume_threshold.tovol", limit.total);
            self.maybe("pfcp.volume_threshold.ulvol", limit.uplink);
            self.maybe("pfcp.volume_threshold.dlvol", limit.downlink);
        }
        if let Some(limit) = urr.volume_quota {
            self.maybe("pfcp.volume_quota.tovol", limit.total);
            self.maybe("pfcp.volume_quota.ulvol", limit.uplink);
            self.maybe("pfcp.volume_quota.dlvol", limit.downlink);
        }
        self.maybe("pfcp.time_threshold", urr.time_threshold);
        self.maybe("pfcp.time_quota", urr.time_quota);
        self.maybe("pfcp.measurement_period", urr.period);
        self.maybe("pfcp.event_threshold", urr.event_threshold);
        self.maybe("pfcp.event_quota", urr.event_quota);
        self.maybe("pfcp.quota_holding_time", urr.quota_holding);
        self.maybe("pfcp.validity_time_value", urr.quota_validity);
        self.maybe("pfcp.inactivity_detection_time", urr.inactivity);
        if let Some((packets, bytes)) = urr.dropped_threshold {
            self.maybe("pfcp.downlink_packets", packets);
            self.maybe("pfcp.bytes_downlink_data", bytes);
        }
        for split in urr.monitoring.iter().flatten() {
            let threshold = split.volume_threshold.and_then(|limit| limit.total);
            self.maybe("pfcp.subseq_volume_threshold.tovol", threshold);
            let quota = split.volume_quota.and_then(|limit| limit.downlink);
            self.maybe("pfcp.subsequent_volume_quota.dlvol", quota);
            self.maybe("pfcp.subsequent_time_threshold", split.time_threshold);
            self.maybe("pfcp.subsequent_time_quota", split.time_quota);
        }
        if let Some(triggers) = urr.triggers {
            let validity = triggers.has(Trigger::QuotaValidity);
            self.flag("pfcp.reporting_triggers_flags.quvti", validity);
            let events = triggers.has(Trigger::EventQuota);
            self.flag("pfcp.reporting_triggers_flags.evequ", events);
        }
        // tshark prints a linked rule's number under the same name.
        self.references(
            urr.quota_action,
            urr.linked.as_deref().unwrap_or_default(),
            &[],
        );
        if let Some(information) = urr.measurement_information {
            self.flag("pfcp.measurement_info.mnop", information.packets);
        }
        self.maybe("pfcp.enterprise_id", urr.volume_kind.map(|_| ENTERPRISE_ID));
    }

    fn created_urr(&mut self, urr: &Urr) {
        let information = MeasurementInformation {
            before_enforcement: urr.before_enforcement,
            inactive: urr.inactive,
            packets: urr.packets,
        };
        self.urr(&UrrChanges {
            id: urr.id,
            volume_kind: (urr.volume_kind != VolumeKind::Network).then_some(urr.volume_kind),
            triggers: Some(urr.triggers),
            period: urr.period,
            volume_threshold: urr.volume_threshold,
            volume_quota: urr.volume_quota,
            time_threshold: urr.time_threshold,
            time_quota: urr.time_quota,
            event_threshold: urr.event_threshold,
            event_quota: urr.event_quota,
            quota_holding: urr.quota_holding,
            quota_validity: urr.quota_validity,
            monitoring: Some(urr.monitoring.clone()),
            inactivity: urr.inactivity,
            dropped_threshold: urr.dropped_threshold,
            linked: Some(urr.linked.clone()),
            quota_action: urr.quota_action,
            measurement_information: (information != MeasurementInformation::default())
                .then_some(information),
            ..UrrChanges::default()
        });
    }

    fn traffic_endpoint(
        &mut self,
        id: TrafficEndpointId,
        local: Option<&LocalFTeid>,
        ue: Option<&UeAddress>,
    ) {
        self.add("pfcp.traffic_endpoint_id", id.get());
        self.local(local);
        self.ue(ue);
    }

    fn traffic_endpoints(&mut self, change: &SessionChange) {
        for id in &change.remove_endpoints {
            self.traffic_endpoint(*id, None, None);
        }
        for of in &change.create_endpoints {
            self.traffic_endpoint(of.id, of.local_fteid.as_ref(), of.ue.as_ref());
        }
        for of in &change.update_endpoints {
            self.traffic_endpoint(of.id, of.local_fteid.as_ref(), of.ue.as_ref());
        }
    }

    fn change(&mut self, change: &SessionChange) {
        self.traffic_endpoints(change);
        let removed = change.remove_pdrs.iter();
        let updated = change.update_pdrs.iter().map(|pdr| &pdr.id);
        for id in removed
            .chain(updated)
            .chain(change.create_pdrs.iter().map(|pdr| &pdr.id))
        {
            self.add("pfcp.pdr_id", id.get());
        }
        for pdr in &change.create_pdrs {
            self.pdi(&pdr.pdi);
            self.references(pdr.far, &pdr.urrs, &pdr.qers);
        }
        for pdr in &change.update_pdrs {
            if let Some(pdi) = &pdr.pdi {
                self.pdi(pdi);
            }
            let (urrs, qers) = (pdr.urrs.as_deref(), pdr.qers.as_deref());
            self.references(pdr.far, urrs.unwrap_or_default(), qers.unwrap_or_default());
        }
        for far in &change.create_fars {
            self.rule("pfcp.far_id", far.id.get());
            self.action(far.action);
            self.maybe("pfcp.bar_id", far.bar.map(BarId::get));
            if let Some(forwarding) = &far.forwarding {
                self.forwarding(forwarding.outer.as_ref(), forwarding.redirect.as_ref());
            }
            for copy in &far.duplicating {
                self.forwarding(copy.outer.as_ref(), None);
            }
        }
        for far in &change.update_fars {
            self.rule("pfcp.far_id", far.id.get());
            if let Some(action) = far.action {
                self.action(action);
            }
            self.maybe("pfcp.bar_id", far.bar.map(BarId::get));
            self.forwarding(far.outer.as_ref(), far.redirect.as_ref());
            for copy in &far.duplicating {
                self.forwarding(copy.outer.as_ref(), None);
            }
        }
        self.measured(change);
        self.references(None, &change.remove_urrs, &change.remove_qers);
        for id in &change.remove_fars {
            self.rule("pfcp.far_id", id.get());
        }
    }

    fn measured(&mut self, change: &SessionChange) {
        for qer in &change.create_qers {
            self.qer(&QerChanges {
                id: qer.id,
                correlation: qer.correlation,
                gates: Some((qer.uplink, qer.downlink)),
                mbr: qer.mbr,
                gbr: qer.gbr,
                qfi: qer.qfi,
            });
        }
        change.update_qers.iter().for_each(|qer| self.qer(qer));
        change
            .create_urrs
            .iter()
            .for_each(|urr| self.created_urr(urr));
        change.update_urrs.iter().for_each(|urr| self.urr(urr));
        let created = change.create_bars.iter().map(|bar| bar.id);
        let updated = change.update_bars.iter().map(|bar| bar.id);
        for id in created
            .chain(updated)
            .chain(change.remove_bars.iter().copied())
        {
            self.add("pfcp.bar_id", id.get());
        }
    }

    fn reports(&mut self, reports: &[UsageReport]) {
        for report in reports {
            self.rule("pfcp.urr_id", report.urr.get());
            self.add("pfcp.ur_seqn", report.sequence);
            if let Some(volume) = report.volume {
                self.add("pfcp.volume_measurement.ulvol", volume.uplink);
                self.add("pfcp.volume_measurement.dlvol", volume.downlink);
                if let Some((uplink, downlink)) = volume.packets {
                    self.add("pfcp.volume_measurement.ulnop", uplink);
                    self.add("pfcp.volume_measurement.dlnop", downlink);
                }
            }
            self.maybe("pfcp.duration_measurement", report.duration);
            let ended = report.triggers.has(Trigger::Termination);
            self.flag("pfcp.usage_report_trigger.term", ended);
            let validity = report.triggers.has(Trigger::QuotaValidity);
            self.flag("pfcp.usage_report_trigger_flags.quvti", validity);
            let after = report.split.map(|side| u8::from(side == SplitSide::After));
            self.maybe("pfcp.usage_information.aft", after);
        }
    }

    fn created(&mut self, created: &[CreatedPdr]) {
        for pdr in created {
            self.add("pfcp.pdr_id", pdr.id.get());
            if let Some(fteid) = &pdr.local_fteid {
                self.teid(fteid);
            }
            self.ue(pdr.ue.as_ref());
        }
    }

    fn created_endpoints(&mut self, created: &[CreatedTrafficEndpoint]) {
        for of in created {
            let local = of.local_fteid.map(LocalFTeid::Fixed);
            self.traffic_endpoint(of.id, local.as_ref(), of.ue.as_ref());
        }
    }

    fn outcome(&mut self, cause: CauseCode, offending: Option<IeType>) {
        self.add("pfcp.cause", cause.get());
        self.maybe("pfcp.offending_ie", offending.map(IeType::get));
    }

    fn failed(&mut self, failed: Option<FailedRule>) {
        match failed {
            None => {}
            Some(FailedRule::Pdr(id)) => self.add("pfcp.pdr_id", id.get()),
            Some(FailedRule::Far(id)) => self.rule("pfcp.far_id", id.get()),
            Some(FailedRule::Qer(id)) => self.rule("pfcp.qer_id", id.get()),
            Some(FailedRule::Urr(id)) => self.rule("pfcp.urr_id", id.get()),
            Some(FailedRule::Bar(id)) => self.add("pfcp.bar_id", id.get()),
        }
    }
}

fn hex(seid: Seid) -> String {
    format!("0x{:016x}", seid.get())
}

/// What `message` states.
pub(crate) fn facts(header: &Header, message: &Message) -> Facts {
    let mut facts = Collector::default();
    facts.add("pfcp.msg_type", message.kind().get());
    facts.add("pfcp.seqno", header.sequence.get());
    facts.maybe("pfcp.seid", header.seid.map(hex));
    node_facts(&mut facts, message);
    session_facts(&mut facts, message);
    facts.0.values_mut().for_each(|values| values.sort());
    facts.0
}

fn node_facts(facts: &mut Collector, message: &Message) {
    match message {
        Message::PfdManagementResponse(answer) => facts.outcome(answer.cause, answer.offending),
        Message::AssociationSetupResponse(answer) => facts.outcome(answer.cause, None),
        Message::AssociationUpdateResponse(answer) => facts.outcome(answer.cause, None),
        Message::AssociationReleaseResponse(answer) => facts.outcome(answer.cause, None),
        Message::NodeReportResponse(answer) => facts.outcome(answer.cause, answer.offending),
        Message::SessionSetDeletionResponse(answer) => {
            facts.outcome(answer.cause, answer.offending);
        }
        Message::SessionSetModificationResponse(answer) => {
            facts.outcome(answer.cause, answer.offending);
        }
        Message::PfdManagementRequest(request) => {
            for pfd in request.applications.iter().flat_map(|of| &of.pfds) {
                let flows = pfd.flow.iter().chain(&pfd.more_flows);
                flows.for_each(|flow| facts.add("pfcp.flow_desc", format_flow(&flow.rule)));
            }
        }
        _ => {}
    }
}

fn session_facts(facts: &mut Collector, message: &Message) {
    match message {
        Message::SessionEstablishmentRequest(request) => {
            facts.fseid(Some(&request.cp));
            facts.change(&request.rules);
            facts.maybe("pfcp.user_plane_inactivity_time", request.inactivity_timer);
        }
        Message::SessionEstablishmentResponse(answer) => {
            facts.outcome(answer.cause, answer.offending);
            facts.fseid(answer.up.as_ref());
            facts.created(&answer.created);
            facts.created_endpoints(&answer.created_endpoints);
            facts.failed(answer.failed);
        }
        Message::SessionModificationRequest(request) => {
            facts.fseid(request.cp.as_ref());
            facts.change(&request.change);
            facts.references(None, &request.query, &[]);
            facts.maybe("pfcp.user_plane_inactivity_time", request.inactivity_timer);
            facts.maybe("pfcp.query_urr_reference", request.query_reference);
        }
        Message::SessionModificationResponse(answer) => {
            facts.outcome(answer.cause, answer.offending);
            facts.created(&answer.created);
            facts.created_endpoints(&answer.created_endpoints);
            facts.reports(&answer.reports);
            facts.failed(answer.failed);
        }
        Message::SessionDeletionResponse(answer) => {
            facts.outcome(answer.cause, answer.offending);
            facts.reports(&answer.reports);
        }
        Message::SessionReportRequest(request) => {
            if let Some(report) = &request.downlink_data {
                let ids = report.pdrs.iter();
                ids.for_each(|id| facts.add("pfcp.pdr_id", id.get()));
                let qfi = report.service.and_then(|service| service.qfi);
                qfi.into_iter().for_each(|qfi| facts.qfi(qfi));
            }
            facts.reports(&request.reports);
            let endpoints = request.error_indication.iter();
            endpoints.for_each(|fteid| facts.teid(fteid));
        }
        Message::SessionReportResponse(answer) => {
            facts.outcome(answer.cause, answer.offending);
            let bars = answer.bars.iter();
            bars.for_each(|bar| facts.add("pfcp.bar_id", bar.changes.id.get()));
            facts.fseid(answer.cp.as_ref());
        }
        _ => {}
    }
}
