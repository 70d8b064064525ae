//! What a data plane tells of itself over HTTP, asked by a client that knows only HTTP.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod process;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use process::{PATIENCE, Process};
use qlink_dataplane::{DataplaneConfig, DataplaneError};
use qlink_pfcp::{Cause, Request};
use qlink_types::ids::SessionId;
use qlink_wire::{echo_response, parse_gtpu};

fn metrics_at(network: u8) -> SocketAddr {
    SocketAddr::from(([127, 9, network, 1], 9102))
}

/// Status and body of one answer.
fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// The value of a series; `None` when it is not told.
fn value(text: &str, series: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

/// Asks until a series has this value.
fn until(at: SocketAddr, series: &str, wanted: u64) -> String {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (status, text) = get(at, "/metrics");
        assert_eq!(status, 200);
        if value(&text, series) == Some(wanted) {
            return text;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{series} is not {wanted}\n{text}"
        );
    }
}

#[test]
fn every_packet_drop_table_request_and_export_is_told_by_worker() {
    let collector = UdpSocket::bind("127.9.60.9:0").unwrap();
    let process = Process::start(60, |config| {
        config.workers = 2;
        config.metrics = Some(metrics_at(60));
        config.ipfix = Some(
            serde_json::from_value(serde_json::json!({
                "collector": collector.local_addr().unwrap(), "interval": "100ms", "pen": 32473,
            }))
            .unwrap(),
        );
    });
    let at = metrics_at(60);
    let teid = process.establish(1);
    let up = process.uplink(1, teid, 100);
    let down = process.downlink(1, 200);
    // A TEID that nobody has.
    process.send_uplink(1, qlink_types::ids::Teid::new(teid.get() ^ 0xff), 10);
    let unknown = Request::Delete {
        session: SessionId::new([9; 16]),
    };
    process.ask(&unknown);

    let worker = teid.get() >> 28;
    let of = |name: &str| format!("qlink_dataplane_{name}{{worker=\"{worker}\"}}");
    let text = until(at, &of("network_bytes_total"), (up + down) as u64);

    assert_eq!(value(&text, &of("sent_packets_total")), Some(2));
    assert_eq!(value(&text, &of("sessions")), Some(1));
    assert_eq!(value(&text, &of("sessions_max")), Some(4));
    assert_eq!(value(&text, &of("flows_max")), Some(4));
    assert_eq!(value(&text, &of("views")), Some(0));
    assert_eq!(value(&text, &of("conservation_violations_total")), Some(0));
    assert_eq!(value(&text, &of("uncertain_bytes_total")), Some(0));
    let incarnation = value(&text, "qlink_dataplane_incarnation").unwrap();
    assert_eq!(incarnation, process.info.incarnation.get());
    let result = |name: &str| format!("qlink_dataplane_requests_total{{result=\"{name}\"}}");
    assert_eq!(value(&text, &result("done")), Some(1));
    let unknown = result(Cause::SessionUnknown.name());
    assert_eq!(value(&text, &unknown), Some(1));
    let journal = "qlink_dataplane_journal_errors_total{journal=\"control\"}";
    assert_eq!(value(&text, journal), Some(0));
    let carried = "qlink_dataplane_back_end{back_end=\"udp\",interface=\"n3\"}";
    assert_eq!(value(&text, carried), Some(1));
    let drops = |worker: u32| {
        format!(
            "qlink_dataplane_dropped_packets_total{{reason=\"teid_unknown\",worker=\"{worker}\"}}"
        )
    };
    let dropped = |text: &str| (0..2).filter_map(|n| value(text, &drops(n))).sum::<u64>();
    let deadline = std::time::Instant::now() + PATIENCE;
    while dropped(&get(at, "/metrics").1) == 0 {
        assert!(std::time::Instant::now() < deadline, "no drop is told");
    }
    let sent = "qlink_dataplane_ipfix_messages_total{result=\"sent\"}";
    while value(&get(at, "/metrics").1, sent) == Some(0) {
        assert!(std::time::Instant::now() < deadline, "no export is told");
    }
}

#[test]
fn a_process_that_works_is_healthy_and_ready_and_tells_nothing_else() {
    let process = Process::start(61, |config| config.metrics = Some(metrics_at(61)));
    let at = metrics_at(61);

    assert!(process.folder.path().join("arena").exists());
    assert_eq!(get(at, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(at, "/readyz"), (200, "ready\n".to_owned()));
    let (status, body) = get(at, "/sessions");
    assert_eq!(status, 404);
    assert!(body.contains("no such resource"), "{body}");
}

#[test]
fn a_basestation_that_falls_silent_and_comes_back_is_told() {
    let process = Process::start(63, |config| {
        config.metrics = Some(metrics_at(63));
        config.paths = serde_json::from_value(serde_json::json!({
            "interval": "100ms", "t3": "50ms", "n3": 2,
        }))
        .unwrap();
    });
    let at = metrics_at(63);
    process.establish(1);

    until(at, "qlink_dataplane_paths{state=\"failed\"}", 1);
    // Only an answer to what was asked last counts: those before it are stray.
    let deadline = std::time::Instant::now() + PATIENCE;
    let recovered = "qlink_dataplane_path_changes_total{change=\"recovered\"}";
    let mut buffer = [0; 64];
    while value(&get(at, "/metrics").1, recovered) == Some(0) {
        assert!(std::time::Instant::now() < deadline, "it never came back");
        let (length, from) = process.basestation.recv_from(&mut buffer).unwrap();
        let sequence = parse_gtpu(&buffer[..length]).unwrap().sequence.unwrap();
        let answer = echo_response(sequence);
        process.basestation.send_to(&answer, from).unwrap();
    }
}

#[test]
fn an_address_that_is_taken_is_refused_before_anything_starts() {
    let taken = std::net::TcpListener::bind(metrics_at(62)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let config: DataplaneConfig = serde_json::from_value(serde_json::json!({
        "n3": "127.9.62.1:0", "n6_local": "127.9.62.1:0", "n6_peer": "127.9.62.3:9",
        "control_socket": path("control"), "arena": path("arena"), "journal": path("journal"),
        "metrics": taken.local_addr().unwrap(),
    }))
    .unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);

    let error = qlink_dataplane::run(&config, |_| panic!("it started"), &stop).unwrap_err();

    assert!(matches!(error, DataplaneError::Metrics(_)), "{error}");
    assert!(!path("arena").exists());
}
