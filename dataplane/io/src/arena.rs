//! The shared file mapping that counters and proof state live in.
//!
//! ```text
//! byte 0     8        12        16        24            4096
//! | magic   | version | 0 (u32) | words u64 | zero ...   | words x u64, native byte order ... |
//! | QLARENA\0 | little-endian header                     | as the atomics of the writer        |
//! ```
//!
//! One process writes ([`Arena`], which holds the file's lock), any number read ([`ArenaView`]).
//! A store is in the page cache at once, so it survives `kill -9` of the writer; it does not
//! survive a crash of the machine unless [`Arena::sync`] was called before. What the words mean
//! is the business of `qlink-meter` and `qlink-content`.
//!
//! The file's whole space is reserved at creation, so a full disk cannot kill the writer with
//! SIGBUS later. Nobody may truncate the file while it is mapped; nothing here ever does.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use crate::map::{Access, Map};

/// The version of the header that this crate writes.
pub const ARENA_VERSION: u32 = 1;

/// Most words in one arena (chosen: 128 GiB, far above 16 shards of 2^20 sessions).
pub const ARENA_WORDS_MAX: usize = 1 << 34;

const MAGIC: [u8; 8] = *b"QLARENA\0";
const HEADER_BYTES: usize = 4096;

/// Why an arena could not be created or opened. In every case nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The file does not begin as an arena does.
    #[error("{path} is not an arena: it begins with {found:02x?}")]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// Its first 8 bytes, zero where it is shorter.
        found: [u8; 8],
    },
    /// The arena was written by a newer release; exit code 64 at the shell.
    #[error("{path} has arena version {found}, this release knows up to {known}")]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version in its header.
        found: u32,
        /// [`ARENA_VERSION`].
        known: u32,
    },
    /// The version in the header was never released.
    #[error("{path} has arena version {found}, which no release wrote")]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version in its header.
        found: u32,
    },
    /// The arena has another number of words than asked for.
    #[error("{path} holds {found} words, {wanted} are configured")]
    SizeMismatch {
        /// The file.
        path: PathBuf,
        /// Words in the header.
        found: u64,
        /// Words asked for.
        wanted: u64,
    },
    /// The file's length does not fit its own header: it was cut or extended.
    #[error("{path} has {found} bytes, its header says {stated}")]
    LengthMismatch {
        /// The file.
        path: PathBuf,
        /// Bytes in the file.
        found: u64,
        /// Bytes that the header's word count needs.
        stated: u64,
    },
    /// No word at all, or more than [`ARENA_WORDS_MAX`].
    #[error("an arena of {words} words cannot be made, 1 to {ARENA_WORDS_MAX} are possible")]
    WordsOutOfRange {
        /// Words asked for.
        words: u64,
    },
    /// Another process, or another [`Arena`] of this one, is the writer.
    #[error("{path} is already open for writing")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be made, read, locked or mapped.
    #[error("cannot {operation} the arena {path}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason; `AlreadyExists` or `NotFound` are the usual ones.
        #[source]
        source: io::Error,
    },
}

/// The writer's side of an arena. There is at most one per file on a machine at any time.
#[derive(Debug)]
pub struct Arena {
    map: Map,
    /// Holds the lock; the system releases it when the process dies.
    _lock: File,
}

impl Arena {
    /// Makes a new arena of `words` zeroed words, readable by the owner and the group.
    ///
    /// The file appears under its name only when it is complete.
    ///
    /// # Errors
    ///
    /// [`ArenaError::System`] with `AlreadyExists` if the file is there, and otherwise with what
    /// the system says (space is reserved at once); [`ArenaError::WordsOutOfRange`].
    pub fn create(path: impl AsRef<Path>, words: usize) -> Result<Self, ArenaError> {
        let path = path.as_ref();
        let bytes = file_bytes(words as u64)?;
        let temporary = temporary_path(path);
        let made = write_new(&temporary, words, bytes)
            .and_then(|()| std::fs::hard_link(&temporary, path))
            .map_err(system("create", path));
        // A leftover from here or from a killed predecessor with the same process id.
        let _ = std::fs::remove_file(&temporary);
        made?;
        Self::open(path, words)
    }

    /// Opens an existing arena for writing and takes its lock.
    ///
    /// # Errors
    ///
    /// Every variant of [`ArenaError`]; `System` with `NotFound` if the file is not there.
    pub fn open(path: impl AsRef<Path>, words: usize) -> Result<Self, ArenaError> {
        let path = path.as_ref();
        file_bytes(words as u64)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(system("open", path))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ArenaError::InUse { path: path.into() },
            TryLockError::Error(source) => system("lock", path)(source),
        })?;
        let (found, bytes) = read_header(&mut file, path)?;
        if found != words as u64 {
            let wanted = words as u64;
            return Err(ArenaError::SizeMismatch {
                path: path.into(),
                found,
                wanted,
            });
        }
        let map = Map::new(&file, bytes, Access::SharedWrite).map_err(system("map", path))?;
        Ok(Self { map, _lock: file })
    }

    /// [`open`](Self::open), or [`create`](Self::create) if there is no such file.
    ///
    /// # Errors
    ///
    /// As the two.
    pub fn open_or_create(path: impl AsRef<Path>, words: usize) -> Result<Self, ArenaError> {
        let path = path.as_ref();
        match Self::open(path, words) {
            Err(ArenaError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::create(path, words)
            }
            result => result,
        }
    }

    /// The words, in the order of the file.
    ///
    /// The single writer stores with `Release` what readers of an [`ArenaView`] load with
    /// `Acquire`, wherever the order between words matters.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.map.words(HEADER_BYTES)
    }

    /// Brings all words to storage and waits; only the crash of the machine makes it necessary.
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub fn sync(&self) -> io::Result<()> {
        self.map.sync()
    }
}

/// A reader's side of an arena, possibly of another process's, living or dead.
#[derive(Debug)]
pub struct ArenaView {
    map: Map,
}

impl ArenaView {
    /// Opens an existing arena for reading; neither the lock nor the right to write is needed.
    ///
    /// # Errors
    ///
    /// Those of [`Arena::open`] except `SizeMismatch` and `InUse`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ArenaError> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(system("open", path))?;
        let (_, bytes) = read_header(&mut file, path)?;
        let map = Map::new(&file, bytes, Access::PrivateWrite).map_err(system("map", path))?;
        Ok(Self { map })
    }

    /// The words as the writer sees them at this moment.
    ///
    /// Load only. A store would change this process's copy of the page and nothing else, and
    /// hide the writer's later values of that page from this view.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        self.map.words(HEADER_BYTES)
    }
}

fn system(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArenaError {
    let path = path.into();
    move |source| ArenaError::System {
        operation,
        path,
        source,
    }
}

/// Length of the file for `words` words.
fn file_bytes(words: u64) -> Result<u64, ArenaError> {
    if words == 0 || words > ARENA_WORDS_MAX as u64 {
        return Err(ArenaError::WordsOutOfRange { words });
    }
    Ok(words.saturating_mul(8).saturating_add(HEADER_BYTES as u64))
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new.{}", std::process::id()));
    name.into()
}

/// Writes a complete arena with every byte of its space reserved.
fn write_new(path: &Path, words: usize, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(path)?;
    let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: the descriptor is open for the whole call, which touches no memory of ours.
    let status = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    file.write_all(&header(words))?;
    file.sync_all()
}

fn header(words: usize) -> [u8; 24] {
    let mut header = [0; 24];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&ARENA_VERSION.to_le_bytes());
    header[16..].copy_from_slice(&(words as u64).to_le_bytes());
    header
}

/// Checks the header against the file's length; words and mapped bytes of a sound file.
fn read_header(file: &mut File, path: &Path) -> Result<(u64, usize), ArenaError> {
    let mut header = [0; 24];
    let mut present = Vec::with_capacity(header.len());
    file.take(header.len() as u64)
        .read_to_end(&mut present)
        .map_err(system("read", path))?;
    for (to, from) in header.iter_mut().zip(&present) {
        *to = *from;
    }
    let [
        m0,
        m1,
        m2,
        m3,
        m4,
        m5,
        m6,
        m7,
        v0,
        v1,
        v2,
        v3,
        _,
        _,
        _,
        _,
        words @ ..,
    ] = header;
    let magic = [m0, m1, m2, m3, m4, m5, m6, m7];
    if magic != MAGIC {
        return Err(ArenaError::WrongMagic {
            path: path.into(),
            found: magic,
        });
    }
    match u32::from_le_bytes([v0, v1, v2, v3]) {
        ARENA_VERSION => {}
        found @ 0 => {
            return Err(ArenaError::UnknownVersion {
                path: path.into(),
                found,
            });
        }
        found => {
            let known = ARENA_VERSION;
            return Err(ArenaError::NewerVersion {
                path: path.into(),
                found,
                known,
            });
        }
    }
    let words = u64::from_le_bytes(words);
    let stated = file_bytes(words)?;
    let found = file.metadata().map_err(system("read", path))?.len();
    if found != stated {
        return Err(ArenaError::LengthMismatch {
            path: path.into(),
            found,
            stated,
        });
    }
    let bytes = usize::try_from(stated).map_err(|_| ArenaError::WordsOutOfRange { words })?;
    Ok((words, bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

    use super::*;

    fn arena_in(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("arena")
    }

    #[test]
    fn words_survive_closing_and_opening() {
        let folder = tempfile::tempdir().unwrap();
        let arena = Arena::create(arena_in(&folder), 1000).unwrap();
        assert!(arena.words().iter().all(|word| word.load(Relaxed) == 0));
        arena.words()[0].store(7, Relaxed);
        arena.words()[999].store(u64::MAX, Relaxed);
        arena.sync().unwrap();
        drop(arena);

        let arena = Arena::open_or_create(arena_in(&folder), 1000).unwrap();

        assert_eq!(arena.words().len(), 1000);
        assert_eq!(arena.words()[0].load(Relaxed), 7);
        assert_eq!(arena.words()[999].load(Relaxed), u64::MAX);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no leftover"
        );
    }

    #[test]
    fn a_view_sees_every_later_store_of_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let arena = Arena::create(arena_in(&folder), 4096).unwrap();
        let view = ArenaView::open(arena_in(&folder)).unwrap();

        for round in 1..100 {
            for word in [0, 511, 512, 4095] {
                arena.words()[word].store(round, Release);
                assert_eq!(view.words()[word].load(Acquire), round);
            }
        }
    }

    #[test]
    fn a_store_through_a_view_never_reaches_the_writer() {
        let folder = tempfile::tempdir().unwrap();
        let arena = Arena::create(arena_in(&folder), 16).unwrap();
        let view = ArenaView::open(arena_in(&folder)).unwrap();

        view.words()[3].store(1, Relaxed);

        assert_eq!(arena.words()[3].load(Relaxed), 0);
    }

    #[test]
    fn a_second_writer_is_refused_and_readers_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let first = Arena::create(arena_in(&folder), 16).unwrap();

        let second = Arena::open(arena_in(&folder), 16);

        assert!(matches!(second, Err(ArenaError::InUse { .. })));
        assert!(ArenaView::open(arena_in(&folder)).is_ok());
        drop(first);
        assert!(Arena::open(arena_in(&folder), 16).is_ok());
    }

    #[test]
    fn an_existing_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(arena_in(&folder), b"precious").unwrap();

        let created = Arena::create(arena_in(&folder), 16);
        let opened = Arena::open_or_create(arena_in(&folder), 16);

        assert!(matches!(created, Err(ArenaError::System { source, .. })
            if source.kind() == io::ErrorKind::AlreadyExists));
        assert!(
            matches!(opened, Err(ArenaError::WrongMagic { found, .. }) if &found == b"precious")
        );
        assert_eq!(std::fs::read(arena_in(&folder)).unwrap(), b"precious");
    }

    #[test]
    fn each_defect_of_the_header_has_its_own_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = arena_in(&folder);
        drop(Arena::create(&path, 16).unwrap());
        let sound = std::fs::read(&path).unwrap();
        let with = |at: usize, value: u8| {
            let mut bytes = sound.clone();
            bytes[at] = value;
            std::fs::write(&path, bytes).unwrap();
            Arena::open(&path, 16).unwrap_err()
        };

        assert!(matches!(with(0, b'X'), ArenaError::WrongMagic { .. }));
        assert!(matches!(
            with(8, 2),
            ArenaError::NewerVersion {
                found: 2,
                known: 1,
                ..
            }
        ));
        assert!(matches!(
            with(8, 0),
            ArenaError::UnknownVersion { found: 0, .. }
        ));
        assert!(matches!(
            with(16, 17),
            ArenaError::LengthMismatch { stated: 4232, .. }
        ));
        assert!(matches!(with(23, 255), ArenaError::WordsOutOfRange { .. }));
        std::fs::write(&path, &sound[..100]).unwrap();
        assert!(matches!(
            ArenaView::open(&path),
            Err(ArenaError::LengthMismatch { found: 100, .. })
        ));
        std::fs::write(&path, [sound.as_slice(), &[0; 8]].concat()).unwrap();
        assert!(matches!(
            Arena::open(&path, 16),
            Err(ArenaError::LengthMismatch { .. })
        ));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(
            Arena::open(&path, 16),
            Err(ArenaError::WrongMagic { .. })
        ));
    }

    #[test]
    fn another_number_of_words_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Arena::create(arena_in(&folder), 16).unwrap());

        let error = Arena::open(arena_in(&folder), 32).unwrap_err();

        assert!(matches!(
            error,
            ArenaError::SizeMismatch {
                found: 16,
                wanted: 32,
                ..
            }
        ));
        assert!(matches!(
            Arena::create(folder.path().join("none"), 0),
            Err(ArenaError::WordsOutOfRange { words: 0 })
        ));
    }
}
