//! The IEs of arbitrary messages against a second codec (rs-pfcp): it takes the value of each that
//! it is right about, and makes the same octets of it; what it makes of a whole message is the same
//! message to us.
//!
//! Left out, because it loses a part of them: grouped IEs, gates, filters, markings, reports of
//! errors, answers to session reports. scapy and tshark hold those.
#![no_main]

#[path = "../../tests/wire/arbitrary/mod.rs"]
mod arbitrary;

use arbitrary::{Source, message, message_of};
use libfuzzer_sys::fuzz_target;
use qlink_pfcp::wire::{Codec, IeType, MessageType};

macro_rules! leaves {
    ($($ie:ident => $module:ident::$name:ident,)*) => {
        /// The value of an IE, read and written by the second codec; `None`: not one to ask about.
        fn rewritten(kind: IeType, value: &[u8]) -> Option<Vec<u8>> {
            match kind {
                $(IeType::$ie => Some(
                    rs_pfcp::ie::$module::$name::unmarshal(value)
                        .unwrap_or_else(|error| panic!("{kind}: {error}: {value:02x?}"))
                        .marshal()
                        .to_vec(),
                ),)*
                // The second codec can refuse to write these two.
                IeType::VOLUME_MEASUREMENT => Some(
                    rs_pfcp::ie::volume_measurement::VolumeMeasurement::unmarshal(value)
                        .and_then(|volume| volume.marshal())
                        .unwrap_or_else(|error| panic!("{kind}: {error}: {value:02x?}")),
                ),
                IeType::VOLUME_QUOTA => Some(
                    rs_pfcp::ie::volume_quota::VolumeQuota::unmarshal(value)
                        .and_then(|volume| volume.marshal())
                        .unwrap_or_else(|error| panic!("{kind}: {error}: {value:02x?}")),
                ),
                _ => None,
            }
        }
    };
}

leaves! {
    F_TEID => f_teid::Fteid,
    F_SEID => fseid::Fseid,
    NODE_ID => node_id::NodeId,
    UE_IP_ADDRESS => ue_ip_address::UeIpAddress,
    PDR_ID => pdr_id::PdrId,
    FAR_ID => far_id::FarId,
    URR_ID => urr_id::UrrId,
    QER_ID => qer_id::QerId,
    PRECEDENCE => precedence::Precedence,
    APPLY_ACTION => apply_action::ApplyAction,
    MBR => mbr::Mbr,
    GBR => gbr::Gbr,
    QFI => qfi::Qfi,
    REPORTING_TRIGGERS => reporting_triggers::ReportingTriggers,
    USAGE_REPORT_TRIGGER => usage_report_trigger::UsageReportTrigger,
    MEASUREMENT_METHOD => measurement_method::MeasurementMethod,
    OUTER_HEADER_CREATION => outer_header_creation::OuterHeaderCreation,
    VOLUME_THRESHOLD => volume_threshold::VolumeThreshold,
    MONITORING_TIME => monitoring_time::MonitoringTime,
    RECOVERY_TIME_STAMP => recovery_time_stamp::RecoveryTimeStamp,
    UP_FUNCTION_FEATURES => up_function_features::UPFunctionFeatures,
    UR_SEQN => ur_seqn::UrSeqn,
    CAUSE => cause::Cause,
    TRAFFIC_ENDPOINT_ID => create_traffic_endpoint::TrafficEndpointId,
    GROUP_ID => group_id::GroupId,
    CP_IP_ADDRESS => cp_ip_address::CpIpAddress,
    ALTERNATIVE_SMF_IP_ADDRESS => alternative_smf_ip_address::AlternativeSmfIpAddress,
}

const GROUPS: &[IeType] = &[
    IeType::CREATE_PDR,
    IeType::PDI,
    IeType::CREATE_FAR,
    IeType::FORWARDING_PARAMETERS,
    IeType::CREATE_URR,
    IeType::CREATE_QER,
    IeType::CREATED_PDR,
    IeType::UPDATE_PDR,
    IeType::UPDATE_FAR,
    IeType::UPDATE_FORWARDING_PARAMETERS,
    IeType::UPDATE_URR,
    IeType::UPDATE_QER,
    IeType::ADDITIONAL_MONITORING_TIME,
    IeType::USAGE_REPORT_IN_MODIFICATION_RESPONSE,
    IeType::USAGE_REPORT_IN_DELETION_RESPONSE,
    IeType::USAGE_REPORT_IN_REPORT_REQUEST,
    IeType::ERROR_INDICATION_REPORT,
    IeType::DOWNLINK_DATA_REPORT,
    IeType::CREATE_TRAFFIC_ENDPOINT,
    IeType::CREATED_TRAFFIC_ENDPOINT,
    IeType::UPDATE_TRAFFIC_ENDPOINT,
    IeType::REMOVE_TRAFFIC_ENDPOINT,
    IeType::PFCP_SESSION_CHANGE_INFO,
];

fn compare(mut rest: &[u8]) {
    while let [a, b, c, d, behind @ ..] = rest {
        let kind = IeType::new(u16::from_be_bytes([*a, *b]));
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let (value, next) = behind.split_at(length);
        if GROUPS.contains(&kind) {
            compare(value);
        } else if let Some(theirs) = rewritten(kind, value) {
            assert_eq!(theirs, value, "{kind}");
        }
        rest = next;
    }
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source::new(data);
    let (header, message) = match source.coin() {
        true => message(&mut source),
        false => message_of(&mut source, MessageType::SESSION_ESTABLISHMENT_REQUEST),
    };
    let datagram = Codec::default().encode(&header, &message).unwrap();
    let head = if message.kind().is_session() { 16 } else { 8 };
    compare(&datagram[head..]);

    // It asks for more IEs than the standard in some messages, writes type 57 wrongly, and knows no
    // node type of an FQ-CSID, which it reads in type 16.
    let theirs = rs_pfcp::message::parse(&datagram);
    let wrong = matches!(message.kind().get(), 16 | 57);
    if let Some(theirs) = theirs.ok().filter(|_| !wrong) {
        assert_eq!(theirs.msg_type_code(), message.kind().get());
        let read = Codec::default().decode(&theirs.marshal()).unwrap();
        assert_eq!(read, (header, message));
    }
});
