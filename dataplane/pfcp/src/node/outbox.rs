//! Our requests to one peer endpoint, sent again until they are answered.
//!
//! Source: TS 29.244 §6.4.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::Timers;
use crate::wire::Sequence;

#[derive(Debug, Clone)]
struct Outstanding<P> {
    bytes: Vec<u8>,
    due: Duration,
    sent: u8,
    purpose: P,
}

/// Requests by number; `P` is what each was for.
#[derive(Debug, Clone)]
pub(crate) struct Outbox<P> {
    outstanding: BTreeMap<Sequence, Outstanding<P>>,
}

impl<P> Default for Outbox<P> {
    fn default() -> Self {
        Self {
            outstanding: BTreeMap::new(),
        }
    }
}

/// What time brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due<P> {
    /// These bytes go again.
    Again(Vec<u8>),
    /// No answer came; it is no request any more.
    Unanswered(P),
}

impl<P> Outbox<P> {
    /// A number behind `last` under which no request waits for its answer.
    pub(crate) fn number(&self, last: Sequence) -> Sequence {
        let mut sequence = last.next();
        while self.outstanding.contains_key(&sequence) {
            sequence = sequence.next();
        }
        sequence
    }

    /// Takes a request in that leaves now.
    pub(crate) fn sent(
        &mut self,
        sequence: Sequence,
        bytes: Vec<u8>,
        purpose: P,
        now: Duration,
        timers: &Timers,
    ) {
        let outstanding = Outstanding {
            bytes,
            due: now.saturating_add(timers.t1),
            sent: 1,
            purpose,
        };
        self.outstanding.insert(sequence, outstanding);
    }

    /// What the answer is for; `None`: nobody waits for it.
    pub(crate) fn answered(&mut self, sequence: Sequence) -> Option<P> {
        let outstanding = self.outstanding.remove(&sequence)?;
        Some(outstanding.purpose)
    }

    /// What is due by now, in the order of numbers.
    pub(crate) fn due(&mut self, now: Duration, timers: &Timers) -> Vec<Due<P>> {
        let late = self.outstanding.iter();
        let late = late.filter(|(_, outstanding)| outstanding.due <= now);
        let late: Vec<Sequence> = late.map(|(sequence, _)| *sequence).collect();
        let mut due = Vec::new();
        for sequence in late {
            let Some(mut outstanding) = self.outstanding.remove(&sequence) else {
                continue;
            };
            if outstanding.sent >= timers.n1 {
                due.push(Due::Unanswered(outstanding.purpose));
                continue;
            }
            due.push(Due::Again(outstanding.bytes.clone()));
            outstanding.sent = outstanding.sent.saturating_add(1);
            outstanding.due = now.saturating_add(timers.t1);
            self.outstanding.insert(sequence, outstanding);
        }
        due
    }

    /// When something is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.outstanding.values().map(|waiting| waiting.due).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.outstanding.len()
    }
}
