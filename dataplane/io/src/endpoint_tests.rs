//! Frames from memory through an endpoint.

use std::net::IpAddr;

use qlink_wire::build::{IpEnvelope, LinkFrame, gpdu_packet, udp_packet};

use super::*;
use crate::mem::MemSource;

const STATION: &str = "10.0.3.7:2152";
const OURS: &str = "10.0.3.1:2152";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn framed(packet: &[u8]) -> Vec<u8> {
    LinkFrame::new(LinkType::Ethernet).wrap(packet).unwrap()
}

/// What an endpoint delivers of these packets, and what it lost.
fn delivered(packets: &[Vec<u8>]) -> (Vec<(SocketAddr, Vec<u8>)>, RawEndpoint<MemSource>) {
    let frames = packets.iter().map(|packet| framed(packet)).collect();
    let source = MemSource::new(frames, LinkType::Ethernet, 1);
    let mut endpoint = RawEndpoint::new(source, at(OURS));
    let mut burst = Burst::new();
    let mut datagrams = Vec::new();
    while endpoint.recv_burst(&mut burst).is_ok_and(|count| count > 0) {
        for descriptor in &burst {
            let bytes = endpoint.frame(descriptor).to_vec();
            datagrams.push((descriptor.peer.unwrap(), bytes));
        }
    }
    (datagrams, endpoint)
}

#[test]
fn a_datagram_for_us_comes_with_its_sender_and_without_headers() {
    let packet = udp_packet(at(STATION), at(OURS), b"payload").unwrap();

    let (datagrams, endpoint) = delivered(&[packet]);

    assert_eq!(datagrams, [(at(STATION), b"payload".to_vec())]);
    assert_eq!((endpoint.foreign, endpoint.refused), (0, 0));
}

#[test]
fn what_is_for_another_address_port_or_protocol_is_counted() {
    let elsewhere = ["10.0.3.2:2152", "10.0.3.1:2153"]
        .map(|to| udp_packet(at(STATION), at(to), b"payload").unwrap());
    let ips: [IpAddr; 2] = [at(STATION).ip(), at(OURS).ip()];
    let tcp = IpEnvelope::new(ips[0], ips[1]).wrap(6, &[0; 20]).unwrap();

    let (datagrams, endpoint) = delivered(&[elsewhere.to_vec(), vec![tcp]].concat());

    assert!(datagrams.is_empty());
    assert_eq!(endpoint.foreign, 3);
}

#[test]
fn fragments_are_put_together_in_any_order_beside_whole_datagrams() {
    let inner = udp_packet(at("10.45.0.2:1"), at("192.0.2.1:2"), &[7; 3000]).unwrap();
    let long = gpdu_packet(at(STATION), at(OURS), 77, &inner).unwrap();
    let whole = udp_packet(at(STATION), at(OURS), b"whole").unwrap();
    let (first, second, last) = (
        piece(&long, 0, 1480, true),
        piece(&long, 1480, 1480, true),
        piece(&long, 2960, long.len() - 20 - 2960, false),
    );

    let (datagrams, endpoint) = delivered(&[last, whole, first, second]);

    let lengths: Vec<usize> = datagrams.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lengths, [5, long.len() - 28]);
    assert_eq!(datagrams[1].1, long[28..]);
    assert_eq!((endpoint.foreign, endpoint.refused), (0, 0));
}

#[test]
fn a_fragment_that_contradicts_another_is_refused_and_counted() {
    let long = udp_packet(at(STATION), at(OURS), &[7; 3000]).unwrap();
    let overlapping = [piece(&long, 0, 1480, true), piece(&long, 8, 1480, true)];

    let (datagrams, endpoint) = delivered(&overlapping);

    assert!(datagrams.is_empty());
    assert_eq!(endpoint.refused, 1);
}

/// A fragment of an IPv4 packet: `len` bytes of its payload from `start`.
fn piece(packet: &[u8], start: usize, len: usize, more: bool) -> Vec<u8> {
    let mut piece = packet[..20].to_vec();
    piece.extend(&packet[20 + start..20 + start + len]);
    let total = u16::try_from(piece.len()).unwrap();
    piece[2..4].copy_from_slice(&total.to_be_bytes());
    piece[4..6].copy_from_slice(&[0, 9]);
    let offset = u16::try_from(start / 8).unwrap() | if more { 0x2000 } else { 0 };
    piece[6..8].copy_from_slice(&offset.to_be_bytes());
    piece
}
