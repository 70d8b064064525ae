use std::net::{IpAddr, Ipv4Addr};

use super::rig::*;
use crate::model::*;
use crate::node::*;
use crate::sim::{Happened, Smf};
use crate::wire::*;

fn part(node: u8, csids: &[u16], kind: u8) -> FqCsid {
    FqCsid {
        node: CsidNode::V4(Ipv4Addr::new(192, 0, 2, node)),
        csids: csids.to_vec(),
        kind: Some(kind),
    }
}

fn sets(csids: Vec<FqCsid>, group: Option<&str>) -> SessionSets {
    SessionSets {
        csids,
        group: group.map(|name| GroupId(name.as_bytes().to_vec())),
    }
}

/// Opens a session of these sets; its number at the control plane.
fn open(rig: &mut Rig, smf: &mut Smf, number: u8, sets: SessionSets) -> Seid {
    let session = smf.establish_in(rig.now, plan(number).rules(), sets);
    let happened = rig.talk(smf, SMF);
    let stands = happened
        .iter()
        .any(|happened| matches!(happened, Happened::Established { .. }));
    assert!(stands, "{happened:?}");
    session
}

/// Three sessions of two nodes' parts.
fn three() -> (Rig, Smf) {
    let (mut rig, mut smf) = associated();
    open(
        &mut rig,
        &mut smf,
        1,
        sets(vec![part(1, &[1], 0), part(2, &[7], 1)], None),
    );
    open(&mut rig, &mut smf, 2, sets(vec![part(1, &[2, 3], 0)], None));
    open(&mut rig, &mut smf, 3, sets(Vec::new(), Some("b")));
    (rig, smf)
}

fn done(happened: &[Happened]) -> usize {
    let deletion = Happened::Done(MessageType::SESSION_SET_DELETION_REQUEST);
    happened
        .iter()
        .filter(|happened| **happened == deletion)
        .count()
}

fn last_words(happened: &[Happened]) -> usize {
    let last = happened.iter().filter(
        |happened| matches!(happened, Happened::Reported { report, .. } if report.flags.deleted),
    );
    last.count()
}

#[test]
fn a_set_ends_by_node_and_part_and_its_sessions_tell_their_last_usage() {
    let (mut rig, mut smf) = three();

    // The same number at another node, and another number at that node, name nobody.
    smf.delete_sets(rig.now, vec![part(9, &[1], 0), part(2, &[1], 1)]);
    let happened = rig.talk(&mut smf, SMF);
    assert_eq!((done(&happened), rig.node.sessions().count()), (1, 3));
    smf.delete_sets(rig.now, vec![part(2, &[6, 7], 1)]);
    let happened = rig.talk(&mut smf, SMF);
    assert_eq!((done(&happened), last_words(&happened)), (1, 1));
    smf.delete_sets(rig.now, vec![part(1, &[3], 0)]);
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!((done(&happened), last_words(&happened)), (1, 1));
    assert_eq!(rig.node.sessions().count(), 1);
    assert_eq!(rig.noted("reports_lost"), 0);
    rig.assert_sound();
}

#[test]
fn the_answer_waits_until_the_last_session_is_gone() {
    let (mut rig, mut smf) = three();
    rig.mood = Mood::Slow;
    smf.delete_sets(rig.now, vec![part(1, &[1, 2], 0)]);

    assert_eq!(done(&rig.talk(&mut smf, SMF)), 0);
    rig.run_one();
    assert_eq!(done(&rig.talk(&mut smf, SMF)), 0);
    rig.run_one();
    assert_eq!(done(&rig.talk(&mut smf, SMF)), 1);

    rig.assert_sound();
}

#[test]
fn a_deletion_that_fails_is_tried_again_and_answered_then() {
    let (mut rig, mut smf) = three();
    rig.mood = Mood::Broken;
    smf.delete_sets(rig.now, vec![part(1, &[1], 0)]);
    assert_eq!(done(&rig.talk(&mut smf, SMF)), 0);

    rig.mood = Mood::Willing;
    let happened = rig.wait_with(&mut smf, SMF, 10);

    assert_eq!(done(&happened), 1);
    rig.assert_sound();
}

#[test]
fn a_modification_replaces_the_part_of_the_same_kind_of_node() {
    let (mut rig, mut smf) = associated();
    let first = sets(vec![part(1, &[1], 0), part(2, &[7], 1)], None);
    let session = open(&mut rig, &mut smf, 1, first);
    let request = SessionModificationRequest {
        sets: sets(vec![part(3, &[4], 0)], None),
        ..change(SessionChange::default())
    };
    smf.modify(rig.now, session, request);
    rig.talk(&mut smf, SMF);

    smf.delete_sets(rig.now, vec![part(1, &[1], 0)]);
    rig.talk(&mut smf, SMF);
    assert_eq!(rig.node.sessions().count(), 1);
    // The journal has the sets as they are now.
    let codec = Codec::default();
    let records = rig.journal.iter();
    let records = records.map(|bytes| Record::from_bytes(bytes, &codec).unwrap());
    let mut pool = crate::testing::Pool::new(1000);
    let restored = Node::restore(config(), records, rig.now, &mut pool).unwrap();
    assert_eq!(restored.snapshot(), rig.node.snapshot());
    rig.node = restored;
    smf.delete_sets(rig.now, vec![part(3, &[4], 0)]);
    rig.talk(&mut smf, SMF);

    assert_eq!(rig.node.sessions().count(), 0);
}

#[test]
fn a_peer_ends_no_sessions_of_another() {
    let (mut rig, mut smf) = three();
    let mut other = smf_at(OTHER, 7);
    other.associate(rig.now);
    rig.talk(&mut other, OTHER);

    other.delete_sets(rig.now, vec![part(1, &[1, 2, 3], 0)]);
    let happened = rig.talk(&mut other, OTHER);

    assert_eq!(done(&happened), 1);
    assert_eq!(rig.node.sessions().count(), 3);
    // Nor one that names itself as somebody who has no association.
    let stranger = SessionSetDeletionRequest {
        node: NodeId::Fqdn("nobody".to_owned()),
        sets: vec![part(1, &[1], 0)],
    };
    let answers = rig.say(SMF, Header::node(Sequence::new(900)), stranger);
    let [(_, Message::SessionSetDeletionResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.cause, CauseCode::NO_ESTABLISHED_ASSOCIATION);
    rig.talk(&mut smf, SMF);
}

#[test]
fn last_words_wait_for_room_and_all_are_said() {
    let limits = NodeLimits {
        outstanding: 2,
        ..NodeLimits::default()
    };
    let (mut rig, mut smf) = associated_by(NodeConfig { limits, ..config() });
    for number in 1..=20 {
        open(
            &mut rig,
            &mut smf,
            number,
            sets(vec![part(1, &[1], 0)], None),
        );
    }

    smf.delete_sets(rig.now, vec![part(1, &[1], 0)]);
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!((done(&happened), last_words(&happened)), (1, 20));
    assert_eq!(rig.noted("reports_lost"), 0);
}

fn to(address: IpAddr) -> AlternativeSmf {
    let IpAddr::V4(v4) = address else {
        panic!("an IPv4 address");
    };
    AlternativeSmf {
        address: CpAddress {
            v4: Some(v4),
            v6: None,
        },
        preferred: false,
    }
}

fn moved(groups: &[&str], csids: Vec<FqCsid>, address: IpAddr) -> SessionChangeInfo {
    let groups = groups.iter().map(|name| GroupId(name.as_bytes().to_vec()));
    SessionChangeInfo {
        sets: csids,
        groups: groups.collect(),
        addresses: Vec::new(),
        alternative: to(address),
    }
}

#[test]
fn a_set_moves_to_another_function_which_hears_its_reports_and_may_change_it() {
    let (mut rig, mut smf) = three();
    let mut other = smf_at(OTHER, 7);
    other.associate(rig.now);
    rig.talk(&mut other, OTHER);
    let change_info = moved(&["b"], vec![part(1, &[1], 0)], OTHER.ip());

    smf.move_sets(rig.now, vec![change_info]);
    let happened = rig.talk(&mut smf, SMF);

    let kind = MessageType::SESSION_SET_MODIFICATION_REQUEST;
    assert_eq!(happened, [Happened::Done(kind)]);
    let owners: Vec<&NodeId> = rig
        .node
        .sessions()
        .map(|(seid, _)| rig.node.session(seid).unwrap().1)
        .collect();
    let theirs = NodeId::Fqdn(format!("smf-{}", OTHER.ip()));
    assert_eq!(owners.iter().filter(|owner| ***owner == theirs).count(), 2);
    let seids: Vec<Seid> = rig.node.sessions().map(|(seid, _)| seid).collect();
    for seid in &seids {
        rig.event(Event::Usage {
            session: *seid,
            reports: vec![report(UrrId::new(1), 1)],
        });
    }
    let at = |address| move |(to, _): &&(std::net::SocketAddr, Vec<u8>)| *to == address;
    assert_eq!(rig.sent.iter().filter(at(OTHER)).count(), 2);
    assert_eq!(rig.sent.iter().filter(at(SMF)).count(), 1);
    // The association that they left ends without them.
    smf.release(rig.now);
    rig.talk(&mut smf, SMF);
    assert_eq!(rig.node.sessions().count(), 2);
    rig.assert_sound();
}

#[test]
fn a_set_does_not_move_to_a_function_that_is_not_there() {
    let (mut rig, mut smf) = three();
    let before = rig.node.snapshot();

    smf.move_sets(
        rig.now,
        vec![
            moved(&["b"], Vec::new(), SMF.ip()),
            moved(&["b"], Vec::new(), OTHER.ip()),
        ],
    );
    let happened = rig.talk(&mut smf, SMF);

    let [
        Happened::Refused {
            cause, offending, ..
        },
    ] = happened[..]
    else {
        panic!("{happened:?}");
    };
    assert_eq!(cause, CauseCode::NO_ESTABLISHED_ASSOCIATION);
    assert_eq!(offending, Some(IeType::ALTERNATIVE_SMF_IP_ADDRESS));
    assert_eq!(rig.node.snapshot(), before);
}

/// Two functions of one set and one of another, of which the first has a session.
fn a_set() -> (Rig, [Smf; 3], Seid) {
    let mut rig = Rig::new(config());
    let set = |name: &str| SmfSetId(format!("{name}.smf.example"));
    let mut smfs = [
        smf_at(SMF, 1000).in_set(set("one")),
        smf_at(OTHER, 1000).in_set(set("one")),
        smf_at(THIRD, 1000).in_set(set("two")),
    ];
    for (smf, address) in smfs.iter_mut().zip(FUNCTIONS) {
        smf.associate(rig.now);
        rig.talk(smf, address);
    }
    let [first, second, third] = &mut smfs;
    let session = open(&mut rig, first, 1, SessionSets::default());
    second.learn_from(first);
    third.learn_from(first);
    (rig, smfs, session)
}

const THIRD: std::net::SocketAddr =
    std::net::SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 3)), 8805);
const FUNCTIONS: [std::net::SocketAddr; 3] = [SMF, OTHER, THIRD];

fn owner(rig: &Rig) -> NodeId {
    let (seid, _) = rig.node.sessions().next().unwrap();
    rig.node.session(seid).unwrap().1.clone()
}

fn name_of(address: std::net::SocketAddr) -> NodeId {
    NodeId::Fqdn(format!("smf-{}", address.ip()))
}

/// Usage of the only session is told; who hears of it.
fn told_to(rig: &mut Rig) -> Vec<std::net::SocketAddr> {
    let (session, _) = rig.node.sessions().next().unwrap();
    let reports = vec![report(UrrId::new(1), 1)];
    rig.event(Event::Usage { session, reports });
    rig.sent.iter().map(|(to, _)| *to).collect()
}

#[test]
fn another_function_of_the_set_takes_a_session_over_and_hears_its_reports() {
    let (mut rig, [mut first, mut second, _], session) = a_set();

    second.take_over(rig.now, session, SessionChange::default());
    let happened = rig.talk(&mut second, OTHER);

    assert!(
        matches!(happened[..], [Happened::Modified { .. }]),
        "{happened:?}"
    );
    assert_eq!(owner(&rig), name_of(OTHER));
    // Also after a restart.
    let codec = Codec::default();
    let records = rig.journal.iter();
    let records = records.map(|bytes| Record::from_bytes(bytes, &codec).unwrap());
    let mut pool = crate::testing::Pool::new(1000);
    let restored = Node::restore(config(), records, rig.now, &mut pool).unwrap();
    assert_eq!(restored.snapshot(), rig.node.snapshot());
    assert_eq!(told_to(&mut rig), [OTHER]);
    rig.talk(&mut second, OTHER);
    // The association that it left ends without it.
    first.release(rig.now);
    rig.talk(&mut first, SMF);
    assert_eq!(rig.node.sessions().count(), 1);
    rig.assert_sound();
}

#[test]
fn another_function_of_the_set_changes_and_ends_a_session_without_taking_it_over() {
    let (mut rig, [_, mut second, _], session) = a_set();

    second.modify(rig.now, session, change(SessionChange::default()));
    let changed = rig.talk(&mut second, OTHER);
    let stays = owner(&rig);
    second.delete(rig.now, session);
    let ended = rig.talk(&mut second, OTHER);

    assert!(
        matches!(changed[..], [Happened::Modified { .. }]),
        "{changed:?}"
    );
    assert_eq!(stays, name_of(SMF));
    assert!(matches!(ended[..], [Happened::Deleted { .. }]), "{ended:?}");
    assert_eq!(rig.node.sessions().count(), 0);
    rig.assert_sound();
}

#[test]
fn a_function_outside_of_the_set_takes_nothing_over() {
    let (mut rig, [_, mut second, mut third], session) = a_set();
    let before = rig.node.snapshot();

    third.take_over(rig.now, session, SessionChange::default());
    let refused = rig.talk(&mut third, THIRD);
    // One of the set that gives a name which is not its own does not either.
    let request = SessionModificationRequest {
        node: Some(name_of(THIRD)),
        ..change(SessionChange::default())
    };
    second.modify(rig.now, session, request);
    let unnamed = rig.talk(&mut second, OTHER);

    let cause = |happened: &[Happened]| match happened {
        [Happened::Refused { cause, .. }] => *cause,
        other => panic!("{other:?}"),
    };
    assert_eq!(cause(&refused), CauseCode::SESSION_CONTEXT_NOT_FOUND);
    assert_eq!(cause(&unnamed), CauseCode::NO_ESTABLISHED_ASSOCIATION);
    assert_eq!(rig.node.snapshot(), before);
}

#[test]
fn a_silent_function_leaves_its_sessions_and_reports_to_its_set() {
    let (mut rig, [_, mut second, _], _) = a_set();
    rig.wait_with(&mut second, OTHER, 1);
    assert_eq!(told_to(&mut rig), [SMF], "nobody knows yet");

    let happened = rig.wait_with(&mut second, OTHER, 3600);

    let reported = happened.iter();
    let reported = reported.filter(|happened| matches!(happened, Happened::Reported { .. }));
    assert_eq!(reported.count(), 1, "{happened:?}");
    assert_eq!(owner(&rig), name_of(OTHER));
    assert_eq!(
        rig.node.sessions().count(),
        1,
        "it outlives the association"
    );
    assert_eq!(rig.noted("sessions_left"), 1);
    rig.assert_sound();
}

#[test]
fn a_function_that_starts_anew_finds_its_sessions_with_its_set() {
    let (mut rig, _, _) = a_set();

    let set = SmfSetId("one.smf.example".to_owned());
    let mut again = smf_at(SMF, 2000).in_set(set);
    again.associate(rig.now);
    rig.talk(&mut again, SMF);

    assert_eq!(owner(&rig), name_of(OTHER));
    rig.assert_sound();
}

/// Two functions of a set that has one association, opened by the first one, which has a session.
fn together() -> (Rig, [Smf; 2], Seid) {
    let mut rig = Rig::new(config());
    let name = NodeId::Fqdn("set-1.smf.example".to_owned());
    let mut smfs = [SMF, OTHER].map(|address| {
        let others = [SMF, OTHER, THIRD].into_iter();
        let others = others.filter(|other| *other != address);
        let set = SmfSetId("set-1.smf.example".to_owned());
        let smf = smf_named(name.clone(), address, 1000).in_set(set);
        smf.together_with(others.map(|other| other.ip()).collect())
    });
    let [first, second] = &mut smfs;
    first.associate(rig.now);
    rig.talk(first, SMF);
    let session = open(&mut rig, first, 1, SessionSets::default());
    second.learn_from(first);
    (rig, smfs, session)
}

#[test]
fn functions_with_one_association_control_each_others_sessions() {
    let (mut rig, [_, mut second], session) = together();
    let name = owner(&rig);

    second.modify(rig.now, session, change(SessionChange::default()));
    let changed = rig.talk(&mut second, OTHER);
    assert!(
        matches!(changed[..], [Happened::Modified { .. }]),
        "{changed:?}"
    );
    second.take_over(rig.now, session, SessionChange::default());
    let taken = rig.talk(&mut second, OTHER);

    assert!(
        matches!(taken[..], [Happened::Modified { .. }]),
        "{taken:?}"
    );
    assert_eq!(owner(&rig), name, "it is the set's");
    assert_eq!(told_to(&mut rig), [OTHER]);
    rig.assert_sound();
}

#[test]
fn a_set_with_one_association_is_asked_one_function_after_the_other() {
    let (mut rig, [_, mut second], _) = together();

    // The first one is silent, the second one is named next.
    let happened = rig.wait_with(&mut second, OTHER, 3600);

    assert!(happened.is_empty(), "{happened:?}");
    assert_eq!(rig.noted("association_silent"), 0);
    assert_eq!(rig.noted("sessions_left"), 1);
    assert_eq!(told_to(&mut rig), [OTHER]);
    // After a restart too.
    let codec = Codec::default();
    let records = rig.journal.iter();
    let records = records.map(|bytes| Record::from_bytes(bytes, &codec).unwrap());
    let mut pool = crate::testing::Pool::new(1000);
    let restored = Node::restore(config(), records, rig.now, &mut pool).unwrap();
    assert_eq!(restored.snapshot(), rig.node.snapshot());
    rig.assert_sound();
}

#[test]
fn a_set_of_which_nobody_answers_is_silent() {
    let (mut rig, _, _) = together();
    let mut nobody = smf_at(THIRD, 1);

    rig.wait_with(&mut nobody, std::net::SocketAddr::new(THIRD.ip(), 9), 300);

    assert_eq!(rig.noted("association_silent"), 1);
    assert_eq!(rig.noted("sessions_left"), 2);
    rig.assert_sound();
}
