//! The link layers: the IP packet found is the frame's own tail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_wire::{LinkType, strip_link};

fuzz_target!(|frame: &[u8]| {
    for number in [0, 1, 101, 108, 113, 276] {
        let Some(link) = LinkType::from_pcap(number) else {
            panic!("{number} is a known link type");
        };
        if let Ok(packet) = strip_link(link, frame) {
            assert!(frame.ends_with(packet));
        }
    }
});
