//! Sets of sessions, and control planes that start anew, over sockets.

use std::net::Ipv4Addr;

use qlink_pfcp::model::{Seid, UsageReport};
use qlink_pfcp::sim::{Happened, SessionPlan};
use qlink_pfcp::wire::{CauseCode, CsidNode, FqCsid, IeType, MessageType, SessionSets};
use qlink_types::ids::Teid;

use super::network::{Network, Running, smf, volume};

const MME: CsidNode = CsidNode::V4(Ipv4Addr::new(192, 0, 2, 7));

fn part(csid: u16) -> FqCsid {
    FqCsid {
        node: MME,
        csids: vec![csid],
        kind: None,
    }
}

/// A session of a part of the MME; its number at the SMF and its uplink endpoint.
fn establish(network: &mut Network, host: u8, csid: u16) -> (Seid, Teid) {
    let plan = SessionPlan {
        ue: Some(Ipv4Addr::new(10, 60, 0, host)),
        ..network.plan()
    };
    let sets = SessionSets {
        csids: vec![part(csid)],
        group: None,
    };
    let (session, fteid) = network.establish_in(plan.rules(), sets);
    (session, fteid.teid)
}

/// Has a part of the MME ended; the last usage of the sessions that went, each as it was told.
fn end(network: &mut Network, csid: u16, sessions: usize) -> Vec<(Seid, Vec<UsageReport>)> {
    let now = network.now();
    network.smf.delete_sets(now, vec![part(csid)]);
    let (mut done, mut told) = (false, Vec::new());
    network.until(|happened| {
        match happened {
            Happened::Done(MessageType::SESSION_SET_DELETION_REQUEST) => done = true,
            Happened::Reported { session, report } if report.flags.deleted => {
                told.push((*session, report.reports.clone()));
            }
            _ => {}
        }
        (done && told.len() == sessions).then_some(())
    });
    told
}

fn gone(network: &Network, running: &Running, teid: Teid) {
    let before = network.drops("teid_unknown");
    network.send_up(running, teid, 10);
    network.until_dropped_beyond("teid_unknown", before);
}

#[test]
fn the_sessions_of_a_failed_part_end_with_their_usage_and_no_others() {
    let mut network = Network::new(22);
    let running = network.start();
    network.associate();
    // The sixth address is the one that the rig sends from.
    let (failed, teid) = establish(&mut network, 9, 1);
    let (_, idle) = establish(&mut network, 8, 1);
    let (stays, other) = establish(&mut network, 7, 2);
    network.uplink(&running, teid, 100);

    let mut told = end(&mut network, 1, 2);

    told.retain(|(session, _)| *session == failed);
    let reports: Vec<UsageReport> = told.into_iter().flat_map(|(_, reports)| reports).collect();
    assert_eq!(volume(&reports), (128, 0));
    gone(&network, &running, teid);
    gone(&network, &running, idle);
    running.stop();
    // What was answered for is durable.
    let running = network.start();
    gone(&network, &running, teid);
    let again = establish(&mut network, 9, 1);
    network.uplink(&running, again.1, 100);
    assert!(!network.delete(stays).is_empty());
    gone(&network, &running, other);
    running.stop();
}

#[test]
fn a_set_nobody_is_in_is_ended_at_once_and_a_request_without_a_set_is_refused() {
    let mut network = Network::new(23);
    let running = network.start();
    network.associate();

    assert!(end(&mut network, 5, 0).is_empty());
    let now = network.now();
    network.smf.delete_sets(now, Vec::new());
    let refused = network.until(|happened| match happened {
        Happened::Refused {
            cause, offending, ..
        } => Some((*cause, *offending)),
        _ => None,
    });

    let missing = CauseCode::CONDITIONAL_IE_MISSING;
    assert_eq!(refused, (missing, Some(IeType::FQ_CSID)));
    running.stop();
}

#[test]
fn a_later_start_in_a_heartbeat_ends_the_sessions_of_the_earlier_one() {
    let mut network = Network::new(24);
    let running = network.start();
    network.associate();
    let (_, teid) = establish(&mut network, 9, 1);
    network.uplink(&running, teid, 100);

    // The same start says nothing new.
    let now = network.now();
    network.smf.heartbeat(now);
    network.until(|happened| matches!(happened, Happened::Done(_)).then_some(()));
    network.uplink(&running, teid, 100);
    network.smf = smf(24, 1_700_000_001);
    let now = network.now();
    network.smf.heartbeat(now);
    network.until(|happened| matches!(happened, Happened::Done(_)).then_some(()));

    gone(&network, &running, teid);
    // The association is gone as well: the peer has to open it again.
    let rules = network.plan().rules();
    let (cause, ..) = network.refusal(rules);
    assert_eq!(cause, CauseCode::NO_ESTABLISHED_ASSOCIATION);
    network.associate();
    let (_, teid) = establish(&mut network, 9, 1);
    network.uplink(&running, teid, 100);
    running.stop();
}

#[test]
fn an_association_that_is_opened_anew_ends_the_sessions_of_the_earlier_one() {
    let mut network = Network::new(36);
    let running = network.start();
    network.associate();
    let (_, teid) = establish(&mut network, 9, 1);

    network.smf = smf(36, 1_700_000_001);
    network.associate();

    gone(&network, &running, teid);
    let (_, teid) = establish(&mut network, 9, 1);
    network.uplink(&running, teid, 100);
    running.stop();
    let running = network.start();
    network.uplink(&running, teid, 100);
    running.stop();
}
