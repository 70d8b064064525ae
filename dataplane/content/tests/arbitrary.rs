//! Arbitrary segments: nothing panics, every byte is in one class, the stored state goes on as the
//! live one does. The rig stores and reads the state before each segment.
#![expect(clippy::cast_possible_truncation, reason = "test code")]

mod rig;

use proptest::prelude::*;
use qlink_content::{Direction, FlowProof, LimitReason, Policy, Segment, View};
use qlink_types::units::Bytes;
use rig::{CLIENT_ISN, Random, Rig, SERVER_ISN, film};

const PARTS: [&[u8]; 16] = [
    b"GET /film HTTP/1.1\r\n\r\n",
    b"HEAD /film HTTP/1.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 206 P\r\nContent-Range: bytes 100-199/500\r\n\r\n",
    b"HTTP/1.1 404 N\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"HTTP/1.1 204 N\r\n\r\n",
    b"\r\n",
    b"40\r\n",
    b"\r\n40\r\n",
    b"\r\n0\r\n\r\n",
    b"1\r\n",
    b"X: y\r\n",
    b"\0",
];

/// What client and server would send in order.
fn streams(random: &mut Random, films: &[Vec<u8>; 3]) -> [Vec<u8>; 2] {
    let mut streams = [Vec::new(), Vec::new()];
    for _ in 0..12 {
        let part = PARTS[random.below(3) as usize];
        streams[0].extend_from_slice(if random.chance(95) { part } else { PARTS[15] });
        streams[1].extend_from_slice(PARTS[3 + random.below(13) as usize]);
        let from = [0, 0, 100][random.below(3) as usize];
        let len = [500, 64, 100][random.below(3) as usize];
        let film = &films[random.below(3) as usize];
        streams[1].extend(film.iter().skip(from).take(len));
    }
    streams
}

/// Streams that are mostly HTTP, sent as chance has it.
fn converse(seed: u64, policy: Policy) -> Rig {
    let mut random = Random(seed);
    let films = [film(1, 500), film(2, 500), film(3, 64)];
    let mut rig = Rig::opened(&[&films[0], &films[1], &films[2]]);
    rig.policy = policy;
    if random.chance(30) {
        let limit = random.below(300);
        rig.views = vec![View::new(Bytes::new(limit), LimitReason::PackageExhausted); 3];
    }
    let streams = streams(&mut random, &films);
    let mut front = [0_usize; 2];
    for _ in 0..120 {
        let side = random.below(2) as usize;
        let stream = &streams[side];
        let ahead = if random.chance(70) {
            0
        } else {
            random.below(300) as usize
        };
        let at = if random.chance(70) {
            front[side] + ahead
        } else {
            random.below(600) as usize
        };
        let at = at.min(stream.len());
        let len = (random.below(400) as usize).min(stream.len() - at);
        let mut payload = stream[at..at + len].to_vec();
        if random.chance(5)
            && let Some(byte) = payload.first_mut()
        {
            *byte ^= 1;
        }
        let missing = if random.chance(95) {
            0
        } else {
            random.below(50) as u32
        };
        let flags = match random.below(60) {
            0 => Segment::FIN | Segment::ACK,
            1 => Segment::RST,
            2 => Segment::SYN,
            _ => Segment::ACK,
        };
        let (direction, own, other) = if side == 0 {
            (Direction::Uplink, CLIENT_ISN, SERVER_ISN)
        } else {
            (Direction::Downlink, SERVER_ISN, CLIENT_ISN)
        };
        let before = if random.chance(97) {
            1
        } else {
            random.next() as u32
        };
        let seq = own.wrapping_add(before).wrapping_add(at as u32);
        let acked = random.below(front[1 - side] as u64 + 50) as u32;
        let ack = other.wrapping_add(1).wrapping_add(acked);
        let length = payload.len() as u32 + missing;
        if rig
            .try_raw(direction, seq, ack, flags, &payload, length)
            .is_ok()
            && at <= front[side]
        {
            front[side] = front[side].max(at + len);
        }
    }
    rig.close();
    rig
}

proptest! {
    #[test]
    fn any_segments_leave_every_byte_in_one_class(seed: u64, replay: bool) {
        let policy = if replay { Policy::Replay } else { Policy::Live };
        let rig = converse(seed, policy);
        prop_assert_eq!(rig.flow.violations(), 0);
        for view in &rig.views {
            prop_assert!(view.classes().pending.is_zero());
            prop_assert!(view.classes().verified_unique <= view.limit());
        }
    }

    #[test]
    fn any_words_are_refused_or_a_state(
        mut words in proptest::collection::vec(prop_oneof![0..40_u64, any::<u64>()], 1..200),
        seed: u64,
    ) {
        let rig = converse(seed, Policy::Live);
        let mut stored = vec![0; FlowProof::WORDS];
        rig.flow.to_words(&mut stored).map_err(|e| TestCaseError::fail(e.to_string()))?;
        // A true beginning, then anything.
        let keep = (seed % 60) as usize;
        words.splice(0..0, stored.into_iter().take(keep));
        let _ = View::from_words(&words);
        if let Ok(flow) = FlowProof::from_words(&words) {
            let (mut views, mut flow) = (rig.views, flow);
            flow.close(&mut views, qlink_content::CloseReason::Idle);
        }
    }
}
