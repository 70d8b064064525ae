//! A private key's file, which only its owner may open.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::key::{KeyError, PrivateKey};

/// Why a private key was not read. The key itself never stands in the message.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be opened or read.
    #[error("cannot read key file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Others may read or write it.
    #[error("key file {path} has mode {mode:04o}, allowed is 0600")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no key.
    #[error("key file {path} holds no key")]
    Key {
        /// The file.
        path: PathBuf,
        /// What a key is.
        #[source]
        source: KeyError,
    },
}

/// Longest file that is read: a key and white space around it.
const FILE_MAX: u64 = 1024;

/// Reads a private key from a file of mode 0600 (or 0400): one that `qlink key new` made, or
/// `wg genkey`.
///
/// # Errors
///
/// [`KeyFileError`].
pub fn read_key_file(path: &Path) -> Result<PrivateKey, KeyFileError> {
    let path_buf = || path.to_owned();
    let failed = |source| KeyFileError::File {
        path: path_buf(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // The opened file is asked, not the path, so that nobody can swap it in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode != 0o600 && mode != 0o400 {
        let path = path_buf();
        return Err(KeyFileError::Mode { path, mode });
    }
    let mut text = String::new();
    file.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    text.parse().map_err(|source| KeyFileError::Key {
        path: path_buf(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key_file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tunnel.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_key_is_read_from_a_file_that_others_cannot_read() {
        let text = format!("{}\n", "0a".repeat(32));
        let (_dir, path) = key_file(&text, 0o600);
        let expected = PrivateKey::from_bytes([10; 32]).public();
        assert_eq!(read_key_file(&path).unwrap().public(), expected);

        let (_dir, path) = key_file(&text, 0o640);
        let error = read_key_file(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Mode { mode: 0o640, .. }));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let (_dir, path) = key_file("0a0a0a secret", 0o600);

        let error = read_key_file(&path).unwrap_err();

        assert!(matches!(error, KeyFileError::Key { .. }));
        assert!(!error.to_string().contains("secret"));
    }
}
