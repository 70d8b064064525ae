//! Rows of usage rules in the arena.
//!
//! ```text
//! identity   1 | urr << 32, session slot, 0, 0       first word 0: nobody's
//! ```

use qlink_pfcp::model::UrrId;

use crate::arena::{CounterArena, ProofUpdate};
use crate::inflight::BurstDelta;
use crate::layout::{Places, URR_IDENTITY_WORDS, UrrPlace};
use crate::record::{Row, load, open_place, read_identity, store};
use crate::session::SessionSlot;
use crate::sync::AtomicU64;
use crate::urr::{RecoveredUrr, UrrCounters, UrrMarks};
use crate::usage::Traffic;

/// The rule in a place; `None` when the place is nobody's or changes faster than it can be read.
pub(crate) fn read(words: &[AtomicU64], places: &Places, place: UrrPlace) -> Option<RecoveredUrr> {
    let (session, urr) = identity(words, places, place)?;
    let (counters_row, marks_row) = (places.urr_counters(place), places.urr_marks(place));
    let mut counters = [0; UrrCounters::WORDS];
    let mut marks = [0; UrrMarks::WORDS];
    for _ in 0..100 {
        let guards = |row: [Row; 2]| row.map(|row| row.guard(words));
        let before = guards([counters_row, marks_row]);
        marks_row.read(words, &mut marks)?;
        counters_row.read(words, &mut counters)?;
        // Both of one moment, and of the same rule still.
        if guards([counters_row, marks_row]) == before {
            break;
        }
    }
    (identity(words, places, place)? == (session, urr)).then(|| RecoveredUrr {
        place,
        session,
        urr,
        counters: UrrCounters::from_words(counters),
        marks: UrrMarks::from_words(marks),
    })
}

fn identity(words: &[AtomicU64], places: &Places, place: UrrPlace) -> Option<(SessionSlot, UrrId)> {
    let mut identity = [0; 2];
    read_identity(words, places.urr(place), &mut identity);
    let [open, slot] = identity;
    let slot = u32::try_from(slot).ok()?;
    let urr = u32::try_from(open >> 32).ok()?;
    (open & 1 == 1).then_some((SessionSlot::new(slot), UrrId::new(urr)))
}

impl CounterArena {
    /// Places of usage rules that nobody uses.
    #[must_use]
    pub const fn free_urrs(&self) -> usize {
        self.urrs_free.len()
    }

    /// Takes a place for a rule of the session in `slot`; `None` when the table is full.
    pub(crate) fn open_urr(
        &mut self,
        slot: SessionSlot,
        urr: UrrId,
        counters: &UrrCounters,
        marks: &UrrMarks,
    ) -> Option<UrrPlace> {
        let place = UrrPlace::new(self.urrs_free.pop()?);
        let mut update = self.update();
        update.urr_counters(place, counters);
        update.urr_marks(place, marks);
        update.commit();
        let open = 1 | u64::from(urr.get()) << 32;
        let words: [u64; URR_IDENTITY_WORDS] = [open, slot.get().into(), 0, 0];
        open_place(self.words(), self.places.urr(place), &words);
        Some(place)
    }

    /// Gives a place back.
    pub fn close_urr(&mut self, place: UrrPlace) {
        let at = self.places.urr(place);
        if place.index() < self.layout.urrs && load(self.words(), at) != 0 {
            store(self.words(), at, 0);
            self.urrs_free.push(place.get());
        }
    }

    /// The rules that stand.
    pub(crate) fn recovered_urrs(&self) -> Vec<RecoveredUrr> {
        let places = self.urr_places();
        places
            .filter_map(|place| read(self.words(), &self.places, place))
            .collect()
    }

    pub(crate) fn find_free_urrs(&mut self) {
        let free = self.urr_places().rev().filter(|place| {
            let at = self.places.urr(*place);
            load(self.words(), at) == 0
        });
        self.urrs_free = free.map(UrrPlace::get).collect();
    }

    fn urr_places(&self) -> impl DoubleEndedIterator<Item = UrrPlace> + use<> {
        let count = u32::try_from(self.layout.urrs).unwrap_or(u32::MAX);
        (0..count).map(UrrPlace::new)
    }
}

impl ProofUpdate<'_> {
    /// Prepares the counters of a session behind a burst: what stands and `delta`.
    #[inline]
    pub fn burst(&mut self, slot: SessionSlot, delta: &BurstDelta) {
        if slot.index() >= self.arena.layout.sessions {
            return;
        }
        let row = self.arena.places.traffic(slot.index());
        row.prepare(self.arena.words(), |words| {
            let mut traffic = Traffic::from_words(words);
            delta.apply(&mut traffic);
            traffic.to_words()
        });
        self.arena.redo.push(row);
    }

    /// Prepares the next counters of a usage rule.
    #[inline]
    pub(crate) fn urr_counters(&mut self, place: UrrPlace, counters: &UrrCounters) {
        if place.index() < self.arena.layout.urrs {
            let row = self.arena.places.urr_counters(place);
            let mut sink = row.stage(self.arena.backing.words());
            sink.put_all(counters.to_words());
            self.arena.redo.push(row);
        }
    }

    /// Prepares the next marks of a usage rule.
    pub(crate) fn urr_marks(&mut self, place: UrrPlace, marks: &UrrMarks) {
        if place.index() < self.arena.layout.urrs {
            let row = self.arena.places.urr_marks(place);
            let mut sink = row.stage(self.arena.backing.words());
            sink.put_all(marks.to_words());
            self.arena.redo.push(row);
        }
    }
}
