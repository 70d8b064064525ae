//! What the encoders write, the parsers read back, whatever stands around it.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use qlink_wire::build::{
    GtpuExtension, GtpuMessage, IpEnvelope, Ipv6Extension, LinkFrame, TcpFields, tcp_packet,
    udp_datagram, udp_packet,
};
use qlink_wire::checksum::transport_checksum;
use qlink_wire::{
    LinkType, PduSessionInfo, TcpFlags, extension_type, parse_gtpu, parse_ip, parse_tcp, parse_udp,
    protocol, strip_link,
};

/// Two sockets of one address family.
fn sockets() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let v4 = any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    (prop_oneof![v4, v6], any::<(u16, u16)>()).prop_map(|((src, dst), (src_port, dst_port))| {
        (
            SocketAddr::new(src, src_port),
            SocketAddr::new(dst, dst_port),
        )
    })
}

fn link() -> impl Strategy<Value = LinkType> {
    prop::sample::select(vec![
        LinkType::Ethernet,
        LinkType::LinuxSll,
        LinkType::LinuxSll2,
        LinkType::RawIp,
        LinkType::Null,
        LinkType::Loop,
    ])
}

/// Kinds and contents of IPv6 extension headers, none of them a fragment header.
fn ipv6_extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kinds = vec![
        protocol::HOP_BY_HOP,
        protocol::ROUTING,
        protocol::AUTHENTICATION,
        protocol::DESTINATION_OPTIONS,
    ];
    let one = (prop::sample::select(kinds), 0..6_usize, any::<u8>())
        .prop_map(|(kind, units, fill)| (kind, vec![fill; 6 + 8 * units]));
    vec(one, 0..=8)
}

/// Kinds and contents of GTP-U extension headers, none of them a PDU session container.
fn gtpu_extensions() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let kind = (1..=255_u8).prop_filter("not a container", |k| *k != extension_type::PDU_SESSION);
    let one = (kind, 0..20_usize, any::<u8>())
        .prop_map(|(kind, units, fill)| (kind, vec![fill; 2 + 4 * units]));
    vec(one, 0..=15)
}

fn container() -> impl Strategy<Value = PduSessionInfo> {
    (0..64_u8, any::<bool>()).prop_map(|(qfi, downlink)| PduSessionInfo { qfi, downlink })
}

proptest! {
    #[test]
    fn udp_in_any_link_layer_comes_back(
        (src, dst) in sockets(),
        payload in vec(any::<u8>(), 0..1500),
        link in link(),
        tags in vec(any::<u16>(), 0..=8),
        padding in 0..50_usize,
    ) {
        let packet = udp_packet(src, dst, &payload).unwrap();
        let mut frame = LinkFrame::new(link).with_vlan_tags(&tags).wrap(&packet).unwrap();
        frame.resize(frame.len() + padding, 0xee);

        let ip = parse_ip(strip_link(link, &frame).unwrap()).unwrap();
        let udp = parse_udp(ip.payload).unwrap();

        prop_assert_eq!((ip.src, ip.dst, ip.total_len as usize), (src.ip(), dst.ip(), packet.len()));
        prop_assert_eq!((udp.src_port, udp.dst_port), (src.port(), dst.port()));
        prop_assert_eq!(udp.payload, &payload[..]);
        prop_assert_eq!(transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload), 0);
    }

    #[test]
    fn tcp_fields_and_payload_come_back(
        (src, dst) in sockets(),
        (seq, ack, bits, window) in any::<(u32, u32, u8, u16)>(),
        options in (0..=10_usize).prop_map(|words| vec![1; 4 * words]),
        payload in vec(any::<u8>(), 0..1500),
    ) {
        let flags = TcpFlags::from_bits(bits);
        let fields = TcpFields { seq, ack, flags, window, options: &options };
        let packet = tcp_packet(src, dst, &fields, &payload).unwrap();

        let ip = parse_ip(&packet).unwrap();
        let tcp = parse_tcp(ip.payload).unwrap();

        prop_assert_eq!((tcp.seq, tcp.ack, tcp.flags, tcp.window), (seq, ack, flags, window));
        prop_assert_eq!(usize::from(tcp.header_len), 20 + options.len());
        prop_assert_eq!(tcp.payload, &payload[..]);
        prop_assert_eq!(transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload), 0);
    }

    #[test]
    fn options_and_extension_headers_never_move_the_payload(
        (src, dst) in sockets(),
        options in (0..=10_usize).prop_map(|words| vec![1; 4 * words]),
        chain in ipv6_extensions(),
        payload in vec(any::<u8>(), 0..600),
    ) {
        let chain: Vec<_> =
            chain.iter().map(|(kind, content)| Ipv6Extension { kind: *kind, content }).collect();
        let datagram = udp_datagram(src, dst, &payload).unwrap();
        let packet = IpEnvelope::new(src.ip(), dst.ip())
            .with_options(&options)
            .with_extensions(&chain)
            .wrap(protocol::UDP, &datagram)
            .unwrap();

        let ip = parse_ip(&packet).unwrap();

        prop_assert_eq!(ip.protocol, protocol::UDP);
        prop_assert_eq!(ip.total_len as usize, packet.len());
        prop_assert_eq!(ip.total_len, u32::from(ip.header_len) + ip.payload_len);
        prop_assert_eq!(ip.payload, &datagram[..]);
    }

    #[test]
    fn a_g_pdu_with_any_header_comes_back(
        teid in any::<u32>(),
        sequence in any::<Option<u16>>(),
        npdu in any::<Option<u8>>(),
        pdu_session in prop::option::of(container()),
        chain in gtpu_extensions(),
        inner in vec(any::<u8>(), 0..1500),
        behind in 0..50_usize,
    ) {
        let chain: Vec<_> =
            chain.iter().map(|(kind, content)| GtpuExtension { kind: *kind, content }).collect();
        let message = GtpuMessage { sequence, npdu, pdu_session, ..GtpuMessage::gpdu(teid) };
        let mut bytes = message.with_extensions(&chain).encode(&inner).unwrap();
        bytes.resize(bytes.len() + behind, 0xee);

        let gtpu = parse_gtpu(&bytes).unwrap();

        prop_assert!(gtpu.is_gpdu());
        prop_assert_eq!((gtpu.teid, gtpu.sequence), (teid, sequence));
        prop_assert_eq!(gtpu.pdu_session, pdu_session);
        prop_assert_eq!(gtpu.payload, &inner[..]);
        prop_assert_eq!(usize::from(gtpu.payload_len), inner.len());
    }
}
