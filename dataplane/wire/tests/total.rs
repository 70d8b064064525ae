//! Every parser answers every byte string: no panic, and no payload outside the input.
#![expect(clippy::unwrap_used, reason = "test code")]

use proptest::collection::vec;
use proptest::prelude::*;
use qlink_wire::build::{self, GtpuExtension, GtpuMessage, LinkFrame, TcpFields};
use qlink_wire::{
    IcmpFamily, LinkType, PduSessionInfo, Reassembler, ReassemblyLimits, TcpFlags, WireError,
    parse_error_indication, parse_gtpu, parse_icmp, parse_ip, parse_tcp, parse_udp, protocol,
    strip_link,
};

const LINKS: [LinkType; 6] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::RawIp,
    LinkType::Null,
    LinkType::Loop,
];

/// Follows a frame as far as it can be read; gives the number of G-PDUs in it.
fn follow(link: LinkType, frame: &[u8], reassembler: &mut Reassembler) -> Result<usize, WireError> {
    let packet = parse_ip(strip_link(link, frame)?)?;
    assert!(packet.payload.len() as u64 <= u64::from(packet.payload_len));
    let Some(packet) = reassembler.push(&packet, 0)? else {
        return Ok(0);
    };
    match packet.protocol {
        protocol::UDP => {
            let gtpu = parse_gtpu(parse_udp(packet.payload)?.payload)?;
            assert!(gtpu.payload.len() <= usize::from(gtpu.payload_len));
            let inner = parse_ip(gtpu.payload)?;
            if inner.protocol == protocol::TCP {
                parse_tcp(inner.payload)?;
            }
            Ok(1)
        }
        protocol::TCP => parse_tcp(packet.payload).map(|_| 0),
        number => match IcmpFamily::from_protocol(number) {
            Some(family) => parse_icmp(family, packet.payload).map(|_| 0),
            None => Ok(0),
        },
    }
}

/// Frames of every shape that the crate knows.
fn frames() -> Vec<(LinkType, Vec<u8>)> {
    let mut frames = Vec::new();
    for (ran, core) in [
        ("10.0.0.1:2152", "10.0.0.2:2152"),
        ("[fd::1]:2152", "[fd::2]:2152"),
    ] {
        let (ran, core) = (ran.parse().unwrap(), core.parse().unwrap());
        let fields = TcpFields::new(1, 2, TcpFlags::ACK);
        let (viewer, origin) = (
            "10.45.0.2:40000".parse().unwrap(),
            "192.0.2.1:80".parse().unwrap(),
        );
        let inner = build::tcp_packet(viewer, origin, &fields, b"GET / HTTP/1.1").unwrap();
        let extensions = [GtpuExtension {
            kind: 0x20,
            content: &[0; 6],
        }];
        let message = GtpuMessage::gpdu(1)
            .with_pdu_session(PduSessionInfo {
                qfi: 5,
                downlink: false,
            })
            .with_extensions(&extensions)
            .encode(&inner)
            .unwrap();
        let outer = build::udp_packet(ran, core, &message).unwrap();
        let error = build::icmp_port_unreachable(core.ip(), ran.ip(), &outer).unwrap();
        let mut packets = build::fragment_packet(&outer, 48, 7).unwrap();
        packets.extend([outer, error]);
        for link in LINKS {
            for packet in &packets {
                let frame = LinkFrame::new(link)
                    .with_vlan_tags(&[1, 2])
                    .wrap(packet)
                    .unwrap();
                frames.push((link, frame));
            }
        }
    }
    frames
}

#[test]
fn every_valid_frame_truncated_anywhere_is_answered() {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    for (link, frame) in frames() {
        for length in 0..=frame.len() {
            let _ = follow(link, &frame[..length], &mut reassembler);
        }
    }
}

#[test]
fn the_frames_that_are_broken_here_are_read_when_whole() {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    let found: usize = frames()
        .iter()
        .map(|(link, frame)| follow(*link, frame, &mut reassembler).unwrap())
        .sum();

    // Per family and link: the whole packet and the one that its fragments make.
    assert_eq!(found, 2 * LINKS.len() * 2);
}

#[test]
fn every_valid_frame_with_any_octet_changed_is_answered() {
    let small = ReassemblyLimits {
        datagrams: 1,
        bytes: 1,
        ..ReassemblyLimits::default()
    };
    for (link, frame) in frames() {
        for position in 0..frame.len() {
            for value in [0, 1, 0x0f, 0x45, 0x60, 0x7f, 0x80, 0xfe, 0xff] {
                let mut frame = frame.clone();
                frame[position] = value;
                if position % 16 == 0 {
                    let _ = follow(link, &frame, &mut Reassembler::new(small));
                } else if let Ok(packet) = strip_link(link, &frame).and_then(parse_ip) {
                    let _ = parse_udp(packet.payload).map(|udp| parse_gtpu(udp.payload));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_parser_answers_random_bytes(bytes in vec(any::<u8>(), 0..200)) {
        let inside = |part: &[u8]| bytes.as_ptr_range().start <= part.as_ptr()
            && part.as_ptr_range().end <= bytes.as_ptr_range().end;

        for link in LINKS {
            prop_assert!(strip_link(link, &bytes).map_or(true, inside));
        }
        prop_assert!(parse_udp(&bytes).map_or(true, |udp| inside(udp.payload)));
        prop_assert!(parse_tcp(&bytes).map_or(true, |tcp| inside(tcp.payload)));
        for family in [IcmpFamily::V4, IcmpFamily::V6] {
            prop_assert!(parse_icmp(family, &bytes).map_or(true, |icmp| inside(icmp.body)));
        }
        let _ = (parse_ip(&bytes), parse_gtpu(&bytes), parse_error_indication(&bytes));
    }

    #[test]
    fn the_ip_parser_answers_random_headers(
        version in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60, 0x6f]),
        next in prop::sample::select(vec![0_u8, 17, 43, 44, 51, 58, 60]),
        mut bytes in vec(any::<u8>(), 40..300),
    ) {
        bytes[0] = version;
        bytes[6] = next;
        if let Ok(ip) = parse_ip(&bytes) {
            prop_assert_eq!(ip.total_len, u32::from(ip.header_len) + ip.payload_len);
            prop_assert!(ip.payload.len() as u64 <= u64::from(ip.payload_len));
        }
    }

    #[test]
    fn the_gtpu_parser_answers_random_chains(
        flags in 0x30..=0x37_u8,
        units in 0..4_u8,
        mut bytes in vec(any::<u8>(), 12..300),
    ) {
        bytes[0] = flags;
        // Short extension headers, so that chains become long.
        bytes[12..].iter_mut().step_by(4).for_each(|unit| *unit = units);
        if let Ok(gtpu) = parse_gtpu(&bytes) {
            prop_assert!(gtpu.payload.len() <= usize::from(gtpu.payload_len));
        }
    }
}
