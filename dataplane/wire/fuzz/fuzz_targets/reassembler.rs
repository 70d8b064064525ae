//! The reassembler: bounds hold, and a completed datagram has the bytes of its fragments.
//!
//! Input: records of 6 bytes {host, id, offset high, offset low, flags, length}. Each fragment's
//! bytes are a function of host, id and position, unless a flag spoils them: without spoiled
//! fragments every completed datagram must be that function.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use qlink_wire::{Fragment, IpPacket, Reassembler, ReassemblyLimits, protocol};

const MORE: u8 = 1;
const SPOIL: u8 = 2;
const V6: u8 = 4;

fn octet(host: u8, id: u8, position: usize) -> u8 {
    (position as u8)
        .wrapping_mul(31)
        .wrapping_add((position >> 8) as u8)
        ^ host
        ^ id.rotate_left(4)
}

fn address(v6: bool, host: u8) -> IpAddr {
    if v6 {
        let mut octets = [0; 16];
        octets[15] = host;
        IpAddr::from(octets)
    } else {
        IpAddr::from([10, 0, 0, host])
    }
}

fuzz_target!(|records: &[u8]| {
    let limits = ReassemblyLimits {
        datagrams: 8,
        datagrams_per_source: 4,
        bytes: 0,
        timeout_ns: 64,
    };
    let mut reassembler = Reassembler::new(limits);
    let (mut spoiled, mut now) = (false, 0);
    for record in records.chunks_exact(6).take(512) {
        let [host, id, high, low, flags, length] = record else {
            return;
        };
        let (host, id, v6) = (host & 3, id & 3, flags & V6 != 0);
        let offset = (usize::from(*high & 0x1f) << 8 | usize::from(*low)) * 8;
        let length = (usize::from(*length) + 1) * 8 - usize::from(flags >> 5);
        let mut payload: Vec<u8> = (offset..offset + length)
            .map(|position| octet(host, id, position))
            .collect();
        if flags & SPOIL != 0 {
            spoiled = true;
            payload[0] ^= 0xff;
        }
        now += u64::from(flags >> 3 & 3);
        let packet = IpPacket {
            src: address(v6, host),
            dst: address(v6, 9),
            protocol: protocol::UDP,
            total_len: 0,
            header_len: if v6 { 48 } else { 20 },
            fragment: Some(Fragment {
                id: u32::from(id),
                offset: offset as u32,
                more: flags & MORE != 0,
            }),
            payload: &payload,
            payload_len: payload.len() as u32,
        };
        if let Ok(Some(whole)) = reassembler.push(&packet, now) {
            assert!(whole.fragment.is_none());
            assert_eq!(whole.payload.len(), whole.payload_len as usize);
            let expected = (0..whole.payload.len()).map(|position| octet(host, id, position));
            assert!(spoiled || whole.payload.iter().copied().eq(expected));
        }
        assert!(reassembler.pending() <= 8 && reassembler.pending_bytes() <= 64 << 10);
    }
    reassembler.expire(u64::MAX);
    assert_eq!((reassembler.pending(), reassembler.pending_bytes()), (0, 0));
});
