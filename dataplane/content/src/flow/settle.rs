//! Pending bytes find their class: acknowledged, or left over when the flow closes.

use super::input::CloseReason;
use super::state::{FlowProof, Standing};
use crate::deltas::{ChargeReason, Deltas, add, take};
use crate::map::{Place, Slot};
use crate::view::View;

/// What became of pending content bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A cumulative acknowledgement passed them.
    Acknowledged,
    /// The flow closed before.
    Undelivered,
}

/// Pending content bytes: content `offset..` at stream `start..end`.
#[derive(Debug, Clone, Copy)]
struct Piece {
    slot: u16,
    offset: u64,
    start: u64,
    end: u64,
}

impl FlowProof {
    /// Settles what is pending below stream position `below`.
    pub(super) fn settle(
        &mut self,
        views: &mut [View],
        below: u64,
        outcome: Outcome,
        deltas: &mut Deltas,
    ) {
        while let Some(range) = self.pending.first().filter(|range| range.start < below) {
            let end = range.end.min(below);
            let mut at = range.start;
            while at < end {
                let located = self.down.map.locate(at);
                let stop = end.min(at.saturating_add(located.len.max(1)));
                if let Place::Body {
                    slot: Slot::Content(slot),
                    offset,
                } = located.place
                {
                    let piece = Piece {
                        slot,
                        offset,
                        start: at,
                        end: stop,
                    };
                    self.settle_piece(views, piece, outcome, deltas);
                }
                at = stop;
            }
            self.pending.remove_below(end);
        }
        if self.verified {
            self.settle_overhead(views, deltas);
        }
    }

    /// Bytes that would be charged if all that is pending were acknowledged now. `views` are
    /// copies, which take the acknowledgement; heads that wait for a verified byte do not count.
    #[must_use]
    pub fn charge_ahead(&self, views: &mut [View]) -> u64 {
        let (mut flow, mut deltas) = (*self, Deltas::default());
        flow.settle(views, u64::MAX, Outcome::Acknowledged, &mut deltas);
        deltas.user_charged
    }

    /// Takes part in its session again after a restart: views were written without how much of
    /// what is pending in them is heads and framing.
    pub fn rejoin(&self, views: &mut [View]) {
        let slot = self.primary.map(usize::from);
        if let Some(view) = slot.and_then(|slot| views.get_mut(slot)) {
            add(&mut view.pending_overhead, self.pending_overhead);
        }
    }

    /// Lets `views`, which are copies, take the acknowledgement of everything that is pending in
    /// this flow: what they have pending then is other flows'.
    pub fn acknowledge_ahead(&self, views: &mut [View]) {
        let _ = self.charge_ahead(views);
    }

    fn settle_piece(
        &mut self,
        views: &mut [View],
        piece: Piece,
        outcome: Outcome,
        deltas: &mut Deltas,
    ) {
        let length = piece.end.saturating_sub(piece.start);
        take(&mut self.pending_verified, length);
        add(&mut deltas.pending_out, length);
        let Some(view) = views.get_mut(usize::from(piece.slot)) else {
            // The slot was emptied under the flow, so nobody can be told of a delivery.
            deltas.charge(ChargeReason::NotContent, length);
            return;
        };
        take(&mut view.classes.pending, length);
        if outcome == Outcome::Undelivered {
            add(&mut view.classes.undelivered, length);
            add(&mut deltas.undelivered, length);
            return;
        }
        let bad = &mut self.down.bad;
        let stream = |at: u64| piece.start.saturating_add(at.saturating_sub(piece.offset));
        let end = piece.offset.saturating_add(length);
        let result = view.acknowledge(piece.offset, end, |from, to| {
            bad.insert_coarse(stream(from), stream(to));
        });
        add(&mut deltas.verified_unique, result.unique);
        add(&mut deltas.verified_repeat, result.repeat);
        deltas.charge(view.limit_charge(), result.limited);
        deltas.charge(ChargeReason::CoverageFull, result.unplaced);
        self.verified |= result.unique > 0 || result.repeat > 0;
    }

    /// Pending heads and framing become allowed on a flow with a verified byte, else charged.
    fn settle_overhead(&mut self, views: &mut [View], deltas: &mut Deltas) {
        let bytes = std::mem::take(&mut self.pending_overhead);
        if bytes == 0 {
            return;
        }
        add(&mut deltas.pending_out, bytes);
        let view = self
            .primary
            .and_then(|slot| views.get_mut(usize::from(slot)));
        let classes = view.map_or(&mut self.unbound, |view| {
            take(&mut view.pending_overhead, bytes);
            &mut view.classes
        });
        take(&mut classes.pending, bytes);
        if self.verified {
            add(&mut classes.overhead_allowed, bytes);
            add(&mut deltas.overhead_allowed, bytes);
        } else {
            add(&mut classes.user_charged, bytes);
            deltas.charge(ChargeReason::NoVerifiedByte, bytes);
        }
    }

    /// Gives everything that is pending its class, as a close does; the flow goes on. For a
    /// connection that rests: what its peer acknowledges later stays undelivered.
    pub fn pause(&mut self, views: &mut [View]) -> Deltas {
        let mut deltas = Deltas::default();
        self.leave_undelivered(views, &mut deltas);
        self.audit(&mut deltas);
        deltas
    }

    /// Everything that is pending gets the class that it has without an acknowledgement.
    pub(super) fn leave_undelivered(&mut self, views: &mut [View], deltas: &mut Deltas) {
        self.settle(views, u64::MAX, Outcome::Undelivered, deltas);
        self.settle_overhead(views, deltas);
    }

    /// Closes the flow once.
    pub(super) fn end(&mut self, views: &mut [View], reason: CloseReason, deltas: &mut Deltas) {
        if self.closed().is_some() {
            return;
        }
        self.leave_undelivered(views, deltas);
        self.standing = Standing::Closed(reason);
        if self.pending_bytes() > 0 {
            deltas.violations = 1;
            add(&mut self.violations, 1);
        }
    }
}
