//! What is written is read back.

use proptest::collection::vec;
use proptest::prelude::*;
use qlink_pfcp::wire::{Codec, DecodeError, MessageType, format_flow, parse_flow};

use crate::arbitrary::rules::rule;
use crate::arbitrary::{Source, message, message_of};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_message_is_read_back_as_it_was_written(bytes in vec(any::<u8>(), 0..2500)) {
        let (header, message) = message(&mut Source::new(&bytes));

        let datagram = Codec::default().encode(&header, &message).unwrap();

        prop_assert_eq!(Codec::default().decode(&datagram).unwrap(), (header, message));
    }

    #[test]
    fn every_rule_is_read_back_from_its_flow_description(bytes in vec(any::<u8>(), 0..100)) {
        let rule = rule(&mut Source::new(&bytes));

        prop_assert_eq!(parse_flow(&format_flow(&rule)), Some(rule));
    }

    /// One octet of a right message is another: most are refused, none surprises.
    #[test]
    fn a_changed_octet_is_refused_with_a_cause_or_read_and_written_again(
        bytes in vec(any::<u8>(), 0..1500),
        place in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let (header, message) = message(&mut Source::new(&bytes));
        let mut datagram = Codec::default().encode(&header, &message).unwrap();
        let place = place.index(datagram.len());
        datagram[place] = octet;

        match Codec::default().decode(&datagram) {
            Ok((header, message)) => {
                let again = Codec::default().encode(&header, &message).unwrap();
                prop_assert_eq!(Codec::default().decode(&again).unwrap(), (header, message));
            }
            Err(DecodeError::Body { defect, .. }) => prop_assert!(!defect.cause.is_accepted()),
            Err(DecodeError::Header(_) | DecodeError::UnknownType { .. }) => {}
        }
    }

    /// A cut inside an IE is refused with a cause; one between IEs may leave a whole message.
    #[test]
    fn a_shortened_message_is_refused_or_whole(
        bytes in vec(any::<u8>(), 0..1500),
        cut in any::<prop::sample::Index>(),
    ) {
        let (header, message) = message(&mut Source::new(&bytes));
        let mut datagram = Codec::default().encode(&header, &message).unwrap();
        let head = if message.kind().is_session() { 16 } else { 8 };
        datagram.truncate(head + cut.index(datagram.len() - head + 1));
        let length = u16::try_from(datagram.len() - 4).unwrap().to_be_bytes();
        datagram[2..4].copy_from_slice(&length);

        if let Ok((header, message)) = Codec::default().decode(&datagram) {
            let again = Codec::default().encode(&header, &message).unwrap();
            prop_assert_eq!(Codec::default().decode(&again).unwrap(), (header, message));
        }
    }
}

#[test]
fn every_type_of_message_with_every_part_is_read_back() {
    // Odd bytes take every part that may be absent.
    let full: Vec<u8> = (0..=u8::MAX)
        .cycle()
        .map(|byte| byte.wrapping_mul(14) | 1)
        .take(6000)
        .collect();
    for kind in MessageType::KNOWN {
        for bytes in [full.as_slice(), &[]] {
            let (header, message) = message_of(&mut Source::new(bytes), *kind);

            let datagram = Codec::default().encode(&header, &message).unwrap();

            assert_eq!(message.kind(), *kind);
            assert_eq!(
                Codec::default().decode(&datagram).unwrap(),
                (header, message)
            );
        }
    }
}
