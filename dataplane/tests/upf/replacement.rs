//! Detection rules that are replaced while packets are on their way: no packet is lost between the
//! old rules and the new ones, and none is counted twice.

use std::process::Child;
use std::time::Duration;

use qlink_pfcp::model::{ApplicationId, LocalFTeid, Pdr, PdrId, SessionChange};
use qlink_pfcp::wire::{ApplicationPfds, Pfd, PfdFlow};

use crate::applications::{ALL, DETECTED, with_detection};
use crate::rig::{Lab, ORIGIN_V4, ORIGIN_V6, Opened, Subscriber, flow, scenario};

/// Replaces all detection rules by equal ones of other ids, every 20 ms while `traffic` runs; how
/// often. With each replacement `change` may turn the rules into others.
fn replace_during(
    lab: &mut Lab,
    opened: &Opened,
    rules: &SessionChange,
    mut traffic: Child,
    change: impl Fn(u16, &mut Vec<Pdr>),
) -> u16 {
    let mut standing: Vec<PdrId> = rules.create_pdrs.iter().map(|pdr| pdr.id).collect();
    let mut round = 0;
    while traffic.try_wait().unwrap().is_none() {
        round += 1;
        let mut pdrs = rules.create_pdrs.clone();
        for pdr in &mut pdrs {
            // Ids take turns, the tunnel stays.
            pdr.id = PdrId::new(pdr.id.get() + 1000 * (round % 2));
            if let Some(local) = &mut pdr.pdi.local_fteid {
                *local = LocalFTeid::Fixed(opened.uplink());
            }
        }
        change(round, &mut pdrs);
        let next = pdrs.iter().map(|pdr| pdr.id).collect();
        lab.smf.modify(
            opened.session,
            SessionChange {
                remove_pdrs: std::mem::replace(&mut standing, next),
                create_pdrs: pdrs,
                ..SessionChange::default()
            },
        );
        lab.smf.pump(Duration::from_millis(20));
    }
    lab.end(traffic);
    round
}

fn no_packet_found_no_rule(lab: &Lab) {
    for reason in ["no_pdr", "teid_unknown", "ue_unknown"] {
        assert_eq!(lab.drops(reason), 0, "{reason}");
    }
}

#[test]
fn http_is_measured_exactly_while_rules_are_replaced() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let rules = one.rules();
        let opened = lab.open(&one, rules.clone());
        let before = lab.n6();

        let traffic = lab.start_agent(&["drip", "198.18.0.1", "300000", "6000", "20"]);
        let rounds = replace_during(lab, &opened, &rules, traffic, |_, _| {});

        assert!(rounds >= 10, "{rounds} replacements");
        no_packet_found_no_rule(lab);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn datagrams_are_measured_exactly_while_rules_are_replaced() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let rules = one.rules();
        let opened = lab.open(&one, rules.clone());
        let before = lab.n6();

        let (own, origin) = (one.like(ORIGIN_V6[0]).to_string(), ORIGIN_V6[0].to_string());
        let traffic = lab.start_agent(&["push", &own, &origin, "1000", "300", "1000"]);
        replace_during(lab, &opened, &rules, traffic, |_, _| {});

        let carried = lab.settled();
        assert_eq!(carried.rx - before.rx, 1000 * 348, "a packet was lost");
        no_packet_found_no_rule(lab);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn an_application_that_comes_and_goes_shifts_usage_and_loses_none() {
    scenario(|lab| {
        let video = ApplicationId(b"video".to_vec());
        let text = "permit out ip from 198.18.0.0/24 to assigned";
        lab.smf.state(vec![ApplicationPfds {
            application: video.clone(),
            pfds: vec![Pfd {
                flow: Some(PfdFlow {
                    rule: flow(text),
                    text: text.to_owned(),
                }),
                ..Pfd::default()
            }],
        }]);
        let one = Subscriber::new(9);
        let rules = with_detection(one.rules(), (100, DETECTED), |pdi| {
            pdi.application = Some(video.clone());
        });
        let opened = lab.open(&one, rules.clone());
        let before = lab.n6();

        let origin = ORIGIN_V4[0].to_string();
        let traffic = lab.start_agent(&["drip", &origin, "300000", "6000", "20"]);
        replace_during(lab, &opened, &rules, traffic, |round, pdrs| {
            if round % 2 == 1 {
                pdrs.truncate(2);
            }
        });

        let after = lab.settled();
        lab.smf.delete(opened.session);
        let session = opened.session;
        let (all, detected) = (
            lab.smf.volume(session, ALL),
            lab.smf.volume(session, DETECTED),
        );
        assert!(all.0 > 0 && detected.0 > 0, "{all:?} {detected:?}");
        let carried = (after.rx - before.rx, after.tx - before.tx);
        assert_eq!((all.0 + detected.0, all.1 + detected.1), carried);
        no_packet_found_no_rule(lab);
    });
}
