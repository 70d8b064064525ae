//! Content flows of a capture: learned, paired and proven.

use std::collections::HashMap;
use std::net::IpAddr;

use qlink_content::{
    CloseReason, Context, Direction, EBB_NS, FlowProof, HEAD_WORDS, IDLE_NS, LimitReason, Policy,
    Verdict, View,
};
use qlink_meter::DropReason;
use qlink_types::units::Bytes;

use super::report::ContentRow;
use crate::contents::SessionContents;
use crate::parse::{Inner, Transport, Tunnelled, proof_segment};

/// Most flows open at once (chosen: 32 KiB of head logs each, 128 MiB in all).
const FLOWS_MAX: usize = 4096;
/// Most learned sessions times contents (chosen: 600 bytes each, 600 MiB in all).
const VIEWS_MAX: usize = 1 << 20;
/// Flows looked at for idleness per packet.
const SWEEP: usize = 2;

type Endpoint = (IpAddr, u16);

/// Both inner endpoints, the smaller first.
type FlowKey = (Endpoint, Endpoint);

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
    proof: FlowProof,
    heads: Vec<u64>,
}

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
    by_key: HashMap<FlowKey, usize>,
    flows: Vec<Option<Flow>>,
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
            by_key: HashMap::new(),
            flows: Vec::new(),
            free: Vec::new(),
            spare_heads: Vec::new(),
            sessions: Vec::new(),
            by_subscriber: HashMap::new(),
            cursor: 0,
        }
    }

    /// Proves a packet's bytes if it belongs to a flow of this hop.
    pub(super) fn packet(
        &mut self,
        outer: &Tunnelled<'_>,
        inner: &Inner<'_>,
        now_ns: u64,
    ) -> Result<(), DropReason> {
        if self.contents.0.is_empty() {
            return Ok(());
        }
        self.sweep(now_ns);
        let Transport::Tcp(tcp) = &inner.transport else {
            return Ok(());
        };
        let from = (inner.ip.src, tcp.src_port);
        let to = (inner.ip.dst, tcp.dst_port);
        let key = sorted(from, to);
        let hop = sorted(outer.source, outer.destination);
        let tunnel = (outer.destination, outer.gtpu.teid);
        let number = match self.by_key.get(&key) {
            Some(number) => *number,
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
        let segment = proof_segment(tcp, inner.payload_len);
        let verdict = flow.proof.segment(&mut context, direction, &segment);
        if flow.proof.closed().is_some() {
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
            proof: FlowProof::new(now_ns),
            heads: self
                .spare_heads
                .pop()
                .unwrap_or_else(|| vec![0; HEAD_WORDS]),
        };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.flows.push(None);
                self.flows.len().saturating_sub(1)
            }
        };
        if let Some(place) = self.flows.get_mut(number) {
            *place = Some(flow);
        }
        self.by_key.insert(key, number);
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
        self.by_key.remove(&flow.key);
        self.spare_heads.push(flow.heads);
        self.free.push(number);
    }

    /// Closes flows that were idle too long, a few per packet.
    fn sweep(&mut self, now_ns: u64) {
        for _ in 0..SWEEP.min(self.flows.len()) {
            self.cursor = self.cursor.saturating_add(1);
            if self.cursor >= self.flows.len() {
                self.cursor = 0;
            }
            let number = self.cursor;
            let Some(flow) = self.flows.get_mut(number).and_then(Option::as_mut) else {
                continue;
            };
            let idle = now_ns.saturating_sub(flow.proof.idle_since());
            let reason = match flow.proof.is_ebbing() {
                true if idle >= EBB_NS => CloseReason::Reset,
                false if idle >= IDLE_NS => CloseReason::Idle,
                _ => continue,
            };
            if let Some(session) = self.sessions.get_mut(flow.session) {
                flow.proof.close(&mut session.views, reason);
            }
            self.close(number);
        }
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
                    retransmit_bytes: classes.retransmit,
                    session: name.map_or_else(String::new, |(peer, teid)| format!("{peer}/{teid}")),
                    user_charged_bytes: classes.user_charged,
                });
            }
        }
        rows
    }
}

fn sorted<T: Ord>(a: T, b: T) -> (T, T) {
    if a <= b { (a, b) } else { (b, a) }
}
