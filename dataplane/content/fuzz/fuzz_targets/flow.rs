//! Arbitrary segments on one flow: no panic, every byte in one class, and the stored state goes on
//! as the live one does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qlink_content::{
    Candidate, CloseReason, Context, Direction, FlowProof, HEAD_WORDS, LimitReason, Policy,
    Segment, Verdict, View,
};
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;

const FILM: &[u8] = b"a film of few bytes, some of which the fuzzer may learn to send";
const OTHER: &[u8] = b"a film of few bytes, that begins alike and has the same size..";

fn one(
    state: (&mut FlowProof, &mut [View], &mut Vec<u64>),
    policy: Policy,
    (direction, segment): (Direction, &Segment<'_>),
) -> Verdict {
    let (flow, views, heads) = state;
    let contents = vec![
        Candidate {
            id: ContentId::new([1; 32]),
            bytes: FILM,
        },
        Candidate {
            id: ContentId::new([2; 32]),
            bytes: OTHER,
        },
    ];
    let mut context = Context {
        contents: &contents,
        views,
        heads,
        now_ns: 0,
        policy,
    };
    flow.segment(&mut context, direction, segment)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else {
        return;
    };
    let policy = if first & 1 == 0 {
        Policy::Live
    } else {
        Policy::Replay
    };
    let mut flow = FlowProof::new(0);
    let limit = if first & 2 == 0 { u64::MAX } else { 20 };
    let mut views = [View::new(Bytes::new(limit), LimitReason::Cap); 2];
    let mut heads = vec![0; HEAD_WORDS];
    for direction in [Direction::Uplink, Direction::Downlink] {
        let syn = Segment {
            seq: 0,
            ack: 0,
            flags: Segment::SYN,
            payload: b"",
            payload_len: 0,
        };
        one(
            (&mut flow, &mut views, &mut heads),
            policy,
            (direction, &syn),
        );
    }
    while let Some((head, behind)) = rest.split_at_checked(8) {
        let (payload, behind) = behind.split_at(usize::from(head[1]).min(behind.len()));
        rest = behind;
        let direction = if head[0] & 0x40 == 0 {
            Direction::Uplink
        } else {
            Direction::Downlink
        };
        let missing = if head[0] & 0x80 == 0 { 0 } else { 7 };
        let segment = Segment {
            seq: u32::from(u16::from_le_bytes([head[2], head[3]])).wrapping_sub(4),
            ack: u32::from(u16::from_le_bytes([head[4], head[5]])),
            flags: if head[6] & 0xc0 == 0 {
                head[0] & 0x3f
            } else {
                Segment::ACK
            },
            payload,
            payload_len: payload.len() as u32 + missing,
        };
        let mut words = vec![0; FlowProof::WORDS];
        let used = flow.to_words(&mut words).expect("WORDS suffice");
        let mut twin = FlowProof::from_words(&words[..used]).expect("a written state is read");
        let (mut twin_views, mut twin_heads) = (views, heads.clone());
        let verdict = one(
            (&mut flow, &mut views, &mut heads),
            policy,
            (direction, &segment),
        );
        let again = one(
            (&mut twin, &mut twin_views, &mut twin_heads),
            policy,
            (direction, &segment),
        );
        assert_eq!(verdict, again);
        assert_eq!(views, twin_views);
        if let Verdict::Forward(deltas) = verdict {
            assert!(deltas.is_conserved());
            assert_eq!(deltas.violations, 0);
        }
        assert!(views.iter().all(View::is_conserved));
    }
    flow.close(&mut views, CloseReason::SessionEnd);
    assert_eq!(flow.pending_bytes(), 0);
    assert!(views.iter().all(|view| view.classes().pending.is_zero()));
});
