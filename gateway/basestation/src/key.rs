//! The device key: read from a file that only its owner may open.
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use qlink_types::signature::SecretKey;

/// Why a device key was not read. The key itself never stands in the message.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
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
    let failed = |source| KeyError::File {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    // The opened file is asked, not the path, so that nobody can swap it in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode != 0o600 && mode != 0o400 {
        return Err(KeyError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.by_ref()
        .take(1024)
        .read_to_string(&mut text)
        .map_err(failed)?;
    seed(text.trim())
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
        for mode in [0o644, 0o640, 0o660] {
            let (_dir, path) = key_file(&"0a".repeat(32), mode);

            assert!(
                matches!(read_key(&path), Err(KeyError::Mode { .. })),
                "{mode:o}"
            );
        }
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
