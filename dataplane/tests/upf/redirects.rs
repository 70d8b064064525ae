//! Plain HTTP that the gateway answers in the server's place, asked by curl on a real kernel.
//!
//! Unlike UPG's, our answers are nobody's usage: nothing of them crossed the network.

use std::net::IpAddr;

use qlink_pfcp::model::{
    ApplyAction, Far, FarId, Forwarding, Interface, PdrChanges, Redirect, SessionChange, Trigger,
    UrrChanges, UrrId,
};
use qlink_pfcp::sim::SessionPlan;

use crate::rig::{Lab, ORIGIN_V4, ORIGIN_V6, Opened, Subscriber, scenario, url, volume};

const URR: UrrId = UrrId::new(1);
const SIGN_IN: &str = "http://198.18.0.2/sign-in?back=1";
const TO_SIGN_IN: FarId = FarId::new(9);

fn to_sign_in(id: FarId) -> Far {
    Far {
        id,
        action: ApplyAction::Forward { duplicate: false },
        forwarding: Some(Forwarding {
            destination: Interface::Core,
            network_instance: None,
            outer: None,
            redirect: Some(Redirect::Url(SIGN_IN.to_owned())),
            transport_marking: None,
        }),
        bar: None,
    }
}

/// The usual rules and one to redirect by, which nothing uses yet.
fn rules(one: &Subscriber, quota: Option<u64>) -> SessionChange {
    let mut plan = one.plan();
    plan.quota = quota;
    let mut rules = one.rules_of(&plan);
    rules.create_fars.push(to_sign_in(TO_SIGN_IN));
    rules
}

/// Sends the uplink by another forwarding rule.
fn uplink_by(lab: &mut Lab, opened: &Opened, far: FarId) {
    lab.smf.modify(
        opened.session,
        SessionChange {
            update_pdrs: vec![PdrChanges {
                id: SessionPlan::PDRS[0],
                far: Some(far),
                ..PdrChanges::default()
            }],
            ..SessionChange::default()
        },
    );
}

fn is_redirected(lab: &mut Lab, one: &Subscriber, origin: IpAddr) {
    let own = one.like(origin).to_string();
    let answer = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"];
    let asked = url(origin, 1000);
    let said = lab.curl(&own, &[&answer, [asked.as_str()].as_slice()].concat());
    assert_eq!(said, format!("302 {SIGN_IN}"), "{origin}");
}

#[test]
fn a_browser_is_redirected_over_both_versions_and_nobody_is_charged() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, rules(&one, None));
        let before = lab.n6();

        uplink_by(lab, &opened, TO_SIGN_IN);
        for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
            is_redirected(lab, &one, origin);
        }
        lab.send((&one, ORIGIN_V4[0]), 5);
        lab.until_dropped("not_redirectable", 5);

        assert_eq!(lab.settled(), before, "something passed");
        uplink_by(lab, &opened, SessionPlan::FARS[0]);
        lab.fetch(&one, ORIGIN_V4[0], 50_000);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_browser_is_redirected_over_a_network_that_loses_packets() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, rules(&one, None));
        lab.lose(10);
        uplink_by(lab, &opened, TO_SIGN_IN);

        for _ in 0..10 {
            is_redirected(lab, &one, ORIGIN_V4[0]);
        }
    });
}

#[test]
fn a_redirection_comes_and_goes_and_leaves_no_trace() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, rules(&one, None));
        let before = lab.n6();

        for round in 0..5 {
            uplink_by(lab, &opened, TO_SIGN_IN);
            is_redirected(lab, &one, ORIGIN_V4[0]);
            uplink_by(lab, &opened, SessionPlan::FARS[0]);
            lab.fetch(&one, ORIGIN_V4[0], 10_000 + round);
        }

        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn who_has_used_up_a_quota_is_redirected_until_there_is_a_new_one() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let mut rules = rules(&one, Some(100_000));
        rules.create_urrs[0].quota_action = Some(TO_SIGN_IN);
        let opened = lab.open(&one, rules);
        let before = lab.n6();
        let own = one.like(ORIGIN_V4[0]).to_string();
        lab.agent(&["blast", &own, "198.18.0.1", "200", "1000"]);
        lab.smf.reported(opened.session, URR, Trigger::VolumeQuota);
        let used = lab.settled().rx - before.rx;
        assert!(used <= 100_000, "{used}");

        is_redirected(lab, &one, ORIGIN_V4[0]);
        assert_eq!(lab.settled().rx - before.rx, used, "something passed");
        lab.smf.regrant(
            opened.session,
            UrrChanges {
                id: URR,
                volume_quota: volume(1_000_000),
                ..UrrChanges::default()
            },
        );
        lab.fetch(&one, ORIGIN_V4[0], 50_000);

        lab.end_exactly(opened.session, before);
    });
}
