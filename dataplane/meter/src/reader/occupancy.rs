//! How full a worker's tables are.

use crate::identity::{SessionState, ViewIdentity};
use crate::record::load;

use super::ArenaReader;
use crate::layout::ROW_IDENTITY_WORDS;

/// One table: how many of its places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Places that are taken.
    pub used: u64,
    /// Places that there are.
    pub bound: u64,
}

/// The tables of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancies {
    /// Sessions that stand.
    pub sessions: Occupancy,
    /// Content flows that are open.
    pub flows: Occupancy,
    /// (session, content) pairs, those of closed sessions too until their places are used again.
    pub views: Occupancy,
    /// Usage rules that stand or whose last report waits.
    pub urrs: Occupancy,
}

impl Occupancies {
    /// Every table with its stable name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, Occupancy); 4] {
        [
            ("sessions", self.sessions),
            ("flows", self.flows),
            ("views", self.views),
            ("urrs", self.urrs),
        ]
    }
}

impl ArenaReader {
    /// How full the tables are; two tables may be a moment apart.
    #[must_use]
    pub fn occupancies(&self) -> Occupancies {
        let of = |used: usize, bound: usize| Occupancy {
            used: used as u64,
            bound: bound as u64,
        };
        let is_live = |slot: &usize| {
            let identity = self.identity(*slot);
            identity.is_some_and(|identity| identity.state == SessionState::Live)
        };
        let sessions = (0..self.layout.sessions).filter(is_live).count();
        let views = (0..self.layout.views).filter(|view| self.is_view(*view));
        Occupancies {
            sessions: of(sessions, self.layout.sessions),
            flows: of(self.open_flows(), self.layout.flows),
            views: of(views.count(), self.layout.views),
            urrs: of(self.urrs().count(), self.layout.urrs),
        }
    }

    fn is_view(&self, view: usize) -> bool {
        let mut identity = [0; ROW_IDENTITY_WORDS];
        let at = self.places.view(view);
        for (word, place) in identity.iter_mut().zip(at..) {
            *word = load(self.words(), place);
        }
        ViewIdentity::from_words(&identity).is_some()
    }
}
