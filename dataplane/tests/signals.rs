//! GTP-U messages that the packet path sends of its own.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::net::SocketAddr;

use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::plane::{Neighbours, Plane, PlaneLimits};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, PacketSource as _};
use qlink_meter::{CounterArena, DropReason, WorkerCounter};
use qlink_wire::build::{GtpuExtension, GtpuMessage, udp_packet};
use qlink_wire::{LinkType, message_type, parse_error_indication, parse_gtpu};

const GATEWAY: &str = "127.0.0.1:2152";
const GATEWAY_V6: &str = "[2001:db8::1]:2152";
const STRANGER: &str = "127.0.0.9:40000";
const STRANGER_V6: &str = "[2001:db8::9]:40000";

const LIMITS: PlaneLimits = PlaneLimits {
    sessions: 1,
    flows: 1,
    views: 1,

    urrs: 0,
};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A plane without sessions, and a time at which nothing is held back any more.
fn plane() -> (Plane, u64) {
    let neighbours = Neighbours {
        own: Vec::new(),
        n6_peer: address("127.0.0.3:5000"),
        n3: vec![address(GATEWAY).ip(), address(GATEWAY_V6).ip()],
        access: Vec::new(),
    };
    let arena = CounterArena::in_memory(LIMITS.layout());
    let later = qlink_io::clock::now_ns() + 60_000_000_000;
    (Plane::new(LIMITS, arena, neighbours), later)
}

fn pass(plane: &mut Plane, messages: &[Vec<u8>], now_ns: u64) -> MemSink {
    pass_between(plane, (STRANGER, GATEWAY), messages, now_ns)
}

fn pass_between(
    plane: &mut Plane,
    (from, to): (&str, &str),
    messages: &[Vec<u8>],
    now_ns: u64,
) -> MemSink {
    let frames = messages
        .iter()
        .map(|message| udp_packet(address(from), address(to), message).unwrap())
        .collect();
    let mut source = MemSource::new(frames, LinkType::RawIp, 1);
    let mut ports = Ports {
        n3: MemSink::keeping(),
        n6: MemSink::keeping(),
    };
    let mut burst = Burst::new();
    source.recv_burst(&mut burst).unwrap();
    process_burst(plane, Side::N3, &source, &burst, &mut ports, now_ns);
    assert_eq!(ports.n6.packets(), 0);
    ports.n3
}

fn gpdu(teid: u32) -> Vec<u8> {
    let inner = udp_packet(address(GATEWAY), address(STRANGER), &[0; 10]).unwrap();
    GtpuMessage::gpdu(teid).encode(&inner).unwrap()
}

#[test]
fn who_sends_into_an_unknown_tunnel_is_told_once_per_burst() {
    let (mut plane, later) = plane();

    let sent = pass(&mut plane, &[gpdu(0x1234), gpdu(0x1235)], later);

    assert_eq!(sent.packets(), 1);
    let answer = parse_gtpu(&sent.kept()[0].bytes).unwrap();
    assert_eq!(answer.message_type, message_type::ERROR_INDICATION);
    let about = parse_error_indication(answer.payload).unwrap();
    assert_eq!((about.teid, about.peer), (0x1234, address(GATEWAY).ip()));
    assert_eq!(sent.kept()[0].to, address("127.0.0.9:2152"));
    assert_eq!(plane.arena().counter(WorkerCounter::SignalsSent), 1);
    assert_eq!(plane.arena().drops(DropReason::TeidUnknown), 2);
}

#[test]
fn who_sends_over_ipv6_is_told_of_our_address_of_that_family() {
    let (mut plane, later) = plane();
    let way = (STRANGER_V6, GATEWAY_V6);

    let sent = pass_between(&mut plane, way, &[gpdu(0x1234)], later);

    let answer = parse_gtpu(&sent.kept()[0].bytes).unwrap();
    let about = parse_error_indication(answer.payload).unwrap();
    assert_eq!((about.teid, about.peer), (0x1234, address(GATEWAY_V6).ip()));
    assert_eq!(sent.kept()[0].to, address("[2001:db8::9]:2152"));
}

#[test]
fn unknown_tunnels_are_not_mentioned_shortly_after_a_start() {
    let (mut plane, _) = plane();

    let sent = pass(&mut plane, &[gpdu(0x1234)], qlink_io::clock::now_ns());

    assert_eq!(sent.packets(), 0);
    assert_eq!(plane.arena().drops(DropReason::TeidUnknown), 1);
}

#[test]
fn an_extension_that_must_be_understood_is_answered_with_those_that_are() {
    let (mut plane, later) = plane();
    // The upper bits 11 of the type: the endpoint must understand it.
    let unknown = [GtpuExtension {
        kind: 0xe1,
        content: &[0, 0],
    }];
    let message = GtpuMessage::gpdu(5).with_extensions(&unknown);

    let sent = pass(&mut plane, &[message.encode(&[0; 20]).unwrap()], later);

    let answer = parse_gtpu(&sent.kept()[0].bytes).unwrap();
    assert_eq!(answer.message_type, message_type::SUPPORTED_EXTENSIONS);
    assert_eq!(plane.arena().drops(DropReason::GtpuExtensionUnknown), 1);
}
