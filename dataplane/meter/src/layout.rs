//! Where everything lies in the arena.
//!
//! ```text
//! header      64 words: layout version, dimensions, incarnation, workers
//! drops       one counter per DropReason, 128 words reserved
//! worker      WorkerCounter counters, 64 words reserved
//! in-flight   count | 32 entries of 10 words
//! redo        count | (place, value) pairs
//! traffic     per slot: guarded row of what every packet counts, on two cache lines
//! sessions    per slot: identity (1 + 34 words) | guarded row of what is proven
//! views       per view: identity (8 words) | guarded row: classes (8), state words
//! flows       per flow: identity (8 words) | guarded row: state words | head words
//! --- when there are rows for usage rules ---
//! redo        count | (place, value) pairs, for changes that are too long for the first list
//! urrs        per rule: identity (4 words) | guarded row: counters | guarded row: marks, reports
//! ```
//!
//! Version 3. In versions 1 and 2 a session has one guarded row for all of its counters, behind an
//! identity of 1 + 48 words, and there is no traffic section; version 1 knows no usage rules.
//! Words that no field uses are zero.
//!
//! The two rows of a session need not change together: each sum of its counters holds in each of
//! them, so it holds in their sum.

use crate::identity::SessionIdentity;
use crate::inflight::{ENTRY_WORDS, INFLIGHT_MAX};
use crate::record::{Row, Sealed};
use crate::sync::AtomicU64;
use crate::traffic::TrafficRows;
use crate::urr::{SESSION_URRS_MAX, UrrCounters, UrrMarks};
use crate::usage::{Proven, Traffic, Usage};

/// Version of this layout, word 0 of the arena.
pub const LAYOUT_VERSION: u64 = 3;

/// The first version, which knows no usage rules.
pub(crate) const LAYOUT_WITHOUT_URRS: u64 = 1;

/// The last version with all counters of a session in one row.
pub(crate) const LAYOUT_JOINED: u64 = 2;

/// Words of the header.
const HEADER_WORDS: usize = 64;
/// Words reserved for drop counters.
const DROP_WORDS: usize = 128;
/// Words reserved for worker counters.
const WORKER_WORDS: usize = 64;
/// Words of a cache line; the arena begins with one.
pub(crate) const LINE_WORDS: usize = 8;
/// Words of a session's traffic row and of the unused one behind it.
pub(crate) const TRAFFIC_STRIDE: usize = 2 * LINE_WORDS;
/// Words of a session's identity in versions 1 and 2.
const JOINED_IDENTITY_WORDS: usize = 48;
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

impl ArenaLayout {
    const URR_WORDS: usize =
        URR_IDENTITY_WORDS + Row::words(UrrCounters::WORDS) + Row::words(UrrMarks::WORDS);

    /// Bytes of the arena for one usage rule.
    pub const URR_BYTES: usize = Self::URR_WORDS * 8;

    /// The same arena without places for usage rules.
    pub(crate) const fn without_urrs(&self) -> Self {
        Self { urrs: 0, ..*self }
    }

    /// Words of the whole arena.
    #[must_use]
    pub const fn words(&self) -> usize {
        Places::of(self).end
    }
}

/// How the counters of a session lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All in one row: versions 1 and 2.
    Joined,
    /// Traffic apart from what is proven: version 3.
    Split,
}

/// The places of everything in an arena, computed once: packets look them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    form: Form,
    traffic: usize,
    sessions: usize,
    session_row: usize,
    session_stride: usize,
    views: usize,
    view_words: usize,
    view_stride: usize,
    flows: usize,
    flow_words: usize,
    flow_stride: usize,
    /// Behind the flows: the second redo list, or the end.
    urr_section: usize,
    /// Behind everything.
    pub(crate) end: usize,
}

impl Places {
    pub(crate) const DROPS: usize = HEADER_WORDS;
    pub(crate) const WORKER: usize = Self::DROPS + DROP_WORDS;
    pub(crate) const INFLIGHT: usize = Self::WORKER + WORKER_WORDS;
    pub(crate) const REDO: usize = Self::INFLIGHT + 1 + INFLIGHT_MAX * ENTRY_WORDS;
    const AFTER_REDO: usize = Self::REDO + 1 + REDO_MAX * 2;

    /// Places of this version.
    pub(crate) const fn of(layout: &ArenaLayout) -> Self {
        let traffic = Self::AFTER_REDO.next_multiple_of(LINE_WORDS);
        let rows = layout.sessions.saturating_mul(TRAFFIC_STRIDE);
        let words = (SessionIdentity::WORDS, Proven::WORDS);
        Self::with_sessions(
            layout,
            Form::Split,
            traffic,
            traffic.saturating_add(rows),
            words,
        )
    }

    /// Places of versions 1 and 2.
    pub(crate) const fn joined(layout: &ArenaLayout) -> Self {
        let sessions = Self::AFTER_REDO;
        let words = (JOINED_IDENTITY_WORDS, Usage::WORDS);
        Self::with_sessions(layout, Form::Joined, sessions, sessions, words)
    }

    const fn with_sessions(
        layout: &ArenaLayout,
        form: Form,
        traffic: usize,
        sessions: usize,
        (identity_words, row_words): (usize, usize),
    ) -> Self {
        let session_row = 1 + identity_words;
        let session_stride = session_row + Row::words(row_words);
        let view_words = layout.view_words.saturating_add(VIEW_HEAD_WORDS);
        let view_stride = Row::words(view_words).saturating_add(ROW_IDENTITY_WORDS);
        let flow_stride = Row::words(layout.flow_words)
            .saturating_add(ROW_IDENTITY_WORDS)
            .saturating_add(layout.head_words);
        let views = sessions.saturating_add(layout.sessions.saturating_mul(session_stride));
        let flows = views.saturating_add(layout.views.saturating_mul(view_stride));
        let urr_section = flows.saturating_add(layout.flows.saturating_mul(flow_stride));
        let end = if layout.urrs == 0 {
            urr_section
        } else {
            urr_section
                .saturating_add(1 + REDO_LARGE_MAX * 2)
                .saturating_add(layout.urrs.saturating_mul(ArenaLayout::URR_WORDS))
        };
        Self {
            form,
            traffic,
            sessions,
            session_row,
            session_stride,
            views,
            view_words,
            view_stride,
            flows,
            flow_words: layout.flow_words,
            flow_stride,
            urr_section,
            end,
        }
    }

    /// The second redo list; behind the end in an arena without usage rules.
    pub(crate) const fn redo_large(&self) -> usize {
        self.urr_section
    }

    /// First word of a usage rule's identity.
    #[inline]
    pub(crate) const fn urr(&self, place: UrrPlace) -> usize {
        self.urr_section
            .saturating_add(1 + REDO_LARGE_MAX * 2)
            .saturating_add(place.index().saturating_mul(ArenaLayout::URR_WORDS))
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
        self.sessions
            .saturating_add(slot.saturating_mul(self.session_stride))
    }

    /// Who a session is.
    #[inline]
    pub(crate) const fn identity(&self, slot: usize) -> Sealed {
        Sealed {
            at: self.session(slot),
            len: SessionIdentity::WORDS,
        }
    }

    /// What packets count of a session; of this version.
    #[inline]
    pub(crate) const fn traffic(&self, slot: usize) -> Row {
        Row {
            at: self
                .traffic
                .saturating_add(slot.saturating_mul(TRAFFIC_STRIDE)),
            len: Traffic::WORDS,
        }
    }

    /// What packets count of all sessions; of this version.
    #[inline(always)]
    pub(crate) fn traffic_rows<'a>(
        &self,
        words: &'a [AtomicU64],
        layout: &ArenaLayout,
    ) -> TrafficRows<'a> {
        TrafficRows::new(words, self.traffic, layout.sessions)
    }

    /// What is proven of a session; of this version.
    #[inline]
    pub(crate) const fn proven(&self, slot: usize) -> Row {
        Row {
            at: self.session(slot).saturating_add(self.session_row),
            len: Proven::WORDS,
        }
    }

    /// The row that changes when a burst of a session is counted.
    pub(crate) const fn counted(&self, slot: usize) -> Row {
        match self.form {
            Form::Joined => self.joined_usage(slot),
            Form::Split => self.traffic(slot),
        }
    }

    /// All counters of a session; of versions 1 and 2.
    const fn joined_usage(&self, slot: usize) -> Row {
        Row {
            at: self.session(slot).saturating_add(self.session_row),
            len: Usage::WORDS,
        }
    }

    /// Counters of a session at one moment; `None` when they change faster than they can be read.
    pub(crate) fn read_usage(&self, words: &[AtomicU64], slot: usize) -> Option<Usage> {
        if self.form == Form::Joined {
            let mut all = [0; Usage::WORDS];
            self.joined_usage(slot).read(words, &mut all)?;
            return Some(Usage::from_words(all));
        }
        let (traffic_row, proven_row) = (self.traffic(slot), self.proven(slot));
        let (mut traffic, mut proven) = ([0; Traffic::WORDS], [0; Proven::WORDS]);
        for _ in 0..USAGE_TRIES {
            let guards = || [traffic_row.guard(words), proven_row.guard(words)];
            let before = guards();
            traffic_row.read(words, &mut traffic)?;
            proven_row.read(words, &mut proven)?;
            if guards() == before {
                break;
            }
        }
        Some(Usage::sum(
            &Traffic::from_words(traffic),
            &Proven::from_words(proven),
        ))
    }

    #[inline]
    pub(crate) const fn view(&self, view: usize) -> usize {
        self.views
            .saturating_add(view.saturating_mul(self.view_stride))
    }

    #[inline]
    pub(crate) const fn view_row(&self, view: usize) -> Row {
        Row {
            at: self.view(view).saturating_add(ROW_IDENTITY_WORDS),
            len: self.view_words,
        }
    }

    #[inline]
    pub(crate) const fn flow(&self, flow: usize) -> usize {
        self.flows
            .saturating_add(flow.saturating_mul(self.flow_stride))
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

/// How often a reader tries to see both rows of a session at one moment (chosen: as often as for a
/// usage rule; a sum of two moments is still no wrong one).
const USAGE_TRIES: usize = 100;

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
