//! What a film costs on its way through every back end, loss, kill and trick.

use qlink_pfcp::{Answer, ContentBinding, DownlinkPath, Payer, Request, SessionRules, Sponsor};
use qlink_types::codec::Text;
use qlink_types::ids::{ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, PackageEpoch};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{FILM, FILM_UNITS, Lab, ORIGIN, Settings, Watcher, number};

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
fn a_session_that_a_tap_learned_ends_when_it_is_silent_and_is_learned_again() {
    let Some(lab) = Lab::up() else { return };
    let watcher = Watcher::start_with(&lab, "idle = '1s'\n");
    let ue = lab.open("one");
    let film = ["-o", "/dev/null", "http://198.18.0.1/film"];
    lab.curl(&ue, &film);
    watcher.usage(&ue, |usage| usage.downlink.network_bytes.get() > FILM);

    watcher.ended(&ue);

    lab.curl(&ue, &film);
    watcher.usage(&ue, |usage| usage.downlink.network_bytes.get() > FILM);
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
