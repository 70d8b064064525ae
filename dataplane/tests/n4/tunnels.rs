//! Sessions without a subscriber's address: from tunnel to tunnel, as a serving gateway's.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use qlink_pfcp::model::{
    Interface, LocalFTeid, OuterHeaderCreation, Pdr, SessionChange, UsageReport,
};
use qlink_pfcp::sim::{Happened, SessionPlan};
use qlink_types::ids::Teid;
use qlink_wire::{gpdu_header, message_type, parse_gtpu};

use super::network::{GNB_TEID, Network, Running, SERVER, UE, WITHIN, datagram, receive, volume};

/// The endpoint of the gateway behind us.
const PGW_TEID: Teid = Teid::new(0x88);

/// The other end of the second tunnel.
fn pgw(net: u8) -> UdpSocket {
    let socket = UdpSocket::bind((IpAddr::from([127, 9, net, 5]), 2152)).unwrap();
    socket.set_read_timeout(Some(WITHIN)).unwrap();
    socket
}

/// Both ways from tunnel to tunnel; `chosen` are our endpoints where the control plane chooses them.
fn rules(network: &Network, pgw: Ipv4Addr, chosen: Option<[Teid; 2]>) -> SessionChange {
    let mut rules = network.plan().rules();
    let own = network.config.n3.ip();
    let IpAddr::V4(own) = own else {
        panic!("an IPv4 endpoint");
    };
    let endpoint = |direction: usize| match chosen {
        Some(teids) => LocalFTeid::Fixed(qlink_pfcp::model::FTeid {
            teid: teids[direction],
            v4: Some(own),
            v6: None,
        }),
        None => LocalFTeid::Choose {
            v4: true,
            v6: false,
            choose_id: None,
        },
    };
    for (direction, pdr) in rules.create_pdrs.iter_mut().enumerate() {
        let Pdr { pdi, .. } = pdr;
        (pdi.ue, pdi.local_fteid) = (None, Some(endpoint(direction)));
    }
    let up = rules.create_fars[0].forwarding.as_mut().unwrap();
    up.destination = Interface::Core;
    up.outer = Some(OuterHeaderCreation::Gtpu {
        teid: PGW_TEID,
        v4: Some(pgw),
        v6: None,
    });
    rules
}

/// Opens the session; our endpoints towards the BaseStation and towards the other gateway.
fn establish(network: &mut Network, rules: SessionChange) -> (qlink_pfcp::model::Seid, [Teid; 2]) {
    let now = network.now();
    network.smf.establish(now, rules);
    network.until(|happened| match happened {
        Happened::Established {
            session, created, ..
        } => {
            let chosen = |number: usize| {
                let pdr = created
                    .iter()
                    .find(|pdr| pdr.id == SessionPlan::PDRS[number]);
                pdr.and_then(|pdr| pdr.local_fteid)
                    .map_or(Teid::new(0), |fteid| fteid.teid)
            };
            Some((*session, [chosen(0), chosen(1)]))
        }
        Happened::Refused { .. } => panic!("{happened:?}"),
        _ => None,
    })
}

fn send(from: &UdpSocket, running: &Running, teid: Teid, inner: &[u8]) {
    let mut message = gpdu_header(teid.get(), u16::try_from(inner.len()).unwrap()).to_vec();
    message.extend(inner);
    from.send_to(&message, running.info.n3).unwrap();
}

/// The packet goes through unchanged, from one tunnel into the other.
fn passes(running: &Running, from: (&UdpSocket, Teid), to: (&UdpSocket, Teid), inner: &[u8]) {
    send(from.0, running, from.1, inner);
    let message = receive(to.0);
    let gtpu = parse_gtpu(&message).unwrap();
    assert_eq!((gtpu.teid, gtpu.payload), (to.1.get(), inner));
}

fn both_ways(network: &Network, pgw: &UdpSocket, running: &Running, [up, down]: [Teid; 2]) {
    let (ue, server) = ((UE, 40_000).into(), SERVER.parse().unwrap());
    let there = datagram(ue, server, 100);
    passes(running, (&network.gnb, up), (pgw, PGW_TEID), &there);
    let back = datagram(server, ue, 300);
    passes(running, (pgw, down), (&network.gnb, GNB_TEID), &back);
}

#[test]
fn a_session_without_a_subscribers_address_goes_from_tunnel_to_tunnel_and_is_metered() {
    let mut network = Network::new(26);
    let running = network.start();
    network.associate();
    let pgw = pgw(26);
    let at = Ipv4Addr::new(127, 9, 26, 5);
    let asked = rules(&network, at, None);
    let (session, teids) = establish(&mut network, asked);
    // A second one does not stand in the way of the first: neither has an address.
    let asked = rules(&network, at, None);
    establish(&mut network, asked);

    both_ways(&network, &pgw, &running, teids);
    // A packet for a subscriber that nobody knows here finds no session on N6.
    network.send_down(&running, 10);
    network.until_dropped("ue_unknown");
    // Only the ends of the tunnels may send.
    let stranger = UdpSocket::bind((IpAddr::from([127, 9, 26, 9]), 0)).unwrap();
    send(
        &stranger,
        &running,
        teids[0],
        &datagram((UE, 1).into(), SERVER.parse().unwrap(), 5),
    );
    network.until_dropped("peer_mismatch");
    running.stop();
    // They stand after a restart, with what they counted.
    let running = network.start();
    both_ways(&network, &pgw, &running, teids);

    let reports: Vec<UsageReport> = network.delete(session);
    assert_eq!(volume(&reports), (2 * 128, 2 * 328));
    running.stop();
}

#[test]
fn tunnels_of_every_worker_are_found_whoever_chose_their_endpoints() {
    let mut network = Network::new(27);
    network.config.workers = 2;
    let running = network.start();
    network.associate();
    let pgw = pgw(27);
    let at = Ipv4Addr::new(127, 9, 27, 5);
    // Endpoints in the number spaces of both workers and of none.
    for chosen in [
        None,
        None,
        Some([Teid::new(0x0fff_0001), Teid::new(0x1fff_0001)]),
        Some([Teid::new(0x5000_0001), Teid::new(0x0000_0002)]),
    ] {
        let asked = rules(&network, at, chosen);
        let (_, own) = establish(&mut network, asked);
        both_ways(&network, &pgw, &running, chosen.unwrap_or(own));
    }

    // Both ends are heard by every worker.
    let echo = qlink_wire::echo_request(1);
    for end in [&network.gnb, &pgw] {
        end.send_to(&echo, running.info.n3).unwrap();
        let answer = receive(end);
        let answer = parse_gtpu(&answer).unwrap();
        assert_eq!(answer.message_type, message_type::ECHO_RESPONSE);
    }
    running.stop();
}
