//! What operators see of a data plane through the binary: a real process, real packets, JSON by
//! its schema.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code"
)]

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use qlink_io::seqpacket::SeqConn;
use qlink_pfcp::{
    Answer, DataPlaneInfo, DownlinkPath, Payer, Request, SessionRules, decode_answer,
    encode_request,
};
use qlink_types::ids::{SessionId, Teid};
use qlink_wire::build::udp_packet;
use qlink_wire::gpdu_header;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);
const SESSION: SessionId = SessionId::new([1; 16]);

/// A data plane process on loopback with one session of 10.45.0.2.
struct Plane {
    folder: tempfile::TempDir,
    child: Child,
    info: DataPlaneInfo,
    teid: Teid,
    basestation: UdpSocket,
    origin: UdpSocket,
}

impl Plane {
    /// `network`: third octet of its addresses, one per test.
    fn start(network: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = |host: u8| {
            let socket = UdpSocket::bind(SocketAddr::from(([127, 8, network, host], 0))).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (basestation, origin) = (socket(2), socket(3));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "n3 = \"127.8.{network}.1:0\"\nn6_local = \"127.8.{network}.1:0\"\nn6_peer = \"{}\"\n\
             control_socket = \"{}\"\narena = \"{}\"\njournal = \"{}\"\n\
             max_sessions = 8\nmax_flows = 8\nmax_views = 8\n",
            origin.local_addr().unwrap(),
            path("control"),
            path("arena"),
            path("journal"),
        );
        fs::write(folder.path().join("config.toml"), config).unwrap();
        let child = qlink()
            .args(["dataplane", "--config", &path("config.toml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut plane = Self {
            info: DataPlaneInfo {
                incarnation: qlink_types::units::Incarnation::ZERO,
                n3: basestation.local_addr().unwrap(),
                n6: origin.local_addr().unwrap(),
                arena: qlink_types::codec::Text::default(),
            },
            folder,
            child,
            teid: Teid::new(0),
            basestation,
            origin,
        };
        plane.introduce();
        plane
    }

    /// Waits for the control socket and opens the session.
    fn introduce(&mut self) {
        let started = Instant::now();
        let control = loop {
            if let Ok(control) = SeqConn::connect(self.path("control")) {
                break control;
            }
            assert!(started.elapsed() < PATIENCE, "no data plane");
            std::thread::sleep(Duration::from_millis(20));
        };
        if let Answer::Hello { info } = ask(&control, &Request::Hello) {
            self.info = info;
        }
        let rules = SessionRules {
            session: SESSION,
            teid: None,
            ue: [10, 45, 0, 2].into(),
            path: DownlinkPath {
                peer: self.basestation.local_addr().unwrap(),
                downlink_teid: Teid::new(7),
            },
            basestation: None,
            sponsor: None,
            payer: Payer::Operator,
        };
        match ask(&control, &Request::Establish { rules }) {
            Answer::Established { teid, .. } => self.teid = teid,
            other => panic!("{other:?}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self) -> String {
        self.path("control").display().to_string()
    }

    /// Sends a datagram through the tunnel and waits until the origin has it; its inner length.
    fn uplink(&self, payload: usize) -> usize {
        let (ue, server) = ("10.45.0.2:40000", "192.0.2.9:40001");
        let payload = vec![1; payload];
        let inner = udp_packet(ue.parse().unwrap(), server.parse().unwrap(), &payload).unwrap();
        let length = u16::try_from(inner.len()).unwrap();
        let mut message = gpdu_header(self.teid.get(), length).to_vec();
        message.extend(&inner);
        self.basestation.send_to(&message, self.info.n3).unwrap();
        let mut buffer = [0; 2048];
        assert_eq!(self.origin.recv(&mut buffer).unwrap(), inner.len());
        inner.len()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn ask(control: &SeqConn, request: &Request) -> Answer {
    control.send(&encode_request(1, request).unwrap()).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = control.recv(&mut buffer, Some(PATIENCE)).unwrap();
    decode_answer(buffer.get(..length.unwrap()).unwrap())
        .unwrap()
        .1
}

fn qlink() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qlink"));
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    qlink().args(arguments).output().unwrap()
}

/// What a command prints, checked by the schema of that name.
fn json(arguments: &[&str], schema: &str) -> Value {
    let output = run(&[arguments, &["--output", "json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("object.json");
    fs::write(&file, &output.stdout).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = Command::new("/usr/bin/python3")
        .arg(root.join("../../deploy/checks/check.py"))
        .arg("schema")
        .arg(root.join("schema").join(format!("{schema}.schema.json")))
        .arg(&file)
        .output();
    match checked {
        Ok(checked) if checked.status.code() == Some(77) => {
            println!("skipped: python3-jsonschema is not installed");
        }
        Ok(checked) => assert!(checked.status.success(), "{schema}: {checked:?}"),
        Err(error) => println!("skipped: no Python to check schemas: {error}"),
    }
    serde_json::from_slice(&output.stdout).unwrap()
}

fn row<'a>(rows: &'a Value, key: &str, name: &str) -> &'a Value {
    let mut rows = rows.as_array().unwrap().iter();
    rows.find(|row| row[key] == name).unwrap()
}

#[test]
fn a_session_is_explained_from_a_running_data_plane_and_from_its_arena() {
    let plane = Plane::start(1);
    let network = plane.uplink(100) + plane.uplink(23);
    let session = SESSION.to_string();
    let (socket, arena) = (plane.socket(), plane.path("arena").display().to_string());

    for source in [["--dataplane", &socket], ["--arena", &arena]] {
        let arguments = [&["session", "explain", &session][..], &source].concat();
        let explained = json(&arguments, "session-explain");

        let bytes = |name: &str| row(&explained["buckets"], "bucket", name)["bytes"].clone();
        assert_eq!(bytes("network_uplink"), network.to_string());
        assert_eq!(bytes("user_charged"), "123");
        let reason = row(&explained["user_charged"], "reason", "no_sponsor");
        assert_eq!(reason["bytes"], "123");
        assert_eq!(explained["payer"], "operator");

        let table = run(&arguments).stdout;
        let table = String::from_utf8_lossy(&table);
        assert!(
            table.contains("no_sponsor") && table.contains("123"),
            "{table}"
        );
    }
    let unknown = SessionId::new([9; 16]).to_string();
    let refused = run(&["session", "explain", &unknown, "--arena", &arena]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&unknown));
}

#[test]
fn a_trace_ends_at_its_packets_and_says_what_it_holds() {
    let plane = Plane::start(2);
    let file = plane.path("trace.pcapng").display().to_string();
    let (session, socket) = (SESSION.to_string(), plane.socket());
    let arguments = [
        "session",
        "trace",
        &session,
        "--dataplane",
        &socket,
        "--out",
        &file,
        "--packets",
        "2",
    ];
    let report = std::thread::scope(|scope| {
        let tracing = scope.spawn(|| json(&arguments, "session-trace"));
        let started = Instant::now();
        while !tracing.is_finished() {
            assert!(started.elapsed() < PATIENCE, "the trace does not end");
            plane.uplink(40);
            std::thread::sleep(Duration::from_millis(20));
        }
        tracing.join().unwrap()
    });

    assert_eq!(
        (&report["packets"], &report["lost"]),
        (&"2".into(), &"0".into())
    );
    let length = fs::metadata(&file).unwrap().len();
    assert_eq!(report["bytes"], length.to_string());
    // The file stands now.
    let again = run(&arguments);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("File exists"));
}

#[test]
fn top_shows_the_session_that_moves_bytes() {
    let plane = Plane::start(3);
    let socket = plane.socket();
    let arguments = [
        "top",
        "--once",
        "--interval-ms",
        "500",
        "--dataplane",
        &socket,
    ];
    let top = std::thread::scope(|scope| {
        let looking = scope.spawn(|| json(&arguments, "top"));
        while !looking.is_finished() {
            plane.uplink(1_000);
            std::thread::sleep(Duration::from_millis(5));
        }
        looking.join().unwrap()
    });

    assert_eq!(
        (&top["sessions"], &top["flows"]),
        (&"1".into(), &"0".into())
    );
    let busiest = row(&top["top_sessions"], "session", &SESSION.to_string());
    assert_eq!(busiest["ue"], "10.45.0.2");
    let rate = |value: &Value| -> u64 { value.as_str().unwrap().parse().unwrap() };
    assert!(rate(&busiest["bytes_per_second"]) > 0, "{top}");
    let worker = row(&top["workers"], "worker", "0");
    assert!(rate(&worker["bits_per_second"]) > 0, "{top}");
}

#[test]
fn doctor_names_every_back_end_with_a_fix_for_each_that_does_not_work() {
    let doctor = json(&["doctor"], "doctor");

    let backends = doctor["backends"].as_array().unwrap();
    let names: Vec<&str> = backends
        .iter()
        .map(|row| row["backend"].as_str().unwrap())
        .collect();
    let all = [
        "mem", "pcap", "udp", "tun", "packet", "xdp", "uring", "dpdk",
    ];
    assert_eq!(names, all);
    assert_eq!(row(&doctor["backends"], "backend", "udp")["usable"], true);
    let table = run(&["doctor"]).stdout;
    assert_eq!(String::from_utf8_lossy(&table).lines().count(), 10);
}

#[test]
fn doctor_says_what_auto_takes_and_why_nothing_faster() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dataplane.toml");
    let text = "n3 = '127.0.0.1:2152'\ncontrol_socket = 'c'\narena = 'a'\njournal = 'j'\n\
        n6_local = '127.0.0.1:0'\nn6_peer = '127.0.0.1:9'\n[xdp]\ninterface = 'nosuch0'\n";
    fs::write(&file, text).unwrap();

    let doctor = json(&["doctor", "--config", file.to_str().unwrap()], "doctor");

    assert_eq!(doctor["auto"]["backend"], "udp");
    let passed = &doctor["auto"]["passed_over"];
    assert!(
        row(passed, "backend", "dpdk")["why"]
            .as_str()
            .unwrap()
            .contains("no table")
    );
    assert!(
        row(passed, "backend", "xdp")["why"]
            .as_str()
            .unwrap()
            .contains("nosuch0")
    );
}

#[test]
fn bounds_and_sources_are_checked_before_anything_is_asked() {
    let session = SESSION.to_string();
    let usage = |arguments: &[&str], word: &str| {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(word), "{said}");
    };
    usage(&["session", "explain", &session], "--dataplane");
    usage(&["top", "--dataplane", "x", "--arena", "y"], "--arena");
    usage(&["session", "explain", "nonsense", "--arena", "y"], "ses_");
    let trace = [
        "session",
        "trace",
        &session,
        "--dataplane",
        "x",
        "--out",
        "y",
    ];
    usage(&[&trace[..], &["--seconds", "0"]].concat(), "--seconds");

    let nobody = run(&["top", "--dataplane", "/nonexistent/socket"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("/nonexistent/socket"));
}
