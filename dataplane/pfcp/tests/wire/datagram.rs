//! Headers, and several messages in one datagram.

use qlink_pfcp::model::{Seid, Time};
use qlink_pfcp::wire::{
    Codec, DecodeError, EncodeError, Header, HeaderError, HeartbeatRequest, MAX_BUNDLE, Message,
    MessageType, Sequence, SessionDeletionRequest,
};

use crate::captures::hex;

fn heartbeat(number: u32) -> (Header, Message) {
    let recovery = Time::new(1_700_000_000);
    (
        Header::node(Sequence::new(number)),
        HeartbeatRequest { recovery }.into(),
    )
}

fn deletion() -> (Header, Message) {
    let header = Header {
        priority: Some(9),
        ..Header::session(Seid::new(0x0102_0304_0506_0708), Sequence::new(0x00ab_cdef))
    };
    (header, SessionDeletionRequest {}.into())
}

/// Octets written out by hand from the figures of §7.2.2.
#[test]
fn headers_have_the_standards_layout() {
    let codec = Codec::default();
    let (header, message) = deletion();
    let session = codec.encode(&header, &message).unwrap();
    let (header, message) = heartbeat(2);
    let node = codec.encode(&header, &message).unwrap();

    assert_eq!(session, hex("2336000c0102030405060708abcdef90"));
    assert_eq!(node, hex("2001000c0000020000600004e8fe6f80"));
}

#[test]
fn messages_of_one_datagram_are_read_in_order() {
    let (first, second) = (heartbeat(7), deletion());

    let datagram = Codec::default()
        .encode_datagram(&[(first.0, &first.1), (second.0, &second.1)])
        .unwrap();

    let read: Result<Vec<_>, _> = Codec::default().decode_datagram(&datagram).collect();
    assert_eq!(read.unwrap(), [first, second]);
}

#[test]
fn a_datagram_of_two_is_not_taken_for_one() {
    let (first, second) = (heartbeat(7), deletion());
    let datagram = Codec::default()
        .encode_datagram(&[(first.0, &first.1), (second.0, &second.1)])
        .unwrap();

    let read = Codec::default().decode(&datagram);

    let octets = 16;
    assert_eq!(
        read,
        Err(DecodeError::Header(HeaderError::Trailing { octets }))
    );
}

#[test]
fn a_bundle_longer_than_the_bound_ends_with_an_error() {
    let messages: Vec<_> = (0..=MAX_BUNDLE).map(|_| heartbeat(1)).collect();
    let parts: Vec<_> = messages
        .iter()
        .map(|(header, message)| (*header, message))
        .collect();
    let datagram = Codec::default().encode_datagram(&parts).unwrap();

    let read: Vec<_> = Codec::default().decode_datagram(&datagram).collect();

    assert_eq!(read.len(), MAX_BUNDLE + 1);
    let last = read.last().unwrap();
    assert_eq!(*last, Err(DecodeError::Header(HeaderError::TooMany)));
}

#[test]
fn another_version_is_told_with_its_sequence_number() {
    let datagram = hex("4036000c0102030405060708abcdef90");

    let read = Codec::default().decode(&datagram);

    let error = HeaderError::Version {
        found: 2,
        sequence: Sequence::new(0x0001_0203),
    };
    assert_eq!(read, Err(DecodeError::Header(error)));
}

#[test]
fn a_header_that_does_not_fit_its_message_is_refused_both_ways() {
    let (node, _) = heartbeat(1);
    let (_, session) = deletion();
    let kind = MessageType::SESSION_DELETION_REQUEST;

    let written = Codec::default().encode(&node, &session);
    let read = Codec::default().decode(&hex("2036000400000100"));

    assert!(matches!(written, Err(EncodeError::Value { .. })));
    assert_eq!(
        read,
        Err(DecodeError::Header(HeaderError::SeidFlag { kind }))
    );
}

#[test]
fn short_and_overlong_datagrams_are_refused() {
    let (header, message) = heartbeat(2);
    let whole = Codec::default().encode(&header, &message).unwrap();
    let mut longer = whole.clone();
    longer.push(0);

    for length in 0..whole.len() {
        let read = Codec::default().decode(&whole[..length]);
        assert_eq!(read, Err(DecodeError::Header(HeaderError::TooShort)));
    }
    assert_eq!(
        Codec::default().decode(&longer),
        Err(DecodeError::Header(HeaderError::Trailing { octets: 1 }))
    );
}

#[test]
fn an_unknown_type_of_message_is_no_defect() {
    let kind = MessageType::new(42);

    let read = Codec::default().decode(&hex("202a000400000100"));

    assert_eq!(read, Err(DecodeError::UnknownType { kind }));
}

#[test]
fn sequence_numbers_wrap_at_24_bits() {
    assert_eq!(Sequence::new(0x00ff_ffff).next(), Sequence::new(0));
}
