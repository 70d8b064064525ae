//! One flow between a client and a server, with the checks that hold after every packet.
#![allow(dead_code, reason = "each test file uses its part")]
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

use qlink_content::{
    Candidate, ChargeReason, CloseReason, Context, Deltas, Direction, DropReason, FlowProof,
    HEAD_WORDS, LimitReason, Policy, Segment, Verdict, View,
};
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;

pub(crate) const CLIENT_ISN: u32 = 0xffff_ff00;
pub(crate) const SERVER_ISN: u32 = 0xffff_f000;

pub(crate) const REQUEST: &[u8] = b"GET /film HTTP/1.1\r\nHost: a\r\n\r\n";
pub(crate) const REQUEST_LEN: u64 = REQUEST.len() as u64;

/// Incompressible bytes, different for each seed.
pub(crate) fn film(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
    (0..len).map(|_| random.next() as u8).collect()
}

pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..bound`; 0 for 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    pub(crate) fn chance(&mut self, per_cent: u64) -> bool {
        self.below(100) < per_cent
    }
}

#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) flow: FlowProof,
    pub(crate) views: Vec<View>,
    pub(crate) heads: Vec<u64>,
    pub(crate) films: Vec<Vec<u8>>,
    pub(crate) policy: Policy,
    pub(crate) total: Deltas,
    pub(crate) now_ns: u64,
}

fn words(flow: &FlowProof) -> Vec<u64> {
    let mut words = vec![0; FlowProof::WORDS];
    flow.to_words(&mut words).unwrap();
    words
}

impl Rig {
    pub(crate) fn new(films: &[&[u8]]) -> Self {
        let view = View::new(Bytes::new(u64::MAX), LimitReason::PackageExhausted);
        Self {
            flow: FlowProof::new(0),
            views: vec![view; films.len()],
            heads: vec![0; HEAD_WORDS],
            films: films.iter().map(|film| film.to_vec()).collect(),
            policy: Policy::Live,
            total: Deltas::default(),
            now_ns: 0,
        }
    }

    /// After the handshake.
    pub(crate) fn opened(films: &[&[u8]]) -> Self {
        let mut rig = Self::new(films);
        rig.handshake();
        rig
    }

    pub(crate) fn handshake(&mut self) {
        self.raw(Direction::Uplink, CLIENT_ISN, 0, Segment::SYN, b"", 0);
        let both = Segment::SYN | Segment::ACK;
        let ack = CLIENT_ISN.wrapping_add(1);
        self.raw(Direction::Downlink, SERVER_ISN, ack, both, b"", 0);
        self.ack(0);
    }

    /// Any segment; the state is stored and read again before it.
    pub(crate) fn try_raw(
        &mut self,
        direction: Direction,
        seq: u32,
        ack: u32,
        flags: u8,
        payload: &[u8],
        payload_len: u32,
    ) -> Result<Deltas, DropReason> {
        self.store_and_read();
        self.now_ns += 1_000;
        let contents: Vec<Candidate<'_>> = self
            .films
            .iter()
            .map(|film| Candidate {
                id: ContentId::new(*blake3::hash(film).as_bytes()),
                bytes: film,
            })
            .collect();
        let mut context = Context {
            contents: &contents,
            views: &mut self.views,
            heads: &mut self.heads,
            now_ns: self.now_ns,
            policy: self.policy,
        };
        let before = (self.flow, context.views.to_vec());
        let segment = Segment {
            seq,
            ack,
            flags,
            payload,
            payload_len,
        };
        let verdict = self.flow.segment(&mut context, direction, &segment);
        match verdict {
            Verdict::Forward(deltas) => {
                self.take(deltas);
                Ok(deltas)
            }
            Verdict::Drop(reason) => {
                let (flow, views) = before;
                assert_eq!(
                    words(&self.flow),
                    words(&flow),
                    "a dropped segment changes nothing"
                );
                assert_eq!(self.views, views);
                Err(reason)
            }
        }
    }

    /// What a crash and a restart between two packets do.
    fn store_and_read(&mut self) {
        let mut words = vec![0; FlowProof::WORDS];
        let used = self.flow.to_words(&mut words).unwrap();
        self.flow = FlowProof::from_words(&words[..used]).unwrap();
        let mut again = vec![0; FlowProof::WORDS];
        self.flow.to_words(&mut again).unwrap();
        assert_eq!(words, again, "a state that was read is written as it was");
        let pending: Vec<u64> = self.views.iter().map(View::pending_content).collect();
        for view in &mut self.views {
            let mut words = [0; View::WORDS];
            view.to_words(&mut words).unwrap();
            let read = View::from_words(&words).unwrap();
            assert_eq!(read, *view);
            *view = read;
        }
        self.flow.rejoin(&mut self.views);
        let again: Vec<u64> = self.views.iter().map(View::pending_content).collect();
        assert_eq!(
            again, pending,
            "what is pending of each content is known again"
        );
    }

    fn take(&mut self, deltas: Deltas) {
        assert!(deltas.is_conserved(), "{deltas:?}");
        assert_eq!(deltas.violations, 0);
        let total = &mut self.total;
        total.wire_payload += deltas.wire_payload;
        total.verified_unique += deltas.verified_unique;
        total.retransmit += deltas.retransmit;
        total.verified_repeat += deltas.verified_repeat;
        total.overhead_allowed += deltas.overhead_allowed;
        total.undelivered += deltas.undelivered;
        total.user_charged += deltas.user_charged;
        total.pending_in += deltas.pending_in;
        total.pending_out += deltas.pending_out;
        for (sum, part) in total.charged.iter_mut().zip(deltas.charged) {
            *sum += part;
        }
        assert!(self.total.is_conserved());
        assert_eq!(self.pending(), self.flow.pending_bytes());
        for view in &self.views {
            assert!(view.is_conserved(), "{view:?}");
        }
    }

    pub(crate) fn raw(
        &mut self,
        direction: Direction,
        seq: u32,
        ack: u32,
        flags: u8,
        payload: &[u8],
        payload_len: u32,
    ) -> Deltas {
        self.try_raw(direction, seq, ack, flags, payload, payload_len)
            .unwrap()
    }

    /// Uplink payload at stream position `at`.
    pub(crate) fn up(&mut self, at: u64, payload: &[u8]) -> Deltas {
        self.try_up(at, payload).unwrap()
    }

    pub(crate) fn try_up(&mut self, at: u64, payload: &[u8]) -> Result<Deltas, DropReason> {
        let seq = CLIENT_ISN.wrapping_add(1).wrapping_add(at as u32);
        let ack = SERVER_ISN.wrapping_add(1);
        self.try_raw(
            Direction::Uplink,
            seq,
            ack,
            Segment::ACK,
            payload,
            payload.len() as u32,
        )
    }

    /// Downlink payload at stream position `at`.
    pub(crate) fn down(&mut self, at: u64, payload: &[u8]) -> Deltas {
        self.try_down(at, payload).unwrap()
    }

    pub(crate) fn try_down(&mut self, at: u64, payload: &[u8]) -> Result<Deltas, DropReason> {
        let seq = SERVER_ISN.wrapping_add(1).wrapping_add(at as u32);
        let ack = CLIENT_ISN.wrapping_add(1);
        self.try_raw(
            Direction::Downlink,
            seq,
            ack,
            Segment::ACK,
            payload,
            payload.len() as u32,
        )
    }

    /// A pure acknowledgement of downlink stream below `at`.
    pub(crate) fn ack(&mut self, at: u64) -> Deltas {
        let ack = SERVER_ISN.wrapping_add(1).wrapping_add(at as u32);
        let seq = CLIENT_ISN.wrapping_add(1);
        self.raw(Direction::Uplink, seq, ack, Segment::ACK, b"", 0)
    }

    pub(crate) fn close(&mut self) -> Deltas {
        let deltas = self.flow.close(&mut self.views, CloseReason::SessionEnd);
        self.take(deltas);
        assert_eq!(self.pending(), 0, "nothing stays pending after the close");
        deltas
    }

    pub(crate) fn pending(&self) -> u64 {
        self.total.pending_in - self.total.pending_out
    }

    pub(crate) fn charged(&self, reason: ChargeReason) -> u64 {
        self.total.charged[reason as usize]
    }
}

pub(crate) fn head(size: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes()
}

pub(crate) fn range_head(first: usize, len: usize, total: usize) -> Vec<u8> {
    let last = first + len - 1;
    format!(
        "HTTP/1.1 206 Partial\r\nContent-Range: bytes {first}-{last}/{total}\r\n\
         Content-Length: {len}\r\n\r\n"
    )
    .into_bytes()
}

/// Handshake, request and response head of a whole film; the position of its first body byte.
pub(crate) fn fetching(film: &[u8]) -> (Rig, u64) {
    let mut rig = Rig::opened(&[film]);
    rig.up(0, REQUEST);
    let head = head(film.len());
    rig.down(0, &head);
    (rig, head.len() as u64)
}
