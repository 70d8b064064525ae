//! Copies of contents and the set that a session may be nominated for.

use std::sync::Arc;

use qlink_content::{Candidate, ContentSet, HeadWords};
use qlink_io::filemap::{FileMap, FileStamp};
use qlink_types::ids::ContentId;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of a content.
#[derive(Debug, Clone)]
pub enum Copy {
    /// A mapped file that the gateway owns and nobody changes.
    Mapped(Arc<FileMap>),
    /// Bytes in memory.
    Owned(Arc<[u8]>),
    /// The copy is gone: nothing can be proven against it.
    Missing,
}

impl Copy {
    /// The bytes, if they are there.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Mapped(file) => Some(file.as_slice()),
            Self::Owned(bytes) => Some(bytes),
            Self::Missing => None,
        }
    }

    /// The stamp of the file, if it is one.
    #[must_use]
    pub fn stamp(&self) -> Option<FileStamp> {
        match self {
            Self::Mapped(file) => Some(file.stamp()),
            Self::Owned(_) | Self::Missing => None,
        }
    }
}

/// Contents by slot, in the order of a sponsor's list.
#[derive(Debug, Clone, Default)]
pub struct SessionContents(pub Vec<(ContentId, Copy)>);

impl ContentSet for SessionContents {
    #[inline]
    fn slots(&self) -> u16 {
        u16::try_from(self.0.len()).unwrap_or(u16::MAX)
    }

    #[inline]
    fn content(&self, slot: u16) -> Option<Candidate<'_>> {
        let (id, copy) = self.0.get(usize::from(slot))?;
        copy.bytes().map(|bytes| Candidate { id: *id, bytes })
    }
}

/// A flow's head logs in the arena.
#[derive(Debug)]
pub struct ArenaHeads<'a>(pub &'a [AtomicU64]);

impl HeadWords for ArenaHeads<'_> {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        self.0
            .get(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Ordered before the state that speaks of it by the Release store that commits the state.
    #[inline]
    fn store(&mut self, index: usize, word: u64) {
        if let Some(place) = self.0.get(index) {
            place.store(word, Ordering::Relaxed);
        }
    }
}
