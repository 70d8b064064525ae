use super::*;
use crate::build::{self, LinkFrame};

const LINKS: [LinkType; 6] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::RawIp,
    LinkType::Null,
    LinkType::Loop,
];

fn packets() -> [Vec<u8>; 2] {
    [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")].map(|(src, dst)| {
        build::udp_packet(src.parse().unwrap(), dst.parse().unwrap(), b"x").unwrap()
    })
}

#[test]
fn every_link_type_leads_to_the_ip_header() {
    for link in LINKS {
        for packet in packets() {
            let frame = LinkFrame::new(link).wrap(&packet).unwrap();

            assert_eq!(strip_link(link, &frame), Ok(&packet[..]), "{link:?}");
        }
    }
}

#[test]
fn a_link_header_truncated_anywhere_is_refused() {
    for link in LINKS {
        let [packet, _] = packets();
        let tags = if link == LinkType::Ethernet {
            &[1, 2][..]
        } else {
            &[]
        };
        let frame = LinkFrame::new(link)
            .with_vlan_tags(tags)
            .wrap(&packet)
            .unwrap();
        let header_len = frame.len() - packet.len();

        for length in 0..header_len {
            assert_eq!(
                strip_link(link, &frame[..length]),
                Err(WireError::LinkTruncated)
            );
        }
    }
}

#[test]
fn vlan_tags_up_to_the_limit_are_skipped_and_one_more_is_refused() {
    let [packet, _] = packets();
    let tags: Vec<u16> = (1..=9).collect();
    let frame = |count: usize| {
        LinkFrame::new(LinkType::Ethernet)
            .with_vlan_tags(&tags[..count])
            .wrap(&packet)
            .unwrap()
    };

    for count in 0..=MAX_VLAN_TAGS {
        assert_eq!(
            strip_link(LinkType::Ethernet, &frame(count)),
            Ok(&packet[..])
        );
    }
    assert_eq!(
        strip_link(LinkType::Ethernet, &frame(MAX_VLAN_TAGS + 1)),
        Err(WireError::VlanStackTooDeep)
    );
}

#[test]
fn every_vlan_ethertype_is_a_tag() {
    let [packet, _] = packets();
    for kind in [0x8100_u16, 0x88a8, 0x9100, 0x9200, 0x9300] {
        let mut frame = LinkFrame::new(LinkType::Ethernet)
            .with_vlan_tags(&[7])
            .wrap(&packet)
            .unwrap();
        frame[12..14].copy_from_slice(&kind.to_be_bytes());

        assert_eq!(
            strip_link(LinkType::Ethernet, &frame),
            Ok(&packet[..]),
            "{kind:#x}"
        );
    }
}

#[test]
fn a_vlan_tag_behind_a_cooked_header_is_skipped() {
    let [packet, _] = packets();
    for link in [LinkType::LinuxSll, LinkType::LinuxSll2] {
        let frame = LinkFrame::new(link)
            .with_vlan_tags(&[9])
            .wrap(&packet)
            .unwrap();

        assert_eq!(strip_link(link, &frame), Ok(&packet[..]));
    }
}

#[test]
fn other_protocols_are_not_ip() {
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);

    assert_eq!(strip_link(LinkType::Ethernet, &arp), Err(WireError::NotIp));
    assert_eq!(
        strip_link(LinkType::RawIp, &[0x15; 20]),
        Err(WireError::NotIp)
    );
    assert_eq!(
        strip_link(LinkType::Null, &[7, 0, 0, 0, 0x45]),
        Err(WireError::NotIp)
    );
}

#[test]
fn null_accepts_either_byte_order_and_loop_only_network_order() {
    let [packet, _] = packets();
    let with = |family: [u8; 4]| [&family[..], &packet].concat();

    assert_eq!(
        strip_link(LinkType::Null, &with([2, 0, 0, 0])),
        Ok(&packet[..])
    );
    assert_eq!(
        strip_link(LinkType::Null, &with([0, 0, 0, 2])),
        Ok(&packet[..])
    );
    assert_eq!(
        strip_link(LinkType::Loop, &with([0, 0, 0, 2])),
        Ok(&packet[..])
    );
    assert_eq!(
        strip_link(LinkType::Loop, &with([2, 0, 0, 0])),
        Err(WireError::NotIp)
    );
}

#[test]
fn every_bsd_family_of_ipv6_is_known() {
    let [_, packet] = packets();
    for family in [10_u32, 24, 28, 30] {
        let frame = [&family.to_le_bytes()[..], &packet].concat();

        assert_eq!(strip_link(LinkType::Null, &frame), Ok(&packet[..]));
    }
}

#[test]
fn a_version_that_the_link_header_did_not_announce_is_refused() {
    let [v4, v6] = packets();
    let mut frame = LinkFrame::new(LinkType::Ethernet).wrap(&v4).unwrap();
    frame.truncate(14);
    frame.extend_from_slice(&v6);

    assert_eq!(
        strip_link(LinkType::Ethernet, &frame),
        Err(WireError::IpVersion)
    );
}

#[test]
fn pcap_numbers_round_trip() {
    for link in LINKS {
        assert_eq!(LinkType::from_pcap(link.to_pcap()), Some(link));
    }
    for raw in [12, 14, 228, 229] {
        assert_eq!(LinkType::from_pcap(raw), Some(LinkType::RawIp));
    }
    assert_eq!(LinkType::from_pcap(105), None); // 802.11
}
