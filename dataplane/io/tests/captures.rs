//! Our readers and writers against tshark, on real captures and on generated ones.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "test code"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use qlink_io::pcap::{PcapSource, PcapWriter, PcapngWriter};
use qlink_io::{Burst, IoError, PacketSource};
use qlink_wire::LinkType;

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    timestamp_ns: u64,
    orig_len: u64,
    bytes: Vec<u8>,
}

fn our_frames(path: &Path) -> Vec<Frame> {
    let mut source = PcapSource::open(path).unwrap();
    let mut burst = Burst::new();
    let mut frames = Vec::new();
    loop {
        match source.recv_burst(&mut burst) {
            Ok(_) => frames.extend(burst.iter().map(|d| Frame {
                timestamp_ns: d.timestamp_ns,
                orig_len: d.orig_len.into(),
                bytes: source.frame(d).to_vec(),
            })),
            Err(IoError::End) => return frames,
            Err(error) => panic!("{}: {error}", path.display()),
        }
    }
}

fn has_tshark() -> bool {
    let found = Command::new("tshark").arg("--version").output().is_ok();
    if !found {
        println!("skipped: tshark is not installed");
    }
    found
}

fn tshark(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(path)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// `1700000000.123456789` as nanoseconds.
fn nanoseconds(text: &str) -> u64 {
    let (seconds, fraction) = text.split_once('.').unwrap();
    assert_eq!(fraction.len(), 9);
    seconds.parse::<u64>().unwrap() * 1_000_000_000 + fraction.parse::<u64>().unwrap()
}

/// The bytes of each frame, from the hex dumps, which blank lines separate.
fn hex_dumps(text: &str) -> Vec<Vec<u8>> {
    let mut dumps = Vec::new();
    for dump in text.split("\n\n").filter(|dump| !dump.trim().is_empty()) {
        let lines = dump.lines().filter(|line| line.len() > 6);
        let bytes = lines.flat_map(|line| {
            let columns = line[6..line.len().min(53)].split_ascii_whitespace();
            columns
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect::<Vec<u8>>()
        });
        dumps.push(bytes.collect());
    }
    dumps
}

fn tshark_frames(path: &Path) -> Vec<Frame> {
    let fields = ["-T", "fields", "-e", "frame.time_epoch", "-e", "frame.len"];
    let heads = tshark(path, &fields);
    let dumps = hex_dumps(&tshark(
        path,
        &["--hexdump", "frames", "--hexdump", "noascii"],
    ));
    assert_eq!(heads.lines().count(), dumps.len());
    let frames = heads.lines().zip(dumps).map(|(head, bytes)| {
        let (time, len) = head.split_once('\t').unwrap();
        Frame {
            timestamp_ns: nanoseconds(time),
            orig_len: len.parse().unwrap(),
            bytes,
        }
    });
    frames.collect()
}

fn captures() -> Option<Vec<PathBuf>> {
    let Some(folder) = std::env::var_os("QLINK_CAPTURES") else {
        println!("skipped: QLINK_CAPTURES is not set");
        return None;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("QLINK_CAPTURES is a folder")
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "pcap" || end == "pcapng")
        })
        .collect();
    files.sort();
    Some(files)
}

#[test]
fn every_real_capture_reads_as_tshark_reads_it() {
    let Some(files) = captures() else { return };
    if !has_tshark() {
        return;
    }
    for file in files {
        let ours = our_frames(&file);
        assert!(!ours.is_empty());
        assert_eq!(ours, tshark_frames(&file), "{}", file.display());
    }
}

#[test]
fn every_real_capture_cut_anywhere_is_survived() {
    let Some(files) = captures() else { return };
    for file in files {
        let whole = our_frames(&file).len();
        let bytes = std::fs::read(&file).unwrap();
        for cut in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let Ok(mut source) = PcapSource::new(&bytes[..cut]) else {
                continue;
            };
            let mut burst = Burst::new();
            while source.recv_burst(&mut burst).is_ok() {}
            assert!(source.stats().packets < whole as u64);
        }
    }
}

/// Frames of every remainder by four, some of them cut.
fn generated() -> Vec<Frame> {
    (0..100_u64)
        .map(|i| Frame {
            timestamp_ns: 1_700_000_000_123_456_789 + i * 1_000_000_007,
            orig_len: 20 + i + (i % 3) * 1000,
            bytes: (0..20 + i).map(|at| (at * 7 + i) as u8).collect(),
        })
        .collect()
}

#[test]
fn tshark_reads_what_the_pcapng_writer_wrote() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n3.pcapng");
    let mut writer = PcapngWriter::new(std::fs::File::create(&path).unwrap()).unwrap();
    let first = writer.add_interface(LinkType::Ethernet, "n3").unwrap();
    let second = writer.add_interface(LinkType::RawIp, "n6").unwrap();
    let frames = generated();
    for (index, frame) in frames.iter().enumerate() {
        let id = if index % 2 == 0 { first } else { second };
        let orig_len = u32::try_from(frame.orig_len).unwrap();
        writer
            .write(id, frame.timestamp_ns, &frame.bytes, orig_len)
            .unwrap();
    }
    writer.finish().unwrap();

    let names = tshark(&path, &["-T", "fields", "-e", "frame.interface_name"]);

    assert_eq!(tshark_frames(&path), frames);
    assert_eq!(names.lines().take(2).collect::<Vec<_>>(), ["n3", "n6"]);
}

#[test]
fn tshark_reads_what_the_pcap_writer_wrote() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n6.pcap");
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = PcapWriter::new(file, LinkType::RawIp).unwrap();
    let frames = generated();
    for frame in &frames {
        let orig_len = u32::try_from(frame.orig_len).unwrap();
        writer
            .write(frame.timestamp_ns, &frame.bytes, orig_len)
            .unwrap();
    }
    writer.finish().unwrap();

    assert_eq!(tshark_frames(&path), frames);
}
