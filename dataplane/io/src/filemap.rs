//! A file as a byte slice, for content copies.
//!
//! **Who may change the file: nobody.** A content copy is an immutable file that the gateway owns:
//! it writes the copy under another name, calls fsync, renames it and sets mode 0444 before anyone
//! maps it. A file that is overwritten while mapped shows its new bytes, and one that is truncated
//! kills the reader with SIGBUS; for files with another owner, read the bytes into memory instead.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::map::{Access, Map};

/// What tells a file in one state from any other file and from itself in another state: device,
/// inode, length, and when its bytes and its inode changed last.
///
/// Whoever writes to a file, or puts another in its place, changes the stamp; the times are as fine
/// as the kernel's tick, some milliseconds, so a change that follows the look within one may not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp([u64; 5]);

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| {
            let whole = seconds.saturating_mul(1_000_000_000);
            whole.saturating_add(nanos).cast_unsigned()
        };
        Self([
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            nanos(metadata.mtime(), metadata.mtime_nsec()),
            nanos(metadata.ctime(), metadata.ctime_nsec()),
        ])
    }

    /// The numbers that it is made of, for keeping.
    #[must_use]
    pub const fn numbers(self) -> [u64; 5] {
        self.0
    }

    /// Inverse of [`Self::numbers`].
    #[must_use]
    pub const fn from_numbers(numbers: [u64; 5]) -> Self {
        Self(numbers)
    }
}

/// A read-only mapping of a whole file; an empty file is an empty slice.
#[derive(Debug)]
pub struct FileMap {
    /// `None` for an empty file, which the system does not map.
    map: Option<Map>,
    stamp: FileStamp,
}

impl FileMap {
    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// The system's reason; `InvalidInput` for anything but a regular file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let length = usize::try_from(metadata.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let map = match length {
            0 => None,
            _ => Some(Map::new(&file, length, Access::SharedRead)?),
        };
        let stamp = FileStamp::of(&metadata);
        Ok(Self { map, stamp })
    }

    /// The file's stamp before it was mapped.
    #[must_use]
    pub const fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// The bytes of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], Map::bytes)
    }
}

impl std::ops::Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for FileMap {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_bytes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film");
        let film: Vec<u8> = (0..100_003_u32).map(|i| (i % 253) as u8).collect();
        std::fs::write(&path, &film).unwrap();

        let map = FileMap::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();

        assert_eq!(map.as_slice(), film);
    }

    #[test]
    fn an_empty_file_is_an_empty_slice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").unwrap();

        assert!(FileMap::open(&path).unwrap().is_empty());
    }

    #[test]
    fn another_file_and_other_bytes_have_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film");
        let stamp = || FileMap::open(&path).unwrap().stamp();
        std::fs::write(&path, b"film").unwrap();
        let first = stamp();

        assert_eq!(stamp(), first);
        std::fs::write(folder.path().join("new"), b"film").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        let second = stamp();
        assert_ne!(second, first);
        // Times move with the kernel's tick.
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::write(&path, b"fiLm").unwrap();
        assert_ne!(stamp(), second);
    }

    #[test]
    fn a_folder_and_a_missing_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();

        let error = FileMap::open(folder.path()).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            FileMap::open(folder.path().join("none"))
                .unwrap_err()
                .kind(),
            io::ErrorKind::NotFound
        );
    }
}
