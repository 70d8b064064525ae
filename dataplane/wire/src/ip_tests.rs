use super::*;
use crate::build::{self, BuildError, IpEnvelope, Ipv6Extension};

fn v4() -> (IpAddr, IpAddr) {
    (
        "192.0.2.1".parse().unwrap(),
        "198.51.100.2".parse().unwrap(),
    )
}

fn v6() -> (IpAddr, IpAddr) {
    (
        "2001:db8::1".parse().unwrap(),
        "2001:db8::2".parse().unwrap(),
    )
}

fn v6_packet(extensions: &[Ipv6Extension<'_>]) -> Result<Vec<u8>, BuildError> {
    let (src, dst) = v6();
    IpEnvelope::new(src, dst)
        .with_extensions(extensions)
        .wrap(protocol::UDP, b"payload!")
}

#[test]
fn an_ipv4_header_is_read_and_padding_stays_outside() {
    let (src, dst) = v4();
    let mut packet = IpEnvelope::new(src, dst)
        .wrap(protocol::UDP, b"abc")
        .unwrap();
    packet.extend_from_slice(&[0xee; 23]); // Ethernet padding

    let ip = parse_ip(&packet).unwrap();

    assert_eq!((ip.src, ip.dst, ip.protocol), (src, dst, protocol::UDP));
    assert_eq!((ip.total_len, ip.header_len, ip.payload_len), (23, 20, 3));
    assert_eq!(
        (ip.payload, ip.fragment, ip.is_cut()),
        (&b"abc"[..], None, false)
    );
}

#[test]
fn ipv4_options_belong_to_the_header() {
    let (src, dst) = v4();
    for options in [4, 8, 40] {
        let bytes = vec![1; options];
        let packet = IpEnvelope::new(src, dst)
            .with_options(&bytes)
            .wrap(17, b"abc")
            .unwrap();

        let ip = parse_ip(&packet).unwrap();

        assert_eq!(usize::from(ip.header_len), 20 + options);
        assert_eq!(ip.payload, b"abc");
    }
}

#[test]
fn an_ipv4_header_length_below_20_is_refused() {
    let (src, dst) = v4();
    let mut packet = IpEnvelope::new(src, dst).wrap(17, b"abc").unwrap();
    for words in 0..5 {
        packet[0] = 0x40 | words;
        assert_eq!(parse_ip(&packet), Err(WireError::IpHeaderLength));
    }
}

#[test]
fn an_ipv4_total_length_below_the_header_is_refused() {
    let (src, dst) = v4();
    let mut packet = IpEnvelope::new(src, dst)
        .with_options(&[1; 4])
        .wrap(17, b"abc")
        .unwrap();
    for total in 0..24_u16 {
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        assert_eq!(parse_ip(&packet), Err(WireError::IpTotalLength));
    }
    packet[2..4].copy_from_slice(&24_u16.to_be_bytes());
    assert_eq!(parse_ip(&packet).unwrap().payload, []);
}

#[test]
fn a_cut_ipv4_capture_still_states_its_network_bytes() {
    let (src, dst) = v4();
    let packet = IpEnvelope::new(src, dst)
        .with_options(&[1; 8])
        .wrap(17, &[7; 100])
        .unwrap();

    for length in 0..20 {
        assert_eq!(parse_ip(&packet[..length]), Err(WireError::IpTruncated));
    }
    for length in 20..packet.len() {
        let ip = parse_ip(&packet[..length]).unwrap();
        assert_eq!(
            (ip.total_len, ip.payload_len, ip.is_cut()),
            (128, 100, true)
        );
        assert_eq!(ip.payload.len(), length.saturating_sub(28));
    }
}

#[test]
fn ipv4_fragments_state_their_place_in_bytes() {
    let (src, dst) = v4();
    let mut packet = IpEnvelope {
        id: 0xbeef,
        ..IpEnvelope::new(src, dst)
    }
    .wrap(17, b"x")
    .unwrap();
    let mut place = |bits: u16| {
        packet[6..8].copy_from_slice(&bits.to_be_bytes());
        parse_ip(&packet).unwrap().fragment
    };

    assert_eq!(place(0x4000), None); // don't fragment
    assert_eq!(place(0x8000), None); // the reserved bit
    assert_eq!(
        place(0x2000),
        Some(Fragment {
            id: 0xbeef,
            offset: 0,
            more: true
        })
    );
    assert_eq!(
        place(0x1fff),
        Some(Fragment {
            id: 0xbeef,
            offset: 65_528,
            more: false
        })
    );
}

#[test]
fn ipv6_total_length_is_40_more_than_the_payload_length() {
    let packet = v6_packet(&[]).unwrap();

    let ip = parse_ip(&packet).unwrap();

    assert_eq!((ip.src, ip.dst), v6());
    assert_eq!((ip.total_len, ip.header_len, ip.payload_len), (48, 40, 8));
    assert_eq!((ip.protocol, ip.payload), (protocol::UDP, &b"payload!"[..]));
}

#[test]
fn every_kind_of_ipv6_extension_header_is_walked() {
    let packet = v6_packet(&[
        Ipv6Extension {
            kind: protocol::HOP_BY_HOP,
            content: &[0; 6],
        },
        Ipv6Extension {
            kind: protocol::DESTINATION_OPTIONS,
            content: &[0; 14],
        },
        Ipv6Extension {
            kind: protocol::ROUTING,
            content: &[0; 22],
        },
        Ipv6Extension {
            kind: protocol::FRAGMENT,
            content: &[0, 0, 1, 2, 3, 4],
        },
        Ipv6Extension {
            kind: protocol::AUTHENTICATION,
            content: &[0; 22],
        },
        Ipv6Extension {
            kind: protocol::DESTINATION_OPTIONS,
            content: &[0; 6],
        },
    ])
    .unwrap();

    let ip = parse_ip(&packet).unwrap();

    assert_eq!(ip.header_len, 40 + 8 + 16 + 24 + 8 + 24 + 8);
    assert_eq!((ip.protocol, ip.payload), (protocol::UDP, &b"payload!"[..]));
    assert_eq!(ip.fragment, None); // an atomic fragment is a whole packet
    assert_eq!(ip.total_len, u32::from(ip.header_len) + ip.payload_len);
}

#[test]
fn a_chain_at_the_limit_is_walked_and_one_longer_is_refused() {
    let chain = [Ipv6Extension {
        kind: protocol::DESTINATION_OPTIONS,
        content: &[0; 6],
    }; 9];

    assert!(parse_ip(&v6_packet(&chain[..MAX_IPV6_EXTENSIONS]).unwrap()).is_ok());
    assert_eq!(
        parse_ip(&v6_packet(&chain).unwrap()),
        Err(WireError::Ipv6ChainTooLong)
    );
}

#[test]
fn an_extension_header_past_the_stated_end_is_refused() {
    let mut packet = v6_packet(&[Ipv6Extension {
        kind: protocol::ROUTING,
        content: &[0; 6],
    }])
    .unwrap();
    packet.extend_from_slice(&[0; 4096]); // bytes behind the packet do not help

    packet[41] = 1; // 16 bytes: header and "payload!"
    assert_eq!(parse_ip(&packet).unwrap().payload, []);
    for units in 2..=255 {
        packet[41] = units;
        assert_eq!(parse_ip(&packet), Err(WireError::Ipv6ExtensionLength));
    }
    packet[4..6].copy_from_slice(&7_u16.to_be_bytes());
    assert_eq!(parse_ip(&packet), Err(WireError::Ipv6ExtensionLength));
}

#[test]
fn a_cut_ipv6_chain_still_states_its_network_bytes() {
    let packet = v6_packet(&[
        Ipv6Extension {
            kind: protocol::HOP_BY_HOP,
            content: &[0; 6],
        },
        Ipv6Extension {
            kind: protocol::ROUTING,
            content: &[0; 14],
        },
    ])
    .unwrap();

    for length in 0..40 {
        assert_eq!(parse_ip(&packet[..length]), Err(WireError::IpTruncated));
    }
    for length in 40..packet.len() {
        let ip = parse_ip(&packet[..length]).unwrap();
        let expected = match length {
            ..48 => protocol::HOP_BY_HOP,
            48..64 => protocol::ROUTING,
            _ => protocol::UDP,
        };
        assert_eq!(
            (ip.total_len, ip.protocol, ip.is_cut()),
            (72, expected, true)
        );
    }
}

#[test]
fn an_ipv6_fragment_ends_the_chain_and_names_what_it_carries() {
    let packet = v6_packet(&[
        Ipv6Extension {
            kind: protocol::HOP_BY_HOP,
            content: &[0; 6],
        },
        Ipv6Extension {
            kind: protocol::FRAGMENT,
            content: &[0x05, 0xa9, 0, 0, 0, 9],
        },
        Ipv6Extension {
            kind: protocol::DESTINATION_OPTIONS,
            content: &[0; 6],
        },
    ])
    .unwrap();

    let ip = parse_ip(&packet).unwrap();

    assert_eq!(ip.header_len, 56);
    assert_eq!(ip.protocol, protocol::DESTINATION_OPTIONS);
    assert_eq!(ip.payload.len(), 16);
    assert!(ip.fragment.is_some());
}

#[test]
fn the_ipv6_fragment_fields_are_read() {
    let content = [0x05, 0xa9, 0xde, 0xad, 0xbe, 0xef];
    let packet = v6_packet(&[Ipv6Extension {
        kind: protocol::FRAGMENT,
        content: &content,
    }])
    .unwrap();

    let fragment = parse_ip(&packet).unwrap().fragment;

    assert_eq!(
        fragment,
        Some(Fragment {
            id: 0xdead_beef,
            offset: 0x05a8,
            more: true
        })
    );
}

#[test]
fn unknown_versions_are_refused() {
    for version in [0, 1, 5, 7, 15] {
        assert_eq!(parse_ip(&[version << 4; 60]), Err(WireError::IpVersion));
    }
    assert_eq!(parse_ip(&[]), Err(WireError::IpTruncated));
}

#[test]
fn no_next_header_leaves_the_rest_as_payload() {
    let (src, dst) = v6();
    let packet = IpEnvelope::new(src, dst)
        .wrap(protocol::NO_NEXT_HEADER, b"zz")
        .unwrap();

    assert_eq!(parse_ip(&packet).unwrap().payload, b"zz");
}

#[test]
fn a_whole_built_packet_is_not_cut() {
    let packet = build::udp_packet(
        "10.0.0.1:1".parse().unwrap(),
        "10.0.0.2:2".parse().unwrap(),
        &[0; 999],
    )
    .unwrap();

    assert!(!parse_ip(&packet).unwrap().is_cut());
    assert!(parse_ip(&packet[..packet.len() - 1]).unwrap().is_cut());
}
