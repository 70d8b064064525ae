//! Many sessions, one behind the other and all at once: nothing grows, and every bound is said.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use qlink_meter::{ArenaReader, ArenaSet};
use qlink_pfcp::model::{Far, FarId, PdrId, SessionChange, UrrId};
use qlink_pfcp::sim::{Happened, SessionPlan};
use qlink_pfcp::wire::CauseCode;

use super::network::{Network, UE, WITHIN};

fn plan(network: &Network, number: u16) -> SessionPlan {
    let [high, low] = number.to_be_bytes();
    SessionPlan {
        ue: Some(Ipv4Addr::new(10, 61, high, low)),
        ..network.plan()
    }
}

#[test]
fn a_thousand_sessions_come_and_go_and_leave_nothing() {
    let mut network = Network::new(16);
    network.config.max_sessions = 2048;
    network.config.pfcp.as_mut().unwrap().max_urrs = 8;
    let running = network.start();
    network.associate();
    let journal = network.config.pfcp.as_ref().unwrap().journal.clone();
    let bytes = || std::fs::metadata(&journal).unwrap().len();
    let arena = std::fs::metadata(&network.config.arena).unwrap().len();

    // More sessions than rows for their usage rules, more than addresses of the pool; each is as
    // long in the journal as one with many rules.
    let (mut longest, mut written, mut teids) = (0, 0, BTreeSet::new());
    for round in 0..1000 {
        let plan = SessionPlan {
            ue: (round % 2 == 0).then_some(UE),
            ..network.plan()
        };
        let mut rules = plan.rules();
        let pattern = rules.create_fars[1].clone();
        rules.create_fars.extend((100..150).map(|id| Far {
            id: FarId::new(id),
            ..pattern.clone()
        }));
        let before = bytes();
        let (session, fteid) = network.establish_rules(rules);
        written += bytes().saturating_sub(before);
        teids.insert(fteid.teid);
        assert!(!network.delete(session).is_empty());
        longest = longest.max(bytes());
    }

    // A number that was given back is not given out again at once.
    assert_eq!(teids.len(), 1000);
    // What is gone is cut off again: at most 1 MiB of it stays, and what one turn adds.
    assert!(written > 2 << 20, "only {written} bytes were written");
    assert!(longest < 11 << 17, "a journal of {longest} bytes");
    assert_eq!(
        std::fs::metadata(&network.config.arena).unwrap().len(),
        arena
    );
    // The last row is closed behind the answer.
    let set = ArenaSet::open(&network.config.arena).unwrap();
    let rows = || set.workers().iter().flat_map(ArenaReader::urrs).count();
    let deadline = Instant::now() + WITHIN;
    while rows() > 0 {
        assert!(Instant::now() < deadline, "{} rows are left", rows());
        std::thread::sleep(Duration::from_millis(2));
    }
    let (_, fteid) = network.establish(&network.plan());
    network.uplink(&running, fteid.teid, 100);
    running.stop();
}

#[test]
fn a_flood_of_sessions_ends_at_the_bound_and_those_that_stand_go_on() {
    let mut network = Network::new(33);
    network.config.max_sessions = 64;
    network.config.pfcp.as_mut().unwrap().max_urrs = 1024;
    let running = network.start();
    network.associate();
    let (_, fteid) = network.establish(&network.plan());
    // Who asks for an address that is taken gets nothing, not even a place.
    for _ in 0..100 {
        let (cause, ..) = network.refusal(network.plan().rules());
        assert_eq!(cause, CauseCode::RULE_FAILURE);
    }

    let (mut stand, mut refused) = (1, 0);
    for number in 0..200 {
        let now = network.now();
        let rules = plan(&network, number).rules();
        network.smf.establish(now, rules);
        network.until(|happened| match happened {
            Happened::Established { .. } => {
                stand += 1;
                Some(())
            }
            Happened::Refused { cause, .. } => {
                assert_eq!(*cause, CauseCode::NO_RESOURCES_AVAILABLE);
                refused += 1;
                Some(())
            }
            _ => None,
        });
    }

    assert_eq!((stand, refused), (64, 137));
    network.uplink(&running, fteid.teid, 100);
    network.downlink(&running, 100);
    running.stop();
}

#[test]
fn rows_for_usage_rules_end_at_their_bound() {
    let mut network = Network::new(34);
    network.config.max_sessions = 64;
    network.config.pfcp.as_mut().unwrap().max_urrs = 8;
    let running = network.start();
    network.associate();
    for number in 0..8 {
        let plan = plan(&network, number);
        network.establish(&plan);
    }

    let (cause, ..) = network.refusal(plan(&network, 8).rules());

    assert_eq!(cause, CauseCode::NO_RESOURCES_AVAILABLE);
    running.stop();
}

#[test]
fn a_flood_of_rules_is_refused_as_a_whole_and_the_session_goes_on() {
    let mut network = Network::new(35);
    let running = network.start();
    network.associate();
    let (session, fteid) = network.establish(&network.plan());
    let rules = network.plan().rules();

    let pdrs = (100..).take(200).map(|id| {
        let mut pdr = rules.create_pdrs[1].clone();
        pdr.id = PdrId::new(id);
        pdr
    });
    let fars = (100..).take(200).map(|id| {
        let mut far = rules.create_fars[1].clone();
        far.id = FarId::new(id);
        far
    });
    let urrs = (100..).take(100).map(|id| {
        let mut urr = rules.create_urrs[0].clone();
        urr.id = UrrId::new(id);
        urr
    });
    let floods = [
        SessionChange {
            create_pdrs: pdrs.collect(),
            ..SessionChange::default()
        },
        SessionChange {
            create_fars: fars.collect(),
            ..SessionChange::default()
        },
        SessionChange {
            create_urrs: urrs.collect(),
            ..SessionChange::default()
        },
    ];
    for flood in floods {
        let now = network.now();
        let request = super::network::modification(flood);
        network.smf.modify(now, session, request);
        let cause = network.until(|happened| match happened {
            Happened::Refused { cause, .. } => Some(*cause),
            Happened::Modified { .. } => panic!("{happened:?}"),
            _ => None,
        });
        assert_eq!(cause, CauseCode::NO_RESOURCES_AVAILABLE);
    }

    network.uplink(&running, fteid.teid, 100);
    assert_eq!(network.delete(session).len(), 1);
    running.stop();
}
