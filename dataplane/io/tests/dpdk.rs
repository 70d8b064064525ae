//! The back end `dpdk` with virtual devices: every packet that goes in comes out, counted once.
//!
//! DPDK starts once per process, so each test runs its body in a child of its own; when the tests
//! run as root the child is the user nobody, so that what is shown here needs no privilege.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs::{self, File, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qlink_io::dpdk::{DpdkConfig, DpdkError, DpdkPort, DpdkStats, Eal, EalConfig, Idle};
use qlink_io::frame::{Envelope, FRAME_MIN, Ipv4Checksum, MacAddress};
use qlink_io::neighbour::{NeighbourReader, NeighbourTable};
use qlink_io::pcap::{PcapSource, PcapWriter};
use qlink_io::wait::wait;
use qlink_io::{BURST_MAX, Burst, Descriptor, IoError, Outgoing, PacketSink as _, PacketSource};
use qlink_wire::build::{self, LinkFrame};
use qlink_wire::{GTPU_PORT, LinkType, parse_gtpu, parse_ip, parse_udp, strip_link};

const CHILD: &str = "QLINK_TEST_DPDK_FOLDER";
const NOBODY: u32 = 65_534;
const STATION: &str = "10.0.3.7";
const ENDPOINT: &str = "10.0.3.1";
const ORIGIN: &str = "10.0.6.9";
const ROUTER: MacAddress = MacAddress::new([2, 0, 0, 0, 6, 9]);

/// Runs `body` in a process of its own, in a folder of its own.
fn in_child(name: &str, body: fn(&Path)) {
    if let Some(folder) = std::env::var_os(CHILD) {
        return body(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let mut child = Command::new(&own);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Nobody may not look into the folder that the tests were built in.
        let copy = folder.path().join("tests");
        fs::copy(&own, &copy).unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        child = Command::new(copy);
        child.uid(NOBODY).gid(NOBODY);
    }
    let output = child
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("RUNTIME_DIRECTORY", folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    // A name that matches no test would pass without doing anything.
    assert!(out.contains("1 passed"), "{out}");
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), port)
}

fn start(devices: &[String]) -> Arc<Eal> {
    Eal::start(&EalConfig::unprivileged(devices)).unwrap()
}

fn next_hops() -> NeighbourReader {
    let known = [STATION, ORIGIN].map(|text| (text.parse::<IpAddr>().unwrap(), ROUTER));
    NeighbourReader::fixed(NeighbourTable::new(Vec::new(), known.to_vec()))
}

fn open(eal: &Arc<Eal>, device: &str, envelope: Envelope) -> DpdkPort {
    DpdkPort::open(eal, device, &DpdkConfig::new(envelope), next_hops()).unwrap()
}

const fn tunnel(local: SocketAddr) -> Envelope {
    Envelope::Udp {
        local,
        checksum: Ipv4Checksum::Computed,
    }
}

/// Uplink packet number `number` inside its tunnel, and alone. Their lengths differ.
fn uplink(number: u32) -> (Vec<u8>, Vec<u8>) {
    let payload: Vec<u8> = number.to_be_bytes().repeat(1 + number as usize % 300);
    let inner = build::udp_packet(at("10.45.0.2", 5000), at(ORIGIN, 53), &payload).unwrap();
    let (station, endpoint) = (at(STATION, GTPU_PORT), at(ENDPOINT, GTPU_PORT));
    let outer = build::gpdu_packet(station, endpoint, number, &inner).unwrap();
    let frame = LinkFrame::new(LinkType::Ethernet).wrap(&outer).unwrap();
    (frame, inner)
}

fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap(), LinkType::Ethernet).unwrap();
    for (time, frame) in (0..).zip(frames) {
        let len = u32::try_from(frame.len()).unwrap();
        writer.write(time, frame, len).unwrap();
    }
    writer.finish().unwrap();
}

fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    let mut source = PcapSource::open(path).unwrap();
    let (mut burst, mut frames) = (Burst::new(), Vec::new());
    loop {
        match source.recv_burst(&mut burst) {
            Ok(_) => frames.extend(burst.iter().map(|found| source.frame(found).to_vec())),
            Err(IoError::End) => return frames,
            Err(error) => panic!("{error}"),
        }
    }
}

/// TEID and inner packet of a tunnel frame.
fn inner(frame: &[u8]) -> (u32, &[u8]) {
    let ip = parse_ip(strip_link(LinkType::Ethernet, frame).unwrap()).unwrap();
    let gtpu = parse_gtpu(parse_udp(ip.payload).unwrap().payload).unwrap();
    (gtpu.teid, gtpu.payload)
}

fn send_all(port: &DpdkPort, mut rest: &[Outgoing<'_>]) {
    while !rest.is_empty() {
        let accepted = port.send(rest).unwrap();
        assert!(accepted > 0, "the device takes nothing: {:?}", port.stats());
        rest = &rest[accepted..];
    }
}

#[test]
fn every_tunnel_packet_of_a_capture_leaves_without_its_tunnel() {
    in_child(
        "every_tunnel_packet_of_a_capture_leaves_without_its_tunnel",
        |folder| {
            let (input, output) = (folder.join("in.pcap"), folder.join("out.pcap"));
            let packets: Vec<_> = (0..1000).map(uplink).collect();
            let frames: Vec<_> = packets.iter().map(|(frame, _)| frame.clone()).collect();
            write_capture(&input, &frames);
            let eal = start(&[format!(
                "net_pcap0,rx_pcap={},tx_pcap={}",
                input.display(),
                output.display()
            )]);
            assert_eq!(eal.devices(), ["net_pcap0"]);
            let mut port = open(&eal, "net_pcap0", Envelope::Ethernet);

            let (mut burst, mut received) = (Burst::new(), 0);
            while port.recv_burst(&mut burst).unwrap() > 0 {
                let found: Vec<_> = burst.iter().map(|found| inner(port.frame(found))).collect();
                for (teid, packet) in &found {
                    assert_eq!((*teid, *packet), (received, &*packets[received as usize].1));
                    received += 1;
                }
                let outgoing: Vec<_> = found
                    .iter()
                    .map(|(_, packet)| Outgoing {
                        head: &[],
                        body: packet,
                        to: at(ORIGIN, 0),
                    })
                    .collect();
                send_all(&port, &outgoing);
            }
            let stats = port.stats().unwrap();
            drop(port);

            let bytes: usize = frames.iter().map(Vec::len).sum();
            let sent: usize = packets
                .iter()
                .map(|(_, ip)| FRAME_MIN.max(ip.len() + 14))
                .sum();
            let expected = DpdkStats {
                received: 1000,
                received_bytes: bytes as u64,
                sent: 1000,
                sent_bytes: sent as u64,
                ..DpdkStats::default()
            };
            assert_eq!(stats, expected);
            let left = read_capture(&output);
            assert_eq!(left.len(), 1000);
            for (frame, (_, ip)) in left.iter().zip(&packets) {
                assert_eq!(frame[..6], ROUTER.octets());
                assert_eq!(frame[14..14 + ip.len()], ip[..]);
            }
        },
    );
}

#[test]
fn a_ring_gives_back_exactly_what_was_sent_and_no_packet_is_lost() {
    in_child(
        "a_ring_gives_back_exactly_what_was_sent_and_no_packet_is_lost",
        |_| {
            let eal = start(&["net_ring0".to_owned()]);
            let local = at(ENDPOINT, GTPU_PORT);
            let mut port = open(&eal, "net_ring0", tunnel(local));
            let payloads: Vec<Vec<u8>> = (0..32_u8).map(|byte| vec![byte; 1400]).collect();
            let outgoing: Vec<_> = payloads
                .iter()
                .map(|body| Outgoing {
                    head: b"head",
                    body,
                    to: at(STATION, GTPU_PORT),
                })
                .collect();
            let mut burst = Burst::new();

            // Four times as many packets as the pool has: a lost one in 32 would empty it.
            for _ in 0..1024 {
                assert_eq!(port.send(&outgoing).unwrap(), BURST_MAX);
                assert_eq!(port.recv_burst(&mut burst).unwrap(), BURST_MAX);
                for (found, payload) in burst.iter().zip(&payloads) {
                    let ip = strip_link(LinkType::Ethernet, port.frame(found)).unwrap();
                    let datagram = parse_udp(parse_ip(ip).unwrap().payload).unwrap();
                    assert_eq!(datagram.payload[..4], *b"head");
                    assert_eq!(datagram.payload[4..], payload[..]);
                }
            }

            assert_eq!(port.packets_in_use(), 32, "those of the last burst");
            assert_eq!(port.recv_burst(&mut burst).unwrap(), 0);
            assert_eq!(port.packets_in_use(), 0);
            let stats = port.stats().unwrap();
            assert_eq!((stats.sent, stats.received), (32 * 1024, 32 * 1024));
        },
    );
}

#[test]
fn a_full_device_leaves_packets_to_the_caller_and_counts_them() {
    in_child(
        "a_full_device_leaves_packets_to_the_caller_and_counts_them",
        |_| {
            let eal = start(&["net_ring0".to_owned()]);
            let mut port = open(&eal, "net_ring0", Envelope::Ethernet);
            let packet = build::udp_packet(at("10.45.0.2", 1), at(ORIGIN, 2), b"x").unwrap();
            let outgoing = [Outgoing {
                head: &[],
                body: &packet,
                to: at(ORIGIN, 0),
            }; BURST_MAX];

            // Nobody receives: a ring of DPDK holds 1023.
            let accepted: Vec<usize> = (0..33).map(|_| port.send(&outgoing).unwrap()).collect();

            assert_eq!(accepted[..31], [32; 31]);
            assert_eq!(accepted[31..], [31, 0]);
            let stats = port.stats().unwrap();
            assert_eq!(stats.send.queue_full, 33);
            assert_eq!(port.packets_in_use(), 1023);
            let (mut burst, mut received) = (Burst::new(), 0);
            while port.recv_burst(&mut burst).unwrap() > 0 {
                received += burst.len();
            }
            assert_eq!((received, port.packets_in_use()), (1023, 0));
        },
    );
}

#[test]
fn without_a_free_packet_sending_takes_a_prefix_and_counts_the_rest() {
    in_child(
        "without_a_free_packet_sending_takes_a_prefix_and_counts_the_rest",
        |_| {
            let eal = start(&["net_ring0".to_owned()]);
            let config = DpdkConfig {
                packets: 512,
                receive_queue: 32,
                send_queue: 32,
                ..DpdkConfig::new(Envelope::Ethernet)
            };
            let port = DpdkPort::open(&eal, "net_ring0", &config, next_hops()).unwrap();
            let packet = build::udp_packet(at("10.45.0.2", 1), at(ORIGIN, 2), b"x").unwrap();
            let outgoing = [Outgoing {
                head: &[],
                body: &packet,
                to: at(ORIGIN, 0),
            }; 30];

            let accepted: Vec<usize> = (0..19).map(|_| port.send(&outgoing).unwrap()).collect();

            assert_eq!(accepted[..17], [30; 17]);
            assert_eq!(accepted[17..], [2, 0]);
            assert_eq!(port.stats().unwrap().send.no_packet, 28 + 30);
            assert_eq!(port.packets_in_use(), 512);
        },
    );
}

#[test]
fn a_null_device_is_counted_exactly_on_a_worker_thread_of_its_own() {
    in_child(
        "a_null_device_is_counted_exactly_on_a_worker_thread_of_its_own",
        |_| {
            let eal = start(&["net_null0,size=64,copy=1".to_owned()]);
            let mut port = open(&eal, "net_null0", Envelope::Ethernet);

            let port = thread::spawn(move || {
                let entered = eal.enter_thread().unwrap();
                let again = eal.enter_thread().unwrap();
                let mut burst = Burst::new();
                for _ in 0..10_000 {
                    assert_eq!(port.recv_burst(&mut burst).unwrap(), BURST_MAX);
                    assert!(burst.iter().all(|found| port.frame(found).len() == 64));
                }
                drop((entered, again));
                port
            })
            .join()
            .unwrap();

            assert_eq!(port.stats().unwrap().received, 320_000);
            assert_eq!(port.packets_in_use(), 32);
        },
    );
}

#[test]
fn frames_in_pieces_are_dropped_and_counted() {
    in_child("frames_in_pieces_are_dropped_and_counted", |folder| {
        let input = folder.join("in.pcap");
        let (short, long) = (vec![1; 1500], vec![2; 2100]);
        write_capture(&input, &[short.clone(), long, short.clone()]);
        let eal = start(&[format!("net_pcap0,rx_pcap={}", input.display())]);
        let mut port = open(&eal, "net_pcap0", Envelope::Ethernet);
        let mut burst = Burst::new();

        assert_eq!(port.recv_burst(&mut burst).unwrap(), 2);

        assert!(burst.iter().all(|found| port.frame(found) == short));
        assert_eq!(port.stats().unwrap().in_pieces, 1);
    });
}

#[test]
fn a_descriptor_of_an_older_burst_or_with_a_longer_length_has_no_frame() {
    in_child(
        "a_descriptor_of_an_older_burst_or_with_a_longer_length_has_no_frame",
        |_| {
            let eal = start(&["net_null0,size=64".to_owned()]);
            let mut port = open(&eal, "net_null0", Envelope::Ethernet);
            let mut burst = Burst::new();
            port.recv_burst(&mut burst).unwrap();
            let old = burst.as_slice()[0];
            assert_eq!(port.frame(&old).len(), 64);
            let longer = Descriptor { len: 65, ..old };
            assert!(port.frame(&longer).is_empty());

            port.recv_burst(&mut burst).unwrap();

            assert!(port.frame(&old).is_empty());
            assert_eq!(port.frame(&burst.as_slice()[0]).len(), 64);
        },
    );
}

#[test]
fn packets_that_can_never_be_sent_are_refused_each_for_its_reason() {
    in_child(
        "packets_that_can_never_be_sent_are_refused_each_for_its_reason",
        |_| {
            let eal = start(&["net_ring0".to_owned()]);
            let mut port = open(&eal, "net_ring0", Envelope::Ethernet);
            let good = build::udp_packet(at("10.45.0.2", 1), at(ORIGIN, 2), b"x").unwrap();
            let long = build::udp_packet(at("10.45.0.2", 1), at(ORIGIN, 2), &[0; 1473]).unwrap();
            let outgoing = |body, to| Outgoing {
                head: &[],
                body,
                to: at(to, 0),
            };
            let fine = outgoing(&good[..], ORIGIN);

            for (bad, code) in [
                (outgoing(&good[..], "192.0.2.1"), libc::EHOSTUNREACH),
                (outgoing(&long[..], ORIGIN), libc::EMSGSIZE),
                (
                    outgoing(&b"\x10 is no IP"[..], ORIGIN),
                    libc::EPROTONOSUPPORT,
                ),
            ] {
                // The packets before it go out first.
                assert_eq!(port.send_burst(&[fine, bad, fine]).unwrap(), 1);
                match port.send_burst(&[bad, fine]).unwrap_err() {
                    IoError::Refused { source, .. } => {
                        assert_eq!(source.raw_os_error(), Some(code));
                    }
                    other => panic!("{other}"),
                }
            }

            let stats = port.stats().unwrap();
            assert_eq!(stats.sent, 3);
            let send = stats.send;
            assert_eq!([send.no_next_hop, send.too_long, send.unframeable], [1; 3]);
            assert_eq!(port.packets_in_use(), 3);
        },
    );
}

#[test]
fn a_port_is_readable_after_its_sleep_though_nothing_arrives() {
    in_child(
        "a_port_is_readable_after_its_sleep_though_nothing_arrives",
        |_| {
            let eal = start(&["net_ring0".to_owned(), "net_ring1".to_owned()]);
            let with = |idle| DpdkConfig {
                packets: 2175 + 1,
                idle,
                ..DpdkConfig::new(Envelope::Ethernet)
            };
            let long = with(Idle::Sleep(Duration::from_secs(1)));
            let mut long = DpdkPort::open(&eal, "net_ring0", &long, next_hops()).unwrap();
            let spin = with(Idle::Spin);
            let mut spin = DpdkPort::open(&eal, "net_ring1", &spin, next_hops()).unwrap();
            let mut burst = Burst::new();

            assert_eq!(long.recv_burst(&mut burst).unwrap(), 0);
            assert_eq!(spin.recv_burst(&mut burst).unwrap(), 0);

            let limit = Some(Duration::from_secs(60));
            assert!(wait(&[spin.as_fd()], limit).unwrap().any());
            assert!(wait(&[long.as_fd()], limit).unwrap().any());
        },
    );
}

#[test]
fn an_environment_is_started_once_and_a_device_opened_once() {
    in_child(
        "an_environment_is_started_once_and_a_device_opened_once",
        |_| {
            let unusable = EalConfig::unprivileged(["eth0"]);
            let refused = Eal::start(&unusable).unwrap_err();
            assert!(matches!(refused, DpdkError::Setting { .. }), "{refused}");
            let eal = start(&["net_null0".to_owned(), "net_ring0".to_owned()]);
            let config = DpdkConfig::new(Envelope::Ethernet);

            let again = Eal::start(&EalConfig::unprivileged(["net_null1"])).unwrap_err();
            let absent = DpdkPort::open(&eal, "net_null7", &config, next_hops()).unwrap_err();
            let port = DpdkPort::open(&eal, "net_null0", &config, next_hops()).unwrap();
            let taken = DpdkPort::open(&eal, "net_null0", &config, next_hops()).unwrap_err();
            drop((port, eal));
            let after = Eal::start(&EalConfig::unprivileged(["net_null1"])).unwrap_err();

            assert!(matches!(again, DpdkError::AlreadyStarted), "{again}");
            assert!(matches!(taken, DpdkError::Taken { .. }), "{taken}");
            assert!(matches!(after, DpdkError::AlreadyStarted), "{after}");
            let text = absent.to_string();
            assert!(text.contains("net_null0, net_ring0"), "{text}");
        },
    );
}

#[test]
fn a_device_that_cannot_be_made_says_where_to_look() {
    in_child("a_device_that_cannot_be_made_says_where_to_look", |_| {
        let devices = ["net_null0", "net_pcap0,rx_pcap=/nonexistent/in.pcap"];
        let config = EalConfig::unprivileged(devices);

        let error = Eal::start(&config).unwrap_err();

        let text = error.to_string();
        assert!(
            text.contains("net_pcap0") && text.contains("standard error"),
            "{text}"
        );
    });
}

#[test]
fn too_few_huge_pages_are_named() {
    in_child("too_few_huge_pages_are_named", |_| {
        // No machine that runs this has a terabyte of huge pages.
        let config = EalConfig {
            memory: qlink_io::dpdk::Memory::HugePages(1 << 20),
            ..EalConfig::unprivileged(["net_null0"])
        };

        let text = Eal::start(&config).unwrap_err().to_string();

        assert!(text.contains("huge pages"), "{text}");
    });
}

#[test]
fn starting_leaves_the_thread_its_processors_and_the_folder_empty() {
    in_child(
        "starting_leaves_the_thread_its_processors_and_the_folder_empty",
        |folder| {
            let processors = || {
                let status = fs::read_to_string("/proc/thread-self/status").unwrap();
                let line = status
                    .lines()
                    .find(|line| line.starts_with("Cpus_allowed:"));
                line.unwrap().to_owned()
            };
            let before = processors();

            let eal = start(&["net_null0".to_owned()]);
            assert_eq!(processors(), before);
            assert!(Eal::version().starts_with("DPDK "), "{}", Eal::version());
            drop(eal);

            let is_file = |path: &PathBuf| path.is_file() && !path.ends_with("tests");
            let left: Vec<_> = walk(folder).into_iter().filter(is_file).collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        },
    );
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}
