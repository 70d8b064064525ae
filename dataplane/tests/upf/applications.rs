//! Usage of applications: packets that filters or stated applications (PFDs) name are measured by a
//! rule of their own, everything else by the usual one.
//!
//! What an application's filter says of URLs and domain names detects nothing here: such a label is
//! anybody's to write. Bytes of a content are measured by proof instead (`tests/n4`,
//! `tests/pipeline.rs`).

use qlink_pfcp::model::{ApplicationId, Pdi, Precedence, SessionChange, UrrId};
use qlink_pfcp::sim::SessionPlan;
use qlink_pfcp::wire::{ApplicationPfds, CauseCode, Pfd, PfdFlow};

use crate::rig::{Lab, ORIGIN_V4, ORIGIN_V6, Opened, Subscriber, filter, flow, scenario};

/// Measures everything.
pub(crate) const ALL: UrrId = SessionPlan::URRS[0];
/// Measures what was detected.
pub(crate) const DETECTED: UrrId = UrrId::new(7);

fn video() -> ApplicationId {
    ApplicationId(b"video".to_vec())
}

/// The usual rules and, in front of them, two that detect something in both directions and have a
/// usage rule of their own.
pub(crate) fn with_detection(
    mut rules: SessionChange,
    (precedence, urr): (u32, UrrId),
    detect: impl Fn(&mut Pdi),
) -> SessionChange {
    let usual: Vec<_> = rules.create_pdrs.iter().take(2).cloned().collect();
    for mut pdr in usual {
        pdr.id = qlink_pfcp::model::PdrId::new(pdr.id.get() + u16::try_from(precedence).unwrap());
        pdr.precedence = Precedence::new(precedence);
        detect(&mut pdr.pdi);
        pdr.urrs = vec![urr];
        rules.create_pdrs.push(pdr);
    }
    let mut usage = rules.create_urrs[0].clone();
    usage.id = urr;
    rules.create_urrs.push(usage);
    rules
}

fn stated(flows: &[&str]) -> Vec<ApplicationPfds> {
    let pfd = |text: &&str| Pfd {
        flow: Some(PfdFlow {
            rule: flow(text),
            text: (*text).to_owned(),
        }),
        ..Pfd::default()
    };
    vec![ApplicationPfds {
        application: video(),
        pfds: flows.iter().map(pfd).collect(),
    }]
}

/// A session in which the application has a usage rule of its own.
fn open_with_video(lab: &mut Lab, subscriber: &Subscriber) -> Opened {
    let rules = with_detection(subscriber.rules(), (100, DETECTED), |pdi| {
        pdi.application = Some(video());
    });
    lab.open(subscriber, rules)
}

/// What the kernel carried while `traffic` ran, uplink and downlink.
fn carried(lab: &mut Lab, traffic: impl FnOnce(&mut Lab)) -> (u64, u64) {
    let before = lab.settled();
    traffic(lab);
    let after = lab.settled();
    (after.rx - before.rx, after.tx - before.tx)
}

#[test]
fn an_application_by_address_is_measured_apart_over_both_versions() {
    scenario(|lab| {
        lab.smf.state(stated(&[
            "permit out ip from 198.18.0.2 to assigned",
            "permit out ip from 2001:db8:6::2 to assigned",
        ]));
        let one = Subscriber::new(9);
        let opened = open_with_video(lab, &one);

        let other = carried(lab, |lab| {
            lab.fetch(&one, ORIGIN_V4[0], 100_000);
            lab.fetch(&one, ORIGIN_V6[0], 100_000);
        });
        let of_application = carried(lab, |lab| {
            lab.fetch(&one, ORIGIN_V4[1], 150_000);
            assert_eq!(lab.echo((&one, ORIGIN_V4[1]), 10, 100), 10);
            lab.fetch(&one, ORIGIN_V6[1], 150_000);
        });

        lab.smf.delete(opened.session);
        assert_eq!(lab.smf.volume(opened.session, ALL), other);
        assert_eq!(lab.smf.volume(opened.session, DETECTED), of_application);
    });
}

#[test]
fn an_application_by_port_is_measured_apart() {
    scenario(|lab| {
        lab.smf
            .state(stated(&["permit out 17 from any 7000 to assigned"]));
        let one = Subscriber::new(9);
        let opened = open_with_video(lab, &one);

        let other = carried(lab, |lab| lab.fetch(&one, ORIGIN_V4[0], 50_000));
        let of_application = carried(lab, |lab| {
            for origin in [ORIGIN_V4[0], ORIGIN_V6[1]] {
                assert_eq!(lab.echo((&one, origin), 20, 400), 20);
            }
        });

        lab.smf.delete(opened.session);
        assert_eq!(lab.smf.volume(opened.session, ALL), other);
        assert_eq!(lab.smf.volume(opened.session, DETECTED), of_application);
    });
}

#[test]
fn filters_in_a_rule_are_measured_apart() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let rules = with_detection(one.rules(), (100, DETECTED), |pdi| {
            pdi.filters = vec![filter("permit out 6 from 198.18.0.0/30 80 to assigned")];
        });
        let opened = lab.open(&one, rules);

        let detected = carried(lab, |lab| lab.post(&one, ORIGIN_V4[1], 80_000));
        let other = carried(lab, |lab| {
            assert_eq!(lab.echo((&one, ORIGIN_V4[1]), 20, 400), 20);
            lab.fetch(&one, ORIGIN_V6[1], 20_000);
        });

        lab.smf.delete(opened.session);
        assert_eq!(lab.smf.volume(opened.session, ALL), other);
        assert_eq!(lab.smf.volume(opened.session, DETECTED), detected);
    });
}

#[test]
fn a_rule_of_higher_precedence_takes_its_packets_before_an_application_does() {
    scenario(|lab| {
        lab.smf
            .state(stated(&["permit out ip from 198.18.0.0/24 to assigned"]));
        let one = Subscriber::new(9);
        let bypass = UrrId::new(8);
        let rules = with_detection(one.rules(), (100, DETECTED), |pdi| {
            pdi.application = Some(video());
        });
        let rules = with_detection(rules, (50, bypass), |pdi| {
            pdi.filters = vec![
                filter("permit out 17 from any 7000 to assigned"),
                filter("permit out ip from 198.18.0.2 to assigned"),
            ];
        });
        let opened = lab.open(&one, rules);

        let of_application = carried(lab, |lab| lab.fetch(&one, ORIGIN_V4[0], 60_000));
        let bypassed = carried(lab, |lab| {
            assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 20, 400), 20);
            lab.fetch(&one, ORIGIN_V4[1], 60_000);
        });

        lab.smf.delete(opened.session);
        assert_eq!(lab.smf.volume(opened.session, DETECTED), of_application);
        assert_eq!(lab.smf.volume(opened.session, bypass), bypassed);
        assert_eq!(lab.smf.volume(opened.session, ALL), (0, 0));
    });
}

#[test]
fn an_application_changes_for_sessions_that_stand() {
    scenario(|lab| {
        let [first, second] = [
            "permit out ip from 198.18.0.1 to assigned",
            "permit out ip from 198.18.0.2 to assigned",
        ];
        lab.smf.state(stated(&[first]));
        let one = Subscriber::new(9);
        let opened = open_with_video(lab, &one);

        let before = carried(lab, |lab| lab.fetch(&one, ORIGIN_V4[0], 30_000));
        lab.smf.state(stated(&[second]));
        let other = carried(lab, |lab| lab.fetch(&one, ORIGIN_V4[0], 40_000));
        let after = carried(lab, |lab| lab.fetch(&one, ORIGIN_V4[1], 50_000));
        // Without filters it detects nothing any more.
        lab.smf.state(stated(&[]));
        let gone = carried(lab, |lab| lab.fetch(&one, ORIGIN_V4[1], 60_000));

        lab.smf.delete(opened.session);
        let sum = |one: (u64, u64), other: (u64, u64)| (one.0 + other.0, one.1 + other.1);
        let session = opened.session;
        assert_eq!(lab.smf.volume(session, DETECTED), sum(before, after));
        assert_eq!(lab.smf.volume(session, ALL), sum(other, gone));
    });
}

#[test]
fn a_url_alone_detects_nothing_and_an_unknown_application_is_refused() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let rules = with_detection(one.rules(), (100, DETECTED), |pdi| {
            pdi.application = Some(video());
        });
        let refused = lab.smf.try_establish(rules.clone());
        assert_eq!(refused.err(), Some(CauseCode::UNKNOWN_APPLICATION_ID));
        let by_url = Pfd {
            url: Some(b"http://198.18.0.1/.*".to_vec()),
            ..Pfd::default()
        };
        lab.smf.state(vec![ApplicationPfds {
            application: video(),
            pfds: vec![by_url],
        }]);
        let opened = lab.open(&one, rules);

        let all = carried(lab, |lab| lab.fetch(&one, ORIGIN_V4[0], 50_000));

        lab.smf.delete(opened.session);
        assert_eq!(lab.smf.volume(opened.session, ALL), all);
        assert_eq!(lab.smf.volume(opened.session, DETECTED), (0, 0));
    });
}
