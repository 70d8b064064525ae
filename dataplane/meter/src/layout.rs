//! Where everything lies in the arena.
//!
//! ```text
//! header      64 words: layout version, dimensions, incarnation, workers
//! drops       one counter per DropReason, 128 words reserved
//! worker      WorkerCounter counters, 64 words reserved
//! in-flight   count | 32 entries of 10 words
//! redo        count | (place, value) pairs
//! sessions    per slot: identity (1 + 48 words) | guarded usage row
//! views       per view: identity (8 words) | guarded row: classes (8), state words
//! flows       per flow: identity (8 words) | guarded row: state words | head words
//! ```
//!
//! Version 1. Words that no field uses are zero.

use crate::identity::SessionIdentity;
use crate::inflight::{ENTRY_WORDS, INFLIGHT_MAX};
use crate::record::Row;
use crate::usage::Usage;

/// Version of this layout, word 0 of the arena.
pub const LAYOUT_VERSION: u64 = 1;

/// Words of the header.
const HEADER_WORDS: usize = 64;
/// Words reserved for drop counters.
const DROP_WORDS: usize = 128;
/// Words reserved for worker counters.
const WORKER_WORDS: usize = 64;
/// Most rows that change together: a flow, its session, and every view of the session.
pub(crate) const REDO_MAX: usize = 2 + qlink_pfcp::MAX_CONTENTS;
/// Words in front of a view's or flow's row.
pub(crate) const ROW_IDENTITY_WORDS: usize = 8;
/// Words in front of a view's state: its classes, for readers that do not know states.
pub(crate) const VIEW_HEAD_WORDS: usize = 8;

/// Dimensions of an arena; two arenas with equal dimensions have equal layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaLayout {
    /// Places for sessions.
    pub sessions: usize,
    /// Places for views.
    pub views: usize,
    /// Places for flows.
    pub flows: usize,
    /// Most words of a view's state.
    pub view_words: usize,
    /// Most words of a flow's proof state.
    pub flow_words: usize,
    /// Words of a flow's head logs.
    pub head_words: usize,
}

/// Places of the header's words.
pub(crate) mod header {
    pub(crate) const VERSION: usize = 0;
    pub(crate) const SESSIONS: usize = 1;
    pub(crate) const VIEWS: usize = 2;
    pub(crate) const FLOWS: usize = 3;
    pub(crate) const VIEW_WORDS: usize = 4;
    pub(crate) const FLOW_WORDS: usize = 5;
    pub(crate) const HEAD_WORDS: usize = 6;
    pub(crate) const INCARNATION: usize = 7;
    pub(crate) const WORKERS: usize = 8;
}

impl ArenaLayout {
    const SESSION_WORDS: usize = SessionIdentity::WORDS + 1 + Row::words(Usage::WORDS);

    pub(crate) const fn drops(&self) -> usize {
        HEADER_WORDS
    }

    pub(crate) const fn worker(&self) -> usize {
        self.drops() + DROP_WORDS
    }

    pub(crate) const fn inflight(&self) -> usize {
        self.worker() + WORKER_WORDS
    }

    pub(crate) const fn redo(&self) -> usize {
        self.inflight() + 1 + INFLIGHT_MAX * ENTRY_WORDS
    }

    const fn session_base(&self) -> usize {
        self.redo() + 1 + REDO_MAX * 2
    }

    const fn view_stride(&self) -> usize {
        Row::words(self.view_words.saturating_add(VIEW_HEAD_WORDS))
            .saturating_add(ROW_IDENTITY_WORDS)
    }

    const fn flow_stride(&self) -> usize {
        Row::words(self.flow_words)
            .saturating_add(ROW_IDENTITY_WORDS)
            .saturating_add(self.head_words)
    }

    const fn view_base(&self) -> usize {
        self.session_base()
            .saturating_add(self.sessions.saturating_mul(Self::SESSION_WORDS))
    }

    const fn flow_base(&self) -> usize {
        self.view_base()
            .saturating_add(self.views.saturating_mul(self.view_stride()))
    }

    /// Words of the whole arena.
    #[must_use]
    pub const fn words(&self) -> usize {
        self.flow_base()
            .saturating_add(self.flows.saturating_mul(self.flow_stride()))
    }

    /// Guard word and first word of a session's identity.
    #[inline]
    pub(crate) const fn session(&self, slot: usize) -> usize {
        self.session_base()
            .saturating_add(slot.saturating_mul(Self::SESSION_WORDS))
    }

    #[inline]
    pub(crate) const fn usage(&self, slot: usize) -> Row {
        Row {
            at: self
                .session(slot)
                .saturating_add(SessionIdentity::WORDS + 1),
            len: Usage::WORDS,
        }
    }

    #[inline]
    pub(crate) const fn view(&self, view: usize) -> usize {
        self.view_base()
            .saturating_add(view.saturating_mul(self.view_stride()))
    }

    #[inline]
    pub(crate) const fn view_row(&self, view: usize) -> Row {
        Row {
            at: self.view(view).saturating_add(ROW_IDENTITY_WORDS),
            len: self.view_words.saturating_add(VIEW_HEAD_WORDS),
        }
    }

    #[inline]
    pub(crate) const fn flow(&self, flow: usize) -> usize {
        self.flow_base()
            .saturating_add(flow.saturating_mul(self.flow_stride()))
    }

    #[inline]
    pub(crate) const fn flow_row(&self, flow: usize) -> Row {
        Row {
            at: self.flow(flow).saturating_add(ROW_IDENTITY_WORDS),
            len: self.flow_words,
        }
    }

    #[inline]
    pub(crate) const fn heads(&self, flow: usize) -> usize {
        let row = self.flow_row(flow);
        row.at.saturating_add(Row::words(row.len))
    }
}
