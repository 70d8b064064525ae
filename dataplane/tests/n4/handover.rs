//! A handover between BaseStations: the target sends before the control plane says so.

use std::net::{IpAddr, UdpSocket};

use qlink_types::ids::Teid;
use qlink_wire::gpdu_header;

use crate::network::{Network, SERVER, UE, WITHIN, datagram, receive};

/// Sends a packet of the subscriber into the session's tunnel.
fn send_from(station: &UdpSocket, network: &Network, teid: Teid) -> Vec<u8> {
    let inner = datagram((UE, 40_000).into(), SERVER.parse().unwrap(), 50);
    let length = u16::try_from(inner.len()).unwrap();
    let mut message = gpdu_header(teid.get(), length).to_vec();
    message.extend(&inner);
    station.send_to(&message, network.config.n3).unwrap();
    inner
}

#[test]
fn uplink_of_a_target_in_the_access_network_passes_before_the_path_switch_and_leads_nothing_astray()
{
    let mut network = Network::new(61);
    let pfcp = network.config.pfcp.as_mut().unwrap();
    pfcp.access = vec!["127.9.61.16/28".to_owned()];
    let running = network.start();
    network.associate();
    let (session, fteid) = network.establish(&network.plan());
    let station = |host| {
        let socket = UdpSocket::bind((IpAddr::from([127, 9, 61, host]), 2152)).unwrap();
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        socket
    };
    let (target, stranger) = (station(17), station(40));

    let early = send_from(&target, &network, fteid.teid);
    let passed = receive(&network.origin);
    send_from(&stranger, &network, fteid.teid);
    network.until_dropped("peer_mismatch");
    // Another subscriber's address does not become this one's by a tunnel that somebody guessed.
    let foreign = datagram(([10, 60, 0, 77], 1).into(), SERVER.parse().unwrap(), 50);
    let length = u16::try_from(foreign.len()).unwrap();
    let mut message = gpdu_header(fteid.teid.get(), length).to_vec();
    message.extend(&foreign);
    target.send_to(&message, network.config.n3).unwrap();
    network.until_dropped("source_spoofed");

    assert_eq!(passed, early);
    // Downlink goes where the rules say until they say otherwise.
    network.downlink(&running, 60);
    network.delete(session);
    running.stop();
}
