//! Arbitrary bytes as a datagram.
#![no_main]

mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| checks::check_datagram(data));
