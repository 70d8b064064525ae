//! Many sessions: side by side, in each other's way, and one after the other.

use std::time::Duration;

use qlink_pfcp::model::{FTeid, FarChanges, LocalFTeid, SessionChange, UrrId};
use qlink_pfcp::wire::CauseCode;
use qlink_types::ids::Teid;

use crate::rig::{
    Bearer, Control, GATEWAY, Lab, ORIGIN_V4, ORIGIN_V6, SMFS, Subscriber, downlink_far,
    full_counts, scenario, scenario_with,
};

const URR: UrrId = UrrId::new(1);

#[test]
fn two_subscribers_at_once_are_measured_each_by_himself() {
    scenario_with(
        |config| config.workers = 2,
        |lab| {
            let (one, two) = (Subscriber::new(9), Subscriber::new(10));
            let first = lab.open(&one, one.rules());
            let second = lab.open(&two, two.rules());
            let before = lab.n6();
            let words = |who: &Subscriber, to, count: &str, size: &str| {
                let own = who.like(to).to_string();
                ["echo", &own, &to.to_string(), count, size].map(str::to_owned)
            };

            let start = |lab: &Lab, words: [String; 5]| {
                lab.start_agent(&words.each_ref().map(String::as_str))
            };
            let running = [
                start(lab, words(&one, ORIGIN_V4[0], "300", "300")),
                start(lab, words(&two, ORIGIN_V4[0], "200", "700")),
                start(lab, words(&two, ORIGIN_V6[0], "100", "50")),
            ];
            for child in running {
                lab.end_agent(child);
            }

            let after = lab.settled();
            lab.smf.delete(first.session);
            lab.smf.delete(second.session);
            let (one, two) = (300 * 328, 200 * 728 + 100 * 98);
            assert_eq!(lab.smf.volume(first.session, URR), (one, one));
            assert_eq!(lab.smf.volume(second.session, URR), (two, two));
            assert_eq!(after.rx - before.rx, one + two);
            assert_eq!(after.tx - before.tx, one + two);
        },
    );
}

/// A session that asks for what another has is refused, and the other stays as it is.
fn refused_beside(lab: &mut Lab, rules: &SessionChange) {
    let one = Subscriber::new(9);
    let opened = lab.open(&one, one.rules());
    let before = lab.n6();
    for _ in 0..100 {
        let cause = lab.smf.try_establish(rules.clone()).err();
        assert_eq!(cause, Some(CauseCode::RULE_FAILURE));
    }

    assert_eq!(lab.sessions(), 1);
    assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
    lab.end_exactly(opened.session, before);
}

#[test]
fn a_subscribers_address_is_given_to_one_session() {
    scenario(|lab| refused_beside(lab, &Subscriber::new(9).rules()));
}

#[test]
fn a_subscribers_address_is_given_to_one_session_also_without_usage_rules() {
    scenario(|lab| {
        let mut rules = Subscriber::new(9).rules();
        rules.create_urrs.clear();
        for pdr in &mut rules.create_pdrs {
            pdr.urrs.clear();
        }
        refused_beside(lab, &rules);
    });
}

/// Rules whose uplink tunnel the SMF has chosen.
fn rules_with_tunnel(one: &Subscriber, teid: Teid) -> SessionChange {
    let mut rules = one.rules();
    let std::net::IpAddr::V4(v4) = GATEWAY else {
        unreachable!("it is written so");
    };
    rules.create_pdrs[0].pdi.local_fteid = Some(LocalFTeid::Fixed(FTeid {
        teid,
        v4: Some(v4),
        v6: None,
    }));
    rules
}

#[test]
fn a_tunnel_that_an_smf_chose_is_given_to_one_session() {
    scenario(|lab| {
        let (one, two) = (Subscriber::new(9), Subscriber::new(10));
        let taken = Teid::new(0x0123_4567);
        lab.smf.establish(rules_with_tunnel(&one, taken));

        let refused = lab.smf.try_establish(rules_with_tunnel(&two, taken));
        assert_eq!(refused.err(), Some(CauseCode::RULE_FAILURE));
        let other = Teid::new(0x0123_4571);
        lab.smf.establish(rules_with_tunnel(&two, other));

        for (subscriber, uplink) in [(one, taken), (two, other)] {
            let own = [ORIGIN_V4[0], ORIGIN_V6[0]].map(|to| subscriber.like(to));
            lab.attach_by(
                &subscriber,
                Bearer {
                    own: own.to_vec(),
                    uplink,
                    downlink: subscriber.downlink,
                    station: 0,
                },
            );
            assert_eq!(lab.echo((&subscriber, ORIGIN_V4[0]), 5, 100), 5);
        }
    });
}

#[test]
fn two_smfs_use_the_same_numbers_for_different_sessions() {
    scenario(|lab| {
        let (one, two) = (Subscriber::new(9), Subscriber::new(10));
        let mut other = Control::new(SMFS[1], 1_700_000_001);
        other.associate();
        let first = lab.smf.establish(one.rules());
        let second = other.establish(two.rules());
        assert_eq!(first.session, second.session);
        lab.attach(&one, &first);
        lab.attach(&two, &second);

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 100), 10);
        assert_eq!(lab.echo((&two, ORIGIN_V4[0]), 20, 200), 20);

        lab.smf.delete(first.session);
        other.delete(second.session);
        assert_eq!(lab.smf.volume(first.session, URR), (1280, 1280));
        assert_eq!(other.volume(second.session, URR), (20 * 228, 20 * 228));
    });
}

/// What may not grow.
#[derive(Debug)]
struct Size {
    memory: u64,
    journal: u64,
    sessions: usize,
    urrs: usize,
}

/// How long answers are remembered and numbers rest.
const REST: Duration = Duration::from_secs(32);

/// What stands once nothing that only waits is left, where the counts are full ones.
fn size(lab: &mut Lab) -> Size {
    if full_counts() {
        lab.smf.pump(REST);
    }
    // The last guest stays in the arena until its end is durable.
    let deadline = std::time::Instant::now() + REST;
    while lab.sessions() > 1 && std::time::Instant::now() < deadline {
        lab.smf.pump(Duration::from_millis(10));
    }
    Size {
        memory: lab.plane_memory(),
        journal: lab.journal_bytes(),
        sessions: lab.sessions(),
        urrs: lab.urr_rows(),
    }
}

/// Room for each session of the loop: a number that was given back rests before it is given again.
fn room(config: &mut qlink_dataplane::DataplaneConfig) {
    config.max_sessions = 4096;
    config.pfcp.as_mut().unwrap().max_urrs = 64;
}

#[test]
fn sessions_come_and_go_under_traffic_without_growth() {
    scenario_with(room, |lab| {
        let rounds = if full_counts() { 1000 } else { 100 };
        let (stays, guest) = (Subscriber::new(9), Subscriber::new(10));
        let opened = lab.open(&stays, stays.rules());
        let before = lab.n6();
        let own = stays.like(ORIGIN_V4[0]).to_string();
        let forever = ["push", &own, "198.18.0.1", "1000000", "200", "2000"];
        let mut traffic = lab.start_agent(&forever);
        let mut guests = (0, 0);
        let mut round = |lab: &mut Lab, number: u32| {
            let session = lab.open(&guest, guest.rules());
            if number.is_multiple_of(20) {
                assert_eq!(lab.echo((&guest, ORIGIN_V4[0]), 1, 100), 1);
            }
            lab.smf.delete(session.session);
            let usage = lab.smf.volume(session.session, URR);
            guests = (guests.0 + usage.0, guests.1 + usage.1);
        };

        // Twice, so that what is taken once, as for a journal that is written anew, is taken.
        for number in 0..2 * rounds {
            round(lab, number);
        }
        let first = size(lab);
        for number in 0..rounds {
            round(lab, number);
        }
        let last = size(lab);
        traffic.kill().unwrap();
        traffic.wait().unwrap();
        let carried = lab.settled();

        assert_eq!((first.sessions, last.sessions), (1, 1));
        // The last guest's report waits until its answer is acknowledged or forgotten.
        assert!(last.urrs <= 2, "{last:?}");
        let grown = last.memory.saturating_sub(first.memory);
        assert!(grown < 256 << 10, "{grown} bytes more: {first:?} {last:?}");
        // It is written anew when it has outgrown what it says.
        assert!(last.journal < 2 << 20, "{last:?}");
        println!("before {rounds} rounds {first:?}, after them {last:?}");
        lab.smf.delete(opened.session);
        let usage = lab.smf.volume(opened.session, URR);
        assert_eq!(usage.0 + guests.0, carried.rx - before.rx);
        assert_eq!(usage.1 + guests.1, carried.tx - before.tx);
        lab.smf.pump(Duration::from_millis(50));
        assert_eq!(lab.sessions(), 0);
    });
}

/// The bench of what a change costs the packet path is its last line: CPU time of the worker, which
/// is woken for each change here, as it is not under load.
#[test]
fn a_session_is_changed_again_and_again_under_traffic_and_nothing_is_lost() {
    scenario(|lab| {
        let changes = if full_counts() { 2000 } else { 200 };
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();
        let update = |round: u32| FarChanges {
            transport_marking: Some((u8::from(round.is_multiple_of(2)), 0xff)),
            ..downlink_far(0, one.downlink)
        };

        let worker = lab.plane_cpu_ns("qlink-worker");
        for round in 0..changes {
            lab.smf.forward(opened.session, update(round));
        }
        let spent = (lab.plane_cpu_ns("qlink-worker") - worker) / u64::from(changes);
        let own = one.like(ORIGIN_V4[0]).to_string();
        let mut traffic = lab.start_agent(&["push", &own, "198.18.0.1", "1000", "200", "500"]);
        let mut round = 0;
        while traffic.try_wait().unwrap().is_none() {
            lab.smf.forward(opened.session, update(round));
            round += 1;
        }
        lab.end_agent(traffic);

        assert_eq!(lab.settled().rx - before.rx, 1000 * 228);
        assert!(round > 10, "{round} changes under traffic");
        lab.end_exactly(opened.session, before);
        println!("{spent} ns of the worker for each of {changes} changes");
    });
}
