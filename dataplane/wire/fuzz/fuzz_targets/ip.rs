//! IPv4 and IPv6 headers: the stated lengths add up and the payload stays inside them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_wire::parse_ip;

fuzz_target!(|bytes: &[u8]| {
    let Ok(ip) = parse_ip(bytes) else { return };
    assert_eq!(ip.total_len, u32::from(ip.header_len) + ip.payload_len);
    assert!(ip.payload.len() as u64 <= u64::from(ip.payload_len));
    assert!(usize::from(ip.header_len) + ip.payload.len() <= bytes.len() || ip.payload.is_empty());
});
