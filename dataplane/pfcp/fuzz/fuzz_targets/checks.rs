//! What holds for every datagram, whoever made it.

use qlink_pfcp::model::{NodeId, Time};
use qlink_pfcp::wire::{Codec, DecodeError, EncodeError, Header, Message};

/// What is taken can be written and is read back the same; what is refused is refused with a cause
/// that an answer can bear.
pub(crate) fn check_datagram(datagram: &[u8]) {
    for read in Codec::default().decode_datagram(datagram) {
        match read {
            Ok((header, message)) => check_message(&header, &message),
            Err(DecodeError::Body { kind, defect, .. }) => {
                assert!(!defect.cause.is_accepted(), "{defect}");
                let us = NodeId::Fqdn("upf".to_owned());
                let answer = Message::refusal(kind, &us, Time::new(0), defect);
                if let Some(answer) = answer {
                    let answered = kind.get().checked_add(1);
                    assert_eq!(Some(answer.kind().get()), answered);
                }
            }
            Err(DecodeError::Header(_) | DecodeError::UnknownType { .. }) => {}
        }
    }
}

fn check_message(header: &Header, message: &Message) {
    match Codec::default().encode(header, message) {
        Ok(again) => {
            let read = Codec::default().decode(&again).expect("our own message");
            assert_eq!(read, (*header, message.clone()));
        }
        // The canonical form of some IEs is longer than the one that came.
        Err(EncodeError::TooLong { .. }) => {}
        Err(error) => panic!("{error}: {message:?}"),
    }
}
