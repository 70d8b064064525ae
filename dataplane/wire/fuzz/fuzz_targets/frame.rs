//! A frame from its link header to the innermost transport header, as the pipeline reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_wire::{
    LinkType, WireError, parse_gtpu, parse_ip, parse_tcp, parse_udp, protocol, strip_link,
};

fn follow(frame: &[u8]) -> Result<(), WireError> {
    let outer = parse_ip(strip_link(LinkType::Ethernet, frame)?)?;
    if outer.fragment.is_some() || outer.protocol != protocol::UDP {
        return Ok(());
    }
    let inner = parse_ip(parse_gtpu(parse_udp(outer.payload)?.payload)?.payload)?;
    match inner.protocol {
        protocol::TCP => parse_tcp(inner.payload).map(drop),
        protocol::UDP => parse_udp(inner.payload).map(drop),
        _ => Ok(()),
    }
}

fuzz_target!(|frame: &[u8]| {
    let _ = follow(frame);
});
