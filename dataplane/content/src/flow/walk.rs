//! One segment's payload, piece by piece: the class of every byte at arrival.

use std::cmp::Reverse;

use super::half::Half;
use super::input::{Context, Direction, DropReason, Policy, Segment};
use super::state::{FlowProof, MISMATCH_LIMIT, RESPONSES_KEPT, Standing, first_seq};
use super::tally::{Arrival, Tally};
use crate::deltas::{ChargeReason, add};
use crate::heads::{self, KEPT_BYTES};
use crate::http::{Body, Event, Head, Nomination, QUEUE_LIMIT, Role};
use crate::map::{Located, MapFull, Place, Slot};
use crate::oracle::{CopyOracle, Oracle as _};

/// Head and framing bytes allowed per request and per response. Source: design.md law 3.
pub(super) const ALLOWANCE: u64 = 8_192;

/// Bytes of a body's first piece that a content must have to be chosen. Source: the flow's rule i.
const PROBE: usize = 32;

/// Classes all payload of `segment`.
pub(super) fn payload(
    flow: &mut FlowProof,
    context: &mut Context<'_>,
    direction: Direction,
    segment: &Segment<'_>,
    tally: &mut Tally<'_>,
) -> Result<(), DropReason> {
    let length = u64::from(segment.payload_len).max(segment.payload.len() as u64);
    let Some(position) = flow.half(direction).position(first_seq(segment)) else {
        if flow.standing.charge().is_none() {
            flow.standing = Standing::MidStream;
        }
        let reason = flow.standing.charge().unwrap_or(ChargeReason::MidStream);
        tally.count(None, Arrival::Charged(reason), length);
        return Ok(());
    };
    // Bytes before the stream are copies of nothing.
    let before = length.min(position.min(0).unsigned_abs());
    let start = u64::try_from(position).unwrap_or(0);
    let end = start.saturating_add(length.saturating_sub(before));
    let skip = usize::try_from(before).unwrap_or(usize::MAX);
    let captured = segment.payload.get(skip..).unwrap_or_default();
    if let Some(reason) = flow.standing.charge() {
        tally.count(None, Arrival::Charged(reason), length);
    } else {
        tally.count(None, Arrival::Charged(ChargeReason::ForgottenCopy), before);
        if end > start {
            let walk = Walk {
                flow,
                context,
                direction,
                start,
                payload: captured,
                tally,
                poisoned: false,
                appended: 0,
            };
            walk.run(end)?;
        }
    }
    let half = flow.half_mut(direction);
    half.end = half.end.max(end);
    Ok(())
}

struct Walk<'a, 'c, 'd> {
    flow: &'a mut FlowProof,
    context: &'a mut Context<'c>,
    direction: Direction,
    /// Position of `payload`'s first byte.
    start: u64,
    payload: &'a [u8],
    tally: &'a mut Tally<'d>,
    /// A byte differed: the rest of the segment is charged.
    poisoned: bool,
    /// Bytes written to the head log.
    appended: u64,
}

impl<'a> Walk<'a, '_, '_> {
    fn run(mut self, end: u64) -> Result<(), DropReason> {
        let half = self.half();
        let refusal = if self.start > half.parse_at {
            Some((DropReason::FramingUnknown, ChargeReason::FramingUnknown))
        } else if !half.seen.insert_would_fit(self.start, end) {
            Some((DropReason::CoverageFull, ChargeReason::CoverageFull))
        } else {
            None
        };
        if let Some((drop, charge)) = refusal {
            self.refuse(drop)?;
            self.charge(None, charge, end.saturating_sub(self.start));
            if drop == DropReason::FramingUnknown {
                let start = self.start;
                let half = self.half_mut();
                half.bad.insert_coarse(start, end);
                // Without room the bytes are new when they come again, and charged again.
                let _ = half.seen.insert(start, end);
            }
            return Ok(());
        }
        let captured = self
            .start
            .saturating_add(self.payload.len() as u64)
            .min(end);
        self.pieces(captured)?;
        self.cut(captured, end);
        let start = self.start;
        // Fits, as checked above.
        let _ = self.half_mut().seen.insert(start, end);
        if self.flow.mismatches >= MISMATCH_LIMIT && self.flow.standing.charge().is_none() {
            self.flow.standing = Standing::Demoted;
        }
        Ok(())
    }

    fn pieces(&mut self, captured: u64) -> Result<(), DropReason> {
        let mut at = self.start;
        while at < captured {
            if let Some(reason) = self.flow.standing.charge() {
                self.charge(None, reason, captured.saturating_sub(at));
                return Ok(());
            }
            let half = self.half();
            let (old, until) = half.seen.run(at, captured);
            let parse_at = half.parse_at;
            at = if at < parse_at {
                self.known(at, until.min(parse_at), old)?
            } else {
                self.parse(at, until, old)?
            };
        }
        Ok(())
    }

    /// What was not captured cannot be proven.
    fn cut(&mut self, captured: u64, end: u64) {
        if captured >= end {
            return;
        }
        let reason = self
            .flow
            .standing
            .charge()
            .unwrap_or(ChargeReason::CaptureCut);
        self.charge(None, reason, end.saturating_sub(captured));
        self.half_mut().bad.insert_coarse(captured, end);
    }

    /// Mapped positions `at..stop`, all old or all new; how far it got.
    fn known(&mut self, at: u64, stop: u64, old: bool) -> Result<u64, DropReason> {
        let half = self.half();
        let located = half.map.locate(at);
        let (charged, stop) = if old {
            half.bad.run(at, stop)
        } else {
            (false, stop)
        };
        let stop = stop.min(at.saturating_add(located.len));
        let slot = match located.place {
            Place::Body {
                slot: Slot::Content(slot),
                ..
            } => Some(slot),
            Place::Body { .. } | Place::Overhead(_) | Place::Unknown => None,
        };
        let length = stop.saturating_sub(at);
        if self.poisoned {
            self.charge(slot, ChargeReason::Mismatch, length);
            if !old {
                self.half_mut().bad.insert_coarse(at, stop);
            }
            return Ok(stop);
        }
        if !old {
            self.fresh(at, stop, located)?;
        } else if charged {
            self.charge(slot, ChargeReason::ChargedCopy, length);
        } else {
            return Ok(self.copy(at, stop, located));
        }
        Ok(stop)
    }

    /// New positions below the parse point.
    fn fresh(&mut self, at: u64, stop: u64, located: Located) -> Result<(), DropReason> {
        let length = stop.saturating_sub(at);
        let Place::Body { slot, offset } = located.place else {
            // The map had no room for this part of the stream.
            self.charge(None, ChargeReason::CoverageFull, length);
            self.half_mut().bad.insert_coarse(at, stop);
            return self.pend(at, stop).map(|_| ());
        };
        let slot = match slot {
            Slot::Undecided => self.decide(located.message, offset, self.piece(at, stop)),
            decided => decided,
        };
        if let Slot::Content(slot) = slot {
            return self.prove(at, stop, slot, offset);
        }
        let reason = match self.direction {
            Direction::Uplink => ChargeReason::RequestBody,
            Direction::Downlink => ChargeReason::NotContent,
        };
        self.charge(None, reason, length);
        // Only a bridge between pending ranges: settling skips what has no content.
        self.pend(at, stop).map(|_| ())
    }

    /// New bytes of a body against its content.
    fn prove(&mut self, at: u64, stop: u64, slot: u16, offset: u64) -> Result<(), DropReason> {
        let equal = self.equal(slot, offset, self.piece(at, stop));
        let same = at.saturating_add(equal);
        if equal > 0 && self.pend(at, same)? {
            self.tally.count(Some(slot), Arrival::Pending, equal);
            add(&mut self.flow.pending_verified, equal);
        } else if equal > 0 {
            self.charge(Some(slot), ChargeReason::CoverageFull, equal);
            self.half_mut().bad.insert_coarse(at, same);
        }
        if same < stop {
            self.mismatch(slot, stop.saturating_sub(same));
            self.half_mut().bad.insert_coarse(same, stop);
        }
        Ok(())
    }

    /// Old positions that were not charged; how far it got.
    fn copy(&mut self, at: u64, stop: u64, located: Located) -> u64 {
        let length = stop.saturating_sub(at);
        let age = self.half().message.wrapping_sub(located.message);
        let kept = match self.direction {
            // As many requests as may be outstanding.
            Direction::Uplink => u32::try_from(QUEUE_LIMIT).unwrap_or(RESPONSES_KEPT),
            Direction::Downlink => RESPONSES_KEPT,
        };
        let place = if age < kept {
            located.place
        } else {
            Place::Unknown
        };
        match place {
            Place::Overhead(Some(log)) => return self.copy_overhead(at, stop, log),
            Place::Body {
                slot: Slot::Content(slot),
                offset,
            } => {
                let equal = self.equal(slot, offset, self.piece(at, stop));
                self.tally.count(Some(slot), Arrival::Retransmit, equal);
                if equal < length {
                    self.mismatch(slot, length.saturating_sub(equal));
                }
            }
            Place::Overhead(None) | Place::Body { .. } => {
                self.charge(None, ChargeReason::ChargedCopy, length);
            }
            Place::Unknown => self.charge(None, ChargeReason::ForgottenCopy, length),
        }
        stop
    }

    /// A copy of stored head bytes; how far it got.
    fn copy_overhead(&mut self, at: u64, stop: u64, log: u64) -> u64 {
        let kept = self.half().log.saturating_sub(KEPT_BYTES);
        if log < kept {
            let stop = stop.min(at.saturating_add(kept.saturating_sub(log)));
            self.charge(None, ChargeReason::ForgottenCopy, stop.saturating_sub(at));
            return stop;
        }
        let piece = self.piece(at, stop);
        let equal = heads::equal_prefix(self.context.heads, self.direction, log, piece) as u64;
        if self.flow.verified {
            self.tally.count(None, Arrival::Retransmit, equal);
        } else {
            self.hold_overhead(equal);
        }
        let rest = stop.saturating_sub(at).saturating_sub(equal);
        self.charge(None, ChargeReason::ForeignCopy, rest);
        stop
    }

    /// Positions from the parse point on; how far the parser got.
    fn parse(&mut self, at: u64, until: u64, old: bool) -> Result<u64, DropReason> {
        let half = self.half_mut();
        if half.parser.at_start() {
            begin_message(half);
        }
        let piece = self.piece(at, until);
        let FlowProof {
            up, down, queue, ..
        } = &mut *self.flow;
        let half = match self.direction {
            Direction::Uplink => up,
            Direction::Downlink => down,
        };
        let fed = half.parser.feed(queue, piece);
        let stop = at.saturating_add(fed.consumed as u64);
        half.parse_at = stop;
        if stop > at {
            self.overhead(at, stop, fed.role, old)?;
        }
        match fed.event {
            Event::More => {}
            Event::Violation(violation) => self.flow.standing = Standing::Unframed(violation),
            Event::Head(head) => self.head(head)?,
            Event::Chunk(length) => self.body(length)?,
            Event::End => self.half_mut().map.seal(),
        }
        Ok(stop)
    }

    /// Head or framing bytes that the parser took.
    fn overhead(&mut self, at: u64, stop: u64, role: Role, old: bool) -> Result<(), DropReason> {
        let length = stop.saturating_sub(at);
        let charge = if self.poisoned {
            Some(ChargeReason::Mismatch)
        } else if old {
            Some(ChargeReason::ChargedCopy)
        } else if self.direction == Direction::Uplink && role == Role::Framing {
            Some(ChargeReason::RequestBody)
        } else {
            None
        };
        let half = self.half();
        let allowed = match charge {
            Some(_) => 0,
            None => length.min(ALLOWANCE.saturating_sub(half.allowance)),
        };
        let log = half.log;
        let stored = allowed.min(KEPT_BYTES.saturating_sub(self.appended));
        let piece = self.piece(at, at.saturating_add(stored));
        heads::write(self.context.heads, self.direction, log, piece);
        add(&mut self.appended, stored);
        let needed = self.needed();
        let half = self.half_mut();
        add(&mut half.allowance, allowed);
        add(&mut half.log, stored);
        let message = half.message;
        let mapped = half
            .map
            .overhead(at, length, (log, stored), message, needed);
        self.map_or_refuse(mapped)?;
        self.hold_overhead(allowed);
        let reason = charge.unwrap_or(ChargeReason::BeyondAllowance);
        self.charge(None, reason, length.saturating_sub(allowed));
        if self.poisoned || old {
            self.half_mut().bad.insert_coarse(at, stop);
            return Ok(());
        }
        self.pend(at, stop).map(|_| ())
    }

    /// Allowed head bytes: allowed at once on a flow with a verified byte, else they wait.
    fn hold_overhead(&mut self, bytes: u64) {
        if self.flow.verified {
            self.tally.count(None, Arrival::Allowed, bytes);
        } else {
            self.tally.count(None, Arrival::Pending, bytes);
            add(&mut self.flow.pending_overhead, bytes);
        }
    }

    fn head(&mut self, head: Head) -> Result<(), DropReason> {
        let slot = match self.direction {
            Direction::Uplink => Slot::None,
            Direction::Downlink => self.nominate(head.nomination),
        };
        let half = self.half_mut();
        half.interim = head.interim;
        half.slot = slot;
        half.offset = head.nomination.map_or(0, |nomination| nomination.offset);
        match head.body {
            Body::None if head.interim => {}
            Body::None => half.map.seal(),
            Body::Length(length) => self.body(length)?,
            Body::Chunked => {}
        }
        Ok(())
    }

    /// A body piece of `length` bytes follows; framing goes on behind it.
    fn body(&mut self, length: u64) -> Result<(), DropReason> {
        let needed = self.needed();
        let half = self.half_mut();
        let (at, content) = (half.parse_at, (half.slot, half.offset));
        let mapped = half.map.body(at, length, content, half.message, needed);
        half.offset = half.offset.saturating_add(length);
        half.parse_at = at.saturating_add(length);
        self.map_or_refuse(mapped)
    }

    /// The content of a response by its size; labels are not asked.
    fn nominate(&mut self, nomination: Option<Nomination>) -> Slot {
        let Some(nomination) = nomination else {
            return Slot::None;
        };
        let message = self.flow.down.message;
        let total = nomination.total.unwrap_or(0);
        if let Some(place) = self.flow.totals.get_mut(total_index(message)) {
            *place = total;
        }
        let mut fitting = (0..self.context.contents.slots())
            .filter(|slot| fits(self.context, *slot, total))
            .fuse();
        match (fitting.next(), fitting.next()) {
            (None, _) => Slot::None,
            (Some(only), None) if total > 0 => {
                self.flow.primary.get_or_insert(only);
                Slot::Content(only)
            }
            _ => Slot::Undecided,
        }
    }

    /// The content of a response by its first body bytes to come: the one that they continue
    /// longest, for films may begin alike.
    fn decide(&mut self, message: u32, offset: u64, piece: &[u8]) -> Slot {
        let recent = self.flow.down.message.wrapping_sub(message) < RESPONSES_KEPT;
        let total = self
            .flow
            .totals
            .get(total_index(message))
            .copied()
            .filter(|_| recent);
        let least = piece.len().min(PROBE);
        let contents = self.context.contents;
        let first = total.and_then(|total| {
            (0..contents.slots())
                .filter(|slot| fits(self.context, *slot, total))
                .filter_map(|slot| {
                    let content = contents.content(slot)?;
                    let equal = CopyOracle::new(content.bytes).equal_prefix(offset, piece);
                    Some((equal, Reverse(content.id), slot)).filter(|(equal, ..)| *equal >= least)
                })
                .max()
        });
        let slot = first.map_or(Slot::None, |(_, _, slot)| Slot::Content(slot));
        if let Slot::Content(slot) = slot {
            self.flow.primary.get_or_insert(slot);
        }
        let half = self.half_mut();
        half.map.decide(message, slot);
        if half.message == message && half.slot == Slot::Undecided {
            half.slot = slot;
        }
        slot
    }

    fn equal(&self, slot: u16, offset: u64, piece: &[u8]) -> u64 {
        let content = self.context.contents.content(slot);
        content.map_or(0, |content| {
            CopyOracle::new(content.bytes).equal_prefix(offset, piece) as u64
        })
    }

    fn mismatch(&mut self, slot: u16, bytes: u64) {
        self.poisoned = true;
        self.flow.mismatches = self.flow.mismatches.saturating_add(1);
        self.charge(Some(slot), ChargeReason::Mismatch, bytes);
    }

    fn charge(&mut self, slot: Option<u16>, reason: ChargeReason, bytes: u64) {
        if bytes > 0 {
            self.tally.count(slot, Arrival::Charged(reason), bytes);
        }
    }

    /// Marks downlink stream as waiting; `false` when there is no room for it in a replay, or when
    /// this segment alone fills the set, so that waiting for acknowledgements would not help.
    fn pend(&mut self, at: u64, stop: u64) -> Result<bool, DropReason> {
        if self.direction == Direction::Uplink || self.flow.pending.insert(at, stop).is_ok() {
            return Ok(true);
        }
        if self
            .flow
            .pending
            .first()
            .is_some_and(|first| first.start < self.start)
        {
            self.refuse(DropReason::CoverageFull)?;
        }
        Ok(false)
    }

    /// Drops live traffic; a replay goes on.
    const fn refuse(&self, reason: DropReason) -> Result<(), DropReason> {
        match self.context.policy {
            Policy::Live => Err(reason),
            Policy::Replay => Ok(()),
        }
    }

    /// Without room in the map live traffic waits for acknowledgements, unless this segment alone
    /// fills the map: then waiting would not help and what is not mapped is charged.
    fn map_or_refuse(&self, mapped: Result<(), MapFull>) -> Result<(), DropReason> {
        match mapped {
            Err(full) if full.oldest < self.start => self.refuse(DropReason::CoverageFull),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    fn needed(&self) -> u64 {
        let pending = match self.direction {
            Direction::Uplink => None,
            Direction::Downlink => self.flow.pending.first().map(|range| range.start),
        };
        self.half().needed(pending)
    }

    /// The captured bytes at stream positions `at..stop`.
    fn piece(&self, at: u64, stop: u64) -> &'a [u8] {
        let index = |position: u64| {
            usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX)
        };
        self.payload.get(index(at)..index(stop)).unwrap_or_default()
    }

    const fn half(&self) -> &Half {
        self.flow.half(self.direction)
    }

    const fn half_mut(&mut self) -> &mut Half {
        self.flow.half_mut(self.direction)
    }
}

/// The next byte begins a head; the final response shares the allowance of a 1xx before it.
const fn begin_message(half: &mut Half) {
    if half.interim {
        half.interim = false;
        return;
    }
    half.message = half.message.wrapping_add(1);
    half.allowance = 0;
}

/// Whether the content in `slot` may be one of `total` bytes (0: any size) and has a view.
fn fits(context: &Context<'_>, slot: u16, total: u64) -> bool {
    let content = context.contents.content(slot);
    let size = content.map_or(0, |content| content.bytes.len() as u64);
    size > 0 && (total == 0 || size == total) && usize::from(slot) < context.views.len()
}

fn total_index(message: u32) -> usize {
    usize::try_from(message.checked_rem(RESPONSES_KEPT).unwrap_or(0)).unwrap_or(0)
}
