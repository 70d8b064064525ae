//! Quotas of proven bytes: what of a content may still leave.
//!
//! ```text
//! quota = counted + pending of all flows + new bytes of this segment + what is left
//! ```
//!
//! Bytes are counted when they are acknowledged, and stopped before they leave: what is pending is
//! taken for counted. So a rule never counts more than its quota, but for a quota that shrinks
//! under what is pending. A segment is stopped as a whole, so less than one segment stays unused.
//! What would be counted by nobody passes: a segment that was sent before, and one of a content
//! part that was delivered before. Where the rule that follows a used-up quota forwards, the
//! segment passes and the rule counts its bytes up to the quota alone.
//!
//! It deliberately keeps no gauge of its own: what is pending of a content stands in its view,
//! which the flows of the session share, and is known again after a restart.

use qlink_content::{FlowProof, View};
use qlink_meter::{Action, Direction, Out, ProofUpdate, RuleBlock, SessionUrrs, UrrSet};
use qlink_pfcp::model::{SessionModel, Urr, VolumeKind};
use qlink_types::ids::ContentId;

/// What a segment asks of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Demand {
    /// Bytes that would be counted because of it.
    pub(crate) fresh: u64,
    /// Those, and all that are pending of the content.
    pub(crate) pending: u64,
}

/// What a judgement did to a flow and the views of its session, by slot: `demands` are what it
/// asks if all that is pending in the flow is acknowledged. `ahead` is room for copies.
pub(crate) fn forecast(
    before: (&FlowProof, &[View]),
    after: (&FlowProof, &[View]),
    ahead: &mut Vec<View>,
    demands: &mut Vec<Demand>,
) {
    let unique = |view: &View| view.classes().verified_unique.get();
    demands.clear();
    for (proof, views) in [before, after] {
        ahead.clear();
        ahead.extend_from_slice(views);
        proof.acknowledge_ahead(ahead);
        demands.resize(views.len(), Demand::default());
        for ((demand, ahead), view) in demands.iter_mut().zip(&*ahead).zip(views) {
            let own = unique(ahead).saturating_sub(unique(view));
            // The second time `pending` is what the flow alone asked before.
            let (pending, earlier) = (ahead.pending_content().saturating_add(own), demand.fresh);
            *demand = Demand {
                fresh: own.saturating_sub(earlier),
                pending,
            };
        }
    }
}

/// Whether content bytes beyond a quota leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Gate {
    /// No.
    #[default]
    Held,
    /// The running packet does: a forwarding rule for used-up quotas says so.
    Open,
}

/// The usage rules of a session that measure contents.
#[derive(Debug, Default)]
pub(crate) struct ProvenRules {
    /// Which rules measure the content of each slot; each counts a byte once, however many
    /// detection rules name both.
    by_slot: Box<[UrrSet]>,
    /// All of them.
    all: UrrSet,
    /// Those that may stop their contents.
    quotas: UrrSet,
    /// Those whose contents are forwarded when their quota is used up.
    passing: UrrSet,
    gate: Gate,
    /// The rule that stopped the last segment.
    spent: Option<usize>,
}

impl ProvenRules {
    /// Of a session whose slots hold `contents`.
    pub(crate) fn new<'a>(
        model: &SessionModel,
        block: &RuleBlock,
        contents: impl Iterator<Item = &'a ContentId>,
    ) -> Self {
        let rules = block.proof_rules();
        let by_slot = contents.map(|content| {
            let naming = rules.iter().filter(|rule| rule.contents.contains(content));
            naming.fold(UrrSet::EMPTY, |set, rule| set.with_list(&rule.urrs))
        });
        let all = rules
            .iter()
            .fold(UrrSet::EMPTY, |set, rule| set.with_list(&rule.urrs));
        let (mut quotas, mut passing) = (UrrSet::EMPTY, UrrSet::EMPTY);
        for (index, urr) in model.urrs.values().enumerate() {
            if all.has(index) && urr.volume_kind == VolumeKind::Proven && may_stop(urr) {
                quotas = quotas.with(index);
                if way_of(block.quota_action(index)).is_some() {
                    passing = passing.with(index);
                }
            }
        }
        Self {
            by_slot: by_slot.collect(),
            all,
            quotas,
            passing,
            gate: Gate::Held,
            spent: None,
        }
    }

    /// Pending bytes that every rule has room for; enough of it needs no closer look.
    #[inline]
    pub(crate) fn room(&self, urrs: &SessionUrrs) -> u64 {
        if self.quotas == UrrSet::EMPTY || self.gate == Gate::Open {
            return u64::MAX;
        }
        let rooms = self.quotas.iter().map(|urr| urrs.proven_room(urr));
        rooms.min().unwrap_or(u64::MAX)
    }

    /// Whether the quotas have room for `demands`; `false`: [`Self::spent`] says what follows.
    pub(crate) fn admit(&mut self, urrs: &mut SessionUrrs, demands: &[Demand]) -> bool {
        self.spent = None;
        for urr in self.quotas.iter() {
            let named = self.by_slot.iter().zip(demands);
            let named = named.filter(|(measured_by, _)| measured_by.has(urr));
            let (fresh, pending) = named.fold((0_u64, 0_u64), |(fresh, pending), (_, demand)| {
                (
                    fresh.saturating_add(demand.fresh),
                    pending.saturating_add(demand.pending),
                )
            });
            if fresh == 0 || pending <= urrs.proven_room(urr) {
                continue;
            }
            urrs.refuse(urr, fresh);
            // A rule that stops goes before one that lets pass.
            if self.spent.is_none_or(|spent| self.passing.has(spent)) {
                self.spent = Some(urr);
            }
        }
        self.spent.is_none()
    }

    /// Where the segment that was stopped goes all the same; what follows is let through until
    /// [`Self::hold`].
    pub(crate) fn open(&mut self, block: &RuleBlock) -> Option<Out> {
        let way = way_of(block.quota_action(self.spent?))?;
        self.gate = Gate::Open;
        Some(way)
    }

    pub(crate) const fn hold(&mut self) {
        self.gate = Gate::Held;
    }

    /// Counts proven bytes of the content in a slot. What a rule does not count because its quota
    /// is reached is charged in the rules of charged bytes beside it.
    pub(crate) fn account(
        &self,
        urrs: &mut SessionUrrs,
        (slot, bytes): (usize, u64),
        update: &mut ProofUpdate<'_>,
    ) {
        let Some(measured_by) = self.by_slot.get(slot).filter(|_| bytes > 0) else {
            return;
        };
        let mut beyond = 0;
        for urr in measured_by.iter() {
            let most = match urrs.proven_left(urr) {
                Some(left) if self.passing.has(urr) => left,
                _ => bytes,
            };
            let counted = bytes.min(most);
            beyond = bytes.saturating_sub(counted).max(beyond);
            let moved = (Direction::Downlink, counted);
            urrs.account(urr, VolumeKind::Proven, moved, update);
        }
        if beyond > 0 {
            for urr in measured_by.iter() {
                let moved = (Direction::Downlink, beyond);
                urrs.account(urr, VolumeKind::Charged, moved, update);
            }
        }
    }

    /// Counts charged bytes of content flows in the rules that name contents.
    pub(crate) fn account_charged(
        &self,
        urrs: &mut SessionUrrs,
        moved: (Direction, u64),
        update: &mut ProofUpdate<'_>,
    ) {
        for urr in self.all.iter() {
            urrs.account(urr, VolumeKind::Charged, moved, update);
        }
    }
}

/// Whether a usage rule can ever stop what it measures.
const fn may_stop(urr: &Urr) -> bool {
    urr.volume_quota.is_some()
        || urr.time_quota.is_some()
        || urr.event_quota.is_some()
        || urr.quota_holding.is_some()
        || urr.quota_validity.is_some()
        || !urr.monitoring.is_empty()
}

/// Where packets behind a used-up quota go as they are.
const fn way_of(action: Option<Action>) -> Option<Out> {
    match action {
        Some(Action::Forward {
            to: to @ (Out::N6 | Out::Tunnel { .. }),
            redirect: None,
            ..
        }) => Some(to),
        _ => None,
    }
}

#[cfg(test)]
#[path = "proven_tests.rs"]
mod tests;
