//! The mark with which every durable directory starts: what it is and in which version.
//!
//! ```text
//! Meta["format"] = magic (8 bytes) | version (u32)
//! ```

use qlink_types::codec::{Decode as _, Encode as _};

use crate::kv::{Column, KvStore, StoreError, Sync, WriteBatch};

const FORMAT_KEY: &[u8] = b"format";

/// What a store is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Says which kind of store it is.
    pub magic: [u8; 8],
    /// The newest version of its format that this program knows, from 1.
    pub version: u32,
    /// Its columns; [`Column::Meta`] among them.
    pub columns: &'static [Column],
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A newer program wrote it. Nothing has been written to it.
    #[error("store format version {found} is newer than {known}, which this program knows")]
    Newer {
        /// Version of the directory.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// It is a store of another kind, or no store at all.
    #[error("the directory is not a store of kind '{expected}'")]
    Foreign {
        /// The kind that was expected.
        expected: String,
    },
    /// The store below failed.
    #[error("the format mark cannot be read or written")]
    Store(#[from] StoreError),
}

impl FormatError {
    /// Whether the program should end with exit code 64 (bad configuration or format).
    #[must_use]
    pub const fn is_bad_format(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Foreign { .. })
    }
}

impl Layout {
    /// Checks the mark of a store without writing: `true` when there is one and it fits, `false`
    /// when the store is new.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the mark says another kind or a newer version.
    pub fn check(&self, store: &impl KvStore) -> Result<bool, FormatError> {
        let Some(mark) = store.get(Column::Meta, FORMAT_KEY)? else {
            return if store.scan(Column::Meta, &[], None, 1)?.is_empty() {
                Ok(false)
            } else {
                Err(self.foreign())
            };
        };
        let (magic, found) = <([u8; 8], u32)>::from_bytes(&mark).map_err(|_| self.foreign())?;
        if magic != self.magic {
            return Err(self.foreign());
        }
        if found > self.version {
            return Err(FormatError::Newer {
                found,
                known: self.version,
            });
        }
        Ok(true)
    }

    /// Checks the mark and sets it in a new store.
    ///
    /// # Errors
    ///
    /// As [`Self::check`]; nothing is written then.
    pub fn claim(&self, store: &impl KvStore) -> Result<(), FormatError> {
        if self.check(store)? {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        let mark = (self.magic, self.version).to_bytes();
        batch.put(Column::Meta, FORMAT_KEY, mark);
        Ok(store.write(batch, Sync::Durable)?)
    }

    fn foreign(&self) -> FormatError {
        FormatError::Foreign {
            expected: String::from_utf8_lossy(&self.magic).trim_end().to_owned(),
        }
    }
}
