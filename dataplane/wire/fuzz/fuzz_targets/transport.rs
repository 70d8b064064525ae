//! UDP, TCP and ICMP: the payload is no longer than what was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_wire::{IcmpFamily, parse_icmp, parse_ip, parse_tcp, parse_udp};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(udp) = parse_udp(bytes) {
        assert!(udp.payload.len() + 8 <= bytes.len().min(usize::from(udp.length)));
    }
    if let Ok(tcp) = parse_tcp(bytes) {
        assert_eq!(tcp.payload.len() + usize::from(tcp.header_len), bytes.len());
    }
    for family in [IcmpFamily::V4, IcmpFamily::V6] {
        if let Ok(icmp) = parse_icmp(family, bytes) {
            let _ = icmp.quoted().map(parse_ip);
        }
    }
});
