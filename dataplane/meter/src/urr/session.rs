//! All usage rules of a session.

use qlink_pfcp::model::{
    Resolution, SessionModel, Trigger, Triggers, Urr, UrrId, UsageReport, VolumeKind,
};

use super::counters::UrrCounters;
use super::limits::QuotaStops;
use super::marks::UrrMarks;
use super::state::UrrState;
use crate::arena::{CounterArena, ProofUpdate};
use crate::direction::Direction;
use crate::layout::UrrPlace;
use crate::rules::UrrList;
use crate::session::SessionSlot;

/// Most usage rules of one session (chosen: a burst of it changes two rows for each of them as one).
pub const SESSION_URRS_MAX: usize = 64;

/// A packet as usage rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketCount {
    /// Which way it goes.
    pub direction: Direction,
    /// Length of the inner IP packet.
    pub bytes: u64,
    /// Payload bytes of it that the subscriber's payer is charged once it is sent.
    pub charged: u64,
}

/// Why usage rules have no place. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrrError {
    /// More than [`SESSION_URRS_MAX`] rules.
    #[error("the session has {0} usage rules, {SESSION_URRS_MAX} are possible")]
    TooMany(usize),
    /// The arena has no row left.
    #[error("the table of usage rules is full")]
    TableFull,
}

/// A usage rule as it stood in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredUrr {
    /// Its row.
    pub place: UrrPlace,
    /// Its session.
    pub session: SessionSlot,
    /// Its id.
    pub urr: UrrId,
    /// What it has counted.
    pub counters: UrrCounters,
    /// Its marks and waiting reports.
    pub marks: UrrMarks,
}

/// The usage rules of one session, in the order of their ids, and those that have ended and whose
/// last reports wait.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionUrrs {
    states: Vec<UrrState>,
    ended: Vec<UrrState>,
}

impl SessionUrrs {
    /// Starts the usage rules of `model` at zero, each with a row in the arena.
    ///
    /// # Errors
    ///
    /// Any [`UrrError`].
    pub fn establish(
        model: &SessionModel,
        slot: SessionSlot,
        arena: &mut CounterArena,
        now_ns: u64,
    ) -> Result<Self, UrrError> {
        let mut urrs = Self::default();
        urrs.modify(model, &Resolution::default(), slot, arena, (0, now_ns))?;
        Ok(urrs)
    }

    /// Continues the usage rules of a session after a restart, at the session's `revision`. Rules
    /// in the arena that `model` no longer has are ended. Where [`Self::revision`] is behind
    /// `revision` afterwards, a kill cut the modification short: give it to [`Self::modify`] again.
    ///
    /// # Errors
    ///
    /// Any [`UrrError`], when a rule of `model` has no row yet and gets none.
    pub fn resume(
        model: &SessionModel,
        slot: SessionSlot,
        recovered: &[RecoveredUrr],
        arena: &mut CounterArena,
        (revision, now_ns): (u64, u64),
    ) -> Result<Self, UrrError> {
        let mut urrs = Self::default();
        for row in recovered.iter().filter(|row| row.session == slot) {
            let rule = model.urrs.get(&row.urr).cloned();
            let stands = rule.is_some();
            let rule = rule.unwrap_or_else(|| Urr::silent(row.urr));
            let mut state = UrrState::resumed(rule, row.place, row.counters, row.marks);
            // A rule that ended and came again has two rows; the one that ended says so.
            if stands && !state.has_ended() {
                urrs.states.push(state);
                continue;
            }
            if !state.has_ended() {
                state.report(Triggers::NONE.with(Trigger::Termination), now_ns);
            }
            urrs.ended.push(state);
        }
        check_room(model, urrs.states.len(), arena)?;
        urrs.open_missing(model, slot, arena, (revision, now_ns));
        urrs.finish(arena, now_ns);
        Ok(urrs)
    }

    /// The last modification that every rule has seen; the largest number without rules.
    #[must_use]
    pub fn revision(&self) -> u64 {
        let all = self.states.iter().map(|state| state.marks.revision);
        all.min().unwrap_or(u64::MAX)
    }

    /// Takes in a modification: `model` is what stands behind it, `resolution` what it changed;
    /// `(revision, now_ns)` number it in the session, from 1 on, and date it. Rules that saw a
    /// revision are not changed by it again.
    ///
    /// # Errors
    ///
    /// Any [`UrrError`]; nothing has changed then.
    pub fn modify(
        &mut self,
        model: &SessionModel,
        resolution: &Resolution,
        slot: SessionSlot,
        arena: &mut CounterArena,
        (revision, now_ns): (u64, u64),
    ) -> Result<(), UrrError> {
        let stays = |state: &UrrState| {
            let ended = resolution.ended_urrs.contains(&state.rule.id);
            let seen = revision != 0 && state.marks.revision >= revision;
            model.urrs.contains_key(&state.rule.id) && (!ended || seen)
        };
        let staying = self.states.iter().filter(|state| stays(state)).count();
        check_room(model, staying, arena)?;
        let (states, mut ended): (Vec<_>, Vec<_>) = std::mem::take(&mut self.states)
            .into_iter()
            .partition(stays);
        self.states = states;
        for state in &mut ended {
            state.settle(now_ns);
            state.report(Triggers::NONE.with(Trigger::Termination), now_ns);
        }
        self.link(&mut ended, now_ns);
        self.ended.append(&mut ended);
        for state in &mut self.states {
            let changes = resolution.changed_urrs.iter();
            let mut own = changes.filter(|changes| changes.id == state.rule.id);
            if let (Some(changes), Some(rule)) = (own.next(), model.urrs.get(&state.rule.id))
                && state.marks.revision < revision
            {
                state.change(changes, rule, now_ns);
            }
            if state.marks.revision < revision {
                state.marks.revision = revision;
                state.dirty.marks = true;
            }
        }
        // The end of a rule stands before a new rule of the same id begins.
        self.finish(arena, now_ns);
        self.open_missing(model, slot, arena, (revision, now_ns));
        Ok(())
    }

    /// Gives every rule of `model` that has no state a row and a state.
    fn open_missing(
        &mut self,
        model: &SessionModel,
        slot: SessionSlot,
        arena: &mut CounterArena,
        (revision, now_ns): (u64, u64),
    ) {
        for rule in model.urrs.values() {
            if self.states.iter().any(|state| state.rule.id == rule.id) {
                continue;
            }
            let mut state = UrrState::new(rule.clone(), UrrPlace::NONE, revision, now_ns);
            let place = arena.open_urr(slot, rule.id, &state.counters, &state.marks);
            if let Some(place) = place {
                state.place = place;
                self.states.push(state);
            }
        }
        self.states.sort_by_key(|state| state.rule.id);
    }

    /// Whether a packet may pass all of `urrs`; if so it is part of the running burst.
    ///
    /// # Errors
    ///
    /// The index of the rule whose quota is used up: [`crate::RuleBlock::quota_action`] says what
    /// happens to the packet. It is counted by no rule then.
    #[inline]
    pub fn judge(&mut self, urrs: &UrrList, packet: &PacketCount) -> Result<(), usize> {
        for index in urrs.iter() {
            if let Some(state) = self.states.get_mut(index)
                && !state.admits(packet)
            {
                return Err(index);
            }
        }
        for index in urrs.iter() {
            if let Some(state) = self.states.get_mut(index) {
                state.expect(packet);
            }
        }
        Ok(())
    }

    /// What of a judged packet is charged was not known when it was judged: `packet.charged` bytes
    /// are part of the running burst now, in rules that count such bytes.
    pub fn charge(&mut self, urrs: &UrrList, packet: &PacketCount) {
        for index in urrs.iter() {
            if let Some(state) = self.states.get_mut(index)
                && state.rule.volume_kind == VolumeKind::Charged
            {
                state.charge(packet);
            }
        }
    }

    /// A judged packet was not accepted for transmit.
    pub fn retract(&mut self, urrs: &UrrList, packet: &PacketCount) {
        for index in urrs.iter() {
            if let Some(state) = self.states.get_mut(index) {
                state.retract(packet);
            }
        }
    }

    /// A judged packet was stopped by a gate or rate: rules that measure before enforcement have
    /// counted it, the others have not.
    ///
    /// Source: TS 29.244 §8.2.68, flag MBQE.
    pub fn enforced(&mut self, urrs: &UrrList, packet: &PacketCount) {
        for index in urrs.iter() {
            if let Some(state) = self.states.get_mut(index) {
                if !state.rule.before_enforcement {
                    state.retract(packet);
                }
                state.dropped(packet);
            }
        }
    }

    /// A packet was dropped before it was judged, or while it was kept.
    pub fn dropped(&mut self, urrs: &UrrList, packet: &PacketCount) {
        for index in urrs.iter() {
            if let Some(state) = self.states.get_mut(index) {
                state.dropped(packet);
            }
        }
    }

    /// Counts bytes that were proven, or charged apart from a packet that is still to leave, in the
    /// rule at `index` if it is of that kind, as part of the change that states so. `kind` is
    /// never [`VolumeKind::Network`].
    pub fn account(
        &mut self,
        index: usize,
        kind: VolumeKind,
        (direction, bytes): (Direction, u64),
        update: &mut ProofUpdate<'_>,
    ) {
        if let Some(state) = self.states.get_mut(index)
            && state.rule.volume_kind == kind
        {
            state.account(direction, bytes);
            if std::mem::take(&mut state.dirty.counters) {
                update.urr_counters(state.place, &state.counters);
            }
        }
    }

    /// Bytes that the rule at `index` may still count before its volume quota is reached; `None`
    /// without one.
    #[must_use]
    pub fn proven_left(&self, index: usize) -> Option<u64> {
        self.states.get(index)?.proven_left()
    }

    /// Content bytes that may be pending under the rule at `index`: none when it is stopped,
    /// `u64::MAX` without a quota.
    #[inline]
    #[must_use]
    pub fn proven_room(&self, index: usize) -> u64 {
        let state = self.states.get(index);
        state.map_or(u64::MAX, UrrState::proven_room)
    }

    /// `bytes` content bytes more were too many for [`Self::proven_room`]: they were stopped. The
    /// rule reports its quota as used up as soon as they are more than is left of it.
    pub fn refuse(&mut self, index: usize, bytes: u64) {
        if let Some(state) = self.states.get_mut(index) {
            state.refuse(bytes);
        }
    }

    /// Counts what the burst has sent and what follows from it, as part of the change that counts
    /// the session's bytes. Call it once for every session of which a packet was judged.
    #[inline]
    pub fn settle(&mut self, update: &mut ProofUpdate<'_>, now_ns: u64) {
        let mut fired = false;
        for state in &mut self.states {
            if state.is_touched() {
                state.settle(now_ns);
                fired |= state.fired;
            }
        }
        if fired {
            self.link(&mut [], now_ns);
        }
        for state in &mut self.states {
            write(state, update);
        }
    }

    /// Takes the rules through everything that came due.
    pub fn tick(&mut self, arena: &mut CounterArena, now_ns: u64) {
        for state in &mut self.states {
            state.advance(now_ns);
        }
        self.finish(arena, now_ns);
    }

    /// When [`Self::tick`] has something to do; may be too early, never too late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let all = self.states.iter().filter_map(UrrState::next_deadline);
        all.min()
    }

    /// Reports the usage of `urrs` now, of all rules when it is empty.
    ///
    /// Source: TS 29.244 §7.5.4.10 and flag QAURR.
    pub fn query(&mut self, urrs: &[UrrId], arena: &mut CounterArena, now_ns: u64) {
        for state in &mut self.states {
            if urrs.is_empty() || urrs.contains(&state.rule.id) {
                state.advance(now_ns);
                state.report(Triggers::NONE.with(Trigger::Immediate), now_ns);
            }
        }
        self.finish(arena, now_ns);
    }

    /// Ends all rules: their last reports wait.
    pub fn terminate(&mut self, arena: &mut CounterArena, now_ns: u64) {
        for state in &mut self.states {
            state.settle(now_ns);
            state.report(Triggers::NONE.with(Trigger::Termination), now_ns);
        }
        self.finish(arena, now_ns);
        self.ended.append(&mut self.states);
    }

    /// Gives out each report that was made since the last call, and after a restart each that was
    /// never acknowledged; those that belong together follow one another.
    pub fn take_reports(&mut self, mut take: impl FnMut(UsageReport)) {
        for state in self.ended.iter_mut().chain(&mut self.states) {
            state.give(&mut take);
        }
    }

    /// Every report that waits for an acknowledgement.
    pub fn waiting(&self) -> impl Iterator<Item = UsageReport> + '_ {
        let all = self.ended.iter().chain(&self.states);
        all.flat_map(|state| state.marks.waiting(state.rule.id))
    }

    /// The control plane has reports of `urr` up to `sequence`. `false` when none of them waited.
    pub fn acknowledge(
        &mut self,
        (urr, sequence): (UrrId, u32),
        arena: &mut CounterArena,
        now_ns: u64,
    ) -> bool {
        // A rule that ended and came again counts its reports anew: the old one is asked first.
        let mut all = self.ended.iter_mut().chain(&mut self.states);
        let known = all.any(|state| state.rule.id == urr && state.acknowledge(sequence, now_ns));
        self.finish(arena, now_ns);
        self.forget_ended(arena);
        known
    }

    /// Forgets everything, acknowledged or not, and gives the rows back: the session is gone and
    /// its last answer is durable.
    pub fn close(self, arena: &mut CounterArena) {
        for state in self.states.iter().chain(&self.ended) {
            arena.close_urr(state.place);
        }
    }

    /// Rows of ended rules go with their last report.
    fn forget_ended(&mut self, arena: &mut CounterArena) {
        self.ended.retain(|state| {
            let waits = state.marks.pending.iter().any(Option::is_some);
            if !waits {
                arena.close_urr(state.place);
            }
            waits
        });
    }

    /// How many rules stand.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether no rule stands.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Counters of the rule at `index`, without the running burst.
    #[must_use]
    pub fn counters(&self, index: usize) -> Option<(UrrId, UrrCounters)> {
        let state = self.states.get(index)?;
        Some((state.rule.id, state.counters))
    }

    /// Why packets of the rule at `index` are stopped.
    #[must_use]
    pub fn stops(&self, index: usize) -> QuotaStops {
        let state = self.states.get(index);
        state.map_or_else(QuotaStops::default, |state| state.marks.stops)
    }

    /// Rules that are linked to one that reported report as well; they set off no others.
    ///
    /// Source: TS 29.244 §5.2.2.4.
    fn link(&mut self, ended: &mut [UrrState], now_ns: u64) {
        let count = self.states.len();
        for from in 0..count.saturating_add(ended.len()) {
            let origin = match from.checked_sub(count) {
                None => self.states.get(from),
                Some(place) => ended.get(place),
            };
            let Some(id) = origin
                .filter(|state| state.fired)
                .map(|state| state.rule.id)
            else {
                continue;
            };
            for state in &mut self.states {
                let wanted = state.rule.triggers.has(Trigger::Linked) && !state.fired;
                if wanted && state.rule.linked.contains(&id) {
                    state.advance(now_ns);
                    state.report(Triggers::NONE.with(Trigger::Linked), now_ns);
                    // Not an origin itself.
                    state.fired = false;
                }
            }
        }
        for state in self.states.iter_mut().chain(ended) {
            state.fired = false;
        }
    }

    /// Linked reports, then the arena, one change per rule.
    fn finish(&mut self, arena: &mut CounterArena, now_ns: u64) {
        self.link(&mut [], now_ns);
        for state in self.states.iter_mut().chain(&mut self.ended) {
            if state.dirty.counters || state.dirty.marks {
                let mut update = arena.update();
                write(state, &mut update);
                update.commit();
            }
        }
    }
}

/// Whether the rules of `model` fit, `staying` of them having their rows already.
fn check_room(model: &SessionModel, staying: usize, arena: &CounterArena) -> Result<(), UrrError> {
    let count = model.urrs.len();
    if count > SESSION_URRS_MAX {
        return Err(UrrError::TooMany(count));
    }
    if arena.free_urrs() < count.saturating_sub(staying) {
        return Err(UrrError::TableFull);
    }
    Ok(())
}

/// Prepares the rows of a rule that changed.
#[inline]
fn write(state: &mut UrrState, update: &mut ProofUpdate<'_>) {
    let dirty = std::mem::take(&mut state.dirty);
    if dirty.counters {
        update.urr_counters(state.place, &state.counters);
    }
    if dirty.marks {
        update.urr_marks(state.place, &state.marks);
    }
}
