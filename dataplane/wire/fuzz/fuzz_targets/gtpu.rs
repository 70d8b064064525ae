//! GTP-U: the payload is the tail of what the length states; control messages never panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_wire::{error_indication, parse_error_indication, parse_gtpu};

fuzz_target!(|bytes: &[u8]| {
    let Ok(gtpu) = parse_gtpu(bytes) else { return };
    let stated = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    let end = bytes.len().min(stated + 8);
    assert!(bytes[..end].ends_with(gtpu.payload));
    assert!(usize::from(gtpu.payload_len) <= stated);
    if let Ok(indicated) = parse_error_indication(gtpu.payload) {
        let message = error_indication(indicated.teid, indicated.peer);
        let again = parse_gtpu(&message).and_then(|gtpu| parse_error_indication(gtpu.payload));
        assert_eq!(again, Ok(indicated));
    }
});
