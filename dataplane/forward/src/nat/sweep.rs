//! Ends what nobody uses any more, a little at a time.

use super::blocks::Holder;
use super::{BlockLog, Nat};
use crate::chain::{NONE, place};

impl Nat {
    /// Looks at the next `places` places of each table and ends what is over at `now_ns`; blocks
    /// without mappings are released after their idle time.
    ///
    /// Nothing outlives its time without it: lookups do not find what is over. It gives room back.
    pub fn sweep(&mut self, places: u32, now_ns: u64, log: &mut impl BlockLog) {
        let sizes = [
            self.sessions.capacity(),
            self.mappings.capacity(),
            self.blocks.count(),
        ];
        for (table, size) in sizes.into_iter().enumerate() {
            let mut at = self.cursors.get(table).copied().unwrap_or(0);
            for _ in 0..places.min(size) {
                match table {
                    0 => self.sweep_session(at, now_ns),
                    1 => self.sweep_mapping(at, now_ns),
                    _ => self.sweep_block(at, now_ns, log),
                }
                at = at.wrapping_add(1);
                if at >= size {
                    at = 0;
                }
            }
            if let Some(cursor) = self.cursors.get_mut(table) {
                *cursor = at;
            }
        }
    }

    fn sweep_session(&mut self, number: u32, now_ns: u64) {
        if self
            .sessions
            .get(number)
            .is_some_and(|session| session.deadline_ns <= now_ns)
        {
            self.end_session(number, now_ns);
        }
    }

    fn sweep_mapping(&mut self, number: u32, now_ns: u64) {
        if self
            .mappings
            .get(number)
            .is_some_and(|mapping| mapping.deadline_ns <= now_ns)
        {
            self.unmap(number, now_ns);
        }
    }

    fn sweep_block(&mut self, number: u32, now_ns: u64, log: &mut impl BlockLog) {
        match self.holder(number) {
            Some(Holder::Unreported) => self.report_release(number, now_ns, log),
            Some(Holder::Subscriber(subscriber)) => {
                let idle = self.blocks.get(number).is_some_and(|block| {
                    let since_ns = now_ns.saturating_sub(block.since_ns);
                    block.live == 0 && since_ns >= self.timeouts.idle_block_ns
                });
                if idle {
                    self.report_release(number, now_ns, log);
                }
                if idle && self.holder(number) == Some(Holder::Free) {
                    self.forget_block(subscriber, number);
                }
            }
            Some(Holder::Free) | None => {}
        }
    }

    /// Takes a released block out of a subscriber's list, which has no holes.
    fn forget_block(&mut self, subscriber: u32, number: u32) {
        let Some(state) = self.subscribers.get_mut(place(subscriber)) else {
            return;
        };
        if let Some(at) = state.blocks.iter().position(|block| *block == number) {
            if let Some(rest) = state.blocks.get_mut(at..) {
                rest.rotate_left(1);
            }
            if let Some(last) = state.blocks.last_mut() {
                *last = NONE;
            }
        }
    }
}
