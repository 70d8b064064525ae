//! Redirected flows in a file beside the worker's arena: stores survive `kill -9` of the process.
//!
//! ```text
//! word 0     version
//! word 1     places for flows
//! ... 8      zero
//! per place  the words of a flow, then the session's SEID; the first word is written last
//! ```
//!
//! A flow is written when it opens and wiped when it ends, never per packet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use qlink_forward::redirect::{FLOW_WORDS, FlowState, Keep};
use qlink_io::arena::{Arena, ArenaError};
use qlink_pfcp::model::Seid;

use super::diverted::FLOWS_MAX;

/// The version of the words.
const VERSION: u64 = 1;

/// Words in front of the first place.
const HEADER_WORDS: usize = 8;

/// Words of a place.
const STRIDE: usize = FLOW_WORDS + 1;

const PLACES: usize = FLOWS_MAX as usize;

/// Why the file is not usable; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeptFlowsError {
    /// The file is none, or cannot be used now.
    #[error(transparent)]
    File(#[from] ArenaError),
    /// It was written by a newer release; exit code 64 at the shell.
    #[error("{path} has redirected flows of version {found}, this release knows up to {VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
}

/// Where the flows of one worker stand.
#[derive(Debug, Default)]
pub(crate) struct KeptFlows {
    /// `None`: nowhere.
    file: Option<Arena>,
    /// Whose session is spoken of.
    seid: u64,
    /// By owner, the places that were taken when the file was opened.
    standing: BTreeMap<u32, Vec<u32>>,
}

impl KeptFlows {
    /// Opens or makes the file that belongs to the arena at `arena`.
    ///
    /// # Errors
    ///
    /// [`KeptFlowsError`].
    pub(crate) fn open(arena: &Path) -> Result<Self, KeptFlowsError> {
        let path = crate::journal::beside(arena, ".redirects");
        let words = HEADER_WORDS.saturating_add(PLACES.saturating_mul(STRIDE));
        let file = Arena::open_or_create(&path, words)?;
        let [version, places, ..] = file.words() else {
            return Ok(Self::default());
        };
        match version.load(Ordering::Acquire) {
            0 => {
                places.store(PLACES as u64, Ordering::Release);
                version.store(VERSION, Ordering::Release);
            }
            VERSION => {}
            found => return Err(KeptFlowsError::Newer { path, found }),
        }
        let mut kept = Self {
            file: Some(file),
            seid: 0,
            standing: BTreeMap::new(),
        };
        for place in 0..FLOWS_MAX {
            if let Some((flow, _)) = kept.flow(place) {
                kept.standing.entry(flow.owner).or_default().push(place);
            }
        }
        Ok(kept)
    }

    /// Flows that come now are of this session.
    pub(super) const fn speak_of(&mut self, seid: Seid) {
        self.seid = seid.get();
    }

    fn place(&self, place: u32) -> Option<&[AtomicU64; STRIDE]> {
        let words = self.file.as_ref()?.words().get(HEADER_WORDS..)?;
        let (places, _) = words.as_chunks::<STRIDE>();
        places.get(usize::try_from(place).ok()?)
    }

    /// The flow in a place, and whose session it is.
    fn flow(&self, place: u32) -> Option<(FlowState, u64)> {
        let words = self.place(place)?;
        let words = words.each_ref().map(|word| word.load(Ordering::Acquire));
        let (flow, seid) = words.split_first_chunk::<FLOW_WORDS>()?;
        Some((FlowState::from_words(flow)?, *seid.first()?))
    }

    /// The flows that a session had when the file was opened, with their places; asked for once.
    pub(super) fn take_standing(&mut self, owner: u32, seid: Seid) -> Vec<(u32, FlowState)> {
        let places = self.standing.remove(&owner).unwrap_or_default();
        let known = places.into_iter().filter_map(|place| {
            let (flow, of) = self.flow(place)?;
            (flow.owner == owner && of == seid.get()).then_some((place, flow))
        });
        known.collect()
    }
}

impl Keep for KeptFlows {
    fn keep(&mut self, place: u32, flow: Option<&FlowState>) {
        let Some([first, rest @ ..]) = self.place(place) else {
            return;
        };
        // Who reads this after a kill finds the whole flow or none.
        first.store(0, Ordering::Release);
        let Some(flow) = flow else {
            return;
        };
        let [protocol, words @ ..] = flow.to_words();
        for (word, value) in rest.iter().zip(words.into_iter().chain([self.seid])) {
            word.store(value, Ordering::Release);
        }
        first.store(protocol, Ordering::Release);
    }
}
