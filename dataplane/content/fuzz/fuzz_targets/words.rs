//! Arbitrary words as stored state: refused, or a state that takes segments without panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_content::{
    Candidate, CloseReason, Context, Direction, FlowProof, HEAD_WORDS, LimitReason, Policy,
    Segment, View,
};
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;

fuzz_target!(|data: &[u8]| {
    let (words, _) = data.as_chunks::<8>();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let _ = View::from_words(&words);
    let Ok(mut flow) = FlowProof::from_words(&words) else {
        return;
    };
    let contents = vec![Candidate {
        id: ContentId::new([1; 32]),
        bytes: b"film",
    }];
    let mut views = [View::new(Bytes::new(9), LimitReason::Cap)];
    let mut heads = vec![0; HEAD_WORDS];
    for direction in [Direction::Uplink, Direction::Downlink] {
        let mut context = Context {
            contents: &contents,
            views: &mut views,
            heads: &mut heads,
            now_ns: 1,
            policy: Policy::Live,
        };
        let segment = Segment {
            seq: 1,
            ack: 5,
            flags: Segment::ACK,
            payload: b"film",
            payload_len: 4,
        };
        flow.segment(&mut context, direction, &segment);
    }
    flow.close(&mut views, CloseReason::SessionEnd);
});
