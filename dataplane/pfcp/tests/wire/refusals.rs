//! What a malformed body is answered.

use qlink_pfcp::model::{NodeId, Time};
use qlink_pfcp::wire::{
    CauseCode, Codec, DecodeError, Defect, IeType, MAX_RULES, Message, MessageType,
};

/// An IE.
fn ie(kind: IeType, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    let mut bytes = kind.get().to_be_bytes().to_vec();
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn group(kind: IeType, parts: &[Vec<u8>]) -> Vec<u8> {
    ie(kind, &parts.concat())
}

fn datagram(kind: MessageType, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut head = Vec::new();
    if kind.is_session() {
        head.extend_from_slice(&[0; 8]);
    }
    head.extend_from_slice(&[0, 0, 1, 0]);
    let body = parts.concat();
    let length = u16::try_from(head.len() + body.len()).unwrap();
    let flags = 0x20 | u8::from(kind.is_session());
    let mut bytes = vec![flags, kind.get()];
    bytes.extend_from_slice(&length.to_be_bytes());
    [bytes, head, body].concat()
}

fn decode(kind: MessageType, parts: &[Vec<u8>]) -> Result<Message, Defect> {
    match Codec::default().decode(&datagram(kind, parts)) {
        Ok((_, message)) => Ok(message),
        Err(DecodeError::Body { defect, .. }) => Err(defect),
        Err(error) => panic!("{error}"),
    }
}

fn refused(kind: MessageType, parts: &[Vec<u8>], cause: CauseCode, offending: IeType) {
    let read = decode(kind, parts);
    assert_eq!(read, Err(Defect { cause, offending }));
}

fn node() -> Vec<u8> {
    ie(IeType::NODE_ID, &[0, 192, 0, 2, 1])
}

fn cp() -> Vec<u8> {
    ie(IeType::F_SEID, &[2, 0, 0, 0, 0, 0, 0, 0, 1, 192, 0, 2, 1])
}

fn pdr(pdi: &[Vec<u8>]) -> Vec<u8> {
    group(
        IeType::CREATE_PDR,
        &[
            ie(IeType::PDR_ID, &[0, 1]),
            ie(IeType::PRECEDENCE, &[0, 0, 0, 1]),
            group(IeType::PDI, pdi),
        ],
    )
}

fn source() -> Vec<u8> {
    ie(IeType::SOURCE_INTERFACE, &[0])
}

const ESTABLISH: MessageType = MessageType::SESSION_ESTABLISHMENT_REQUEST;
const MODIFY: MessageType = MessageType::SESSION_MODIFICATION_REQUEST;
const SETUP: MessageType = MessageType::ASSOCIATION_SETUP_REQUEST;

#[test]
fn a_missing_mandatory_ie_is_named_with_cause_66() {
    let missing = CauseCode::MANDATORY_IE_MISSING;

    refused(ESTABLISH, &[node()], missing, IeType::F_SEID);
    refused(SETUP, &[node()], missing, IeType::RECOVERY_TIME_STAMP);
    let parts = [node(), cp(), pdr(&[])];
    refused(ESTABLISH, &parts, missing, IeType::SOURCE_INTERFACE);
}

#[test]
fn a_rule_without_precedence_is_refused_unless_it_matches_nothing_but_a_tunnel() {
    let pdr = |pdi: &[Vec<u8>]| {
        let pdi = group(IeType::PDI, pdi);
        group(IeType::CREATE_PDR, &[ie(IeType::PDR_ID, &[0, 1]), pdi])
    };
    let endpoint = ie(IeType::F_TEID, &[1, 0, 0, 0, 9, 192, 0, 2, 1]);
    let ue = ie(IeType::UE_IP_ADDRESS, &[2, 10, 60, 0, 9]);
    let far = group(
        IeType::CREATE_FAR,
        &[
            ie(IeType::FAR_ID, &[0, 0, 0, 1]),
            ie(IeType::APPLY_ACTION, &[1, 0]),
        ],
    );

    let tunnel = [node(), cp(), pdr(&[source(), endpoint.clone()]), far];
    assert!(decode(ESTABLISH, &tunnel).is_ok());
    refused(
        ESTABLISH,
        &[node(), cp(), pdr(&[source(), endpoint, ue])],
        CauseCode::MANDATORY_IE_MISSING,
        IeType::PRECEDENCE,
    );
}

/// A rule that forwards with this redirection.
fn redirecting(kind: u8, texts: &[&str], port: &[u8]) -> Vec<u8> {
    let mut value = vec![kind];
    for text in texts {
        value.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        value.extend_from_slice(text.as_bytes());
    }
    value.extend_from_slice(port);
    let to = ie(IeType::DESTINATION_INTERFACE, &[1]);
    let redirect = ie(IeType::REDIRECT_INFORMATION, &value);
    group(
        IeType::CREATE_FAR,
        &[
            ie(IeType::FAR_ID, &[0, 0, 0, 1]),
            ie(IeType::APPLY_ACTION, &[2, 0]),
            group(IeType::FORWARDING_PARAMETERS, &[to, redirect]),
        ],
    )
}

#[test]
fn a_redirection_is_of_its_type_or_refused_and_sip_is_not_served() {
    let (v4, v6) = ("203.0.113.80", "2001:db8::80");
    let far = |kind, texts: &[&str], port: &[u8]| [node(), cp(), redirecting(kind, texts, port)];

    for (kind, texts, port) in [
        (0, &[v4][..], &[][..]),
        (1, &[v6], &[]),
        // Either may stand first.
        (4, &[v6, v4], &[]),
        (5, &[], &[0, 80]),
        (5, &[""], &[0, 80]),
        (8, &[v4, v6], &[0, 80]),
    ] {
        assert!(decode(ESTABLISH, &far(kind, texts, port)).is_ok(), "{kind}");
    }
    let refused = |parts: [Vec<u8>; 3], cause| {
        refused(ESTABLISH, &parts, cause, IeType::REDIRECT_INFORMATION);
    };
    let incorrect = CauseCode::MANDATORY_IE_INCORRECT;
    refused(far(0, &[v6], &[]), incorrect);
    refused(far(0, &["portal.example"], &[]), incorrect);
    refused(far(4, &[v4, v4], &[]), incorrect);
    refused(far(6, &[v4], &[0, 0]), incorrect);
    refused(far(4, &[v4], &[]), CauseCode::INVALID_LENGTH);
    let sip = far(3, &["sip:portal@example.org"], &[]);
    refused(sip, CauseCode::SERVICE_NOT_SUPPORTED);
    let later = far(9, &[v4], &[]);
    refused(later, CauseCode::SERVICE_NOT_SUPPORTED);
}

#[test]
fn a_missing_conditional_ie_is_named_with_cause_67() {
    let far = |action| {
        group(
            IeType::CREATE_FAR,
            &[
                ie(IeType::FAR_ID, &[0, 0, 0, 1]),
                ie(IeType::APPLY_ACTION, &[action]),
            ],
        )
    };
    let missing = CauseCode::CONDITIONAL_IE_MISSING;

    let forward = [node(), cp(), far(0x02)];
    refused(ESTABLISH, &forward, missing, IeType::FORWARDING_PARAMETERS);
    let copy = [node(), cp(), far(0x11)];
    refused(ESTABLISH, &copy, missing, IeType::DUPLICATING_PARAMETERS);
}

#[test]
fn a_value_shorter_than_its_content_is_named_with_cause_68() {
    let invalid = CauseCode::INVALID_LENGTH;
    let stamp = ie(IeType::RECOVERY_TIME_STAMP, &[0, 0, 0]);
    let cut_value = vec![0, 60, 0, 200, 0];
    let cut_head = vec![0, 60, 0];
    let stray = vec![0];

    refused(
        SETUP,
        &[node(), stamp],
        invalid,
        IeType::RECOVERY_TIME_STAMP,
    );
    refused(SETUP, &[cut_value], invalid, IeType::NODE_ID);
    refused(SETUP, &[node(), cut_head], invalid, IeType::NODE_ID);
    refused(SETUP, &[node(), stray], invalid, IeType::RESERVED);
}

#[test]
fn an_impossible_value_is_named_with_cause_69() {
    let incorrect = CauseCode::MANDATORY_IE_INCORRECT;
    let endpoint = ie(IeType::F_TEID, &[1, 0, 0, 0, 0, 192, 0, 2, 1]);
    let bad_text = b"\x01\x00\x00\x19deny out ip from any to any";
    let filter = ie(IeType::SDF_FILTER, bad_text);
    let actions = group(
        IeType::CREATE_FAR,
        &[
            ie(IeType::FAR_ID, &[0, 0, 0, 1]),
            ie(IeType::APPLY_ACTION, &[3, 0]),
        ],
    );

    let zero_teid = [node(), cp(), pdr(&[source(), endpoint.clone(), endpoint])];
    refused(ESTABLISH, &zero_teid, incorrect, IeType::F_TEID);
    let deny = [node(), cp(), pdr(&[source(), filter])];
    refused(ESTABLISH, &deny, incorrect, IeType::SDF_FILTER);
    let drop_and_forward = [node(), cp(), actions];
    refused(
        ESTABLISH,
        &drop_and_forward,
        incorrect,
        IeType::APPLY_ACTION,
    );
}

#[test]
fn what_would_change_a_rules_meaning_is_not_left_out() {
    let unsupported = CauseCode::SERVICE_NOT_SUPPORTED;
    let ethernet = ie(IeType::ETHERNET_PACKET_FILTER, &[]);
    let endpoint = ie(IeType::TRAFFIC_ENDPOINT_ID, &[1]);
    let create = ie(IeType::CREATE_MAR, &[]);
    let ring = ie(IeType::SOURCE_INTERFACE, &[5]);

    let parts = [node(), cp(), pdr(&[source(), ethernet])];
    refused(
        ESTABLISH,
        &parts,
        unsupported,
        IeType::ETHERNET_PACKET_FILTER,
    );
    let parts = [node(), cp(), pdr(&[source(), endpoint.clone(), endpoint])];
    refused(ESTABLISH, &parts, unsupported, IeType::TRAFFIC_ENDPOINT_ID);
    refused(MODIFY, &[create], unsupported, IeType::CREATE_MAR);
    let parts = [node(), cp(), pdr(&[ring])];
    refused(ESTABLISH, &parts, unsupported, IeType::SOURCE_INTERFACE);
}

#[test]
fn more_rules_than_the_bound_are_refused_with_cause_75() {
    let removal = group(IeType::REMOVE_PDR, &[ie(IeType::PDR_ID, &[0, 1])]);
    let fits = vec![removal.clone(); MAX_RULES];
    let more = vec![removal; MAX_RULES + 1];

    assert!(decode(MODIFY, &fits).is_ok());
    refused(
        MODIFY,
        &more,
        CauseCode::NO_RESOURCES_AVAILABLE,
        IeType::REMOVE_PDR,
    );
}

#[test]
fn unknown_and_foreign_ies_are_skipped_wherever_they_stand() {
    let plain = [node(), ie(IeType::RECOVERY_TIME_STAMP, &[1, 2, 3, 4])];
    let unknown = ie(IeType::new(9999), &[1, 2, 3]);
    let foreign = ie(IeType::CONTENT_ROOT, &[0, 1, 9, 9]);
    let mixed = [
        unknown.clone(),
        plain[1].clone(),
        foreign,
        plain[0].clone(),
        unknown,
    ];

    assert_eq!(decode(SETUP, &mixed), decode(SETUP, &plain));
    assert!(decode(SETUP, &plain).is_ok());
}

#[test]
fn of_an_ie_that_stands_once_the_first_is_taken() {
    let stamp = |last| ie(IeType::RECOVERY_TIME_STAMP, &[1, 2, 3, last]);

    let twice = decode(SETUP, &[node(), stamp(4), stamp(5)]);

    assert_eq!(twice, decode(SETUP, &[node(), stamp(4)]));
}

#[test]
fn octets_of_later_versions_behind_a_value_are_not_looked_at() {
    let stamp = ie(IeType::RECOVERY_TIME_STAMP, &[1, 2, 3, 4]);
    let longer = ie(IeType::RECOVERY_TIME_STAMP, &[1, 2, 3, 4, 5, 6]);

    assert_eq!(
        decode(SETUP, &[node(), longer]),
        decode(SETUP, &[node(), stamp])
    );
}

#[test]
fn another_enterprise_number_hides_our_elements() {
    let root = [&[0x12, 0x34][..], &[7; 32]].concat();
    let parts = [
        node(),
        cp(),
        pdr(&[source(), ie(IeType::CONTENT_ROOT, &root)]),
    ];
    let bytes = datagram(ESTABLISH, &parts);
    let contents = |codec: Codec| match codec.decode(&bytes) {
        Ok((_, Message::SessionEstablishmentRequest(request))) => {
            request.rules.create_pdrs[0].pdi.contents.len()
        }
        other => panic!("{other:?}"),
    };

    assert_eq!(contents(Codec::new(0x1234)), 1);
    assert_eq!(contents(Codec::default()), 0);
}

#[test]
fn every_request_but_a_heartbeat_has_a_refusal_of_its_own_type() {
    let us = NodeId::Fqdn("upf.example".to_owned());
    let defect = Defect {
        cause: CauseCode::MANDATORY_IE_MISSING,
        offending: IeType::F_SEID,
    };
    let requests = [3, 5, 7, 9, 12, 14, 16, 50, 52, 54, 56].map(MessageType::new);

    for kind in MessageType::KNOWN {
        let refusal = Message::refusal(*kind, &us, Time::new(1), defect);
        let answered = refusal.map(|message| message.kind().get());
        let expected = requests.contains(kind).then(|| kind.get() + 1);
        assert_eq!(answered, expected);
    }
}
