//! What the tunnel does as time passes. The clock is the tests': nothing here waits.
//!
//! Run by `cargo nextest run -p qlink-tunnel --features mock-clock --test clock`: each test is a
//! process of its own, for the clock is one of the process.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mock_instant::global::MockClock;
use qlink_tunnel::{
    Limits, MESSAGE_MIN, PeerSetup, PeerState, PrivateKey, Received, Refusal, TICK, Tunnels,
};
use qlink_wire::build;

const GATEWAY: &str = "192.0.2.1:51820";
const STATION: &str = "198.51.100.7:40000";

/// `Rekey-After-Time` and `Reject-After-Time`.
///
/// Source: WireGuard white paper §6.1.
const REKEY: Duration = Duration::from_secs(120);
const REJECT: Duration = Duration::from_secs(180);

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, last])
}

fn at(endpoint: &str) -> SocketAddr {
    endpoint.parse().unwrap()
}

/// Two ends and the wire between them. Only the gateway's timers may stand still.
struct Pair {
    gateway: Tunnels,
    station: Tunnels,
    now: Duration,
    /// Initiations of the station.
    calls: usize,
    /// Whatever could not be opened or sent.
    refused: Vec<Refusal>,
    /// Packets that came out at the gateway and at the station.
    arrived: [usize; 2],
}

fn end(own: u8, peer: PeerSetup) -> Tunnels {
    let mut tunnels = Tunnels::new(key(own), address(own), Limits::default());
    tunnels.add(peer).unwrap();
    tunnels
}

impl Pair {
    fn new() -> Self {
        let peer = |seed, endpoint: Option<&str>| PeerSetup {
            key: key(seed).public(),
            address: address(seed),
            endpoint: endpoint.map(at),
            keepalive_s: endpoint.map(|_| 25),
        };
        Self {
            gateway: end(1, peer(2, None)),
            station: end(2, peer(1, Some(GATEWAY))),
            now: Duration::ZERO,
            calls: 0,
            refused: Vec::new(),
            arrived: [0; 2],
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        MockClock::advance(time);
    }

    /// A message and everything that follows from it.
    fn carry(&mut self, mut to_gateway: bool, message: &[u8]) {
        let mut message = message.to_vec();
        let mut out = [0; 2048];
        loop {
            self.calls += usize::from(to_gateway && message.first() == Some(&1));
            let now_ns = u64::try_from(self.now.as_nanos()).unwrap();
            let result = if to_gateway {
                self.gateway
                    .receive(now_ns, at(STATION), &message, &mut out)
            } else {
                self.station
                    .receive(now_ns, at(GATEWAY), &message, &mut out)
            };
            match result {
                Ok(Received::Reply(reply)) => message = reply.to_vec(),
                Ok(Received::Packet(_)) => {
                    self.arrived[usize::from(!to_gateway)] += 1;
                    return;
                }
                Ok(Received::Nothing) => return,
                Err(reason) => {
                    self.refused.push(reason);
                    return;
                }
            }
            to_gateway = !to_gateway;
        }
    }

    fn tick_station(&mut self) {
        let mut sent = Vec::new();
        let mut out = [0; MESSAGE_MIN];
        self.station
            .tick(&mut out, |_, message| sent.push(message.to_vec()));
        for message in sent {
            self.carry(true, &message);
        }
    }

    fn tick_gateway(&mut self) {
        let mut sent = Vec::new();
        let mut out = [0; MESSAGE_MIN];
        self.gateway
            .tick(&mut out, |_, message| sent.push(message.to_vec()));
        for message in sent {
            self.carry(false, &message);
        }
    }

    /// Both ends' timers for so long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass(TICK);
            self.tick_station();
            self.tick_gateway();
        }
    }

    fn send(&mut self, up: bool) {
        let (from, to) = if up { (2, 1) } else { (1, 2) };
        let ends = [from, to].map(|last| SocketAddr::new(address(last), 2152));
        let packet = build::udp_packet(ends[0], ends[1], b"data").unwrap();
        let mut out = [0; 2048];
        let end = if up {
            &mut self.station
        } else {
            &mut self.gateway
        };
        let message = match end.send(address(to), &packet, &mut out) {
            Ok(sending) => {
                if !sending.carries {
                    self.refused.push(Refusal::NoSession);
                }
                sending.message.to_vec()
            }
            Err(reason) => {
                self.refused.push(reason);
                return;
            }
        };
        self.carry(up, &message);
    }
}

fn only(tunnels: &Tunnels) -> PeerState {
    tunnels.peers().next().unwrap()
}

#[test]
fn keys_of_a_caller_first_heard_long_after_it_was_added_last_as_long_as_any() {
    let mut pair = Pair::new();
    // It was added, and for more than `Reject-After-Time` nobody called: its timers stood still.
    pair.pass(REJECT + Duration::from_secs(20));
    pair.tick_station();
    assert!(only(&pair.gateway).handshake_age.unwrap() < Duration::from_secs(1));

    // The first look of its timers must not find its keys old.
    for _ in 0..40 {
        pair.pass(TICK);
        pair.tick_gateway();
        pair.send(false);
        pair.send(true);
    }

    assert_eq!(pair.refused, []);
    assert_eq!(pair.arrived, [40, 40]);
    assert_eq!(pair.gateway.counts().handshakes, 1);
}

#[test]
fn a_caller_that_arrives_after_the_protocol_gave_its_peer_up_is_heard() {
    let mut pair = Pair::new();
    // Nine minutes without keys end the library's peer; here it is only added.
    for _ in 0..3 {
        pair.pass(3 * REJECT);
        pair.tick_gateway();
    }
    pair.tick_station();
    pair.run(Duration::from_secs(10));
    pair.send(false);
    pair.send(true);

    assert_eq!(pair.refused, []);
    assert_eq!(pair.arrived, [1, 1]);
}

#[test]
fn a_basestation_that_only_keeps_alive_renews_its_keys() {
    let mut pair = Pair::new();
    pair.run(REKEY - Duration::from_secs(1));
    assert_eq!(pair.calls, 1);

    pair.run(Duration::from_secs(2));

    // No packet was sent: the library counts only those.
    assert_eq!((pair.calls, pair.arrived), (2, [0, 0]));
    // So its keys are never older than they may be, and downlink finds them at any time.
    for _ in 0..600 {
        pair.run(Duration::from_secs(1));
        pair.send(false);
    }
    assert_eq!(pair.refused, []);
    assert_eq!(pair.arrived, [0, 600]);
}

#[test]
fn packets_one_way_alone_renew_keys_and_none_is_lost() {
    for up in [true, false] {
        let mut pair = Pair::new();
        pair.run(Duration::from_secs(1));
        let calls = pair.calls;
        for _ in 0..4 * 400 {
            pair.run(TICK);
            pair.send(up);
        }

        assert_eq!(pair.refused, [], "up: {up}");
        assert_eq!(pair.arrived[usize::from(!up)], 4 * 400, "up: {up}");
        assert_eq!(pair.arrived[usize::from(up)], 0);
        // 400 s hold three renewals, and no more.
        assert_eq!(pair.calls - calls, 3, "up: {up}");
    }
}

#[test]
fn calls_that_nobody_answers_are_counted_and_go_on_at_a_bounded_rate() {
    let mut pair = Pair::new();
    let mut calls = 0;
    let mut out = [0; MESSAGE_MIN];
    for _ in 0..4 * 60 {
        pair.pass(TICK);
        pair.station.tick(&mut out, |_, _| calls += 1);
    }

    // One at once, then one each 5 s (`Rekey-Timeout`).
    assert!((10..=13).contains(&calls), "{calls}");
    assert_eq!(only(&pair.station).unanswered, calls);
    // Past the 90 s after which the library gives up it still calls.
    for _ in 0..4 * 60 {
        pair.pass(TICK);
        pair.station.tick(&mut out, |_, _| calls += 1);
    }
    let before = calls;
    for _ in 0..4 * 60 {
        pair.pass(TICK);
        pair.station.tick(&mut out, |_, _| calls += 1);
    }
    assert!(calls > before, "{calls}");

    // Once somebody answers all is well again.
    pair.run(Duration::from_secs(10));
    assert_eq!(only(&pair.station).unanswered, 0);
    pair.send(true);
    assert_eq!(pair.arrived, [1, 0]);
}
