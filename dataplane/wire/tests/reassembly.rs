//! Properties of the reassembler over random fragments.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use qlink_wire::build::{IpEnvelope, fragment_packet};
use qlink_wire::{
    Fragment, IpPacket, Reassembler, ReassemblyLimits, WireError, parse_ip, protocol,
};

/// A packet of either family whose payload has no two equal 8-byte units.
fn packet(v6: bool, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len)
        .map(|n| if n % 8 < 2 { n >> (8 * (n % 8) + 3) } else { n })
        .map(|n| u8::try_from(n & 0xff).unwrap())
        .collect();
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        )
    } else {
        ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap())
    };
    IpEnvelope::new(src, dst)
        .wrap(protocol::UDP, &payload)
        .unwrap()
}

fn limits() -> ReassemblyLimits {
    ReassemblyLimits {
        datagrams: 8,
        datagrams_per_source: 3,
        bytes: 0,
        timeout_ns: 100,
    }
}

proptest! {
    #[test]
    fn any_order_of_fragments_gives_the_datagram(
        v6 in any::<bool>(),
        len in 16..20_000_usize,
        piece in 8..3_000_usize,
        swaps in vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..40),
    ) {
        let bytes = packet(v6, len);
        let mut parts = fragment_packet(&bytes, piece.min(len - 8), 77).unwrap();
        for (left, right) in swaps {
            let (left, right) = (left.index(parts.len()), right.index(parts.len()));
            parts.swap(left, right);
        }
        let mut reassembler = Reassembler::new(limits());

        let (last, others) = parts.split_last().unwrap();
        for part in others {
            prop_assert_eq!(reassembler.push(&parse_ip(part).unwrap(), 0), Ok(None));
        }
        let whole = reassembler.push(&parse_ip(last).unwrap(), 0).unwrap();

        prop_assert_eq!(whole, Some(parse_ip(&bytes).unwrap()));
    }

    #[test]
    fn copies_of_fragments_change_nothing(
        len in 100..5_000_usize,
        piece in 8..1_000_usize,
        copies in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes = packet(false, len);
        let parts = fragment_packet(&bytes, piece.min(len - 8), 77).unwrap();
        let (last, others) = parts.split_last().unwrap();
        let mut reassembler = Reassembler::new(limits());

        for part in others.iter().chain(copies.iter().map(|copy| &others[copy.index(others.len())])) {
            prop_assert_eq!(reassembler.push(&parse_ip(part).unwrap(), 0), Ok(None));
        }
        let whole = reassembler.push(&parse_ip(last).unwrap(), 0).unwrap();

        prop_assert_eq!(whole, Some(parse_ip(&bytes).unwrap()));
        prop_assert_eq!(reassembler.stats().fragments_duplicate, copies.len() as u64);
    }

    #[test]
    fn a_fragment_that_overlaps_in_part_is_refused_and_yields_no_datagram(
        len in 64..5_000_usize,
        piece in (2..100_usize).prop_map(|units| units * 8),
        start in any::<prop::sample::Index>(),
    ) {
        let bytes = packet(false, len);
        let parts = fragment_packet(&bytes, piece, 77).unwrap();
        prop_assume!(parts.len() > 2);
        // Shifted by half a piece (in whole units), so it overlaps two neighbours.
        let shift = (piece / 16).max(1) * 8;
        let index = start.index(parts.len() - 2);
        let from = index * piece + shift;
        let forged = IpPacket {
            fragment: Some(Fragment { id: 77, offset: u32::try_from(from).unwrap(), more: true }),
            payload: &bytes[20 + from..20 + from + piece.min(len - from) / 8 * 8],
            ..parse_ip(&parts[0]).unwrap()
        };
        let forged = IpPacket { payload_len: u32::try_from(forged.payload.len()).unwrap(), ..forged };
        let mut reassembler = Reassembler::new(limits());

        prop_assert_eq!(reassembler.push(&parse_ip(&parts[index]).unwrap(), 0), Ok(None));
        prop_assert_eq!(reassembler.push(&forged, 0), Err(WireError::FragmentOverlap));
        for part in &parts {
            let later = reassembler.push(&parse_ip(part).unwrap(), 0);
            prop_assert_eq!(later, Err(WireError::FragmentOverlap));
        }
    }

    #[test]
    fn bounds_hold_under_random_fragments(
        fragments in vec(
            (0..6_u8, 0..4_u32, 0..8_192_u32, any::<bool>(), 1..4_000_usize, 0..20_u64),
            1..300,
        ),
    ) {
        let payload = [0x5a; 4_000];
        let bytes = packet(false, 16);
        let mut reassembler = Reassembler::new(limits());
        let (mut now, mut completed) = (0, 0);

        for (host, id, units, more, len, wait) in fragments {
            now += wait;
            let fragment = Fragment { id, offset: units * 8, more };
            let parsed = IpPacket {
                src: IpAddr::from([10, 0, 0, host]),
                fragment: Some(fragment),
                payload: &payload[..len],
                payload_len: u32::try_from(len).unwrap(),
                ..parse_ip(&bytes).unwrap()
            };
            if let Ok(Some(whole)) = reassembler.push(&parsed, now) {
                completed += 1;
                prop_assert!(whole.fragment.is_none() && whole.total_len <= 65_535);
            }
            prop_assert!(reassembler.pending() <= 8);
            prop_assert!(reassembler.pending_bytes() <= 64 << 10);
        }

        prop_assert_eq!(reassembler.stats().datagrams_completed, completed);
        reassembler.expire(now + 101);
        prop_assert_eq!((reassembler.pending(), reassembler.pending_bytes()), (0, 0));
    }
}
