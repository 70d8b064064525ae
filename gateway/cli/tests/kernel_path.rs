//! The traffic path between real kernels: `deploy/lab.sh` makes four network namespaces, and curl
//! fetches from nginx through BaseStation and gateway. What is billed must be exact.
//!
//! Needs root, `/dev/net/tun`, and the programs of [`PROGRAMS`]; anything missing is a skip that
//! says so. Each test has a lab of its own, named after its process, and removes it, also when it
//! fails.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use qlink_io::seqpacket::SeqConn;
use qlink_meter::ArenaReader;
use qlink_pfcp::{
    Answer, ContentBinding, DownlinkPath, Payer, Request, SessionRules, SessionUsage, Sponsor,
    decode_answer, encode_request,
};
use qlink_types::codec::Text;
use qlink_types::ids::{ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, PackageEpoch};
use serde_json::Value;

/// Size of the film, in bytes: some thousand segments, and no multiple of anything.
const FILM: u64 = 3_000_017;

/// What the chain pays a viewer for the whole film: a hundredth of 1 QLC.
const FILM_UNITS: u64 = 1_000_000;

/// The origin as subscribers see it.
const ORIGIN: &str = "198.18.0.1";

/// What a lab and its tests call.
const PROGRAMS: [&str; 9] = [
    "ip", "nft", "nginx", "curl", "jq", "python3", "tshark", "dumpcap", "ethtool",
];

/// A lab of its own, gone when dropped.
struct Lab {
    name: String,
    dir: PathBuf,
    /// What the script reads from its environment besides.
    settings: Settings,
}

/// Names and values of environment variables.
type Settings = &'static [(&'static str, &'static str)];

impl Lab {
    /// A lab that is up; `None`, with the reason printed, where none can be.
    fn up() -> Option<Self> {
        Self::up_with(&[])
    }

    /// A lab that is up with these settings.
    fn up_with(settings: Settings) -> Option<Self> {
        if let Some(why) = missing() {
            println!("skipped: {why}");
            return None;
        }
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        let name = format!("t{}x{thread}", std::process::id());
        let dir = std::env::temp_dir().join(format!("qlink-{name}"));
        let lab = Self {
            name,
            dir,
            settings,
        };
        lab.run(&["up"]);
        Some(lab)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/lab.sh");
        let mut command = Command::new("timeout");
        command
            .args(["-k", "5", "90"])
            .arg(script)
            .args(arguments)
            .env("QLINK", env!("CARGO_BIN_EXE_qlink"))
            .env("QLINK_LAB", &self.name)
            .env("QLINK_LAB_DIR", &self.dir)
            .env("QLINK_LAB_BYTES", FILM.to_string())
            .envs(self.settings.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the script, which must succeed; its standard output.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments)).unwrap()
    }

    /// Runs something in a namespace; it must succeed.
    fn inside(&self, place: &str, command: &[&str]) -> String {
        self.run(&[&["exec", place], command].concat())
    }

    /// Opens a session, with a personal data package for what the film's does not pay, and gives its
    /// subscriber's address.
    fn open(&self, viewer: &str) -> String {
        let opened = self.json(&["open", viewer, &(2 * FILM).to_string()]);
        opened["ue_address"].as_str().unwrap().to_owned()
    }

    /// Fetches with curl as `ue`.
    fn curl(&self, ue: &str, arguments: &[&str]) -> String {
        let common = ["curl", "-sS", "--fail", "-m", "30", "--interface", ue];
        self.inside("ue", &[&common, arguments].concat())
    }

    /// The session's classes, once nothing of it is pending.
    fn settled(&self, viewer: &str) -> Classes {
        let started = Instant::now();
        loop {
            let classes = Classes(self.json(&["session", viewer])["classes"].clone());
            assert!(classes.is_conserved(), "{:?}", classes.0);
            if classes.of("pending") == 0 && classes.of("wire_payload") > 0 {
                return classes;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{:?}",
                classes.0
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Closes the session and waits until the package has `used` bytes; the units moved for them.
    fn close(&self, viewer: &str, used: u64) -> u64 {
        self.run(&["close", viewer]);
        self.await_used(used)
    }

    fn await_used(&self, used: u64) -> u64 {
        let started = Instant::now();
        loop {
            let package = self.json(&["package"]);
            if number(&package["used_bytes"]) == used {
                return number(&package["moved"]["units"]);
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{package}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Packets that the gateway's data plane dropped for `reason`.
    fn gateway_drops(&self, reason: &str) -> u64 {
        let reader = ArenaReader::open(self.dir.join("dataplane/arena")).unwrap();
        reader.drops().get(reason).copied().unwrap_or(0)
    }

    /// Packets that the BaseStation dropped for `reason`.
    fn radio_drops(&self, reason: &str) -> u64 {
        number(&self.json(&["radio"])["drops"][reason])
    }

    /// Starts a capture of N3 on the gateway's side.
    fn capture(&self) -> Capture {
        let file = self.dir.join("n3.pcapng");
        let place = format!("qlink-{}-gw", self.name);
        let child = Command::new("ip")
            .args(["netns", "exec", &place, "dumpcap", "-q", "-i", "n3"])
            .args(["-f", "udp port 2152", "-w"])
            .arg(&file)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let capture = Capture { child, file };
        let started = Instant::now();
        while !capture.file.exists() {
            assert!(started.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(20));
        }
        capture
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = Command::new("sh")
                .args(["-c", "tail -n 3 \"$1\"/logs/*.log", "sh"])
                .arg(&self.dir)
                .output();
            println!("{}", logs.map(|output| told(&output)).unwrap_or_default());
        }
        let down = self.command(&["down"]).output();
        println!("{}", down.map(|output| told(&output)).unwrap_or_default());
    }
}

/// A running capture.
struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Ends the capture; what tshark sees inside the tunnels.
    fn end(mut self) -> Seen {
        let pid = self.child.id().to_string();
        let ended = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(ended.success());
        self.child.wait().unwrap();
        let output = Command::new("tshark")
            .args(["-r", self.file.to_str().unwrap(), "-Y", "gtp && tcp"])
            .args(["-o", "tcp.relative_sequence_numbers:TRUE"])
            .args(["-T", "fields", "-e", "tcp.dstport", "-e", "tcp.len"])
            .args(["-e", "tcp.flags.ack", "-e", "tcp.ack"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let mut seen = Seen::default();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            seen.payload += columns[1].parse::<u64>().unwrap();
            let acknowledges = matches!(columns[2], "1" | "True");
            if columns[0] == "80" && acknowledges {
                // The server's SYN takes the first number.
                let acknowledged = columns[3].parse::<u64>().unwrap() - 1;
                seen.acknowledged = seen.acknowledged.max(acknowledged);
            }
        }
        seen
    }
}

/// What an independent reader saw on N3.
#[derive(Debug, Default)]
struct Seen {
    /// TCP payload of both directions.
    payload: u64,
    /// Stream bytes before the highest acknowledgement that a subscriber sent.
    acknowledged: u64,
}

/// A data plane that watches the lab's gateway and forwards nothing.
struct Watcher {
    child: Child,
    folder: PathBuf,
}

impl Watcher {
    /// Starts beside the gateway, on the interface of its N3.
    fn start(lab: &Lab) -> Self {
        let folder = lab.dir.join("tap");
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let config = format!(
            "n3 = '10.47.0.1:2152'\nbackend = 'packet'\ncontrol_socket = '{}'\narena = '{}'\n\
             journal = '{}'\n[packet]\ninterface = 'n3'\nframes = 'both'\n",
            path("control"),
            path("arena"),
            path("journal")
        );
        std::fs::write(path("tap.toml"), config).unwrap();
        let place = format!("qlink-{}-gw", lab.name);
        let child = Command::new("ip")
            .args(["netns", "exec", &place, env!("CARGO_BIN_EXE_qlink")])
            .args(["dataplane", "--config", &path("tap.toml")])
            .stdout(std::fs::File::create(path("out")).unwrap())
            .stderr(std::fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let (out, log) = (path("out"), path("log"));
        let watcher = Self { child, folder };
        let started = Instant::now();
        while !std::fs::read_to_string(&out).unwrap().contains("ready") {
            let log = std::fs::read_to_string(&log).unwrap();
            assert!(started.elapsed() < Duration::from_secs(10), "{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        watcher
    }

    /// Waits until the subscriber's session has what `wanted` looks for.
    fn usage(&self, ue: &str, wanted: impl Fn(&SessionUsage) -> bool) {
        let reader = ArenaReader::open(self.folder.join("arena")).unwrap();
        let started = Instant::now();
        loop {
            let sessions = reader.sessions();
            let own = sessions
                .iter()
                .find(|session| session.identity.ue.to_string() == ue);
            if own.is_some_and(|session| wanted(&session.usage)) {
                return;
            }
            let late = started.elapsed() > Duration::from_secs(10);
            assert!(!late, "{own:?} {:?}", reader.drops());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks over the control socket, as a gateway does.
    fn ask(&self, request: &Request) -> Answer {
        let control = SeqConn::connect(self.folder.join("control")).unwrap();
        control.send(&encode_request(1, request).unwrap()).unwrap();
        let mut buffer = vec![0; 65_536];
        let patience = Some(Duration::from_secs(10));
        let length = control.recv(&mut buffer, patience).unwrap().unwrap();
        decode_answer(&buffer[..length]).unwrap().1
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let ended = Command::new("kill").args(["-TERM", &pid]).status();
        println!("{ended:?} {:?}", self.child.wait());
    }
}

/// A session's bytes by class.
struct Classes(Value);

impl Classes {
    fn of(&self, class: &str) -> u64 {
        number(&self.0[class])
    }

    fn is_conserved(&self) -> bool {
        let parts = [
            "verified_unique",
            "retransmit",
            "verified_repeat",
            "overhead_allowed",
            "undelivered",
            "user_charged",
            "pending",
        ];
        parts.iter().map(|class| self.of(class)).sum::<u64>() == self.of("wire_payload")
    }
}

fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or_default().parse().unwrap()
}

fn told(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// Why no lab can be made here.
fn missing() -> Option<String> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout != b"0\n" {
        return Some("a lab needs root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".to_owned());
    }
    let found = |program: &&&str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|folder| Path::new(folder).join(program).exists())
    };
    let absent = PROGRAMS.iter().find(|program| !found(program))?;
    Some(format!("{absent} is not installed"))
}

/// Asks for the film and resets the connection after `argv[3]` bytes of its body; prints the length
/// of the response's head.
const ABORT: &str = r#"
import socket, struct, sys
own, origin, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
connection = socket.create_connection((origin, 80), 20, (own, 0))
connection.sendall(b"GET /film HTTP/1.1\r\nHost: origin\r\n\r\n")
stream = b""
while b"\r\n\r\n" not in stream:
    stream += connection.recv(4096)
head = stream.index(b"\r\n\r\n") + 4
received = len(stream) - head
while received < wanted:
    received += len(connection.recv(min(65536, wanted - received)))
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
connection.close()
print(head)
"#;

/// Sends three datagrams from `argv[1]` to `argv[2]`, port `argv[3]`.
const DATAGRAMS: &str = r#"
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind((sys.argv[1], 0))
for _ in range(3):
    sender.sendto(b"hello", (sys.argv[2], int(sys.argv[3])))
"#;

/// Sends three G-PDUs from `argv[1]` to `argv[2]` under TEID `argv[3]`, whose inner packet claims to
/// be from `argv[4]`.
const TUNNELLED: &str = r#"
import socket, struct, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind((sys.argv[1], 0))
source, target = socket.inet_aton(sys.argv[4]), socket.inet_aton("198.18.0.1")
udp = struct.pack("!HHHH", 4000, 9, 13, 0) + b"hello"
header = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(udp), 0, 0, 64, 17, 0, source, target)
words = sum(struct.unpack("!10H", header))
words = (words & 0xFFFF) + (words >> 16)
header = header[:10] + struct.pack("!H", ~words & 0xFFFF) + header[12:]
packet = header + udp
message = struct.pack("!BBHI", 0x30, 255, len(packet), int(sys.argv[3])) + packet
for _ in range(3):
    sender.sendto(message, (sys.argv[2], 2152))
"#;

#[test]
fn a_film_fetched_with_curl_from_nginx_bills_exactly_its_size() {
    bills_exactly(&[]);
}

#[test]
fn a_film_bills_exactly_its_size_through_io_uring() {
    bills_exactly(&[("QLINK_LAB_BACKEND", "uring"), ("QLINK_LAB_WORKERS", "2")]);
}

#[test]
fn a_film_bills_exactly_its_size_through_xdp_in_the_driver_on_both_sides() {
    bills_exactly(&[
        ("QLINK_LAB_BACKEND", "xdp"),
        ("QLINK_LAB_N6", "xdp"),
        ("QLINK_LAB_MODE", "native"),
    ]);
}

#[test]
fn a_film_bills_exactly_its_size_through_xdp_in_the_kernels_core() {
    bills_exactly(&[("QLINK_LAB_BACKEND", "xdp"), ("QLINK_LAB_MODE", "generic")]);
}

#[test]
fn a_film_bills_exactly_its_size_through_two_queues_of_each_side() {
    bills_exactly(&[
        ("QLINK_LAB_BACKEND", "xdp"),
        ("QLINK_LAB_N6", "xdp"),
        ("QLINK_LAB_WORKERS", "2"),
    ]);
}

/// The origin has no way back to subscribers' own addresses: what arrives went through the public
/// one, both ways.
#[test]
fn a_film_bills_exactly_its_size_from_behind_a_public_address() {
    bills_exactly(&[("QLINK_LAB_NAT", "203.0.113.7")]);
}

#[test]
fn a_film_bills_exactly_its_size_through_nat_and_two_workers() {
    bills_exactly(&[("QLINK_LAB_NAT", "203.0.113.7"), ("QLINK_LAB_WORKERS", "2")]);
}

/// A film from its origin to a viewer, compared at every place that counts it.
fn bills_exactly(settings: Settings) {
    let Some(lab) = Lab::up_with(settings) else {
        return;
    };
    let ue = lab.open("one");
    let file = lab.dir.join("ue/film");

    lab.curl(
        &ue,
        &["-o", file.to_str().unwrap(), "http://198.18.0.1/film"],
    );

    let film = std::fs::read(lab.dir.join("www/film")).unwrap();
    assert!(std::fs::read(file).unwrap() == film, "curl got other bytes");
    let classes = lab.settled("one");
    assert_eq!(classes.of("verified_unique"), FILM);
    assert_eq!(classes.of("user_charged"), 0);
    assert!(classes.of("overhead_allowed") > 0);
    assert_eq!(lab.close("one", FILM), FILM_UNITS);
    let (sent, received) = (lab.json(&["session", "one"]), lab.json(&["radio"]));
    for direction in ["uplink", "downlink"] {
        let (network, forwarded) = (
            &sent[format!("{direction}_network_bytes")],
            &received["network"][format!("{direction}_bytes")],
        );
        assert_eq!(network, forwarded, "{direction}: gateway and BaseStation");
    }
    let taken = std::fs::read_to_string(lab.dir.join("logs/dataplane.log")).unwrap();
    for (name, value) in settings {
        let word = format!("\"backend\":\"{value}\"");
        assert!(
            *name != "QLINK_LAB_BACKEND" || taken.contains(&word),
            "{taken}"
        );
    }
}

#[test]
fn a_killed_data_plane_leaves_no_program_and_goes_on_where_it_was() {
    let Some(lab) = Lab::up_with(&[("QLINK_LAB_BACKEND", "xdp"), ("QLINK_LAB_N6", "xdp")]) else {
        return;
    };
    let has_program = |interface: &str| {
        let link = lab.inside("gw", &["ip", "-d", "link", "show", interface]);
        link.contains("prog/xdp")
    };
    let ue = lab.open("one");
    let half = [
        "-r",
        "0-1499999",
        "-o",
        "/dev/null",
        "http://198.18.0.1/film",
    ];
    lab.curl(&ue, &half);
    assert!(has_program("n3") && has_program("n6"));
    let pid = std::fs::read_to_string(lab.dir.join("pids/dataplane")).unwrap();

    let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();

    assert!(killed.unwrap().success());
    let started = Instant::now();
    while has_program("n3") || has_program("n6") {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    lab.run(&["kill", "dataplane"]);
    assert!(has_program("n3") && has_program("n6"));
    let rest = [
        "-r",
        "1500000-",
        "-o",
        "/dev/null",
        "http://198.18.0.1/film",
    ];
    lab.curl(&ue, &rest);
    let classes = lab.settled("one");
    assert_eq!(classes.of("verified_unique"), FILM);
    assert_eq!(lab.close("one", FILM), FILM_UNITS);
}

#[test]
fn a_tap_learns_the_session_and_meters_what_the_gateway_meters() {
    let Some(lab) = Lab::up() else { return };
    let watcher = Watcher::start(&lab);
    let ue = lab.open("one");

    lab.curl(&ue, &["-o", "/dev/null", "http://198.18.0.1/film"]);

    lab.settled("one");
    lab.close("one", FILM);
    let session = lab.json(&["session", "one"]);
    let of = |key: &str| number(&session[key]);
    watcher.usage(&ue, |usage| {
        usage.uplink.network_bytes.get() == of("uplink_network_bytes")
            && usage.downlink.network_bytes.get() == of("downlink_network_bytes")
    });
}

#[test]
fn a_tap_that_is_told_the_content_verifies_every_byte_of_it() {
    let Some(lab) = Lab::up() else { return };
    let watcher = Watcher::start(&lab);
    let ue = lab.open("one");
    let opened = std::fs::read_to_string(lab.dir.join("sessions/one")).unwrap();
    let opened: Value = serde_json::from_str(&opened).unwrap();
    let film = lab.dir.join("www/film");
    let content = ContentId::new(*blake3::hash(&std::fs::read(&film).unwrap()).as_bytes());
    let binding = ContentBinding {
        content,
        size: Bytes::new(FILM),
        path: Text::try_from(film.to_str().unwrap()).unwrap(),
    };
    let bound = watcher.ask(&Request::BindContent { binding });
    assert!(matches!(bound, Answer::Bound { .. }), "{bound:?}");
    let established = watcher.ask(&Request::Establish {
        rules: SessionRules {
            session: SessionId::new([7; 16]),
            teid: Some(Teid::new(u32::try_from(number(&opened["teid"])).unwrap())),
            ue: ue.parse().unwrap(),
            path: DownlinkPath {
                peer: "10.47.0.2:2152".parse().unwrap(),
                downlink_teid: Teid::new(1),
            },
            basestation: None,
            sponsor: Some(Sponsor {
                package: PackageId::new([2; 16]),
                package_epoch: PackageEpoch::ZERO,
                viewer: ViewerKey::ZERO,
                contents: vec![content].try_into().unwrap(),
                origins: Vec::new().try_into().unwrap(),
                limit: Bytes::new(FILM),
                repeat: RepeatPolicy::Free,
            }),
            payer: Payer::Operator,
        },
    });
    assert!(
        matches!(established, Answer::Established { .. }),
        "{established:?}"
    );

    lab.curl(&ue, &["-o", "/dev/null", "http://198.18.0.1/film"]);

    watcher.usage(&ue, |usage| {
        usage.classes.verified_unique.get() == FILM && usage.classes.pending.get() == 0
    });
}

#[test]
fn loss_in_both_directions_changes_no_billed_byte() {
    let Some(lab) = Lab::up() else { return };
    lab.run(&["loss", "2"]);
    let ue = lab.open("one");

    lab.curl(&ue, &["-o", "/dev/null", "http://198.18.0.1/film"]);

    let classes = lab.settled("one");
    assert_eq!(classes.of("verified_unique"), FILM);
    assert!(classes.of("retransmit") > 0, "nothing was lost");
    assert_eq!(classes.of("user_charged"), 0);
    assert_eq!(lab.close("one", FILM), FILM_UNITS);
    for place in ["bs", "gw"] {
        let rules = lab.inside(place, &["nft", "list", "table", "inet", "qlink_loss"]);
        assert!(!rules.contains("counter packets 0 "), "{place}: {rules}");
    }
}

#[test]
fn ranges_bill_each_byte_of_the_film_once() {
    let Some(lab) = Lab::up() else { return };
    let ue = lab.open("one");
    // Three apart, and one that repeats 40,000 bytes of the second and adds 10,000.
    let ranges = [
        "0-99999",
        "500000-599999",
        "2900017-3000016",
        "560000-609999",
    ];

    let mut arguments = Vec::new();
    for range in ranges {
        arguments.extend(["-r", range, "-o", "/dev/null", "http://198.18.0.1/film"]);
        arguments.extend(["--next", "-sS", "--fail", "--interface", &ue]);
    }
    arguments.truncate(arguments.len() - 5);
    lab.curl(&ue, &arguments);

    let classes = lab.settled("one");
    assert_eq!(classes.of("verified_unique"), 310_000);
    assert_eq!(classes.of("verified_repeat"), 40_000);
    assert_eq!(classes.of("user_charged"), 0);
    lab.close("one", 310_000);
}

#[test]
fn an_aborted_download_bills_what_the_last_acknowledgement_passed() {
    let Some(lab) = Lab::up() else { return };
    let ue = lab.open("one");
    let capture = lab.capture();

    let wanted = (FILM / 3).to_string();
    let head = lab.inside("ue", &["python3", "-c", ABORT, &ue, ORIGIN, &wanted]);

    let head: u64 = head.trim().parse().unwrap();
    lab.settled("one");
    lab.run(&["close", "one"]);
    let classes = lab.settled("one");
    let seen = capture.end();
    let acknowledged = seen.acknowledged - head;
    assert!((FILM / 3..FILM).contains(&acknowledged), "{seen:?}");
    assert_eq!(classes.of("verified_unique"), acknowledged);
    // What was on its way when the reset came is nobody's: not the package's, nor the viewer's.
    assert_eq!(classes.of("wire_payload"), seen.payload, "{:?}", classes.0);
    assert_eq!(classes.of("user_charged"), 0, "{:?}", classes.0);
    assert!(classes.of("undelivered") > 0, "{:?}", classes.0);
    lab.await_used(acknowledged);
}

#[test]
fn a_data_plane_killed_twice_on_the_way_bills_each_byte_once() {
    let Some(lab) = Lab::up() else { return };
    let ue = lab.open("one");
    let file = lab.dir.join("ue/film");
    let slow = ["--limit-rate", "1M", "-o", file.to_str().unwrap()];

    // Three seconds' worth of film, killed after half a second and after one.
    std::thread::scope(|scope| {
        scope.spawn(|| lab.curl(&ue, &[&slow[..], &["http://198.18.0.1/film"]].concat()));
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(500));
            lab.run(&["kill", "dataplane"]);
        }
    });

    let film = std::fs::read(lab.dir.join("www/film")).unwrap();
    assert!(std::fs::read(file).unwrap() == film, "curl got other bytes");
    let classes = lab.settled("one");
    assert_eq!(classes.of("verified_unique"), FILM);
    assert_eq!(classes.of("user_charged"), 0);
    assert_eq!(lab.close("one", FILM), FILM_UNITS);
}

#[test]
fn a_film_that_is_another_in_its_second_half_bills_its_first_half() {
    let Some(lab) = Lab::up() else { return };
    let ue = lab.open("one");

    lab.curl(&ue, &["-o", "/dev/null", "http://198.18.0.1/flipped"]);

    let classes = lab.settled("one");
    let half = FILM / 2;
    assert_eq!(classes.of("verified_unique"), half);
    assert_eq!(classes.of("user_charged"), FILM - half);
    lab.close("one", half);
}

#[test]
fn subscribers_send_as_nobody_else_and_reach_no_infrastructure() {
    let Some(lab) = Lab::up() else { return };
    let ue = lab.open("one");
    let opened = lab.json(&["session", "one"]);
    let teid = opened["teid"].as_str().unwrap().to_owned();
    let other = "10.45.0.99";
    lab.inside(
        "ue",
        &["ip", "address", "add", "10.45.0.99/32", "dev", "ue0"],
    );
    let datagrams = |source: &str, target: &str, port: &str| {
        lab.inside("ue", &["python3", "-c", DATAGRAMS, source, target, port]);
    };

    // Under an address without a session: the BaseStation knows no tunnel for it.
    datagrams(other, ORIGIN, "9");
    // To the gateway's addresses on N3, on the subscribers' side and on the origin's side.
    for target in ["10.47.0.1", "10.45.0.1", "198.18.0.2"] {
        datagrams(&ue, target, "8080");
    }
    // To the BaseStation's own addresses, which its kernel takes before any tunnel.
    for target in ["10.46.0.1", "10.47.0.2"] {
        datagrams(&ue, target, "2152");
    }
    // A tunnel of one's own.
    datagrams(&ue, "10.47.0.1", "2152");
    datagrams(&ue, ORIGIN, "2152");
    // A BaseStation that lets a subscriber lie.
    let tunnelled = ["python3", "-c", TUNNELLED, "10.47.0.2", "10.47.0.1"];
    lab.inside("bs", &[&tunnelled[..], &[&teid, other]].concat());

    let expected = [
        ("to_infrastructure", 12),
        ("gtpu_nested", 3),
        ("source_spoofed", 3),
    ];
    let started = Instant::now();
    for (reason, packets) in expected {
        while lab.gateway_drops(reason) < packets {
            let late = started.elapsed() > Duration::from_secs(10);
            assert!(!late, "{reason}: {}", lab.gateway_drops(reason));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert_eq!(
        expected.map(|(reason, _)| lab.gateway_drops(reason)),
        [12, 3, 3]
    );
    assert_eq!(lab.radio_drops("source_unknown"), 3);
    let input = lab.inside("bs", &["nft", "list", "table", "inet", "qlink_access"]);
    assert!(input.contains("counter packets 6 "), "{input}");
    let classes = lab.json(&["session", "one"])["classes"].clone();
    assert_eq!(number(&classes["wire_payload"]), 0, "{classes}");
}

/// A BaseStation behind a translator, with a tunnel.
const TUNNEL: Settings = &[("QLINK_LAB_LINK", "tunnel")];

/// Fetches the film at half a megabyte a second and does something meanwhile; what curl got must be
/// the film and be billed exactly.
fn fetch_while(lab: &Lab, meanwhile: impl FnOnce()) -> Classes {
    let ue = lab.open("one");
    let file = lab.dir.join("ue/film");
    let slow = ["--limit-rate", "500k", "-o", file.to_str().unwrap()];
    // The last of two limits counts: after a kill a tunnel takes 15 s to notice silence.
    let patient = ["-m", "80", "http://198.18.0.1/film"];

    std::thread::scope(|scope| {
        scope.spawn(|| lab.curl(&ue, &[&slow[..], &patient].concat()));
        std::thread::sleep(Duration::from_secs(1));
        meanwhile();
    });

    let film = std::fs::read(lab.dir.join("www/film")).unwrap();
    assert!(std::fs::read(file).unwrap() == film, "curl got other bytes");
    let classes = lab.settled("one");
    assert_eq!(classes.of("verified_unique"), FILM);
    assert_eq!(classes.of("user_charged"), 0);
    assert_eq!(lab.close("one", FILM), FILM_UNITS);
    classes
}

#[test]
fn a_tunnel_behind_a_translator_that_rebinds_and_loses_bills_exactly() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };
    lab.run(&["loss", "2"]);

    let classes = fetch_while(&lab, || {
        lab.run(&["rebind"]);
    });

    assert!(classes.of("retransmit") > 0, "nothing was lost");
    let log = std::fs::read_to_string(lab.dir.join("logs/dataplane.log")).unwrap();
    assert!(log.contains("\"roamed\":1"), "{log}");
}

#[test]
fn a_data_plane_killed_behind_a_tunnel_is_found_again() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };

    fetch_while(&lab, || {
        lab.run(&["kill", "dataplane"]);
    });
}

#[test]
fn a_basestation_killed_behind_a_translator_comes_back_by_its_key() {
    let Some(lab) = Lab::up_with(TUNNEL) else {
        return;
    };
    lab.run(&["kill", "basestation"]);

    fetch_while(&lab, || {});
}
