use std::net::Ipv4Addr;

use qlink_types::ids::Teid;

use super::rig::*;
use crate::model::*;
use crate::node::*;
use crate::sim::Happened;
use crate::wire::*;

fn usage(session: Seid, sequences: std::ops::Range<u32>) -> Event<'static> {
    Event::Usage {
        session,
        reports: sequences
            .map(|number| report(UrrId::new(1), number))
            .collect(),
    }
}

/// Numbers of the usage reports that were taken, in order.
fn taken(happened: &[Happened]) -> Vec<u32> {
    let reports = happened.iter().filter_map(|event| match event {
        Happened::Reported { report, .. } => Some(&report.reports),
        _ => None,
    });
    reports.flatten().map(|report| report.sequence).collect()
}

#[test]
fn usage_is_reported_in_order_several_at_once() {
    let (mut rig, mut smf, cp, up) = established();

    rig.event(usage(up, 0..1));
    rig.event(usage(up, 1..50));
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!(taken(&happened), (0..50).collect::<Vec<_>>());
    assert_eq!(happened.len(), 3, "1, then 32, then 17");
    let Happened::Reported { session, .. } = happened[0] else {
        panic!("{happened:?}");
    };
    assert_eq!(session, cp);
}

#[test]
fn every_kind_of_report_arrives() {
    let (mut rig, mut smf, _, up) = established();
    let lost = FTeid {
        teid: Teid::new(500),
        v4: Some(Ipv4Addr::new(10, 0, 2, 1)),
        v6: None,
    };

    rig.event(Event::Inactive { session: up });
    rig.event(Event::ErrorIndication {
        session: up,
        endpoints: vec![lost, lost],
    });
    rig.event(Event::DownlinkData {
        session: up,
        report: DownlinkDataReport {
            pdrs: vec![PdrId::new(2)],
            service: None,
        },
    });
    let happened = rig.talk(&mut smf, SMF);

    let [
        Happened::Reported { report: first, .. },
        Happened::Reported { report: second, .. },
    ] = &happened[..]
    else {
        panic!("{happened:?}");
    };
    assert!(first.inactivity);
    assert_eq!(second.error_indication, [lost]);
    assert_eq!(second.downlink_data.as_ref().unwrap().pdrs, [PdrId::new(2)]);
}

#[test]
fn a_report_goes_again_and_then_waits_for_its_peer() {
    let (mut rig, mut smf, _, up) = established();

    rig.event(usage(up, 0..3));
    let first = rig.sent[0].1.clone();
    rig.wait_alone(8);
    let copies = rig.sent.iter().filter(|(_, bytes)| *bytes == first).count();
    assert_eq!(copies, usize::from(Timers::default().n1));
    rig.wait_alone(60);
    rig.sent.clear();
    let happened = rig.wait_with(&mut smf, SMF, 60);

    assert_eq!(taken(&happened), [0, 1, 2]);
}

#[test]
fn reports_of_a_session_are_bounded() {
    let (mut rig, _, _, up) = established();
    let limit = u32::try_from(NodeLimits::default().reports).unwrap();

    rig.event(usage(up, 0..1));
    rig.event(usage(up, 1..limit + 10));

    assert!(rig.notes.contains(&Note::ReportsLost(up, 9)));
}

#[test]
fn reports_to_one_peer_are_bounded_and_none_is_lost() {
    let mut bounded = config();
    bounded.limits.outstanding = 2;
    let (mut rig, mut smf) = associated_by(bounded);
    for number in 1..=10 {
        smf.establish(rig.now, plan(number).rules());
    }
    rig.talk(&mut smf, SMF);
    let ups: Vec<Seid> = rig.node.sessions().map(|(seid, _)| seid).collect();

    for up in &ups {
        rig.event(usage(*up, 0..1));
    }
    assert_eq!(rig.sent.len(), 2);
    let happened = rig.talk(&mut smf, SMF);

    assert_eq!(taken(&happened).len(), ups.len());
}

#[test]
fn a_session_that_its_peer_does_not_know_is_deleted() {
    let (mut rig, _, _, up) = established();
    let mut stranger = smf_at(SMF, 1000);

    rig.event(usage(up, 0..1));
    rig.talk(&mut stranger, SMF);

    assert_eq!(rig.noted("report_refused"), 1);
    assert!(rig.plane.is_empty());
    rig.assert_sound();
}

#[test]
fn usage_that_waits_goes_with_the_answer_to_the_deletion() {
    let (mut rig, mut smf, cp, up) = established();

    rig.event(usage(up, 0..1));
    rig.event(usage(up, 1..3));
    smf.delete(rig.now, cp);
    let datagrams = smf.take_datagrams();
    let answers = rig.say_bytes(SMF, &datagrams[0]);

    let Some((_, Message::SessionDeletionResponse(answer))) = answers.last() else {
        panic!("{answers:?}");
    };
    let numbers: Vec<u32> = answer
        .reports
        .iter()
        .map(|report| report.sequence)
        .collect();
    assert_eq!(numbers, [1, 2, 99]);
}

#[test]
fn usage_of_an_unknown_session_is_noted() {
    let (mut rig, ..) = associated();

    rig.event(usage(Seid::new(1), 0..2));

    assert_eq!(rig.noted("reports_lost"), 1);
}

#[test]
fn the_answer_to_a_report_says_how_packets_are_kept() {
    let (mut rig, _, _, up) = established();
    rig.event(usage(up, 0..1));
    let (request, _) = rig.take_messages()[0];
    let answer = SessionReportResponse {
        cause: CauseCode::REQUEST_ACCEPTED,
        offending: None,
        bars: Vec::new(),
        flags: ReportResponseFlags {
            drop_buffered: true,
        },
        cp: None,
    };

    rig.say(SMF, Header::session(up, request.sequence), answer);

    let kept = Kept::Dropped;
    let orders = Vec::new();
    let session = up;
    let buffering = Effect::Buffering {
        session,
        orders,
        kept,
    };
    let reports = vec![(UrrId::new(1), 0)];
    let acknowledged = Effect::Acknowledged { session, reports };
    assert_eq!(rig.other, [acknowledged, buffering]);
}

#[test]
fn paths_are_told_to_every_peer() {
    let (mut rig, mut smf) = associated();
    let peer = RemotePeer {
        v4: Some(Ipv4Addr::new(10, 0, 2, 1)),
        v6: None,
        destination: Some(Interface::Access),
        network_instance: None,
    };

    rig.event(Event::Paths {
        failures: vec![peer.clone()],
        recoveries: Vec::new(),
    });
    let happened = rig.talk(&mut smf, SMF);

    let [Happened::Told(message)] = &happened[..] else {
        panic!("{happened:?}");
    };
    let Message::NodeReportRequest(request) = &**message else {
        panic!("{message:?}");
    };
    assert_eq!(request.failures, [peer]);
}
