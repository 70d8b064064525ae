use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::rig::*;
use crate::model::*;
use crate::node::*;
use crate::sim::{Happened, SessionPlan};
use crate::testing::{open_qer, volume_urr};
use crate::wire::*;

fn add_qer(id: u32) -> SessionModificationRequest {
    change(SessionChange {
        create_qers: vec![open_qer(id)],
        ..SessionChange::default()
    })
}

fn header(seid: Seid, number: u32) -> Header {
    Header::session(seid, Sequence::new(number))
}

fn refusal(happened: &[Happened]) -> CauseCode {
    let [Happened::Refused { cause, .. }] = happened else {
        panic!("{happened:?}");
    };
    *cause
}

#[test]
fn a_session_is_answered_when_the_data_plane_has_it_and_the_journal_too() {
    let (mut rig, mut smf) = associated();
    rig.mood = Mood::Slow;
    let records = rig.journal.len();

    let cp = smf.establish(rig.now, plan(1).rules());
    assert_eq!(rig.talk(&mut smf, SMF), []);
    assert_eq!(rig.journal.len(), records);
    rig.run_one();
    assert_eq!(rig.journal.len(), records + 1);
    let happened = rig.talk(&mut smf, SMF);

    let [
        Happened::Established {
            session, created, ..
        },
    ] = &happened[..]
    else {
        panic!("{happened:?}");
    };
    assert_eq!(*session, cp);
    assert_eq!(created.len(), 1);
    assert_eq!(created[0].id, SessionPlan::PDRS[0]);
    assert!(created[0].local_fteid.is_some());
    rig.assert_sound();
}

#[test]
fn records_are_persisted_before_their_answer() {
    let (mut rig, ..) = established();
    let (up, _) = rig.node.sessions().next().unwrap();
    rig.mood = Mood::Slow;
    rig.say(SMF, header(up, 90), SessionDeletionRequest {});
    let (token, ..) = rig.commands.pop_front().unwrap();
    let result = Ok(Vec::new());

    let effects = rig
        .node
        .handle(rig.now, Event::Outcome { token, result }, &mut rig.pool);

    let persist = effects.iter().position(|e| matches!(e, Effect::Persist(_)));
    let send = effects
        .iter()
        .position(|e| matches!(e, Effect::Send { .. }));
    assert!(persist.unwrap() < send.unwrap());
}

#[test]
fn a_session_that_the_data_plane_refuses_leaves_nothing() {
    let (mut rig, mut smf) = associated();
    rig.mood = Mood::Broken;

    smf.establish(rig.now, plan(1).rules());
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!(refusal(&happened), CauseCode::SYSTEM_FAILURE);
    assert!(rig.pool.taken.is_empty());
    rig.assert_sound();
}

#[test]
fn a_change_that_the_data_plane_refuses_leaves_the_rules() {
    let (mut rig, mut smf, cp, up) = established();
    let before = rig.plane[&up].clone();
    rig.mood = Mood::Broken;

    smf.modify(rig.now, cp, add_qer(9));
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!(refusal(&happened), CauseCode::SYSTEM_FAILURE);
    assert_eq!(rig.plane[&up], before);
    rig.assert_sound();
}

#[test]
fn an_unknown_session_is_answered_with_number_0() {
    let (mut rig, ..) = established();

    let answers = rig.say(SMF, header(Seid::new(404), 90), SessionDeletionRequest {});

    let [(header, Message::SessionDeletionResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(header.seid, Some(Seid::new(0)));
    assert_eq!(answer.cause, CauseCode::SESSION_CONTEXT_NOT_FOUND);
}

#[test]
fn the_session_of_another_peer_is_unknown() {
    let (mut rig, _, _, up) = established();
    let mut other = smf_at(OTHER, 1);
    other.associate(rig.now);
    rig.talk(&mut other, OTHER);

    let answers = rig.say(OTHER, header(up, 90), SessionDeletionRequest {});

    let [(_, Message::SessionDeletionResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.cause, CauseCode::SESSION_CONTEXT_NOT_FOUND);
    assert_eq!(rig.plane.len(), 1);
}

#[test]
fn requests_of_a_session_are_done_in_order() {
    let (mut rig, mut smf, cp, up) = established();
    rig.mood = Mood::Slow;

    smf.modify(rig.now, cp, add_qer(5));
    smf.modify(rig.now, cp, add_qer(5));
    smf.delete(rig.now, cp);
    rig.talk(&mut smf, SMF);
    assert_eq!(rig.commands.len(), 1);
    rig.run_one();
    assert_eq!(rig.plane[&up].qers.len(), 2);
    rig.run_one();
    let happened = rig.talk(&mut smf, SMF);

    assert!(matches!(happened[0], Happened::Modified { .. }));
    assert_eq!(refusal(&happened[1..2]), CauseCode::RULE_FAILURE);
    assert!(matches!(happened[2], Happened::Deleted { .. }));
    rig.assert_sound();
}

#[test]
fn only_so_many_requests_wait_for_a_busy_session() {
    let (mut rig, mut smf, cp, _) = established();
    rig.mood = Mood::Slow;

    for id in 10..20 {
        smf.modify(rig.now, cp, add_qer(id));
    }
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!(happened.len(), 10 - 1 - NodeLimits::default().waiting);
    assert_eq!(refusal(&happened[..1]), CauseCode::NO_RESOURCES_AVAILABLE);
    rig.mood = Mood::Willing;
    rig.run_one();
    let done = rig.talk(&mut smf, SMF);
    assert_eq!(done.len(), 1 + NodeLimits::default().waiting);
    rig.assert_sound();
}

#[test]
fn requests_that_wait_for_a_session_that_goes_are_answered() {
    let (mut rig, mut smf, cp, _) = established();
    rig.mood = Mood::Slow;

    smf.delete(rig.now, cp);
    smf.modify(rig.now, cp, add_qer(5));
    rig.talk(&mut smf, SMF);
    rig.run_one();
    let happened = rig.talk(&mut smf, SMF);

    let causes: Vec<CauseCode> = happened
        .iter()
        .filter_map(|event| match event {
            Happened::Refused { cause, .. } => Some(*cause),
            _ => None,
        })
        .collect();
    assert_eq!(causes, [CauseCode::SESSION_CONTEXT_NOT_FOUND]);
    assert_eq!(happened.len(), 2);
}

#[test]
fn a_request_sent_again_gets_the_same_bytes_and_is_done_once() {
    let (mut rig, _, _, up) = established();
    let bytes = encode(&header(up, 90), &add_qer(5).into());

    rig.event(Event::Datagram {
        from: SMF,
        bytes: &bytes,
    });
    let first = std::mem::take(&mut rig.sent);
    let done = rig.done;
    rig.event(Event::Datagram {
        from: SMF,
        bytes: &bytes,
    });

    assert_eq!(rig.sent, first);
    assert_eq!(rig.done, done);
    assert_eq!(rig.noted("repeated"), 1);
}

#[test]
fn a_request_sent_again_while_in_work_is_not_answered_twice() {
    let (mut rig, _, _, up) = established();
    rig.mood = Mood::Slow;
    let bytes = encode(&header(up, 90), &add_qer(5).into());

    assert!(rig.say_bytes(SMF, &bytes).is_empty());
    assert!(rig.say_bytes(SMF, &bytes).is_empty());
    rig.run_one();

    assert_eq!(rig.take_messages().len(), 1);
    assert!(rig.commands.is_empty());
}

#[test]
fn several_messages_in_one_datagram_are_all_done() {
    let (mut rig, _, _, up) = established();
    let first = add_qer(5).into();
    let second = SessionDeletionRequest {}.into();
    let bytes = Codec::default()
        .encode_datagram(&[(header(up, 90), &first), (header(up, 91), &second)])
        .unwrap();

    assert_eq!(rig.say_bytes(SMF, &bytes).len(), 2);
    rig.assert_sound();
}

#[test]
fn a_session_moves_at_its_control_plane() {
    let (mut rig, _, _, up) = established();
    let mut request = add_qer(5);
    request.cp = Some(FSeid {
        seid: Seid::new(777),
        v4: Some(Ipv4Addr::new(10, 0, 1, 7)),
        v6: None,
    });

    let answers = rig.say(SMF, header(up, 90), request);
    rig.event(Event::Usage {
        session: up,
        reports: vec![report(UrrId::new(1), 0)],
    });

    assert_eq!(answers[0].0.seid, Some(Seid::new(777)));
    let (to, bytes) = &rig.sent[0];
    assert_eq!(to.to_string(), "10.0.1.7:8805");
    assert_eq!(decode(bytes).0.seid, Some(Seid::new(777)));
}

#[test]
fn a_session_does_not_move_to_an_address_that_is_not_listed() {
    let (mut rig, _, _, up) = established();
    let mut request = add_qer(5);
    request.cp = Some(FSeid {
        seid: Seid::new(777),
        v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        v6: None,
    });

    let answers = rig.say(SMF, header(up, 90), request);

    let [(_, Message::SessionModificationResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.offending, Some(IeType::F_SEID));
    assert_eq!(rig.plane[&up].qers.len(), 1);
}

#[test]
fn a_deletion_brings_the_last_usage() {
    let (mut rig, mut smf, cp, _) = established();

    smf.delete(rig.now, cp);
    let happened = rig.talk(&mut smf, SMF);

    let [Happened::Deleted { reports, .. }] = &happened[..] else {
        panic!("{happened:?}");
    };
    assert_eq!(reports.len(), 1);
    assert!(rig.pool.taken.is_empty());
    rig.assert_sound();
}

#[test]
fn a_modification_brings_the_usage_that_it_asks_for() {
    let (mut rig, _, _, up) = established();
    let mut query = change(SessionChange::default());
    query.query = vec![UrrId::new(1)];
    let mut unknown = query.clone();
    unknown.query = vec![UrrId::new(8)];

    let answers = rig.say(SMF, header(up, 90), query);
    let refused = rig.say(SMF, header(up, 91), unknown);

    let [(_, Message::SessionModificationResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.reports[0].urr, UrrId::new(1));
    let [(_, Message::SessionModificationResponse(answer))] = &refused[..] else {
        panic!("{refused:?}");
    };
    assert_eq!(answer.failed, Some(FailedRule::Urr(UrrId::new(8))));
}

#[test]
fn a_rule_that_ends_reports_in_the_answer() {
    let (mut rig, _, _, up) = established();
    let add = change(SessionChange {
        create_urrs: vec![volume_urr(7, 1)],
        ..SessionChange::default()
    });
    let remove = change(SessionChange {
        remove_urrs: vec![UrrId::new(7)],
        ..SessionChange::default()
    });

    rig.say(SMF, header(up, 90), add);
    let answers = rig.say(SMF, header(up, 91), remove);

    let [(_, Message::SessionModificationResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.reports[0].urr, UrrId::new(7));
}

#[test]
fn sessions_of_an_association_are_bounded() {
    let mut bounded = config();
    bounded.limits.sessions = 2;
    let (mut rig, mut smf) = associated_by(bounded);

    for number in 1..=3 {
        smf.establish(rig.now, plan(number).rules());
    }
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!(refusal(&happened[2..]), CauseCode::NO_RESOURCES_AVAILABLE);
    assert_eq!(rig.plane.len(), 2);
}

#[test]
fn numbers_of_sessions_are_unique_never_0_and_keyed() {
    let mut node = Node::new(config());
    let mut other = Node::new(NodeConfig {
        key: SeidKey::new([4; 32]),
        ..config()
    });
    let mut later = Node::new(NodeConfig {
        start: 2,
        ..config()
    });

    let mut seids: BTreeSet<Seid> = (0..1000).map(|_| node.seid()).collect();
    seids.extend((0..1000).map(|_| other.seid()));
    seids.extend((0..1000).map(|_| later.seid()));

    assert_eq!(seids.len(), 3000);
    assert!(!seids.contains(&Seid::new(0)));
}

#[test]
fn an_outcome_nobody_waits_for_changes_nothing() {
    let (mut rig, ..) = established();

    rig.event(Event::Outcome {
        token: Token(999),
        result: Ok(Vec::new()),
    });

    assert_eq!(rig.noted("unknown"), 1);
    rig.assert_sound();
}

#[test]
fn a_session_in_work_goes_with_its_association() {
    let (mut rig, mut smf, cp, _) = established();
    rig.mood = Mood::Slow;
    smf.modify(rig.now, cp, add_qer(5));
    smf.establish(rig.now, plan(2).rules());
    smf.release(rig.now);

    rig.talk(&mut smf, SMF);
    rig.mood = Mood::Willing;
    rig.run_one();

    assert!(rig.plane.is_empty());
    assert_eq!(rig.node.snapshot(), []);
    rig.assert_sound();
}

#[test]
fn a_session_that_the_data_plane_does_not_give_up_is_deleted_later() {
    let (mut rig, mut smf, ..) = established();
    rig.mood = Mood::Broken;

    smf.release(rig.now);
    rig.talk(&mut smf, SMF);
    assert_eq!(rig.noted("delete_failed"), 1);
    assert!(
        !rig.pool.taken.is_empty(),
        "its endpoints are not free before"
    );
    rig.mood = Mood::Willing;
    rig.wait_alone(3);

    assert!(rig.plane.is_empty());
    rig.assert_sound();
}
