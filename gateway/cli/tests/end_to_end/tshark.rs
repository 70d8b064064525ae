//! The captures as tshark reads them: an implementation that shares nothing with ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A TCP packet of a subscriber, or any packet inside a tunnel.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// Outer destination and TEID; empty and 0 in a capture without tunnels.
    pub(crate) tunnel: (String, u64),
    /// Inner source.
    pub(crate) source: String,
    /// Inner destination.
    pub(crate) destination: String,
    /// Length by the inner IP header.
    pub(crate) length: u64,
    /// TCP ports.
    pub(crate) ports: (u16, u16),
    /// TCP sequence number.
    pub(crate) sequence: u32,
    /// Whether SYN is set.
    pub(crate) syn: bool,
    /// TCP payload.
    pub(crate) payload: Vec<u8>,
}

/// Whether tshark is there; says so when it is not.
pub(crate) fn is_there() -> bool {
    let there = Command::new("tshark").arg("--version").output().is_ok();
    if !there {
        println!("skipped: tshark is not installed");
    }
    there
}

/// Every TCP packet of a capture.
pub(crate) fn packets(file: &Path) -> Vec<Packet> {
    let fields = [
        "ip.src",
        "ip.dst",
        "ip.len",
        "gtp.teid",
        "tcp.srcport",
        "tcp.dstport",
        "tcp.seq_raw",
        "tcp.flags.syn",
        "tcp.payload",
    ];
    let mut command = Command::new("tshark");
    command
        .arg("-r")
        .arg(file)
        .args(["-Y", "tcp", "-T", "fields"]);
    for preference in [
        "tcp.desegment_tcp_streams:false",
        "tcp.analyze_sequence_numbers:false",
    ] {
        command.args(["-o", preference]);
    }
    // The payload stays payload: nothing above TCP is dissected.
    command.args(["--disable-protocol", "http", "--disable-protocol", "data"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let out = command.output().unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(packet).collect()
}

fn packet(line: &str) -> Packet {
    let columns: Vec<&str> = line.split('\t').collect();
    let inner = |column: usize| columns[column].rsplit(',').next().unwrap();
    let teid = columns[3].trim_start_matches("0x");
    let outer = columns[1].split(',').next().unwrap();
    let tunnel = if teid.is_empty() {
        (String::new(), 0)
    } else {
        (outer.to_owned(), u64::from_str_radix(teid, 16).unwrap())
    };
    Packet {
        tunnel,
        source: inner(0).to_owned(),
        destination: inner(1).to_owned(),
        length: inner(2).parse().unwrap(),
        ports: (columns[4].parse().unwrap(), columns[5].parse().unwrap()),
        sequence: columns[6].parse().unwrap(),
        syn: matches!(columns[7], "1" | "True"),
        payload: hex::decode(columns[8]).unwrap(),
    }
}

/// Packets and bytes by tunnel.
pub(crate) fn tunnels(packets: &[Packet]) -> BTreeMap<(String, u64), (u64, u64)> {
    let mut tunnels: BTreeMap<(String, u64), (u64, u64)> = BTreeMap::new();
    for packet in packets {
        let tunnel = tunnels.entry(packet.tunnel.clone()).or_default();
        tunnel.0 += 1;
        tunnel.1 += packet.length;
    }
    tunnels
}

/// One direction of a connection, put together by sequence numbers.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    first: Option<u32>,
    /// The first copy of every byte.
    pub(crate) bytes: Vec<u8>,
    known: Vec<bool>,
    /// Payload of all copies.
    pub(crate) payload: u64,
    /// Copies in order: offset and bytes.
    pub(crate) copies: Vec<(usize, Vec<u8>)>,
}

impl Stream {
    fn take(&mut self, packet: &Packet) {
        if packet.syn {
            self.first = Some(packet.sequence.wrapping_add(1));
        }
        if packet.payload.is_empty() {
            return;
        }
        let first = self
            .first
            .expect("the capture begins before the connection");
        let offset = packet.sequence.wrapping_sub(first) as usize;
        let end = offset + packet.payload.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.known.resize(end, false);
        }
        for (place, byte) in (offset..).zip(&packet.payload) {
            if !self.known[place] {
                self.bytes[place] = *byte;
                self.known[place] = true;
            }
        }
        self.payload += packet.payload.len() as u64;
        self.copies.push((offset, packet.payload.clone()));
    }

    /// Whether every byte up to the last one was seen.
    pub(crate) fn is_whole(&self) -> bool {
        self.known.iter().all(|known| *known)
    }

    /// Payload of copies that came again.
    pub(crate) fn repeated(&self) -> u64 {
        self.payload - self.bytes.len() as u64
    }
}

/// Both directions of a subscriber's only connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// From the subscriber.
    pub(crate) up: Stream,
    /// To the subscriber.
    pub(crate) down: Stream,
}

/// The connections of a capture by the subscriber's address; each has one, to `server`.
pub(crate) fn connections(packets: &[Packet], server: &str) -> BTreeMap<String, Connection> {
    let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
    let mut ports: BTreeMap<String, u16> = BTreeMap::new();
    for packet in packets {
        let is_up = packet.destination == server;
        let (viewer, port) = if is_up {
            (&packet.source, packet.ports.0)
        } else {
            (&packet.destination, packet.ports.1)
        };
        assert_eq!(*ports.entry(viewer.clone()).or_insert(port), port);
        let connection = connections.entry(viewer.clone()).or_default();
        if is_up {
            connection.up.take(packet);
        } else {
            connection.down.take(packet);
        }
    }
    connections
}
