use super::*;
use crate::build::{self, IpEnvelope, Ipv6Extension};
use crate::{parse_ip, protocol};

const LIMITS: ReassemblyLimits = ReassemblyLimits {
    datagrams: 4,
    datagrams_per_source: 2,
    bytes: 64 << 10,
    timeout_ns: 1_000,
};

fn packet(src: &str, dst: &str, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len)
        .map(|n| u8::try_from(n * 31 % 251).unwrap())
        .collect();
    build::udp_packet(src.parse().unwrap(), dst.parse().unwrap(), &payload).unwrap()
}

fn fragments(host: u8, len: usize, id: u32) -> Vec<Vec<u8>> {
    let packet = packet(&format!("10.0.0.{host}:2152"), "10.9.9.9:2152", len);
    build::fragment_packet(&packet, 1480, id).unwrap()
}

/// Pushes and gives the length of what was completed.
fn push(reassembler: &mut Reassembler, bytes: &[u8], now: u64) -> Result<Option<usize>, WireError> {
    let parsed = parse_ip(bytes).unwrap();
    reassembler
        .push(&parsed, now)
        .map(|whole| whole.map(|whole| whole.payload.len()))
}

#[test]
fn a_whole_packet_passes_untouched() {
    let bytes = packet("10.0.0.1:1", "10.0.0.2:2", 10);
    let parsed = parse_ip(&bytes).unwrap();
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(reassembler.push(&parsed, 0), Ok(Some(parsed)));
    assert_eq!(reassembler.pending(), 0);
}

#[test]
fn fragments_give_the_packet_that_was_fragmented() {
    for (src, dst) in [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00::1]:1", "[fd00::2]:2")] {
        for len in [9, 1480, 4000, 65_000] {
            let bytes = packet(src, dst, len);
            let whole = parse_ip(&bytes).unwrap();
            let mut reassembler = Reassembler::new(LIMITS);

            let mut parts = build::fragment_packet(&bytes, 1480, 5).unwrap();
            parts.reverse();
            if parts.len() == 1 {
                parts = build::fragment_packet(&bytes, 8, 5).unwrap();
            }
            let (last, others) = parts.split_last().unwrap();
            for part in others {
                assert_eq!(push(&mut reassembler, part, 0), Ok(None));
            }

            assert_eq!(
                reassembler.push(&parse_ip(last).unwrap(), 0),
                Ok(Some(whole))
            );
            assert_eq!((reassembler.pending(), reassembler.pending_bytes()), (0, 0));
        }
    }
}

#[test]
fn ipv6_extension_headers_around_the_fragment_header_are_restored() {
    let chain = [
        Ipv6Extension {
            kind: protocol::HOP_BY_HOP,
            content: &[0; 6],
        },
        Ipv6Extension {
            kind: protocol::DESTINATION_OPTIONS,
            content: &[0; 14],
        },
    ];
    let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    let bytes = IpEnvelope::new(src, dst)
        .with_extensions(&chain)
        .wrap(protocol::UDP, &[3; 500])
        .unwrap();
    let mut reassembler = Reassembler::new(LIMITS);

    let parts = build::fragment_packet(&bytes, 200, 1).unwrap();
    let (last, others) = parts.split_last().unwrap();
    for part in others {
        assert_eq!(push(&mut reassembler, part, 0), Ok(None));
    }

    let whole = parse_ip(&bytes).unwrap();
    assert_eq!(
        reassembler.push(&parse_ip(last).unwrap(), 0),
        Ok(Some(whole))
    );
}

#[test]
fn interleaved_datagrams_do_not_mix() {
    let (first, second) = (fragments(1, 2000, 1), fragments(1, 2500, 2));
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(push(&mut reassembler, &first[0], 0), Ok(None));
    assert_eq!(push(&mut reassembler, &second[1], 0), Ok(None));
    assert_eq!(push(&mut reassembler, &first[1], 0), Ok(Some(2008)));
    assert_eq!(push(&mut reassembler, &second[0], 0), Ok(Some(2508)));
}

#[test]
fn an_exact_copy_of_a_fragment_is_ignored() {
    let parts = fragments(1, 4000, 1);
    let mut reassembler = Reassembler::new(LIMITS);

    for part in [&parts[0], &parts[0], &parts[2], &parts[2]] {
        assert_eq!(push(&mut reassembler, part, 0), Ok(None));
    }

    assert_eq!(push(&mut reassembler, &parts[1], 0), Ok(Some(4008)));
    assert_eq!(reassembler.stats().fragments_duplicate, 2);
    assert_eq!(reassembler.stats().fragments_accepted, 3);
}

#[test]
fn an_overlap_discards_the_datagram_until_its_time_is_over() {
    let parts = fragments(1, 4000, 1);
    let mut forged = parts[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(push(&mut reassembler, &parts[0], 0), Ok(None));
    for part in [&forged, &parts[1], &parts[2], &parts[0]] {
        assert_eq!(
            push(&mut reassembler, part, 1_000),
            Err(WireError::FragmentOverlap)
        );
    }
    assert_eq!((reassembler.pending(), reassembler.pending_bytes()), (1, 0));
    assert_eq!(reassembler.stats().fragments_poisoned, 1);

    assert_eq!(push(&mut reassembler, &parts[0], 1_001), Ok(None));
}

#[test]
fn a_partial_overlap_is_refused_even_with_equal_bytes() {
    let packet = packet("10.0.0.1:1", "10.9.9.9:2", 4000);
    let (coarse, fine) = (
        build::fragment_packet(&packet, 1480, 1).unwrap(),
        build::fragment_packet(&packet, 1000, 1).unwrap(),
    );
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(push(&mut reassembler, &coarse[0], 0), Ok(None));
    assert_eq!(
        push(&mut reassembler, &fine[1], 0),
        Err(WireError::FragmentOverlap)
    );
}

#[test]
fn fragments_that_disagree_about_the_end_are_refused() {
    let (short, long) = (fragments(1, 1600, 1), fragments(1, 3000, 1));
    // The long datagram reaches behind the end of the short one, in either order.
    for (first, second) in [
        (&short[1], &long[2]),
        (&long[2], &short[1]),
        (&long[1], &short[1]),
    ] {
        let mut reassembler = Reassembler::new(LIMITS);
        assert_eq!(push(&mut reassembler, first, 0), Ok(None));
        assert_eq!(
            push(&mut reassembler, second, 0),
            Err(WireError::FragmentOverlap)
        );
    }
}

#[test]
fn a_datagram_is_given_up_after_its_time() {
    let parts = fragments(1, 2000, 1);
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(push(&mut reassembler, &parts[0], 500), Ok(None));
    assert_eq!(reassembler.expire(1_500), 0);
    assert_eq!(push(&mut reassembler, &parts[1], 1_501), Ok(None));

    assert_eq!(reassembler.stats().fragments_expired, 1);
    assert_eq!(reassembler.pending(), 1);
    assert_eq!(reassembler.expire(2_502), 1);
    assert_eq!((reassembler.pending(), reassembler.pending_bytes()), (0, 0));
}

#[test]
fn a_clock_that_steps_back_expires_nothing() {
    let parts = fragments(1, 2000, 1);
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(push(&mut reassembler, &parts[0], 5_000), Ok(None));
    assert_eq!(push(&mut reassembler, &parts[1], 0), Ok(Some(2008)));
}

#[test]
fn one_source_cannot_take_the_whole_table_and_all_sources_cannot_exceed_it() {
    let mut reassembler = Reassembler::new(LIMITS);
    let mut first = |host, id| push(&mut reassembler, &fragments(host, 2000, id)[0], 0);

    assert_eq!((first(1, 1), first(1, 2)), (Ok(None), Ok(None)));
    assert_eq!(first(1, 3), Err(WireError::FragmentTableFull));
    assert_eq!((first(2, 1), first(3, 1)), (Ok(None), Ok(None)));
    assert_eq!(first(4, 1), Err(WireError::FragmentTableFull));

    assert_eq!(
        push(&mut reassembler, &fragments(1, 2000, 1)[1], 0),
        Ok(Some(2008))
    );
    assert_eq!(
        push(&mut reassembler, &fragments(4, 2000, 1)[0], 0),
        Ok(None)
    );
}

#[test]
fn memory_is_bounded_and_a_refused_fragment_leaves_nothing_behind() {
    let mut reassembler = Reassembler::new(LIMITS); // 32 blocks
    let big = build::fragment_packet(&packet("10.0.0.1:1", "10.0.0.9:2", 65_000), 60_000, 1);
    let (big, small) = (big.unwrap(), fragments(2, 9_000, 1));

    assert_eq!(push(&mut reassembler, &big[0], 0), Ok(None)); // 30 blocks
    assert_eq!(push(&mut reassembler, &small[0], 0), Ok(None)); // 31
    assert_eq!(push(&mut reassembler, &small[1], 0), Ok(None)); // 32
    assert_eq!(
        push(&mut reassembler, &small[2], 0),
        Err(WireError::FragmentMemoryFull)
    );
    let held = reassembler.pending_bytes();
    assert_eq!(held, 32 * BLOCK_BYTES);
    let other = push(&mut reassembler, &fragments(3, 2000, 1)[0], 0);
    assert_eq!(other, Err(WireError::FragmentMemoryFull));

    assert_eq!(
        (reassembler.pending(), reassembler.pending_bytes()),
        (2, held)
    );
}

#[test]
fn cut_empty_uneven_and_oversized_fragments_are_refused() {
    let parts = fragments(1, 4000, 1);
    let mut reassembler = Reassembler::new(LIMITS);
    let mut parsed = parse_ip(&parts[0]).unwrap();

    let cut = push(&mut reassembler, &parts[0][..996], 0);
    parsed.payload = &[];
    parsed.payload_len = 0;
    let empty = reassembler.push(&parsed, 0).map(|_| ());
    parsed.payload = &[1; 9];
    parsed.payload_len = 9;
    let uneven = reassembler.push(&parsed, 0).map(|_| ());
    parsed.payload = &[1; 8];
    parsed.payload_len = 8;
    parsed.fragment = Some(Fragment {
        id: 1,
        offset: 65_528,
        more: false,
    });
    let oversized = reassembler.push(&parsed, 0).map(|_| ());

    assert_eq!(cut, Err(WireError::FragmentLength));
    assert_eq!(empty, Err(WireError::FragmentLength));
    assert_eq!(uneven, Err(WireError::FragmentLength));
    assert_eq!(oversized, Err(WireError::FragmentTooLarge));
    assert_eq!(reassembler.pending(), 0);
}

#[test]
fn an_ipv4_datagram_whose_header_makes_it_too_long_is_refused() {
    let mut reassembler = Reassembler::new(LIMITS);
    let (head, tail) = (vec![0; 65_520], [0; 15]);
    let bytes = packet("10.0.0.1:1", "10.0.0.2:2", 10);
    let base = parse_ip(&bytes).unwrap();
    let part = |payload, offset, more| IpPacket {
        payload,
        payload_len: u32::try_from(payload.len()).unwrap(),
        fragment: Some(Fragment {
            id: 1,
            offset,
            more,
        }),
        ..base
    };

    assert_eq!(reassembler.push(&part(&head, 0, true), 0), Ok(None));
    let refused = reassembler.push(&part(&tail, 65_520, false), 0);

    assert_eq!(refused, Err(WireError::FragmentTooLarge));
    assert_eq!((reassembler.pending(), reassembler.pending_bytes()), (0, 0));
}

#[test]
fn protocols_are_apart_in_ipv4_and_not_in_ipv6() {
    let mut v4 = Reassembler::new(LIMITS);
    let mut parts = fragments(1, 2000, 1);
    parts[1][9] = protocol::TCP;
    assert_eq!(push(&mut v4, &parts[0], 0), Ok(None));
    assert_eq!(push(&mut v4, &parts[1], 0), Ok(None));
    assert_eq!(v4.pending(), 2);

    let mut v6 = Reassembler::new(LIMITS);
    let bytes = packet("[fd00::1]:1", "[fd00::2]:2", 2000);
    let mut parts = build::fragment_packet(&bytes, 1000, 1).unwrap();
    parts[1][40] = protocol::TCP;
    for part in &parts[..2] {
        assert_eq!(push(&mut v6, part, 0), Ok(None));
    }
    let parsed = parse_ip(&parts[2]).unwrap();
    assert_eq!(
        v6.push(&parsed, 0).unwrap().unwrap().protocol,
        protocol::UDP
    );
}

#[test]
fn the_last_fragment_again_with_more_to_follow_is_refused() {
    let parts = fragments(1, 1480, 1); // the last one carries 8 bytes
    let mut again = parts[1].clone();
    again[6] |= 0x20;
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(push(&mut reassembler, &parts[1], 0), Ok(None));
    assert_eq!(
        push(&mut reassembler, &again, 0),
        Err(WireError::FragmentOverlap)
    );
}

#[test]
fn blocks_of_a_discarded_datagram_are_given_out_once() {
    let (first, second) = (fragments(1, 2000, 1), fragments(2, 2000, 1));
    let mut forged = first[0].clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut reassembler = Reassembler::new(LIMITS);

    assert_eq!(push(&mut reassembler, &first[0], 0), Ok(None));
    assert_eq!(
        push(&mut reassembler, &forged, 0),
        Err(WireError::FragmentOverlap)
    );
    assert_eq!(reassembler.expire(2_000), 1);

    assert_eq!(push(&mut reassembler, &first[0], 2_000), Ok(None));
    assert_eq!(push(&mut reassembler, &second[0], 2_000), Ok(None));
    assert_eq!(reassembler.pending_bytes(), 2 * BLOCK_BYTES);
    let whole = packet("10.0.0.1:2152", "10.9.9.9:2152", 2000);
    let completed = reassembler.push(&parse_ip(&first[1]).unwrap(), 2_000);
    assert_eq!(
        completed.unwrap().unwrap().payload,
        parse_ip(&whole).unwrap().payload
    );
}
