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
//! --- version 2, when there are rows for usage rules ---
//! redo        count | (place, value) pairs, for changes that are too long for the first list
//! urrs        per rule: identity (4 words) | guarded row: counters | guarded row: marks, reports
//! ```
//!
//! Version 2; version 1 ends in front of the second redo list. Words that no field uses are zero.

use crate::identity::SessionIdentity;
use crate::inflight::{ENTRY_WORDS, INFLIGHT_MAX};
use crate::record::Row;
use crate::urr::{SESSION_URRS_MAX, UrrCounters, UrrMarks};
use crate::usage::Usage;

/// Version of this layout, word 0 of the arena.
pub const LAYOUT_VERSION: u64 = 2;

/// The version before, which knows no usage rules.
pub(crate) const LAYOUT_WITHOUT_URRS: u64 = 1;

/// Words of the header.
const HEADER_WORDS: usize = 64;
/// Words reserved for drop counters.
const DROP_WORDS: usize = 128;
/// Words reserved for worker counters.
const WORKER_WORDS: usize = 64;
/// Most rows that change together without usage rules: a flow, its session, and every view of the
/// session.
pub(crate) const REDO_MAX: usize = 2 + qlink_pfcp::MAX_CONTENTS;
/// Most rows that change together: two more for each usage rule of the session.
pub(crate) const REDO_LARGE_MAX: usize = REDO_MAX + 2 * SESSION_URRS_MAX;
/// Words in front of the rows of a usage rule.
pub(crate) const URR_IDENTITY_WORDS: usize = 4;
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
    /// Places for usage rules, [`Self::URR_BYTES`] bytes each; 0: no session has any.
    pub urrs: usize,
}

/// The place of a usage rule in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct UrrPlace(u32);

impl UrrPlace {
    /// No place at all; what is written there is lost.
    pub(crate) const NONE: Self = Self(u32::MAX);

    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
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
    pub(crate) const URRS: usize = 9;
}

impl ArenaLayout {
    const URR_WORDS: usize =
        URR_IDENTITY_WORDS + Row::words(UrrCounters::WORDS) + Row::words(UrrMarks::WORDS);

    /// Bytes of the arena for one usage rule.
    pub const URR_BYTES: usize = Self::URR_WORDS * 8;

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

    /// The same arena without places for usage rules.
    pub(crate) const fn without_urrs(&self) -> Self {
        Self { urrs: 0, ..*self }
    }

    /// Words in front of the second redo list; all of an arena without usage rules.
    const fn urr_section(&self) -> usize {
        self.flow_base()
            .saturating_add(self.flows.saturating_mul(self.flow_stride()))
    }

    /// Words of the whole arena.
    #[must_use]
    pub const fn words(&self) -> usize {
        if self.urrs == 0 {
            return self.urr_section();
        }
        self.urr(UrrPlace(0))
            .saturating_add(self.urrs.saturating_mul(Self::URR_WORDS))
    }

    /// The second redo list; behind the end in an arena without usage rules.
    pub(crate) const fn redo_large(&self) -> usize {
        self.urr_section()
    }

    /// First word of a usage rule's identity.
    #[inline]
    pub(crate) const fn urr(&self, place: UrrPlace) -> usize {
        self.urr_section()
            .saturating_add(1 + REDO_LARGE_MAX * 2)
            .saturating_add(place.index().saturating_mul(Self::URR_WORDS))
    }

    #[inline]
    pub(crate) const fn urr_counters(&self, place: UrrPlace) -> Row {
        Row {
            at: self.urr(place).saturating_add(URR_IDENTITY_WORDS),
            len: UrrCounters::WORDS,
        }
    }

    #[inline]
    pub(crate) const fn urr_marks(&self, place: UrrPlace) -> Row {
        let counters = self.urr_counters(place);
        Row {
            at: counters.at.saturating_add(Row::words(counters.len)),
            len: UrrMarks::WORDS,
        }
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
