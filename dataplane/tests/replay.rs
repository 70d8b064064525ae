//! `replay` against tshark, on captures from elsewhere and on traffic made by scapy.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    dead_code,
    reason = "test code; the film's other builders serve other tests"
)]

mod film;
mod tshark;

use std::fs::File;
use std::path::{Path, PathBuf};

use film::{download, film as bytes_of};
use qlink_content::Direction;
use qlink_dataplane::replay::{ReplayError, ReplayOptions, Report, replay};
use qlink_io::pcap::PcapWriter;
use qlink_wire::LinkType;
use tshark::{Tunnels, captures, has_tshark, scapy_wrote, tshark_tunnels};

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
    if !scapy_wrote("scapy_traffic.py", folder.path(), "2026") {
        return;
    }

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

/// A download in a tunnel pair, each packet also on a second hop, in a capture of its own.
fn captured_download(path: &Path, film: &[u8], lost: impl Fn(usize) -> bool) {
    let mut packets = Vec::new();
    for (number, (direction, inner)) in download(film).into_iter().enumerate() {
        let (from, to, teid) = match direction {
            Direction::Uplink => ("127.0.0.2:2152", "127.0.0.1:2152", 5),
            Direction::Downlink => ("127.0.0.1:2152", "127.0.0.2:2152", 6),
        };
        let hop = |from: &str, to: &str, teid| {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            qlink_wire::build::gpdu_packet(from, to, teid, &inner).unwrap()
        };
        packets.push(hop(from, to, teid));
        if lost(number) {
            packets.push(hop(from, to, teid));
        }
        let (far_from, far_to) = (
            from.replace("127.0.0", "127.0.9"),
            to.replace("127.0.0", "127.0.9"),
        );
        packets.push(hop(&far_from, &far_to, teid + 10));
    }
    write_capture(path, &packets);
}

fn with_film(film: &[u8]) -> (tempfile::TempDir, ReplayOptions) {
    let folder = tempfile::tempdir().unwrap();
    let contents = folder.path().join("contents");
    std::fs::create_dir(&contents).unwrap();
    std::fs::write(contents.join("film"), film).unwrap();
    std::fs::write(contents.join("other"), b"never fetched").unwrap();
    let options = ReplayOptions {
        contents: Some(contents),
    };
    (folder, options)
}

#[test]
fn a_content_is_proven_once_although_its_packets_pass_two_hops() {
    let film = bytes_of(100_000);
    let (folder, options) = with_film(&film);
    let file = folder.path().join("a.pcap");
    captured_download(&file, &film, |_| false);

    let report = replay(&[file], &options).unwrap();

    assert_eq!(report.contents.len(), 1);
    let row = &report.contents[0];
    assert_eq!(row.session, "127.0.0.1/5");
    assert_eq!(row.content_bytes.get(), 100_000);
    assert_eq!(row.retransmit_bytes.get(), 0);
    assert_eq!(row.user_charged_bytes.get(), 0);
    assert_eq!(report.tunnels.len(), 4);
    assert_eq!(report.tunnels[0].packets, report.tunnels[2].packets);
}

#[test]
fn a_copy_on_the_same_hop_is_a_retransmit_and_no_content() {
    let film = bytes_of(100_000);
    let (folder, options) = with_film(&film);
    let file = folder.path().join("a.pcap");
    // Packet 6 is the first one of the body.
    captured_download(&file, &film, |number| number == 6);

    let row = replay(&[file], &options).unwrap().contents[0].clone();

    assert_eq!(row.content_bytes.get(), 100_000);
    assert_eq!(row.retransmit_bytes.get(), 1400);
}

#[test]
fn the_json_has_the_keys_of_its_schema_and_every_integer_is_a_string() {
    let film = bytes_of(3_000);
    let (folder, options) = with_film(&film);
    let file = folder.path().join("a.pcap");
    captured_download(&file, &film, |_| false);
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/cli/schema/replay.schema.json");
    let schema: serde_json::Value =
        serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();

    let value = serde_json::to_value(replay(&[file], &options).unwrap()).unwrap();

    let check = |value: &serde_json::Value, schema: &serde_json::Value| {
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        let known: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(keys, known);
    };
    let parts = &schema["properties"];
    check(&value, &schema);
    check(&value["contents"][0], &parts["contents"]["items"]);
    check(&value["tunnels"][0], &parts["tunnels"]["items"]);
    assert!(!has_number(&value));
}

fn has_number(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Number(_) => true,
        serde_json::Value::Array(items) => items.iter().any(has_number),
        serde_json::Value::Object(members) => members.values().any(has_number),
        _ => false,
    }
}
