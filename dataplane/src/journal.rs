//! Control journals: what was accepted, durable before it is answered.
//!
//! ```text
//! header   magic of 8 bytes | u32 version (1)                        big-endian
//! record   u32 length | first 8 bytes of BLAKE3 of the entry | entry
//! magic    "QLCTRL\0\0" requests of gateways, "QLPFCP\0\0" records of the PFCP node,
//!          "QLPLACE\0" where the tunnel's peers were heard last, "QLCOPY\0\0" stamps of copies
//! ```
//!
//! A last record that the file's end cuts, or whose hash does not hold, was never answered: it is
//! cut off. A sound record behind such a one means damage, and the journal is refused. At the
//! start, and whenever it has grown enough since, the journal is rewritten as the shortest list
//! that gives the same state.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use qlink_pfcp::{
    Association, MAX_MESSAGE_BYTES, PackageBinding, Request, decode_request, encode_request,
};

/// What a journal holds.
pub(crate) trait Entry: Sized {
    /// What the file begins with.
    const MAGIC: [u8; 8];

    /// Its bytes, at most [`MAX_MESSAGE_BYTES`].
    fn to_bytes(&self) -> io::Result<Vec<u8>>;

    /// Inverse of [`Self::to_bytes`]; `None` for bytes that no entry has.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl Entry for Request {
    const MAGIC: [u8; 8] = *b"QLCTRL\0\0";

    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        encode_request(0, self).map_err(io::Error::other)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        decode_request(bytes).ok().map(|(_, request)| request)
    }
}

/// The shortest requests that lead to `state`.
pub(crate) fn requests_of(state: &Association) -> impl Iterator<Item = Request> {
    let contents = state.contents().map(|binding| Request::BindContent {
        binding: binding.clone(),
    });
    let packages = state.packages().iter();
    let packages = packages.map(|(package, contents)| Request::BindPackage {
        binding: PackageBinding {
            package: *package,
            contents: contents.clone(),
        },
    });
    let sessions = state.sessions().map(|rules| Request::Establish {
        rules: rules.clone(),
    });
    let members = state.tunnel_members().requests();
    contents.chain(packages).chain(sessions).chain(members)
}

/// The file of the same name and `suffix`: what belongs to a journal lies beside it.
pub(crate) fn beside(journal: &Path, suffix: &str) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;

/// The journal is rewritten when it is longer than this many times its shortest form ...
const GROWTH: u64 = 4;
/// ... and this many bytes (chosen: some thousand requests between two rewrites).
const GROWTH_BYTES: u64 = 1 << 20;

/// Why a journal cannot be used. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file does not begin as a journal does.
    #[error("{path} is not a control journal")]
    WrongMagic {
        /// The file.
        path: PathBuf,
    },
    /// The journal was written by a newer release; exit code 64 at the shell.
    #[error("{path} has journal version {found}, this release knows up to {VERSION}")]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// The version in its header.
        found: u32,
    },
    /// Sound records follow one that is not: accepted requests were lost.
    #[error("{path} is damaged at byte {at}, with sound records behind it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        at: usize,
    },
    /// The file could not be read or written.
    #[error("cannot use the control journal {path}")]
    System {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// An open journal of entries `E`.
#[derive(Debug)]
pub(crate) struct Journal<E> {
    path: PathBuf,
    file: File,
    length: u64,
    /// Length after the last rewrite.
    shortest: u64,
    broken: bool,
    entries: PhantomData<fn() -> E>,
}

impl<E: Entry> Journal<E> {
    /// Opens or makes the journal at `path` and returns its entries in order.
    ///
    /// # Errors
    ///
    /// Any [`JournalError`].
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<E>), JournalError> {
        let failed = |source| JournalError::System {
            path: path.into(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        if bytes.is_empty() {
            file.write_all(&header(E::MAGIC)).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            bytes = header(E::MAGIC).to_vec();
        }
        let records = check_header(&bytes, E::MAGIC, path)?;
        let (entries, used) = read_records(records);
        if let Some(tail) = records.get(used..)
            && has_sound_record::<E>(tail)
        {
            return Err(JournalError::Damaged {
                path: path.into(),
                at: used.saturating_add(HEADER_BYTES),
            });
        }
        let length = used.saturating_add(HEADER_BYTES) as u64;
        file.set_len(length).map_err(failed)?;
        file.seek(SeekFrom::Start(length)).map_err(failed)?;
        let journal = Self {
            path: path.into(),
            file,
            length,
            shortest: length,
            broken: false,
            entries: PhantomData,
        };
        Ok((journal, entries))
    }

    /// A journal that cannot be written.
    #[cfg(test)]
    pub(crate) fn unwritable(path: &Path) -> Self {
        Self {
            path: path.into(),
            file: File::open(path).unwrap(),
            length: HEADER_BYTES as u64,
            shortest: HEADER_BYTES as u64,
            broken: false,
            entries: PhantomData,
        }
    }

    /// Whether the journal has grown so far above its shortest form that it should be rewritten.
    pub(crate) const fn is_overgrown(&self) -> bool {
        self.length
            > self
                .shortest
                .saturating_mul(GROWTH)
                .saturating_add(GROWTH_BYTES)
    }

    /// Replaces the journal by `entries`.
    ///
    /// # Errors
    ///
    /// [`JournalError::System`]; the old journal still stands then, or nothing can be appended.
    pub(crate) fn rewrite(&mut self, entries: impl Iterator<Item = E>) -> Result<(), JournalError> {
        self.replace(entries)
            .map_err(|source| JournalError::System {
                path: self.path.clone(),
                source,
            })
    }

    fn replace(&mut self, entries: impl Iterator<Item = E>) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut bytes = header(E::MAGIC).to_vec();
        for entry in entries {
            bytes.extend(record(&entry)?);
        }
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        self.file = file;
        self.length = bytes.len() as u64;
        self.shortest = self.length;
        let folder = self
            .path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let synced =
            File::open(folder.unwrap_or_else(|| Path::new("."))).and_then(|file| file.sync_all());
        // Which of the two files a power cut leaves is not known: nothing may be promised in one.
        self.broken = synced.is_err();
        synced
    }

    /// Appends entries and waits until all of them are on storage.
    ///
    /// # Errors
    ///
    /// The system's reason; none of them is in the journal then, or no later one will be.
    pub(crate) fn append(&mut self, entries: &[E]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the journal could not be repaired"));
        }
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(record(entry)?);
        }
        let written = self
            .file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let repaired = self
                .file
                .set_len(self.length)
                .and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            self.broken = repaired.is_err();
            return Err(error);
        }
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

fn header(magic_bytes: [u8; 8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let (magic, version) = header.split_at_mut(magic_bytes.len());
    magic.copy_from_slice(&magic_bytes);
    version.copy_from_slice(&VERSION.to_be_bytes());
    header
}

fn check_header<'a>(
    bytes: &'a [u8],
    expected: [u8; 8],
    path: &Path,
) -> Result<&'a [u8], JournalError> {
    let wrong = || JournalError::WrongMagic { path: path.into() };
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
    let (version, records) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    if *magic != expected {
        return Err(wrong());
    }
    match u32::from_be_bytes(*version) {
        VERSION => Ok(records),
        0 => Err(wrong()),
        found => Err(JournalError::NewerVersion {
            path: path.into(),
            found,
        }),
    }
}

/// The sound records at the start of `bytes`, and how many bytes they take.
fn read_records<E: Entry>(bytes: &[u8]) -> (Vec<E>, usize) {
    let (mut entries, mut rest) = (Vec::new(), bytes);
    while let Some((entry, behind)) = read_record(rest) {
        entries.push(entry);
        rest = behind;
    }
    (entries, bytes.len().saturating_sub(rest.len()))
}

/// Whether a sound record begins anywhere in `bytes`.
fn has_sound_record<E: Entry>(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes.get(at..).and_then(read_record::<E>).is_some())
}

fn read_record<E: Entry>(bytes: &[u8]) -> Option<(E, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (hash, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if length > MAX_MESSAGE_BYTES {
        return None;
    }
    let (message, rest) = rest.split_at_checked(length)?;
    if check_bytes(message) != *hash {
        return None;
    }
    Some((E::from_bytes(message)?, rest))
}

fn record<E: Entry>(entry: &E) -> io::Result<Vec<u8>> {
    let message = entry.to_bytes()?;
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(io::Error::other("a journal entry is too long"));
    }
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(check_bytes(&message));
    bytes.extend(message);
    Ok(bytes)
}

fn check_bytes(message: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(message);
    hash.as_bytes()
        .first_chunk::<8>()
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use qlink_types::ids::SessionId;

    use super::*;

    fn delete(number: u8) -> Request {
        Request::Delete {
            session: SessionId::new([number; 16]),
        }
    }

    fn written(path: &Path) -> Vec<u8> {
        let (mut journal, _) = Journal::<Request>::open(path).unwrap();
        journal.append(&[delete(1)]).unwrap();
        journal.append(&[delete(2)]).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_cut_tail_is_dropped_and_appending_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let bytes = written(&path);
        for cut in 1..20 {
            std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();

            let (mut journal, requests) = Journal::open(&path).unwrap();
            assert_eq!(requests, [delete(1)]);
            journal.append(&[delete(3)]).unwrap();
            let (_, requests) = Journal::<Request>::open(&path).unwrap();
            assert_eq!(requests, [delete(1), delete(3)]);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut bytes = written(&path);
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bytes).unwrap();

        assert_eq!(Journal::<Request>::open(&path).unwrap().1, [delete(1)]);
    }

    #[test]
    fn damage_before_sound_records_is_refused_and_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let sound = written(&path);
        // In the first record's length, hash and message.
        for place in [HEADER_BYTES, HEADER_BYTES + 5, HEADER_BYTES + 15] {
            let mut bytes = sound.clone();
            bytes[place] ^= 1;
            std::fs::write(&path, &bytes).unwrap();

            let refused = Journal::<Request>::open(&path);

            assert!(
                matches!(
                    refused,
                    Err(JournalError::Damaged {
                        at: HEADER_BYTES,
                        ..
                    })
                ),
                "{place}: {refused:?}"
            );
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_rewritten_journal_holds_the_state_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        written(&path);
        let (mut journal, _) = Journal::<Request>::open(&path).unwrap();
        let limits = qlink_pfcp::AssociationLimits {
            sessions: 1,
            contents: 1,
        };

        let state = Association::new(limits);
        journal.rewrite(requests_of(&state)).unwrap();
        journal.append(&[delete(3)]).unwrap();

        assert_eq!(Journal::<Request>::open(&path).unwrap().1, [delete(3)]);
    }

    #[test]
    fn a_newer_journal_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut bytes = written(&path);
        bytes[11] = 2;
        std::fs::write(&path, &bytes).unwrap();

        assert!(matches!(
            Journal::<Request>::open(&path),
            Err(JournalError::NewerVersion { found: 2, .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
