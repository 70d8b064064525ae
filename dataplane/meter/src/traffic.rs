//! What packets count of sessions, as it lies in an arena: looked up once for each burst, so that
//! a packet costs one index.

use std::sync::atomic::{AtomicU64, Ordering};

use qlink_kernel::prefetch_slice;

use crate::inflight::BurstDelta;
use crate::layout::{LINE_WORDS, TRAFFIC_STRIDE};
use crate::record::Whole;
use crate::session::SessionSlot;
use crate::usage::Traffic;

/// The traffic rows of an arena's sessions, by slot.
#[derive(Debug, Clone, Copy)]
pub struct TrafficRows<'a> {
    rows: &'a [[AtomicU64; TRAFFIC_STRIDE]],
}

impl<'a> TrafficRows<'a> {
    /// The rows of `sessions` sessions, of which the first begins at `at`.
    #[inline(always)]
    pub(crate) fn new(words: &'a [AtomicU64], at: usize, sessions: usize) -> Self {
        let (rows, _) = words.get(at..).unwrap_or_default().as_chunks();
        Self {
            rows: rows.get(..sessions).unwrap_or_default(),
        }
    }

    /// Starts loading what packets count of a session.
    #[inline(always)]
    pub fn prefetch(self, slot: SessionSlot) {
        if let Some(row) = self.rows.get(slot.index()) {
            prefetch_slice(row, 0);
            prefetch_slice(row, LINE_WORDS);
        }
    }

    /// The guard of a session's row.
    #[inline(always)]
    pub(crate) fn guard(self, slot: SessionSlot) -> u64 {
        let row = self.rows.get(slot.index());
        row.map_or(0, |[guard, ..]| guard.load(Ordering::Relaxed))
    }

    /// Adds what a burst forwarded of a session.
    #[inline(always)]
    pub(crate) fn add(self, slot: SessionSlot, delta: &BurstDelta) {
        let row = self.rows.get(slot.index());
        if let Some(row) = row.and_then(|row| Whole::first_of(row)) {
            row.change(|words| {
                let mut traffic = Traffic::from_words(words);
                delta.apply(&mut traffic);
                traffic.to_words()
            });
        }
    }
}
