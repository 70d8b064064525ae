//! PFCP messages that others sent, from recorded captures.

use std::path::Path;
use std::process::Command;

use qlink_pfcp::wire::{Codec, Message};

/// The PFCP datagrams of a capture, as tshark finds them; those quoted in ICMP errors are left out.
fn datagrams(capture: &Path) -> Vec<Vec<u8>> {
    let output = Command::new("tshark")
        .args(["-n", "-Y", "pfcp && !icmp && !icmpv6", "-T", "fields"])
        .args(["-e", "udp.payload", "-r"])
        .arg(capture)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| hex(line.split(',').next().unwrap()))
        .collect()
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits = text.trim();
    (0..digits.len() / 2)
        .map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).unwrap())
        .collect()
}

pub(crate) fn has_tshark() -> bool {
    let runs = Command::new("tshark").arg("--version").output().is_ok();
    if !runs {
        eprintln!("skipped: tshark is not installed");
    }
    runs
}

#[test]
fn recorded_messages_are_read_and_written_again_without_loss() {
    let Some(folder) = std::env::var_os("QLINK_CAPTURES") else {
        eprintln!("skipped: QLINK_CAPTURES is not set");
        return;
    };
    if !has_tshark() {
        return;
    }
    let codec = Codec::default();
    let (mut seen, mut same, mut rules) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let capture = path
            .extension()
            .is_some_and(|end| end == "pcap" || end == "pcapng");
        if !capture {
            continue;
        }
        for datagram in datagrams(&path) {
            let (header, message) = codec.decode(&datagram).expect("recorded message");
            let again = codec.encode(&header, &message).unwrap();
            assert_eq!(codec.decode(&again).unwrap(), (header, message.clone()));
            seen += 1;
            same += u32::from(again == datagram);
            if let Message::SessionEstablishmentRequest(request) = message {
                rules += request.rules.create_pdrs.len();
            }
        }
    }

    eprintln!("{seen} recorded messages, {same} written again byte for byte, {rules} PDRs");
    assert!(seen >= 36, "{seen} messages");
    assert!(same >= 30, "{same} messages byte for byte");
    assert!(rules >= 4, "{rules} detection rules");
}
