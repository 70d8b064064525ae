//! The control plane's side of a recorded exchange, played to a data plane.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use qlink_dataplane::{DataplaneConfig, run};
use qlink_pfcp::model::Seid;
use qlink_pfcp::wire::{CauseCode, Codec, Header, Message};

/// A PGW-C of open5gs and its PGW-U.
const FILE: &str = "open5gs-srsenb.pcapng";
const CONTROL: &str = "127.0.0.4";
const USER: &str = "127.0.0.7";

/// PFCP datagrams that the control plane sent.
fn requests(capture: &Path) -> Vec<Vec<u8>> {
    let filter = format!("pfcp && !icmp && ip.src == {CONTROL} && ip.dst == {USER}");
    let output = Command::new("tshark")
        .args([
            "-n",
            "-Y",
            &filter,
            "-T",
            "fields",
            "-e",
            "udp.payload",
            "-r",
        ])
        .arg(capture)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let hex = |line: &str| {
        let pairs = line.as_bytes().chunks(2);
        let octet = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.map(octet).collect()
    };
    text.lines().map(hex).collect()
}

/// What an answer is about, what it says, and our number of the session.
fn told(answer: Message) -> (&'static str, CauseCode, Option<Seid>) {
    match answer {
        Message::AssociationSetupResponse(answer) => ("association", answer.cause, None),
        Message::SessionEstablishmentResponse(answer) => {
            ("establishment", answer.cause, answer.up.map(|up| up.seid))
        }
        Message::SessionDeletionResponse(answer) => ("deletion", answer.cause, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_recorded_control_plane_opens_and_ends_its_session_here() {
    let Some(folder) = std::env::var_os("QLINK_CAPTURES") else {
        println!("skipped: QLINK_CAPTURES is not set");
        return;
    };
    let recorded = requests(&Path::new(&folder).join(FILE));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config: DataplaneConfig = serde_json::from_value(serde_json::json!({
        "n3": format!("{USER}:2152"), "n6_local": format!("{USER}:0"), "n6_peer": "127.9.30.3:9",
        "control_socket": path("control"), "arena": path("arena"), "journal": path("journal"),
        "pfcp": {
            "listen": format!("{USER}:8805"), "peers": [CONTROL], "journal": path("node"),
            "requests_to": "source",
        },
    }))
    .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (ready, started) = channel();
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || run(&config, |_| ready.send(()).unwrap(), &stop)
    });
    if started.recv_timeout(Duration::from_secs(5)).is_err() {
        panic!("not started: {:?}", thread.join());
    }
    let control = UdpSocket::bind((CONTROL, 0)).unwrap();
    control.connect((USER, 8805)).unwrap();
    control
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let (codec, mut buffer) = (Codec::default(), [0; 4096]);
    let mut session = None;
    let mut answered = Vec::new();

    for datagram in recorded {
        let (header, message) = codec.decode(&datagram).unwrap();
        let opens = matches!(message, Message::AssociationSetupRequest(_));
        let about = matches!(
            message,
            Message::SessionEstablishmentRequest(_) | Message::SessionDeletionRequest(_)
        );
        if !opens && !about {
            continue;
        }
        // The number of the session is ours, not that of the recorded user plane.
        let known = header.seid.filter(|seid| seid.get() != 0);
        let header = match (known, session) {
            (Some(_), Some(own)) => Header::session(own, header.sequence),
            _ => header,
        };
        control
            .send(&codec.encode(&header, &message).unwrap())
            .unwrap();
        let length = control.recv(&mut buffer).unwrap();
        let (_, answer) = codec.decode(buffer.get(..length).unwrap()).unwrap();
        let (name, cause, up) = told(answer);
        session = up.or(session);
        assert_eq!(cause, CauseCode::REQUEST_ACCEPTED, "{name}");
        answered.push(name);
    }

    assert!(
        answered.ends_with(&["establishment", "deletion"]),
        "{answered:?}"
    );
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap().unwrap();
}
