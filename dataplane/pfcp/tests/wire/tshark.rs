//! What tshark reads in our messages.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use qlink_pfcp::wire::{Codec, Message, MessageType};

use crate::arbitrary::{Source, message_of};
use crate::captures::has_tshark;
use crate::facts::{FIELDS, Facts, facts};

/// Datagrams to PFCP's port in a capture of raw IPv4 packets.
fn write_capture(path: &Path, datagrams: &[Vec<u8>]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 262_144, 101] {
        file.extend_from_slice(&word.to_be_bytes());
    }
    for datagram in datagrams {
        let udp = u16::try_from(datagram.len() + 8).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend_from_slice(&(udp + 20).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend_from_slice(&[0x22, 0x65, 0x22, 0x65]);
        packet.extend_from_slice(&udp.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(datagram);
        let length = u32::try_from(packet.len()).unwrap();
        for word in [0, 0, length, length] {
            file.extend_from_slice(&word.to_be_bytes());
        }
        file.extend_from_slice(&packet);
    }
    std::fs::write(path, file).unwrap();
}

/// What tshark says of each frame: its complaints, and the values of [`FIELDS`].
fn dissect(capture: &Path) -> Vec<(String, Facts)> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(capture);
    command.args(["-o", "ip.check_checksum:FALSE", "-T", "fields"]);
    command.args([
        "-E",
        "separator=|",
        "-E",
        "occurrence=a",
        "-E",
        "aggregator=;",
    ]);
    command.args(["-e", "_ws.expert.message", "-e", "_ws.malformed"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| {
            let columns: Vec<&str> = line.split('|').collect();
            let complaints = columns[..2].concat();
            let mut read = BTreeMap::new();
            for (field, column) in FIELDS.iter().zip(&columns[2..]) {
                let mut values: Vec<String> = column
                    .split(';')
                    .filter(|value| !value.is_empty())
                    .map(str::to_owned)
                    .collect();
                values.sort();
                if !values.is_empty() {
                    read.insert(*field, values);
                }
            }
            (complaints, read)
        })
        .collect()
}

/// Twenty messages of every type, from fixed bytes.
pub(crate) fn samples() -> Vec<(Vec<u8>, Facts, Message)> {
    let mut state = 2026_u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    let mut samples = Vec::new();
    for kind in MessageType::KNOWN {
        for _ in 0..20 {
            let bytes: Vec<u8> = (0..4000).map(|_| byte()).collect();
            let (header, message) = message_of(&mut Source::new(&bytes), *kind);
            let datagram = Codec::default().encode(&header, &message).unwrap();
            samples.push((datagram, facts(&header, &message), message));
        }
    }
    samples
}

#[test]
fn tshark_reads_what_we_wrote_and_complains_of_nothing() {
    if !has_tshark() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("messages.pcap");
    let samples = samples();
    let datagrams: Vec<Vec<u8>> = samples.iter().map(|sample| sample.0.clone()).collect();
    write_capture(&capture, &datagrams);

    let frames = dissect(&capture);

    assert_eq!(frames.len(), samples.len());
    let (mut values, mut differences) = (0, Vec::new());
    for (frame, ((_, expected, message), (complaints, read))) in
        samples.iter().zip(&frames).enumerate()
    {
        let kind = message.kind();
        if !complaints.is_empty() {
            differences.push(format!("{frame} {kind:?}: {complaints}"));
        }
        for field in FIELDS {
            if read.get(field) != expected.get(field) {
                let (theirs, ours) = (read.get(field), expected.get(field));
                differences.push(format!(
                    "{frame} {kind:?} {field}: {theirs:?}, not {ours:?}"
                ));
            }
        }
        values += read.values().map(Vec::len).sum::<usize>();
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    eprintln!("{} messages, {values} values", frames.len());
    assert!(values > 5000, "{values}");
}
