//! Attacks on N3, packet by packet: each one has its reason, nothing grows, and nobody pays.
//!
//! What design.md's reference calls rows of fault and attack tests, and where they are held:
//!
//! | Row | Attack | Tests |
//! |---|---|---|
//! | 15 | malformed GTP-U: every type, lengths, endless chains, GTP in GTP, inner fragments, IPv6 chains | [`every_packet_of_an_attack_has_its_reason_and_nothing_grows`] (made by scapy); `hostile.rs` (harmed downloads, noise); `upf::hostile` (kernels, namespaces); fuzz targets `gtpu`, `ip`, `frame`, `reassembler`, `transport` |
//! | 15 | sequence wrap | `byte_oracle` |
//! | 16 | malformed PFCP: elements missing, twice | `qlink-pfcp`: `node::tests::elements`, `tests/wire/refusals.rs`, fuzz targets `wire`, `wire_tree`, `wire_second_codec`, `node` (sequences) |
//! | 16 | SEID 0 and unknown, floods beyond the bounds, restoration, then traffic | `qlink-pfcp`: `node::tests::{causes, elements, lossy, restoring}`; `n4::floods`; `upf::{restarts, sessions}` |
//! | 18 | guessed TEIDs, right TEID from the wrong BaseStation | [`a_sweep_of_a_million_tunnels_moves_nothing`]; `upf::hostile` (a second namespace) |
//! | 19 | inner source that is not the subscriber, inner destination that is ours | here, by scapy; `upf::hostile` (kernels, namespaces) |
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    dead_code,
    reason = "test code; the film's other builders serve other tests"
)]

mod film;
mod tshark;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use film::{SLOT, film as bytes_of, open, personal, rules};
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::plane::Plane;
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::pcap::PcapSource;
use qlink_io::{Burst, PacketSource};
use qlink_meter::ArenaReader;
use qlink_wire::LinkType;
use qlink_wire::build::{gpdu_packet, udp_packet};

/// A plane with one session, and what others read of it.
struct Victim {
    plane: Plane,
    reader: ArenaReader,
    ports: Ports<MemSink, MemSink>,
    now_ns: u64,
}

impl Victim {
    fn new(folder: &Path) -> Self {
        let film = bytes_of(1_000);
        let arena = folder.join("arena");
        let (plane, _) = open(&arena, &rules(&film, personal(1 << 40)), &film);
        Self {
            plane,
            reader: ArenaReader::open(&arena).unwrap(),
            ports: Ports {
                n3: MemSink::new(),
                n6: MemSink::new(),
            },
            now_ns: 1,
        }
    }

    /// Takes all that a source has.
    fn take(&mut self, source: &mut impl PacketSource) -> u64 {
        let (mut burst, mut packets) = (Burst::new(), 0);
        while source.recv_burst(&mut burst).is_ok() {
            self.now_ns += 1_000;
            packets += burst.len() as u64;
            process_burst(
                &mut self.plane,
                Side::N3,
                source,
                &burst,
                &mut self.ports,
                self.now_ns,
            );
        }
        packets
    }

    /// What became of all packets so far, by the names of the script.
    fn fates(&self) -> BTreeMap<String, u64> {
        let worker = self.reader.totals().worker;
        let drops = self.reader.drops().into_iter();
        let acted = ["echo_replies", "error_indications"].map(|name| (name, worker[name]));
        let forwarded = [("forwarded", self.ports.n6.packets())];
        let all = drops.chain(acted).chain(forwarded);
        let some = all.filter(|(_, packets)| *packets > 0);
        some.map(|(name, packets)| (name.to_owned(), packets))
            .collect()
    }
}

#[test]
fn every_packet_of_an_attack_has_its_reason_and_nothing_grows() {
    let folder = tempfile::tempdir().unwrap();
    if !tshark::scapy_wrote("scapy_attacks.py", folder.path(), "15") {
        return;
    }
    let expected = std::fs::read(folder.path().join("expected.json")).unwrap();
    let expected: BTreeMap<String, u64> = serde_json::from_slice(&expected).unwrap();
    let attack = folder.path().join("attacks.pcap");
    let rounds = if std::env::var_os("QLINK_LONG").is_some() {
        2_000
    } else {
        50
    };
    let mut victim = Victim::new(folder.path());
    let tables = victim.reader.occupancies();

    let mut sent = 0;
    for round in 1..=rounds {
        sent += victim.take(&mut PcapSource::open(&attack).unwrap());
        if round == 1 {
            assert_eq!(victim.fates(), expected);
        }
    }

    let fates = victim.fates();
    for (name, packets) in &expected {
        assert_eq!(fates.get(name), Some(&(packets * rounds)), "{name}");
    }
    assert_eq!(fates.values().sum::<u64>(), sent);
    assert_eq!(victim.reader.occupancies(), tables);
    let usage = victim.plane.usage(SLOT);
    assert_eq!(usage.uplink.packets, expected["forwarded"] * rounds);
    assert_eq!(victim.reader.totals().conservation_violations, 0);
}

#[test]
fn a_sweep_of_a_million_tunnels_moves_nothing() {
    let packets: u64 = if std::env::var_os("QLINK_LONG").is_some() {
        1_000_000
    } else {
        100_000
    };
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Victim::new(folder.path());
    let ue: SocketAddr = film::UE.parse().unwrap();
    let inner = udp_packet(ue, film::ORIGIN.parse().unwrap(), &[7; 100]).unwrap();
    let gateway = film::GATEWAY.parse().unwrap();
    let right = SLOT.get() << 8 | 0x55;

    // Each TEID near the right one and those spread over all others, from the BaseStation itself;
    // the right one from everybody else.
    let (mut guesses, mut borrowed) = (0, 0);
    for chunk in 0..packets / 1_000 {
        let frames = (0..1_000).map(|number| {
            let number = (chunk * 1_000 + number) as u32;
            let near = number.is_multiple_of(3);
            let teid = match number % 3 {
                0 => right,
                1 => right.wrapping_add(number + 1),
                _ => number.wrapping_mul(0x9e37_79b1) | 0x8000_0000,
            };
            let host = if near { 3 + number % 250 } else { 2 };
            let from = SocketAddr::from((
                [127, 0, (number >> 16) as u8 * u8::from(near), host as u8],
                2152,
            ));
            if near {
                borrowed += 1;
            } else {
                guesses += 1;
            }
            gpdu_packet(from, gateway, teid, &inner).unwrap()
        });
        let frames = frames.collect();
        victim.take(&mut MemSource::new(frames, LinkType::RawIp, 1));
    }

    let expected = [("peer_mismatch", borrowed), ("teid_unknown", guesses)];
    let expected = expected.map(|(name, packets)| (name.to_owned(), packets));
    assert_eq!(victim.fates(), BTreeMap::from(expected));
    let usage = victim.plane.usage(SLOT);
    assert_eq!(usage.uplink.packets, 0);
    assert_eq!(usage.uplink.network_bytes.get(), 0);
    assert_eq!(victim.ports.n3.packets(), 0);
}
