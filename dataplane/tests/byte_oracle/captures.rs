//! Captures made and compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use qlink_dataplane::replay::{ReplayOptions, Report, replay};
use qlink_io::pcap::PcapWriter;
use qlink_wire::LinkType;

use crate::model::{self, Classes, Expected};
use crate::seed::Seed;
use crate::{traffic, tshark};

/// Runs in CI, and with `QLINK_LONG=1`.
const SEEDS: (u64, u64) = (12, 400);

fn seeds() -> Vec<u64> {
    if let Some(seed) = std::env::var_os("QLINK_ORACLE_SEED") {
        return vec![seed.to_str().unwrap().parse().unwrap()];
    }
    let long = std::env::var_os("QLINK_LONG").is_some();
    (0..if long { SEEDS.1 } else { SEEDS.0 }).collect()
}

/// What the replay says, in the words of the model.
fn found(report: &Report) -> Expected {
    let row = |row: &qlink_dataplane::replay::ContentRow| {
        let classes = Classes {
            wire: row.wire_payload_bytes.get(),
            unique: row.content_bytes.get(),
            repeat: row.repeat_bytes.get(),
            retransmit: row.retransmit_bytes.get(),
            overhead: row.overhead_bytes.get(),
            charged: row.user_charged_bytes.get(),
            open: row.pending_bytes.get() + row.undelivered_bytes.get(),
        };
        ((row.session.clone(), row.content), classes)
    };
    let tunnel = |row: &qlink_dataplane::replay::TunnelRow| {
        let key = (row.peer.to_string(), row.teid.get());
        (key, (row.packets, row.network_bytes.get()))
    };
    Expected {
        tunnels: report.tunnels.iter().map(tunnel).collect(),
        contents: report.contents.iter().map(row).collect(),
    }
}

/// Compares one capture; the model's figures.
fn compare(capture: &Path, contents: &Path, what: &str) -> (Expected, Report) {
    let films = model::films(contents);
    let expected = model::expected(capture, &films);
    let options = ReplayOptions {
        contents: Some(contents.to_owned()),
    };
    let report = replay(&[capture.to_owned()], &options).unwrap();
    let found = found(&report);
    assert_eq!(found.tunnels, expected.tunnels, "{what}");
    assert_eq!(found.contents, expected.contents, "{what}");
    for (key, classes) in &found.contents {
        assert_eq!(classes.wire, classes.sum(), "law 2 of {key:?}, {what}");
    }
    (expected, report)
}

fn write(folder: &Path, packets: &[Vec<u8>]) -> std::path::PathBuf {
    let path = folder.join("traffic.pcap");
    let mut writer = PcapWriter::new(File::create(&path).unwrap(), LinkType::RawIp).unwrap();
    for (number, packet) in (0_u64..).zip(packets) {
        let length = u32::try_from(packet.len()).unwrap();
        // Closer than the time that fragments have.
        writer.write(number * 100_000, packet, length).unwrap();
    }
    writer.finish().unwrap();
    path
}

#[test]
fn generated_traffic_has_the_bytes_that_tshark_finds() {
    if !tshark::has_tshark() {
        return;
    }
    let seeds = seeds();
    let mut seen = BTreeMap::<&str, u64>::new();
    for number in &seeds {
        let folder = tempfile::tempdir().unwrap();
        let contents = folder.path().join("contents");
        let traffic = traffic::make(&mut Seed::new(*number));
        traffic.write_films(&contents);
        let capture = write(folder.path(), &traffic.packets);

        let what = format!("QLINK_ORACLE_SEED={number}");
        let (expected, report) = compare(&capture, &contents, &what);

        let conflicts = report.drops.get("fragment_overlap");
        let refused = conflicts.map_or(0, |count| count.parse().unwrap());
        assert_eq!(refused, traffic.contradictions, "{what}");
        for classes in expected.contents.values() {
            for (name, bytes) in classes.named() {
                *seen.entry(name).or_default() += bytes;
            }
        }
    }
    // The captures hold what they are to hold.
    if seeds.len() > 1 {
        for (name, bytes) in seen {
            assert_eq!(bytes == 0, name == "open", "{name}: {bytes}");
        }
    }
}

#[test]
fn downloads_that_scapy_encodes_have_the_bytes_that_tshark_finds() {
    if !tshark::has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    if !tshark::scapy_wrote("byte_oracle/scapy_downloads.py", folder.path(), "7") {
        return;
    }

    let capture = folder.path().join("downloads.pcap");
    let (expected, _) = compare(&capture, &folder.path().join("contents"), "scapy");

    assert_eq!(expected.contents.len(), 4, "{:?}", expected.contents);
    for classes in expected.contents.values() {
        assert!(
            classes.unique > 20_000 && classes.retransmit > 0,
            "{classes:?}"
        );
    }
}
