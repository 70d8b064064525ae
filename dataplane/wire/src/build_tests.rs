use super::*;
use crate::{parse_tcp, parse_udp};

fn pairs() -> [(SocketAddr, SocketAddr); 2] {
    [
        ("10.0.0.1:1000", "10.0.0.2:80"),
        ("[fd00::1]:1000", "[fd00::2]:80"),
    ]
    .map(|(src, dst)| (src.parse().unwrap(), dst.parse().unwrap()))
}

#[test]
fn every_transport_checksum_verifies() {
    for (src, dst) in pairs() {
        let fields = TcpFields::new(1, 2, TcpFlags::ACK);
        let icmp = if src.is_ipv4() {
            (8, 0, 1)
        } else {
            (128, 0, 1)
        };
        for packet in [
            udp_packet(src, dst, b"odd").unwrap(),
            tcp_packet(src, dst, &fields, b"even").unwrap(),
            icmp_packet(src.ip(), dst.ip(), icmp, b"ping").unwrap(),
        ] {
            let ip = parse_ip(&packet).unwrap();
            let sum = if ip.protocol == protocol::ICMP {
                Checksum::default().with(ip.payload).finish()
            } else {
                transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload)
            };
            assert_eq!(sum, 0, "protocol {} over {}", ip.protocol, ip.src);
        }
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    let (src, dst) = pairs()[0];
    // Choose the payload so that the sum without it becomes the payload's complement.
    let bare = udp_datagram(src, dst, &[0, 0]).unwrap();
    let filler = &bare[6..8];

    let datagram = udp_datagram(src, dst, filler).unwrap();

    assert_eq!(datagram[6..8], [0xff, 0xff]);
}

#[test]
fn the_ipv4_header_checksum_verifies_with_options_and_in_fragments() {
    let (src, dst) = pairs()[0];
    let packet = IpEnvelope::new(src.ip(), dst.ip())
        .with_options(&[1; 8])
        .wrap(17, &[5; 99])
        .unwrap();

    for part in fragment_packet(&packet, 40, 7).unwrap() {
        assert_eq!(Checksum::default().with(&part[..28]).finish(), 0);
    }
    assert_eq!(Checksum::default().with(&packet[..28]).finish(), 0);
}

#[test]
fn mixed_families_oversize_and_unaligned_options_are_refused() {
    let [(v4, _), (v6, _)] = pairs();

    assert_eq!(udp_packet(v4, v6, b""), Err(BuildError::FamilyMismatch));
    assert_eq!(
        udp_packet(v4, v4, &[0; 65_528]),
        Err(BuildError::TooLong {
            length: 65_536,
            limit: 65_535
        })
    );
    assert_eq!(
        IpEnvelope::new(v4.ip(), v4.ip())
            .with_options(&[1; 3])
            .wrap(17, b""),
        Err(BuildError::Unaligned { length: 3, unit: 4 })
    );
    assert_eq!(
        IpEnvelope::new(v4.ip(), v4.ip())
            .with_options(&[1; 44])
            .wrap(17, b""),
        Err(BuildError::TooLong {
            length: 44,
            limit: 40
        })
    );
}

#[test]
fn tcp_fields_and_options_are_written() {
    let (src, dst) = pairs()[1];
    let options = [2, 4, 5, 0xa0];
    let fields = TcpFields {
        window: 77,
        options: &options,
        ..TcpFields::new(0xffff_ffff, 3, TcpFlags::SYN)
    };

    let packet = tcp_packet(src, dst, &fields, b"").unwrap();
    let ip = parse_ip(&packet).unwrap();
    let tcp = parse_tcp(ip.payload).unwrap();

    assert_eq!(
        (tcp.src_port, tcp.dst_port, tcp.seq, tcp.ack),
        (1000, 80, 0xffff_ffff, 3)
    );
    assert_eq!(
        (tcp.window, tcp.header_len, tcp.flags),
        (77, 24, TcpFlags::SYN)
    );
}

#[test]
fn fragments_carry_the_whole_payload_in_order() {
    for (src, dst) in pairs() {
        let packet = udp_packet(src, dst, &[9; 100]).unwrap();
        let parts = fragment_packet(&packet, 50, 3).unwrap();

        let places: Vec<_> = parts
            .iter()
            .map(|part| {
                let ip = parse_ip(part).unwrap();
                assert!(!ip.is_cut() && ip.protocol == protocol::UDP);
                let fragment = ip.fragment.unwrap();
                (fragment.id, fragment.offset, fragment.more, ip.payload_len)
            })
            .collect();

        assert_eq!(
            places,
            [(3, 0, true, 48), (3, 48, true, 48), (3, 96, false, 12)]
        );
    }
}

#[test]
fn an_ipv6_fragment_header_stands_behind_hop_by_hop() {
    let (src, dst) = pairs()[1];
    let hop = [Ipv6Extension {
        kind: protocol::HOP_BY_HOP,
        content: &[0; 6],
    }];
    let packet = IpEnvelope::new(src.ip(), dst.ip())
        .with_extensions(&hop)
        .wrap(17, &[1; 64]);

    let parts = fragment_packet(&packet.unwrap(), 32, 3).unwrap();

    assert_eq!(
        (parts[0][6], parts[0][40]),
        (protocol::HOP_BY_HOP, protocol::FRAGMENT)
    );
    assert_eq!(parse_ip(&parts[1]).unwrap().header_len, 56);
}

#[test]
fn an_icmp_error_quotes_no_more_than_a_router_may() {
    for ((src, dst), most) in pairs().into_iter().zip([576, 1280]) {
        let about = udp_packet(dst, src, &[0; 3000]).unwrap();

        let error = icmp_port_unreachable(src.ip(), dst.ip(), &about).unwrap();

        assert_eq!(error.len(), most);
    }
}

#[test]
fn a_g_pdu_packet_goes_to_the_port_it_is_sent_to() {
    let (src, dst) = (
        "10.0.0.1:2152".parse().unwrap(),
        "10.0.0.2:2152".parse().unwrap(),
    );

    let packet = gpdu_packet(src, dst, 1, b"inner").unwrap();
    let udp = parse_udp(parse_ip(&packet).unwrap().payload).unwrap();

    assert_eq!((udp.dst_port, udp.length), (crate::GTPU_PORT, 8 + 8 + 5));
}
