//! The device key: read from a file that only its owner may open.
use std::path::{Path, PathBuf};

use qlink_io::secret_file::{SecretFileError, read_secret_file};
use qlink_types::signature::SecretKey;

/// Why a device key was not read. The key itself never stands in the message.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read, or others may open it.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// It does not hold 64 hexadecimal digits.
    #[error("key file {path} does not hold 64 hexadecimal digits")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a 32-byte ed25519 seed as 64 hexadecimal digits, surrounding white space allowed.
///
/// # Errors
///
/// [`KeyError`].
pub fn read_key(path: &Path) -> Result<SecretKey, KeyError> {
    let text = read_secret_file(path)?;
    seed(&text)
        .map(SecretKey::from_seed)
        .ok_or_else(|| KeyError::Format {
            path: path.to_owned(),
        })
}

fn seed(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut seed = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| !pair.contains('+'))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn key_file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn key_is_read_from_its_file() {
        let (_dir, path) = key_file(&format!("{}\n", "0a".repeat(32)), 0o600);

        let key = read_key(&path).unwrap();

        assert_eq!(key.public(), SecretKey::from_seed([10; 32]).public());
    }

    #[test]
    fn key_that_others_may_read_is_refused() {
        let (_dir, path) = key_file(&"0a".repeat(32), 0o640);

        assert!(matches!(read_key(&path), Err(KeyError::File(_))));
    }

    #[test]
    fn malformed_key_is_refused_without_being_shown() {
        for text in [
            "",
            "abc",
            &"0g".repeat(32),
            &"+a".repeat(32),
            &"0a".repeat(33),
        ] {
            let (_dir, path) = key_file(text, 0o600);

            let error = read_key(&path).unwrap_err();

            assert!(matches!(error, KeyError::Format { .. }));
            assert!(text.is_empty() || !error.to_string().contains(&format!(" {text} ")));
        }
    }
}
