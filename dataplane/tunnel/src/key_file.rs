//! A private key's file, which only its owner may open.

use std::path::{Path, PathBuf};

use qlink_io::secret_file::{SecretFileError, read_secret_file};

use crate::key::{KeyError, PrivateKey};

/// Why a private key was not read. The key itself never stands in the message.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read, or others may open it.
    #[error(transparent)]
    File(#[from] SecretFileError),
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

/// Reads a private key from a file of mode 0600 (or 0400): one that `qlink key new` made, or
/// `wg genkey`.
///
/// # Errors
///
/// [`KeyFileError`].
pub fn read_key_file(path: &Path) -> Result<PrivateKey, KeyFileError> {
    let text = read_secret_file(path)?;
    text.parse().map_err(|source| KeyFileError::Key {
        path: path.to_owned(),
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
        assert!(matches!(error, KeyFileError::File(_)));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let (_dir, path) = key_file("0a0a0a secret", 0o600);

        let error = read_key_file(&path).unwrap_err();

        assert!(matches!(error, KeyFileError::Key { .. }));
        assert!(!error.to_string().contains("secret"));
    }
}
