//! A whole data plane process's inside on DPDK: what stands in one capture per side goes through
//! it, and what leaves stands in another.
//!
//! DPDK starts once per process, so this file has one test. It needs no privilege.
#![cfg(feature = "dpdk")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

#[expect(dead_code, reason = "other tests use what this one does not")]
mod process;

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use process::{PATIENCE, Process};
use qlink_dataplane::N3Backend;
use qlink_io::pcap::{PcapSource, PcapWriter};
use qlink_io::{Burst, IoError, PacketSource as _};
use qlink_meter::ArenaSet;
use qlink_types::ids::SessionId;
use qlink_wire::build::{LinkFrame, gpdu_packet, udp_packet};
use qlink_wire::{LinkType, parse_gtpu, parse_ip, parse_udp, strip_link};

const STATION: &str = "10.0.3.7:2152";
const ENDPOINT: &str = "10.0.3.1:2152";
const UE: &str = "10.45.0.1:40000";
const SERVER: &str = "192.0.2.9:53";
const PACKETS: u64 = 200;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Ends a data plane and leaves what it wrote.
fn stop(mut process: Process) -> tempfile::TempDir {
    std::mem::replace(&mut process.folder, tempfile::tempdir().unwrap())
}

fn framed(packet: &[u8]) -> Vec<u8> {
    LinkFrame::new(LinkType::Ethernet).wrap(packet).unwrap()
}

fn write(path: &Path, packets: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap(), LinkType::Ethernet).unwrap();
    for packet in packets {
        let frame = framed(packet);
        let len = u32::try_from(frame.len()).unwrap();
        writer.write(0, &frame, len).unwrap();
    }
    writer.finish().unwrap();
}

/// The IP packets of a capture, the padding of short frames included.
fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut source = PcapSource::open(path).unwrap();
    let (mut burst, mut packets) = (Burst::new(), Vec::new());
    loop {
        match source.recv_burst(&mut burst) {
            Ok(_) => {}
            Err(IoError::End) => return packets,
            Err(error) => panic!("{error}"),
        }
        for descriptor in &burst {
            let frame = source.frame(descriptor);
            packets.push(strip_link(LinkType::Ethernet, frame).unwrap().to_vec());
        }
    }
}

/// An IPv4 packet in two fragments.
fn fragments(packet: &[u8]) -> [Vec<u8>; 2] {
    let cut = 20 + 800;
    let piece = |payload: &[u8], offset: u16| {
        let mut piece = packet[..20].to_vec();
        piece.extend(payload);
        let total = u16::try_from(piece.len()).unwrap();
        piece[2..4].copy_from_slice(&total.to_be_bytes());
        piece[6..8].copy_from_slice(&offset.to_be_bytes());
        piece
    };
    [piece(&packet[20..cut], 0x2000), piece(&packet[cut..], 100)]
}

#[test]
fn a_session_is_carried_by_dpdk_with_exact_counters() {
    // The session is established on a socket and goes on after a restart on DPDK.
    let standing = Process::start(11, |_| {});
    let teid = standing.establish_towards(1, at(STATION));
    let folder = stop(standing);
    let up = udp_packet(at(UE), at(SERVER), &[1; 1200]).unwrap();
    let down = udp_packet(at(SERVER), at(UE), &[2; 1200]).unwrap();
    let tunnelled = gpdu_packet(at(STATION), at(ENDPOINT), teid.get(), &up).unwrap();
    let elsewhere = gpdu_packet(at(STATION), at("10.0.3.2:2152"), teid.get(), &up).unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut uplink = vec![tunnelled.clone(); usize::try_from(PACKETS).unwrap() - 1];
    uplink.extend(fragments(&tunnelled));
    uplink.push(elsewhere);
    write(&path("n3-in"), &uplink);
    write(
        &path("n6-in"),
        &vec![down.clone(); usize::try_from(PACKETS).unwrap()],
    );
    let device = |number: u8, name: &str| {
        let (rx, tx) = (path(&format!("{name}-in")), path(&format!("{name}-out")));
        format!(
            "net_pcap{number},rx_pcap={},tx_pcap={}",
            rx.display(),
            tx.display()
        )
    };
    let settings = serde_json::json!({
        "devices": [device(0, "n3"), device(1, "n6")],
        "n3": "net_pcap0",
        "n6": {"device": "net_pcap1", "next_hop": "10.0.6.9"},
        "neighbours": [
            {"address": "10.0.3.7", "mac": "02:00:00:00:03:07"},
            {"address": "10.0.6.9", "mac": "02:00:00:00:06:09"},
        ],
    });

    let running = Process::start_in(folder, 11, |config| {
        config.backend = N3Backend::Dpdk;
        config.n3 = at(ENDPOINT);
        (config.n6_local, config.n6_peer) = (None, None);
        config.dpdk = Some(serde_json::from_value(settings).unwrap());
    });

    let arena = ArenaSet::open(running.folder.path().join("arena")).unwrap();
    let session = SessionId::new([1; 16]);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let usage = arena.session(&session).unwrap().usage;
        if usage.uplink.packets == PACKETS && usage.downlink.packets == PACKETS {
            assert_eq!(usage.uplink.network_bytes.get(), PACKETS * up.len() as u64);
            assert_eq!(
                usage.downlink.network_bytes.get(),
                PACKETS * down.len() as u64
            );
            break;
        }
        assert!(Instant::now() < deadline, "{usage:?} {:?}", arena.drops());
        std::thread::sleep(Duration::from_millis(10));
    }
    while arena.drops().get("not_gtpu") != Some(&1) {
        assert!(Instant::now() < deadline, "{:?}", arena.drops());
        std::thread::sleep(Duration::from_millis(10));
    }
    let folder = stop(running);
    let out = read(&folder.path().join("n6-out"));
    assert_eq!(out, vec![up; usize::try_from(PACKETS).unwrap()]);
    let back = read(&folder.path().join("n3-out"));
    assert_eq!(back.len() as u64, PACKETS);
    for packet in back {
        let outer = parse_ip(&packet).unwrap();
        let gtpu = parse_gtpu(parse_udp(outer.payload).unwrap().payload).unwrap();
        assert_eq!((outer.dst, gtpu.teid), (at(STATION).ip(), 1));
        assert_eq!(gtpu.payload, down);
    }
}
