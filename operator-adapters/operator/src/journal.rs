//! An append-only file whose records are on disk before `append` returns.
//!
//! ```text
//! header  "QLKJRNL\0" (8) | version u32 | header check (4)
//! record  length u32 | sequence u64 | check (16) | payload        all big-endian
//! check   BLAKE3 derive_key("qlink v1 journal record") over length, sequence, payload
//! ```
//!
//! A tail that a crash tore is cut at open; damage before a valid record is an error, since
//! cutting there would forget durable records. One process holds a journal at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"QLKJRNL\0";
/// Version of the file format that this build reads and writes.
pub const JOURNAL_VERSION: u32 = 1;
/// Bytes of a record's payload: 16 MiB, which a statement of 100,000 lines fits into.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
const HEADER_BYTES: usize = 16;
const RECORD_HEAD_BYTES: usize = 28;

/// Why a journal cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("cannot {action} journal {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a journal.
    #[error("{path} is not a journal")]
    NotAJournal {
        /// Which file.
        path: PathBuf,
    },
    /// A newer release wrote it; nothing was changed. The shell exits 64.
    #[error("journal {path} has version {found}, this build knows {JOURNAL_VERSION}")]
    NewerVersion {
        /// Which file.
        path: PathBuf,
        /// Version in its header.
        found: u32,
    },
    /// Valid records follow damaged bytes; nothing was changed.
    #[error("journal {path} is damaged at byte {offset}, before valid records")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// First byte that does not read.
        offset: u64,
    },
    /// Another process holds it.
    #[error("journal {path} is in use by another process")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The payload is too large for one record.
    #[error("a record of {bytes} bytes exceeds {RECORD_BYTES_MAX}")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// An earlier append failed half-way; open the journal anew to recover.
    #[error("the journal failed earlier and takes no more records")]
    Poisoned,
}

/// Where records become durable.
pub trait Journal {
    /// Appends one record; it is durable on return. Gives its sequence number, from 0.
    ///
    /// # Errors
    ///
    /// [`JournalError`]; nothing may be done that relies on the record then.
    fn append(&mut self, payload: &[u8]) -> Result<u64, JournalError>;
}

/// A journal just opened.
#[derive(Debug)]
pub struct Opened {
    /// The journal, positioned behind its last record.
    pub journal: FileJournal,
    /// All durable records, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Bytes of a torn tail that were cut.
    pub torn_bytes: u64,
}

/// A journal in a file.
#[derive(Debug)]
pub struct FileJournal {
    file: File,
    path: PathBuf,
    next: u64,
    poisoned: bool,
}

impl FileJournal {
    /// Opens or creates a journal and reads it.
    ///
    /// # Errors
    ///
    /// Every [`JournalError`] but `TooLarge` and `Poisoned`.
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        let io = |action| {
            move |source| JournalError::Io {
                action,
                path: path.to_path_buf(),
                source,
            }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io("open"))?;
        file.try_lock().map_err(|_| JournalError::InUse {
            path: path.to_path_buf(),
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;

        // Shorter than a header: a crash while it was created, before any record.
        let torn_header = bytes.len() < HEADER_BYTES && header().starts_with(&bytes);
        if torn_header {
            file.set_len(0).map_err(io("create"))?;
            file.rewind().map_err(io("create"))?;
            file.write_all(&header()).map_err(io("create"))?;
            file.sync_all().map_err(io("sync"))?;
            sync_parent(path).map_err(io("sync"))?;
            bytes = header();
        }
        check_header(path, &bytes)?;
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let (records, valid) = read_records(body);
        let torn = body.get(valid..).unwrap_or_default();
        let end = to_u64(HEADER_BYTES.saturating_add(valid));
        if holds_later_record(torn, to_u64(records.len())) {
            return Err(JournalError::Corrupt {
                path: path.to_path_buf(),
                offset: end,
            });
        }
        if !torn.is_empty() {
            file.set_len(end).map_err(io("cut the torn tail of"))?;
            file.sync_all().map_err(io("sync"))?;
        }
        file.seek(SeekFrom::Start(end)).map_err(io("seek"))?;
        let next = to_u64(records.len());
        let journal = Self {
            file,
            path: path.to_path_buf(),
            next,
            poisoned: false,
        };
        Ok(Opened {
            journal,
            records,
            torn_bytes: to_u64(torn.len()),
        })
    }
}

impl Journal for FileJournal {
    fn append(&mut self, payload: &[u8]) -> Result<u64, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        let sequence = self.next;
        let record = encode_record(sequence, payload)?;
        // Half a record may be on disk after a failure, and a failed sync may have dropped pages:
        // only a new open knows what is there.
        self.poisoned = true;
        let written = self
            .file
            .write_all(&record)
            .and_then(|()| self.file.sync_data());
        written.map_err(|source| JournalError::Io {
            action: "append to",
            path: self.path.clone(),
            source,
        })?;
        self.poisoned = false;
        self.next = sequence.saturating_add(1);
        Ok(sequence)
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&JOURNAL_VERSION.to_be_bytes());
    let check = header_check(&header);
    header.extend_from_slice(&check);
    header
}

fn header_check(first_12: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = blake3::derive_key("qlink v1 journal header", first_12);
    [a, b, c, d]
}

fn check_header(path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let not_ours = || JournalError::NotAJournal {
        path: path.to_path_buf(),
    };
    let (first, rest) = bytes.split_first_chunk::<12>().ok_or_else(not_ours)?;
    let (magic, version) = first.split_first_chunk::<8>().ok_or_else(not_ours)?;
    let version: [u8; 4] = version.try_into().map_err(|_| not_ours())?;
    if magic != MAGIC || !rest.starts_with(&header_check(first)) {
        return Err(not_ours());
    }
    match u32::from_be_bytes(version) {
        JOURNAL_VERSION => Ok(()),
        found if found > JOURNAL_VERSION => Err(JournalError::NewerVersion {
            path: path.to_path_buf(),
            found,
        }),
        _ => Err(not_ours()),
    }
}

fn record_check(length: [u8; 4], sequence: [u8; 8], payload: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("qlink v1 journal record");
    hasher.update(&length);
    hasher.update(&sequence);
    hasher.update(payload);
    let mut check = [0; 16];
    hasher.finalize_xof().fill(&mut check);
    check
}

fn encode_record(sequence: u64, payload: &[u8]) -> Result<Vec<u8>, JournalError> {
    let too_large = JournalError::TooLarge {
        bytes: payload.len(),
    };
    if payload.len() > RECORD_BYTES_MAX {
        return Err(too_large);
    }
    let length = u32::try_from(payload.len())
        .map_err(|_| too_large)?
        .to_be_bytes();
    let sequence = sequence.to_be_bytes();
    let mut record = Vec::with_capacity(RECORD_HEAD_BYTES.saturating_add(payload.len()));
    record.extend_from_slice(&length);
    record.extend_from_slice(&sequence);
    record.extend_from_slice(&record_check(length, sequence, payload));
    record.extend_from_slice(payload);
    Ok(record)
}

/// Sequence, payload and whole length of the record at the start of `bytes`, if one is there.
fn decode_record(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (check, rest) = rest.split_first_chunk::<16>()?;
    let bytes_stated = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if bytes_stated > RECORD_BYTES_MAX {
        return None;
    }
    let payload = rest.get(..bytes_stated)?;
    (record_check(*length, *sequence, payload) == *check).then(|| {
        (
            u64::from_be_bytes(*sequence),
            payload,
            RECORD_HEAD_BYTES.saturating_add(bytes_stated),
        )
    })
}

/// The records from the start of `body`, and how many bytes they take.
fn read_records(body: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let mut records = Vec::new();
    let mut at = 0_usize;
    while let Some((sequence, payload, length)) = decode_record(body.get(at..).unwrap_or_default())
        && sequence == to_u64(records.len())
    {
        records.push(payload.to_vec());
        at = at.saturating_add(length);
    }
    (records, at)
}

/// Whether a record later than `expected` stands anywhere in bytes that do not read. The sequence
/// number is compared first, so that hashing is rare.
fn holds_later_record(torn: &[u8], expected: u64) -> bool {
    (0..torn.len()).any(|at| {
        let bytes = torn.get(at..).unwrap_or_default();
        let plausible = bytes
            .get(4..)
            .and_then(|rest| rest.first_chunk::<8>())
            .map(|sequence| u64::from_be_bytes(*sequence))
            .is_some_and(|sequence| {
                sequence >= expected && sequence.saturating_sub(expected) <= to_u64(torn.len())
            });
        plausible && decode_record(bytes).is_some()
    })
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(dir: &tempfile::TempDir, count: u8) -> PathBuf {
        let path = dir.path().join("journal");
        let mut journal = FileJournal::open(&path).unwrap().journal;
        for n in 0..count {
            journal.append(&vec![n; usize::from(n) + 3]).unwrap();
        }
        path
    }

    #[test]
    fn every_torn_tail_is_cut_to_the_records_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(&dir, 4);
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..=4)
            .map(|n| HEADER_BYTES + (0..n).map(|k| RECORD_HEAD_BYTES + k + 3).sum::<usize>())
            .collect();

        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let opened = FileJournal::open(&path).unwrap();
            let expected = ends.iter().filter(|end| **end <= cut).count().max(1) - 1;
            assert_eq!(opened.records.len(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_cut_journal_takes_records_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(&dir, 2);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();

        let mut opened = FileJournal::open(&path).unwrap();
        assert_eq!(opened.journal.append(b"new").unwrap(), 1);
        drop(opened);
        let again = FileJournal::open(&path).unwrap();

        assert_eq!(again.records, [vec![0; 3], b"new".to_vec()]);
        assert_eq!(again.torn_bytes, 0);
    }

    #[test]
    fn damage_before_valid_records_is_an_error_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = filled(&dir, 3);
        let whole = std::fs::read(&path).unwrap();
        let last = whole.len() - (RECORD_HEAD_BYTES + 5);

        for at in HEADER_BYTES..last {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, &damaged).unwrap();
            assert!(
                matches!(FileJournal::open(&path), Err(JournalError::Corrupt { .. })),
                "byte {at}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_newer_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut newer = MAGIC.to_vec();
        newer.extend_from_slice(&2_u32.to_be_bytes());
        newer.extend_from_slice(&header_check(&newer));
        newer.extend_from_slice(b"records of tomorrow");
        std::fs::write(&path, &newer).unwrap();

        let refused = FileJournal::open(&path).unwrap_err();

        assert!(matches!(
            refused,
            JournalError::NewerVersion { found: 2, .. }
        ));
        assert_eq!(std::fs::read(&path).unwrap(), newer);
    }

    #[test]
    fn another_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letter");
        std::fs::write(&path, b"dear").unwrap();

        assert!(matches!(
            FileJournal::open(&path),
            Err(JournalError::NotAJournal { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"dear");
    }

    #[test]
    fn a_journal_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let _held = FileJournal::open(&path).unwrap();

        assert!(matches!(
            FileJournal::open(&path),
            Err(JournalError::InUse { .. })
        ));
    }
}
