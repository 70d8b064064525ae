//! The back end against the kernel, in network namespaces that the tests make themselves.

use std::fs::OpenOptions;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use qlink_wire::LinkType;
use qlink_wire::build::udp_packet;
use qlink_wire::{parse_ip, parse_udp};

use super::*;
use crate::interfaces::own_addresses;
use crate::{BURST_MAX, Burst, IoError, Outgoing, PacketSource};

const OWN: &str = "10.45.0.1:4000";
const FAR: &str = "10.45.0.9:5000";
const SECOND: Option<Duration> = Some(Duration::from_secs(5));

/// Gives the calling thread a network namespace of its own and returns `true`; it goes away with the
/// thread. Without privileges the test runs again as root of a user namespace: `false`.
fn isolated(test: &str) -> bool {
    // SAFETY: the call has no argument and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: the call takes flags only; leaving the network namespace concerns this thread.
        let status = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun");
        match (status, device) {
            (0, Ok(_)) => return true,
            (0, Err(error)) => println!("skipped: /dev/net/tun: {error}"),
            _ => println!("skipped: no network namespace"),
        }
        return false;
    }
    let test = format!("tun::tests::{test}");
    let rerun = Command::new("unshare")
        .args(["-Urn", std::env::current_exe().unwrap().to_str().unwrap()])
        .args(["--exact", &test, "--nocapture"])
        .output();
    match rerun {
        Ok(output) if String::from_utf8_lossy(&output.stderr).starts_with("unshare: ") => {
            println!(
                "skipped: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output) => {
            // Its own `skipped: why` included.
            print!("{}", String::from_utf8_lossy(&output.stdout));
            assert!(output.status.success());
        }
        Err(error) => println!("skipped: unshare: {error}"),
    }
    false
}

fn config(name: &str) -> TunConfig {
    TunConfig {
        name: name.parse().unwrap(),
        mtu: Some(TunMtu::try_from(1400).unwrap()),
        address: Some("10.45.0.1/24".parse().unwrap()),
    }
}

fn open() -> TunPort {
    TunPort::open(&config("qlink%d")).unwrap()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(OWN).unwrap();
    socket.set_read_timeout(SECOND).unwrap();
    socket
}

/// The UDP packets to [`FAR`] among the next ones, whole, until there are `count`.
fn receive(port: &mut TunPort, count: usize) -> Vec<Vec<u8>> {
    let mut burst = Burst::new();
    let mut packets = Vec::new();
    while packets.len() < count {
        assert!(port.poll(SECOND).unwrap(), "{} came", packets.len());
        port.recv_burst(&mut burst).unwrap();
        for descriptor in &burst {
            assert_eq!((descriptor.peer, descriptor.link), (None, LinkType::RawIp));
            let frame = port.frame(descriptor);
            // The kernel speaks IPv6 for itself when an interface comes up.
            if frame[0] >> 4 == 4 {
                packets.push(frame.to_vec());
            }
        }
    }
    packets
}

fn far_packet(payload: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (FAR.parse().unwrap(), OWN.parse().unwrap());
    udp_packet(from, to, payload).unwrap()
}

fn whole(packet: &[u8]) -> Outgoing<'_> {
    Outgoing {
        body: packet,
        ..Outgoing::EMPTY
    }
}

#[test]
fn packets_routed_to_the_interface_are_received_whole_and_in_order() {
    if !isolated("packets_routed_to_the_interface_are_received_whole_and_in_order") {
        return;
    }
    let (mut port, socket) = (open(), socket());
    let payloads: Vec<Vec<u8>> = (0..100).map(|i| vec![i; usize::from(i) * 13]).collect();

    for payload in &payloads {
        socket.send_to(payload, FAR).unwrap();
    }

    let packets = receive(&mut port, payloads.len());
    for (packet, payload) in packets.iter().zip(&payloads) {
        let ip = parse_ip(packet).unwrap();
        assert_eq!(ip.dst.to_string(), "10.45.0.9");
        assert_eq!(ip.total_len as usize, packet.len());
        assert_eq!(parse_udp(ip.payload).unwrap().payload, payload);
    }
    let stats = port.stats();
    assert!(stats.received_packets >= 100 && stats.truncated == 0);
    assert_eq!(port.queue_drops().unwrap(), 0);
}

#[test]
fn a_burst_holds_at_most_32_packets_and_the_rest_comes_next() {
    if !isolated("a_burst_holds_at_most_32_packets_and_the_rest_comes_next") {
        return;
    }
    let (mut port, socket) = (open(), socket());
    for _ in 0..BURST_MAX + 8 {
        socket.send_to(b"x", FAR).unwrap();
    }
    let mut burst = Burst::new();

    let first = port.recv_burst(&mut burst).unwrap();
    let second = port.recv_burst(&mut burst).unwrap();

    assert_eq!(first, BURST_MAX);
    assert!(second >= 8, "{second}");
}

#[test]
fn head_and_body_are_one_packet_to_the_kernel() {
    if !isolated("head_and_body_are_one_packet_to_the_kernel") {
        return;
    }
    let (port, socket) = (open(), socket());
    let packets = [far_packet(b"first"), far_packet(b"second")];
    let items = packets.each_ref().map(|packet| {
        let (head, body) = packet.split_at(7);
        Outgoing {
            head,
            body,
            ..Outgoing::EMPTY
        }
    });

    assert_eq!(port.send(&items).unwrap(), 2);

    let mut payload = [0; 16];
    for expected in [b"first".as_slice(), b"second"] {
        let (length, from) = socket.recv_from(&mut payload).unwrap();
        assert_eq!(from, FAR.parse().unwrap());
        assert_eq!(&payload[..length], expected);
    }
    let bytes: usize = packets.iter().map(Vec::len).sum();
    let stats = port.stats();
    assert_eq!((stats.sent_packets, stats.sent_bytes), (2, bytes as u64));
}

#[test]
fn what_is_no_ip_packet_is_refused_alone() {
    if !isolated("what_is_no_ip_packet_is_refused_alone") {
        return;
    }
    let (port, socket) = (open(), socket());
    let (good, bad) = (far_packet(b"good"), vec![0xff; 40]);
    let items = [whole(&good), whole(&bad), whole(&good)];

    assert_eq!(port.send(&items).unwrap(), 1);
    let refused = port.send(&items[1..]).unwrap_err();
    assert_eq!(port.send(&items[2..]).unwrap(), 1);

    assert!(
        matches!(refused, IoError::Refused { len: 40, .. }),
        "{refused}"
    );
    assert_eq!(port.stats().refused, 1);
    for _ in 0..2 {
        assert_eq!(socket.recv_from(&mut [0; 16]).unwrap().0, 4);
    }
}

#[test]
fn no_packet_is_longer_than_the_mtu() {
    if !isolated("no_packet_is_longer_than_the_mtu") {
        return;
    }
    let (mut port, socket) = (open(), socket());

    socket.send_to(&[7; 6000], FAR).unwrap();

    // 6008 bytes of UDP in fragments of at most 1376 bytes.
    let packets = receive(&mut port, 5);
    assert!(packets.iter().all(|packet| packet.len() <= 1400));
    let carried: usize = packets.iter().map(|packet| packet.len() - 20).sum();
    assert_eq!(carried, 6008);
}

#[test]
fn a_packet_above_the_limit_is_dropped_and_counted() {
    if !isolated("a_packet_above_the_limit_is_dropped_and_counted") {
        return;
    }
    let (mut port, socket) = (open(), socket());
    let raised = Command::new("ip")
        .args(["link", "set", port.name(), "mtu", "20000"])
        .status();
    if !raised.is_ok_and(|status| status.success()) {
        println!("skipped: no program ip");
        return;
    }

    socket.send_to(&[7; PACKET_MAX], FAR).unwrap();
    socket.send_to(&[8; 10], FAR).unwrap();

    let packets = receive(&mut port, 1);
    assert!(packets[0].ends_with(&[8; 10]));
    assert_eq!(port.stats().truncated, 1);
}

#[test]
fn a_full_queue_drops_in_the_kernel_and_is_counted() {
    if !isolated("a_full_queue_drops_in_the_kernel_and_is_counted") {
        return;
    }
    let (mut port, socket) = (open(), socket());

    for _ in 0..10_000 {
        // The kernel may say that its queue is full; what counts is what it then reports.
        let _ = socket.send_to(b"x", FAR);
    }

    let dropped = port.queue_drops().unwrap();
    let mut burst = Burst::new();
    let mut received = 0_u64;
    while port.recv_burst(&mut burst).unwrap() > 0 {
        received += burst.iter().filter(|d| port.frame(d)[0] >> 4 == 4).count() as u64;
    }
    assert!(dropped > 0 && received < 10_000, "{dropped} {received}");
}

#[test]
fn nothing_there_is_zero_packets_and_no_error() {
    if !isolated("nothing_there_is_zero_packets_and_no_error") {
        return;
    }
    let bare = TunConfig {
        mtu: None,
        address: None,
        ..config("bare")
    };
    let mut port = TunPort::open(&bare).unwrap();

    assert_eq!(port.recv_burst(&mut Burst::new()).unwrap(), 0);
    assert!(!port.poll(Some(Duration::ZERO)).unwrap());
    let down = port.send(&[whole(&far_packet(b"x"))]).unwrap_err();
    assert!(matches!(down, IoError::Refused { .. }), "{down}");
}

#[test]
fn the_kernel_numbers_a_name_and_its_address_becomes_our_own() {
    if !isolated("the_kernel_numbers_a_name_and_its_address_becomes_our_own") {
        return;
    }
    let port = open();

    assert_eq!(port.name(), "qlink0");
    let own: Vec<String> = own_addresses()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(own.contains(&"10.45.0.1".to_owned()), "{own:?}");
}

#[test]
fn a_name_in_use_is_refused_with_the_name() {
    if !isolated("a_name_in_use_is_refused_with_the_name") {
        return;
    }
    let _held = TunPort::open(&config("taken")).unwrap();

    let error = TunPort::open(&config("taken")).unwrap_err();

    assert!(
        matches!(&error, TunError::Busy { name } if name == "taken"),
        "{error}"
    );
}

#[test]
fn a_name_that_becomes_free_while_it_is_tried_is_taken() {
    if !isolated("a_name_that_becomes_free_while_it_is_tried_is_taken") {
        return;
    }
    let held = TunPort::open(&config("freed")).unwrap();

    let port = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(120));
            drop(held);
        });
        TunPort::open(&config("freed")).unwrap()
    });

    assert_eq!(port.name(), "freed");
}

#[test]
fn an_interface_of_another_kind_is_refused() {
    if !isolated("an_interface_of_another_kind_is_refused") {
        return;
    }

    let error = TunPort::open(&config("lo")).unwrap_err();

    assert!(matches!(error, TunError::Setup { .. }), "{error}");
}
