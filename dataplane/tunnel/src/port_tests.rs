use std::net::IpAddr;
use std::time::Instant;

use qlink_io::udp::UdpPort;
use qlink_io::wait::wait;
use qlink_wire::LinkType;

use super::*;
use crate::{Lane, Limits, PeerSetup, PrivateKey};

const GTPU: u16 = 2152;

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, last])
}

fn end(seed: u8, peer: u8, call: Option<SocketAddr>) -> TunnelPort<UdpPort> {
    let key = |seed| PrivateKey::from_bytes([seed; 32]);
    let mut tunnels = Tunnels::new(key(seed), address(seed), Limits::default());
    tunnels
        .add(PeerSetup {
            key: key(peer).public(),
            address: address(peer),
            endpoint: call,
            keepalive_s: call.map(|_| 25),
        })
        .unwrap();
    let port = UdpPort::bind("127.0.0.1:0".parse().unwrap(), LinkType::RawIp).unwrap();
    TunnelPort::new(port, tunnels, GTPU)
}

fn item<'a>(head: &'a [u8], body: &'a [u8], to: u8) -> Outgoing<'a> {
    Outgoing {
        head,
        body,
        to: SocketAddr::new(address(to), GTPU),
    }
}

/// Lets both ends work until one of them has a burst.
fn until_burst(from: &mut TunnelPort<UdpPort>, at: &mut TunnelPort<UdpPort>) -> Vec<Vec<u8>> {
    let (mut burst, started) = (Burst::new(), Instant::now());
    while started.elapsed() < Duration::from_secs(30) {
        assert_eq!(from.recv_burst(&mut burst).unwrap(), 0);
        if at.recv_burst(&mut burst).unwrap() > 0 {
            let peer = Some(SocketAddr::new(from.own().ip(), GTPU));
            assert!(burst.iter().all(|descriptor| descriptor.peer == peer));
            return burst.iter().map(|d| at.frame(d).to_vec()).collect();
        }
        wait(&[from.as_fd(), at.as_fd()], Some(TICK)).unwrap();
    }
    Vec::new()
}

#[test]
fn datagrams_pass_both_ways_and_come_from_the_tunnel_address() {
    let mut gateway = end(1, 2, None);
    let mut station = end(2, 1, Some(gateway.port().local_addr()));
    station.tick();
    let mut burst = Burst::new();
    let started = Instant::now();
    while gateway.tunnels().counts().handshakes == 0 || station.tunnels().counts().handshakes == 0 {
        assert!(started.elapsed() < Duration::from_secs(30));
        assert_eq!(gateway.recv_burst(&mut burst).unwrap(), 0);
        assert_eq!(station.recv_burst(&mut burst).unwrap(), 0);
    }

    let packets: Vec<Vec<u8>> = (0..BURST_MAX).map(|n| vec![7; n * 40]).collect();
    let items: Vec<Outgoing<'_>> = packets.iter().map(|body| item(b"gtpu", body, 1)).collect();
    assert_eq!(station.send(&items).unwrap(), BURST_MAX);
    let mut arrived = Vec::new();
    while arrived.len() < BURST_MAX {
        let more = until_burst(&mut station, &mut gateway);
        assert!(!more.is_empty());
        arrived.extend(more);
    }
    for (arrived, packet) in arrived.iter().zip(&packets) {
        assert_eq!(*arrived, [b"gtpu", &packet[..]].concat());
    }

    assert_eq!(gateway.send(&[item(b"", b"down", 2)]).unwrap(), 1);
    assert_eq!(until_burst(&mut gateway, &mut station), [b"down"]);
}

/// Lets both ends work until `done`.
fn work(
    gateway: &mut TunnelPort<UdpPort>,
    station: &mut TunnelPort<UdpPort>,
    mut done: impl FnMut(&TunnelPort<UdpPort>) -> bool,
) {
    let (mut burst, started) = (Burst::new(), Instant::now());
    while !done(station) {
        assert!(started.elapsed() < Duration::from_secs(30));
        station.tick();
        assert_eq!(gateway.recv_burst(&mut burst).unwrap(), 0);
        assert_eq!(station.recv_burst(&mut burst).unwrap(), 0);
        wait(
            &[gateway.as_fd(), station.as_fd()],
            Some(Duration::from_millis(5)),
        )
        .unwrap();
    }
}

#[test]
fn a_new_end_beside_the_one_in_use_takes_over_once_it_has_keys_and_both_are_heard() {
    let key = |seed| PrivateKey::from_bytes([seed; 32]);
    let mut gateway = end(1, 2, None);
    let at = gateway.port().local_addr();
    let tunnels = |seed: u8, lane| {
        let limits = Limits {
            lane: Lane::new(lane, 2).unwrap(),
            ..Limits::default()
        };
        let mut tunnels = Tunnels::new(key(seed), address(2), limits);
        let setup = PeerSetup {
            key: key(1).public(),
            address: address(1),
            endpoint: Some(at),
            keepalive_s: Some(25),
        };
        tunnels.add(setup).unwrap();
        tunnels
    };
    let socket = UdpPort::bind("127.0.0.1:0".parse().unwrap(), LinkType::RawIp).unwrap();
    let mut station = TunnelPort::new(socket, tunnels(2, 0), GTPU);
    let has_keys = |station: &TunnelPort<UdpPort>| station.state.borrow().tunnels.standing().1 > 0;
    work(&mut gateway, &mut station, has_keys);

    // Nobody knows the new key yet: the one in use carries on.
    station.begin(tunnels(3, 1));
    let mut rounds = 0;
    work(&mut gateway, &mut station, |_| {
        rounds += 1;
        rounds > 20
    });
    assert_eq!(station.beside(), Some(Beside::Upcoming));
    assert_eq!(station.send(&[item(b"", b"up", 1)]).unwrap(), 1);
    assert_eq!(until_burst(&mut station, &mut gateway), [b"up"]);
    assert_eq!(gateway.send(&[item(b"", b"down", 2)]).unwrap(), 1);
    assert_eq!(until_burst(&mut gateway, &mut station), [b"down"]);

    // Now it is known.
    let successor = PeerSetup {
        key: key(3).public(),
        address: address(2),
        endpoint: None,
        keepalive_s: None,
    };
    let old = key(2).public();
    gateway.tunnels().succeed(successor, &old).unwrap();
    // What is under way by the old key when the new one takes over is heard.
    assert_eq!(gateway.send(&[item(b"", b"late", 2)]).unwrap(), 1);
    station.begin(tunnels(3, 1));
    let mut late = Vec::new();
    let (mut burst, started) = (Burst::new(), Instant::now());
    while station.beside() != Some(Beside::Previous) || late.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30));
        station.tick();
        assert_eq!(gateway.recv_burst(&mut burst).unwrap(), 0);
        station.recv_burst(&mut burst).unwrap();
        late.extend(burst.iter().map(|d| station.frame(d).to_vec()));
    }
    assert_eq!(late, [b"late"]);
    assert_eq!(station.send(&[item(b"", b"up", 1)]).unwrap(), 1);
    assert_eq!(until_burst(&mut station, &mut gateway), [b"up"]);
    assert_eq!(gateway.send(&[item(b"", b"down", 2)]).unwrap(), 1);
    assert_eq!(until_burst(&mut gateway, &mut station), [b"down"]);
    assert_eq!(station.tunnels().public(), key(3).public());

    station.end_beside();
    gateway.tunnels().remove(&old);
    assert_eq!(station.send(&[item(b"", b"on", 1)]).unwrap(), 1);
    assert_eq!(until_burst(&mut station, &mut gateway), [b"on"]);
}

#[test]
fn what_cannot_go_is_refused_and_told() {
    let station = end(2, 1, Some("127.0.0.1:9".parse().unwrap()));
    let kind = |result| match result {
        Err(IoError::Refused { source, .. }) => source.kind(),
        other => unreachable!("{other:?}"),
    };

    let long = vec![0; MESSAGE_MAX];
    assert_eq!(
        kind(station.send(&[item(b"", &long, 1)])),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(station.send(&[item(b"", b"x", 9)])),
        ErrorKind::HostUnreachable
    );
    assert_eq!(
        kind(station.send(&[item(b"", b"early", 1)])),
        ErrorKind::NotConnected
    );
}
