//! Stops 3 to 5 of a byte's way: quota, proof, and the counters that stand before a packet leaves.

use std::net::SocketAddr;

use qlink_content::{
    CloseReason, Context, Deltas, Direction, FlowProof, Policy, Segment, Verdict, View, WordSink,
};
use qlink_meter::{
    ChargeMode, DropReason, FlowIdentity, FlowKey, HotSession, PacketDelta, Proven, Quota,
    QuotaVerdict, SessionSlot, StageSink, WorkerCounter,
};
use qlink_pfcp::MAX_CONTENTS;
use qlink_types::receipt::ByteClasses;
use qlink_types::units::Bytes;
use qlink_wire::{TcpSegment, protocol};

use crate::contents::ArenaHeads;
use crate::parse::{Inner, Transport, drop_reason, ports_by_side, proof_segment};
use crate::plane::{Plane, Sponsored};
use crate::ruled::{Demand, forecast};

/// Lets a state write its words into the arena.
struct ArenaWords<'a, 'b>(&'a mut StageSink<'b>);

impl WordSink for ArenaWords<'_, '_> {
    #[inline]
    fn put(&mut self, word: u64) {
        self.0.put(word);
    }
}

/// Writes a view's state.
#[inline]
pub(crate) fn write_view(view: &View, sink: &mut StageSink<'_>) {
    view.encode(&mut ArenaWords(sink));
}

/// Classes as words, in the order of their fields.
#[inline]
pub(crate) const fn class_words(classes: &ByteClasses) -> [u64; 8] {
    [
        classes.wire_payload.get(),
        classes.verified_unique.get(),
        classes.retransmit.get(),
        classes.verified_repeat.get(),
        classes.overhead_allowed.get(),
        classes.undelivered.get(),
        classes.user_charged.get(),
        classes.pending.get(),
    ]
}

/// Room to take a judgement back.
#[derive(Debug)]
pub(crate) struct Trial {
    proof: FlowProof,
    views: Vec<View>,
    /// Views of a forecast.
    ahead: Vec<View>,
    /// What quotas of proven bytes are asked.
    demands: Vec<Demand>,
}

/// Head bytes that may wait for a first verified byte although nobody can pay for them: a request
/// and a response head of 8 KiB.
const UNVERIFIED_MAX: u64 = 16_384;

/// What is pending in a session besides one flow, and what its sponsor pays in all.
struct Sponsorship {
    limit: u64,
    others: u64,
}

impl Trial {
    pub(crate) fn new() -> Self {
        Self {
            proof: FlowProof::new(0),
            views: Vec::with_capacity(MAX_CONTENTS),
            ahead: Vec::with_capacity(MAX_CONTENTS),
            demands: Vec::with_capacity(MAX_CONTENTS),
        }
    }

    fn save(&mut self, proof: &FlowProof, views: &[View]) {
        self.proof = *proof;
        self.views.clear();
        self.views.extend_from_slice(views);
    }

    /// Bytes that the payer would owe if all that is pending were acknowledged; `None` when that
    /// is no more than before the judgement.
    fn owed(
        &mut self,
        proof: &FlowProof,
        views: &[View],
        sponsorship: &Sponsorship,
    ) -> Option<u64> {
        let before = owed(&self.proof, &self.views, &mut self.ahead, sponsorship);
        let after = owed(proof, views, &mut self.ahead, sponsorship);
        (after > before).then_some(after)
    }

    /// What the judgement asks of each content if all that is pending is acknowledged.
    fn demands(&mut self, proof: &FlowProof, views: &[View]) -> &[Demand] {
        let before = (&self.proof, self.views.as_slice());
        forecast(before, (proof, views), &mut self.ahead, &mut self.demands);
        &self.demands
    }

    fn restore(&self, proof: &mut FlowProof, views: &mut [View]) {
        *proof = self.proof;
        for (to, from) in views.iter_mut().zip(&self.views) {
            *to = *from;
        }
    }
}

/// Charged bytes that count when their packet has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charge {
    user_charged: u64,
    /// The part of them that the personal payer is billed.
    personal: u64,
}

impl Charge {
    /// What a packet of `bytes` network bytes adds.
    #[inline(always)]
    pub(crate) const fn of_packet(self, direction: Direction, bytes: u32) -> PacketDelta {
        PacketDelta {
            direction: match direction {
                Direction::Uplink => qlink_meter::Direction::Uplink,
                Direction::Downlink => qlink_meter::Direction::Downlink,
            },
            bytes,
            user_charged: self.user_charged,
            personal: self.personal,
        }
    }
}

/// What a judged packet does to its session.
struct Step {
    /// Counters that must stand before the packet leaves.
    proven: Proven,
    /// Counters that wait until it has left.
    deferred: Charge,
}

impl Step {
    /// Splits `deltas`: charged bytes of this very packet wait until it has left, everything else
    /// is proof or was forwarded before.
    #[inline]
    fn new(mut proven: Proven, deltas: &Deltas, quota: Quota, used: u64) -> Self {
        let deferred = deltas.user_charged.min(deltas.wire_payload);
        let charged = quota.charged(deltas.user_charged, deltas.verified_repeat);
        let billed = quota.billed(used, charged);
        let billed_later = billed.min(deferred);
        let add = u64::saturating_add;
        proven.wire_payload = add(
            proven.wire_payload,
            deltas.wire_payload.saturating_sub(deferred),
        );
        proven.verified_unique = add(proven.verified_unique, deltas.verified_unique);
        proven.retransmit = add(proven.retransmit, deltas.retransmit);
        proven.verified_repeat = add(proven.verified_repeat, deltas.verified_repeat);
        proven.overhead_allowed = add(proven.overhead_allowed, deltas.overhead_allowed);
        proven.undelivered = add(proven.undelivered, deltas.undelivered);
        proven.user_charged = add(
            proven.user_charged,
            deltas.user_charged.saturating_sub(deferred),
        );
        proven.pending = add(proven.pending, deltas.pending_in).saturating_sub(deltas.pending_out);
        proven.personal = add(proven.personal, billed.saturating_sub(billed_later));
        if deltas.violations > 0 || !proven.classes().is_conserved() {
            proven.violations = add(proven.violations, 1);
        }
        Self {
            proven,
            deferred: Charge {
                user_charged: deferred,
                personal: billed_later,
            },
        }
    }
}

/// A TCP packet of a sponsored session.
struct FlowPacket<'a> {
    slot: SessionSlot,
    direction: Direction,
    segment: Segment<'a>,
    now_ns: u64,
    policy: Policy,
}

impl Plane {
    /// Judges a packet of a session: quota, proof, and the counters that stand before it leaves.
    /// What waits for the transmit is written to `delta`.
    ///
    /// # Errors
    ///
    /// Why the packet must not be forwarded; nothing has changed then, and `delta` means nothing.
    #[inline(always)]
    pub(crate) fn judge(
        &mut self,
        slot: SessionSlot,
        direction: Direction,
        inner: &Inner<'_>,
        now_ns: u64,
        delta: &mut PacketDelta,
    ) -> Result<(), DropReason> {
        let Some(hot) = self.sessions.get(slot) else {
            return Err(DropReason::TeidUnknown);
        };
        let quota = hot.quota();
        let charge = match inner.transport {
            Transport::Tcp(tcp) if hot.is_sponsored() => {
                // Copies, so that what is parsed lives in memory here only.
                let inner = *inner;
                self.judge_tcp(slot, quota, direction, &inner, &tcp, now_ns)?
            }
            _ => self.judge_plain(slot, quota, inner.payload_len)?,
        };
        *delta = charge.of_packet(direction, inner.ip.total_len);
        Ok(())
    }

    /// What the session's personal payer has been billed, the running burst included.
    #[inline]
    fn billed(&self, slot: SessionSlot) -> u64 {
        let running = self.entries.get(slot).map_or(0, |delta| delta.personal);
        self.arena.billed(slot).saturating_add(running)
    }

    /// A packet without content flow: its whole payload is charged.
    #[inline(always)]
    pub(crate) fn judge_plain(
        &self,
        slot: SessionSlot,
        quota: Quota,
        payload: u32,
    ) -> Result<Charge, DropReason> {
        let payload = u64::from(payload);
        if quota.mode == ChargeMode::Operator {
            return Ok(Charge {
                user_charged: payload,
                personal: 0,
            });
        }
        let used = self.billed(slot);
        match quota.judge(used, payload, payload) {
            QuotaVerdict::Pass => Ok(Charge {
                user_charged: payload,
                personal: quota.billed(used, payload),
            }),
            QuotaVerdict::Stop(reason) => Err(reason),
        }
    }

    fn judge_tcp(
        &mut self,
        slot: SessionSlot,
        quota: Quota,
        direction: Direction,
        inner: &Inner<'_>,
        tcp: &TcpSegment<'_>,
        now_ns: u64,
    ) -> Result<Charge, DropReason> {
        let (ue_port, remote_port) = ports_by_side(direction, tcp.src_port, tcp.dst_port);
        let remote = match direction {
            Direction::Uplink => inner.ip.dst,
            Direction::Downlink => inner.ip.src,
        };
        let key = FlowKey {
            session: slot,
            protocol: protocol::TCP,
            ue_port,
            remote,
            remote_port,
        };
        let hash = self.flows.hash(&key);
        let flow = match self.flows.find(hash, &key) {
            Some(flow) => flow,
            None => {
                let opens = direction == Direction::Uplink && tcp.flags.syn() && !tcp.flags.ack();
                let accepted = self
                    .session(slot)
                    .is_some_and(|session| session.accepts(SocketAddr::new(remote, remote_port)));
                if !opens || !accepted {
                    return self.judge_plain(slot, quota, inner.payload_len);
                }
                self.open_flow(key, now_ns)?
            }
        };
        let packet = FlowPacket {
            slot,
            direction,
            segment: proof_segment(tcp, inner.payload_len),
            now_ns,
            policy: self.policy,
        };
        self.judge_flow(flow, quota, &packet)
    }

    fn session(&self, slot: SessionSlot) -> Option<&Sponsored> {
        self.sponsored.get(slot.index())?.as_deref()
    }

    fn open_flow(&mut self, key: FlowKey, now_ns: u64) -> Result<usize, DropReason> {
        if self.flows.of_session(key.session) >= self.session_flows_max
            && !self.make_room(Some(key.session), now_ns)
        {
            return Err(DropReason::SessionFlowsFull);
        }
        let flow = match self.flows.open(key) {
            None if self.make_room(None, now_ns) => self.flows.open(key),
            opened => opened,
        };
        let Some(flow) = flow else {
            self.arena.count(WorkerCounter::FlowTableFull, 1);
            return Err(DropReason::FlowTableFull);
        };
        let proof = FlowProof::new(now_ns);
        self.arena.open_flow(flow, FlowIdentity { key }, |sink| {
            proof.encode(&mut ArenaWords(sink));
        });
        if let Some(place) = self.proofs.get_mut(flow) {
            *place = proof;
        }
        Ok(flow)
    }

    fn judge_flow(
        &mut self,
        flow: usize,
        quota: Quota,
        packet: &FlowPacket<'_>,
    ) -> Result<Charge, DropReason> {
        let proven = self.arena.proven(packet.slot);
        let used = self.billed(packet.slot);
        let payload = u64::from(packet.segment.payload_len);
        let (Some(proof), Some(Some(session))) = (
            self.proofs.get_mut(flow),
            self.sponsored.get_mut(packet.slot.index()),
        ) else {
            return Err(DropReason::TeidUnknown);
        };
        session.share_limit();
        let mut ruled = self.ruled.get_mut(packet.slot);
        let room = ruled.as_ref().map_or(u64::MAX, |ruled| ruled.proven_room());
        // More than this packet and all that is pending cannot be decided now. Only where that
        // could pass a limit must the judgement be one that can be taken back.
        let stake = payload.saturating_add(proven.pending);
        let near = quota.left(used).min(room) < stake
            || (session.views.len() > 1 && session.left() < stake);
        if near {
            self.trial.save(proof, &session.views);
        }
        let heads = ArenaHeads(self.arena.heads(flow));
        let mut deltas = run(proof, session, heads, packet)?;
        if near && session.views.len() > 1 && exceeds(session) {
            let grown = first_grown(&session.views, &self.trial.views);
            self.trial.restore(proof, &mut session.views);
            limit_to(session, grown);
            let heads = ArenaHeads(self.arena.heads(flow));
            deltas = run(proof, session, heads, packet)?;
        }
        if near {
            let charged = quota.charged(deltas.user_charged, deltas.verified_repeat);
            if let QuotaVerdict::Stop(reason) = quota.judge(used, charged, payload) {
                self.trial.restore(proof, &mut session.views);
                return Err(reason);
            }
        }
        if room < stake
            && deltas.pending_in > 0
            && let Some(ruled) = &mut ruled
            && !ruled.admit_proven(self.trial.demands(proof, &session.views))
        {
            self.trial.restore(proof, &mut session.views);
            return Err(DropReason::UrrQuotaExhausted);
        }
        if near && deltas.pending_in > 0 {
            let pending = proven
                .pending
                .saturating_add(deltas.pending_in)
                .saturating_sub(deltas.pending_out);
            let sponsorship = Sponsorship {
                limit: session.limit,
                others: pending.saturating_sub(proof.pending_bytes()),
            };
            // Bytes that the sponsor will not pay must stop before they leave: acknowledged or
            // closed it is too late.
            let owed = if session.left() < pending {
                self.trial.owed(proof, &session.views, &sponsorship)
            } else {
                None
            };
            let heads = Some(proof.unverified_overhead()).filter(|heads| *heads > UNVERIFIED_MAX);
            let verdict = quota.judge(used, owed.max(heads).unwrap_or(0), payload);
            if let QuotaVerdict::Stop(reason) = verdict {
                self.trial.restore(proof, &mut session.views);
                return Err(reason);
            }
        }
        let step = Step::new(proven, &deltas, quota, used);
        self.commit(flow, packet.slot, packet.direction, step.proven);
        self.charged(packet.slot, &deltas);
        Ok(step.deferred)
    }

    /// Writes a flow, the views that changed and the session as one change; frees a closed flow.
    /// Usage rules count what is proven as downlink, and what is charged in `direction`.
    fn commit(&mut self, flow: usize, slot: SessionSlot, direction: Direction, proven: Proven) {
        let before = self.arena.proven(slot);
        let charged = proven.user_charged.saturating_sub(before.user_charged);
        if proven.violations > before.violations {
            self.arena.count(WorkerCounter::ConservationViolations, 1);
        }
        let (Some(proof), Some(Some(session))) =
            (self.proofs.get(flow), self.sponsored.get_mut(slot.index()))
        else {
            return;
        };
        let mut ruled = self.ruled.get_mut(slot);
        let mut update = self.arena.update();
        update.flow(flow, |sink| proof.encode(&mut ArenaWords(sink)));
        let views = session.views.iter().zip(&session.places);
        for (position, ((view, place), written)) in views.zip(&mut session.written).enumerate() {
            let classes = class_words(&view.classes());
            if classes != *written {
                update.view(*place, classes, |sink| write_view(view, sink));
                if let Some(ruled) = &mut ruled {
                    let [_, before, ..] = *written;
                    let [_, now, ..] = classes;
                    ruled.account_proven(position, now.saturating_sub(before), &mut update);
                }
                *written = classes;
            }
        }
        if let Some(ruled) = &mut ruled {
            ruled.account_charged((direction, charged), &mut update);
        }
        update.proven(slot, proven);
        update.commit();
        // Payload of a flow that is charged to its end needs no flow: it is charged without.
        if proof.closed().is_some() || proof.is_settled() {
            self.arena.close_flow(flow);
            self.flows.close(flow);
        }
    }

    /// Ends a flow: what is pending finds its class.
    pub(crate) fn close_flow(&mut self, flow: usize, reason: CloseReason) {
        self.settle_flow(flow, |proof, views| proof.close(views, reason));
        // A flow that does not count as closed by itself is over all the same.
        if self.flows.key(flow).is_some() {
            self.arena.close_flow(flow);
            self.flows.close(flow);
        }
    }

    /// Lets a flow rest: what is pending finds its class, and the connection may go on.
    pub(crate) fn pause_flow(&mut self, flow: usize) {
        self.settle_flow(flow, FlowProof::pause);
    }

    fn settle_flow(
        &mut self,
        flow: usize,
        settle: impl FnOnce(&mut FlowProof, &mut [View]) -> Deltas,
    ) {
        let Some(slot) = self.flows.key(flow).map(|key| key.session) else {
            return;
        };
        let quota = self.sessions.get(slot).map(HotSession::quota);
        let (Some(proof), Some(Some(session)), Some(quota)) = (
            self.proofs.get_mut(flow),
            self.sponsored.get_mut(slot.index()),
            quota,
        ) else {
            return;
        };
        let deltas = settle(proof, &mut session.views);
        let used = self.arena.billed(slot);
        let step = Step::new(self.arena.proven(slot), &deltas, quota, used);
        self.commit(flow, slot, Direction::Downlink, step.proven);
        self.charged(slot, &deltas);
    }
}

#[inline]
fn run(
    proof: &mut FlowProof,
    session: &mut Sponsored,
    mut heads: ArenaHeads<'_>,
    packet: &FlowPacket<'_>,
) -> Result<Deltas, DropReason> {
    let mut context = Context {
        contents: &session.contents,
        views: &mut session.views,
        heads: &mut heads,
        now_ns: packet.now_ns,
        policy: packet.policy,
    };
    match proof.segment(&mut context, packet.direction, &packet.segment) {
        Verdict::Forward(deltas) => Ok(deltas),
        Verdict::Drop(reason) => Err(drop_reason(reason)),
    }
}

/// Bytes above the sponsor's limit, or otherwise charged, once all that is pending is
/// acknowledged.
fn owed(
    proof: &FlowProof,
    views: &[View],
    ahead: &mut Vec<View>,
    sponsorship: &Sponsorship,
) -> u64 {
    ahead.clear();
    ahead.extend_from_slice(views);
    let charged = proof.charge_ahead(ahead);
    let now = unique(views);
    let demand = unique(ahead)
        .saturating_sub(now)
        .saturating_add(sponsorship.others);
    let room = sponsorship.limit.saturating_sub(now);
    charged.saturating_add(demand.saturating_sub(room))
}

fn unique(views: &[View]) -> u64 {
    views.iter().fold(0, |sum: u64, view| {
        sum.saturating_add(view.classes().verified_unique.get())
    })
}

/// Whether the views together passed the session's limit: each alone may use all that is left.
fn exceeds(session: &Sponsored) -> bool {
    unique(&session.views) > session.limit
}

/// The first view that has more verified bytes than before.
fn first_grown(views: &[View], before: &[View]) -> usize {
    let grown = |(now, then): (&View, &View)| {
        now.classes().verified_unique > then.classes().verified_unique
    };
    views.iter().zip(before).position(grown).unwrap_or(0)
}

/// Gives what is left of the session's limit to one view alone.
fn limit_to(session: &mut Sponsored, only: usize) {
    let left = session.left();
    for (number, view) in session.views.iter_mut().enumerate() {
        let own = view.classes().verified_unique.get();
        let more = if number == only { left } else { 0 };
        let limit = Bytes::new(own.saturating_add(more));
        view.set_limit(limit, qlink_content::LimitReason::PackageExhausted);
    }
}
