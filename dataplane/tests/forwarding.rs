//! Packets on their way out: segment sizes, packets that are too long, fragments.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod film;

use film::{GATEWAY, ORIGIN, SLOT, UE, address, film as bytes_of, in_memory, pass, rules};
use qlink_content::Direction;
use qlink_dataplane::MtuConfig;
use qlink_dataplane::forwarding::ForwardingSetup;
use qlink_dataplane::plane::Plane;
use qlink_meter::{DropReason, WorkerCounter};
use qlink_pfcp::{Payer, SessionRules};
use qlink_types::units::Bytes;
use qlink_wire::build::{TcpFields, tcp_packet, udp_packet};
use qlink_wire::checksum::transport_checksum;
use qlink_wire::{IpPacket, Reassembler, TcpFlags, gpdu_header, parse_gtpu, parse_ip, protocol};

const UE6: &str = "[2001:db8:45::2]:40000";
const ORIGIN6: &str = "[2001:db8:9::9]:80";

fn datagram(from: &str, to: &str, payload: usize) -> Vec<u8> {
    udp_packet(address(from), address(to), &vec![7; payload]).unwrap()
}

/// The same IPv4 packet with "don't fragment" set.
fn whole_only(mut packet: Vec<u8>) -> Vec<u8> {
    packet[6] |= 0x40;
    packet[10..12].fill(0);
    let sum = qlink_wire::checksum::Checksum::default().with(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.finish().to_be_bytes());
    packet
}

fn syn(from: &str, to: &str, mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    let fields = TcpFields {
        options: &[2, 4, high, low],
        ..TcpFields::new(7, 0, TcpFlags::SYN)
    };
    tcp_packet(address(from), address(to), &fields, b"").unwrap()
}

/// The announced size, once the checksums are known to hold.
fn announced(packet: &[u8]) -> u16 {
    let ip = parse_ip(packet).unwrap();
    assert_eq!(
        transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload),
        0
    );
    u16::from_be_bytes([ip.payload[22], ip.payload[23]])
}

/// A plane with one session, whose paths carry `n3` and `n6` bytes.
fn plane_of(rules: &SessionRules, n3: u16, n6: u16) -> Plane {
    let mut plane = in_memory(rules, &bytes_of(10));
    let mtu = MtuConfig {
        n3,
        n6,
        ..MtuConfig::default()
    };
    let n3 = address(GATEWAY).ip();
    plane
        .set_forwarding(&ForwardingSetup { mtu, n3, nat: None })
        .unwrap();
    plane
}

fn plane(n3: u16, n6: u16) -> Plane {
    plane_of(&rules(&bytes_of(10), Payer::Operator), n3, n6)
}

fn plane_v6(n3: u16, n6: u16) -> Plane {
    let rules = SessionRules {
        ue: address(UE6).ip(),
        ..rules(&bytes_of(10), Payer::Operator)
    };
    plane_of(&rules, n3, n6)
}

fn drops(plane: &Plane) -> Vec<(&'static str, u64)> {
    DropReason::all()
        .map(|reason| (reason.name(), plane.arena().drops(reason)))
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

/// The inner packets of what left towards BaseStations, once each tunnel header is known to state
/// the length of its own packet.
fn inner(sent: &film::Sent) -> Vec<Vec<u8>> {
    let packets = sent.n3.kept().iter();
    packets
        .map(|packet| {
            let gtpu = parse_gtpu(&packet.bytes).unwrap();
            assert_eq!(gtpu.teid, 77);
            let ip = parse_ip(gtpu.payload).unwrap();
            assert_eq!(ip.total_len as usize, gtpu.payload.len());
            gtpu.payload.to_vec()
        })
        .collect()
}

/// The payload that fragments carry together.
fn together(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut reassembler = Reassembler::new(qlink_wire::ReassemblyLimits::default());
    let mut payload = None;
    for fragment in fragments {
        let ip = parse_ip(fragment).unwrap();
        let whole = reassembler.push(&ip, 0).unwrap();
        payload = whole.map(|whole: IpPacket<'_>| whole.payload.to_vec());
    }
    payload.unwrap()
}

#[test]
fn both_ends_of_a_connection_are_told_to_send_what_fits_both_ways() {
    let (mut v4, mut v6) = (plane(1500, 1400), plane_v6(1500, 1500));

    let up = pass(&mut v4, Direction::Uplink, &[syn(UE, ORIGIN, 1460)], 0);
    let down = pass(&mut v4, Direction::Downlink, &[syn(ORIGIN, UE, 1460)], 0);
    let small = pass(&mut v4, Direction::Uplink, &[syn(UE, ORIGIN, 1300)], 0);
    let up6 = pass(&mut v6, Direction::Uplink, &[syn(UE6, ORIGIN6, 1440)], 0);

    assert_eq!(announced(&up.n6.kept()[0].bytes), 1360);
    assert_eq!(announced(&inner(&down)[0]), 1360);
    assert_eq!(announced(&small.n6.kept()[0].bytes), 1300);
    // 1500 less the tunnel's 44 and the packet's 60.
    assert_eq!(announced(&up6.n6.kept()[0].bytes), 1396);
    let counted = v4.arena().counter(WorkerCounter::SegmentsLowered);
    assert_eq!((counted, v4.usage(SLOT).uplink.packets), (2, 2));
}

#[test]
fn a_packet_that_just_fits_leaves_as_it_came_and_one_byte_more_does_not() {
    let mut plane = plane(1500, 1500);
    let fits = whole_only(datagram(ORIGIN, UE, 1464 - 28));
    let longer = whole_only(datagram(ORIGIN, UE, 1465 - 28));

    let sent = pass(&mut plane, Direction::Downlink, &[fits.clone(), longer], 0);

    let mut expected = gpdu_header(77, 1464).to_vec();
    expected.extend(fits);
    assert_eq!(sent.n3.kept().len(), 1);
    assert_eq!(sent.n3.kept()[0].bytes, expected);
    assert_eq!(drops(&plane), [("too_big_answered", 1)]);
    assert_eq!(plane.usage(SLOT).downlink.network_bytes, Bytes::new(1464));
}

#[test]
fn the_sender_of_a_packet_too_long_for_the_tunnel_is_told_what_fits() {
    let mut v4 = plane(1500, 1500);
    let mut v6 = plane_v6(1500, 1500);
    let long = whole_only(datagram(ORIGIN, UE, 1472));

    let told = pass(&mut v4, Direction::Downlink, std::slice::from_ref(&long), 0);
    let told6 = pass(
        &mut v6,
        Direction::Downlink,
        &[datagram(ORIGIN6, UE6, 1452)],
        0,
    );

    assert!(told.n3.kept().is_empty() && told6.n3.kept().is_empty());
    let answer = &told.n6.kept()[0].bytes;
    let ip = parse_ip(answer).unwrap();
    assert_eq!(
        (ip.src, ip.dst),
        (address(GATEWAY).ip(), address(ORIGIN).ip())
    );
    assert_eq!(ip.protocol, protocol::ICMP);
    assert_eq!(ip.payload[..2], [3, 4]);
    assert_eq!(u16::from_be_bytes([ip.payload[6], ip.payload[7]]), 1464);
    assert!(long.starts_with(&ip.payload[8..]));
    let answer = &told6.n6.kept()[0].bytes;
    let ip = parse_ip(answer).unwrap();
    assert_eq!(ip.dst, address(ORIGIN6).ip());
    assert_eq!((ip.protocol, ip.payload[0]), (protocol::ICMPV6, 2));
    assert_eq!(ip.payload[4..8], 1464_u32.to_be_bytes());
    assert_eq!(
        transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload),
        0
    );
    for plane in [&v4, &v6] {
        assert_eq!(plane.usage(SLOT).downlink.packets, 0);
        assert_eq!(plane.usage(SLOT).classes.user_charged, Bytes::ZERO);
        assert_eq!(plane.arena().counter(WorkerCounter::TooBigAnswers), 1);
    }
}

#[test]
fn a_subscriber_is_told_through_its_tunnel_and_pays_nothing_for_it() {
    let mut plane = plane(1600, 1400);
    let long = whole_only(datagram(UE, ORIGIN, 1400));

    let sent = pass(
        &mut plane,
        Direction::Uplink,
        std::slice::from_ref(&long),
        0,
    );

    assert!(sent.n6.kept().is_empty());
    let answer = &inner(&sent)[0];
    let ip = parse_ip(answer).unwrap();
    assert_eq!((ip.src, ip.dst), (address(GATEWAY).ip(), address(UE).ip()));
    assert_eq!(ip.payload[..2], [3, 4]);
    assert_eq!(u16::from_be_bytes([ip.payload[6], ip.payload[7]]), 1400);
    assert_eq!(drops(&plane), [("too_big_answered", 1)]);
    let usage = plane.usage(SLOT);
    assert_eq!((usage.uplink.packets, usage.downlink.packets), (0, 0));
    assert_eq!(usage.classes.wire_payload, Bytes::ZERO);
}

#[test]
fn a_datagram_that_may_be_fragmented_is_and_counts_once_with_its_own_length() {
    let mut plane = plane(1500, 1400);
    let payload: Vec<u8> = (0..8000_u32)
        .flat_map(u32::to_be_bytes)
        .take(8000)
        .collect();
    let down = udp_packet(address(ORIGIN), address(UE), &payload).unwrap();
    let up = udp_packet(address(UE), address(ORIGIN), &payload).unwrap();

    let sent_down = pass(&mut plane, Direction::Downlink, &[down.clone(), down], 0);
    let sent_up = pass(&mut plane, Direction::Uplink, std::slice::from_ref(&up), 0);

    let tunnelled = inner(&sent_down);
    assert_eq!(tunnelled.len(), 12);
    assert!(tunnelled.iter().all(|packet| packet.len() <= 1464));
    assert_eq!(together(&tunnelled[..6])[8..], payload);
    let plain: Vec<Vec<u8>> = sent_up
        .n6
        .kept()
        .iter()
        .map(|packet| packet.bytes.clone())
        .collect();
    assert!(plain.iter().all(|packet| packet.len() <= 1400));
    assert_eq!(together(&plain)[8..], payload);
    let usage = plane.usage(SLOT);
    assert_eq!(usage.downlink.network_bytes, Bytes::new(2 * 8028));
    assert_eq!(usage.uplink.network_bytes, Bytes::new(8028));
    assert_eq!(usage.classes.user_charged, Bytes::new(3 * 8000));
    assert_eq!(plane.arena().counter(WorkerCounter::PacketsFragmented), 3);
    assert!(drops(&plane).is_empty());
}

#[test]
fn a_burst_of_datagrams_in_more_fragments_than_one_send_takes_leaves_whole() {
    let mut plane = plane(1500, 1500);
    let burst: Vec<Vec<u8>> = (0..32).map(|_| datagram(ORIGIN, UE, 4000)).collect();

    let sent = pass(&mut plane, Direction::Downlink, &burst, 0);

    let tunnelled = inner(&sent);
    assert_eq!(tunnelled.len(), 32 * 3);
    for datagram in tunnelled.chunks(3) {
        assert_eq!(together(datagram).len(), 4008);
    }
    assert_eq!(plane.usage(SLOT).downlink.packets, 32);
}

#[test]
fn answers_are_limited_and_never_sent_about_errors_or_to_nobody() {
    let mut plane = plane(1500, 1500);
    let long = whole_only(datagram(ORIGIN, UE, 1472));
    let flood: Vec<Vec<u8>> = (0..30).map(|_| long.clone()).collect();
    let many = whole_only(datagram("224.0.0.1:80", UE, 1472));

    let sent = pass(&mut plane, Direction::Downlink, &flood, 1_000_000_000);
    pass(&mut plane, Direction::Downlink, &[many], 1_000_000_000);

    assert_eq!(sent.n6.kept().len(), 16);
    let expected = [
        ("too_big_answered", 16),
        ("too_big_no_answer", 1),
        ("too_big_rate_limited", 14),
    ];
    assert_eq!(drops(&plane), expected);
}

#[test]
fn without_the_tables_long_packets_leave_as_they_always_did() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10));

    let sent = pass(
        &mut plane,
        Direction::Downlink,
        &[datagram(ORIGIN, UE, 8000)],
        0,
    );

    assert_eq!(inner(&sent)[0].len(), 8028);
}
