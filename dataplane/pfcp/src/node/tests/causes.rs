use std::net::Ipv4Addr;

use super::rig::*;
use crate::model::*;
use crate::sim::{Happened, SessionPlan};
use crate::testing::*;
use crate::wire::*;

/// What an establishment is refused with.
fn refused_in(
    rig: &mut Rig,
    rules: SessionChange,
) -> (CauseCode, Option<IeType>, Option<FailedRule>) {
    let mut smf = smf_at(SMF, 1000);
    smf.associate(rig.now);
    smf.establish(rig.now, rules);
    let happened = rig.talk(&mut smf, SMF);
    let Some(Happened::Refused {
        cause,
        offending,
        failed,
        ..
    }) = happened.last()
    else {
        panic!("{happened:?}");
    };
    assert!(rig.plane.is_empty());
    assert!(rig.pool.taken.is_empty());
    (*cause, *offending, *failed)
}

fn refused(rules: SessionChange) -> (CauseCode, Option<IeType>, Option<FailedRule>) {
    refused_in(&mut Rig::new(config()), rules)
}

fn usual() -> SessionChange {
    usual_session(Ipv4Addr::new(10, 60, 1, 1))
}

#[test]
fn a_rule_that_names_an_unknown_one_fails_with_73() {
    let mut rules = usual();
    rules.create_pdrs[1].qers = vec![QerId::new(9)];

    let failed = Some(FailedRule::Pdr(PdrId::new(2)));
    assert_eq!(refused(rules), (CauseCode::RULE_FAILURE, None, failed));
}

#[test]
fn missing_parts_fail_with_66_and_67() {
    let mut no_rules = usual();
    no_rules.create_fars.clear();
    let mut no_tunnel = usual();
    no_tunnel.create_pdrs[0].pdi.local_fteid = None;

    let (cause, offending, _) = refused(no_rules);
    assert_eq!(cause, CauseCode::MANDATORY_IE_MISSING);
    assert_eq!(offending, Some(IeType::CREATE_FAR));
    let (cause, offending, failed) = refused(no_tunnel);
    assert_eq!(cause, CauseCode::CONDITIONAL_IE_MISSING);
    assert_eq!(offending, Some(IeType::F_TEID));
    assert_eq!(failed, Some(FailedRule::Pdr(PdrId::new(1))));
}

#[test]
fn exhausted_endpoints_fail_with_75_and_exhausted_addresses_with_79() {
    let mut rig = Rig::new(config());
    rig.pool.size = 0;
    let choose = SessionPlan {
        ue: None,
        ..plan(1)
    };

    assert_eq!(
        refused_in(&mut rig, usual()).0,
        CauseCode::NO_RESOURCES_AVAILABLE
    );
    let mut rules = choose.rules();
    rules.create_pdrs.remove(0);
    let mut rig = Rig::new(config());
    rig.pool.size = 0;
    let (cause, ..) = refused_in(&mut rig, rules);
    assert_eq!(cause, CauseCode::ALL_DYNAMIC_ADDRESSES_OCCUPIED);
}

#[test]
fn an_unknown_application_fails_with_81() {
    let mut rules = usual();
    rules.create_pdrs[0].pdi.application = Some(ApplicationId(b"film".to_vec()));

    assert_eq!(refused(rules).0, CauseCode::UNKNOWN_APPLICATION_ID);
}

#[test]
fn a_session_without_a_number_at_its_peer_fails_with_69() {
    let (mut rig, _) = associated();
    let request = SessionEstablishmentRequest {
        node: rig.node.associations().next().unwrap().clone(),
        cp: FSeid {
            seid: Seid::new(0),
            v4: Some(Ipv4Addr::new(10, 0, 1, 1)),
            v6: None,
        },
        rules: usual(),
        pdn: None,
        inactivity_timer: None,
        sets: SessionSets::default(),
    };

    let answers = rig.say(
        SMF,
        Header::session(Seid::new(0), Sequence::new(9)),
        request,
    );

    let [(_, Message::SessionEstablishmentResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.cause, CauseCode::MANDATORY_IE_INCORRECT);
    assert_eq!(answer.offending, Some(IeType::F_SEID));
}

#[test]
fn a_body_that_cannot_be_read_is_answered_with_the_element_at_fault() {
    let (mut rig, _, cp, up) = established();
    let mut bytes = encode(
        &Header::session(up, Sequence::new(9)),
        &change(SessionChange {
            create_qers: vec![open_qer(5)],
            ..SessionChange::default()
        })
        .into(),
    );
    // The id of the QER becomes an IE of another type, so that the QER has none.
    let id = bytes.windows(4).position(|w| w == [0, 109, 0, 4]).unwrap();
    bytes[id] = 0x7f;

    let answers = rig.say_bytes(SMF, &bytes);

    let [(header, Message::SessionModificationResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(header.seid, Some(cp));
    assert_eq!(answer.cause, CauseCode::MANDATORY_IE_MISSING);
    assert_eq!(answer.offending, Some(IeType::QER_ID));
}

#[test]
fn requests_that_only_a_user_plane_makes_are_refused_with_76() {
    let (mut rig, _) = associated();
    let node = rig.node.associations().next().unwrap().clone();
    let report = NodeReportRequest {
        node,
        failures: vec![RemotePeer {
            v4: Some(Ipv4Addr::LOCALHOST),
            v6: None,
            destination: None,
            network_instance: None,
        }],
        recoveries: Vec::new(),
    };

    let answers = rig.say(SMF, Header::node(Sequence::new(9)), report);

    let [(_, Message::NodeReportResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.cause, CauseCode::SERVICE_NOT_SUPPORTED);
}

#[test]
fn more_requests_than_can_be_remembered_fail_with_74() {
    let mut bounded = config();
    bounded.limits.responses = 4;
    let (mut rig, mut smf) = associated_by(bounded);
    rig.mood = Mood::Slow;

    for number in 1..=5 {
        smf.establish(rig.now, plan(number).rules());
    }
    let happened = rig.talk(&mut smf, SMF);

    let [Happened::Refused { cause, .. }] = &happened[..] else {
        panic!("{happened:?}");
    };
    assert_eq!(*cause, CauseCode::ENTITY_IN_CONGESTION);
    assert_eq!(rig.noted("responses_full"), 1);
}
