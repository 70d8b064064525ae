//! Counters as IPFIX: what collectors of others make of our messages.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "test code"
)]

mod process;

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use process::{PATIENCE, Process};
use qlink_dataplane::DataplaneConfig;
use qlink_dataplane::export::{IpfixConfig, Span};
use qlink_io::pcap::PcapWriter;
use qlink_wire::LinkType;
use qlink_wire::build::udp_packet;

/// Reserved for examples: RFC 5612.
const PEN: u32 = 32_473;

fn runs(program: &str, arguments: &[&str]) -> bool {
    let runs = Command::new(program).args(arguments).output().is_ok();
    if !runs {
        eprintln!("skipped: {program} is not installed");
    }
    runs
}

/// A data plane that exports ten times a second to a socket of the test.
fn exporting(network: u8) -> (Process, UdpSocket) {
    exporting_with(network, |_| {})
}

fn exporting_with(network: u8, change: impl FnOnce(&mut DataplaneConfig)) -> (Process, UdpSocket) {
    let collector = UdpSocket::bind(SocketAddr::from(([127, 9, network, 4], 0))).unwrap();
    collector.set_read_timeout(Some(PATIENCE)).unwrap();
    let process = Process::start(network, |config| {
        change(config);
        config.ipfix = Some(IpfixConfig {
            collector: collector.local_addr().unwrap(),
            interval: Span(Duration::from_millis(100)),
            refresh: Span(Duration::from_millis(300)),
            pen: PEN,
            observation_domain: 42,
        });
    });
    (process, collector)
}

/// What two sessions moved: uplink bytes and packets, downlink bytes and packets.
#[derive(Debug, PartialEq, Eq)]
struct Moved([u64; 4]);

/// Traffic of two sessions and three packets of an unknown tunnel.
fn traffic(process: &Process) -> [Moved; 2] {
    let (one, two) = (process.establish(1), process.establish(2));
    let mut moved = [[0; 4]; 2];
    for (number, teid, row) in [(1, one, 0), (2, two, 1)] {
        for payload in [10, 500 * row + 1, 1200] {
            moved[row][0] += process.uplink(number, teid, payload) as u64;
            moved[row][1] += 1;
        }
        for payload in [900, 33] {
            moved[row][2] += process.downlink(number, payload) as u64;
            moved[row][3] += 1;
        }
    }
    for _ in 0..3 {
        process.send_uplink(1, qlink_types::ids::Teid::new(0xdead_beef), 10);
    }
    moved.map(Moved)
}

/// Messages of rounds that begin after the traffic, from the first template on.
fn messages(collector: &UdpSocket) -> Vec<Vec<u8>> {
    const ROUNDS: Duration = Duration::from_millis(1_500);
    // Rounds that ran beside the traffic are behind us then.
    std::thread::sleep(Duration::from_millis(300));
    collector.set_nonblocking(true).unwrap();
    while collector.recv(&mut [0; 2048]).is_ok() {}
    collector.set_nonblocking(false).unwrap();
    let started = Instant::now();
    let mut all = Vec::new();
    while started.elapsed() < ROUNDS {
        let mut buffer = [0; 2048];
        let (length, _) = collector.recv_from(&mut buffer).unwrap();
        let has_templates = buffer[16..18] == [0, 2];
        if has_templates || !all.is_empty() {
            all.push(buffer[..length].to_vec());
        }
    }
    assert!(!all.is_empty(), "templates are sent again and again");
    all
}

/// A collector process, ended with the test.
struct Nfcapd(Child);

impl Nfcapd {
    fn start(folder: &Path, address: SocketAddr) -> Self {
        let mut command = Command::new("nfcapd");
        command.arg("-w").arg(folder);
        command.args(["-b", &address.ip().to_string()]);
        command.args(["-p", &address.port().to_string(), "-t", "600"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(child.spawn().unwrap())
    }

    /// Ends it; it writes its file then.
    fn finish(&mut self) {
        let pid = self.0.id().to_string();
        let _ended = Command::new("kill").args(["-TERM", &pid]).status();
        let started = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < PATIENCE, "nfcapd does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Nfcapd {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A free port of an address, bound for as long as it takes to know it.
fn free(network: u8) -> SocketAddr {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 9, network, 5], 0))).unwrap();
    socket.local_addr().unwrap()
}

/// Whether something is bound to a UDP port; sending would not tell.
fn wait_until_bound(address: SocketAddr) {
    let started = Instant::now();
    while UdpSocket::bind(address).is_ok() {
        assert!(started.elapsed() < PATIENCE, "nfcapd does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn nfdump(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("nfdump");
    command.arg("-R").arg(folder).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nfdump_reads_the_standard_elements_to_the_byte() {
    if !runs("nfcapd", &["-V"]) {
        return;
    }
    let (process, collector) = exporting(21);
    let folder = process.folder.path().join("nfcapd");
    fs::create_dir(&folder).unwrap();
    let address = free(21);
    let mut nfcapd = Nfcapd::start(&folder, address);
    wait_until_bound(address);

    let moved = traffic(&process);
    let relay = UdpSocket::bind(SocketAddr::from(([127, 9, 21, 4], 0))).unwrap();
    for message in messages(&collector) {
        relay.send_to(&message, address).unwrap();
    }
    // What nfcapd has received lies in its socket's queue; it ends behind it.
    std::thread::sleep(Duration::from_millis(500));
    nfcapd.finish();

    let text = nfdump(&folder, &["-q", "-N", "-o", "csv"]);
    let mut seen = [0; 2];
    for line in text.lines().filter(|line| line.contains(',')) {
        // Date, end, length, addresses, ports ..., then input and output counters from column 11.
        let columns: Vec<&str> = line.split(',').collect();
        let session = match columns[3] {
            "10.45.0.1" => 0,
            "10.45.0.2" => 1,
            other => panic!("nfdump makes a flow of something else: {other}: {line}"),
        };
        let number = |column: usize| -> u64 { columns[column].parse().unwrap() };
        let found = Moved([number(12), number(11), number(14), number(13)]);
        assert_eq!(found, moved[session], "{line}");
        seen[session] += 1;
    }
    // More than once, so totals are repeated and not counted up.
    assert!(seen.iter().all(|count| *count > 1), "{seen:?}: {text}");
}

/// tshark on a capture of `messages`.
fn tshark(process: &Process, messages: &[Vec<u8>]) -> impl Fn(&[&str]) -> String + use<> {
    let capture = process.folder.path().join("ipfix.pcap");
    let file = BufWriter::new(File::create(&capture).unwrap());
    let mut writer = PcapWriter::new(file, LinkType::RawIp).unwrap();
    for message in messages {
        let (from, to) = ("192.0.2.1:9999", "192.0.2.2:4739");
        let packet = udp_packet(from.parse().unwrap(), to.parse().unwrap(), message).unwrap();
        let length = u32::try_from(packet.len()).unwrap();
        writer.write(1, &packet, length).unwrap();
    }
    writer.finish().unwrap();
    move |arguments| {
        let mut command = Command::new("tshark");
        command.args(["-n", "-d", "udp.port==4739,cflow", "-r"]);
        let output = command.arg(&capture).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn tshark_reads_who_was_given_which_ports_of_a_public_address() {
    if !runs("tshark", &["--version"]) {
        return;
    }
    let (process, collector) = exporting_with(24, |config| {
        let nat = serde_json::json!({ "pool": ["198.51.100.7"], "block_ports": 1024 });
        config.nat = Some(serde_json::from_value(nat).unwrap());
    });
    let teid = process.establish(1);
    process.uplink(1, teid, 10);

    // Blocks that are held are told again and again, because datagrams get lost.
    let exported = messages(&collector);
    let tshark = tshark(&process, &exported);

    assert_eq!(tshark(&["-Y", "_ws.malformed"]), "");
    let fields = [
        "cflow.nat_event",
        "cflow.post_natsource_ipv4_address",
        "cflow.port_range_start",
        "cflow.port_range_end",
    ];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let arguments: Vec<&str> = [
        "-Y",
        "cflow.nat_event",
        "-T",
        "fields",
        "-E",
        "occurrence=f",
    ]
    .into_iter()
    .chain(fields)
    .collect();
    let text = tshark(&arguments);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 1, "{text}");
    for line in lines {
        let columns: Vec<&str> = line.split('\t').collect();
        assert_eq!(columns[..2], ["16", "198.51.100.7"], "{line}");
        let [first, last]: [u16; 2] = [2, 3].map(|at| columns[at].parse().unwrap());
        assert!(first >= 1024 && first.is_multiple_of(1024), "{line}");
        assert_eq!(last - first, 1023, "{line}");
    }
    assert!(tshark(&["-V", "-Y", "cflow.nat_event"]).contains("10.45.0.1"));
}

#[test]
fn tshark_decodes_every_message_without_a_fault() {
    if !runs("tshark", &["--version"]) {
        return;
    }
    let (process, collector) = exporting(22);
    let moved = traffic(&process);
    let all = messages(&collector);

    let tshark = tshark(&process, &all);
    for fault in ["_ws.malformed", "_ws.expert", "!cflow"] {
        assert_eq!(tshark(&["-Y", fault]), "", "{fault}");
    }
    let text = tshark(&["-V"]);
    assert_eq!(text.matches("Cisco NetFlow/IPFIX").count(), all.len());
    let without_template = text.matches("No template found").count();
    assert_eq!(without_template, 0, "{text}");
    for session in moved {
        for (direction, [octets, packets]) in [("", [0, 1]), (" (Reverse", [2, 3])] {
            let Moved(figures) = &session;
            let line = |name: &str, figure: usize| {
                let count = figures[figure];
                format!("Permanent {name}: {count}{direction}")
            };
            for line in [line("Octets", octets), line("Packets", packets)] {
                assert!(text.contains(&line), "{line}: {text}");
            }
        }
    }
    // Our elements under our number, by the name that the messages themselves state.
    assert!(text.contains("qlinkVerifiedUniqueOctets"), "{text}");
    assert!(text.contains("Observation Domain Id: 42"), "{text}");
    // Three packets of an unknown tunnel, by reason.
    let reason = spaced(b"teid_unknown");
    assert!(text.contains(&reason), "{text}");
}

fn spaced(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

#[test]
fn each_worker_states_its_own_drops_under_its_own_number() {
    let (process, collector) = exporting_with(23, |config| config.workers = 2);
    // The upper four bits of a tunnel's number are its worker.
    process.send_uplink(1, qlink_types::ids::Teid::new(0x1ead_beef), 10);

    let all = messages(&collector);

    let dropped = |domain: u32, worker: u16| {
        let mut record = worker.to_be_bytes().to_vec();
        record.push(12);
        record.extend(b"teid_unknown");
        let own = all
            .iter()
            .filter(|message| message[12..16] == domain.to_be_bytes());
        let mut windows = own.flat_map(|message| message.windows(record.len()));
        windows.any(|window| window == record)
    };
    assert_eq!([dropped(43, 1), dropped(43, 0)], [true, false]);
    assert_eq!([dropped(42, 1), dropped(42, 0)], [false, false]);
}
