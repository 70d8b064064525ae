//! Plain HTTP that the gateway answers in the server's place, asked by curl on a real kernel.
//!
//! Unlike UPG's, our answers are nobody's usage: nothing of them crossed the network. What goes to
//! another server instead is measured as what was asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_pfcp::model::{
    ApplyAction, Destination, Far, FarId, Forwarding, Interface, PdrChanges, Redirect,
    SessionChange, Trigger, UrrChanges, UrrId,
};
use qlink_pfcp::sim::SessionPlan;

use crate::rig::{Lab, ORIGIN_V4, ORIGIN_V6, Opened, Subscriber, scenario, url, volume};

const URR: UrrId = UrrId::new(1);
const SIGN_IN: &str = "http://198.18.0.2/sign-in?back=1";
const TO_SIGN_IN: FarId = FarId::new(9);

/// Addresses that nobody has.
const NOWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 0x80)),
];

fn to_sign_in(id: FarId) -> Far {
    to(id, Redirect::Url(SIGN_IN.to_owned()))
}

/// To the origin, whatever was asked for.
fn to_origin(id: FarId) -> Far {
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (ORIGIN_V4[0], ORIGIN_V6[0]) else {
        unreachable!("it is written so");
    };
    let destination = Destination {
        v4: Some(v4),
        v6: Some(v6),
        port: None,
    };
    to(id, Redirect::To(destination))
}

fn to(id: FarId, redirect: Redirect) -> Far {
    Far {
        id,
        action: ApplyAction::Forward { duplicate: false },
        forwarding: Some(Forwarding {
            destination: Interface::Core,
            network_instance: None,
            outer: None,
            redirect: Some(redirect),
            transport_marking: None,
        }),
        duplicating: Vec::new(),
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

/// Rules of which the uplink goes to the origin.
fn elsewhere(one: &Subscriber) -> SessionChange {
    let mut rules = one.rules();
    rules.create_fars[0] = to_origin(SessionPlan::FARS[0]);
    rules
}

#[test]
fn every_kind_of_traffic_finds_another_server_and_is_measured_as_if_it_had_not() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        lab.let_subscribers_fragment();
        let opened = lab.open(&one, elsewhere(&one));
        let before = lab.n6();

        for nowhere in NOWHERE {
            lab.fetch(&one, nowhere, 300_000);
            lab.post(&one, nowhere, 100_000);
            assert_eq!(lab.echo((&one, nowhere), 10, 100), 10, "{nowhere}");
            // In fragments, both ways; over IPv6 the first one teaches its sender the path's MTU.
            lab.echo((&one, nowhere), 1, 4_000);
            assert_eq!(lab.echo((&one, nowhere), 3, 4_000), 3, "{nowhere}");
            let own = one.like(nowhere).to_string();
            let to = nowhere.to_string();
            let words = ["ping", "-c", "5", "-i", "0.02", "-W", "2", "-I", &own, &to];
            assert!(lab.ue(&words).contains(" 0% packet loss"));
        }
        // The origin itself is there as well.
        lab.fetch(&one, ORIGIN_V4[0], 100_000);

        assert!(lab.totals().worker["redirected_packets"] > 500);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_subscriber_that_asked_elsewhere_learns_the_mtu_of_the_path() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        lab.open(&one, elsewhere(&one));
        lab.set_origin_mtu(1_280);

        for nowhere in NOWHERE {
            // Its kernel believes an error about what it sent, to whom it sent it, alone.
            lab.post(&one, nowhere, 200_000);
        }
    });
}

#[test]
fn a_connection_to_elsewhere_goes_on_through_kills_of_the_gateway() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        lab.open(&one, elsewhere(&one));

        let to = NOWHERE[0].to_string();
        let upload = lab.start_agent(&["drip", &to, "2000000", "50000", "20"]);
        for _ in 0..2 {
            lab.smf.pump(std::time::Duration::from_millis(150));
            lab.kill_plane();
            lab.start_plane();
        }

        assert_eq!(lab.end_agent(upload), "2000000", "the origin has all of it");
    });
}
