//! NAT64 through the public API: what leaves equals what hosts of the other family would have
//! built.
#![expect(clippy::unwrap_used, reason = "test code")]

mod rig;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use qlink_forward::nat::Internal;
use qlink_forward::nat64::{Nat64, Nat64Config, Nat64ConfigError};
use qlink_forward::translate::{Downlinked, TranslateRefusal, Uplinked};
use qlink_wire::build::{self, IpEnvelope, Ipv6Extension};
use qlink_wire::{IcmpFamily, parse_icmp, parse_ip, protocol};
use rig::{
    HOST, Kind, ROUTER, Rig, UE_V6, answer, assert_sound, embedded, external_of, packet, seal_v4,
    with_hops, without_choices,
};

fn ue(port: u16) -> SocketAddr {
    SocketAddr::new(UE_V6.into(), port)
}

fn host_v4(port: u16) -> SocketAddr {
    SocketAddr::new(HOST.into(), port)
}

fn host_v6(port: u16) -> SocketAddr {
    SocketAddr::new(embedded(HOST), port)
}

const fn inside(subscriber: u32, port: u16) -> Internal {
    Internal {
        subscriber,
        address: IpAddr::V6(UE_V6),
        port,
    }
}

proptest! {
    #[test]
    fn there_and_back_is_what_the_ends_would_have_built(
        which in 0..3_usize, ue_port: u16, host_port: u16, request in rig::payload(), reply in rig::payload(),
    ) {
        let (kind, mut rig) = (Kind::ALL[which], Rig::new());
        let sent = packet(kind, ue(ue_port), host_v6(host_port), &request);

        let (to, translated) = rig.up(3, &sent).unwrap();
        let external = external_of(kind, &translated);
        prop_assert_eq!(to, Uplinked::Translated);
        assert_sound(&translated);
        prop_assert_eq!(translated[6] & 0x40 != 0, translated.len() > 1260);
        let expected = packet(kind, external, host_v4(host_port), &request);
        prop_assert_eq!(without_choices(translated), with_hops(expected, 63));

        let returned = answer(kind, host_v4(host_port), external, &reply);
        let (to, delivered) = rig.down(&returned).unwrap();
        prop_assert_eq!(to, Downlinked::Translated(inside(3, ue_port)));
        let expected = answer(kind, host_v6(host_port), ue(ue_port), &reply);
        prop_assert_eq!(delivered, with_hops(expected, 63));
    }

    #[test]
    fn an_error_from_the_network_quotes_what_the_subscriber_sent(
        which in 0..3_usize, request in rig::payload(), quoted in 28..3000_usize,
    ) {
        let (kind, mut rig) = (Kind::ALL[which], Rig::new());
        let sent = packet(kind, ue(4000), host_v6(80), &request);
        let (_, translated) = rig.up(3, &sent).unwrap();
        let external = external_of(kind, &translated).ip();
        let cut = rig::quoted_len(kind, quoted, &translated, 20);

        let error = build::icmp_packet(ROUTER.into(), external, (3, 3, 0), &translated[..cut]).unwrap();
        let (to, delivered) = rig.down(&error).unwrap();

        prop_assert_eq!(to, Downlinked::Translated(inside(3, 4000)));
        prop_assert!(delivered.len() <= 1280);
        let about = with_hops(sent, 63);
        let cut = (cut + 20).min(1280 - 48);
        let expected = build::icmp_packet(embedded(ROUTER), UE_V6.into(), (1, 4, 0), &about[..cut]);
        prop_assert_eq!(delivered, with_hops(expected.unwrap(), 63));
    }

    #[test]
    fn an_error_from_the_subscriber_quotes_what_the_network_sent(
        which in 0..3_usize, reply in rig::payload(), quoted in 48..1200_usize,
    ) {
        let (kind, mut rig) = (Kind::ALL[which], Rig::new());
        let (_, translated) = rig.up(3, &packet(kind, ue(4000), host_v6(80), b"")).unwrap();
        let external = external_of(kind, &translated);
        let sent = answer(kind, host_v4(80), external, &reply);
        let (_, delivered) = rig.down(&sent).unwrap();
        let cut = rig::quoted_len(kind, quoted, &delivered, 40);

        let error = build::icmp_packet(UE_V6.into(), embedded(HOST), (1, 4, 0), &delivered[..cut]).unwrap();
        let (to, left) = rig.up(3, &error).unwrap();

        prop_assert_eq!(to, Uplinked::Translated);
        assert_sound(&left);
        // The quoted header has an identification of the translator's choice: put in its own.
        let (head, about) = left.split_at(28);
        let about = without_choices(about.to_vec());
        prop_assert_eq!(&about, &with_hops(sent, 63)[..cut - 20]);
        prop_assert_eq!(&head[20..22], &[3, 3]);
        let ends = parse_ip(&left).unwrap();
        prop_assert_eq!((ends.src, ends.dst), (external.ip(), HOST.into()));
    }

    #[test]
    fn fragments_are_translated_like_the_whole(
        tcp: bool, len in 1000..6000_usize, unit in 4..100_usize, id: u16,
    ) {
        let (kind, mut rig) = (if tcp { Kind::Tcp } else { Kind::Udp }, Rig::new());
        let body = vec![3; len];
        let sent = packet(kind, ue(4000), host_v6(80), &body);
        let (_, expected) = rig.up(3, &sent).unwrap();
        let external = external_of(kind, &expected);

        let pieces: Vec<Vec<u8>> = rig::fragments_v6(&sent, id.into(), unit * 8)
            .iter()
            .map(|piece| rig.up(3, piece).unwrap().1)
            .collect();
        prop_assert_eq!(rig::joined(&pieces, id).unwrap(), parse_ip(&expected).unwrap().payload);

        let returned = answer(kind, host_v4(80), external, &body);
        let pieces: Vec<Vec<u8>> = rig::fragments_v4(&returned, id, unit * 8)
            .iter()
            .map(|piece| rig.down(piece).unwrap().1)
            .collect();
        let expected = answer(kind, host_v6(80), ue(4000), &body);
        prop_assert_eq!(rig::joined(&pieces, id).unwrap(), parse_ip(&expected).unwrap().payload);
    }
}

#[test]
fn a_udp_datagram_without_checksum_gets_one_and_a_fragment_of_one_is_refused() {
    for len in [0, 1, 99, 1400, 1401] {
        let mut rig = Rig::new();
        let body = vec![0xa5; len];
        let (_, seen) = rig
            .up(1, &packet(Kind::Udp, ue(4000), host_v6(53), b"q"))
            .unwrap();
        let external = external_of(Kind::Udp, &seen);
        let mut returned = answer(Kind::Udp, host_v4(53), external, &body);
        returned[26..28].fill(0);

        let (_, delivered) = rig.down(&returned).unwrap();

        let expected = answer(Kind::Udp, host_v6(53), ue(4000), &body);
        assert_eq!(delivered, with_hops(expected, 63));
        if len > 1000 {
            let pieces = rig::fragments_v4(&returned, 1, 800);
            assert_eq!(rig.down(&pieces[0]), Err(TranslateRefusal::UdpChecksumZero));
        }
    }
}

#[test]
fn path_mtus_are_told_with_the_difference_of_the_headers() {
    let mut rig = Rig::new();
    let sent = packet(Kind::Tcp, ue(4000), host_v6(80), &[1; 1300]);
    let (_, translated) = rig.up(1, &sent).unwrap();
    let external = external_of(Kind::Tcp, &translated);
    // Told 1300: 1320; told nothing about 1340 bytes: plateau 1006 + 20, but never below 1280;
    // told more than the own links carry: those.
    for (told, expected) in [(1300, 1320), (0, 1280), (9000, 1500), (600, 1280)] {
        let message = (3, 4, told);
        let error = build::icmp_packet(ROUTER.into(), external.ip(), message, &translated[..60]);
        let (_, delivered) = rig.down(&error.unwrap()).unwrap();
        let ip = parse_ip(&delivered).unwrap();
        let message = parse_icmp(IcmpFamily::V6, ip.payload).unwrap();
        assert_eq!((message.message_type, message.rest), (2, expected));
        assert_sound(&delivered);
    }

    let (_, delivered) = rig
        .down(&answer(Kind::Tcp, host_v4(80), external, &[1; 1400]))
        .unwrap();
    let message = (2, 0, 1400);
    let error = build::icmp_packet(UE_V6.into(), embedded(HOST), message, &delivered[..200]);
    let (_, left) = rig.up(1, &error.unwrap()).unwrap();
    let ip = parse_ip(&left).unwrap();
    let message = parse_icmp(IcmpFamily::V4, ip.payload).unwrap();
    assert_eq!((message.message_type, message.code), (3, 4));
    assert_eq!(message.rest, 1380);
}

#[test]
fn error_types_follow_the_tables_of_rfc_7915() {
    let mut rig = Rig::new();
    let (_, translated) = rig
        .up(1, &packet(Kind::Udp, ue(4000), host_v6(80), b"q"))
        .unwrap();
    let external = external_of(Kind::Udp, &translated);
    let (_, received) = rig
        .down(&answer(Kind::Udp, host_v4(80), external, b"a"))
        .unwrap();
    let pointer = |at: u32| at << 24;
    for (from, to) in [
        ((3, 0, 0), Some((1, 0, 0))),
        ((3, 2, 0), Some((4, 1, 6))),
        ((3, 10, 0), Some((1, 1, 0))),
        ((3, 13, 0), Some((1, 1, 0))),
        ((3, 14, 0), None),
        ((11, 0, 0), Some((3, 0, 0))),
        ((12, 0, pointer(9)), Some((4, 0, 6))),
        ((12, 0, pointer(17)), Some((4, 0, 24))),
        ((12, 0, pointer(10)), None),
        ((12, 1, 0), None),
    ] {
        let error = build::icmp_packet(ROUTER.into(), external.ip(), from, &translated).unwrap();
        let told = rig.down(&error).map(|(_, packet)| told(&packet));
        assert_eq!(told, to.ok_or(TranslateRefusal::Unsupported), "{from:?}");
    }
    for (from, to) in [
        ((1, 0, 0), Some((3, 1, 0))),
        ((1, 1, 0), Some((3, 10, 0))),
        ((1, 5, 0), None),
        ((3, 1, 0), Some((11, 1, 0))),
        ((4, 0, 7), Some((12, 0, pointer(8)))),
        ((4, 0, 3), None),
        ((4, 1, 6), Some((3, 2, 0))),
        ((4, 2, 0), None),
    ] {
        let error = build::icmp_packet(UE_V6.into(), embedded(HOST), from, &received).unwrap();
        let told = rig.up(1, &error).map(|(_, packet)| told(&packet));
        assert_eq!(told, to.ok_or(TranslateRefusal::Unsupported), "{from:?}");
    }
}

fn told(packet: &[u8]) -> (u8, u8, u32) {
    assert_sound(packet);
    let ip = parse_ip(packet).unwrap();
    let family = IcmpFamily::from_protocol(ip.protocol).unwrap();
    let message = parse_icmp(family, ip.payload).unwrap();
    (message.message_type, message.code, message.rest)
}

#[test]
fn extension_headers_and_options_are_left_out_and_source_routes_refused() {
    let mut rig = Rig::new();
    let datagram = build::udp_datagram(ue(4000), host_v6(80), b"q").unwrap();
    let with = |kind, content: &[u8]| {
        let extensions = [Ipv6Extension { kind, content }];
        IpEnvelope::new(UE_V6.into(), embedded(HOST))
            .with_extensions(&extensions)
            .wrap(protocol::UDP, &datagram)
            .unwrap()
    };

    let (_, plain) = rig
        .up(1, &with(protocol::HOP_BY_HOP, &[1, 4, 0, 0, 0, 0]))
        .unwrap();
    let external = external_of(Kind::Udp, &plain);
    let expected = packet(Kind::Udp, external, host_v4(80), b"q");
    assert_eq!(without_choices(plain), with_hops(expected, 63));
    let routed = with(protocol::ROUTING, &[0, 0, 0, 0, 0, 0]);
    assert!(rig.up(1, &routed).is_ok());
    let routing = with(protocol::ROUTING, &[0, 1, 0, 0, 0, 0]);
    assert_eq!(rig.up(1, &routing), Err(TranslateRefusal::SourceRoute));
    let signed = with(protocol::AUTHENTICATION, &[0; 10]);
    assert_eq!(rig.up(1, &signed), Err(TranslateRefusal::Unsupported));

    let datagram = build::udp_datagram(host_v4(80), external, b"a").unwrap();
    let back = |options: &[u8]| {
        IpEnvelope::new(HOST.into(), external.ip())
            .with_options(options)
            .wrap(protocol::UDP, &datagram)
            .unwrap()
    };
    let (_, delivered) = rig.down(&back(&[1, 7, 3, 4])).unwrap();
    let expected = answer(Kind::Udp, host_v6(80), ue(4000), b"a");
    assert_eq!(delivered, with_hops(expected, 63));
    let routed = [1, 131, 7, 8, 9, 9, 9, 9];
    assert!(rig.down(&back(&routed)).is_ok());
    let routing = [1, 131, 7, 4, 9, 9, 9, 9];
    assert_eq!(
        rig.down(&back(&routing)),
        Err(TranslateRefusal::SourceRoute)
    );
}

#[test]
fn hop_limits_end_and_traffic_classes_are_kept() {
    let mut rig = Rig::new();
    let mut sent = packet(Kind::Udp, ue(4000), host_v6(80), b"q");
    sent[0] = 0x6b;
    sent[1] = 0x8f;

    let (_, translated) = rig.up(1, &sent).unwrap();
    assert_eq!((translated[1], translated[8]), (0xb8, 63));
    assert_eq!(
        rig.up(1, &with_hops(sent, 1)),
        Err(TranslateRefusal::HopLimit)
    );

    let external = external_of(Kind::Udp, &translated);
    let mut returned = answer(Kind::Udp, host_v4(80), external, b"a");
    returned[1] = 0xb8;
    let returned = seal_v4(returned);
    let (_, delivered) = rig.down(&returned).unwrap();
    assert_eq!(delivered[..4], [0x6b, 0x80, 0, 0]);
    assert_eq!(
        rig.down(&with_hops(returned, 1)),
        Err(TranslateRefusal::HopLimit)
    );
}

#[test]
fn subscribers_of_both_families_reach_each_other() {
    let mut rig = Rig::new();
    let v4 = SocketAddr::new(rig::UE_V4.into(), 1000);
    let (_, seen) = rig.up(1, &packet(Kind::Udp, v4, host_v4(80), b"")).unwrap();
    let SocketAddr::V4(one) = external_of(Kind::Udp, &seen) else {
        panic!("ipv4")
    };
    let to_one = SocketAddr::new(embedded(*one.ip()), one.port());

    let (to, delivered) = rig
        .up(2, &packet(Kind::Udp, ue(2000), to_one, b"hello"))
        .unwrap();

    assert!(matches!(to, Uplinked::Hairpin(to) if to.subscriber == 1 && to.port == 1000));
    let two = external_of(Kind::Udp, &delivered);
    let expected = packet(Kind::Udp, two, v4, b"hello");
    assert_eq!(without_choices(delivered), with_hops(expected, 63));
    let (to, back) = rig.up(1, &packet(Kind::Udp, v4, two, b"yes")).unwrap();
    assert_eq!(to, Uplinked::Hairpin(inside(2, 2000)));
    assert_eq!(
        back,
        with_hops(packet(Kind::Udp, to_one, ue(2000), b"yes"), 63)
    );
}

#[test]
fn the_well_known_prefix_reaches_no_private_host_and_no_prefix_reaches_none() {
    let mut rig = Rig::new();
    for forbidden in [
        "10.1.2.3",
        "192.168.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "0.0.0.0",
    ] {
        let to = SocketAddr::new(embedded(forbidden.parse().unwrap()), 80);
        let result = rig.up(1, &packet(Kind::Udp, ue(1), to, b""));
        assert_eq!(result, Err(TranslateRefusal::DestinationForbidden));
    }
    let native = packet(Kind::Udp, ue(1), "[2001:db8::9]:80".parse().unwrap(), b"");
    assert_eq!(rig.up(1, &native), Ok((Uplinked::Untouched, native)));
}

// The example of RFC 6052 §2.4, table 1.
#[test]
fn addresses_stand_in_the_prefix_as_rfc_6052_shows() {
    let prefix: Ipv6Addr = "2001:db8:122:344::".parse().unwrap();
    let own = Nat64::try_new(Nat64Config {
        prefix,
        ..Nat64Config::default()
    })
    .unwrap();

    let embedded = own.embed("192.0.2.33".parse().unwrap());
    assert_eq!(
        embedded,
        "2001:db8:122:344::192.0.2.33".parse::<Ipv6Addr>().unwrap()
    );
    assert_eq!(own.extract(embedded), Some("192.0.2.33".parse().unwrap()));
    assert_eq!(own.extract("2001:db8:122:345::1".parse().unwrap()), None);
    for prefix in ["2001:db8::1", "2001:db8:0:0:100::"] {
        let prefix = prefix.parse().unwrap();
        let config = Nat64Config {
            prefix,
            ..Nat64Config::default()
        };
        assert_eq!(
            Nat64::try_new(config).unwrap_err(),
            Nat64ConfigError::Prefix(prefix)
        );
    }
}
