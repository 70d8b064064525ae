//! Why bytes of sponsored sessions were charged, for `qlink session explain`.
//!
//! Counted by the worker in its own memory, where flows are judged and only for packets that
//! charge anything: nothing is added to the arena's rows, whose every word is written per packet.
//! A restart therefore loses the reasons (never the bytes) of what was charged before it, and
//! says so.

use qlink_content::{ChargeReason, Deltas};
use qlink_meter::SessionSlot;
use qlink_pfcp::{Answer, Cause, ChargeRow, Refusal, SessionCharges};
use qlink_types::codec::{List, Text};
use qlink_types::ids::SessionId;
use qlink_types::units::Bytes;

use crate::control::{Command, Control};
use crate::plane::Plane;
use crate::shard::Place;

/// Charged bytes of one sponsored session by reason; kept until its slot goes to another one.
#[derive(Debug)]
pub(crate) struct Charges {
    session: SessionId,
    before: u64,
    by_reason: [u64; ChargeReason::COUNT],
}

impl Charges {
    /// Of a session that was charged `before` bytes by an earlier process.
    pub(crate) const fn new(session: SessionId, before: u64) -> Self {
        Self {
            session,
            before,
            by_reason: [0; ChargeReason::COUNT],
        }
    }

    /// Adds what a packet, or the end of a flow, charged.
    #[inline]
    fn add(&mut self, deltas: &Deltas) {
        for (sum, bytes) in self.by_reason.iter_mut().zip(deltas.charged) {
            *sum = sum.saturating_add(bytes);
        }
    }

    fn to_message(&self) -> Option<SessionCharges> {
        let rows = ChargeReason::ALL.iter().zip(self.by_reason);
        let rows: Option<Vec<ChargeRow>> = rows
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(reason, bytes)| {
                let reason = Text::try_from(reason.as_str()).ok()?;
                let bytes = Bytes::new(bytes);
                Some(ChargeRow { reason, bytes })
            })
            .collect();
        Some(SessionCharges {
            session: self.session,
            before: Bytes::new(self.before),
            rows: rows?.try_into().ok()?,
            redirects: List::default(),
        })
    }
}

impl Plane {
    /// Remembers why `deltas` charged a session.
    #[inline]
    pub(crate) fn charged(&mut self, slot: SessionSlot, deltas: &Deltas) {
        if deltas.user_charged == 0 {
            return;
        }
        if let Some(Some(charges)) = self.charges.get_mut(slot.index()) {
            charges.add(deltas);
        }
    }

    /// Starts counting reasons for the session in `slot`.
    pub(crate) fn count_charges(&mut self, slot: SessionSlot, session: SessionId, before: u64) {
        if let Some(place) = self.charges.get_mut(slot.index()) {
            *place = Some(Box::new(Charges::new(session, before)));
        }
    }

    /// Why the session in `slot` was charged, also once it is closed; `None` when it never had a
    /// sponsor.
    #[must_use]
    pub fn charges(&self, slot: SessionSlot) -> Option<SessionCharges> {
        self.charges.get(slot.index())?.as_deref()?.to_message()
    }
}

impl Control {
    /// Why a session was charged.
    pub(crate) fn charges(&self, session: SessionId) -> Result<Answer, Refusal> {
        let unknown = || Refusal::new(Cause::SessionUnknown, &session.to_string());
        let shards = (0_u8..).zip(&self.shards);
        let found = shards
            .filter_map(|(shard, of)| Some((shard, of.reader.session(&session)?)))
            .max_by_key(|(_, found)| found.is_live());
        let (shard, found) = found.ok_or_else(unknown)?;
        let slot = found.slot;
        let (into, charges) = crossbeam::channel::bounded(1);
        self.run(Place { shard, slot }, Command::Charges { slot, into })?;
        let (counted, redirects) = charges.try_recv().unwrap_or_default();
        // Without a sponsor there is no content flow that could charge.
        let nothing = SessionCharges {
            session,
            before: Bytes::ZERO,
            rows: List::default(),
            redirects: List::default(),
        };
        let charges = counted.filter(|charges| charges.session == session);
        let mut charges = charges.unwrap_or(nothing);
        if found.is_live() {
            charges.redirects = redirects;
        }
        Ok(Answer::Charges { charges })
    }
}
