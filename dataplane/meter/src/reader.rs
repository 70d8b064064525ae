//! The readers' side of the counters: other processes, while the writer works.

mod detail;
mod occupancy;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use qlink_io::arena::{ArenaError, ArenaView};
use qlink_pfcp::{ContentUsage, SessionUsage};
use qlink_types::ids::SessionId;
use qlink_types::units::Incarnation;

use crate::arena::WorkerCounter;
use crate::identity::{SessionIdentity, SessionState};
use crate::layout::{
    ArenaLayout, LAYOUT_JOINED, LAYOUT_VERSION, LAYOUT_WITHOUT_URRS, Places, UrrPlace, header,
};
use crate::reason::DropReason;
use crate::record::load;
use crate::session::SessionSlot;
use crate::urr::RecoveredUrr;
use crate::urr_rows;

pub use detail::{FlowSnapshot, ViewSnapshot};
pub use occupancy::{Occupancies, Occupancy};

/// Why counters cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The file is not usable.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The writer has not prepared it yet.
    #[error("the arena has no counters yet")]
    NotReady,
    /// The arena was written by a newer release.
    #[error("counter layout {found} is newer than {LAYOUT_VERSION}")]
    NewerLayout {
        /// The version found.
        found: u64,
    },
    /// The header contradicts the file's size.
    #[error("the arena has {found} words, its header needs {needed}")]
    Size {
        /// Words in the file.
        found: usize,
        /// Words that the header's dimensions need.
        needed: usize,
    },
}

/// A session with its counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSnapshot {
    /// Its place.
    pub slot: SessionSlot,
    /// Who it is.
    pub identity: SessionIdentity,
    /// What it has used; `contents` in the order of the sponsor's list.
    pub usage: SessionUsage,
}

impl SessionSnapshot {
    /// Whether the session still stands.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.identity.state == SessionState::Live
    }
}

/// Sums over one worker, or over all of a data plane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Packets accepted for transmit.
    pub packets: u64,
    /// Inner IP bytes of forwarded packets.
    pub network_bytes: u64,
    /// Network bytes that kills left uncertain.
    pub uncertain_bytes: u64,
    /// Broken conservation laws; zero in a sound build.
    pub conservation_violations: u64,
    /// Every worker counter by name.
    pub worker: BTreeMap<&'static str, u64>,
}

/// Reads the counters of one worker, living or dead; [`crate::ArenaSet`] reads those of all.
#[derive(Debug)]
pub struct ArenaReader {
    view: ArenaView,
    layout: ArenaLayout,
    places: Places,
}

impl ArenaReader {
    /// Opens the arena file of a worker.
    ///
    /// # Errors
    ///
    /// Any [`ReaderError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReaderError> {
        let view = ArenaView::open(path)?;
        let words = view.words();
        let version = load(words, header::VERSION);
        let dimension = |at| usize::try_from(load(words, at)).unwrap_or(usize::MAX);
        let layout = ArenaLayout {
            sessions: dimension(header::SESSIONS),
            views: dimension(header::VIEWS),
            flows: dimension(header::FLOWS),
            view_words: dimension(header::VIEW_WORDS),
            flow_words: dimension(header::FLOW_WORDS),
            head_words: dimension(header::HEAD_WORDS),
            urrs: dimension(header::URRS),
        };
        let places = match version {
            0 => return Err(ReaderError::NotReady),
            LAYOUT_WITHOUT_URRS..=LAYOUT_JOINED => Places::joined(&layout),
            LAYOUT_VERSION => Places::of(&layout),
            found => return Err(ReaderError::NewerLayout { found }),
        };
        let (found, needed) = (words.len(), places.end);
        if found < needed {
            return Err(ReaderError::Size { found, needed });
        }
        Ok(Self {
            view,
            layout,
            places,
        })
    }

    fn words(&self) -> &[AtomicU64] {
        self.view.words()
    }

    /// Start of the counters.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        Incarnation::new(load(self.words(), header::INCARNATION))
    }

    /// How many workers the data plane has, each with an arena of its own.
    #[must_use]
    pub fn shards(&self) -> u8 {
        u8::try_from(load(self.words(), header::WORKERS)).unwrap_or(u8::MAX)
    }

    /// Every session, closed ones too until their place is used again. Each is consistent in
    /// itself; two sessions may be a moment apart.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionSnapshot> {
        let mut contents = self.contents();
        (0..self.layout.sessions)
            .filter_map(|slot| self.snapshot(slot, &mut contents))
            .collect()
    }

    /// One session; a live one rather than a closed one of the same id.
    #[must_use]
    pub fn session(&self, session: &SessionId) -> Option<SessionSnapshot> {
        self.sessions_of(&BTreeSet::from([*session]))
            .remove(session)
    }

    /// Those of `wanted` that the arena holds, in one pass over it however many they are; of each
    /// a live one rather than a closed one of the same id.
    #[must_use]
    pub fn sessions_of(
        &self,
        wanted: &BTreeSet<SessionId>,
    ) -> BTreeMap<SessionId, SessionSnapshot> {
        let mut places: BTreeMap<SessionId, (usize, SessionState)> = BTreeMap::new();
        for slot in 0..self.layout.sessions {
            let Some(identity) = self.identity(slot) else {
                continue;
            };
            if !wanted.contains(&identity.session) {
                continue;
            }
            let place = (slot, identity.state);
            let kept = places.entry(identity.session).or_insert(place);
            if kept.1 == SessionState::Closed && identity.state != SessionState::Closed {
                *kept = place;
            }
        }
        if places.is_empty() {
            return BTreeMap::new();
        }
        let mut contents = self.contents();
        places
            .into_iter()
            .filter_map(|(id, (slot, _))| {
                let snapshot = self.snapshot(slot, &mut contents)?;
                (snapshot.identity.session == id).then_some((id, snapshot))
            })
            .collect()
    }

    fn snapshot(
        &self,
        slot: usize,
        contents: &mut BTreeMap<u32, Vec<(u16, ContentUsage)>>,
    ) -> Option<SessionSnapshot> {
        let identity = self.identity(slot)?;
        let usage = self.places.read_usage(self.words(), slot)?;
        // The slot may have gone to another session in between.
        if self.identity(slot)?.session != identity.session {
            return None;
        }
        let number = u32::try_from(slot).ok()?;
        let mut views = contents.remove(&number).unwrap_or_default();
        views.sort_by_key(|(position, _)| *position);
        let views: Vec<ContentUsage> = views.into_iter().map(|(_, usage)| usage).collect();
        Some(SessionSnapshot {
            slot: SessionSlot::new(number),
            identity,
            usage: SessionUsage {
                contents: views.try_into().unwrap_or_default(),
                ..usage.to_session_usage()
            },
        })
    }

    fn identity(&self, slot: usize) -> Option<SessionIdentity> {
        let mut words = [0; SessionIdentity::WORDS];
        self.places.identity(slot).read(self.words(), &mut words)?;
        SessionIdentity::from_words(&words)
    }

    /// What each view has proven, by session slot.
    fn contents(&self) -> BTreeMap<u32, Vec<(u16, ContentUsage)>> {
        let mut contents: BTreeMap<u32, Vec<(u16, ContentUsage)>> = BTreeMap::new();
        for view in self.views() {
            let usage = ContentUsage {
                content: view.content,
                verified_unique: view.classes.verified_unique,
            };
            let of_session = contents.entry(view.slot.get()).or_default();
            of_session.push((view.position, usage));
        }
        contents
    }

    /// Every usage rule that stands or whose last report waits, with its counters and its waiting
    /// reports at one moment; two rules may be a moment apart.
    pub fn urrs(&self) -> impl Iterator<Item = RecoveredUrr> + '_ {
        let count = u32::try_from(self.layout.urrs).unwrap_or(u32::MAX);
        let places = (0..count).map(UrrPlace::new);
        places.filter_map(|place| urr_rows::read(self.words(), &self.places, place))
    }

    /// Packets dropped so far by reason; reasons without any are left out.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        DropReason::all()
            .map(|reason| {
                let at = Places::DROPS.saturating_add(reason.index());
                (reason.name(), load(self.words(), at))
            })
            .filter(|(_, packets)| *packets > 0)
            .collect()
    }

    /// Sums over this worker.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let value = |counter: WorkerCounter| {
            load(
                self.words(),
                Places::WORKER.saturating_add(counter as usize),
            )
        };
        Totals {
            packets: value(WorkerCounter::SentPackets),
            network_bytes: value(WorkerCounter::NetworkBytes),
            uncertain_bytes: value(WorkerCounter::UncertainBytes),
            conservation_violations: value(WorkerCounter::ConservationViolations),
            worker: WorkerCounter::ALL
                .iter()
                .map(|counter| (counter.name(), value(*counter)))
                .collect(),
        }
    }
}
