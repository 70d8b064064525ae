//! A BaseStation that changes its key: both keys come through, downlink follows the new one from its
//! first message on, and nothing is lost in between.

use std::net::{IpAddr, SocketAddr};

use qlink_wire::build;

use crate::{
    Lane, Limits, MESSAGE_MIN, PeerError, PeerSetup, PrivateKey, PublicKey, Received, Refusal,
    Tunnels,
};

const GATEWAY: &str = "192.0.2.1:51820";
const STATION: &str = "198.51.100.7:40000";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, last])
}

fn at(endpoint: &str) -> SocketAddr {
    endpoint.parse().unwrap()
}

fn packet(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let end = |last| SocketAddr::new(address(last), 2152);
    build::udp_packet(end(from), end(to), payload).unwrap()
}

/// The BaseStation with address 2 and this key, as the gateway knows it.
fn peer(key: PublicKey) -> PeerSetup {
    PeerSetup {
        key,
        address: address(2),
        endpoint: None,
        keepalive_s: None,
    }
}

/// A gateway that knows key 2.
fn gateway() -> Tunnels {
    let mut gateway = Tunnels::new(key(1), address(1), Limits::default());
    gateway.add(peer(key(2).public())).unwrap();
    gateway
}

/// The BaseStation's end with this key.
fn station(seed: u8, lane: u8) -> Tunnels {
    let limits = Limits {
        lane: Lane::new(lane, 2).unwrap(),
        ..Limits::default()
    };
    let mut station = Tunnels::new(key(seed), address(2), limits);
    let gateway = PeerSetup {
        key: key(1).public(),
        address: address(1),
        endpoint: Some(at(GATEWAY)),
        keepalive_s: Some(25),
    };
    station.add(gateway).unwrap();
    station
}

fn give(tunnels: &mut Tunnels, from: &str, datagram: &[u8]) -> Result<Vec<u8>, Refusal> {
    // Initiations of one peer keep a distance in time.
    let mut out = [0; 2048];
    match tunnels.receive(0, at(from), datagram, &mut out)? {
        Received::Packet(bytes) | Received::Reply(bytes) => Ok(bytes.to_vec()),
        Received::Nothing => Ok(Vec::new()),
    }
}

/// A handshake up to the station's confirmation, which the gateway has not got yet.
fn shaken(gateway: &mut Tunnels, station: &mut Tunnels) -> Vec<u8> {
    let mut call = Vec::new();
    station.tick(&mut [0; MESSAGE_MIN], |_, message| call = message.to_vec());
    let answer = give(gateway, STATION, &call).unwrap();
    give(station, GATEWAY, &answer).unwrap()
}

fn sealed(tunnels: &mut Tunnels, to: u8, packet: &[u8]) -> Vec<u8> {
    let mut out = [0; 2048];
    let sending = tunnels.send(address(to), packet, &mut out).unwrap();
    assert!(sending.carries);
    sending.message.to_vec()
}

/// Which of the two ends gets what the gateway sends.
fn heard_by(gateway: &mut Tunnels, ends: [&mut Tunnels; 2]) -> [bool; 2] {
    let down = packet(1, 2, b"down");
    let message = sealed(gateway, 2, &down);
    ends.map(|end| {
        let mine = end.lane().is_for(&message) == Some(true);
        mine && give(end, GATEWAY, &message) == Ok(down.clone())
    })
}

#[test]
fn both_keys_come_through_and_downlink_follows_the_new_one_from_its_first_message_on() {
    let (mut gateway, mut old, mut new) = (gateway(), station(2, 0), station(3, 1));
    let confirmation = shaken(&mut gateway, &mut old);
    give(&mut gateway, STATION, &confirmation).unwrap();

    gateway
        .succeed(peer(key(3).public()), &key(2).public())
        .unwrap();

    // The new key shakes hands: only its confirmation proves that it can receive.
    let confirmation = shaken(&mut gateway, &mut new);
    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [true, false]);
    give(&mut gateway, STATION, &confirmation).unwrap();
    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [false, true]);
    // What was sent by the old key still comes out, and does not turn downlink back.
    for end in [&mut old, &mut new] {
        let up = packet(2, 1, b"up");
        let message = sealed(end, 1, &up);
        assert_eq!(give(&mut gateway, STATION, &message), Ok(up));
    }
    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [false, true]);
    assert_eq!(gateway.counts().successions, 1);

    assert!(gateway.remove(&key(2).public()));
    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [false, true]);
    let message = sealed(&mut old, 1, &packet(2, 1, b"late"));
    assert_eq!(
        give(&mut gateway, STATION, &message),
        Err(Refusal::IndexUnknown)
    );
}

#[test]
fn an_earlier_key_takes_the_address_back_when_it_is_heard() {
    let (mut gateway, mut old, mut new) = (gateway(), station(2, 0), station(3, 1));
    gateway
        .succeed(peer(key(3).public()), &key(2).public())
        .unwrap();
    for end in [&mut old, &mut new] {
        let confirmation = shaken(&mut gateway, end);
        give(&mut gateway, STATION, &confirmation).unwrap();
    }
    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [false, true]);

    // The BaseStation died before it kept its new key.
    gateway
        .succeed(peer(key(2).public()), &key(3).public())
        .unwrap();

    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [false, true]);
    let message = sealed(&mut old, 1, &packet(2, 1, b"up"));
    give(&mut gateway, STATION, &message).unwrap();
    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [true, false]);
}

#[test]
fn a_removed_successor_leaves_the_address_to_the_one_before() {
    let (mut gateway, mut old, mut new) = (gateway(), station(2, 0), station(3, 1));
    gateway
        .succeed(peer(key(3).public()), &key(2).public())
        .unwrap();
    for end in [&mut old, &mut new] {
        let confirmation = shaken(&mut gateway, end);
        give(&mut gateway, STATION, &confirmation).unwrap();
    }

    gateway.remove(&key(3).public());
    assert_eq!(heard_by(&mut gateway, [&mut old, &mut new]), [true, false]);

    gateway.remove(&key(2).public());
    let mut out = [0; 2048];
    let refused = gateway.send(address(2), &packet(1, 2, b"down"), &mut out);
    assert_eq!(refused, Err(Refusal::AddressUnknown));
}

#[test]
fn who_was_taken_out_and_calls_on_is_told_from_a_stranger_until_it_is_in_again() {
    let mut gateway = gateway();
    gateway.remove(&key(2).public());
    let refusal = |gateway: &mut Tunnels, seed| {
        let mut call = Vec::new();
        let mut out = [0; MESSAGE_MIN];
        station(seed, 0).tick(&mut out, |_, message| call = message.to_vec());
        give(gateway, STATION, &call).err()
    };

    assert_eq!(refusal(&mut gateway, 2), Some(Refusal::KeyRemoved));
    assert_eq!(refusal(&mut gateway, 3), Some(Refusal::KeyUnknown));
    gateway.add(peer(key(2).public())).unwrap();
    assert_eq!(refusal(&mut gateway, 2), None);
}

#[test]
fn nobody_else_takes_an_address_or_a_key() {
    let mut gateway = gateway();
    let other = PeerSetup {
        address: address(4),
        ..peer(key(4).public())
    };
    gateway.add(other).unwrap();
    let third = peer(key(3).public());

    assert_eq!(
        gateway.succeed(third, &key(4).public()),
        Err(PeerError::AddressTaken(address(2)))
    );
    assert_eq!(
        gateway.succeed(third, &key(9).public()),
        Err(PeerError::AddressTaken(address(2)))
    );
    for taken in [key(1), key(4)] {
        let taken = taken.public();
        assert_eq!(
            gateway.succeed(peer(taken), &key(2).public()),
            Err(PeerError::KeyTaken(taken))
        );
    }
    assert_eq!(gateway.peers().count(), 2);
}

#[test]
fn calls_without_an_answer_are_counted_until_the_peer_is_heard() {
    let (mut gateway, mut end) = (gateway(), station(2, 0));
    let unanswered = |end: &Tunnels| end.peers().next().unwrap().unanswered;
    let mut call = Vec::new();
    end.tick(&mut [0; MESSAGE_MIN], |_, message| call = message.to_vec());
    assert_eq!(unanswered(&end), 1);
    let mut out = [0; MESSAGE_MIN];
    call = end.rekey(&key(1).public(), &mut out).unwrap().1.to_vec();
    assert_eq!(unanswered(&end), 2);

    let answer = give(&mut gateway, STATION, &call).unwrap();
    give(&mut end, GATEWAY, &answer).unwrap();

    assert_eq!(unanswered(&end), 0);
}
