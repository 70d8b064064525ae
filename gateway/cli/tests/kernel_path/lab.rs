//! Four namespaces of a test's own, and what is seen in them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use qlink_io::seqpacket::SeqConn;
use qlink_meter::{ArenaReader, SessionSnapshot};
use qlink_pfcp::{Answer, Request, SessionUsage, decode_answer, encode_request};
use serde_json::Value;

/// Size of the film, in bytes: some thousand segments, and no multiple of anything.
pub(crate) const FILM: u64 = 3_000_017;

/// What the chain pays a viewer for the whole film: a hundredth of 1 QLC.
pub(crate) const FILM_UNITS: u64 = 1_000_000;

/// The origin as subscribers see it.
pub(crate) const ORIGIN: &str = "198.18.0.1";

/// What a lab and its tests call.
pub(crate) const PROGRAMS: [&str; 9] = [
    "ip", "nft", "nginx", "curl", "jq", "python3", "tshark", "dumpcap", "ethtool",
];

/// A lab of its own, gone when dropped.
pub(crate) struct Lab {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    /// What the script reads from its environment besides.
    pub(crate) settings: Settings,
}

/// Names and values of environment variables.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

impl Lab {
    /// A lab that is up; `None`, with the reason printed, where none can be.
    pub(crate) fn up() -> Option<Self> {
        Self::up_with(&[])
    }

    /// A lab that is up with these settings.
    pub(crate) fn up_with(settings: Settings) -> Option<Self> {
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

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
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
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(arguments)).unwrap()
    }

    /// Runs something in a namespace; it must succeed.
    pub(crate) fn inside(&self, place: &str, command: &[&str]) -> String {
        self.run(&[&["exec", place], command].concat())
    }

    /// Opens a session, with a personal data package for what the film's does not pay, and gives its
    /// subscriber's address.
    pub(crate) fn open(&self, viewer: &str) -> String {
        let opened = self.json(&["open", viewer, &(2 * FILM).to_string()]);
        opened["ue_address"].as_str().unwrap().to_owned()
    }

    /// Fetches with curl as `ue`.
    pub(crate) fn curl(&self, ue: &str, arguments: &[&str]) -> String {
        let common = ["curl", "-sS", "--fail", "-m", "30", "--interface", ue];
        self.inside("ue", &[&common, arguments].concat())
    }

    /// The session's classes, once nothing of it is pending.
    pub(crate) fn settled(&self, viewer: &str) -> Classes {
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
    pub(crate) fn close(&self, viewer: &str, used: u64) -> u64 {
        self.run(&["close", viewer]);
        self.await_used(used)
    }

    pub(crate) fn await_used(&self, used: u64) -> u64 {
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
    pub(crate) fn gateway_drops(&self, reason: &str) -> u64 {
        let reader = ArenaReader::open(self.dir.join("dataplane/arena")).unwrap();
        reader.drops().get(reason).copied().unwrap_or(0)
    }

    /// Packets that the BaseStation dropped for `reason`.
    pub(crate) fn radio_drops(&self, reason: &str) -> u64 {
        number(&self.json(&["radio"])["drops"][reason])
    }

    /// Starts a capture of N3 on the gateway's side.
    pub(crate) fn capture(&self) -> Capture {
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
pub(crate) struct Capture {
    pub(crate) child: Child,
    pub(crate) file: PathBuf,
}

impl Capture {
    /// Ends the capture; what tshark sees inside the tunnels.
    pub(crate) fn end(mut self) -> Seen {
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
pub(crate) struct Seen {
    /// TCP payload of both directions.
    pub(crate) payload: u64,
    /// Stream bytes before the highest acknowledgement that a subscriber sent.
    pub(crate) acknowledged: u64,
}

/// A data plane that watches the lab's gateway and forwards nothing.
pub(crate) struct Watcher {
    pub(crate) child: Child,
    pub(crate) folder: PathBuf,
}

impl Watcher {
    /// Starts beside the gateway, on the interface of its N3.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::start_with(lab, "")
    }

    /// The same with further keys of the table `packet`.
    pub(crate) fn start_with(lab: &Lab, keys: &str) -> Self {
        let folder = lab.dir.join("tap");
        std::fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let config = format!(
            "n3 = '10.47.0.1:2152'\nbackend = 'packet'\ncontrol_socket = '{}'\narena = '{}'\n\
             journal = '{}'\n[packet]\ninterface = 'n3'\nframes = 'both'\n{keys}",
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
    pub(crate) fn usage(&self, ue: &str, wanted: impl Fn(&SessionUsage) -> bool) {
        let reader = ArenaReader::open(self.folder.join("arena")).unwrap();
        let started = Instant::now();
        loop {
            let sessions = reader.sessions();
            let own = sessions
                .iter()
                .find(|session| session.is_live() && session.identity.ue.to_string() == ue);
            if own.is_some_and(|session| wanted(&session.usage)) {
                return;
            }
            let late = started.elapsed() > Duration::from_secs(10);
            assert!(!late, "{own:?} {:?}", reader.drops());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the subscriber has no session any more.
    pub(crate) fn ended(&self, ue: &str) {
        let reader = ArenaReader::open(self.folder.join("arena")).unwrap();
        let started = Instant::now();
        let lives =
            |session: &SessionSnapshot| session.is_live() && session.identity.ue.to_string() == ue;
        while reader.sessions().iter().any(lives) {
            assert!(started.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks over the control socket, as a gateway does.
    pub(crate) fn ask(&self, request: &Request) -> Answer {
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
pub(crate) struct Classes(pub(crate) Value);

impl Classes {
    pub(crate) fn of(&self, class: &str) -> u64 {
        number(&self.0[class])
    }

    pub(crate) fn is_conserved(&self) -> bool {
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

pub(crate) fn number(value: &Value) -> u64 {
    value.as_str().unwrap_or_default().parse().unwrap()
}

pub(crate) fn told(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// Why no lab can be made here.
pub(crate) fn missing() -> Option<String> {
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
