//! Viewers, BaseStation and origin over loopback UDP. A relay of a few lines stands in for the
//! gateway's data plane: it takes tunnels off and puts them on.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use qlink_basestation::{Forwarder, Tap, TapDirection, TapPacket, Tunnel, Worker, WorkerHandle};
use qlink_io::udp::UdpPort;
use qlink_io::{Burst, Outgoing, PacketSource};
use qlink_localnet::{
    Catalog, CheatMode, CheatReport, ConnectionScript, ControlClient, Direction, Done, FetchResult,
    FetchScript, ForeignCount, LossPpm, N3Capture, OriginRequest, OriginServiceConfig,
    OriginServiceCount, RequestScript, STACK_SPEED, StationPacket, StationTap, ViewersConfig,
    ViewersCount, ViewersRequest, foreign_bytes, run_origin, run_viewers, socket_drops,
};
use qlink_types::ids::{SessionId, Teid};
use qlink_wire::{LinkType, PduSessionInfo, gpdu_header_with_container, parse_gtpu, parse_ip};
use serde_json::{Value, json};

const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const PATH: &str = "/film.bin";

/// An address of this test alone: other test processes have another number.
fn address(seed: u64, port: u16) -> SocketAddr {
    let [.., a, b, c] = std::process::id().to_be_bytes();
    let net = u8::try_from(seed)
        .unwrap()
        .wrapping_mul(31)
        .wrapping_add(a.wrapping_add(1));
    SocketAddr::from((Ipv4Addr::new(127, net.max(1), b, c.clamp(1, 254)), port))
}

fn viewers_config(
    radio: SocketAddr,
    basestation: SocketAddr,
    loss_ppm: u32,
    seed: u64,
    dir: &tempfile::TempDir,
) -> ViewersConfig {
    ViewersConfig {
        radio,
        basestation,
        control: dir.path().join("viewers"),
        loss_ppm: LossPpm::try_new(loss_ppm).unwrap(),
        seed,
        mtu: 1400,
        window: 128 * 1024,
        speed: STACK_SPEED,
    }
}

fn origin_config(
    n6: SocketAddr,
    gateway: SocketAddr,
    files: BTreeMap<String, PathBuf>,
    seed: u64,
    dir: &tempfile::TempDir,
) -> OriginServiceConfig {
    OriginServiceConfig {
        n6,
        gateway,
        control: dir.path().join("origin"),
        address: ORIGIN,
        port: 80,
        files,
        capture: Some(dir.path().join("n6.pcapng")),
        seed,
        mtu: 1400,
        speed: STACK_SPEED,
    }
}

fn ue(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, number)
}

/// The stand-in for the data plane. TEIDs are the same in both directions: the viewer's number.
struct Relay {
    n3: UdpPort,
    n6: UdpPort,
    basestation: SocketAddr,
    origin: SocketAddr,
}

impl Relay {
    fn run(mut self, stop: &AtomicBool) {
        let mut burst = Burst::new();
        while !stop.load(Ordering::Relaxed) {
            while self.n3.recv_burst(&mut burst).unwrap() > 0 {
                for descriptor in &burst {
                    let gtpu = parse_gtpu(self.n3.frame(descriptor)).unwrap();
                    let item = Outgoing {
                        head: &[],
                        body: gtpu.payload,
                        to: self.origin,
                    };
                    assert_eq!(self.n6.send(&[item]).unwrap(), 1);
                }
            }
            while self.n6.recv_burst(&mut burst).unwrap() > 0 {
                for descriptor in &burst {
                    let frame = self.n6.frame(descriptor);
                    let IpAddr::V4(to) = parse_ip(frame).unwrap().dst else {
                        continue;
                    };
                    let container = PduSessionInfo {
                        qfi: 1,
                        downlink: true,
                    };
                    let len = u16::try_from(frame.len()).unwrap();
                    let head = gpdu_header_with_container(to.octets()[3].into(), len, container);
                    let item = Outgoing {
                        head: &head,
                        body: frame,
                        to: self.basestation,
                    };
                    assert_eq!(self.n3.send(&[item]).unwrap(), 1);
                }
            }
            let ports = [self.n3.as_fd(), self.n6.as_fd()];
            qlink_io::wait::wait(&ports, Some(Duration::from_millis(50))).unwrap();
        }
    }
}

/// Joins BaseStation and simulators as `qlink demo` does.
struct Glue(StationTap);

impl Tap for Glue {
    fn packet(&mut self, packet: &TapPacket<'_>) {
        let direction = match packet.direction {
            TapDirection::Uplink => Direction::Uplink,
            TapDirection::Downlink => Direction::Downlink,
        };
        let TapPacket {
            from,
            to,
            head,
            inner,
            ..
        } = *packet;
        self.0.packet(&StationPacket {
            direction,
            from,
            to,
            head,
            inner,
        });
    }

    fn ask(&mut self, question: Value) -> Result<Value, String> {
        self.0.ask(question)
    }
}

struct Net {
    viewers: ControlClient,
    origin: ControlClient,
    station: Arc<WorkerHandle>,
    film: Vec<u8>,
    ports: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.station.stop();
        self.threads
            .drain(..)
            .for_each(|thread| thread.join().unwrap());
    }
}

impl Net {
    fn start(viewers: u8, film_size: usize, loss_ppm: u32, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut film = vec![0; film_size];
        blake3::Hasher::new()
            .update(&seed.to_be_bytes())
            .finalize_xof()
            .fill(&mut film);
        let film_file = dir.path().join("film.bin");
        std::fs::write(&film_file, &film).unwrap();
        let files = BTreeMap::from([(PATH.to_owned(), film_file)]);
        let [viewer_radio, radio, n3_station, n3, n6, n6_origin] =
            [4000, 4001, 4002, 4003, 4004, 4005].map(|port| address(seed, port));
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();

        let relay = Relay {
            n3: UdpPort::bind(n3, LinkType::RawIp).unwrap(),
            n6: UdpPort::bind(n6, LinkType::RawIp).unwrap(),
            basestation: n3_station,
            origin: n6_origin,
        };
        threads.push(spawn(&stop, move |stop| relay.run(stop)));

        let capture = N3Capture::create(&dir.path().join("n3.pcapng")).unwrap();
        let tap = Glue(StationTap::new(
            Catalog::open(&files).unwrap(),
            Some(capture),
        ));
        let forwarder = Forwarder::new(vec![n3], usize::from(viewers));
        let (worker, station) = Worker::bind(radio, n3_station, forwarder, Box::new(tap)).unwrap();
        threads.push(std::thread::spawn(move || {
            worker.run().map(|_| ()).unwrap();
        }));

        let viewers_config = viewers_config(viewer_radio, radio, loss_ppm, seed, &dir);
        let origin_config = origin_config(n6_origin, n6, files, seed, &dir);
        let connect =
            |path: &PathBuf| ControlClient::connect(path, Duration::from_secs(10)).unwrap();
        let (viewers_path, origin_path) = (
            viewers_config.control.clone(),
            origin_config.control.clone(),
        );
        threads.push(spawn(&stop, move |stop| {
            run_viewers(&viewers_config, stop).map(|_| ()).unwrap();
        }));
        threads.push(spawn(&stop, move |stop| {
            run_origin(&origin_config, stop).map(|_| ()).unwrap();
        }));

        let mut net = Self {
            viewers: connect(&viewers_path),
            origin: connect(&origin_path),
            station: Arc::new(station),
            film,
            ports: vec![viewer_radio, radio, n3_station, n3, n6, n6_origin],
            stop,
            threads,
            dir,
        };
        for number in 1..=viewers {
            net.add_viewer(number, viewer_radio, n3);
        }
        net
    }

    fn add_viewer(&mut self, number: u8, radio: SocketAddr, gateway: SocketAddr) {
        let teid = Teid::new(number.into());
        let tunnel = Tunnel {
            session: SessionId::new([number; 16]),
            ue: ue(number).into(),
            radio: Some(radio),
            gateway,
            uplink_teid: teid,
            downlink_teid: teid,
        };
        self.station.install(tunnel).unwrap().unwrap();
        let _: Done = self
            .viewers
            .call(&ViewersRequest::Add { viewer: ue(number) })
            .unwrap();
    }

    fn watch(&mut self, viewer: Ipv4Addr) {
        let _: Done = self.origin.call(&OriginRequest::Watch { viewer }).unwrap();
        self.station
            .ask_tap(json!({"op": "watch", "viewer": viewer}))
            .unwrap()
            .unwrap();
    }

    fn fetch(&mut self, script: FetchScript) -> FetchResult {
        self.viewers
            .call(&ViewersRequest::Fetch { script })
            .unwrap()
    }

    fn foreign(&mut self, viewer: Ipv4Addr) -> ForeignCount {
        let report = self
            .station
            .ask_tap(json!({"op": "report"}))
            .unwrap()
            .unwrap();
        let station: CheatReport = serde_json::from_value(report).unwrap();
        let origin: CheatReport = self.origin.call(&OriginRequest::Report {}).unwrap();
        foreign_bytes(&station, &origin, viewer)
    }

    fn no_kernel_drops(&self) {
        for port in &self.ports {
            assert_eq!(socket_drops(*port).unwrap(), 0, "{port}");
        }
    }
}

fn spawn(stop: &Arc<AtomicBool>, run: impl FnOnce(&AtomicBool) + Send + 'static) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || run(&stop))
}

fn origin() -> SocketAddrV4 {
    SocketAddrV4::new(ORIGIN, 80)
}

fn film_script(viewer: Ipv4Addr) -> FetchScript {
    let requests = vec![RequestScript::get(PATH)];
    FetchScript::new(
        viewer,
        origin(),
        vec![ConnectionScript {
            requests,
            ..Default::default()
        }],
    )
}

#[test]
fn ten_viewers_fetch_the_film_through_three_per_cent_loss() {
    let mut net = Net::start(10, 1_000_000, 30_000, 1);
    net.watch(ue(1));
    let hash = blake3::hash(&net.film).to_hex().to_string();

    let jobs: Vec<u64> = (1..=10)
        .map(|number| ViewersRequest::Fetch {
            script: film_script(ue(number)),
        })
        .map(|request| net.viewers.submit(&request).unwrap())
        .collect();
    for job in jobs {
        let result: FetchResult = net.viewers.wait(job).unwrap();
        assert_eq!(result.requests[0].body_blake3, hash);
    }

    net.no_kernel_drops();
    let count: ViewersCount = net.viewers.call(&ViewersRequest::Count {}).unwrap();
    let origin: OriginServiceCount = net.origin.call(&OriginRequest::Count {}).unwrap();
    let station = net.station.count().unwrap();
    assert_eq!(
        count.downlink.passed + count.downlink.dropped,
        station.network.downlink_packets
    );
    assert_eq!(station.network.downlink_packets, origin.port.sent);
    assert!(
        count.downlink.dropped > 50 && count.uplink.dropped > 50,
        "{count:?}"
    );
    let foreign = net.foreign(ue(1));
    assert_eq!((foreign.foreign_bytes, foreign.undecided_bytes), (0, 0));
    assert_eq!(foreign.gateway_dropped_bytes, 0);
    net.station
        .ask_tap(json!({"op": "flush"}))
        .unwrap()
        .unwrap();
    let size = |name: &str| std::fs::metadata(net.dir.path().join(name)).unwrap().len();
    assert!(size("n3.pcapng") > 10_000_000 && size("n6.pcapng") > 10_000_000);
}

#[test]
fn cheats_are_accounted_alike_on_both_sides_under_loss() {
    let mut net = Net::start(4, 2_000_000, 30_000, 2);

    let jobs: Vec<u64> = (1..=4_u8)
        .zip(CheatMode::ALL)
        .map(|(number, mode)| {
            net.watch(ue(number));
            let script = mode.script(ue(number), origin(), PATH, 2_000_000);
            net.viewers
                .submit(&ViewersRequest::Fetch { script })
                .unwrap()
        })
        .collect();
    for job in jobs {
        let result: FetchResult = net.viewers.wait(job).unwrap();
        assert!(result.is_complete(), "{result:?}");
    }

    net.no_kernel_drops();
    let least = [2_000_000, 300_000, 150_000, 1_000_000];
    for ((number, mode), least) in (1..=4_u8).zip(CheatMode::ALL).zip(least) {
        let count = net.foreign(ue(number));
        assert_eq!(
            (count.undecided_bytes, count.gateway_dropped_bytes),
            (0, 0),
            "{mode:?}"
        );
        assert!(count.foreign_bytes >= least, "{mode:?}: {count:?}");
        let sum = count.genuine_bytes + count.allowed_bytes + count.foreign_bytes;
        assert_eq!(count.payload_bytes, sum);
    }
}

#[test]
fn unknown_viewers_and_empty_scripts_are_refused_with_a_reason() {
    let mut net = Net::start(1, 1_000, 0, 3);

    let unknown = net.viewers.call::<_, FetchResult>(&ViewersRequest::Fetch {
        script: film_script(ue(9)),
    });
    let empty = FetchScript::new(ue(1), origin(), Vec::new());
    let empty = net
        .viewers
        .call::<_, FetchResult>(&ViewersRequest::Fetch { script: empty });

    assert_eq!(
        unknown.unwrap_err().to_string(),
        "refused: no viewer at 10.1.0.9"
    );
    assert_eq!(
        empty.unwrap_err().to_string(),
        "refused: script holds nothing to fetch"
    );
    assert_eq!(net.fetch(film_script(ue(1))).requests[0].body_bytes, 1_000);
}

/// Sum of `tcp.len` of a viewer's packets in one direction, as tshark reads a capture.
fn tshark_payload(file: &Path, direction: &str, viewer: Ipv4Addr) -> u64 {
    let filter = format!("tcp && ip.{direction}=={viewer}");
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(file)
        // N3 of this test is not on port 2152.
        .args([
            "-d",
            "udp.port==4003,gtp",
            "-Y",
            &filter,
            "-T",
            "fields",
            "-e",
            "tcp.len",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

#[test]
fn tshark_reads_the_accounts_payload_from_the_captures() {
    if Command::new("tshark").arg("--version").output().is_err() {
        eprintln!("skipped: tshark is not installed");
        return;
    }
    let mut net = Net::start(1, 300_000, 30_000, 4);
    let viewer = ue(1);
    net.watch(viewer);

    let script = CheatMode::UplinkPayload.script(viewer, origin(), PATH, 300_000);
    assert!(net.fetch(script).is_complete());

    let count = net.foreign(viewer);
    net.station
        .ask_tap(json!({"op": "flush"}))
        .unwrap()
        .unwrap();
    let _: OriginServiceCount = net.origin.call(&OriginRequest::Count {}).unwrap();
    let downlink = tshark_payload(&net.dir.path().join("n3.pcapng"), "dst", viewer);
    let uplink = tshark_payload(&net.dir.path().join("n6.pcapng"), "src", viewer);
    assert!(downlink > 300_000 && uplink > 150_000);
    assert_eq!(downlink + uplink, count.payload_bytes);
}
