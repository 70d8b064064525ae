//! Arbitrary control messages: refused, or encoded back to the same bytes; an accepted request
//! never upsets the association.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_pfcp::{
    Association, AssociationLimits, Novelty, decode_answer, decode_request, encode_answer,
    encode_request,
};

fuzz_target!(|data: &[u8]| {
    if let Ok((sequence, answer)) = decode_answer(data) {
        assert_eq!(encode_answer(sequence, &answer).unwrap(), data);
    }
    let Ok((sequence, request)) = decode_request(data) else {
        return;
    };
    assert_eq!(encode_request(sequence, &request).unwrap(), data);
    let mut association = Association::new(AssociationLimits {
        sessions: 4,
        contents: 4,
    });
    if let Ok(Novelty::New) = association.check(&request) {
        association.apply(&request);
    }
});
