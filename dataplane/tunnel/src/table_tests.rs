use super::*;
use qlink_wire::build;

const GATEWAY: &str = "192.0.2.1:51820";
const STATION: &str = "198.51.100.7:40000";
const NS_PER_MS: u64 = 1_000_000;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, last])
}

fn at(endpoint: &str) -> SocketAddr {
    endpoint.parse().unwrap()
}

/// A datagram from one tunnel address to another.
fn packet(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let end = |last| SocketAddr::new(address(last), 2152);
    build::udp_packet(end(from), end(to), payload).unwrap()
}

/// A gateway that knows the BaseStation with key 2 and address 2.
fn gateway(limits: Limits) -> Tunnels {
    let mut gateway = Tunnels::new(key(1), address(1), limits);
    gateway
        .add(PeerSetup {
            key: key(2).public(),
            address: address(2),
            endpoint: None,
            keepalive_s: None,
        })
        .unwrap();
    gateway
}

/// A BaseStation with this key and address whose gateway has key 1.
fn station(seed: u8, last: u8) -> Tunnels {
    let mut station = Tunnels::new(key(seed), address(last), Limits::default());
    station
        .add(PeerSetup {
            key: key(1).public(),
            address: address(1),
            endpoint: Some(at(GATEWAY)),
            keepalive_s: Some(25),
        })
        .unwrap();
    station
}

fn ticked(tunnels: &mut Tunnels) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut sent = Vec::new();
    tunnels.tick(&mut [0; MESSAGE_MIN], |to, message| {
        sent.push((to, message.to_vec()));
    });
    sent
}

/// What comes of a datagram: `Ok` with the reply or the packet.
fn give(
    tunnels: &mut Tunnels,
    now_ns: u64,
    from: &str,
    datagram: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let mut out = [0; 2048];
    match tunnels.receive(now_ns, at(from), datagram, &mut out)? {
        Received::Packet(bytes) | Received::Reply(bytes) => Ok(bytes.to_vec()),
        Received::Nothing => Ok(Vec::new()),
    }
}

fn sealed(tunnels: &mut Tunnels, to: u8, packet: &[u8]) -> (SocketAddr, Vec<u8>) {
    let mut out = [0; 2048];
    let sending = tunnels.send(address(to), packet, &mut out).unwrap();
    assert!(sending.carries);
    (sending.to, sending.message.to_vec())
}

/// The initiation that `station` starts with.
fn initiation(station: &mut Tunnels) -> Vec<u8> {
    let mut sent = ticked(station);
    assert_eq!(sent.len(), 1);
    sent.remove(0).1
}

/// Both ends with keys.
fn joined() -> (Tunnels, Tunnels) {
    let (mut gateway, mut station) = (gateway(Limits::default()), station(2, 2));
    let call = initiation(&mut station);
    let answer = give(&mut gateway, 0, STATION, &call).unwrap();
    let confirmation = give(&mut station, 0, GATEWAY, &answer).unwrap();
    give(&mut gateway, 0, STATION, &confirmation).unwrap();
    (gateway, station)
}

#[test]
fn packets_pass_both_ways_after_a_handshake() {
    let (mut gateway, mut station) = joined();
    let (up, down) = (packet(2, 1, b"up"), packet(1, 2, b"down"));

    let (to, message) = sealed(&mut station, 1, &up);
    assert_eq!(to, at(GATEWAY));
    assert_eq!(give(&mut gateway, 1, STATION, &message), Ok(up));
    let (to, message) = sealed(&mut gateway, 2, &down);
    assert_eq!(to, at(STATION));
    assert_eq!(give(&mut station, 1, GATEWAY, &message), Ok(down));

    assert_eq!(gateway.counts().handshakes, 1);
    assert_eq!((gateway.counts().received, gateway.counts().sent), (1, 1));
}

#[test]
fn a_key_that_is_no_peers_is_refused_and_counted() {
    let mut gateway = gateway(Limits::default());
    let call = initiation(&mut station(3, 2));

    let refused = give(&mut gateway, 0, STATION, &call);

    assert_eq!(refused, Err(Refusal::KeyUnknown));
    assert_eq!(gateway.counts().refused(Refusal::KeyUnknown), 1);
    assert_eq!(gateway.peers().next().unwrap().endpoint, None);
}

#[test]
fn who_does_not_know_our_key_is_refused_before_any_agreement() {
    let mut gateway = gateway(Limits::default());
    let mut call = initiation(&mut station(2, 2));
    call[120] ^= 1;

    assert_eq!(
        give(&mut gateway, 0, STATION, &call),
        Err(Refusal::MacInvalid)
    );
}

#[test]
fn a_replayed_initiation_is_refused() {
    let mut gateway = gateway(Limits::default());
    let call = initiation(&mut station(2, 2));
    give(&mut gateway, 0, STATION, &call).unwrap();

    let again = give(&mut gateway, 30 * NS_PER_MS, "203.0.113.9:1", &call);

    assert_eq!(again, Err(Refusal::HandshakeReplayed));
    assert_eq!(gateway.peers().next().unwrap().endpoint, Some(at(STATION)));
}

#[test]
fn a_replayed_datagram_is_refused_and_does_not_move_the_peer() {
    let (mut gateway, mut station) = joined();
    let (_, message) = sealed(&mut station, 1, &packet(2, 1, b"once"));
    give(&mut gateway, 1, STATION, &message).unwrap();

    let again = give(&mut gateway, 2, "203.0.113.9:1", &message);

    assert_eq!(again, Err(Refusal::Replayed));
    assert_eq!(gateway.peers().next().unwrap().endpoint, Some(at(STATION)));
    assert_eq!(gateway.counts().roamed, 0);
}

#[test]
fn a_forged_byte_anywhere_in_a_message_is_refused() {
    let (mut gateway, mut station) = joined();
    let (_, message) = sealed(&mut station, 1, &packet(2, 1, b"genuine"));
    for at in 0..message.len() {
        let mut forged = message.clone();
        forged[at] ^= 0x40;

        assert!(
            give(&mut gateway, 1, STATION, &forged).is_err(),
            "byte {at}"
        );
    }

    assert!(give(&mut gateway, 1, STATION, &message).is_ok());
}

#[test]
fn a_foreign_source_inside_the_tunnel_is_refused() {
    let (mut gateway, mut station) = joined();
    let (_, message) = sealed(&mut station, 1, &packet(3, 1, b"as another"));

    let refused = give(&mut gateway, 1, STATION, &message);

    assert_eq!(refused, Err(Refusal::SourceForeign));
    assert_eq!(gateway.counts().received, 0);
}

#[test]
fn a_peer_that_is_heard_elsewhere_is_reached_there() {
    let (mut gateway, mut station) = joined();
    let (_, message) = sealed(&mut station, 1, &packet(2, 1, b"moved"));

    give(&mut gateway, 1, "203.0.113.9:777", &message).unwrap();

    let (to, _) = sealed(&mut gateway, 2, &packet(1, 2, b"follows"));
    assert_eq!(to, at("203.0.113.9:777"));
    assert_eq!(gateway.counts().roamed, 1);
}

#[test]
fn counters_at_the_end_of_the_range_are_refused_before_the_library() {
    let (mut gateway, mut station) = joined();
    let (_, mut message) = sealed(&mut station, 1, &packet(2, 1, b"x"));

    for counter in [REJECT_AFTER_MESSAGES, u64::MAX] {
        message[8..16].copy_from_slice(&counter.to_le_bytes());
        let refused = give(&mut gateway, 1, STATION, &message);

        assert_eq!(refused, Err(Refusal::CounterExhausted));
    }
}

#[test]
fn under_load_only_those_who_prove_their_address_are_answered() {
    let limits = Limits {
        handshakes_per_second: 1,
        ..Limits::default()
    };
    let mut gateway = gateway(limits);
    let mut strangers = station(3, 3);
    // The first handshake of the second is worked on, whoever calls.
    let _ = give(
        &mut gateway,
        0,
        "203.0.113.1:1",
        &initiation(&mut strangers),
    );
    let mut station = station(2, 2);
    let call = initiation(&mut station);

    let cookie = give(&mut gateway, 0, STATION, &call).unwrap();
    assert_eq!((cookie.len(), gateway.counts().cookies), (64, 1));
    give(&mut station, 0, GATEWAY, &cookie).unwrap();
    let mut out = [0; MESSAGE_MIN];
    let gateway_key = key(1).public();
    let (_, again) = station.rekey(&gateway_key, &mut out).unwrap();
    let again = again.to_vec();

    // From another address the cookie proves nothing.
    let elsewhere = give(&mut gateway, 1, "203.0.113.2:1", &again).unwrap();
    assert_eq!(elsewhere.len(), 64);
    let answer = give(&mut gateway, 1, STATION, &again).unwrap();
    assert_eq!(answer.len(), 92);
}

#[test]
fn handshakes_beyond_the_bound_of_a_second_are_refused() {
    let limits = Limits {
        handshakes_per_second: 0,
        ..Limits::default()
    };
    let mut gateway = gateway(limits);
    let mut station = station(2, 2);
    let cookie = give(&mut gateway, 0, STATION, &initiation(&mut station)).unwrap();
    give(&mut station, 0, GATEWAY, &cookie).unwrap();
    let mut out = [0; MESSAGE_MIN];
    let (_, call) = station.rekey(&key(1).public(), &mut out).unwrap();

    assert_eq!(
        give(&mut gateway, 0, STATION, call),
        Err(Refusal::HandshakeLimit)
    );
}

#[test]
fn one_peer_has_one_initiation_in_twenty_milliseconds() {
    let mut gateway = gateway(Limits::default());
    let mut station = station(2, 2);
    let call = initiation(&mut station);
    give(&mut gateway, 0, STATION, &call).unwrap();
    let mut out = [0; MESSAGE_MIN];
    let (_, next) = station.rekey(&key(1).public(), &mut out).unwrap();
    let next = next.to_vec();

    let early = give(&mut gateway, 19 * NS_PER_MS, STATION, &next);
    let late = give(&mut gateway, 20 * NS_PER_MS, STATION, &next);

    assert_eq!(early, Err(Refusal::HandshakeLimit));
    assert_eq!(late.map(|answer| answer.len()), Ok(92));
}

#[test]
fn new_keys_under_traffic_lose_nothing() {
    let (mut gateway, mut station) = joined();
    let mut now_ns = 0;
    for round in 0..20_u8 {
        now_ns += 30 * NS_PER_MS;
        // Which keys are newer is known by the last tick, of which there are four in a second.
        assert!(ticked(&mut station).is_empty() && ticked(&mut gateway).is_empty());
        // Sealed with the old keys, arriving after the new ones.
        let late: Vec<Vec<u8>> = (0..3)
            .map(|n| sealed(&mut station, 1, &packet(2, 1, &[round, n])).1)
            .collect();
        let mut out = [0; MESSAGE_MIN];
        let (_, call) = station.rekey(&key(1).public(), &mut out).unwrap();
        let answer = give(&mut gateway, now_ns, STATION, call).unwrap();
        let (_, down) = sealed(&mut gateway, 2, &packet(1, 2, &[round]));
        let confirmation = give(&mut station, now_ns, GATEWAY, &answer).unwrap();
        give(&mut gateway, now_ns, STATION, &confirmation).unwrap();

        for (n, message) in (0..).zip(&late) {
            let arrived = give(&mut gateway, now_ns, STATION, message);
            assert_eq!(arrived, Ok(packet(2, 1, &[round, n])));
        }
        assert_eq!(
            give(&mut station, now_ns, GATEWAY, &down),
            Ok(packet(1, 2, &[round]))
        );
    }

    assert_eq!(gateway.counts().received, 60);
    assert_eq!(gateway.counts().handshakes, 21);
}

#[test]
fn a_gateway_that_starts_anew_is_found_again() {
    let (_, mut station) = joined();
    let mut gateway = gateway(Limits::default());
    let (_, message) = sealed(&mut station, 1, &packet(2, 1, b"to the dead"));

    let lost = give(&mut gateway, 0, STATION, &message);
    assert_eq!(lost, Err(Refusal::IndexUnknown));
    let mut out = [0; 2048];
    let down = packet(1, 2, b"x");
    assert_eq!(
        gateway.send(address(2), &down, &mut out),
        Err(Refusal::EndpointUnknown)
    );

    let (_, call) = station.rekey(&key(1).public(), &mut out).unwrap();
    let answer = give(&mut gateway, 1, STATION, call).unwrap();
    give(&mut station, 1, GATEWAY, &answer).unwrap();
    let (_, message) = sealed(&mut station, 1, &packet(2, 1, b"again"));
    assert!(give(&mut gateway, 2, STATION, &message).is_ok());
}

/// Gives `messages` to `station`, and what comes of them back and forth until nobody answers.
fn converse(gateway: &mut Tunnels, station: &mut Tunnels, messages: Vec<(SocketAddr, Vec<u8>)>) {
    for (to, call) in messages {
        assert_eq!(to, at(STATION));
        let answer = give(station, 0, GATEWAY, &call).unwrap();
        let confirmation = give(gateway, 0, STATION, &answer).unwrap();
        give(station, 0, GATEWAY, &confirmation).unwrap();
    }
}

#[test]
fn a_gateway_that_starts_anew_calls_who_was_heard_before() {
    let (mut before, mut station) = joined();
    let mut kept = Vec::new();
    before.moved(|key, endpoint| kept.push((key, endpoint)));
    assert_eq!(kept, [(key(2).public(), at(STATION))]);
    let mut gateway = gateway(Limits::default());
    for (key, endpoint) in kept {
        gateway.recall(&key, endpoint);
    }

    let calls = ticked(&mut gateway);
    assert_eq!(calls.len(), 1);
    converse(&mut gateway, &mut station, calls);

    let (_, up) = sealed(&mut station, 1, &packet(2, 1, b"at once"));
    assert!(give(&mut gateway, 1, STATION, &up).is_ok());
    let (to, _) = sealed(&mut gateway, 2, &packet(1, 2, b"both ways"));
    assert_eq!(to, at(STATION));
    gateway.moved(|_, _| panic!("it was recalled there"));
}

/// A gateway that was restarted with two peers of which the first is heard no more, and no room
/// for a second call in a tick.
fn recalled() -> Tunnels {
    let limits = Limits {
        handshakes_per_second: 1,
        ..Limits::default()
    };
    let mut gateway = gateway(limits);
    for last in [3, 4] {
        gateway
            .add(PeerSetup {
                key: key(last).public(),
                address: address(last),
                endpoint: None,
                keepalive_s: None,
            })
            .unwrap();
    }
    gateway.recall(&key(2).public(), at("203.0.113.2:2"));
    gateway.recall(&key(3).public(), at(STATION));
    gateway
}

#[test]
fn who_sends_with_old_keys_is_called_before_the_silent_and_once() {
    let (_, mut station) = joined();
    let (_, old) = sealed(&mut station, 1, &packet(2, 1, b"old keys"));
    let mut gateway = recalled();
    for from in [STATION, STATION, "198.51.100.9:9"] {
        assert_eq!(
            give(&mut gateway, 0, from, &old),
            Err(Refusal::IndexUnknown)
        );
    }

    let places = |sent: Vec<(SocketAddr, Vec<u8>)>| -> Vec<SocketAddr> {
        sent.into_iter().map(|(to, _)| to).collect()
    };
    assert_eq!(
        places(ticked(&mut gateway)),
        [at(STATION), at("203.0.113.2:2")]
    );
    for _ in 0..4 {
        let _ = give(&mut gateway, 0, STATION, &old);
        assert!(ticked(&mut gateway).is_empty());
    }
}

#[test]
fn who_was_heard_before_a_restart_is_called_one_in_a_tick_and_not_for_ever() {
    let mut gateway = recalled();

    let tried: Vec<usize> = (0..200).map(|_| ticked(&mut gateway).len()).collect();

    assert!(tried.iter().all(|calls| *calls <= 1));
    // Within 5 s of the machine's clock a handshake is under way and is not begun again.
    assert_eq!(tried.iter().sum::<usize>(), 2);
    assert!(gateway.calls.next().is_none());
}

#[test]
fn a_place_of_before_does_not_replace_where_a_peer_is_now() {
    let (mut gateway, _) = joined();

    gateway.recall(&key(2).public(), at("203.0.113.2:2"));
    gateway.recall(&key(9).public(), at("203.0.113.2:2"));

    assert_eq!(gateway.peers().next().unwrap().endpoint, Some(at(STATION)));
    assert!(ticked(&mut gateway).is_empty());
}

#[test]
fn an_endpoint_is_told_once_and_only_of_a_peer_with_keys_in_use() {
    let (mut gateway, mut station) = (gateway(Limits::default()), station(2, 2));
    let call = initiation(&mut station);
    let answer = give(&mut gateway, 0, STATION, &call).unwrap();
    // The initiation may be an old one that somebody sends from elsewhere.
    gateway.moved(|_, _| panic!("not confirmed"));
    let confirmation = give(&mut station, 0, GATEWAY, &answer).unwrap();
    give(&mut gateway, 0, STATION, &confirmation).unwrap();

    let mut told = Vec::new();
    for _ in 0..2 {
        gateway.moved(|_, endpoint| told.push(endpoint));
    }

    assert_eq!(told, [at(STATION)]);
}

#[test]
fn a_station_that_starts_anew_is_known_by_its_key() {
    let (mut gateway, _) = joined();
    let mut station = station(2, 2);

    let call = initiation(&mut station);
    let answer = give(&mut gateway, 50 * NS_PER_MS, "203.0.113.9:9", &call).unwrap();
    give(&mut station, 0, GATEWAY, &answer).unwrap();
    let (_, message) = sealed(&mut station, 1, &packet(2, 1, b"new"));

    assert!(give(&mut gateway, 51 * NS_PER_MS, "203.0.113.9:9", &message).is_ok());
}

#[test]
fn a_packet_without_keys_is_refused_and_starts_one_handshake() {
    let mut station = station(2, 2);
    let up = packet(2, 1, b"early");
    let mut out = [0; 2048];

    let first = station.send(address(1), &up, &mut out).unwrap();
    assert!(!first.carries && first.message.len() == MESSAGE_MIN);
    let second = station.send(address(1), &up, &mut out);

    assert_eq!(second, Err(Refusal::NoSession));
    assert_eq!(station.counts().refused(Refusal::NoSession), 2);
    assert_eq!(station.counts().sent, 0);
}

#[test]
fn bounds_and_doubles_are_refused_and_change_nothing() {
    let limits = Limits {
        peers: 1,
        ..Limits::default()
    };
    let mut gateway = gateway(limits);
    let setup = |seed: u8, last: u8| PeerSetup {
        key: key(seed).public(),
        address: address(last),
        endpoint: None,
        keepalive_s: None,
    };

    assert_eq!(gateway.add(setup(4, 4)), Err(PeerError::Full { limit: 1 }));
    let taken = Err(PeerError::KeyTaken(key(2).public()));
    assert_eq!(gateway.add(setup(2, 4)), taken);
    assert_eq!(
        gateway.add(setup(4, 2)),
        Err(PeerError::AddressTaken(address(2)))
    );
    assert_eq!(
        gateway.add(setup(1, 4)),
        Err(PeerError::KeyTaken(key(1).public()))
    );
    assert!(gateway.remove(&key(2).public()) && !gateway.remove(&key(2).public()));
    assert_eq!(gateway.add(setup(4, 2)), Ok(()));
}

#[test]
fn a_removed_peer_is_no_longer_heard() {
    let (mut gateway, mut station) = joined();
    gateway.remove(&key(2).public());
    let (_, message) = sealed(&mut station, 1, &packet(2, 1, b"gone"));

    let refused = give(&mut gateway, 1, STATION, &message);

    assert_eq!(refused, Err(Refusal::IndexUnknown));
}

#[test]
fn short_buffers_are_refused() {
    let (mut gateway, mut station) = joined();
    let up = packet(2, 1, &[7; 200]);
    let mut out = [0; 2048];
    let exact = up.len() + MESSAGE_OVERHEAD;

    assert_eq!(
        station.send(address(1), &up, &mut out[..exact - 1]),
        Err(Refusal::TooLong)
    );
    let message = station.send(address(1), &up, &mut out[..exact]).unwrap();
    let message = message.message.to_vec();
    assert_eq!(message.len(), exact);
    let mut out = [0; MESSAGE_MIN];
    let short = gateway.receive(1, at(STATION), &message, &mut out);
    assert_eq!(short, Err(Refusal::TooLong));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        kind in 0_u8..6,
        index in 0_u32..4,
    ) {
        let (mut gateway, _) = joined();
        let mut datagram = bytes;
        for (place, value) in datagram.iter_mut().zip([kind, 0, 0, 0]) {
            *place = value;
        }
        for (place, value) in datagram.iter_mut().skip(4).zip((index << 7).to_le_bytes()) {
            *place = value;
        }

        let _ = give(&mut gateway, 1, STATION, &datagram);

        proptest::prop_assert_eq!(gateway.counts().received, 0);
        proptest::prop_assert_eq!(gateway.peers().next().unwrap().endpoint, Some(at(STATION)));
    }
}
