//! NAT44 through the public API: what leaves equals what a host would have built.

mod rig;

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use qlink_forward::fragments::FragmentRefusal;
use qlink_forward::nat::{Hairpinning, Internal, NatRefusal};
use qlink_forward::translate::{Downlinked, TranslateRefusal, Uplinked};
use qlink_wire::build::{self, IpEnvelope};
use qlink_wire::{parse_ip, protocol};
use rig::{HOST, Kind, ROUTER, Rig, UE_V4, answer, assert_sound, external_of, packet};

fn ue(port: u16) -> SocketAddr {
    SocketAddr::new(UE_V4.into(), port)
}

fn host(port: u16) -> SocketAddr {
    SocketAddr::new(HOST.into(), port)
}

fn inside(subscriber: u32, port: u16) -> Internal {
    Internal {
        subscriber,
        address: UE_V4.into(),
        port,
    }
}

proptest! {
    #[test]
    fn there_and_back_is_what_the_ends_would_have_built(
        which in 0..3_usize, ue_port: u16, host_port: u16, request in rig::payload(), reply in rig::payload(),
    ) {
        let (kind, mut rig) = (Kind::ALL[which], Rig::new());
        let sent = packet(kind, ue(ue_port), host(host_port), &request);

        let (to, translated) = rig.up(3, &sent).unwrap();
        let external = external_of(kind, &translated);
        prop_assert_eq!(to, Uplinked::Translated);
        prop_assert_eq!(&translated, &packet(kind, external, host(host_port), &request));
        assert_sound(&translated);

        let returned = answer(kind, host(host_port), external, &reply);
        let (to, delivered) = rig.down(&returned).unwrap();
        prop_assert_eq!(to, Downlinked::Translated(inside(3, ue_port)));
        prop_assert_eq!(delivered, answer(kind, host(host_port), ue(ue_port), &reply));
    }

    #[test]
    fn an_error_from_the_network_quotes_what_the_subscriber_sent(
        which in 0..3_usize, request in rig::payload(), quoted in 28..600_usize, code in 0..14_u8,
    ) {
        let (kind, mut rig) = (Kind::ALL[which], Rig::new());
        let sent = packet(kind, ue(4000), host(80), &request);
        let (_, translated) = rig.up(3, &sent).unwrap();
        let external = external_of(kind, &translated).ip();
        let cut = rig::quoted_len(kind, quoted, &sent, 20);
        let message = (3, code, 0);

        let error = build::icmp_packet(ROUTER.into(), external, message, &translated[..cut]).unwrap();
        let (to, delivered) = rig.down(&error).unwrap();

        prop_assert_eq!(to, Downlinked::Translated(inside(3, 4000)));
        let expected = build::icmp_packet(ROUTER.into(), UE_V4.into(), message, &sent[..cut]);
        prop_assert_eq!(delivered, expected.unwrap());
    }

    #[test]
    fn an_error_from_the_subscriber_quotes_what_the_network_sent(
        which in 0..3_usize, reply in rig::payload(), quoted in 28..600_usize,
    ) {
        let (kind, mut rig) = (Kind::ALL[which], Rig::new());
        let (_, translated) = rig.up(3, &packet(kind, ue(4000), host(80), b"")).unwrap();
        let external = external_of(kind, &translated);
        let sent = answer(kind, host(80), external, &reply);
        let (_, delivered) = rig.down(&sent).unwrap();
        let cut = rig::quoted_len(kind, quoted, &sent, 20);

        let error = build::icmp_packet(UE_V4.into(), HOST.into(), (3, 3, 0), &delivered[..cut]).unwrap();
        let (to, left) = rig.up(3, &error).unwrap();

        prop_assert_eq!(to, Uplinked::Translated);
        let expected = build::icmp_packet(external.ip(), HOST.into(), (3, 3, 0), &sent[..cut]);
        prop_assert_eq!(left, expected.unwrap());
    }

    #[test]
    fn fragments_are_translated_like_the_whole(
        which in 0..3_usize, len in 1000..6000_usize, unit in 4..100_usize, id: u16,
    ) {
        let (kind, mut rig) = (Kind::ALL[which], Rig::new());
        let body = vec![3; len];
        let sent = packet(kind, ue(4000), host(80), &body);
        let (_, expected) = rig.up(3, &sent).unwrap();
        let external = external_of(kind, &expected);

        let pieces: Vec<Vec<u8>> = rig::fragments_v4(&sent, id, unit * 8)
            .iter()
            .map(|piece| rig.up(3, piece).unwrap().1)
            .collect();
        prop_assert_eq!(rig::joined(&pieces, id).unwrap(), parse_ip(&expected).unwrap().payload);

        let returned = answer(kind, host(80), external, &body);
        let pieces: Vec<Vec<u8>> = rig::fragments_v4(&returned, id, unit * 8)
            .iter()
            .map(|piece| rig.down(piece).unwrap().1)
            .collect();
        let expected = answer(kind, host(80), ue(4000), &body);
        prop_assert_eq!(rig::joined(&pieces, id).unwrap(), parse_ip(&expected).unwrap().payload);
    }
}

#[test]
fn a_later_fragment_without_its_first_is_refused() {
    let mut rig = Rig::new();
    let sent = packet(Kind::Udp, ue(4000), host(80), &[1; 2000]);
    rig.up(3, &sent).unwrap();
    let pieces = rig::fragments_v4(&sent, 9, 800);

    let unmatched = TranslateRefusal::Fragment(FragmentRefusal::Unmatched);
    assert_eq!(rig.up(3, &pieces[1]), Err(unmatched));
    rig.up(3, &pieces[0]).unwrap();
    assert!(rig.up(3, &pieces[1]).is_ok());
    // Another subscriber's datagram of the same name is another one.
    assert_eq!(rig.up(4, &pieces[1]), Err(unmatched));
}

#[test]
fn two_subscribers_with_one_address_keep_apart() {
    let mut rig = Rig::new();
    let sent = packet(Kind::Udp, ue(4000), host(80), b"q");
    let first = external_of(Kind::Udp, &rig.up(1, &sent).unwrap().1);
    let second = external_of(Kind::Udp, &rig.up(2, &sent).unwrap().1);

    assert_ne!(first, second);
    for (external, subscriber) in [(first, 1), (second, 2)] {
        let (to, _) = rig
            .down(&answer(Kind::Udp, host(80), external, b"a"))
            .unwrap();
        assert_eq!(to, Downlinked::Translated(inside(subscriber, 4000)));
    }
}

#[test]
fn a_udp_datagram_without_checksum_stays_without() {
    let mut rig = Rig::new();
    let mut sent = packet(Kind::Udp, ue(4000), host(80), b"query");
    sent[26..28].fill(0);

    let (_, translated) = rig.up(1, &sent).unwrap();

    assert_eq!(translated[26..28], [0, 0]);
    assert_sound(&translated);
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for kind in Kind::ALL {
        let mut rig = Rig::new();
        let mut sent = packet(kind, ue(4000), host(80), b"query");
        let last = sent.len() - 1;
        sent[last] ^= 1;

        let (_, translated) = rig.up(1, &sent).unwrap();

        let sound = std::panic::catch_unwind(|| assert_sound(&translated));
        assert!(sound.is_err(), "{kind:?}");
    }
}

#[test]
fn subscribers_reach_each_other_through_their_external_addresses() {
    for kind in [Kind::Tcp, Kind::Udp] {
        let mut rig = Rig::new();
        let (_, seen) = rig.up(1, &packet(kind, ue(1000), host(80), b"")).unwrap();
        let one = external_of(kind, &seen);
        let sent = packet(kind, ue(2000), one, b"hello");

        let (to, delivered) = rig.up(2, &sent).unwrap();

        assert_eq!(to, Uplinked::Hairpin(inside(1, 1000)));
        let two = external_of(kind, &delivered);
        assert_eq!(delivered, packet(kind, two, ue(1000), b"hello"));
        // The answer goes to the external address, as RFC 4787 REQ-9 demands.
        let (to, back) = rig.up(1, &answer(kind, ue(1000), two, b"yes")).unwrap();
        assert_eq!(to, Uplinked::Hairpin(inside(2, 2000)));
        assert_eq!(back, answer(kind, one, ue(2000), b"yes"));
    }
}

#[test]
fn hairpinning_can_be_refused() {
    let mut rig = Rig::with(|config| config.hairpinning = Hairpinning::Refuse);
    let (_, seen) = rig
        .up(1, &packet(Kind::Udp, ue(1000), host(80), b""))
        .unwrap();
    let one = external_of(Kind::Udp, &seen);

    let result = rig.up(2, &packet(Kind::Udp, ue(2000), one, b"hello"));

    assert_eq!(result, Err(TranslateRefusal::HairpinRefused));
}

#[test]
fn what_nothing_here_is_responsible_for_is_left_alone() {
    let mut rig = Rig::new();
    let foreign = packet(Kind::Udp, host(80), host(81), b"x");

    assert_eq!(rig.down(&foreign), Ok((Downlinked::Untouched, foreign)));
}

#[test]
fn what_cannot_be_translated_is_refused_with_its_reason() {
    let mut rig = Rig::new();
    let pool = "203.0.113.1:5000".parse().unwrap();
    let (src, dst) = (IpAddr::from(UE_V4), IpAddr::from(HOST));
    let envelope = IpEnvelope::new(src, dst);
    let esp = envelope.wrap(50, &[0; 40]).unwrap();
    let short = envelope.wrap(protocol::TCP, &[0; 12]).unwrap();
    let redirect = build::icmp_packet(src, dst, (5, 0, 0), &[0x45; 28]).unwrap();
    let other = packet(Kind::Udp, host(53), ue(1), b"");
    let error = build::icmp_packet(src, dst, (3, 3, 0), &other).unwrap();
    let stray = packet(Kind::Udp, host(53), pool, b"");
    let stray_error = build::icmp_packet(dst, pool.ip(), (3, 3, 0), &stray).unwrap();

    for (sent, expected) in [
        (esp, TranslateRefusal::Unsupported),
        (short, TranslateRefusal::Malformed),
        (redirect, TranslateRefusal::Unsupported),
        (error, TranslateRefusal::Nat(NatRefusal::IcmpWithoutQuery)),
    ] {
        assert_eq!(rig.up(1, &sent), Err(expected));
    }
    assert_eq!(
        rig.down(&stray),
        Err(TranslateRefusal::Nat(NatRefusal::NoMapping))
    );
    assert_eq!(
        rig.down(&stray_error),
        Err(TranslateRefusal::Nat(NatRefusal::IcmpWithoutQuery))
    );
}

#[test]
fn every_refusal_has_its_own_name() {
    let names: std::collections::BTreeSet<&str> = TranslateRefusal::all()
        .map(TranslateRefusal::name)
        .collect();

    assert_eq!(names.len(), TranslateRefusal::all().count());
}
