//! Changing several guarded rows as one.
//!
//! The new guard values are written down first; from the moment the list is marked valid, the
//! change has happened: recovery sets the guards that a dead writer did not get to.
//!
//! ```text
//! count | (place of guard, new value) x count        count 0: nothing to do
//! ```

use std::sync::atomic::AtomicU64;

use crate::layout::{ArenaLayout, Places, REDO_LARGE_MAX, REDO_MAX};
use crate::record::{Row, load, store};

/// The rows of a change that is being prepared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RedoList {
    rows: [Row; REDO_LARGE_MAX],
    len: usize,
}

impl RedoList {
    pub(crate) const fn new() -> Self {
        Self {
            rows: [Row { at: 0, len: 0 }; REDO_LARGE_MAX],
            len: 0,
        }
    }

    pub(crate) const fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a row whose other slot is prepared; `false` when the list is full.
    #[inline]
    pub(crate) fn push(&mut self, row: Row) -> bool {
        let Some(place) = self.rows.get_mut(self.len) else {
            return false;
        };
        *place = row;
        self.len = self.len.saturating_add(1);
        true
    }

    #[inline]
    fn rows(&self) -> &[Row] {
        self.rows.get(..self.len).unwrap_or_default()
    }

    /// Makes all prepared slots the state, as one change.
    #[inline]
    pub(crate) fn commit(&self, words: &[AtomicU64], places: &Places) {
        // One row changes by one store anyway.
        if let [row] = self.rows() {
            row.flip(words);
            return;
        }
        let at = if self.len > REDO_MAX {
            places.redo_large()
        } else {
            Places::REDO
        };
        let mut place = at.saturating_add(1);
        for row in self.rows() {
            store(words, place, row.at as u64);
            let next = row.guard(words).wrapping_add(1);
            store(words, place.saturating_add(1), next);
            place = place.saturating_add(2);
        }
        store(words, at, self.len as u64);
        for row in self.rows() {
            row.flip(words);
        }
        store(words, at, 0);
    }
}

/// Finishes a change that a dead writer began.
pub(crate) fn recover(words: &[AtomicU64], layout: &ArenaLayout, places: &Places) {
    finish(words, Places::REDO, REDO_MAX);
    if layout.urrs > 0 {
        finish(words, places.redo_large(), REDO_LARGE_MAX);
    }
}

fn finish(words: &[AtomicU64], at: usize, most: usize) {
    let count = usize::try_from(load(words, at)).unwrap_or(0).min(most);
    for index in 0..count {
        let place = at.saturating_add(1 + index.saturating_mul(2));
        if let Ok(guard) = usize::try_from(load(words, place)) {
            store(words, guard, load(words, place.saturating_add(1)));
        }
    }
    store(words, at, 0);
}
