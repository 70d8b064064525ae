//! The flow's state and what SYN, ACK, FIN and RST do to it.

use qlink_kernel::prefetch;

use super::half::Half;
use super::input::{CloseReason, Context, Direction, DropReason, Policy, Segment, Verdict};
use super::settle::Outcome;
use super::tally::Tally;
use super::walk;
use crate::coverage::Ranges;
use crate::deltas::{ChargeReason, Deltas, add};
use crate::http::{Queue, Side, Violation};
use crate::map::{Place, Slot};
use crate::oracle::{CopyOracle, Oracle as _};
use crate::view::{Classes, View};

/// Responses whose copies are compared. Source: the flow's rule d.
pub(super) const RESPONSES_KEPT: u32 = 8;

/// Room for islands of downlink stream that wait for their acknowledgement.
pub(super) const PENDING_RANGES: usize = 32;

/// Mismatching segments that demote a flow. Source: design.md law 3.
pub(super) const MISMATCH_LIMIT: u8 = 3;

/// How a flow is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// By the rules.
    Proving,
    /// The subscriber has reset the connection: what is still under way to him is compared, but
    /// never acknowledged.
    Ebbing,
    /// Charged: its start was not seen.
    MidStream,
    /// Charged: its framing is in doubt.
    Unframed(Violation),
    /// Charged: it did not match.
    Demoted,
    /// Charged: it is over.
    Closed(CloseReason),
}

impl Standing {
    /// Why all payload is charged; `None` when it is not.
    #[inline]
    pub(super) const fn charge(self) -> Option<ChargeReason> {
        match self {
            Self::Proving | Self::Ebbing => None,
            Self::MidStream => Some(ChargeReason::MidStream),
            Self::Unframed(_) => Some(ChargeReason::Unframed),
            Self::Demoted => Some(ChargeReason::Demoted),
            Self::Closed(_) => Some(ChargeReason::Closed),
        }
    }
}

/// The proof of one TCP flow: a plain value of fixed size that puts each payload byte into one
/// class and can be stored as words after each packet.
///
/// What every segment looks at comes first in here and in each direction: it lies on few cache
/// lines, which [`Self::prefetch`] asks for.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct FlowProof {
    pub(super) standing: Standing,
    pub(super) last_ns: u64,
    pub(super) pending_verified: u64,
    pub(super) pending_overhead: u64,
    pub(super) mismatches: u8,
    /// Whether a content byte was acknowledged.
    pub(super) verified: bool,
    /// The first content nominated.
    pub(super) primary: Option<u16>,
    /// Bytes that wait for `primary`.
    pub(super) unbound: Classes,
    pub(super) violations: u64,
    /// Downlink stream that waits for its acknowledgement; heads and framing inside are skipped.
    pub(super) pending: Ranges<PENDING_RANGES>,
    pub(super) up: Half,
    pub(super) down: Half,
    pub(super) queue: Queue,
    /// Stated content length of the last responses, by message number; 0: unknown.
    pub(super) totals: [u64; RESPONSES_KEPT as usize],
}

impl FlowProof {
    /// A flow of which nothing was seen.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self {
            up: Half::new(Side::Request),
            down: Half::new(Side::Response),
            standing: Standing::Proving,
            pending: Ranges::new(),
            queue: Queue::new(),
            pending_verified: 0,
            pending_overhead: 0,
            mismatches: 0,
            verified: false,
            primary: None,
            unbound: Classes::default(),
            totals: [0; RESPONSES_KEPT as usize],
            last_ns: now_ns,
            violations: 0,
        }
    }

    /// Starts loading what nearly every segment needs.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(&self.standing);
        prefetch(&self.unbound);
        prefetch(&self.pending);
        prefetch(&self.up);
        prefetch(&self.down);
        prefetch(&self.down.seen);
    }

    /// Judges one segment: the class of each payload byte, and what its acknowledgement settles.
    ///
    /// Views are changed in place. After [`Verdict::Drop`] neither flow nor views have changed and
    /// the packet must not be forwarded; [`Policy::Replay`] never drops.
    #[inline]
    pub fn segment(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        segment: &Segment<'_>,
    ) -> Verdict {
        if direction == Direction::Downlink
            && self.standing == Standing::Proving
            && let Some(deltas) = self.steady(context, segment)
        {
            return Verdict::Forward(deltas);
        }
        if let Some(deltas) = self.charged(context, direction, segment) {
            return Verdict::Forward(deltas);
        }
        match self.any(context, direction, segment) {
            Ok(deltas) => Verdict::Forward(deltas),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// The steady state: downlink bytes that continue the stream inside one body and match. `None`
    /// when anything is different; nothing has changed then.
    #[inline]
    fn steady(&mut self, context: &mut Context<'_>, segment: &Segment<'_>) -> Option<Deltas> {
        let control = Segment::SYN | Segment::FIN | Segment::RST;
        let down = &mut self.down;
        let length = segment.payload.len() as u64;
        let plain = !segment.has(control)
            && self.standing == Standing::Proving
            && length > 0
            && u64::from(segment.payload_len) == length
            && down.fin.is_none();
        let start = down.end;
        let stop = start.checked_add(length)?;
        let continues = u64::try_from(down.position(segment.seq)?) == Ok(start)
            && down.seen.last()?.end == start
            && stop <= down.parse_at;
        if !plain || !continues {
            return None;
        }
        let located = down.map.locate(start);
        let Place::Body {
            slot: Slot::Content(slot),
            offset,
        } = located.place
        else {
            return None;
        };
        let view = context.views.get_mut(usize::from(slot))?;
        let copy = context.contents.content(slot)?.bytes;
        if length > located.len
            || !self.pending.insert_would_fit(start, stop)
            || CopyOracle::new(copy).equal_prefix(offset, segment.payload) != segment.payload.len()
        {
            return None;
        }
        // Both continue a range or fit, as just checked.
        let _ = down.seen.insert(start, stop);
        let _ = self.pending.insert(start, stop);
        down.end = stop;
        add(&mut self.pending_verified, length);
        add(&mut view.classes.wire_payload, length);
        add(&mut view.classes.pending, length);
        self.last_ns = context.now_ns;
        if segment.has(Segment::ACK)
            && let Some(acked) = self.up.acknowledged(segment.ack)
        {
            self.up.acked = self.up.acked.max(acked);
        }
        Some(Deltas {
            wire_payload: length,
            pending_in: length,
            ..Deltas::default()
        })
    }

    pub(super) fn any(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        segment: &Segment<'_>,
    ) -> Result<Deltas, DropReason> {
        let length = u64::from(segment.payload_len).max(segment.payload.len() as u64);
        let mut deltas = Deltas::default();
        let seen_before = std::mem::replace(&mut self.last_ns, context.now_ns);
        if segment.has(Segment::SYN) {
            match direction {
                Direction::Uplink => self.open(context.views, segment.seq, &mut deltas),
                Direction::Downlink => self.answer(segment),
            }
        }
        if length > 0
            && let Err(reason) = self.payload(context, direction, segment, &mut deltas)
        {
            self.last_ns = seen_before;
            return Err(reason);
        }
        if segment.has(Segment::FIN) {
            self.finish(direction, segment, length);
        }
        if segment.has(Segment::ACK) {
            self.acknowledge(context.views, direction, segment.ack, &mut deltas);
        }
        let over = if segment.has(Segment::RST) && self.believes_reset(direction, segment) {
            Some(CloseReason::Reset)
        } else if self.up.is_finished() && self.down.is_finished() {
            Some(CloseReason::Finished)
        } else {
            None
        };
        match over {
            // A server that has not heard of it yet goes on sending, and the subscriber is not to
            // pay for what he no longer wants.
            Some(CloseReason::Reset)
                if direction == Direction::Uplink && self.standing.charge().is_none() =>
            {
                self.leave_undelivered(context.views, &mut deltas);
                self.standing = Standing::Ebbing;
            }
            Some(reason) => self.end(context.views, reason, &mut deltas),
            None => {}
        }
        self.audit(&mut deltas);
        Ok(deltas)
    }

    /// Classes the payload. Kept apart: what it needs on the stack would slow acknowledgements.
    #[inline(never)]
    fn payload(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        segment: &Segment<'_>,
        deltas: &mut Deltas,
    ) -> Result<(), DropReason> {
        let may_drop = context.policy == Policy::Live && self.standing.charge().is_none();
        let before = may_drop.then_some(*self);
        let mut tally = Tally::new(deltas);
        if let Err(reason) = walk::payload(self, context, direction, segment, &mut tally) {
            // Only a flow that compares drops, on live traffic, and that was kept.
            if let Some(before) = before {
                *self = before;
            }
            return Err(reason);
        }
        tally.apply(context.views, self.primary, &mut self.unbound);
        if self.standing == Standing::Ebbing {
            self.leave_undelivered(context.views, deltas);
        }
        Ok(())
    }

    /// Ends the flow: nothing of it stays pending. Closing twice adds nothing.
    pub fn close(&mut self, views: &mut [View], reason: CloseReason) -> Deltas {
        let mut deltas = Deltas::default();
        self.end(views, reason, &mut deltas);
        self.audit(&mut deltas);
        deltas
    }

    /// Whether the flow is closed, and why.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        match self.standing {
            Standing::Closed(reason) => Some(reason),
            Standing::Proving
            | Standing::Ebbing
            | Standing::MidStream
            | Standing::Unframed(_)
            | Standing::Demoted => None,
        }
    }

    /// Why all payload of the flow is charged now; `None` when it is judged by its bytes.
    #[must_use]
    pub const fn charge(&self) -> Option<ChargeReason> {
        self.standing.charge()
    }

    /// Segments that did not match so far; the third one demotes the flow.
    #[must_use]
    pub const fn mismatches(&self) -> u8 {
        self.mismatches
    }

    /// Why the flow's framing is in doubt, if it is.
    #[must_use]
    pub const fn violation(&self) -> Option<Violation> {
        match self.standing {
            Standing::Unframed(violation) => Some(violation),
            Standing::Proving
            | Standing::Ebbing
            | Standing::MidStream
            | Standing::Demoted
            | Standing::Closed(_) => None,
        }
    }

    /// Whether nothing is pending and all later payload is charged, whatever it is: the flow may
    /// be forgotten, and its packets charged without it.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self.standing, Standing::MidStream | Standing::Unframed(_))
            && self.pending_bytes() == 0
    }

    /// Whether the subscriber has reset the connection: close it after [`crate::EBB_NS`] without a
    /// segment.
    #[must_use]
    pub const fn is_ebbing(&self) -> bool {
        matches!(self.standing, Standing::Ebbing)
    }

    /// Lets the last segment have come no later than `now_ns`: after a restart of the machine the
    /// caller's clock may have begun anew.
    pub fn seen_by(&mut self, now_ns: u64) {
        self.last_ns = self.last_ns.min(now_ns);
    }

    /// When the last segment came, in the caller's nanoseconds; pause or close after
    /// [`crate::IDLE_NS`], forget after [`crate::FORGET_NS`].
    #[must_use]
    pub const fn idle_since(&self) -> u64 {
        self.last_ns
    }

    /// Bytes that have no final class yet.
    #[must_use]
    pub const fn pending_bytes(&self) -> u64 {
        self.pending_verified.saturating_add(self.pending_overhead)
    }

    /// Head and framing bytes that wait for a first verified byte; 0 once there was one.
    #[must_use]
    pub const fn unverified_overhead(&self) -> u64 {
        if self.verified {
            0
        } else {
            self.pending_overhead
        }
    }

    /// Broken conservation laws found so far; always zero.
    #[must_use]
    pub const fn violations(&self) -> u64 {
        self.violations
    }

    pub(super) const fn half(&self, direction: Direction) -> &Half {
        match direction {
            Direction::Uplink => &self.up,
            Direction::Downlink => &self.down,
        }
    }

    pub(super) const fn half_mut(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Uplink => &mut self.up,
            Direction::Downlink => &mut self.down,
        }
    }

    /// The subscriber's SYN: the start of the flow, its repetition, or the start of another one.
    fn open(&mut self, views: &mut [View], isn: u32, deltas: &mut Deltas) {
        let known = self.up.isn;
        if known == Some(isn) {
            return;
        }
        if known.is_some() || self.standing != Standing::Proving {
            self.end(views, CloseReason::Replaced, deltas);
            let (up, down, violations) = (self.up.log, self.down.log, self.violations);
            *self = Self::new(self.last_ns);
            // The logs go on where they were: a committed state may still compare with them.
            (self.up.log, self.down.log, self.violations) = (up, down, violations);
        }
        self.up.isn = Some(isn);
    }

    /// The server's SYN. It says where the stream starts only as the answer to the subscriber's,
    /// which a stranger cannot give, and only before the stream: anything else could be sent by
    /// anybody to spoil the proof, so it changes nothing. What a SYN carried (RFC 7413) may be
    /// acknowledged with it.
    fn answer(&mut self, segment: &Segment<'_>) {
        let acknowledged = segment
            .has(Segment::ACK)
            .then(|| self.up.position(segment.ack))
            .flatten()
            .and_then(|position| u64::try_from(position).ok());
        let answers = acknowledged.is_some_and(|position| position <= self.up.end);
        let early = self.down.end == 0 && (self.down.isn.is_none() || self.up.end == 0);
        if answers && early && self.standing == Standing::Proving {
            self.down.isn = Some(segment.seq);
        }
    }

    fn finish(&mut self, direction: Direction, segment: &Segment<'_>, length: u64) {
        let half = self.half_mut(direction);
        let Some(start) = half.position(first_seq(segment)) else {
            return;
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        if let Ok(fin) = u64::try_from(start.saturating_add(length))
            && half.believes_end(fin)
        {
            half.fin = Some(fin);
        }
    }

    fn acknowledge(
        &mut self,
        views: &mut [View],
        direction: Direction,
        ack: u32,
        deltas: &mut Deltas,
    ) {
        let half = match direction {
            Direction::Uplink => &mut self.down,
            Direction::Downlink => &mut self.up,
        };
        let Some(acked) = half.acknowledged(ack) else {
            return;
        };
        half.acked = half.acked.max(acked);
        if direction == Direction::Uplink {
            self.settle(views, acked, Outcome::Acknowledged, deltas);
        }
    }

    fn believes_reset(&self, direction: Direction, segment: &Segment<'_>) -> bool {
        let (own, other) = match direction {
            Direction::Uplink => (&self.up, &self.down),
            Direction::Downlink => (&self.down, &self.up),
        };
        if own.isn.is_some() {
            return own.believes_reset(segment.seq);
        }
        // The answer to a SYN that nobody accepts has no number of its own.
        let answered = segment
            .has(Segment::ACK)
            .then(|| other.position(segment.ack))
            .flatten();
        let known = 0..=i64::try_from(other.end).unwrap_or(i64::MAX);
        other.isn.is_none() || answered.is_some_and(|position| known.contains(&position))
    }

    pub(super) fn audit(&mut self, deltas: &mut Deltas) {
        if !deltas.is_conserved() {
            deltas.violations = 1;
            add(&mut self.violations, 1);
        }
    }
}

/// Sequence number of the first payload byte; a SYN takes one.
pub(super) const fn first_seq(segment: &Segment<'_>) -> u32 {
    if segment.has(Segment::SYN) {
        segment.seq.wrapping_add(1)
    } else {
        segment.seq
    }
}
