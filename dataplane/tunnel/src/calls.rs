//! Whom to call after a restart, and when: peers that were heard before it.
//!
//! They still have keys of the process that ended, and would notice after some 15 s of silence. So
//! each is called once; one that does not answer is called again twice. A peer whose data arrives
//! meanwhile is called at the next tick.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Ticks between two calls of one peer: `Rekey-Timeout`, 5 s.
///
/// Source: white paper §6.1.
const PAUSE_TICKS: u64 = 20;

/// Calls of one peer of which nothing is heard (chosen: two may be lost).
pub(crate) const TRIES: u8 = 3;

/// Ticks in a second.
const TICKS: u32 = 4;

/// A peer that is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    slot: usize,
    due_tick: u64,
}

/// The peers that were heard before the restart.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// In the order in which they are due; each peer at most once.
    waiting: VecDeque<Call>,
    /// Where they were heard.
    by_endpoint: HashMap<SocketAddr, usize>,
    tick: u64,
}

/// How many calls one tick begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// To peers whose data has arrived.
    pub(crate) wanted: u32,
    /// To peers of which nothing was heard yet: half as many, so that those who call find room.
    pub(crate) silent: u32,
}

impl Budget {
    pub(crate) fn of(handshakes_per_second: u32) -> Self {
        let share = |parts: u32| handshakes_per_second.div_ceil(TICKS.saturating_mul(parts));
        Self {
            wanted: share(1).max(1),
            silent: share(2).max(1),
        }
    }
}

impl Calls {
    /// A peer is to be called, as soon as others leave room.
    pub(crate) fn add(&mut self, slot: usize, endpoint: SocketAddr) {
        self.waiting.push_back(Call {
            slot,
            due_tick: self.tick,
        });
        self.by_endpoint.insert(endpoint, slot);
    }

    /// Who was heard from there before the restart.
    pub(crate) fn heard_at(&self, endpoint: SocketAddr) -> Option<usize> {
        self.by_endpoint.get(&endpoint).copied()
    }

    /// A quarter of a second has passed.
    pub(crate) const fn tick(&mut self) {
        self.tick = self.tick.saturating_add(1);
    }

    /// Who is to be called now.
    pub(crate) fn next(&mut self) -> Option<usize> {
        let due = self.waiting.front()?.due_tick <= self.tick;
        let call = if due { self.waiting.pop_front() } else { None };
        call.map(|call| call.slot)
    }

    /// A peer that was called is to be called again if nothing is heard.
    pub(crate) fn again(&mut self, slot: usize) {
        self.waiting.push_back(Call {
            slot,
            due_tick: self.tick.saturating_add(PAUSE_TICKS),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_called_again_after_the_pause_and_behind_those_who_waited() {
        let mut calls = Calls::default();
        let endpoint = |port| SocketAddr::from(([192, 0, 2, 1], port));
        for slot in 0..2 {
            calls.add(slot, endpoint(u16::try_from(slot).unwrap()));
        }
        assert_eq!(calls.next(), Some(0));
        calls.again(0);
        assert_eq!((calls.next(), calls.next()), (Some(1), None));

        for _ in 1..PAUSE_TICKS {
            calls.tick();
            assert_eq!(calls.next(), None);
        }
        calls.tick();

        assert_eq!(calls.next(), Some(0));
    }

    #[test]
    fn a_budget_is_never_nothing_and_leaves_half_to_callers() {
        assert_eq!(
            Budget::of(1),
            Budget {
                wanted: 1,
                silent: 1
            }
        );
        assert_eq!(
            Budget::of(100),
            Budget {
                wanted: 25,
                silent: 13
            }
        );
    }
}
