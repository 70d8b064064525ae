//! The simulators' account of what a cheater sent: every TCP payload byte of his flows, every copy,
//! minus genuine film bytes, minus allowed overhead. Passive and pure: packets in, numbers out.
//! It shares no code with the gateway, whose figure it checks.
//!
//! # Two observers, one machine
//!
//! ```text
//!               (A) BaseStation                            (B) origin
//! viewer --> uplink seen by A  --> gateway --> uplink seen by B  -->
//!        <-- downlink seen by A <-- gateway <-- downlink seen by B <--
//! ```
//! A byte counts where it has passed the gateway: downlink at A, uplink at B. But a class needs
//! both directions (which film was asked for, what is acknowledged, whether the flow is demoted), so
//! the same [`CheatMeter`] runs at both places on both directions, and [`foreign_bytes`] takes the
//! downlink figures from A and the uplink figures from B. Nothing lies between A and B but the
//! gateway, which keeps each direction's order; so where the two meters differ, the gateway dropped
//! something (`gateway_dropped_bytes`: told, and not counted) or the two directions crossed at a
//! moment that decides a class (`undecided_bytes`: more of a class differs than was dropped). An
//! exact comparison needs the latter to be 0.
//!
//! # Rules, per flow
//!
//! 1. A *genuine* byte is a body byte of a `GET` answer equal to the film of the asked path at the
//!    position that `Content-Range` (or 0) and the framing give it; every copy counts.
//! 2. A head is *allowed* up to its first 8,192 bytes. Chunk sizes, line ends and trailers share the
//!    allowance of their answer's head. Copies of allowed bytes are allowed when equal.
//! 3. Overhead is allowed only on a flow with at least one genuine byte acknowledged by the viewer.
//! 4. From the first foreign body byte of a segment to the segment's end everything is foreign. The
//!    third such segment demotes the flow: later payload in either direction is foreign. So does
//!    payload that is no HTTP/1.1.
//! 5. A stream position whose first copy was foreign by rule 4 stays foreign, and its later copies
//!    are no further mismatch: a retransmission is the same offence, not a new one.
//! 6. Everything else is foreign: request bodies, bodies of other resources, what exceeds 2.
//!
//! Payload that arrives ahead of a gap is judged once the gap closes (a body of known length is
//! known at once); what is never judged is foreign. The gateway forwards no uplink payload ahead of
//! a gap in a head, so at the origin such payload does not occur.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use qlink_wire::{parse_ip, parse_tcp, protocol};
use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;

mod flow;
mod ranges;
mod stream;
#[cfg(test)]
mod tests;

use flow::Flow;

/// Head and framing bytes allowed per message. Source: the issue, and law 3 of the design.
const OVERHEAD_ALLOWED: u64 = 8_192;

/// Mismatching segments after which a flow is demoted for good.
const MISMATCHES_MAX: u32 = 3;

/// Flows that a meter keeps; the payload of further ones is counted as foreign at once.
const FLOWS_MAX: usize = 65_536;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the viewer to the origin.
    Uplink,
    /// From the origin to the viewer.
    Downlink,
}

/// One TCP segment of a watched viewer, as the meter sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) direction: Direction,
    pub(crate) seq: u32,
    pub(crate) ack: Option<u32>,
    pub(crate) syn: bool,
    pub(crate) payload: &'a [u8],
}

/// Payload of one direction of a flow, in bytes; copies count each time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadCount {
    /// All TCP payload.
    pub payload: u64,
    /// Genuine film bytes; always 0 uplink.
    pub genuine: u64,
    /// Head and framing bytes within the allowance, valid if the flow is verified.
    pub allowed: u64,
}

/// What one observer saw of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCount {
    /// The viewer's inner address.
    pub viewer: Ipv4Addr,
    /// The viewer's port.
    pub viewer_port: u16,
    /// The server's inner address.
    pub server: Ipv4Addr,
    /// The server's port.
    pub server_port: u16,
    /// The viewer's initial sequence number; tells flows apart that reuse a port.
    pub viewer_isn: Option<u32>,
    /// Uplink payload.
    pub uplink: PayloadCount,
    /// Downlink payload.
    pub downlink: PayloadCount,
    /// Whether the viewer acknowledged a genuine byte.
    pub verified: bool,
    /// Segments with a foreign body byte, up to the demotion.
    pub mismatching_segments: u32,
}

/// Everything one observer saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheatReport {
    /// One row per flow.
    pub flows: Vec<FlowCount>,
    /// Packets of watched viewers that are no whole TCP segment.
    pub other_packets: u64,
    /// Payload of flows beyond the table's bound.
    pub unlisted_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FlowKey {
    viewer: (Ipv4Addr, u16),
    server: (Ipv4Addr, u16),
}

/// One observer of the flows of watched viewers.
#[derive(Debug)]
pub struct CheatMeter {
    catalog: Catalog,
    watched: BTreeSet<Ipv4Addr>,
    flows: BTreeMap<FlowKey, Flow>,
    past: Vec<FlowCount>,
    other_packets: u64,
    unlisted_bytes: u64,
}

impl CheatMeter {
    /// A meter that knows the films of `catalog` and watches nobody yet.
    #[must_use]
    pub const fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            watched: BTreeSet::new(),
            flows: BTreeMap::new(),
            past: Vec::new(),
            other_packets: 0,
            unlisted_bytes: 0,
        }
    }

    /// Watches a viewer from now on.
    pub fn watch(&mut self, viewer: Ipv4Addr) {
        self.watched.insert(viewer);
    }

    /// The films, to add to.
    pub const fn catalog_mut(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    /// Looks at one inner IP packet that passes the observer.
    pub fn observe(&mut self, direction: Direction, packet: &[u8]) {
        let Some((src, dst)) = crate::packet::addresses(packet) else {
            return;
        };
        let viewer = match direction {
            Direction::Uplink => src,
            Direction::Downlink => dst,
        };
        if self.watched.contains(&viewer) && self.segment(direction, packet).is_none() {
            self.other_packets = self.other_packets.saturating_add(1);
        }
    }

    fn segment(&mut self, direction: Direction, packet: &[u8]) -> Option<()> {
        let ip = parse_ip(packet).ok()?;
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else {
            return None;
        };
        if ip.protocol != protocol::TCP || ip.fragment.is_some() {
            return None;
        }
        let tcp = parse_tcp(ip.payload).ok()?;
        let (from, to) = ((src, tcp.src_port), (dst, tcp.dst_port));
        let key = match direction {
            Direction::Uplink => FlowKey {
                viewer: from,
                server: to,
            },
            Direction::Downlink => FlowKey {
                viewer: to,
                server: from,
            },
        };
        self.take(
            key,
            Segment {
                direction,
                seq: tcp.seq,
                ack: tcp.flags.ack().then_some(tcp.ack),
                syn: tcp.flags.syn(),
                payload: tcp.payload,
            },
        );
        Some(())
    }

    fn take(&mut self, key: FlowKey, segment: Segment<'_>) {
        if segment.direction == Direction::Uplink
            && segment.syn
            && self
                .flows
                .get(&key)
                .is_some_and(|flow| flow.is_other_incarnation(segment.seq))
            && let Some(flow) = self.flows.remove(&key)
        {
            self.past.push(count(key, &flow));
        }
        let full = self.flows.len().saturating_add(self.past.len()) >= FLOWS_MAX;
        if full && !self.flows.contains_key(&key) {
            self.unlisted_bytes = self
                .unlisted_bytes
                .saturating_add(segment.payload.len() as u64);
            return;
        }
        self.flows
            .entry(key)
            .or_default()
            .take(segment, &self.catalog);
    }

    /// What was seen so far.
    #[must_use]
    pub fn report(&self) -> CheatReport {
        let open = self.flows.iter().map(|(key, flow)| count(*key, flow));
        CheatReport {
            flows: self.past.iter().copied().chain(open).collect(),
            other_packets: self.other_packets,
            unlisted_bytes: self.unlisted_bytes,
        }
    }
}

fn count(key: FlowKey, flow: &Flow) -> FlowCount {
    FlowCount {
        viewer: key.viewer.0,
        viewer_port: key.viewer.1,
        server: key.server.0,
        server_port: key.server.1,
        viewer_isn: flow.viewer_isn(),
        uplink: flow.uplink(),
        downlink: flow.downlink(),
        verified: flow.is_verified(),
        mismatching_segments: flow.mismatching_segments(),
    }
}

/// A viewer's bytes as the two observers together establish them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignCount {
    /// TCP payload after the gateway, both directions, every copy.
    pub payload_bytes: u64,
    /// Of it genuine film bytes.
    pub genuine_bytes: u64,
    /// Of it allowed overhead.
    pub allowed_bytes: u64,
    /// The rest.
    pub foreign_bytes: u64,
    /// Payload seen before the gateway and not after it.
    pub gateway_dropped_bytes: u64,
    /// Bytes whose class depends on how the directions interleaved inside the gateway.
    pub undecided_bytes: u64,
    /// Flows seen.
    pub flows: u64,
}

/// Joins the BaseStation's and the origin's report into one viewer's figures.
#[must_use]
pub fn foreign_bytes(
    basestation: &CheatReport,
    origin: &CheatReport,
    viewer: Ipv4Addr,
) -> ForeignCount {
    type Sides = (Option<FlowCount>, Option<FlowCount>);
    let mut flows: BTreeMap<_, Sides> = BTreeMap::new();
    let name = |flow: &FlowCount| {
        (
            flow.viewer_port,
            flow.server,
            flow.server_port,
            flow.viewer_isn,
        )
    };
    for flow in basestation
        .flows
        .iter()
        .filter(|flow| flow.viewer == viewer)
    {
        flows.entry(name(flow)).or_default().0 = Some(*flow);
    }
    for flow in origin.flows.iter().filter(|flow| flow.viewer == viewer) {
        flows.entry(name(flow)).or_default().1 = Some(*flow);
    }
    let mut total = ForeignCount::default();
    for (a, b) in flows.values() {
        total.add(a.as_ref(), b.as_ref());
    }
    total
}

impl ForeignCount {
    fn add(&mut self, a: Option<&FlowCount>, b: Option<&FlowCount>) {
        let verified = a.is_some_and(|flow| flow.verified);
        let side = |flow: Option<&FlowCount>, direction: Direction| match (flow, direction) {
            (None, _) => PayloadCount::default(),
            (Some(flow), Direction::Uplink) => flow.uplink,
            (Some(flow), Direction::Downlink) => flow.downlink,
        };
        let (up, up_before) = (side(b, Direction::Uplink), side(a, Direction::Uplink));
        let (down, down_before) = (side(a, Direction::Downlink), side(b, Direction::Downlink));
        let allowed = if verified {
            up.allowed.saturating_add(down.allowed)
        } else {
            0
        };
        let payload = up.payload.saturating_add(down.payload);
        let genuine = down.genuine;
        let fine = allowed.saturating_add(genuine);
        let grow = |total: &mut u64, by: u64| *total = total.saturating_add(by);
        grow(&mut self.payload_bytes, payload);
        grow(&mut self.genuine_bytes, genuine);
        grow(&mut self.allowed_bytes, allowed);
        grow(&mut self.foreign_bytes, payload.saturating_sub(fine));
        grow(&mut self.flows, 1);
        for (before, after) in [(up_before, up), (down_before, down)] {
            let dropped = before.payload.abs_diff(after.payload);
            let fine = |count: PayloadCount| count.allowed.saturating_add(count.genuine);
            let moved = fine(before).abs_diff(fine(after));
            grow(&mut self.gateway_dropped_bytes, dropped);
            grow(&mut self.undecided_bytes, moved.saturating_sub(dropped));
        }
    }
}
