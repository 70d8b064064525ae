use proptest::prelude::*;
use qlink_wire::build::{self, IpEnvelope};
use qlink_wire::checksum::transport_checksum;
use qlink_wire::{Reassembler, ReassemblyLimits};

use super::*;

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);

fn path(mtu: u16) -> Path {
    let around = Encapsulation::Gtpu {
        outer: OuterFamily::Ipv4,
        header: GtpuHeader::PduSessionContainer,
    };
    Path::try_new(mtu, around, GATEWAY_V4, GATEWAY_V6).unwrap()
}

fn packet(v6: bool, len: usize) -> Vec<u8> {
    let (src, dst, header) = if v6 {
        ("[2001:db8::1]:80", "[2001:db8::2]:90", 48)
    } else {
        ("192.0.2.1:80", "10.45.0.2:90", 28)
    };
    let payload = pattern(len - header);
    build::udp_packet(src.parse().unwrap(), dst.parse().unwrap(), &payload).unwrap()
}

/// Bytes that differ from place to place, also from one multiple of 256 to the next.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| {
            let [low, high, ..] = at.to_le_bytes();
            low ^ high.wrapping_mul(31)
        })
        .collect()
}

/// The packet with its IPv4 flags and offset replaced.
fn with_fragment_word(mut packet: Vec<u8>, word: u16) -> Vec<u8> {
    packet[6..8].copy_from_slice(&word.to_be_bytes());
    packet[10..12].fill(0);
    let len = usize::from(packet[0] & 15) * 4;
    let sum = Checksum::default().with(&packet[..len]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn judged(path: &Path, packet: &[u8]) -> (Fit, Vec<u8>) {
    let (mut leaving, mut answer) = (Rewrite::new(), Rewrite::new());
    leaving.load(packet).unwrap();
    let mut bucket = TokenBucket::new(1, 1);
    let fit = path.fit(&leaving, packet, &mut bucket, 0, &mut answer);
    (fit, whole(&answer, packet))
}

fn whole(rewrite: &Rewrite, packet: &[u8]) -> Vec<u8> {
    let mut place = vec![0; 70_000];
    let len = rewrite.copy_to(packet, &mut place).unwrap();
    place.truncate(len);
    place
}

fn pieces(mut fragments: Fragments, packet: &[u8]) -> Vec<Vec<u8>> {
    let (mut pieces, mut place) = (Vec::new(), Rewrite::new());
    while fragments.next_into(&mut place) {
        pieces.push(whole(&place, packet));
    }
    pieces
}

/// What a receiver of the fragments gets: protocol and payload.
fn reassembled(pieces: &[Vec<u8>]) -> Option<(u8, Vec<u8>)> {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    for piece in pieces {
        let ip = parse_ip(piece).unwrap();
        if let Some(packet) = reassembler.push(&ip, 0).unwrap() {
            return Some((packet.protocol, packet.payload.to_vec()));
        }
    }
    None
}

#[test]
fn the_overhead_of_a_tunnel_is_that_of_its_headers() {
    let overhead = |outer, header| Encapsulation::Gtpu { outer, header }.overhead();

    assert_eq!(Encapsulation::Plain.overhead(), 0);
    assert_eq!(overhead(OuterFamily::Ipv4, GtpuHeader::Plain), 36);
    assert_eq!(
        overhead(OuterFamily::Ipv6, GtpuHeader::PduSessionContainer),
        64
    );
    let container = overhead(OuterFamily::Ipv4, GtpuHeader::PduSessionContainer);
    assert_eq!(container, 44);
    assert_eq!(path(1500).inner_mtu(), 1456);
}

#[test]
fn a_path_that_leaves_too_little_is_refused() {
    let around = Encapsulation::Gtpu {
        outer: OuterFamily::Ipv6,
        header: GtpuHeader::Plain,
    };
    let made = |mtu| Path::try_new(mtu, around, GATEWAY_V4, GATEWAY_V6);

    assert!(made(632).is_ok());
    assert_eq!(
        made(631),
        Err(PathError::TooNarrow {
            mtu: 631,
            inner: 575
        })
    );
}

#[test]
fn what_fits_exactly_is_sent_whole() {
    for v6 in [false, true] {
        assert!(matches!(
            judged(&path(1500), &packet(v6, 1456)).0,
            Fit::Whole
        ));
        assert!(!matches!(
            judged(&path(1500), &packet(v6, 1457)).0,
            Fit::Whole
        ));
    }
}

#[test]
fn a_sender_that_forbids_fragments_learns_the_mtu() {
    for (v6, family, len) in [(false, IcmpFamily::V4, 576), (true, IcmpFamily::V6, 1280)] {
        let packet = with_df(packet(v6, 1500));

        let (fit, answer) = judged(&path(1500), &packet);

        assert!(matches!(fit, Fit::Answered));
        let ip = parse_ip(&answer).unwrap();
        let about = parse_ip(&packet).unwrap();
        assert_eq!((answer.len(), ip.total_len as usize), (len, len));
        assert_eq!(ip.dst, about.src);
        let gateway = if v6 {
            IpAddr::V6(GATEWAY_V6)
        } else {
            IpAddr::V4(GATEWAY_V4)
        };
        assert_eq!(ip.src, gateway);
        let message = parse_icmp(family, ip.payload).unwrap();
        assert_eq!(message.rest, 1456);
        let expected = if v6 { (2, 0) } else { (3, 4) };
        assert_eq!((message.message_type, message.code), expected);
        assert_eq!(message.body, &packet[..message.body.len()]);
        let sum = if v6 {
            transport_checksum(ip.src, ip.dst, protocol::ICMPV6, ip.payload)
        } else {
            Checksum::default().with(ip.payload).finish()
        };
        assert_eq!(sum, 0);
        assert!(v6 || Checksum::default().with(&answer[..20]).finish() == 0);
    }
}

fn with_df(packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        with_fragment_word(packet, DONT_FRAGMENT)
    } else {
        packet
    }
}

#[test]
fn there_is_no_answer_where_the_standards_forbid_one() {
    let from_to = |src: &str, dst: &str| {
        let envelope = IpEnvelope::new(src.parse().unwrap(), dst.parse().unwrap());
        with_df(envelope.wrap(protocol::UDP, &[0; 1500]).unwrap())
    };
    let error = |src: &str, dst: &str, kind| {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        with_df(build::icmp_packet(src, dst, (kind, 0, 0), &[0; 1500]).unwrap())
    };
    let later = with_fragment_word(packet(false, 1500), DONT_FRAGMENT | 5);
    for packet in [
        later,
        from_to("192.0.2.1", "224.0.0.1"),
        from_to("192.0.2.1", "255.255.255.255"),
        from_to("0.0.0.0", "10.45.0.2"),
        from_to("239.1.1.1", "10.45.0.2"),
        from_to("2001:db8::1", "ff02::1"),
        from_to("::", "2001:db8::2"),
        error("192.0.2.1", "10.45.0.2", 3),
        error("2001:db8::1", "2001:db8::2", 1),
        error("2001:db8::1", "2001:db8::2", 137),
    ] {
        let fit = judged(&path(1500), &packet).0;
        assert!(
            matches!(fit, Fit::Dropped(TooBigReason::NoAnswerAllowed)),
            "{fit:?}"
        );
    }
    let echo = error("192.0.2.1", "10.45.0.2", 8);
    assert!(matches!(judged(&path(1500), &echo).0, Fit::Answered));
}

#[test]
fn answers_are_limited_by_the_bucket() {
    let (packet, path) = (with_df(packet(false, 1500)), path(1500));
    let (mut leaving, mut answer) = (Rewrite::new(), Rewrite::new());
    leaving.load(&packet).unwrap();
    let mut bucket = TokenBucket::new(1, 2);
    let mut fit = |now| path.fit(&leaving, &packet, &mut bucket, now, &mut answer);

    assert!(matches!(fit(0), Fit::Answered));
    assert!(matches!(fit(0), Fit::Answered));
    assert!(matches!(fit(0), Fit::Dropped(TooBigReason::RateLimited)));
    assert!(matches!(fit(1_000_000_000), Fit::Answered));
}

#[test]
fn short_ipv6_through_a_narrow_tunnel_is_left_to_outer_fragments() {
    let narrow = path(1000);

    assert!(matches!(
        judged(&narrow, &packet(true, 1280)).0,
        Fit::OuterFragments
    ));
    let (fit, answer) = judged(&narrow, &packet(true, 1281));
    assert!(matches!(fit, Fit::Answered));
    let ip = parse_ip(&answer).unwrap();
    assert_eq!(parse_icmp(IcmpFamily::V6, ip.payload).unwrap().rest, 1280);
}

#[test]
fn later_fragments_repeat_only_the_options_that_are_copied() {
    // Record route (not copied), stream id (copied), padding.
    let options = [7, 3, 4, 0x88, 4, 1, 2, 0];
    let envelope = IpEnvelope::new("192.0.2.1".parse().unwrap(), "10.45.0.2".parse().unwrap());
    let packet = envelope
        .with_options(&options)
        .wrap(protocol::UDP, &[5; 2000])
        .unwrap();

    let Fit::Fragments(fragments) = judged(&path(1500), &packet).0 else {
        panic!("fragments")
    };
    let pieces = pieces(fragments, &packet);

    assert_eq!(pieces.len(), 2);
    assert_eq!(pieces[0][20..28], options);
    assert_eq!(
        (pieces[1][0], &pieces[1][20..24]),
        (0x46, &[0x88, 4, 1, 2][..])
    );
}

#[test]
fn a_fragment_is_cut_further_and_keeps_its_place() {
    // Offset 800, more follow.
    let packet = with_fragment_word(packet(false, 20 + 1600), 0x2000 | 100);

    let Fit::Fragments(fragments) = judged(&path(1100), &packet).0 else {
        panic!("fragments")
    };
    let pieces = pieces(fragments, &packet);

    let places: Vec<(u32, u32, bool)> = pieces
        .iter()
        .map(|piece| {
            let ip = parse_ip(piece).unwrap();
            let fragment = ip.fragment.unwrap();
            (fragment.offset, ip.payload_len, fragment.more)
        })
        .collect();
    assert_eq!(places, [(800, 1032, true), (1832, 568, true)]);
}

proptest! {
    #[test]
    fn fragments_fit_have_right_headers_and_give_the_packet_back(
        len in 600..9000_usize, mtu in 620..2000_u16, options in 0..4_usize, id: u16,
    ) {
        let envelope = IpEnvelope { id, ..IpEnvelope::new(GATEWAY_V4.into(), GATEWAY_V4.into()) };
        let options = vec![1; options * 4];
        let payload = pattern(len);
        let packet = envelope.with_options(&options).wrap(protocol::UDP, &payload).unwrap();
        let path = path(mtu);

        let (fit, _) = judged(&path, &packet);

        match fit {
            Fit::Whole => prop_assert!(packet.len() <= usize::from(path.inner_mtu())),
            Fit::Fragments(fragments) => {
                let pieces = pieces(fragments, &packet);
                for piece in &pieces {
                    let ip = parse_ip(piece).unwrap();
                    prop_assert!(piece.len() <= usize::from(path.inner_mtu()));
                    prop_assert_eq!(ip.total_len as usize, piece.len());
                    prop_assert_eq!(ip.fragment.unwrap().id, u32::from(id));
                    let header = &piece[..usize::from(ip.header_len)];
                    prop_assert_eq!(Checksum::default().with(header).finish(), 0);
                }
                prop_assert_eq!(reassembled(&pieces), Some((protocol::UDP, payload)));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    // What NAT64 makes of an IPv4 packet that may be fragmented: IPv6 fragments.
    #[test]
    fn ipv6_made_of_ipv4_is_fragmented_with_its_id(len in 1300..9000_usize, id: u16) {
        let mut received = vec![0x45, 0, 0, 0];
        received.extend_from_slice(&id.to_be_bytes());
        received.extend_from_slice(&[0; 14]);
        let packet = packet(true, len);
        let (mut leaving, mut answer) = (Rewrite::new(), Rewrite::new());
        leaving.load(&packet).unwrap();
        let fit = path(1340).fit(&leaving, &received, &mut TokenBucket::new(1, 1), 0, &mut answer);

        let Fit::Fragments(fragments) = fit else { panic!("{fit:?}") };
        let pieces = pieces(fragments, &packet);

        for piece in &pieces {
            let ip = parse_ip(piece).unwrap();
            prop_assert!(piece.len() <= 1296);
            prop_assert_eq!(ip.total_len as usize, piece.len());
            prop_assert_eq!(ip.fragment.unwrap().id, u32::from(id));
        }
        prop_assert_eq!(reassembled(&pieces), Some((protocol::UDP, packet[40..].to_vec())));
    }

    #[test]
    fn any_bytes_get_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..1700), first: bool) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = if first { 0x45 } else { 0x60 };
        }
        let len = u16::try_from(bytes.len()).unwrap();
        if let Some(place) = bytes.get_mut(2..6) {
            let [high, low] = len.to_be_bytes();
            let [body_high, body_low] = len.saturating_sub(40).to_be_bytes();
            place.copy_from_slice(&if first { [high, low, 0, 1] } else { [0, 0, body_high, body_low] });
        }
        let (mut leaving, mut answer) = (Rewrite::new(), Rewrite::new());
        if leaving.load(&bytes).is_ok() {
            let fit = path(700).fit(&leaving, &bytes, &mut TokenBucket::new(1, 1), 0, &mut answer);
            if let Fit::Fragments(fragments) = fit {
                prop_assert!(pieces(fragments, &bytes).len() < 10);
            }
        }
    }
}
