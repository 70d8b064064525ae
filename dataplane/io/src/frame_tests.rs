use super::*;

use proptest::prelude::*;
use qlink_wire::checksum::transport_checksum;
use qlink_wire::{LinkType, build, gpdu_header, parse_gtpu, parse_ip, parse_udp, strip_link};

const NEXT: MacAddress = MacAddress::new([2, 0, 0, 0, 0, 9]);

fn framer(envelope: Envelope) -> Framer {
    Framer {
        envelope,
        source: MacAddress::new([2, 0, 0, 0, 0, 1]),
        vlan: None,
        mtu: 1500,
    }
}

fn udp(local: &str) -> Envelope {
    Envelope::Udp {
        local: local.parse().unwrap(),
        checksum: Ipv4Checksum::Computed,
    }
}

fn item<'a>(head: &'a [u8], body: &'a [u8], to: &str) -> Outgoing<'a> {
    Outgoing {
        head,
        body,
        to: to.parse().unwrap(),
    }
}

fn written(framer: &Framer, item: &Outgoing<'_>) -> Result<Vec<u8>, FrameError> {
    let mut out = [0xee; 2048];
    let length = framer.write(NEXT, item, &mut out)?;
    Ok(out[..length].to_vec())
}

#[test]
fn a_tunnel_frame_parses_to_what_was_sent() {
    for (local, to) in [
        ("10.0.0.1:2152", "10.0.0.7:2152"),
        ("[2001:db8::1]:2152", "[2001:db8::7]:2152"),
    ] {
        let inner = build::udp_packet(
            "10.45.0.2:5000".parse().unwrap(),
            "8.8.8.8:53".parse().unwrap(),
            b"query",
        )
        .unwrap();
        let head = gpdu_header(77, 33);

        let frame = written(&framer(udp(local)), &item(&head, &inner, to)).unwrap();

        let ip = parse_ip(strip_link(LinkType::Ethernet, &frame).unwrap()).unwrap();
        let (local, to): (SocketAddr, SocketAddr) = (local.parse().unwrap(), to.parse().unwrap());
        assert_eq!((ip.src, ip.dst), (local.ip(), to.ip()));
        assert_eq!(frame[..12], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1]);
        assert_eq!(
            transport_checksum(ip.src, ip.dst, protocol::UDP, ip.payload),
            0
        );
        let udp = parse_udp(ip.payload).unwrap();
        assert_eq!((udp.src_port, udp.dst_port), (2152, 2152));
        let gtpu = parse_gtpu(udp.payload).unwrap();
        assert_eq!((gtpu.teid, gtpu.payload), (77, inner.as_slice()));
        if ip.src.is_ipv4() {
            assert_eq!(Checksum::default().with(&frame[14..34]).finish(), 0);
        }
    }
}

#[test]
fn the_independent_builder_writes_the_same_outer_headers() {
    let (local, to) = ("10.0.0.1:2152", "10.0.0.7:40000");
    let payload = [7_u8; 101];
    let mut expected =
        build::udp_packet(local.parse().unwrap(), to.parse().unwrap(), &payload).unwrap();
    expected[6] = 0x40; // don't fragment
    let sum = {
        expected[10..12].fill(0);
        Checksum::default().with(&expected[..20]).finish()
    };
    expected[10..12].copy_from_slice(&sum.to_be_bytes());

    let frame = written(&framer(udp(local)), &item(&payload[..3], &payload[3..], to)).unwrap();

    assert_eq!(frame[14..], expected);
}

#[test]
fn a_vlan_tag_stands_before_the_ethertype() {
    let tagged = Framer {
        vlan: Some(100),
        ..framer(udp("10.0.0.1:2152"))
    };

    let frame = written(&tagged, &item(b"", b"x", "10.0.0.7:2152")).unwrap();

    assert_eq!(frame[12..18], [0x81, 0, 0, 100, 8, 0]);
    let ip = parse_ip(strip_link(LinkType::Ethernet, &frame).unwrap()).unwrap();
    assert_eq!(parse_udp(ip.payload).unwrap().payload, b"x");
}

#[test]
fn a_plain_packet_gets_ethernet_alone_and_is_padded_to_sixty_bytes() {
    let inner = build::udp_packet(
        "10.45.0.2:5000".parse().unwrap(),
        "8.8.8.8:53".parse().unwrap(),
        b"q",
    )
    .unwrap();

    let frame = written(&framer(Envelope::Ethernet), &item(b"", &inner, "8.8.8.8:0")).unwrap();

    assert_eq!(frame.len(), FRAME_MIN);
    assert_eq!(frame[12..14], [8, 0]);
    assert_eq!(&frame[14..14 + inner.len()], inner);
    assert!(frame[14 + inner.len()..].iter().all(|byte| *byte == 0));
}

#[test]
fn what_cannot_be_framed_is_refused_with_its_reason() {
    let n3 = framer(udp("10.0.0.1:2152"));
    let n6 = framer(Envelope::Ethernet);
    let long = [0x45; 1473];

    let refused = [
        written(&n3, &item(b"", b"x", "[2001:db8::7]:2152")),
        written(&n3, &item(b"", &long, "10.0.0.7:2152")),
        written(&n6, &item(b"", b"\x15", "10.0.0.7:0")),
        written(&n6, &item(b"", b"", "10.0.0.7:0")),
    ];

    assert_eq!(
        refused,
        [
            Err(FrameError::FamilyMismatch),
            Err(FrameError::TooLong {
                length: 1501,
                mtu: 1500
            }),
            Err(FrameError::NotIp),
            Err(FrameError::NotIp),
        ]
    );
    assert_eq!(
        n3.write(NEXT, &item(b"", b"x", "10.0.0.7:1"), &mut [0; 59]),
        Err(FrameError::NoRoom {
            length: 60,
            room: 59
        })
    );
}

#[test]
fn the_longest_packet_of_the_link_fits() {
    let body = [1; 1472];

    let frame = written(
        &framer(udp("10.0.0.1:2152")),
        &item(b"", &body, "10.0.0.7:2152"),
    );

    assert_eq!(frame.unwrap().len(), 1514);
}

#[test]
fn without_a_checksum_the_field_is_zero_in_ipv4_and_present_in_ipv6() {
    let zero = |local: &str| {
        framer(Envelope::Udp {
            local: local.parse().unwrap(),
            checksum: Ipv4Checksum::Zero,
        })
    };

    let v4 = written(&zero("10.0.0.1:9"), &item(b"", b"body", "10.0.0.7:9")).unwrap();
    let v6 = written(&zero("[::1]:9"), &item(b"", b"body", "[::2]:9")).unwrap();

    assert_eq!(v4[40..42], [0, 0]);
    assert_ne!(v6[60..62], [0, 0]);
}

#[test]
fn hardware_addresses_are_read_as_they_are_written() {
    let text = "02:00:5e:10:00:ff";

    assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), text);
    for wrong in [
        "",
        "02:00:5e:10:00",
        "02:00:5e:10:00:ff:01",
        "2:0:5e:10:0:ff",
        "+2:00:5e:10:00:ff",
    ] {
        assert_eq!(wrong.parse::<MacAddress>(), Err(MacAddressError), "{wrong}");
    }
}

proptest! {
    #[test]
    fn the_wide_sum_is_the_sum_of_words(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(
            Checksum::default().with(&word_sum(&bytes)).finish(),
            Checksum::default().with(&bytes).finish()
        );
    }

    // Any split between head and body, odd lengths included, gives the same valid datagram.
    #[test]
    fn every_frame_has_a_valid_checksum_and_the_whole_payload(
        payload in proptest::collection::vec(any::<u8>(), 0..1400),
        cut in 0_usize..1400,
        is_v6 in any::<bool>(),
    ) {
        let (local, to) = if is_v6 { ("[fd00::1]:2152", "[fd00::2]:2153") } else { ("10.0.0.1:2152", "10.0.0.2:2153") };
        let (head, body) = payload.split_at(cut.min(payload.len()));

        let frame = written(&framer(udp(local)), &item(head, body, to)).unwrap();

        let ip = parse_ip(strip_link(LinkType::Ethernet, &frame).unwrap()).unwrap();
        let datagram = parse_udp(ip.payload).unwrap();
        prop_assert_eq!(datagram.payload, payload.as_slice());
        prop_assert_eq!(transport_checksum(ip.src, ip.dst, protocol::UDP, ip.payload), 0);
    }
}
