//! A whole data plane process's inside on loopback: two sockets stand for a BaseStation and an
//! origin, a third one for the gateway.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qlink_dataplane::{
    DataplaneConfig, DataplaneError, N3Backend, PathsConfig, UdpOffload, metrics_text, run,
};
use qlink_io::probe::BackEnd;
use qlink_io::seqpacket::SeqConn;
use qlink_meter::{ArenaSet, ArenaSetup, CounterArena, TeidAllocator};
use qlink_pfcp::{
    Answer, Cause, ContentBinding, DataPlaneInfo, DownlinkPath, Payer, Request, SessionChanges,
    SessionRules, SessionUsage, Sponsor, decode_answer, encode_request,
};
use qlink_types::codec::Text;
use qlink_types::ids::{ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch};
use qlink_wire::build::udp_packet;
use qlink_wire::{gpdu_header, parse_gtpu};

const TIMEOUT: Duration = Duration::from_secs(5);
const UE: &str = "10.45.0.2:40000";
const SERVER: &str = "192.0.2.9:53";

/// A data plane with its neighbours.
struct Network {
    folder: tempfile::TempDir,
    basestation: UdpSocket,
    origin: UdpSocket,
    config: DataplaneConfig,
}

/// A running data plane and the gateway's connection to it.
struct Running {
    info: DataPlaneInfo,
    control: SeqConn,
    sequence: u32,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), DataplaneError>>,
}

impl Network {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = |address: &str| {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            socket
        };
        let (basestation, origin) = (socket("127.9.1.2:0"), socket("127.9.1.3:0"));
        let path = |name: &str| folder.path().join(name);
        let config = DataplaneConfig {
            n3: "127.9.1.1:0".parse().unwrap(),
            n6_local: Some("127.9.1.1:0".parse().unwrap()),
            n6_peer: Some(origin.local_addr().unwrap()),
            n6_tun: None,
            pfcp: None,
            udp_offload: UdpOffload::None,
            own: Vec::new(),
            control_socket: path("control"),
            arena: path("arena"),
            journal: path("journal"),
            workers: 1,
            max_sessions: 4,
            max_flows: 4,
            max_views: 4,
            max_contents: 2,
            mtu: None,
            nat: None,
            ipfix: None,
            metrics: None,
            paths: PathsConfig::default(),
            backend: N3Backend::default(),
            xdp: None,
            dpdk: None,
            n3_v6: None,
            packet: None,
            tunnel: None,
        };
        Self {
            folder,
            basestation,
            origin,
            config,
        }
    }

    fn start(&self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = channel();
        let thread = std::thread::spawn({
            let (config, stop) = (self.config.clone(), Arc::clone(&stop));
            move || run(&config, |info| ready.send(info.clone()).unwrap(), &stop)
        });
        let Ok(info) = started.recv_timeout(TIMEOUT) else {
            panic!("not started: {:?}", thread.join());
        };
        Running {
            info,
            control: SeqConn::connect(&self.config.control_socket).unwrap(),
            sequence: 0,
            stop,
            thread,
        }
    }

    fn film(&self) -> (PathBuf, ContentBinding) {
        let path = self.folder.path().join("film");
        std::fs::write(&path, vec![5; 50_000]).unwrap();
        let binding = ContentBinding {
            content: ContentId::new(*blake3::hash(&[5; 50_000]).as_bytes()),
            size: Bytes::new(50_000),
            path: Text::try_from(path.to_str().unwrap()).unwrap(),
        };
        (path, binding)
    }

    fn rules(&self, number: u8) -> SessionRules {
        SessionRules {
            session: SessionId::new([number; 16]),
            teid: None,
            ue: UE.parse::<SocketAddr>().unwrap().ip(),
            path: DownlinkPath {
                peer: self.basestation.local_addr().unwrap(),
                downlink_teid: Teid::new(77),
            },
            basestation: None,
            sponsor: None,
            payer: Payer::Operator,
        }
    }

    /// Sends an uplink packet through the tunnel and waits until the origin has it.
    fn uplink(&self, running: &Running, teid: Teid, payload: usize) {
        let inner = datagram(UE, SERVER, payload);
        let length = u16::try_from(inner.len()).unwrap();
        let mut message = gpdu_header(teid.get(), length).to_vec();
        message.extend(&inner);
        self.basestation.send_to(&message, running.info.n3).unwrap();
        assert_eq!(receive(&self.origin), inner);
    }

    /// Sends a downlink packet and waits until the BaseStation has it.
    fn downlink(&self, running: &Running, payload: usize) {
        let inner = datagram(SERVER, UE, payload);
        self.origin.send_to(&inner, running.info.n6).unwrap();
        let message = receive(&self.basestation);
        let gtpu = parse_gtpu(&message).unwrap();
        assert_eq!((gtpu.teid, gtpu.payload), (77, inner.as_slice()));
    }
}

impl Running {
    fn ask(&mut self, request: &Request) -> Answer {
        self.sequence += 1;
        let message = encode_request(self.sequence, request).unwrap();
        self.control.send(&message).unwrap();
        let mut buffer = vec![0; 65_536];
        let length = self.control.recv(&mut buffer, Some(TIMEOUT)).unwrap();
        let (sequence, answer) = decode_answer(&buffer[..length.unwrap()]).unwrap();
        assert_eq!(sequence, self.sequence);
        answer
    }

    fn establish(&mut self, rules: SessionRules) -> Teid {
        match self.ask(&Request::Establish { rules }) {
            Answer::Established { teid, .. } => teid,
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, session: SessionId) -> SessionUsage {
        match self.ask(&Request::Delete { session }) {
            Answer::Deleted { usage, .. } => usage,
            other => panic!("{other:?}"),
        }
    }

    fn cause(&mut self, request: &Request) -> Cause {
        match self.ask(request) {
            Answer::Refused { refusal } => refusal.cause,
            other => panic!("{other:?}"),
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap();
    }
}

fn datagram(from: &str, to: &str, payload: usize) -> Vec<u8> {
    udp_packet(
        from.parse().unwrap(),
        to.parse().unwrap(),
        &vec![1; payload],
    )
    .unwrap()
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

/// What a packet adds is counted after it was sent, so the sender may be earlier than the count.
fn eventually(arena: &Path, session: SessionId, done: impl Fn(&SessionUsage) -> bool) {
    let reader = ArenaSet::open(arena).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let snapshot = reader.session(&session).unwrap();
        if done(&snapshot.usage) {
            return;
        }
        assert!(Instant::now() < deadline, "{snapshot:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_session_is_established_carries_packets_both_ways_and_is_deleted() {
    carries_a_session(&Network::new());
}

#[test]
fn a_basestation_of_ipv6_is_served_beside_those_of_ipv4() {
    let mut network = Network::new();
    let reserved = UdpSocket::bind("[::1]:0").unwrap();
    let second = reserved.local_addr().unwrap();
    drop(reserved);
    let SocketAddr::V6(v6) = second else {
        unreachable!("bound to IPv6")
    };
    network.config.n3_v6 = Some(v6);
    let mut running = network.start();
    let station = UdpSocket::bind("[::1]:0").unwrap();
    station.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut rules = network.rules(2);
    rules.ue = [10, 45, 0, 9].into();
    rules.path.peer = station.local_addr().unwrap();
    let teid = running.establish(rules);

    let up = datagram("10.45.0.9:40000", SERVER, 100);
    let mut message = gpdu_header(teid.get(), 128).to_vec();
    message.extend(&up);
    station.send_to(&message, second).unwrap();
    assert_eq!(receive(&network.origin), up);
    let down = datagram(SERVER, "10.45.0.9:40000", 200);
    network.origin.send_to(&down, running.info.n6).unwrap();
    let mut buffer = [0; 2048];
    let (length, from) = station.recv_from(&mut buffer).unwrap();

    assert_eq!(from, second);
    assert_eq!(parse_gtpu(&buffer[..length]).unwrap().payload, down);
    let of_v4 = running.establish(network.rules(1));
    network.uplink(&running, of_v4, 100);
    network.downlink(&running, 100);
    running.stop();
}

#[test]
fn a_session_is_carried_the_same_by_io_uring() {
    if !BackEnd::Uring.probe().is_usable() {
        println!("skipped: io_uring cannot be used here");
        return;
    }
    for offload in [UdpOffload::None, UdpOffload::Segmentation] {
        let mut network = Network::new();
        network.config.backend = N3Backend::Uring;
        network.config.udp_offload = offload;
        carries_a_session(&network);
    }
}

/// A session from its beginning to its end, with exact counters.
fn carries_a_session(network: &Network) {
    let mut running = network.start();
    assert!(matches!(running.ask(&Request::Hello), Answer::Hello { info } if info == running.info));

    let teid = running.establish(network.rules(1));
    assert_eq!(running.establish(network.rules(1)), teid);
    network.uplink(&running, teid, 100);
    network.downlink(&running, 200);
    let session = SessionId::new([1; 16]);
    eventually(&network.config.arena, session, |usage| {
        usage.uplink.packets == 1 && usage.downlink.packets == 1
    });
    let usage = running.delete(session);

    assert_eq!(usage.uplink.network_bytes, Bytes::new(128));
    assert_eq!(usage.downlink.network_bytes, Bytes::new(228));
    assert_eq!(usage.classes.user_charged, Bytes::new(300));
    assert_eq!(running.delete(session), usage);
    let unknown = Request::Delete {
        session: SessionId::new([9; 16]),
    };
    assert_eq!(running.cause(&unknown), Cause::SessionUnknown);
    let text = metrics_text(&ArenaSet::open(&network.config.arena).unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.contains("qlink_dataplane_sent_packets_total{worker=\"0\"} 2"),
        "{text}"
    );
    assert!(
        text.contains("qlink_dataplane_sessions{worker=\"0\"} 0"),
        "{text}"
    );
    running.stop();
}

#[test]
fn a_subscriber_cannot_reach_the_next_hop() {
    let network = Network::new();
    let mut running = network.start();
    let teid = running.establish(network.rules(1));
    let next_hop = network.origin.local_addr().unwrap().to_string();
    let inner = datagram(UE, &next_hop, 5);
    let length = u16::try_from(inner.len()).unwrap();
    let mut message = gpdu_header(teid.get(), length).to_vec();
    message.extend(&inner);

    network
        .basestation
        .send_to(&message, running.info.n3)
        .unwrap();
    // Packets keep their order, so this one arriving shows that the other one was judged.
    network.uplink(&running, teid, 100);

    let drops = ArenaSet::open(&network.config.arena).unwrap().drops();
    assert_eq!(drops.get("to_infrastructure"), Some(&1));
    running.stop();
}

#[test]
fn a_content_is_bound_only_when_its_bytes_are_the_content() {
    let network = Network::new();
    let mut running = network.start();
    let (path, binding) = network.film();
    let bind = |binding: &ContentBinding| Request::BindContent {
        binding: binding.clone(),
    };
    let mut sponsored = network.rules(1);
    sponsored.sponsor = Some(Sponsor {
        package: PackageId::new([2; 16]),
        package_epoch: PackageEpoch::ZERO,
        viewer: ViewerKey::ZERO,
        contents: vec![binding.content].try_into().unwrap(),
        origins: Vec::new().try_into().unwrap(),
        limit: binding.size,
        repeat: RepeatPolicy::Free,
    });
    let establish = Request::Establish {
        rules: sponsored.clone(),
    };

    assert_eq!(running.cause(&establish), Cause::ContentUnknown);
    std::fs::write(&path, vec![6; 50_000]).unwrap();
    assert_eq!(running.cause(&bind(&binding)), Cause::ContentMismatch);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(running.cause(&bind(&binding)), Cause::ContentUnreadable);
    let (_, binding) = network.film();
    assert!(matches!(running.ask(&bind(&binding)), Answer::Bound { .. }));
    running.establish(sponsored);
    let unbind = Request::UnbindContent {
        content: binding.content,
    };
    assert_eq!(running.cause(&unbind), Cause::ContentInUse);
    running.stop();
}

#[test]
fn a_restarted_data_plane_goes_on_with_sessions_and_counters() {
    let network = Network::new();
    let mut running = network.start();
    let teid = running.establish(network.rules(1));
    network.uplink(&running, teid, 100);
    let session = SessionId::new([1; 16]);
    eventually(&network.config.arena, session, |usage| {
        usage.uplink.packets == 1
    });
    let incarnation = running.info.incarnation;
    running.stop();

    let mut running = network.start();
    network.uplink(&running, teid, 100);

    assert_eq!(running.info.incarnation, incarnation);
    eventually(&network.config.arena, session, |usage| {
        usage.uplink.packets == 2
    });
    match running.ask(&Request::List { after: None }) {
        Answer::Sessions { sessions, more } => {
            assert_eq!(sessions[0].teid, Some(teid));
            assert!(!more);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(running.establish(network.rules(1)), teid);
    running.stop();
}

#[test]
fn a_changed_path_takes_effect_and_a_wrong_change_does_not() {
    let network = Network::new();
    let mut running = network.start();
    let teid = running.establish(network.rules(1));
    let session = SessionId::new([1; 16]);
    let elsewhere = UdpSocket::bind("127.9.1.4:0").unwrap();
    elsewhere.set_read_timeout(Some(TIMEOUT)).unwrap();
    let modify = |changes| Request::Modify { session, changes };

    let refused = running.cause(&modify(SessionChanges {
        sponsor_limit: Some(Bytes::new(1)),
        ..SessionChanges::default()
    }));
    let answer = running.ask(&modify(SessionChanges {
        path: Some(DownlinkPath {
            peer: elsewhere.local_addr().unwrap(),
            downlink_teid: Teid::new(99),
        }),
        ..SessionChanges::default()
    }));

    assert_eq!(refused, Cause::RuleInvalid);
    assert_eq!(answer, Answer::Modified { session });
    network
        .origin
        .send_to(&datagram(SERVER, UE, 10), running.info.n6)
        .unwrap();
    assert_eq!(parse_gtpu(&receive(&elsewhere)).unwrap().teid, 99);
    assert_ne!(teid.get(), 0);
    running.stop();
}

#[test]
fn bytes_that_are_no_request_are_refused_and_the_connection_lives() {
    let network = Network::new();
    let mut running = network.start();

    running.control.send(&[0, 1, 0, 0, 0, 9, 99]).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = running.control.recv(&mut buffer, Some(TIMEOUT)).unwrap();
    let (sequence, answer) = decode_answer(&buffer[..length.unwrap()]).unwrap();

    assert_eq!(sequence, 9);
    assert!(matches!(answer, Answer::Refused { refusal } if refusal.cause == Cause::Malformed));
    assert!(matches!(running.ask(&Request::Hello), Answer::Hello { .. }));
    running.stop();
}

#[test]
fn a_second_data_plane_on_the_same_files_is_refused() {
    let network = Network::new();
    let running = network.start();
    let journal = std::fs::read(&network.config.journal).unwrap();

    let second = run(&network.config, |_| {}, &AtomicBool::new(true));

    assert!(
        matches!(second, Err(DataplaneError::Arena(_))),
        "{second:?}"
    );
    assert_eq!(std::fs::read(&network.config.journal).unwrap(), journal);
    running.stop();
}

#[test]
fn a_delete_that_a_kill_cut_short_keeps_its_counters() {
    let network = Network::new();
    let mut running = network.start();
    let (_, binding) = network.film();
    running.ask(&Request::BindContent {
        binding: binding.clone(),
    });
    let mut rules = network.rules(1);
    rules.sponsor = Some(Sponsor {
        package: PackageId::new([2; 16]),
        package_epoch: PackageEpoch::ZERO,
        viewer: ViewerKey::ZERO,
        contents: vec![binding.content].try_into().unwrap(),
        origins: Vec::new().try_into().unwrap(),
        limit: binding.size,
        repeat: RepeatPolicy::Free,
    });
    let teid = running.establish(rules.clone());
    network.uplink(&running, teid, 100);
    eventually(&network.config.arena, rules.session, |usage| {
        usage.uplink.packets == 1
    });
    running.stop();
    // The worker closed the session, and the process died before the journal knew.
    let setup = ArenaSetup {
        layout: network.config.validate().unwrap().layout(),
        incarnation: Incarnation::new(1),
        shards: 1,
    };
    let (mut arena, _) = CounterArena::open(&network.config.arena, setup).unwrap();
    arena.close_session(TeidAllocator::slot_of(teid));
    drop(arena);

    let mut running = network.start();
    let usage = running.delete(rules.session);

    assert_eq!(usage.uplink.network_bytes, Bytes::new(128));
    assert_eq!(usage.classes.user_charged, Bytes::new(100));
    assert_eq!(usage.contents.len(), 1);
    assert_eq!(running.delete(rules.session), usage);
    running.stop();
}

#[test]
fn sessions_of_several_workers_carry_packets_whoever_received_them() {
    carries_sessions_of_several_workers(Network::new());
}

#[test]
fn sessions_of_several_workers_are_carried_the_same_by_io_uring() {
    if !BackEnd::Uring.probe().is_usable() {
        println!("skipped: io_uring cannot be used here");
        return;
    }
    let mut network = Network::new();
    network.config.backend = N3Backend::Uring;
    carries_sessions_of_several_workers(network);
}

/// Three workers, a session each, through a restart.
fn carries_sessions_of_several_workers(mut network: Network) {
    network.config.workers = 3;
    network.config.max_sessions = 9;
    let mut running = network.start();
    let ues = ["10.45.0.2:4", "10.45.0.3:4", "10.45.0.4:4"];
    let teids: Vec<Teid> = (1..)
        .zip(ues)
        .map(|(number, ue)| {
            running.establish(SessionRules {
                ue: ue.parse::<SocketAddr>().unwrap().ip(),
                ..network.rules(number)
            })
        })
        .collect();
    let shards: Vec<u32> = teids.iter().map(|teid| teid.get() >> 28).collect();
    assert_eq!(shards, [0, 1, 2]);

    let restart = |running: Running| {
        running.stop();
        network.start()
    };
    for round in 1..=2_u64 {
        for (ue, teid) in ues.iter().zip(&teids) {
            let up = datagram(ue, SERVER, 100);
            let mut message = gpdu_header(teid.get(), 128).to_vec();
            message.extend(&up);
            network
                .basestation
                .send_to(&message, running.info.n3)
                .unwrap();
            assert_eq!(receive(&network.origin), up);
            let down = datagram(SERVER, ue, 200);
            network.origin.send_to(&down, running.info.n6).unwrap();
            assert_eq!(
                parse_gtpu(&receive(&network.basestation)).unwrap().payload,
                down
            );
        }
        for number in 1..=3 {
            eventually(
                &network.config.arena,
                SessionId::new([number; 16]),
                |usage| usage.uplink.packets == round && usage.downlink.packets == round,
            );
        }
        if round == 1 {
            running = restart(running);
        }
    }

    // All downlink packets came to one socket: two sessions in three are another worker's.
    let counters = ArenaSet::open(&network.config.arena).unwrap();
    assert_eq!(counters.totals().worker.get("handed_over"), Some(&4));
    let usage = running.delete(SessionId::new([3; 16]));
    assert_eq!(usage.downlink.network_bytes, Bytes::new(456));
    running.stop();
    let mut other = network.config.clone();
    other.workers = 2;
    let error = run(&other, |_| {}, &AtomicBool::new(true)).unwrap_err();
    assert!(error.is_bad_configuration(), "{error}");
}
