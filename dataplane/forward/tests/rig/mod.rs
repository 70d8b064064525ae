//! Packets of every kind that a translator knows, built from scratch, and a translator to try.
#![expect(unreachable_pub, clippy::unwrap_used, reason = "test code")]
#![allow(dead_code, reason = "not every test uses all of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use qlink_forward::Rewrite;
use qlink_forward::fragments::FragmentLimits;
use qlink_forward::nat::{BlockQueue, Nat, NatConfig};
use qlink_forward::nat64::{Nat64, Nat64Config};
use qlink_forward::translate::{Downlinked, TranslateRefusal, Translator, Uplinked};
use qlink_wire::build::{self, TcpFields};
use qlink_wire::checksum::{Checksum, transport_checksum};
use qlink_wire::{
    IcmpFamily, Reassembler, ReassemblyLimits, TcpFlags, parse_icmp, parse_ip, parse_tcp,
    parse_udp, protocol,
};

pub const SECRET: u64 = 11;

/// The subscriber in both families, and the hosts it talks to.
pub const UE_V4: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 2);
pub const UE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 45, 0, 0, 0, 0, 2);
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    Echo,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Echo];
}

/// Payloads: short, longer than a scratch, longer than a link.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 100..400),
        (any::<u8>(), 0..3000_usize).prop_map(|(octet, len)| vec![octet; len]),
    ]
}

/// A packet between two ends; an echo has the identifier of `id_of`'s port.
pub fn packet(kind: Kind, src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    match kind {
        Kind::Tcp => {
            let fields = TcpFields::new(7, 9, TcpFlags::SYN);
            build::tcp_packet(src, dst, &fields, payload).unwrap()
        }
        Kind::Udp => build::udp_packet(src, dst, payload).unwrap(),
        Kind::Echo => echo(src.ip(), dst.ip(), src.port(), true, payload),
    }
}

/// The answer to such a packet: from its destination to its source.
pub fn answer(kind: Kind, src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    match kind {
        Kind::Tcp | Kind::Udp => packet(kind, src, dst, payload),
        Kind::Echo => echo(src.ip(), dst.ip(), dst.port(), false, payload),
    }
}

fn echo(src: IpAddr, dst: IpAddr, id: u16, request: bool, payload: &[u8]) -> Vec<u8> {
    let kind = match (src.is_ipv4(), request) {
        (true, true) => 8,
        (true, false) => 0,
        (false, true) => 128,
        (false, false) => 129,
    };
    let rest = u32::from(id) << 16 | 5;
    build::icmp_packet(src, dst, (kind, 0, rest), payload).unwrap()
}

/// The packet with another hop limit, checksum included.
pub fn with_hops(mut packet: Vec<u8>, hops: u8) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[8] = hops;
        seal_v4(packet)
    } else {
        packet[7] = hops;
        packet
    }
}

/// The IPv4 packet with this fragment word.
pub fn with_fragment_word(mut packet: Vec<u8>, word: u16) -> Vec<u8> {
    packet[6..8].copy_from_slice(&word.to_be_bytes());
    seal_v4(packet)
}

/// The IPv4 packet without what NAT64 chooses freely: identification and don't fragment.
pub fn without_choices(mut packet: Vec<u8>) -> Vec<u8> {
    packet[4..6].fill(0);
    packet[6] &= 0xbf;
    seal_v4(packet)
}

/// Where a packet is cut to be quoted, given the length of its IP header: not within the TCP
/// checksum, of which one byte alone cannot be adjusted.
pub fn quoted_len(kind: Kind, wanted: usize, packet: &[u8], header: usize) -> usize {
    let wanted = if kind == Kind::Tcp && wanted == header + 17 {
        header + 18
    } else {
        wanted
    };
    wanted.min(packet.len())
}

/// Writes the header checksum.
pub fn seal_v4(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let len = usize::from(packet[0] & 15) * 4;
    let sum = Checksum::default().with(&packet[..len]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A length or an offset inside a packet.
fn short(value: usize) -> u16 {
    u16::try_from(value).unwrap()
}

/// What the receiver of fragments gets; asserts that they have the same two ends and this
/// identification.
pub fn joined(pieces: &[Vec<u8>], id: u16) -> Option<Vec<u8>> {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    let first = parse_ip(pieces.first()?).unwrap();
    pieces.iter().find_map(|piece| {
        assert_sound(piece);
        let ip = parse_ip(piece).unwrap();
        assert_eq!((ip.src, ip.dst), (first.src, first.dst));
        assert_eq!(ip.fragment.unwrap().id, u32::from(id));
        let whole = reassembler.push(&ip, 0).unwrap();
        whole.map(|packet| packet.payload.to_vec())
    })
}

/// Cuts an IPv4 packet into fragments of `unit` payload bytes, a multiple of 8.
pub fn fragments_v4(packet: &[u8], id: u16, unit: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(20);
    let count = payload.len().div_ceil(unit);
    payload
        .chunks(unit)
        .enumerate()
        .map(|(at, part)| {
            let mut piece = [header, part].concat();
            let len = short(piece.len());
            piece[2..4].copy_from_slice(&len.to_be_bytes());
            piece[4..6].copy_from_slice(&id.to_be_bytes());
            let more = if at + 1 < count { 0x2000 } else { 0 };
            with_fragment_word(piece, more | short(at * unit / 8))
        })
        .collect()
}

/// Cuts an IPv6 packet without extension headers.
pub fn fragments_v6(packet: &[u8], id: u32, unit: usize) -> Vec<Vec<u8>> {
    let (header, payload) = packet.split_at(40);
    let count = payload.len().div_ceil(unit);
    payload
        .chunks(unit)
        .enumerate()
        .map(|(at, part)| {
            let mut piece = header.to_vec();
            piece[4..6].copy_from_slice(&short(part.len() + 8).to_be_bytes());
            piece[6] = protocol::FRAGMENT;
            let place = short(at * unit) | u16::from(at + 1 < count);
            piece.extend_from_slice(&[header[6], 0]);
            piece.extend_from_slice(&place.to_be_bytes());
            piece.extend_from_slice(&id.to_be_bytes());
            piece.extend_from_slice(part);
            piece
        })
        .collect()
}

/// Asserts that every length and checksum of a whole packet is right, those of a completely quoted
/// packet included.
pub fn assert_sound(packet: &[u8]) {
    let ip = parse_ip(packet).unwrap();
    assert_eq!(ip.total_len as usize, packet.len());
    assert_sums(packet);
    if ip.fragment.is_some() {
        return;
    }
    if let Some(family) = IcmpFamily::from_protocol(ip.protocol) {
        let message = parse_icmp(family, ip.payload).unwrap();
        if let Some(quoted) = message.quoted()
            && parse_ip(quoted).is_ok_and(|inner| !inner.is_cut())
        {
            assert_sums(quoted);
        }
    }
}

fn assert_sums(packet: &[u8]) {
    let ip = parse_ip(packet).unwrap();
    if ip.src.is_ipv4() {
        let header = &packet[..usize::from(packet[0] & 15) * 4];
        assert_eq!(Checksum::default().with(header).finish(), 0, "ip header");
    }
    if ip.fragment.is_some() {
        return;
    }
    match ip.protocol {
        protocol::TCP => assert!(parse_tcp(ip.payload).is_ok()),
        protocol::UDP => {
            let udp = parse_udp(ip.payload).unwrap();
            assert_eq!(u32::from(udp.length), ip.payload_len);
            if ip.payload[6..8] == [0, 0] && ip.src.is_ipv4() {
                return;
            }
        }
        _ => {}
    }
    let sum = if ip.protocol == protocol::ICMP {
        Checksum::default().with(ip.payload).finish()
    } else {
        transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload)
    };
    assert_eq!(sum, 0, "transport of {ip:?}");
}

/// A translator with its log.
pub struct Rig {
    pub translator: Translator,
    pub log: BlockQueue,
    pub now_ns: u64,
}

pub fn nat64() -> Nat64 {
    Nat64::try_new(Nat64Config::default()).unwrap()
}

/// An IPv4 host as IPv6 subscribers see it.
pub fn embedded(host: Ipv4Addr) -> IpAddr {
    IpAddr::V6(nat64().embed(host))
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut NatConfig)) -> Self {
        let pool = vec![Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)];
        let mut config = NatConfig::for_subscribers(pool, 8, SECRET);
        change(&mut config);
        let mut nat = Nat::try_new(&config).unwrap();
        for subscriber in 0..8 {
            assert!(nat.open(subscriber, u128::from(subscriber)));
        }
        let fragments = FragmentLimits::for_owners(8, SECRET);
        Self {
            translator: Translator::new(nat, fragments, Some(nat64())),
            log: BlockQueue::new(1024),
            now_ns: 0,
        }
    }

    pub fn up(
        &mut self,
        subscriber: u32,
        packet: &[u8],
    ) -> Result<(Uplinked, Vec<u8>), TranslateRefusal> {
        let mut rewrite = Rewrite::new();
        rewrite.load(packet).unwrap();
        let to =
            self.translator
                .uplink(subscriber, &mut rewrite, packet, self.now_ns, &mut self.log)?;
        Ok((to, whole(&rewrite, packet)))
    }

    pub fn down(&mut self, packet: &[u8]) -> Result<(Downlinked, Vec<u8>), TranslateRefusal> {
        let mut rewrite = Rewrite::new();
        rewrite.load(packet).unwrap();
        let to = self
            .translator
            .downlink(&mut rewrite, packet, self.now_ns)?;
        Ok((to, whole(&rewrite, packet)))
    }
}

pub fn whole(rewrite: &Rewrite, packet: &[u8]) -> Vec<u8> {
    let mut place = vec![0; 70_000];
    let len = rewrite.copy_to(packet, &mut place).unwrap();
    place.truncate(len);
    place
}

/// Source address and port of a translated packet; of an echo, its identifier.
pub fn external_of(kind: Kind, packet: &[u8]) -> SocketAddr {
    let ip = parse_ip(packet).unwrap();
    let at = if kind == Kind::Echo { 4 } else { 0 };
    let port = u16::from_be_bytes([ip.payload[at], ip.payload[at + 1]]);
    SocketAddr::new(ip.src, port)
}
