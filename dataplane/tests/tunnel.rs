//! A data plane whose BaseStations come through WireGuard, on loopback: its own process's inside,
//! other ends of tunnels made with the library, an origin, and the gateway's control connection.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "test code")]
#![expect(clippy::unwrap_used, reason = "test code")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qlink_dataplane::{DataplaneConfig, DataplaneError, run};
use qlink_io::seqpacket::SeqConn;
use qlink_io::udp::UdpPort;
use qlink_io::wait::wait;
use qlink_io::{Burst, Outgoing, PacketPort as _, PacketSource as _};
use qlink_meter::ArenaSet;
use qlink_pfcp::{
    Answer, Cause, DownlinkPath, Payer, Request, SessionRules, TunnelEnd, TunnelMember,
    decode_answer, encode_request,
};
use qlink_tunnel::{Limits, PeerSetup, PrivateKey, PublicKey, TICK, TunnelPort, Tunnels};
use qlink_types::ids::{Hash32, SessionId, Teid};
use qlink_wire::build::udp_packet;
use qlink_wire::{LinkType, gpdu_header, parse_gtpu};

/// Longer than any machine needs; nothing is judged by time.
const PATIENCE: Duration = Duration::from_secs(60);
const SERVER: &str = "192.0.2.9:53";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes([seed; 32])
}

fn tunnel_address(last: u8) -> IpAddr {
    IpAddr::from([10, 99, 0, last])
}

fn gtpu_at(last: u8) -> SocketAddr {
    SocketAddr::new(tunnel_address(last), 2152)
}

fn ue(number: u8) -> IpAddr {
    IpAddr::from([10, 45, 0, number])
}

/// What stays when a data plane goes.
struct Network {
    _folder: tempfile::TempDir,
    origin: UdpSocket,
    config: DataplaneConfig,
}

struct Running {
    n3: SocketAddr,
    n6: SocketAddr,
    control: SeqConn,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), DataplaneError>>,
}

impl Network {
    /// BaseStation 2 is configured; the gateway may add others.
    fn new(workers: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let origin = UdpSocket::bind("127.0.0.1:0").unwrap();
        origin.set_read_timeout(Some(PATIENCE)).unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("tunnel.key"), "01".repeat(32)).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path("tunnel.key"), mode).unwrap();
        // The port stays the same when it starts again, as a gateway's does.
        let free = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = serde_json::json!({
            "n3": "127.0.0.1:0", "n6_local": "127.0.0.1:0",
            "n6_peer": origin.local_addr().unwrap(), "control_socket": path("control"),
            "arena": path("arena"), "journal": path("journal"), "workers": workers,
            "max_sessions": 8, "max_flows": 4, "max_views": 4, "max_contents": 2,
            "udp_offload": "none",
            "tunnel": {
                "listen": free.local_addr().unwrap(), "key_file": path("tunnel.key"),
                "address": "10.99.0.1/24",
                "peers": [{"key": key(2).public(), "address": "10.99.0.2"}],
            },
        });
        Self {
            origin,
            config: serde_json::from_value(config).unwrap(),
            _folder: folder,
        }
    }

    fn start(&self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = channel();
        let thread = std::thread::spawn({
            let (config, stop) = (self.config.clone(), Arc::clone(&stop));
            move || run(&config, |info| ready.send(info.clone()).unwrap(), &stop)
        });
        let Ok(info) = started.recv_timeout(PATIENCE) else {
            panic!("not started: {:?}", thread.join());
        };
        let control = SeqConn::connect(&self.config.control_socket).unwrap();
        Running {
            n3: info.n3,
            n6: info.n6,
            control,
            stop,
            thread,
        }
    }

    fn listen(&self) -> SocketAddr {
        self.config.tunnel.as_ref().unwrap().listen
    }

    fn drops(&self, reason: &str) -> u64 {
        let drops = ArenaSet::open(&self.config.arena).unwrap().drops();
        drops.get(reason).copied().unwrap_or(0)
    }

    /// What the origin gets next.
    fn at_origin(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let (length, _) = self.origin.recv_from(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }
}

impl Running {
    fn ask(&self, request: &Request) -> Answer {
        self.control
            .send(&encode_request(1, request).unwrap())
            .unwrap();
        let mut buffer = vec![0; 65_536];
        let length = self.control.recv(&mut buffer, Some(PATIENCE)).unwrap();
        decode_answer(&buffer[..length.unwrap()]).unwrap().1
    }

    /// A session of subscriber `number` at the BaseStation with this tunnel address; its TEID.
    fn establish(&self, number: u8, station: u8) -> Teid {
        let rules = SessionRules {
            session: SessionId::new([number; 16]),
            teid: None,
            ue: ue(number),
            path: DownlinkPath {
                peer: gtpu_at(station),
                downlink_teid: Teid::new(u32::from(number) + 1000),
            },
            basestation: None,
            sponsor: None,
            payer: Payer::Operator,
        };
        match self.ask(&Request::Establish { rules }) {
            Answer::Established { teid, n3, .. } => {
                assert_eq!(n3.0, gtpu_at(1), "it sends into the tunnel");
                teid
            }
            other => panic!("{other:?}"),
        }
    }

    fn add(&self, seed: u8, address: IpAddr) -> Result<TunnelEnd, Cause> {
        let member = TunnelMember {
            key: Hash32::new(key(seed).public().to_bytes()),
            address,
        };
        match self.ask(&Request::AddTunnelMember { member }) {
            Answer::TunnelMemberAdded { end } => Ok(end),
            Answer::Refused { refusal } => Err(refusal.cause),
            other => panic!("{other:?}"),
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

/// A BaseStation: an end of a tunnel with key and address of this number.
struct Station {
    port: TunnelPort<UdpPort>,
    ticked: Instant,
}

impl Station {
    fn new(number: u8, gateway: SocketAddr) -> Self {
        let mut tunnels = Tunnels::new(key(number), tunnel_address(number), Limits::default());
        tunnels
            .add(PeerSetup {
                key: key(1).public(),
                address: tunnel_address(1),
                endpoint: Some(gateway),
                keepalive_s: Some(25),
            })
            .unwrap();
        let port = UdpPort::bind("127.0.0.1:0".parse().unwrap(), LinkType::RawIp).unwrap();
        let mut port = TunnelPort::new(port, tunnels, 2152);
        port.tick();
        Self {
            port,
            ticked: Instant::now(),
        }
    }

    /// Works until `done`, which sees each GTP-U message; `false` when patience ends.
    fn work(&mut self, mut done: impl FnMut(&mut TunnelPort<UdpPort>, &[u8]) -> bool) -> bool {
        let (mut burst, started) = (Burst::new(), Instant::now());
        while started.elapsed() < PATIENCE {
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                self.port.tick();
            }
            self.port.recv_burst(&mut burst).unwrap();
            let messages: Vec<Vec<u8>> =
                burst.iter().map(|d| self.port.frame(d).to_vec()).collect();
            for message in messages.iter().map(Vec::as_slice).chain([&[][..]]) {
                if done(&mut self.port, message) {
                    return true;
                }
            }
            wait(&[self.port.as_fd()], Some(Duration::from_millis(50))).unwrap();
        }
        false
    }

    /// Waits for keys.
    fn join(&mut self) {
        let before = self.port.tunnels().counts().handshakes;
        assert!(self.work(|port, _| port.tunnels().counts().handshakes > before));
    }

    /// Sends a subscriber's packet.
    fn uplink(&self, teid: Teid, number: u8, payload: &[u8]) -> Vec<u8> {
        let from = SocketAddr::new(ue(number), 40_000);
        let inner = udp_packet(from, SERVER.parse().unwrap(), payload).unwrap();
        let head = gpdu_header(teid.get(), u16::try_from(inner.len()).unwrap());
        let item = Outgoing {
            head: &head,
            body: &inner,
            to: gtpu_at(1),
        };
        assert_eq!(self.port.send(&[item]).unwrap(), 1);
        inner
    }
}

/// A packet to a subscriber, as the origin sends it.
fn downlink(number: u8, payload: &[u8]) -> Vec<u8> {
    let to = SocketAddr::new(ue(number), 40_000);
    udp_packet(SERVER.parse().unwrap(), to, payload).unwrap()
}

fn carries(network: &Network, running: &Running, station: &mut Station, teid: Teid, number: u8) {
    let inner = station.uplink(teid, number, &[number; 900]);
    assert_eq!(network.at_origin(), inner);
    let down = downlink(number, &[number; 1200]);
    network.origin.send_to(&down, running.n6).unwrap();
    let arrived = station.work(|_, message| {
        parse_gtpu(message)
            .is_ok_and(|gtpu| gtpu.teid == u32::from(number) + 1000 && gtpu.payload == down)
    });
    assert!(arrived);
}

#[test]
fn sessions_of_every_worker_are_carried_through_the_tunnel() {
    let network = Network::new(3);
    let running = network.start();
    let mut station = Station::new(2, network.listen());
    station.join();

    let teids: Vec<Teid> = (10..16)
        .map(|number| running.establish(number, 2))
        .collect();
    let shards: std::collections::BTreeSet<u32> =
        teids.iter().map(|teid| teid.get() >> 28).collect();
    assert_eq!(shards.len(), 3);
    for (number, teid) in (10..).zip(teids) {
        carries(&network, &running, &mut station, teid, number);
    }

    running.stop();
}

#[test]
fn a_teid_of_another_basestation_is_refused_as_a_peer_mismatch() {
    let network = Network::new(1);
    let running = network.start();
    running.add(3, tunnel_address(3)).unwrap();
    let mut owner = Station::new(2, network.listen());
    let mut other = Station::new(3, network.listen());
    owner.join();
    other.join();
    let teid = running.establish(10, 2);

    other.uplink(teid, 10, b"stolen");
    // The thread keeps the order of what it hands over, so this one comes behind the other.
    let started = Instant::now();
    while network.drops("peer_mismatch") == 0 {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    }
    let inner = owner.uplink(teid, 10, b"own");

    assert_eq!(network.at_origin(), inner);
    assert_eq!(network.drops("peer_mismatch"), 1);
    running.stop();
}

#[test]
fn nobody_without_a_known_key_comes_in() {
    let network = Network::new(1);
    let running = network.start();
    let teid = running.establish(10, 2);
    let mut stranger = Station::new(9, network.listen());
    let started = Instant::now();
    stranger.work(|_, _| started.elapsed() > Duration::from_secs(1));
    assert_eq!(stranger.port.tunnels().counts().handshakes, 0);

    // GTP-U in plain, to the tunnel's port and to N3, is nobody's either: N3 trusts an address, and
    // this session's is in the tunnel.
    let inner = downlink(10, b"x");
    let mut message = gpdu_header(teid.get(), u16::try_from(inner.len()).unwrap()).to_vec();
    message.extend(&inner);
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    plain.send_to(&message, network.listen()).unwrap();
    plain.send_to(&message, running.n3).unwrap();
    let mut station = Station::new(2, network.listen());
    station.join();
    carries(&network, &running, &mut station, teid, 10);

    assert_eq!(network.drops("peer_mismatch"), 1);
    running.stop();
}

#[test]
fn a_basestation_that_was_added_comes_in_also_after_a_restart() {
    let network = Network::new(1);
    let running = network.start();
    let end = running.add(3, tunnel_address(3)).unwrap();
    assert_eq!(end.gtpu, gtpu_at(1));
    assert_eq!(end.listen, network.listen());
    let own = PublicKey::from_bytes(*end.key.as_bytes()).unwrap();
    assert_eq!(own, key(1).public());
    assert_eq!(running.add(3, tunnel_address(3)), Ok(end));
    for (seed, address) in [
        (3, tunnel_address(4)),
        (4, tunnel_address(3)),
        // Of the configuration.
        (2, tunnel_address(5)),
        (5, tunnel_address(2)),
        // Outside the network, and our own.
        (6, "10.98.0.1".parse().unwrap()),
        (6, tunnel_address(1)),
    ] {
        assert_eq!(running.add(seed, address), Err(Cause::RuleInvalid));
    }
    let teid = running.establish(10, 3);
    let mut station = Station::new(3, network.listen());
    station.join();
    carries(&network, &running, &mut station, teid, 10);

    running.stop();
    let running = network.start();

    // The BaseStation does not know of the restart and sends nothing by which it would notice.
    let down = downlink(10, b"?");
    let found = station.work(|_, message| {
        network.origin.send_to(&down, running.n6).unwrap();
        !message.is_empty()
    });
    assert!(found, "not found again");
    carries(&network, &running, &mut station, teid, 10);

    let key = Hash32::new(key(3).public().to_bytes());
    let removed = running.ask(&Request::RemoveTunnelMember { key });
    assert_eq!(removed, Answer::TunnelMemberRemoved { key });
    let mut station = Station::new(3, network.listen());
    let started = Instant::now();
    station.work(|_, _| started.elapsed() > Duration::from_secs(1));
    assert_eq!(station.port.tunnels().counts().handshakes, 0);
    running.stop();
}

#[test]
fn a_key_file_that_others_may_read_stops_the_start() {
    let network = Network::new(1);
    let file = &network.config.tunnel.as_ref().unwrap().key_file;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();

    let refused = run(&network.config, |_| {}, &AtomicBool::new(false));

    let error = refused.unwrap_err();
    assert!(error.is_bad_configuration(), "{error:?}");
}
