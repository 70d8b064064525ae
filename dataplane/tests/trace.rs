//! Traces of single sessions, read by tshark.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test code"
)]

mod process;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use process::{PATIENCE, Process};
use qlink_meter::ArenaReader;
use qlink_pfcp::{Answer, Cause, Request, TraceOrder, TraceReport, TraceState, TraceWriter};
use qlink_types::codec::Text;
use qlink_types::ids::{SessionId, Teid};

fn session(number: u8) -> SessionId {
    SessionId::new([number; 16])
}

fn order(number: u8, path: &Path, packets: u64) -> Request {
    Request::Trace {
        order: TraceOrder {
            session: session(number),
            path: Text::try_from(path.to_str().unwrap()).unwrap(),
            packets,
            seconds: 60,
        },
    }
}

fn refused(answer: Answer) -> Cause {
    match answer {
        Answer::Refused { refusal } => refusal.cause,
        other => panic!("{other:?}"),
    }
}

/// Waits until a trace has ended.
fn finished(process: &Process, number: u8) -> TraceReport {
    let started = Instant::now();
    loop {
        let session = session(number);
        match process.ask(&Request::TraceProgress { session }) {
            Answer::Traced { report } if report.state != TraceState::Running => return report,
            Answer::Traced { .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < PATIENCE, "the trace does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Sends a datagram that lies about its source, and waits until it is dropped; its inner length.
fn spoofed_uplink(process: &Process, teid: Teid) -> usize {
    let arena = ArenaReader::open(process.folder.path().join("arena")).unwrap();
    let length = process.send_uplink(9, teid, 40);
    let started = Instant::now();
    while !arena.drops().contains_key("source_spoofed") {
        assert!(started.elapsed() < PATIENCE, "the datagram is not dropped");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    length
}

fn path(process: &Process) -> PathBuf {
    process.folder.path().join("trace.pcapng")
}

/// One line per frame: interface, comment, protocols, TEID, lengths of outer and inner packet.
fn tshark(process: &Process, capture: &Path, fields: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    let port = process.info.n3.port();
    command.args(["-d", &format!("udp.port=={port},gtp")]);
    command.arg("-n").arg("-r").arg(capture);
    command.args(["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let Ok(output) = command.output() else {
        eprintln!("skipped: tshark is not installed");
        return None;
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| line.split('|').map(str::to_owned).collect();
    Some(text.lines().map(row).collect())
}

#[test]
fn both_sides_of_the_traced_session_are_in_the_file_with_their_verdicts_and_no_other() {
    let process = Process::start(31, |_| {});
    let (one, two) = (process.establish(1), process.establish(2));
    let path = path(&process);
    // Four packets: one of them lies about its source, and is dropped.
    let started = process.ask(&order(1, &path, 4));
    assert!(matches!(started, Answer::Traced { .. }), "{started:?}");
    // One after the other: a worker takes what waits on N3 before what waits on N6.
    let lengths = [
        process.uplink(1, one, 100),
        spoofed_uplink(&process, one),
        process.downlink(1, 1_300),
        process.uplink(1, one, 7),
    ];
    process.uplink(2, two, 55);
    let report = finished(&process, 1);

    assert_eq!(report.state, TraceState::Finished);
    assert_eq!((report.packets, report.lost), (4, 0));
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!(meta.len(), report.bytes);
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let fields = [
        "frame.interface_name",
        "frame.comment",
        "gtp.teid",
        "ip.len",
        "_ws.malformed",
    ];
    let Some(rows) = tshark(&process, &path, &fields) else {
        return;
    };
    let tunnel =
        |teid: u32, inner: usize| (format!("{teid:#010x}"), format!("{},{inner}", inner + 36));
    let plain = |inner: usize| (String::new(), inner.to_string());
    let expected = [
        (
            "n3",
            "qlink: uplink forwarded, user_charged 100",
            tunnel(one.get(), lengths[0]),
        ),
        ("n6", "qlink: uplink sent", plain(lengths[0])),
        (
            "n3",
            "qlink: uplink dropped, source_spoofed",
            tunnel(one.get(), lengths[1]),
        ),
        (
            "n6",
            "qlink: downlink forwarded, user_charged 1300",
            plain(lengths[2]),
        ),
        ("n3", "qlink: downlink sent", tunnel(1, lengths[2])),
        (
            "n3",
            "qlink: uplink forwarded, user_charged 7",
            tunnel(one.get(), lengths[3]),
        ),
        ("n6", "qlink: uplink sent", plain(lengths[3])),
    ];
    assert_eq!(rows.len(), expected.len(), "{rows:?}");
    for (row, (interface, comment, (teid, length))) in rows.iter().zip(expected) {
        assert_eq!(row[..], [interface, comment, &teid, &length, ""]);
    }
}

#[test]
fn a_trace_is_refused_without_a_session_over_a_file_that_stands_and_twice_at_once() {
    let process = Process::start(32, |_| {});
    let path = path(&process);
    assert_eq!(
        refused(process.ask(&order(1, &path, 1))),
        Cause::SessionUnknown
    );
    let teid = process.establish(1);
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(
        refused(process.ask(&order(1, &path, 1))),
        Cause::SystemFailure
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    assert_eq!(
        refused(process.ask(&order(1, &path, 0))),
        Cause::RuleInvalid
    );

    let other = process.folder.path().join("other.pcapng");
    let started = process.ask(&order(1, &other, 1));
    assert!(matches!(started, Answer::Traced { .. }), "{started:?}");
    let again = process.folder.path().join("again.pcapng");
    assert_eq!(refused(process.ask(&order(1, &again, 1))), Cause::Busy);
    process.uplink(1, teid, 10);
    finished(&process, 1);
    let again = process.ask(&order(1, &again, 1));
    assert!(matches!(again, Answer::Traced { .. }), "{again:?}");
}

/// The end of the process, like that of the session, completes the file.
#[test]
fn a_session_that_ends_ends_its_trace() {
    let process = Process::start(33, |_| {});
    let teid = process.establish(1);
    let path = path(&process);
    process.ask(&order(1, &path, 1_000));
    process.uplink(1, teid, 10);
    let session = session(1);
    process.ask(&Request::Delete { session });

    let report = finished(&process, 1);

    assert_eq!((report.state, report.packets), (TraceState::Finished, 1));
    if report.writer == TraceWriter::Plain {
        eprintln!("skipped: this kernel gives no io_uring");
    }
    if let Some(rows) = tshark(&process, &path, &["frame.number"]) {
        assert_eq!(rows.len(), 2);
    }
}
