//! The worker's end: which sessions are traced, and what became of the burst's packets.

use std::sync::Arc;

use qlink_io::{BURST_MAX, Burst, PacketSource};
use qlink_meter::{DropReason, SessionSlot};
use qlink_wire::LinkType;

use super::ring::{Ring, Sight, Verdict};
use crate::pipeline::{Planned, Side};

/// Most sessions traced at once (chosen: each takes 8 MB).
pub(crate) const TRACES_MAX: usize = 4;

/// A traced session of this worker.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    /// The session.
    pub(crate) slot: SessionSlot,
    /// Where its packets go.
    pub(crate) ring: Arc<Ring>,
}

/// What became of one packet of the running burst.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// Nothing of a session.
    None,
    Planned(u8),
    Dropped(DropReason),
}

/// The sessions that one worker traces.
#[derive(Debug)]
pub(crate) struct Tracer {
    taps: Vec<Tap>,
    outcomes: [Outcome; BURST_MAX],
}

impl Tracer {
    /// Traces nothing.
    pub(crate) fn new() -> Self {
        Self {
            taps: Vec::with_capacity(TRACES_MAX),
            outcomes: [Outcome::None; BURST_MAX],
        }
    }

    /// Whether any session is traced: looked at once per burst.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        !self.taps.is_empty()
    }

    /// Begins a trace; those that have ended make room.
    pub(crate) fn begin(&mut self, tap: Tap) -> bool {
        self.taps.retain(|tap| !tap.ring.is_closed());
        let fits = self.taps.len() < TRACES_MAX;
        if fits {
            self.taps.push(tap);
        }
        fits
    }

    /// Forgets a session: its slot may go to another one.
    pub(crate) fn forget(&mut self, slot: SessionSlot) {
        self.taps.retain(|tap| tap.slot != slot);
    }

    /// Packet `number` of the burst will be sent as plan `plan`.
    #[cold]
    pub(crate) fn planned(&mut self, number: usize, plan: usize) {
        self.note(number, Outcome::Planned(u8::try_from(plan).unwrap_or(0)));
    }

    /// Packet `number` of the burst is dropped.
    #[cold]
    pub(crate) fn dropped(&mut self, number: usize, reason: DropReason) {
        self.note(number, Outcome::Dropped(reason));
    }

    /// What was planned as plan `plan` is dropped on its way out.
    #[cold]
    pub(crate) fn refused(&mut self, plan: usize, reason: DropReason) {
        let planned = self.outcomes.iter_mut().find(
            |outcome| matches!(outcome, Outcome::Planned(number) if usize::from(*number) == plan),
        );
        if let Some(outcome) = planned {
            *outcome = Outcome::Dropped(reason);
        }
    }

    fn note(&mut self, number: usize, outcome: Outcome) {
        if let Some(place) = self.outcomes.get_mut(number) {
            *place = outcome;
        }
    }

    fn ring(&self, slot: SessionSlot) -> Option<&Ring> {
        let tap = self.taps.iter().find(|tap| tap.slot == slot)?;
        (!tap.ring.is_closed()).then_some(&*tap.ring)
    }

    /// Copies the packets of traced sessions, once the burst has been sent: as they came, and
    /// those that left as they left.
    #[cold]
    pub(crate) fn copy<S: PacketSource>(
        &mut self,
        side: Side,
        (source, burst): (&S, &Burst),
        slots: &[Option<SessionSlot>],
        planned: &[Planned<'_>],
        now_ns: u64,
    ) {
        for ((outcome, descriptor), slot) in self.outcomes.iter().zip(burst).zip(slots) {
            let Some(ring) = slot.and_then(|slot| self.ring(slot)) else {
                continue;
            };
            let (verdict, plan) = match *outcome {
                Outcome::None => continue,
                Outcome::Dropped(reason) => (Verdict::Dropped(reason), None),
                Outcome::Planned(number) => match planned.get(usize::from(number)) {
                    Some(plan) if plan.accepted => (Verdict::Forwarded, Some(plan)),
                    plan => (Verdict::NotSent, plan),
                },
            };
            let came = Sight {
                side,
                peer: descriptor.peer,
                link: descriptor.link,
                now_ns,
                came: true,
                verdict,
                charged: plan.map_or(0, |plan| plan.delta.user_charged),
            };
            ring.offer(came, &[], source.frame(descriptor));
            if let (Verdict::Forwarded, Some(plan)) = (verdict, plan) {
                let left = Sight {
                    side: plan.way,
                    peer: Some(plan.to),
                    link: LinkType::RawIp,
                    came: false,
                    ..came
                };
                ring.offer(left, plan.head.as_slice(), plan.body);
            }
        }
        self.outcomes = [Outcome::None; BURST_MAX];
    }
}
