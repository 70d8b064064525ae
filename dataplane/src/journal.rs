//! The control journal: accepted requests, durable before they are answered.
//!
//! ```text
//! header   magic "QLCTRL\0\0" | u32 version (1)                      big-endian
//! record   u32 length | first 8 bytes of BLAKE3 of the request | request message
//! ```
//!
//! A record that the file's end cuts, or whose hash does not hold, was never answered: it and what
//! follows is cut off. On opening the journal is rewritten as the shortest list that gives the
//! same state.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use qlink_pfcp::{Association, MAX_MESSAGE_BYTES, Request, decode_request, encode_request};

const MAGIC: [u8; 8] = *b"QLCTRL\0\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;

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

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    length: u64,
    broken: bool,
}

impl Journal {
    /// Opens or makes the journal at `path` and returns the accepted requests in order.
    ///
    /// # Errors
    ///
    /// Any [`JournalError`].
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Request>), JournalError> {
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
            file.write_all(&header()).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            bytes = header().to_vec();
        }
        let records = check_header(&bytes, path)?;
        let (requests, used) = read_records(records);
        let length = used.saturating_add(HEADER_BYTES) as u64;
        file.set_len(length).map_err(failed)?;
        file.seek(SeekFrom::Start(length)).map_err(failed)?;
        let journal = Self {
            file,
            length,
            broken: false,
        };
        Ok((journal, requests))
    }

    /// A journal that cannot be written.
    #[cfg(test)]
    pub(crate) fn unwritable(path: &Path) -> Self {
        Self {
            file: File::open(path).unwrap(),
            length: HEADER_BYTES as u64,
            broken: false,
        }
    }

    /// Replaces the journal at `path` by the requests that lead to `state`.
    ///
    /// # Errors
    ///
    /// [`JournalError::System`]; the old journal still stands then.
    pub(crate) fn rewrite(path: &Path, state: &Association) -> Result<Self, JournalError> {
        let failed = |source| JournalError::System {
            path: path.into(),
            source,
        };
        let temporary = path.with_extension("new");
        let mut bytes = header().to_vec();
        let contents = state.contents().map(|binding| Request::BindContent {
            binding: binding.clone(),
        });
        let sessions = state.sessions().map(|rules| Request::Establish {
            rules: rules.clone(),
        });
        for request in contents.chain(sessions) {
            bytes.extend(record(&request).map_err(failed)?);
        }
        let mut file = File::create(&temporary).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&temporary, path).map_err(failed)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(Self {
            file,
            length: bytes.len() as u64,
            broken: false,
        })
    }

    /// Appends a request and waits until it is on storage.
    ///
    /// # Errors
    ///
    /// The system's reason; the request is not in the journal then, or no later one will be.
    pub(crate) fn append(&mut self, request: &Request) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the journal could not be repaired"));
        }
        let bytes = record(request)?;
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

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let (magic, version) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    version.copy_from_slice(&VERSION.to_be_bytes());
    header
}

fn check_header<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a [u8], JournalError> {
    let wrong = || JournalError::WrongMagic { path: path.into() };
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
    let (version, records) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    if *magic != MAGIC {
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
fn read_records(bytes: &[u8]) -> (Vec<Request>, usize) {
    let (mut requests, mut rest) = (Vec::new(), bytes);
    while let Some((request, behind)) = read_record(rest) {
        requests.push(request);
        rest = behind;
    }
    (requests, bytes.len().saturating_sub(rest.len()))
}

fn read_record(bytes: &[u8]) -> Option<(Request, &[u8])> {
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
    let (_, request) = decode_request(message).ok()?;
    Some((request, rest))
}

fn record(request: &Request) -> io::Result<Vec<u8>> {
    let message = encode_request(0, request).map_err(io::Error::other)?;
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
        let (mut journal, _) = Journal::open(path).unwrap();
        journal.append(&delete(1)).unwrap();
        journal.append(&delete(2)).unwrap();
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
            journal.append(&delete(3)).unwrap();
            let (_, requests) = Journal::open(&path).unwrap();
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

        assert_eq!(Journal::open(&path).unwrap().1, [delete(1)]);
    }

    #[test]
    fn a_newer_journal_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut bytes = written(&path);
        bytes[11] = 2;
        std::fs::write(&path, &bytes).unwrap();

        assert!(matches!(
            Journal::open(&path),
            Err(JournalError::NewerVersion { found: 2, .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
