//! Content flows of a capture: learned, paired and proven.

use std::collections::HashMap;
use std::net::IpAddr;

use qlink_content::{
    CloseReason, Context, Direction, EBB_NS, FlowProof, HEAD_WORDS, IDLE_NS, LimitReason, Policy,
    Verdict, View,
};
use qlink_kernel::prefetch_slice;
use qlink_meter::{DropReason, KeyedIndex, TableKey, process_secret};
use qlink_types::units::Bytes;
use qlink_wire::TcpSegment;

use super::report::ContentRow;
use crate::contents::SessionContents;
use crate::parse::proof_segment;

/// Most flows open at once (chosen: 32 KiB of head logs each, 128 MiB in all).
const FLOWS_MAX: usize = 4096;
/// Most learned sessions times contents (chosen: 600 bytes each, 600 MiB in all).
const VIEWS_MAX: usize = 1 << 20;
/// Flows looked at for idleness per packet.
const SWEEP: usize = 2;

type Endpoint = (IpAddr, u16);

/// Both inner endpoints, the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FlowKey(Endpoint, Endpoint);

impl FlowKey {
    fn new(from: Endpoint, to: Endpoint) -> Self {
        let (smaller, larger) = sorted(from, to);
        Self(smaller, larger)
    }
}

impl TableKey for FlowKey {
    const EMPTY: Self = Self((IpAddr::EMPTY, 0), (IpAddr::EMPTY, 0));

    #[inline]
    fn hash(&self, secret: u64) -> u64 {
        let (smaller, larger) = (self.0, self.1);
        let seed = (smaller.0, u32::from(smaller.1)).hash(secret);
        (larger.0, u32::from(larger.1)).hash(seed)
    }
}

/// Where a packet was seen: outer addresses and the TEID.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) teid: u32,
}

/// Both ends of a packet and their hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    key: FlowKey,
    hash: u64,
}

/// An inner TCP packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct TcpPacket<'a> {
    pub(super) ends: Ends,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) segment: TcpSegment<'a>,
    /// As [`crate::parse::Inner::payload_len`].
    pub(super) payload_len: u32,
}

/// Both outer addresses, the smaller first: one hop of the subscriber's traffic.
type Hop = (IpAddr, IpAddr);

/// An address and a TEID.
type Tunnel = (IpAddr, u32);

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    hop: Hop,
    subscriber: Endpoint,
    session: usize,
    /// Apart, so that looking a flow up does not step over thousands of bytes.
    proof: Box<FlowProof>,
    heads: Vec<u64>,
}

/// Nobody's flow.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
struct Session {
    uplink: Option<Tunnel>,
    downlink: Option<Tunnel>,
    views: Vec<View>,
}

/// Flows and sessions of a replay. Without contents there is nothing to prove and nothing is kept.
#[derive(Debug)]
pub(super) struct LearnedFlows {
    contents: SessionContents,
    by_key: KeyedIndex<FlowKey>,
    flows: Vec<Option<Flow>>,
    /// When a packet of each flow was last seen, or [`NEVER`].
    seen: Vec<u64>,
    free: Vec<usize>,
    /// Head logs of closed flows, to be used again.
    spare_heads: Vec<Vec<u64>>,
    sessions: Vec<Session>,
    /// By hop and subscriber address.
    by_subscriber: HashMap<(Hop, IpAddr), usize>,
    cursor: usize,
}

impl LearnedFlows {
    pub(super) fn new(contents: SessionContents) -> Self {
        Self {
            contents,
            by_key: KeyedIndex::new(FLOWS_MAX, process_secret()),
            flows: Vec::new(),
            seen: Vec::new(),
            free: Vec::new(),
            spare_heads: Vec::new(),
            sessions: Vec::new(),
            by_subscriber: HashMap::new(),
            cursor: 0,
        }
    }

    /// Whether there is nothing to prove.
    #[inline]
    pub(super) fn proves_nothing(&self) -> bool {
        self.contents.0.is_empty()
    }

    /// The ends of a packet, looked for: starts loading their place.
    #[inline]
    pub(super) fn search(&self, from: Endpoint, to: Endpoint) -> Ends {
        let key = FlowKey::new(from, to);
        let hash = self.by_key.hash(&key);
        self.by_key.prefetch(hash);
        Ends { key, hash }
    }

    /// Starts loading the flow of these ends, some packets after [`Self::search`]; its number.
    #[inline]
    pub(super) fn prefetch(&self, ends: &Ends) -> Option<usize> {
        let number = self.by_key.get_hashed(ends.hash, &ends.key)? as usize;
        prefetch_slice(&self.flows, number);
        // The end of this one.
        prefetch_slice(&self.flows, number.saturating_add(1));
        Some(number)
    }

    /// Starts loading its proof, some packets after [`Self::prefetch`].
    #[inline]
    pub(super) fn prefetch_proof(&self, number: usize) {
        if let Some(Some(flow)) = self.flows.get(number) {
            flow.proof.prefetch();
        }
    }

    /// Proves a packet's bytes if it belongs to a flow of this hop.
    pub(super) fn packet(
        &mut self,
        outer: &Outer,
        packet: &TcpPacket<'_>,
        now_ns: u64,
    ) -> Result<(), DropReason> {
        let tcp = &packet.segment;
        let from = (packet.src, tcp.src_port);
        let to = (packet.dst, tcp.dst_port);
        let Ends { key, hash } = packet.ends;
        let hop = sorted(outer.source, outer.destination);
        let tunnel = (outer.destination, outer.teid);
        let number = match self.by_key.get_hashed(hash, &key) {
            Some(number) => number as usize,
            None if tcp.flags.rst() => return Ok(()),
            None => {
                let subscriber =
                    self.guess_subscriber(hop, from, to, tcp.flags.syn(), tcp.flags.ack());
                self.open(key, hop, subscriber, now_ns)?
            }
        };
        let Some(flow) = self.flows.get_mut(number).and_then(Option::as_mut) else {
            return Ok(());
        };
        if flow.hop != hop {
            return Ok(());
        }
        let direction = if from == flow.subscriber {
            Direction::Uplink
        } else {
            Direction::Downlink
        };
        let Some(session) = self.sessions.get_mut(flow.session) else {
            return Ok(());
        };
        match direction {
            Direction::Uplink => session.uplink.get_or_insert(tunnel),
            Direction::Downlink => session.downlink.get_or_insert(tunnel),
        };
        let mut context = Context {
            contents: &self.contents,
            views: &mut session.views,
            heads: &mut flow.heads,
            now_ns,
            policy: Policy::Replay,
        };
        let segment = proof_segment(tcp, packet.payload_len);
        let verdict = flow.proof.segment(&mut context, direction, &segment);
        let (last, closed) = (flow.proof.idle_since(), flow.proof.closed().is_some());
        if let Some(seen) = self.seen.get_mut(number) {
            *seen = last;
        }
        if closed {
            self.close(number);
        }
        match verdict {
            Verdict::Forward(_) => Ok(()),
            Verdict::Drop(reason) => Err(crate::parse::drop_reason(reason)),
        }
    }

    /// Which end of a flow is the subscriber's: the one that opened it; in the middle of a flow
    /// the one that the hop knows as a subscriber, or else the one with the larger port.
    fn guess_subscriber(
        &self,
        hop: Hop,
        from: Endpoint,
        to: Endpoint,
        syn: bool,
        ack: bool,
    ) -> Endpoint {
        match (syn, ack) {
            (true, false) => from,
            (true, true) => to,
            (false, _) if self.by_subscriber.contains_key(&(hop, from.0)) => from,
            (false, _) if self.by_subscriber.contains_key(&(hop, to.0)) => to,
            (false, _) if from.1 >= to.1 => from,
            (false, _) => to,
        }
    }

    #[cold]
    fn open(
        &mut self,
        key: FlowKey,
        hop: Hop,
        subscriber: Endpoint,
        now_ns: u64,
    ) -> Result<usize, DropReason> {
        let session = self.session(hop, subscriber.0)?;
        if self.free.is_empty() && self.flows.len() >= FLOWS_MAX {
            return Err(DropReason::FlowTableFull);
        }
        let flow = Flow {
            key,
            hop,
            subscriber,
            session,
            proof: Box::new(FlowProof::new(now_ns)),
            heads: self
                .spare_heads
                .pop()
                .unwrap_or_else(|| vec![0; HEAD_WORDS]),
        };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.flows.push(None);
                self.seen.push(NEVER);
                self.flows.len().saturating_sub(1)
            }
        };
        if let Some(place) = self.flows.get_mut(number) {
            *place = Some(flow);
        }
        // At most `FLOWS_MAX` flows are open, for which there is room.
        let _ = self.by_key.insert(key, u32::try_from(number).unwrap_or(0));
        Ok(number)
    }

    fn session(&mut self, hop: Hop, subscriber: IpAddr) -> Result<usize, DropReason> {
        if let Some(session) = self.by_subscriber.get(&(hop, subscriber)) {
            return Ok(*session);
        }
        let width = self.contents.0.len();
        if self.sessions.len().saturating_add(1).saturating_mul(width) > VIEWS_MAX {
            return Err(DropReason::FlowTableFull);
        }
        let number = self.sessions.len();
        let unlimited = View::new(Bytes::new(u64::MAX), LimitReason::PackageExhausted);
        self.sessions.push(Session {
            uplink: None,
            downlink: None,
            views: vec![unlimited; width],
        });
        self.by_subscriber.insert((hop, subscriber), number);
        Ok(number)
    }

    fn close(&mut self, number: usize) {
        let Some(flow) = self.flows.get_mut(number).and_then(Option::take) else {
            return;
        };
        if let Some(seen) = self.seen.get_mut(number) {
            *seen = NEVER;
        }
        self.by_key.remove(&flow.key);
        self.spare_heads.push(flow.heads);
        self.free.push(number);
    }

    /// Closes flows that were idle too long, a few for each of `packets`.
    pub(super) fn sweep(&mut self, packets: usize, now_ns: u64) {
        for _ in 0..packets.saturating_mul(SWEEP).min(self.seen.len()) {
            self.cursor = self.cursor.saturating_add(1);
            if self.cursor >= self.seen.len() {
                self.cursor = 0;
            }
            let number = self.cursor;
            let last = self.seen.get(number).copied().unwrap_or(NEVER);
            let idle = now_ns.saturating_sub(last);
            if idle >= EBB_NS.min(IDLE_NS) {
                self.close_idle(number, idle);
            }
        }
    }

    #[cold]
    fn close_idle(&mut self, number: usize, idle: u64) {
        let Some(flow) = self.flows.get_mut(number).and_then(Option::as_mut) else {
            return;
        };
        let reason = match flow.proof.is_ebbing() {
            true if idle >= EBB_NS => CloseReason::Reset,
            false if idle >= IDLE_NS => CloseReason::Idle,
            _ => return,
        };
        if let Some(session) = self.sessions.get_mut(flow.session) {
            flow.proof.close(&mut session.views, reason);
        }
        self.close(number);
    }

    /// One row per content and session that carried any byte of it.
    pub(super) fn rows(&self) -> Vec<ContentRow> {
        let mut rows = Vec::new();
        for (slot, (content, _)) in self.contents.0.iter().enumerate() {
            for session in &self.sessions {
                let Some(view) = session.views.get(slot) else {
                    continue;
                };
                let classes = view.classes();
                if classes.wire_payload.is_zero() {
                    continue;
                }
                let name = session.uplink.or(session.downlink);
                rows.push(ContentRow {
                    content: *content,
                    content_bytes: classes.verified_unique,
                    overhead_bytes: classes.overhead_allowed,
                    pending_bytes: classes.pending,
                    repeat_bytes: classes.verified_repeat,
                    retransmit_bytes: classes.retransmit,
                    session: name.map_or_else(String::new, |(peer, teid)| format!("{peer}/{teid}")),
                    undelivered_bytes: classes.undelivered,
                    user_charged_bytes: classes.user_charged,
                    wire_payload_bytes: classes.wire_payload,
                });
            }
        }
        rows
    }
}

fn sorted<T: Ord>(a: T, b: T) -> (T, T) {
    if a <= b { (a, b) } else { (b, a) }
}
