//! A viewer fetching a film over HTTP/1.1 in segments of 1400 bytes, in bursts of 32, with one
//! acknowledgement per two segments.

use std::sync::Arc;

use qlink_content::{
    Candidate, Context, Direction, FlowProof, HEAD_WORDS, LimitReason, Policy, Segment, Verdict,
    View,
};
use qlink_dataplane::contents::Copy;
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::plane::{Plane, PlaneLimits};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, PacketSource as _};
use qlink_meter::{CounterArena, SessionSlot};
use qlink_pfcp::{SessionRules, Sponsor};
use qlink_types::ids::{ContentId, PackageId, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, PackageEpoch};
use qlink_wire::LinkType;
use qlink_wire::TcpFlags;
use qlink_wire::build::{TcpFields, tcp_packet};

use crate::traffic::{FLOWS, ORIGIN, neighbours, plain_rules, subscriber, uplink_frame};

/// Payload of a body segment, bytes.
pub(crate) const SEGMENT: usize = 1400;
const SLOT: SessionSlot = SessionSlot::new(0);
const BURST: usize = 32;

/// Bytes that do not compress.
pub(crate) fn bytes_of(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// One TCP segment of the download.
pub(crate) struct Step {
    direction: Direction,
    seq: u32,
    ack: u32,
    flags: TcpFlags,
    payload: Vec<u8>,
}

/// The download in the order in which bursts deliver it. Payload is a copy of the film, so that a
/// compare reads two places in memory.
pub(crate) fn download(film: &[u8]) -> Vec<Vec<Step>> {
    let (mut up, mut down) = (1_000_u32, 9_000_u32);
    let mut bursts = Vec::new();
    let step = |direction, seq, ack, flags, payload: &[u8]| Step {
        direction,
        seq,
        ack,
        flags,
        payload: payload.to_vec(),
    };
    let both = TcpFlags::SYN.union(TcpFlags::ACK);
    let (uplink, downlink) = (Direction::Uplink, Direction::Downlink);
    bursts.push(vec![step(uplink, up, 0, TcpFlags::SYN, &[])]);
    up += 1;
    bursts.push(vec![step(downlink, down, up, both, &[])]);
    down += 1;
    let request = b"GET /film HTTP/1.1\r\nHost: films.example\r\n\r\n";
    bursts.push(vec![step(uplink, up, down, TcpFlags::ACK, request)]);
    up += u32::try_from(request.len()).unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", film.len());
    let head = head.as_bytes();
    bursts.push(vec![step(downlink, down, up, TcpFlags::ACK, head)]);
    down += u32::try_from(head.len()).unwrap();
    for window in film.chunks(SEGMENT * BURST) {
        let (mut data, mut acks) = (Vec::new(), Vec::new());
        for pair in window.chunks(SEGMENT * 2) {
            for payload in pair.chunks(SEGMENT) {
                data.push(step(downlink, down, up, TcpFlags::ACK, payload));
                down += u32::try_from(payload.len()).unwrap();
            }
            acks.push(step(uplink, up, down, TcpFlags::ACK, &[]));
        }
        bursts.extend([data, acks]);
    }
    bursts
}

/// The content stage alone: one flow, its view, its head logs.
pub(crate) struct Stage {
    film: Vec<u8>,
    id: ContentId,
    bursts: Vec<Vec<Step>>,
    heads: Vec<u64>,
}

impl Stage {
    pub(crate) fn new(length: usize) -> Self {
        let film = bytes_of(length);
        let mut stage = Self {
            id: ContentId::new(*blake3::hash(&film).as_bytes()),
            bursts: download(&film),
            film,
            heads: vec![0; HEAD_WORDS],
        };
        assert_eq!(stage.judge(), length as u64, "every byte is proven");
        stage
    }

    /// Judges a whole download; its verified bytes.
    pub(crate) fn judge(&mut self) -> u64 {
        let mut flow = FlowProof::new(0);
        let mut views = [View::new(
            Bytes::new(u64::MAX),
            LimitReason::PackageExhausted,
        )];
        let contents = vec![Candidate {
            id: self.id,
            bytes: &self.film,
        }];
        for step in self.bursts.iter().flatten() {
            let mut context = Context {
                contents: &contents,
                views: &mut views,
                heads: &mut self.heads,
                now_ns: 0,
                policy: Policy::Live,
            };
            let segment = Segment {
                seq: step.seq,
                ack: step.ack,
                flags: step.flags.bits(),
                payload: &step.payload,
                payload_len: u32::try_from(step.payload.len()).unwrap(),
            };
            let verdict = flow.segment(&mut context, step.direction, &segment);
            assert!(matches!(verdict, Verdict::Forward(_)));
        }
        views[0].classes().verified_unique.get()
    }
}

/// The whole pipeline with one sponsored session.
pub(crate) struct Sponsored {
    plane: Plane,
    rules: SessionRules,
    copy: (ContentId, Copy),
    bursts: Vec<(Side, MemSource)>,
    ports: Ports<MemSink, MemSink>,
}

impl Sponsored {
    pub(crate) fn new(length: usize) -> Self {
        let film = &bytes_of(length);
        let limits = PlaneLimits {
            sessions: 1024,
            flows: FLOWS,
            views: 2048,
            urrs: 0,
        };
        let content = ContentId::new(*blake3::hash(film).as_bytes());
        let sponsor = Sponsor {
            package: PackageId::new([2; 16]),
            package_epoch: PackageEpoch::ZERO,
            viewer: ViewerKey::new([3; 32]),
            contents: vec![content].try_into().unwrap(),
            origins: Vec::new().try_into().unwrap(),
            limit: Bytes::new(film.len() as u64),
            repeat: RepeatPolicy::ChargeUser,
        };
        let mut sponsored = Self {
            plane: Plane::new(
                limits,
                CounterArena::in_memory(limits.layout()),
                neighbours(),
            ),
            rules: SessionRules {
                sponsor: Some(sponsor),
                ..plain_rules(SLOT.get())
            },
            copy: (content, Copy::Owned(Arc::from(film.as_slice()))),
            bursts: download(film).iter().map(|burst| source(burst)).collect(),
            ports: Ports {
                n3: MemSink::new(),
                n6: MemSink::new(),
            },
        };
        sponsored.restart();
        sponsored.play();
        let proven = sponsored.plane.usage(SLOT).classes.verified_unique.get();
        assert_eq!(proven, length as u64, "every byte is proven");
        sponsored
    }

    /// Gives the session a fresh start, to be called before [`Self::play`].
    pub(crate) fn restart(&mut self) {
        self.plane.delete(SLOT);
        self.plane
            .establish(SLOT, &self.rules, vec![self.copy.clone()])
            .unwrap();
    }

    /// Plays the download.
    pub(crate) fn play(&mut self) {
        let mut burst = Burst::new();
        for (side, source) in &mut self.bursts {
            source.recv_burst(&mut burst).unwrap();
            let plane = &mut self.plane;
            process_burst(plane, *side, source, &burst, &mut self.ports, 0);
        }
    }
}

/// A burst of one direction, delivered as often as asked.
fn source(burst: &[Step]) -> (Side, MemSource) {
    let side = match burst[0].direction {
        Direction::Uplink => Side::N3,
        Direction::Downlink => Side::N6,
    };
    let frames = burst.iter().map(frame).collect();
    let link = match side {
        Side::N3 => LinkType::Ethernet,
        Side::N6 => LinkType::RawIp,
    };
    (side, MemSource::new(frames, link, u64::MAX))
}

fn frame(step: &Step) -> Vec<u8> {
    let fields = TcpFields::new(step.seq, step.ack, step.flags);
    let ue = subscriber(SLOT.get());
    match step.direction {
        Direction::Uplink => {
            let inner = tcp_packet(ue, ORIGIN, &fields, &step.payload).unwrap();
            uplink_frame(SLOT.get(), &inner)
        }
        Direction::Downlink => tcp_packet(ORIGIN, ue, &fields, &step.payload).unwrap(),
    }
}
