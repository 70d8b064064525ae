//! Messages made from bytes: the same bytes make the same message, so that random bytes, a
//! shrinking test runner and a fuzzer can all drive it. The fuzz targets include this folder.

mod messages;
pub(crate) mod rules;
mod source;
mod values;

use qlink_pfcp::model::Seid;
use qlink_pfcp::wire::{Header, Message, MessageType, Sequence};

pub(crate) use source::Source;

/// A message of a type with its header.
pub(crate) fn message_of(s: &mut Source<'_>, kind: MessageType) -> (Header, Message) {
    let sequence = Sequence::new(s.u32());
    if !kind.is_session() {
        return (Header::node(sequence), messages::node_message(s, kind));
    }
    let header = Header {
        priority: s.maybe(|s| s.below(16)),
        ..Header::session(Seid::new(s.u64()), sequence)
    };
    (header, messages::session_message(s, kind))
}

/// Any message with its header.
pub(crate) fn message(s: &mut Source<'_>) -> (Header, Message) {
    let index = usize::from(s.u8()) % MessageType::KNOWN.len();
    message_of(s, MessageType::KNOWN[index])
}
