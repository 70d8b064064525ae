use std::net::Ipv4Addr;

use super::rig::*;
use crate::model::*;
use crate::node::*;
use crate::sim::Happened;
use crate::wire::*;

const NUMBER: Sequence = Sequence::new(5);

fn setup(recovery: u64) -> AssociationSetupRequest {
    AssociationSetupRequest {
        alternatives: Vec::new(),
        set: None,
        node: NodeId::Fqdn("smf".to_owned()),
        recovery: Time::new(recovery),
        up_features: None,
        cp_features: Some(CpFeatures::SSET),
        resources: Vec::new(),
    }
}

fn heartbeat(recovery: u64) -> HeartbeatRequest {
    HeartbeatRequest {
        recovery: Time::new(recovery),
    }
}

#[test]
fn an_empty_list_of_peers_listens_to_nobody() {
    let mut rig = Rig::new(NodeConfig {
        peers: Vec::new(),
        ..config()
    });

    let answers = rig.say(SMF, Header::node(NUMBER), heartbeat(1));

    assert!(answers.is_empty());
    assert_eq!(rig.noted("peer_refused"), 1);
}

#[test]
fn prefixes_of_peers_match_their_own_family_only() {
    let v4 = PeerPrefix {
        address: "10.1.0.0".parse().unwrap(),
        length: 16,
    };
    let any6 = PeerPrefix {
        address: "::".parse().unwrap(),
        length: 0,
    };

    assert!(v4.contains("10.1.255.1".parse().unwrap()));
    assert!(!v4.contains("10.2.0.1".parse().unwrap()));
    assert!(any6.contains("2001:db8::1".parse().unwrap()));
    assert!(!any6.contains("10.1.0.1".parse().unwrap()));
}

#[test]
fn an_association_tells_who_we_are_and_what_we_can_do() {
    let mut rig = Rig::new(config());

    let answers = rig.say(SMF, Header::node(NUMBER), setup(1));

    let [(header, Message::AssociationSetupResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(header.sequence, NUMBER);
    assert_eq!(answer.cause, CauseCode::REQUEST_ACCEPTED);
    assert_eq!(answer.node, config().node);
    assert_eq!(answer.recovery, config().recovery);
    assert_eq!(answer.up_features, Some(FEATURES));
    assert!(answer.up_features.unwrap().has(UpFeatures::FTUP));
}

#[test]
fn heartbeats_are_answered_without_an_association() {
    let mut rig = Rig::new(config());

    let answers = rig.say(SMF, Header::node(NUMBER), heartbeat(1));

    let recovery = config().recovery;
    assert_eq!(
        answers,
        [(Header::node(NUMBER), HeartbeatResponse { recovery }.into())]
    );
}

#[test]
fn without_an_association_nothing_is_done() {
    let mut rig = Rig::new(config());
    let mut smf = smf_at(SMF, 1);

    smf.establish(rig.now, plan(1).rules());
    smf.state_applications(rig.now, Vec::new());
    let happened = rig.talk(&mut smf, SMF);

    for event in &happened {
        let Happened::Refused { cause, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(*cause, CauseCode::NO_ESTABLISHED_ASSOCIATION);
    }
    assert_eq!(happened.len(), 2);
    assert_eq!(rig.done, 0);
}

#[test]
fn another_version_is_answered_with_ours() {
    let mut rig = Rig::new(config());
    let mut bytes = encode(&Header::node(NUMBER), &heartbeat(1).into());
    bytes[0] = 2 << 5;

    let answers = rig.say_bytes(SMF, &bytes);

    let message = VersionNotSupportedResponse {}.into();
    assert_eq!(answers, [(Header::node(NUMBER), message)]);
}

#[test]
fn unknown_types_and_stray_answers_are_dropped_and_counted() {
    let mut rig = Rig::new(config());
    let mut unknown = encode(&Header::node(NUMBER), &heartbeat(1).into());
    unknown[1] = 49;
    let recovery = Time::new(1);

    assert!(rig.say_bytes(SMF, &unknown).is_empty());
    assert!(rig.say_bytes(SMF, &[0x20]).is_empty());
    let stray = rig.say(SMF, Header::node(NUMBER), HeartbeatResponse { recovery });

    assert!(stray.is_empty());
    assert_eq!(rig.noted("unknown_message"), 1);
    assert_eq!(rig.noted("malformed"), 1);
    assert_eq!(rig.noted("stray_answer"), 1);
}

#[test]
fn associations_are_bounded() {
    let mut bounded = config();
    bounded.limits.associations = 1;
    let (mut rig, _) = associated_by(bounded);
    let mut other = smf_at(OTHER, 1);

    other.associate(rig.now);
    let happened = rig.talk(&mut other, OTHER);

    let [Happened::Refused { cause, .. }] = &happened[..] else {
        panic!("{happened:?}");
    };
    assert_eq!(*cause, CauseCode::NO_RESOURCES_AVAILABLE);
}

#[test]
fn a_peer_that_started_anew_loses_its_sessions() {
    let (mut rig, ..) = established();

    rig.say(SMF, Header::node(NUMBER), heartbeat(1000));
    assert_eq!(rig.plane.len(), 1, "the same start");
    rig.say(SMF, Header::node(NUMBER), heartbeat(999));
    assert_eq!(rig.plane.len(), 1, "an old message");
    rig.say(SMF, Header::node(NUMBER), heartbeat(1001));

    assert!(rig.plane.is_empty());
    assert_eq!(rig.node.associations().count(), 0);
    rig.assert_sound();
}

#[test]
fn an_association_opened_anew_starts_without_sessions() {
    let (mut rig, ..) = established();
    let mut again = smf_at(SMF, 1000);

    rig.now += std::time::Duration::from_secs(60);
    again.associate(rig.now);
    rig.talk(&mut again, SMF);

    assert!(rig.plane.is_empty());
    assert_eq!(rig.node.associations().count(), 1);
    rig.assert_sound();
}

#[test]
fn a_peer_started_anew_may_use_its_numbers_again() {
    let (mut rig, ..) = established();
    let mut again = smf_at(SMF, 2000);

    again.associate(rig.now);
    again.establish(rig.now, plan(1).rules());
    let happened = rig.talk(&mut again, SMF);

    assert!(
        matches!(happened[0], Happened::Associated { .. }),
        "{happened:?}"
    );
    assert!(
        matches!(happened[1], Happened::Established { .. }),
        "{happened:?}"
    );
    assert_eq!(rig.plane.len(), 1);
    rig.assert_sound();
}

#[test]
fn a_silent_peer_keeps_its_sessions_for_a_while() {
    let (mut rig, ..) = established();

    rig.wait_alone(60);
    assert_eq!(rig.noted("association_silent"), 1);
    assert_eq!(rig.plane.len(), 1);
    rig.wait_alone(600);

    assert!(rig.plane.is_empty());
    let silent = |note: &Note| matches!(note, Note::AssociationDown(_, End::Silent, 1));
    assert!(rig.notes.iter().any(silent));
    rig.assert_sound();
}

#[test]
fn a_peer_that_comes_back_in_time_has_its_sessions() {
    let (mut rig, mut smf, ..) = established();

    rig.wait_alone(300);
    rig.sent.clear();
    rig.wait_with(&mut smf, SMF, 700);

    assert_eq!(rig.noted("association_back"), 1);
    assert_eq!(rig.plane.len(), 1);
}

#[test]
fn a_released_association_takes_its_sessions_along() {
    let (mut rig, mut smf, ..) = established();

    smf.release(rig.now);
    let happened = rig.talk(&mut smf, SMF);

    let kind = MessageType::ASSOCIATION_RELEASE_REQUEST;
    assert_eq!(happened, [Happened::Done(kind)]);
    assert!(rig.plane.is_empty());
    rig.assert_sound();
}

#[test]
fn we_leave_when_the_graceful_period_is_over() {
    let (mut rig, mut smf, ..) = established();
    let node = rig.node.associations().next().unwrap().clone();

    rig.event(Event::Leave {
        node,
        graceful_s: 100,
    });
    let told = rig.talk(&mut smf, SMF);
    smf.establish(rig.now, plan(2).rules());
    let refused = rig.talk(&mut smf, SMF);
    rig.wait_with(&mut smf, SMF, 99);
    assert_eq!(rig.plane.len(), 1);
    rig.wait_with(&mut smf, SMF, 1);

    let [Happened::Told(message)] = &told[..] else {
        panic!("{told:?}");
    };
    let Message::AssociationUpdateRequest(request) = &**message else {
        panic!("{message:?}");
    };
    assert!(request.release.unwrap().release);
    assert!(request.graceful.unwrap().seconds().unwrap() >= 100);
    assert!(matches!(refused[..], [Happened::Refused { .. }]));
    assert!(rig.plane.is_empty());
    rig.assert_sound();
}

#[test]
fn we_open_an_association_ourselves() {
    let mut rig = Rig::new(config());
    let mut smf = smf_at(SMF, 1);

    rig.event(Event::Associate { peer: SMF });
    rig.talk(&mut smf, SMF);
    smf.establish(rig.now, plan(1).rules());
    let happened = rig.talk(&mut smf, SMF);

    assert!(matches!(happened[..], [Happened::Established { .. }]));
}

#[test]
fn a_peer_that_is_not_listed_is_not_asked() {
    let mut rig = Rig::new(config());

    rig.event(Event::Associate {
        peer: "192.0.2.1:8805".parse().unwrap(),
    });

    assert!(rig.sent.is_empty());
    assert_eq!(rig.noted("association_refused"), 1);
}

#[test]
fn an_update_needs_an_association() {
    let mut rig = Rig::new(config());
    let request = AssociationUpdateRequest {
        set: None,
        alternatives: Vec::new(),
        node: NodeId::V4(Ipv4Addr::LOCALHOST),
        up_features: None,
        cp_features: Some(CpFeatures::NONE),
        release: None,
        graceful: None,
        resources: Vec::new(),
    };

    let answers = rig.say(SMF, Header::node(NUMBER), request);

    let [(_, Message::AssociationUpdateResponse(answer))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(answer.cause, CauseCode::NO_ESTABLISHED_ASSOCIATION);
}

#[test]
fn endpoints_that_send_requests_are_bounded() {
    let mut bounded = config();
    bounded.limits.sources = 2;
    let mut rig = Rig::new(bounded);

    for port in 1000..1010 {
        let from = std::net::SocketAddr::new(SMF.ip(), port);
        rig.say(
            from,
            Header::node(NUMBER),
            PfdManagementRequest {
                applications: Vec::new(),
            },
        );
    }

    assert_eq!(rig.node.inboxes.len(), 2);
    assert_eq!(rig.noted("sources_full"), 8);
    rig.now += std::time::Duration::from_secs(60);
    rig.say(OTHER, Header::node(NUMBER), setup(1));
    assert_eq!(rig.node.associations().count(), 1);
}
