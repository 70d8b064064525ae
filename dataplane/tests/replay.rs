//! `replay` against tshark, on captures from elsewhere and on traffic made by scapy.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test code"
)]

mod tshark;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use qlink_dataplane::replay::{ReplayError, ReplayOptions, Report, replay};
use qlink_io::pcap::PcapWriter;
use qlink_wire::LinkType;
use tshark::{Tunnels, captures, has_tshark, tshark_tunnels};

fn run(file: &Path) -> Report {
    replay(&[file.to_owned()], &ReplayOptions::default()).unwrap()
}

fn tunnels(report: &Report) -> Tunnels {
    report
        .tunnels
        .iter()
        .map(|row| {
            let key = (row.peer.to_string(), row.teid.get());
            (key, (row.packets, row.network_bytes.get()))
        })
        .collect()
}

fn captures_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("pcap" | "pcapng" | "cap"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn the_srsenb_capture_gives_the_figures_that_are_known() {
    let Some(folder) = captures() else { return };

    let report = run(&folder.join("open5gs-srsenb.pcapng"));

    let rows: Vec<(String, u32, u64, u64)> = report
        .tunnels
        .iter()
        .map(|row| {
            let bytes = row.network_bytes.get();
            (row.peer.to_string(), row.teid.get(), row.packets, bytes)
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("127.0.0.6".into(), 1, 577, 407_889),
            ("127.0.0.6".into(), 2, 345, 63_059),
            ("127.0.0.7".into(), 2, 345, 63_059),
            ("127.0.1.1".into(), 1, 577, 407_889),
        ]
    );
}

#[test]
fn every_capture_counts_as_tshark_does() {
    let Some(folder) = captures() else { return };
    if !has_tshark() {
        return;
    }

    for file in captures_in(&folder) {
        let report = run(&file);
        assert_eq!(
            tunnels(&report),
            tshark_tunnels(&file),
            "{}",
            file.display()
        );
    }
}

#[test]
fn scapy_traffic_counts_as_tshark_does() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scapy_traffic.py");
    let made = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .output()
        .unwrap();
    let notes = String::from_utf8_lossy(&made.stderr).into_owned();
    if notes.contains("No module named 'scapy'") {
        eprintln!("skipped: scapy is not installed");
        return;
    }
    assert!(made.status.success(), "{notes}");

    let files = captures_in(folder.path());
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let expected = tshark_tunnels(&file);
        let quotes = file.to_string_lossy().contains("icmp_error");
        assert_eq!(expected.is_empty(), quotes, "{}", file.display());
        assert_eq!(tunnels(&run(&file)), expected, "{}", file.display());
    }
}

#[test]
fn the_digest_depends_on_the_input_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pcap");
    write_capture(&file, &[gpdu(7, 100), gpdu(8, 60)]);

    let (first, second) = (run(&file), run(&file));

    assert_eq!(first.digest, second.digest);
    let mut value = serde_json::to_value(&first).unwrap();
    let object = value.as_object_mut().unwrap();
    object.remove("digest");
    object.remove("ns_per_packet");
    let canonical = serde_json::to_string(&value).unwrap();
    assert_eq!(
        first.digest,
        blake3::hash(canonical.as_bytes()).to_hex().to_string()
    );
}

#[test]
fn several_files_are_one_input() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.pcap"), folder.path().join("b.pcap"));
    write_capture(&a, &[gpdu(7, 100)]);
    write_capture(&b, &[gpdu(7, 60), gpdu(9, 60)]);

    let report = replay(&[a, b], &ReplayOptions::default()).unwrap();

    assert_eq!(report.packets, 3);
    let row = &report.tunnels[0];
    assert_eq!((row.packets, row.network_bytes.get()), (2, 160));
}

#[test]
fn a_cut_capture_and_a_file_that_is_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (cut, none) = (folder.path().join("cut.pcap"), folder.path().join("none"));
    write_capture(&cut, &[gpdu(7, 100)]);
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    std::fs::write(&none, "no capture").unwrap();

    for file in [cut, none] {
        let result = replay(&[file], &ReplayOptions::default());
        match result {
            Err(error @ ReplayError::Capture { .. }) => assert!(!error.to_string().is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn traffic_without_a_tunnel_is_named_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pcap");
    let plain = qlink_wire::build::udp_packet(
        "10.0.0.1:53".parse().unwrap(),
        "10.0.0.2:53".parse().unwrap(),
        &[0; 30],
    );
    write_capture(&file, &[plain.unwrap()]);

    let report = run(&file);

    assert_eq!(report.drops["not_gtpu"], "1");
    assert!(report.tunnels.is_empty());
}

/// A G-PDU as an IP packet, holding an inner UDP packet of `length` bytes.
fn gpdu(teid: u32, length: usize) -> Vec<u8> {
    let inner = qlink_wire::build::udp_packet(
        "10.45.0.2:1000".parse().unwrap(),
        "1.1.1.1:2000".parse().unwrap(),
        &vec![0; length - 28],
    )
    .unwrap();
    let mut message = qlink_wire::gpdu_header(teid, u16::try_from(inner.len()).unwrap()).to_vec();
    message.extend(inner);
    qlink_wire::build::udp_packet(
        "127.0.0.2:2152".parse().unwrap(),
        "127.0.0.1:2152".parse().unwrap(),
        &message,
    )
    .unwrap()
}

fn write_capture(path: &Path, packets: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(File::create(path).unwrap(), LinkType::RawIp).unwrap();
    for (number, packet) in (0_u64..).zip(packets) {
        let length = u32::try_from(packet.len()).unwrap();
        writer.write(number * 1_000_000, packet, length).unwrap();
    }
    writer.finish().unwrap();
}
