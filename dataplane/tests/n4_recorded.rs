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

const FILE: &str = "open5gs-srsenb.pcapng";

/// The two ends of a recorded exchange.
#[derive(Clone, Copy)]
struct Exchange {
    control: &'static str,
    user: &'static str,
}

/// A PGW-C of open5gs and its PGW-U.
const PGW: Exchange = Exchange {
    control: "127.0.0.4",
    user: "127.0.0.7",
};

/// An SGW-C of open5gs and its SGW-U: no rule names a subscriber's address.
const SGW: Exchange = Exchange {
    control: "127.0.0.3",
    user: "127.0.0.6",
};

/// PFCP datagrams that the control plane sent.
fn requests(capture: &Path, Exchange { control, user }: Exchange) -> Vec<Vec<u8>> {
    let filter = format!("pfcp && !icmp && ip.src == {control} && ip.dst == {user}");
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
        Message::SessionModificationResponse(answer) => ("modification", answer.cause, None),
        Message::SessionDeletionResponse(answer) => ("deletion", answer.cause, None),
        other => panic!("{other:?}"),
    }
}

/// Plays the control plane's requests to a data plane of ours; what was accepted, in order.
fn play(captures: &Path, exchange: Exchange) -> Vec<&'static str> {
    let Exchange { control, user } = exchange;
    let recorded = requests(&captures.join(FILE), exchange);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config: DataplaneConfig = serde_json::from_value(serde_json::json!({
        "n3": format!("{user}:2152"), "n6_local": format!("{user}:0"), "n6_peer": "127.9.30.3:9",
        "control_socket": path("control"), "arena": path("arena"), "journal": path("journal"),
        "pfcp": {
            "listen": format!("{user}:8805"), "peers": [control], "journal": path("node"),
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
    let socket = UdpSocket::bind((control, 0)).unwrap();
    socket.connect((user, 8805)).unwrap();
    socket
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
            Message::SessionEstablishmentRequest(_)
                | Message::SessionModificationRequest(_)
                | Message::SessionDeletionRequest(_)
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
        socket
            .send(&codec.encode(&header, &message).unwrap())
            .unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        let (_, answer) = codec.decode(buffer.get(..length).unwrap()).unwrap();
        let (name, cause, up) = told(answer);
        session = up.or(session);
        assert_eq!(cause, CauseCode::REQUEST_ACCEPTED, "{name}");
        answered.push(name);
    }

    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap().unwrap();
    answered
}

#[test]
fn a_recorded_control_plane_opens_and_ends_its_session_here() {
    let Some(captures) = std::env::var_os("QLINK_CAPTURES") else {
        println!("skipped: QLINK_CAPTURES is not set");
        return;
    };

    let answered = play(captures.as_ref(), PGW);

    let whole = answered.ends_with(&["establishment", "deletion"]);
    assert!(whole, "{answered:?}");
}

#[test]
fn a_recorded_serving_gateway_opens_changes_and_ends_its_session_here() {
    let Some(captures) = std::env::var_os("QLINK_CAPTURES") else {
        println!("skipped: QLINK_CAPTURES is not set");
        return;
    };

    let answered = play(captures.as_ref(), SGW);

    let whole = ["establishment", "modification", "modification", "deletion"];
    assert!(answered.ends_with(&whole), "{answered:?}");
}
