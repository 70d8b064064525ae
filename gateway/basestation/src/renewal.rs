//! When to enrol again: a machine without clock, socket or thread.
//!
//! ```text
//!            lost, refresh due                        new end has keys
//! Standing ---------------------> (enrolled) ------> Awaiting ------> Overlapping
//!    ^       rotation due, denied        | same end      | none in 60 s     | 10 s
//!    +-----------------------------------+---------------+------------------+ (confirmed)
//! ```
//!
//! A refusal is no end: attempts go on, with pauses that double up to [`PAUSE_MAX_NS`].

use std::time::Duration;

use qlink_tunnel::Beside;

const SECOND_NS: u64 = 1_000_000_000;

/// Calls without an answer after which the gateway's end is taken for lost: two may be lost on the way
/// (chosen; three take 10 s).
const UNANSWERED_LOST: u32 = 3;

/// Pause after the first attempt that changed nothing; doubled each time, plus up to half of it by
/// chance.
pub(crate) const PAUSE_NS: u64 = SECOND_NS;

/// Longest pause (chosen: who is allowed again waits no longer for it).
pub(crate) const PAUSE_MAX_NS: u64 = 30 * SECOND_NS;

/// How long a new end may take for its first keys.
const AWAITED_NS: u64 = 60 * SECOND_NS;

/// How long after a start the gateway is told that its key is in use: an earlier run of ours may have
/// ended while it replaced its key.
const FIRST_NS: u64 = 15 * SECOND_NS;

/// How long what was sent to the earlier end may be on its way (chosen: far longer than any buffer).
const OVERLAP_NS: u64 = 10 * SECOND_NS;

/// When to renew without any cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// To hear of a gateway that has changed its key or address.
    pub(crate) refresh: Duration,
    /// To change our own key; `None`: never.
    pub(crate) rotate: Option<Duration>,
}

/// What the link looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sight {
    /// Calls of the gateway without an answer.
    pub(crate) unanswered: u32,
    /// What is beside the end in use.
    pub(crate) beside: Option<Beside>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Nothing now.
    Wait,
    /// Enrol with the key that we have; what happened is told to [`Renewal::done`].
    Enrol,
    /// Enrol with a new key, likewise.
    Rotate,
    /// The new end is in use and the earlier one silent: forget that one, and tell the gateway that
    /// it may, likewise.
    Confirm,
    /// Forget the end that never got keys.
    Abandon,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The gateway's end and ours are as they were.
    Unchanged,
    /// A new end is brought up beside the one in use.
    Begun,
    /// Refused, or no answer.
    Failed,
    /// Our tunnel key is denied, so another is needed.
    KeyDenied,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Standing,
    Awaiting { since_ns: u64 },
    Overlapping { since_ns: u64 },
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Renewal {
    schedule: Schedule,
    phase: Phase,
    refresh_ns: u64,
    rotate_ns: Option<u64>,
    /// The next attempt's pause.
    pause_ns: u64,
    not_before_ns: u64,
}

impl Renewal {
    /// Enrolled now, at the monotonic time `now_ns`.
    pub(crate) fn new(schedule: Schedule, now_ns: u64) -> Self {
        let mut renewal = Self {
            schedule,
            phase: Phase::Standing,
            refresh_ns: 0,
            rotate_ns: None,
            pause_ns: PAUSE_NS,
            not_before_ns: now_ns,
        };
        renewal.refresh_ns = now_ns.saturating_add(FIRST_NS);
        renewal.schedule_rotation(now_ns);
        renewal
    }

    /// What to do now.
    pub(crate) fn step(&mut self, now_ns: u64, sight: Sight) -> Deed {
        if sight.unanswered == 0 && self.phase == Phase::Standing && now_ns >= self.not_before_ns {
            self.pause_ns = PAUSE_NS;
        }
        match self.phase {
            Phase::Standing if now_ns < self.not_before_ns => Deed::Wait,
            Phase::Standing if self.rotate_ns.is_some_and(|due_ns| now_ns >= due_ns) => {
                Deed::Rotate
            }
            Phase::Standing if sight.unanswered >= UNANSWERED_LOST || now_ns >= self.refresh_ns => {
                Deed::Enrol
            }
            Phase::Standing => Deed::Wait,
            Phase::Awaiting { .. } if sight.beside == Some(Beside::Previous) => {
                self.phase = Phase::Overlapping { since_ns: now_ns };
                Deed::Wait
            }
            Phase::Awaiting { since_ns } if now_ns.saturating_sub(since_ns) >= AWAITED_NS => {
                self.phase = Phase::Standing;
                Deed::Abandon
            }
            Phase::Overlapping { since_ns }
                if now_ns.saturating_sub(since_ns) >= OVERLAP_NS
                    && now_ns >= self.not_before_ns =>
            {
                Deed::Confirm
            }
            Phase::Awaiting { .. } | Phase::Overlapping { .. } => Deed::Wait,
        }
    }

    /// `deed` ended so; `chance` is 0 to 1023.
    pub(crate) fn done(&mut self, now_ns: u64, deed: Deed, outcome: Outcome, chance: u64) {
        match (deed, outcome) {
            (Deed::Abandon, _) => {
                self.put_off(now_ns, chance);
                // The gateway is to hear that the earlier key goes on.
                self.refresh_ns = now_ns;
            }
            (_, Outcome::Failed) => self.put_off(now_ns, chance),
            (_, Outcome::KeyDenied) => {
                self.put_off(now_ns, chance);
                // At once, where we may: nobody lets the old one in.
                if self.schedule.rotate.is_some() {
                    self.rotate_ns = Some(now_ns);
                }
                self.phase = Phase::Standing;
            }
            (Deed::Rotate, Outcome::Begun) => {
                self.schedule_rotation(now_ns);
                self.begun(now_ns);
            }
            (_, Outcome::Begun) => self.begun(now_ns),
            (Deed::Confirm, Outcome::Unchanged) => {
                self.phase = Phase::Standing;
                self.schedule_refresh(now_ns);
            }
            (_, Outcome::Unchanged) => {
                self.schedule_refresh(now_ns);
                // If it is lost all the same, asking again at once does not help.
                self.put_off(now_ns, chance);
            }
        }
    }

    fn begun(&mut self, now_ns: u64) {
        self.phase = Phase::Awaiting { since_ns: now_ns };
        self.schedule_refresh(now_ns);
    }

    fn put_off(&mut self, now_ns: u64, chance: u64) {
        let by_chance = (self.pause_ns / 2).saturating_mul(chance.min(1023)) / 1024;
        let pause_ns = self.pause_ns.saturating_add(by_chance);
        self.not_before_ns = now_ns.saturating_add(pause_ns);
        self.pause_ns = self.pause_ns.saturating_mul(2).min(PAUSE_MAX_NS);
    }

    fn schedule_refresh(&mut self, now_ns: u64) {
        self.refresh_ns = now_ns.saturating_add(ns(self.schedule.refresh));
    }

    fn schedule_rotation(&mut self, now_ns: u64) {
        let every = self.schedule.rotate;
        self.rotate_ns = every.map(|every| now_ns.saturating_add(ns(every)));
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "renewal_tests.rs"]
mod tests;
