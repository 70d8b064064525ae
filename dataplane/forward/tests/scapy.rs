//! Translated packets, ICMP errors and answers, byte for byte as scapy builds them.
#![expect(clippy::unwrap_used, reason = "test code")]

mod rig;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use qlink_forward::mtu::{Encapsulation, Fit};
use qlink_forward::{Rewrite, TokenBucket, mtu};
use rig::{Kind, Rig, external_of, whole};

/// Debian's packages of Python modules belong to Debian's Python.
fn python() -> &'static str {
    if Path::new("/usr/bin/python3").exists() {
        "/usr/bin/python3"
    } else {
        "python3"
    }
}

/// Runs the script; `None` when there is no scapy.
fn scapy(step: &str, input: &str) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scapy_packets.py");
    let mut child = Command::new(python())
        .arg(script)
        .arg(step)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    if notes.contains("No module named 'scapy'") {
        return None;
    }
    assert!(output.status.success(), "{notes}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Lines of a name and a packet in hexadecimal digits.
fn packets(lines: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    lines.lines().map(|line| {
        let (name, digits) = line.split_once(' ').unwrap();
        let octet = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (name, (0..digits.len()).step_by(2).map(octet).collect())
    })
}

fn hex(packet: &[u8]) -> String {
    packet.iter().fold(String::new(), |mut digits, octet| {
        write!(digits, "{octet:02x}").unwrap();
        digits
    })
}

/// The ICMP answer to a packet that is too long.
fn answer_to(packet: &[u8]) -> Vec<u8> {
    let gateway = (
        "192.0.2.254".parse().unwrap(),
        "2001:db8::fe".parse().unwrap(),
    );
    let path = mtu::Path::try_new(1400, Encapsulation::Plain, gateway.0, gateway.1).unwrap();
    let (mut leaving, mut answer) = (Rewrite::new(), Rewrite::new());
    leaving.load(packet).unwrap();
    let fit = path.fit(
        &leaving,
        packet,
        &mut TokenBucket::new(1, 1),
        0,
        &mut answer,
    );
    assert!(matches!(fit, Fit::Answered));
    whole(&answer, packet)
}

#[test]
fn scapy_builds_the_same_packets() {
    let Some(sent) = scapy("up", "") else {
        eprintln!("skipped: scapy is not installed");
        return;
    };
    let (mut rig, mut places, mut results) = (Rig::new(), String::new(), String::new());
    for (name, packet) in packets(&sent) {
        if name.starts_with("mtu") {
            let answer = hex(&answer_to(&packet));
            writeln!(results, "mtu {name} - 0 {answer}").unwrap();
            continue;
        }
        let (_, left) = rig.up(1, &packet).unwrap();
        let kind = if name.contains("echo") {
            Kind::Echo
        } else {
            Kind::Udp
        };
        let external = external_of(kind, &left);
        let place = format!("{name} {} {}", external.ip(), external.port());
        writeln!(places, "place {place} -").unwrap();
        writeln!(results, "up {place} {}", hex(&left)).unwrap();
    }
    let returned = scapy("check", &places).unwrap();
    for (name, packet) in packets(&returned) {
        let (_, delivered) = rig.down(&packet).unwrap();
        writeln!(results, "down {name} - 0 {}", hex(&delivered)).unwrap();
    }

    let differences = scapy("check", &results).unwrap();

    assert_eq!(results.lines().count(), 18, "{results}");
    assert_eq!(differences, "");
}
