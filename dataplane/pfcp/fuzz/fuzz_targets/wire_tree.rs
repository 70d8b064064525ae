//! Arbitrary trees of IEs in whole messages: known and unknown, nested, repeated, out of order,
//! with lengths that lie, and with pieces of messages that are right.
#![no_main]

#[path = "../../tests/wire/arbitrary/mod.rs"]
mod arbitrary;
mod checks;

use arbitrary::{Source, message, message_of};
use libfuzzer_sys::fuzz_target;
use qlink_pfcp::wire::{Codec, ENTERPRISE_ID, Header, IeType, Message, MessageType};

/// Longest value and body.
const LONGEST: usize = 40_000;

/// Deeper than any message.
const DEEPEST: u8 = 6;

fn element(source: &mut Source<'_>, depth: u8, out: &mut Vec<u8>) {
    let start = out.len();
    let kind = match source.below(8) {
        0 => IeType::new(source.u16()),
        _ => IeType::NAMED[usize::from(source.u8()) % IeType::NAMED.len()],
    };
    let mut value = Vec::new();
    if kind.is_vendor() {
        let enterprise = if source.coin() {
            ENTERPRISE_ID
        } else {
            source.u16()
        };
        value.extend_from_slice(&enterprise.to_be_bytes());
    }
    if depth < DEEPEST && source.coin() {
        for _ in 0..source.below(8) {
            element(source, depth + 1, &mut value);
            value.truncate(LONGEST);
        }
    } else {
        value.extend((0..source.below(40)).map(|_| source.u8()));
    }
    let length = match source.below(16) {
        0 => source.u16(),
        _ => u16::try_from(value.len()).unwrap_or(u16::MAX),
    };
    out.extend_from_slice(&kind.get().to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&value);
    if source.below(8) == 0 {
        out.extend_from_within(start..);
    }
}

/// The IEs of a message that is right.
fn body((header, message): (Header, Message)) -> Vec<u8> {
    let datagram = Codec::default()
        .encode(&header, &message)
        .unwrap_or_default();
    let head = if message.kind().is_session() { 16 } else { 8 };
    datagram.get(head..).unwrap_or_default().to_vec()
}

fuzz_target!(|data: &[u8]| {
    let source = &mut Source::new(data);
    let kind = MessageType::KNOWN[usize::from(source.u8()) % MessageType::KNOWN.len()];
    let mut tree = Vec::new();
    for _ in 0..source.below(12) {
        match source.below(4) {
            0 => tree.extend(body(message_of(source, kind))),
            1 => {
                let piece = body(message(source));
                let cut = usize::from(source.u16()) % (piece.len() + 1);
                tree.extend_from_slice(&piece[cut..]);
            }
            _ => element(source, 0, &mut tree),
        }
        tree.truncate(LONGEST);
    }
    let mut head = Vec::new();
    if kind.is_session() {
        head.extend_from_slice(&source.u64().to_be_bytes());
    }
    head.extend_from_slice(&[0, 0, 1, 0]);
    let length = u16::try_from(head.len() + tree.len()).unwrap_or(u16::MAX);
    let mut datagram = vec![0x20 | u8::from(kind.is_session()), kind.get()];
    datagram.extend_from_slice(&length.to_be_bytes());
    datagram.extend(head);
    datagram.extend(tree);
    checks::check_datagram(&datagram);
});
