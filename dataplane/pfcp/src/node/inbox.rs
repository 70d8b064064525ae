//! Requests of one peer endpoint that were answered, so that each takes effect once.
//!
//! A request is known by its number and its bytes: a peer that starts anew may use a number again
//! for something else. Answers are forgotten after a time in which peers stop sending again. When
//! too many come in that time the oldest answer goes first, and then requests with its number and
//! older ones are dropped: rather unanswered than done twice.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::wire::{RawMessage, Sequence};

/// What the bytes of a request are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// As a number to be kept.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    /// Inverse of [`Self::get`].
    pub(crate) const fn restored(number: u64) -> Self {
        Self(number)
    }

    pub(crate) fn of(raw: &RawMessage<'_>) -> Self {
        let mut hasher = blake3::Hasher::new();
        let seid = raw.header.seid.unwrap_or_default();
        hasher.update(&[raw.kind.get()]);
        hasher.update(&seid.get().to_be_bytes());
        hasher.update(raw.body);
        let hash = hasher.finalize();
        let first = hash.as_bytes().first_chunk();
        Self(first.map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done and answered.
    New,
    /// It is in work: nothing.
    InWork,
    /// It was answered: the same answer goes again.
    Answered(Vec<u8>),
    /// Its answer may be forgotten: nothing.
    TooOld,
    /// Its answer could not be remembered: it is refused.
    Full,
}

/// Whether requests may be too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// They may.
    Matters,
    /// Doing one again does no harm: it opens an association.
    Ignored,
}

#[derive(Debug, Clone)]
struct Entry {
    digest: Digest,
    at: Duration,
    answer: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Inbox {
    entries: BTreeMap<Sequence, Entry>,
    order: VecDeque<(Duration, Sequence)>,
    floor: Option<(Sequence, Duration)>,
    /// Of all answers.
    bytes: usize,
}

/// How much one inbox remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Requests.
    pub(crate) requests: usize,
    /// Bytes of answers.
    pub(crate) bytes: usize,
}

impl Inbox {
    /// Judges a request; [`Verdict::New`] has it remembered as in work.
    pub(crate) fn judge(
        &mut self,
        sequence: Sequence,
        digest: Digest,
        age: Age,
        now: Duration,
        room: Room,
    ) -> Verdict {
        match self.entries.get(&sequence) {
            Some(entry) if entry.digest == digest => {
                return match &entry.answer {
                    Some(answer) => Verdict::Answered(answer.clone()),
                    None => Verdict::InWork,
                };
            }
            Some(_) => {}
            None if age == Age::Matters && self.is_old(sequence) => return Verdict::TooOld,
            None => {}
        }
        self.remove(sequence);
        if self.entries.len() >= room.requests && !self.evict(now) {
            return Verdict::Full;
        }
        let entry = Entry {
            digest,
            at: now,
            answer: None,
        };
        self.entries.insert(sequence, entry);
        self.order.push_back((now, sequence));
        Verdict::New
    }

    /// Remembers the answer of a request that is in work; `None` when nobody waits for it any
    /// more.
    pub(crate) fn answer(
        &mut self,
        sequence: Sequence,
        digest: Digest,
        bytes: &[u8],
        now: Duration,
        room: Room,
    ) -> Option<()> {
        let entry = self.entries.get_mut(&sequence)?;
        if entry.digest != digest {
            return None;
        }
        entry.answer = Some(bytes.to_vec());
        self.bytes = self.bytes.saturating_add(bytes.len());
        while self.bytes > room.bytes && self.evict(now) {}
        Some(())
    }

    fn remove(&mut self, sequence: Sequence) {
        let answer = self
            .entries
            .remove(&sequence)
            .and_then(|entry| entry.answer);
        let bytes = answer.map_or(0, |answer| answer.len());
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Forgets all but one request: the peer starts anew, and may say the same again with the same
    /// number.
    pub(crate) fn start_anew(&mut self, but: Option<Sequence>) {
        let kept = but.and_then(|sequence| self.entries.remove_entry(&sequence));
        self.entries = kept.into_iter().collect();
        let answers = self.entries.values().flat_map(|entry| &entry.answer);
        self.bytes = answers.map(Vec::len).sum();
        self.order.retain(|(_, sequence)| Some(*sequence) == but);
        self.floor = None;
    }

    /// Forgets what is older than `life`. Requests in work stay.
    pub(crate) fn forget(&mut self, now: Duration, life: Duration) {
        while let Some((at, sequence)) = self.order.front().copied() {
            if now.saturating_sub(at) < life {
                break;
            }
            self.order.pop_front();
            match self.entries.get(&sequence) {
                Some(entry) if entry.at != at => {}
                Some(entry) if entry.answer.is_none() => {
                    self.postpone(sequence, now);
                    break;
                }
                Some(_) | None => self.remove(sequence),
            }
        }
        if let Some((_, since)) = self.floor
            && now.saturating_sub(since) >= life
        {
            self.floor = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Looks at a request in work again after another life.
    fn postpone(&mut self, sequence: Sequence, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.at = now;
            self.order.push_back((now, sequence));
        }
    }

    /// Forgets the oldest answer; whether there was one.
    fn evict(&mut self, now: Duration) -> bool {
        for _ in 0..self.order.len() {
            let Some((at, sequence)) = self.order.pop_front() else {
                return false;
            };
            match self.entries.get(&sequence) {
                Some(entry) if entry.at == at && entry.answer.is_some() => {
                    self.remove(sequence);
                    self.floor = Some((sequence, now));
                    return true;
                }
                Some(entry) if entry.at == at => self.order.push_back((at, sequence)),
                Some(_) | None => {}
            }
        }
        false
    }

    /// Numbers go round; one is old when the shorter way from it leads forward to the floor.
    fn is_old(&self, sequence: Sequence) -> bool {
        self.floor.is_some_and(|(floor, _)| {
            Sequence::new(floor.get().wrapping_sub(sequence.get())).get() < 1 << 23
        })
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
