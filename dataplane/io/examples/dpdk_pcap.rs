//! Measures a DPDK loop over `net_pcap`, which hands over the frames of a capture without end.
//!
//! ```text
//! dpdk_pcap write FILE BYTES FRAMES    writes GTP-U frames with random payload, at most 4096
//! dpdk_pcap meter FILE SECONDS         parse, session lookup, count
//! dpdk_pcap forward FILE SECONDS       the same, and sends the inner packet on
//! ```
//!
//! It needs no privilege: `benches/dpdk.sh` runs it beside DPDK's own testpmd on the same device.
//! `net_pcap` copies every frame out of its own memory, so the figure contains one copy of the
//! frame per packet, as testpmd's does. `forward` copies once more, into a packet of the pool, and
//! the device drops what it is given. The bytes counted per session are compared with the bytes
//! that the capture holds; a difference ends the program with an error.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measuring tool"
)]

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use qlink_io::dpdk::{DpdkConfig, DpdkPort, Eal, EalConfig, Idle, Memory};
use qlink_io::frame::{Envelope, MacAddress};
use qlink_io::neighbour::{NeighbourReader, NeighbourTable};
use qlink_io::pcap::{PcapSource, PcapWriter};
use qlink_io::{BURST_MAX, Burst, IoError, Outgoing, PacketSource};
use qlink_wire::build::{self, LinkFrame};
use qlink_wire::{GTPU_PORT, LinkType, parse_gtpu, parse_ip, parse_udp, strip_link};

const SESSIONS: u32 = 4096;
const ORIGIN: &str = "10.0.6.9";
/// Ethernet, IPv4, UDP, GTP-U, inner IPv4 and inner UDP.
const HEADERS: usize = 14 + 20 + 8 + 8 + 20 + 8;

/// What was counted for one tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    packets: u64,
    bytes: u64,
}

/// Multiplies by an odd constant; for tunnel numbers that we chose ourselves.
#[derive(Debug, Default)]
struct TeidHasher(u64);

impl Hasher for TeidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}

/// What usage belongs to which tunnel.
struct Sessions {
    slots: HashMap<u32, usize, BuildHasherDefault<TeidHasher>>,
    usage: Vec<Usage>,
}

impl Sessions {
    fn new() -> Self {
        Self {
            slots: (0..SESSIONS).map(|teid| (teid, teid as usize)).collect(),
            usage: vec![Usage::default(); SESSIONS as usize],
        }
    }

    /// Counts a frame for its tunnel and returns the inner packet; `None` when it is of none.
    #[inline]
    fn count<'a>(&mut self, frame: &'a [u8]) -> Option<&'a [u8]> {
        let (teid, inner) = tunnelled(frame)?;
        let usage = self.usage.get_mut(*self.slots.get(&teid)?)?;
        usage.packets += 1;
        usage.bytes += inner.len() as u64;
        Some(inner)
    }

    fn total(&self) -> Usage {
        let add = |sum: Usage, one: &Usage| Usage {
            packets: sum.packets + one.packets,
            bytes: sum.bytes + one.bytes,
        };
        self.usage.iter().fold(Usage::default(), add)
    }
}

/// TEID and inner packet of a GTP-U frame, its length as the inner header states it.
#[inline]
fn tunnelled(frame: &[u8]) -> Option<(u32, &[u8])> {
    let ip = parse_ip(strip_link(LinkType::Ethernet, frame).ok()?).ok()?;
    let udp = parse_udp(ip.payload).ok()?;
    let gtpu = parse_gtpu(udp.payload).ok()?;
    let length = parse_ip(gtpu.payload).ok()?.total_len as usize;
    Some((gtpu.teid, gtpu.payload.get(..length)?))
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["write", file, bytes, frames] => write(
            Path::new(file),
            bytes.parse().unwrap(),
            frames.parse().unwrap(),
        ),
        ["meter", file, seconds] => run(Work::Meter, file, seconds.parse().unwrap()),
        ["forward", file, seconds] => run(Work::Forward, file, seconds.parse().unwrap()),
        _ => println!("see the top of examples/dpdk_pcap.rs"),
    }
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), port)
}

/// One frame for each of the first `frames` sessions.
fn write(path: &Path, frame_bytes: usize, frames: u32) {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut writer = PcapWriter::new(File::create(path).unwrap(), LinkType::Ethernet).unwrap();
    for teid in 0..frames.min(SESSIONS) {
        let payload: Vec<u8> = (0..frame_bytes.saturating_sub(HEADERS))
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_be_bytes()[0]
            })
            .collect();
        let inner = build::udp_packet(at("10.45.0.2", 5000), at(ORIGIN, 443), &payload).unwrap();
        let (station, endpoint) = (at("10.0.3.7", GTPU_PORT), at("10.0.3.1", GTPU_PORT));
        let outer = build::gpdu_packet(station, endpoint, teid, &inner).unwrap();
        let frame = LinkFrame::new(LinkType::Ethernet).wrap(&outer).unwrap();
        let len = u32::try_from(frame.len()).unwrap();
        writer.write(u64::from(teid), &frame, len).unwrap();
    }
    writer.finish().unwrap();
}

/// Bytes of the inner packets by tunnel, read by our own reader.
fn expected(path: &str) -> Vec<u64> {
    let mut source = PcapSource::open(path).unwrap();
    let (mut burst, mut bytes) = (Burst::new(), vec![0; SESSIONS as usize]);
    loop {
        match source.recv_burst(&mut burst) {
            Ok(_) => {
                for found in &burst {
                    let (teid, inner) = tunnelled(source.frame(found)).unwrap();
                    *bytes.get_mut(teid as usize).unwrap() += inner.len() as u64;
                }
            }
            Err(IoError::End) => return bytes,
            Err(error) => panic!("{error}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Meter,
    Forward,
}

fn run(work: Work, file: &str, seconds: f64) {
    let device = format!("net_pcap0,rx_pcap={file},infinite_rx=1");
    let eal = Eal::start(&EalConfig {
        memory: Memory::Ordinary(96),
        ..EalConfig::unprivileged([device])
    })
    .unwrap();
    let config = DpdkConfig {
        idle: Idle::Spin,
        ..DpdkConfig::new(Envelope::Ethernet)
    };
    let neighbours = vec![(ORIGIN.parse().unwrap(), MacAddress::new([2; 6]))];
    let table = NeighbourTable::new(Vec::new(), neighbours);
    let mut port =
        DpdkPort::open(&eal, "net_pcap0", &config, NeighbourReader::fixed(table)).unwrap();
    let mut sessions = Sessions::new();
    let mut burst = Burst::new();

    let (limit, begin) = (Duration::from_secs_f64(seconds), Instant::now());
    let mut sent = 0;
    while begin.elapsed() < limit {
        for _ in 0..256 {
            port.recv_burst(&mut burst).unwrap();
            match work {
                Work::Meter => {
                    for found in &burst {
                        sessions.count(port.frame(found));
                    }
                }
                Work::Forward => sent += forward(&port, &burst, &mut sessions),
            }
        }
    }
    let spent = begin.elapsed().as_secs_f64();

    let stats = port.stats().unwrap();
    let total = sessions.total();
    assert_eq!(
        total.packets, stats.received,
        "every packet is of a session"
    );
    if work == Work::Forward {
        assert_eq!(sent, stats.received, "every packet was sent");
    }
    for (usage, bytes) in sessions.usage.iter().zip(expected(file)) {
        assert_eq!(usage.bytes, usage.packets * bytes, "bytes of one session");
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let (packets, bits) = (stats.received as f64, stats.received_bytes as f64 * 8.0);
    println!(
        "{:.3} Mpps {:.1} Gbit/s {} packets {} inner bytes, sums checked",
        packets / spent / 1e6,
        bits / spent / 1e9,
        stats.received,
        total.bytes,
    );
}

/// Sends the inner packets on; returns how many the device took.
fn forward(port: &DpdkPort, burst: &Burst, sessions: &mut Sessions) -> u64 {
    let to = at_origin();
    let mut items = [Outgoing::EMPTY; BURST_MAX];
    let mut count = 0;
    for found in burst {
        if let Some(body) = sessions.count(port.frame(found))
            && let Some(item) = items.get_mut(count)
        {
            *item = Outgoing {
                head: &[],
                body,
                to,
            };
            count += 1;
        }
    }
    let mut rest = items.get(..count).unwrap_or_default();
    let mut sent = 0;
    while !rest.is_empty() {
        let accepted = port.send(rest).unwrap();
        if accepted == 0 {
            break;
        }
        sent += accepted as u64;
        rest = rest.get(accepted..).unwrap_or_default();
    }
    sent
}

const fn at_origin() -> SocketAddr {
    SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 6, 9)),
        0,
    )
}
