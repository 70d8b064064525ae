//! Which files were found to be a content, known again by their stamp after a restart.
//!
//! Reading every copy again would keep subscribers waiting for minutes after a kill: a gateway may
//! hold terabytes. A copy is written once, synced, renamed and made read-only before it is bound,
//! and any later change of its bytes or its name in the file system shows in the stamp. So an equal
//! stamp is worth as much as the check at binding: neither sees who writes into a mapped file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qlink_io::filemap::FileStamp;
use qlink_pfcp::Association;
use qlink_types::ids::ContentId;

use crate::contents::Copy;
use crate::control::{check_copy, map_copy};
use crate::journal::{Entry, Journal, JournalError, beside};

/// A content and the file that was found to be it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checked {
    content: ContentId,
    stamp: FileStamp,
}

impl Entry for Checked {
    const MAGIC: [u8; 8] = *b"QLCOPY\0\0";

    /// Content, then the numbers of the stamp.
    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = self.content.as_bytes().to_vec();
        for number in self.stamp.numbers() {
            bytes.extend(number.to_be_bytes());
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, rest) = bytes.split_first_chunk::<32>()?;
        let (numbers, rest) = rest.as_chunks::<8>();
        let numbers: Vec<u64> = numbers.iter().copied().map(u64::from_be_bytes).collect();
        let numbers = numbers
            .first_chunk()
            .filter(|of| of.len() == numbers.len())?;
        rest.is_empty().then_some(Self {
            content: ContentId::new(*content),
            stamp: FileStamp::from_numbers(*numbers),
        })
    }
}

/// The stamps of all checked copies, in a journal beside the control journal.
#[derive(Debug)]
pub(crate) struct CheckedCopies {
    journal: Journal<Checked>,
    known: BTreeMap<ContentId, FileStamp>,
}

/// The file that belongs to a control journal.
pub(crate) fn checked_path(journal: &Path) -> PathBuf {
    beside(journal, ".copies")
}

impl CheckedCopies {
    /// Opens or makes the file.
    ///
    /// # Errors
    ///
    /// Any [`JournalError`].
    pub(crate) fn open(path: &Path) -> Result<Self, JournalError> {
        let (journal, entries) = Journal::<Checked>::open(path)?;
        let known = entries.iter().map(|entry| (entry.content, entry.stamp));
        Ok(Self {
            known: known.collect(),
            journal,
        })
    }

    /// Copies of every bound content, of which only those are read that were not found to be the
    /// content before. One that is gone is reported and proves nothing.
    pub(crate) fn open_bound(&mut self, association: &Association) -> BTreeMap<ContentId, Copy> {
        let mut copies = BTreeMap::new();
        let mut read = 0_u64;
        for binding in association.contents() {
            let content = binding.content;
            let opened = map_copy(binding).and_then(|file| {
                if self.knows(&content, file.stamp()) {
                    return Ok(Copy::Mapped(Arc::new(file)));
                }
                read = read.saturating_add(1);
                check_copy(binding, file)
            });
            let copy = opened.unwrap_or_else(|refusal| {
                tracing::error!(%content, %refusal, "a content copy is gone");
                Copy::Missing
            });
            if let Some(stamp) = copy.stamp() {
                self.known.insert(content, stamp);
            }
            copies.insert(content, copy);
        }
        // So the file has as many entries as there are bindings.
        self.known.retain(|content, _| copies.contains_key(content));
        if let Err(error) = self.rewrite() {
            tracing::warn!(error, "stamps of copies cannot be written");
        }
        tracing::info!(contents = copies.len(), read, "copies of contents");
        copies
    }

    /// Whether the file with this stamp was found to be the content.
    fn knows(&self, content: &ContentId, stamp: FileStamp) -> bool {
        self.known.get(content) == Some(&stamp)
    }

    /// The file with this stamp is the content. What is not kept costs reading it again.
    pub(crate) fn note(&mut self, content: ContentId, stamp: FileStamp) {
        if self.known.insert(content, stamp) == Some(stamp) {
            return;
        }
        let kept = if self.journal.is_overgrown() {
            self.rewrite()
        } else {
            let appended = self.journal.append(&[Checked { content, stamp }]);
            appended.map_err(|error| error.to_string())
        };
        if let Err(error) = kept {
            tracing::warn!(%content, error, "the copy is read again at the next start");
        }
    }

    /// The content is not bound any more: so there are no more stamps than bindings. The file is
    /// shorter when it is written anew.
    pub(crate) fn forget(&mut self, content: &ContentId) {
        self.known.remove(content);
    }

    fn rewrite(&mut self) -> Result<(), String> {
        let entries = self.known.iter().map(|(content, stamp)| Checked {
            content: *content,
            stamp: *stamp,
        });
        let written = self.journal.rewrite(entries);
        written.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use qlink_io::filemap::FileMap;
    use qlink_pfcp::{AssociationLimits, ContentBinding, Request};
    use qlink_types::codec::Text;
    use qlink_types::units::Bytes;

    use super::*;

    const STAMP: FileStamp = FileStamp::from_numbers([1, 2, 3, 4, 5]);

    fn content(number: u8) -> ContentId {
        ContentId::new([number; 32])
    }

    #[test]
    fn what_was_checked_is_known_after_a_restart_by_content_and_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copies");
        let mut checked = CheckedCopies::open(&path).unwrap();
        checked.note(content(1), STAMP);
        checked.note(content(2), FileStamp::from_numbers([9; 5]));
        checked.note(content(2), STAMP);

        let checked = CheckedCopies::open(&path).unwrap();

        assert!(checked.knows(&content(1), STAMP));
        assert!(checked.knows(&content(2), STAMP));
        assert!(!checked.knows(&content(3), STAMP));
        for changed in 0..5 {
            let mut numbers = STAMP.numbers();
            numbers[changed] += 1;
            assert!(!checked.knows(&content(1), FileStamp::from_numbers(numbers)));
        }
    }

    /// Bound: `path`, which is said to be the content `film`.
    fn bound(path: &Path, film: &[u8]) -> (Association, ContentId) {
        let content = ContentId::new(*blake3::hash(film).as_bytes());
        let mut association = Association::new(AssociationLimits {
            sessions: 1,
            contents: 1,
        });
        association.apply(&Request::BindContent {
            binding: ContentBinding {
                content,
                size: Bytes::new(film.len() as u64),
                path: Text::try_from(path.to_str().unwrap()).unwrap(),
            },
        });
        (association, content)
    }

    #[test]
    fn a_file_is_read_once_and_again_only_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, copies) = (folder.path().join("film"), folder.path().join("copies"));
        let (association, content) = bound(&file, b"film");
        let start = || {
            let mut checked = CheckedCopies::open(&copies).unwrap();
            let opened = checked.open_bound(&association);
            (checked, opened[&content].bytes().map(<[u8]>::to_vec))
        };
        std::fs::write(&file, b"lies").unwrap();

        assert_eq!(start().1, None, "bytes that are not the content");
        // Whoever is believed about this file is not asked again, so it was not read.
        let (mut checked, _) = start();
        checked.note(content, FileMap::open(&file).unwrap().stamp());
        assert_eq!(start().1.as_deref(), Some(&b"lies"[..]));
        std::fs::write(folder.path().join("new"), b"Lies").unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        assert_eq!(start().1, None, "another file in its place");
        std::fs::write(&file, b"film").unwrap();
        assert_eq!(start().1.as_deref(), Some(&b"film"[..]));
    }

    #[test]
    fn contents_that_come_and_go_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut checked = CheckedCopies::open(&folder.path().join("copies")).unwrap();
        for number in 0..9 {
            checked.note(content(number), STAMP);
            checked.forget(&content(number));
        }

        assert!(checked.known.is_empty(), "{checked:?}");
        assert!(!checked.knows(&content(1), STAMP));
    }

    #[test]
    fn what_is_not_bound_any_more_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (file, path) = (folder.path().join("film"), folder.path().join("copies"));
        let (association, _) = bound(&file, b"film");
        let mut checked = CheckedCopies::open(&path).unwrap();
        checked.note(content(1), STAMP);

        checked.open_bound(&association);

        let checked = CheckedCopies::open(&path).unwrap();
        assert!(!checked.knows(&content(1), STAMP));
    }
}
