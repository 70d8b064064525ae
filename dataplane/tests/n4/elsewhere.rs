//! Packets that go to another destination than they asked for, and answers that come back as if they
//! had not.

use std::net::SocketAddr;

use qlink_meter::ArenaSet;
use qlink_pfcp::model::{
    Destination, FailedRule, FarChanges, Interface, Redirect, SdfFilter, SessionChange, UrrId,
};
use qlink_pfcp::sim::SessionPlan;
use qlink_pfcp::wire::{CauseCode, IeType, parse_flow};
use qlink_pfcp::{Answer, RedirectRow, Request};
use qlink_types::ids::Teid;
use qlink_wire::{gpdu_header, parse_gtpu};

use super::films::ask;
use super::network::{GNB_TEID, Network, Running, SERVER, UE, datagram, receive, volume};

const OTHER_SERVER: &str = "192.0.2.10:53";
const PORTAL: &str = "203.0.113.80:5353";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn portal() -> Redirect {
    let SocketAddr::V4(portal) = address(PORTAL) else {
        panic!("an IPv4 portal");
    };
    Redirect::To(Destination {
        v4: Some(*portal.ip()),
        v6: None,
        port: Some(portal.port()),
    })
}

/// The plan's rules, whose uplink goes elsewhere.
fn redirected(network: &Network, redirect: Redirect) -> SessionChange {
    let mut rules = network.plan().rules();
    let forwarding = rules.create_fars[0].forwarding.as_mut().unwrap();
    forwarding.redirect = Some(redirect);
    rules
}

/// Sends a datagram of the subscriber's; the port under which the portal has it.
fn ask_portal(network: &Network, running: &Running, teid: Teid, (from, to): (u16, &str)) -> u16 {
    let inner = datagram((UE, from).into(), address(to), 100);
    let length = u16::try_from(inner.len()).unwrap();
    let message = [&gpdu_header(teid.get(), length)[..], &inner].concat();
    network.gnb.send_to(&message, running.info.n3).unwrap();
    let left = receive(&network.origin);
    let port = u16::from_be_bytes([left[20], left[21]]);
    assert_eq!(left, datagram((UE, port).into(), address(PORTAL), 100));
    port
}

/// The portal's answer, as the subscriber gets it from `shown`.
fn answer(network: &Network, running: &Running, (port, back): (u16, u16), shown: &str) {
    let inner = datagram(address(PORTAL), (UE, port).into(), 50);
    network.origin.send_to(&inner, running.info.n6).unwrap();
    let message = receive(&network.gnb);
    let gtpu = parse_gtpu(&message).unwrap();
    let expected = datagram(address(shown), (UE, back).into(), 50);
    assert_eq!((gtpu.teid, gtpu.payload), (GNB_TEID.get(), &*expected));
}

/// What the process says about the only session's flows.
fn rows(network: &Network) -> Vec<RedirectRow> {
    let sessions = ArenaSet::open(&network.config.arena).unwrap().sessions();
    let live = sessions.iter().find(|session| session.is_live()).unwrap();
    let session = live.identity.session;
    match ask(network, &Request::Charges { session }) {
        Answer::Charges { charges } => charges.redirects.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_datagram_goes_elsewhere_and_its_answer_comes_from_where_it_was_sent() {
    let mut network = Network::new(62);
    let running = network.start();
    network.associate();
    // The uplink is measured as what was asked for.
    let mut rules = redirected(&network, portal());
    rules.create_pdrs[0].pdi.filters = vec![SdfFilter {
        rule: Some(parse_flow("permit out ip from 192.0.2.0/24 to assigned").unwrap()),
        text: "permit out ip from 192.0.2.0/24 to assigned".to_owned(),
        ..SdfFilter::default()
    }];
    rules.create_pdrs[1].pdi.filters = rules.create_pdrs[0].pdi.filters.clone();
    let (session, fteid) = network.establish_rules(rules);

    let first = ask_portal(&network, &running, fteid.teid, (40_000, SERVER));
    let second = ask_portal(&network, &running, fteid.teid, (40_000, OTHER_SERVER));

    assert_eq!(first, 40_000);
    assert_ne!(second, first, "two flows would be one");
    answer(&network, &running, (first, 40_000), SERVER);
    answer(&network, &running, (second, 40_000), OTHER_SERVER);
    let row = |asked: &str, port_there| RedirectRow {
        protocol: 17,
        ue_port: 40_000,
        asked: address(asked),
        to: address(PORTAL),
        port_there,
    };
    let expected = [row(SERVER, first), row(OTHER_SERVER, second)];
    assert_eq!(rows(&network), expected);
    // An answer that nobody asked for meets no rule: what the portal says itself is not the server's.
    let inner = datagram(address(PORTAL), (UE, 9).into(), 50);
    network.origin.send_to(&inner, running.info.n6).unwrap();
    network.until_dropped("no_pdr");
    assert_eq!(volume(&network.delete(session)), (2 * 128, 2 * 78));
    running.stop();
}

#[test]
fn flows_that_went_elsewhere_come_back_after_a_restart() {
    let mut network = Network::new(63);
    let running = network.start();
    network.associate();
    let rules = redirected(&network, portal());
    let (session, fteid) = network.establish_rules(rules);
    let first = ask_portal(&network, &running, fteid.teid, (40_000, SERVER));
    let second = ask_portal(&network, &running, fteid.teid, (40_000, OTHER_SERVER));
    let before = rows(&network);
    running.stop();

    let running = network.start();

    assert_eq!(rows(&network), before);
    answer(&network, &running, (second, 40_000), OTHER_SERVER);
    answer(&network, &running, (first, 40_000), SERVER);
    network.delete(session);
    running.stop();
    // Another session there has none of them.
    let running = network.start();
    let rules = redirected(&network, portal());
    network.establish_rules(rules);
    assert!(rows(&network).is_empty());
    running.stop();
}

#[test]
fn a_rule_that_changes_takes_its_flows_with_it() {
    let mut network = Network::new(64);
    let running = network.start();
    network.associate();
    let (session, fteid) = network.establish(&network.plan());
    network.uplink(&running, fteid.teid, 100);

    let change = SessionChange {
        update_fars: vec![FarChanges {
            id: SessionPlan::FARS[0],
            redirect: Some(portal()),
            ..FarChanges::default()
        }],
        ..SessionChange::default()
    };
    network.modify(session, change);

    let port = ask_portal(&network, &running, fteid.teid, (40_000, SERVER));
    answer(&network, &running, (port, 40_000), SERVER);
    running.stop();
}

#[test]
fn behind_a_used_up_quota_packets_go_elsewhere_and_are_nobodys_usage() {
    let mut network = Network::new(65);
    let running = network.start();
    network.associate();
    let plan = SessionPlan {
        quota: Some(300),
        ..network.plan()
    };
    let mut rules = plan.rules();
    let mut beyond = redirected(&network, portal()).create_fars[0].clone();
    beyond.id = qlink_pfcp::model::FarId::new(9);
    rules.create_urrs[0].quota_action = Some(beyond.id);
    rules.create_fars.push(beyond);
    let (session, fteid) = network.establish_rules(rules);
    network.uplink(&running, fteid.teid, 100);
    network.uplink(&running, fteid.teid, 100);

    let port = ask_portal(&network, &running, fteid.teid, (40_000, SERVER));
    answer(&network, &running, (port, 40_000), SERVER);
    // What does not come from there is not let in.
    network.send_down(&running, 100);
    network.until_dropped("not_redirectable");

    let reports = network.delete(session);
    let used = reports.iter().filter(|report| report.urr == UrrId::new(1));
    let used: Vec<_> = used.cloned().collect();
    assert!(volume(&used).0 <= 256, "{used:?}");
    running.stop();
}

#[test]
fn a_destination_of_ours_and_one_for_the_downlink_are_refused() {
    let mut network = Network::new(66);
    let running = network.start();
    network.associate();
    let [up, down] = SessionPlan::FARS;
    let to = |v4: &str| {
        Redirect::To(Destination {
            v4: Some(v4.parse().unwrap()),
            ..Destination::default()
        })
    };

    let at_fault = |far| {
        (
            CauseCode::RULE_FAILURE,
            Some(IeType::REDIRECT_INFORMATION),
            Some(FailedRule::Far(far)),
        )
    };
    for ours in ["127.9.66.1", "127.9.66.3", "224.0.0.1", "0.0.0.0"] {
        let rules = redirected(&network, to(ours));
        assert_eq!(network.refusal(rules), at_fault(up), "{ours}");
    }
    let mut rules = network.plan().rules();
    let forwarding = rules.create_fars[1].forwarding.as_mut().unwrap();
    forwarding.redirect = Some(to("203.0.113.80"));
    assert_eq!(forwarding.destination, Interface::Access);
    assert_eq!(network.refusal(rules), at_fault(down));
    running.stop();
}
