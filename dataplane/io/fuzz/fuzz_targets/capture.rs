//! The capture readers on arbitrary bytes: they end, never panic, and never invent bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_io::pcap::PcapSource;
use qlink_io::{Burst, IoError, PacketSource};

fuzz_target!(|data: &[u8]| {
    let Ok(mut source) = PcapSource::new(data) else {
        return;
    };
    let mut burst = Burst::new();
    let mut bytes = 0;
    while let Ok(count) = source.recv_burst(&mut burst) {
        assert!(count > 0);
        for descriptor in &burst {
            assert!(descriptor.orig_len >= descriptor.len);
            assert_eq!(source.frame(descriptor).len(), descriptor.len as usize);
            bytes += source.frame(descriptor).len();
        }
    }
    assert!(bytes <= data.len());
    assert!(matches!(source.recv_burst(&mut burst), Err(IoError::End)));
});
