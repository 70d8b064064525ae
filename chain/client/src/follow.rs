//! Following finalized events with a durable cursor: each consumer has its own, and sees every
//! event at least once, in order.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::client::ChainClient;
use crate::http::HttpError;
use crate::rpc::EventAnswer;

/// Most bytes of a stored cursor.
const CURSOR_BYTES_MAX: u64 = 256;

/// Where a consumer's position is kept.
pub trait CursorStore {
    /// The position stored last; `None`: from genesis.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn load(&self) -> std::io::Result<Option<String>>;

    /// Stores a position; durable when this returns.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the position before stays.
    fn store(&mut self, cursor: &str) -> std::io::Result<()>;
}

/// A cursor in a file of its own, replaced atomically.
#[derive(Debug)]
pub struct FileCursor {
    path: PathBuf,
}

impl FileCursor {
    /// A cursor at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

impl CursorStore for FileCursor {
    fn load(&self) -> std::io::Result<Option<String>> {
        match fs::metadata(&self.path) {
            Ok(meta) if meta.len() > CURSOR_BYTES_MAX => Err(std::io::Error::other(format!(
                "cursor file {} has {} bytes, at most {CURSOR_BYTES_MAX} are expected",
                self.path.display(),
                meta.len()
            ))),
            Ok(_) => fs::read_to_string(&self.path).map(|text| Some(text.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&mut self, cursor: &str) -> std::io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        file.write_all(cursor.as_bytes())?;
        file.sync_data()?;
        fs::rename(&fresh, &self.path)?;
        // The rename is durable once the directory is.
        let parent = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

/// Why following stopped.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The node could not be asked.
    #[error("events cannot be read")]
    Node(#[from] HttpError),
    /// The cursor could not be read or written.
    #[error("the event cursor cannot be kept")]
    Cursor(#[from] std::io::Error),
}

/// A consumer of finalized events.
#[derive(Debug)]
pub struct EventFollower<C> {
    client: ChainClient,
    store: C,
    cursor: Option<String>,
}

impl<C: CursorStore> EventFollower<C> {
    /// Continues where `store` says.
    ///
    /// # Errors
    ///
    /// [`FollowError::Cursor`] when the position cannot be read.
    pub fn resume(client: ChainClient, store: C) -> Result<Self, FollowError> {
        let cursor = store.load()?;
        Ok(Self {
            client,
            store,
            cursor,
        })
    }

    /// The next events, at most `limit`; empty when there are none yet. The same events come again
    /// until [`Self::acknowledge`] is called.
    ///
    /// # Errors
    ///
    /// [`FollowError::Node`] when the node cannot be asked.
    pub async fn next(&self, limit: usize) -> Result<Vec<EventAnswer>, FollowError> {
        Ok(self
            .client
            .events(self.cursor.as_deref(), limit)
            .await?
            .data)
    }

    /// Marks everything up to `cursor` as done.
    ///
    /// # Errors
    ///
    /// [`FollowError::Cursor`] when the position cannot be stored.
    pub fn acknowledge(&mut self, cursor: &str) -> Result<(), FollowError> {
        self.store.store(cursor)?;
        self.cursor = Some(cursor.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_and_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        assert_eq!(FileCursor::new(&path).load().unwrap(), None);

        FileCursor::new(&path).store("0001").unwrap();
        FileCursor::new(&path).store("0002").unwrap();

        assert_eq!(
            FileCursor::new(&path).load().unwrap().as_deref(),
            Some("0002")
        );
    }

    #[test]
    fn a_file_that_is_no_cursor_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursor");
        fs::write(&path, vec![b'x'; 1000]).unwrap();

        assert!(FileCursor::new(&path).load().is_err());
    }
}
