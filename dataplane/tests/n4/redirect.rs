//! Redirection of plain HTTP requests, played by hand from behind the BaseStation.

use std::net::SocketAddr;

use qlink_pfcp::model::{
    FailedRule, Far, FarId, Forwarding, Interface, Redirect, SessionChange, Trigger,
};
use qlink_pfcp::sim::{Happened, SessionPlan};
use qlink_pfcp::wire::{CauseCode, IeType};
use qlink_types::ids::Teid;
use qlink_wire::build::{TcpFields, tcp_packet};
use qlink_wire::checksum::transport_checksum;
use qlink_wire::{TcpFlags, gpdu_header, parse_gtpu, parse_ip, parse_tcp};

use super::network::{GNB_TEID, Network, Running, UE, receive, volume};

const WEB: &str = "192.0.2.9:80";
const URL: &str = "https://pay.example/top-up?from=qlink";

/// A segment of ours, as the subscriber reads it.
#[derive(Debug)]
struct Heard {
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    payload: Vec<u8>,
}

fn say(
    network: &Network,
    running: &Running,
    teid: Teid,
    (seq, ack, flags): (u32, u32, TcpFlags),
    payload: &[u8],
) {
    let (ue, web): (SocketAddr, SocketAddr) = ((UE, 41_000).into(), WEB.parse().unwrap());
    let fields = TcpFields::new(seq, ack, flags);
    let inner = tcp_packet(ue, web, &fields, payload).unwrap();
    let mut message = gpdu_header(teid.get(), u16::try_from(inner.len()).unwrap()).to_vec();
    message.extend(&inner);
    network.gnb.send_to(&message, running.info.n3).unwrap();
}

/// The next packet to the subscriber: from the server that it asked, with sums that are right.
fn hear(network: &Network) -> Heard {
    let message = receive(&network.gnb);
    let gtpu = parse_gtpu(&message).unwrap();
    assert_eq!(gtpu.teid, GNB_TEID.get());
    let ip = parse_ip(gtpu.payload).unwrap();
    let tcp = parse_tcp(ip.payload).unwrap();
    let (ue, web): (SocketAddr, SocketAddr) = ((UE, 41_000).into(), WEB.parse().unwrap());
    assert_eq!((ip.src, ip.dst), (web.ip(), ue.ip()));
    assert_eq!((tcp.src_port, tcp.dst_port), (web.port(), ue.port()));
    let sum = transport_checksum(ip.src, ip.dst, 6, ip.payload);
    assert_eq!(sum, 0, "the segment's checksum");
    Heard {
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags,
        payload: tcp.payload.to_vec(),
    }
}

/// Opens a connection, asks, and hears the response to its end.
fn browse(network: &Network, running: &Running, teid: Teid) -> String {
    say(network, running, teid, (900, 0, TcpFlags::SYN), b"");
    let opened = hear(network);
    assert!(opened.flags.syn() && opened.flags.ack());
    assert_eq!(opened.ack, 901);
    let mut next = opened.seq.wrapping_add(1);
    say(network, running, teid, (901, next, TcpFlags::ACK), b"");
    let request = b"GET /film HTTP/1.1\r\nHost: film.example\r\n\r\n";
    say(network, running, teid, (901, next, TcpFlags::ACK), request);
    let asked = 901 + u32::try_from(request.len()).unwrap();
    let mut response = Vec::new();
    loop {
        let part = hear(network);
        assert_eq!((part.seq, part.ack), (next, asked));
        next = next.wrapping_add(u32::try_from(part.payload.len()).unwrap());
        response.extend(part.payload);
        if part.flags.fin() {
            next = next.wrapping_add(1);
            break;
        }
    }
    let end = TcpFlags::ACK.union(TcpFlags::FIN);
    say(network, running, teid, (asked, next, end), b"");
    let last = hear(network);
    assert_eq!((last.seq, last.ack), (next, asked + 1));
    String::from_utf8(response).unwrap()
}

fn to_url(id: FarId, url: &str) -> Far {
    Far {
        id,
        action: qlink_pfcp::model::ApplyAction::Forward { duplicate: false },
        forwarding: Some(Forwarding {
            destination: Interface::Core,
            network_instance: None,
            outer: None,
            redirect: Some(Redirect::Url(url.to_owned())),
            transport_marking: None,
        }),
        duplicating: Vec::new(),
        bar: None,
    }
}

/// The plan's rules, whose uplink is redirected.
fn redirected(network: &Network, url: &str) -> SessionChange {
    let mut rules = network.plan().rules();
    let [up, _] = SessionPlan::FARS;
    rules.create_fars[0] = to_url(up, url);
    rules
}

#[test]
fn a_plain_request_is_redirected_and_everything_else_is_dropped() {
    let mut network = Network::new(28);
    let running = network.start();
    network.associate();
    let rules = redirected(&network, URL);
    let (session, fteid) = network.establish_rules(rules);

    for _ in 0..2 {
        let response = browse(&network, &running, fteid.teid);
        assert!(response.starts_with("HTTP/1.1 302 Found\r\n"), "{response}");
        assert!(response.contains(&format!("\r\nLocation: {URL}\r\n")));
    }
    network.send_up(&running, fteid.teid, 100);
    network.until_dropped("not_redirectable");

    // Nothing of it is usage, and nothing has left for the network.
    assert_eq!(volume(&network.delete(session)), (0, 0));
    let totals = qlink_meter::ArenaSet::open(&network.config.arena)
        .unwrap()
        .totals();
    assert_eq!(totals.network_bytes, 0);
    // Two openings, responses and ends.
    assert_eq!(totals.worker.get("redirect_replies"), Some(&6));
    running.stop();
}

#[test]
fn a_long_address_comes_in_several_packets() {
    let mut network = Network::new(29);
    let running = network.start();
    network.associate();
    let url = format!("https://pay.example/{}", "x".repeat(2000));
    let rules = redirected(&network, &url);
    let (_, fteid) = network.establish_rules(rules);

    let response = browse(&network, &running, fteid.teid);

    assert!(response.contains(&format!("\r\nLocation: {url}\r\n")));
    running.stop();
}

#[test]
fn who_has_used_up_the_quota_is_sent_where_more_is_to_be_had() {
    let mut network = Network::new(30);
    let running = network.start();
    network.associate();
    let plan = SessionPlan {
        quota: Some(500),
        ..network.plan()
    };
    let mut rules = plan.rules();
    rules.create_fars.push(to_url(FarId::new(9), URL));
    rules.create_urrs[0].quota_action = Some(FarId::new(9));
    let (session, fteid) = network.establish_rules(rules);

    for _ in 0..3 {
        network.uplink(&running, fteid.teid, 100);
    }
    network.send_up(&running, fteid.teid, 100);
    let used_up = network.until(|happened| match happened {
        Happened::Reported { report, .. } => report.reports.first().cloned(),
        _ => None,
    });
    assert!(used_up.triggers.has(Trigger::VolumeQuota), "{used_up:?}");
    network.until_dropped("not_redirectable");
    let response = browse(&network, &running, fteid.teid);

    assert!(response.contains(&format!("\r\nLocation: {URL}\r\n")));
    assert_eq!(used_up.volume.unwrap().uplink, 384);
    assert_eq!(volume(&network.delete(session)), (0, 0));
    running.stop();
}

#[test]
fn what_cannot_be_redirected_to_is_refused_with_the_element_at_fault() {
    let mut network = Network::new(31);
    let running = network.start();
    network.associate();
    let [up, _] = SessionPlan::FARS;

    let split = redirected(&network, "https://a.example/\r\nSet-Cookie: x=1");

    let at_fault = (
        CauseCode::RULE_FAILURE,
        Some(IeType::REDIRECT_INFORMATION),
        Some(FailedRule::Far(up)),
    );
    assert_eq!(network.refusal(split), at_fault);
    running.stop();
}
