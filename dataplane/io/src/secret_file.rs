//! Files with a secret, which only their owner may open.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Longest file that is read, bytes: a key and white space around it.
const FILE_MAX: u64 = 1024;

/// Why a secret was not read. The secret itself never stands in the message.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
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
}

/// The text of a file of mode 0600 (or 0400), white space around it removed; at most 1024 bytes of it.
///
/// # Errors
///
/// [`SecretFileError`].
pub fn read_secret_file(path: &Path) -> Result<String, SecretFileError> {
    let failed = |source| SecretFileError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // The opened file is asked, not the path, so that nobody can swap it in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode != 0o600 && mode != 0o400 {
        let path = path.to_owned();
        return Err(SecretFileError::Mode { path, mode });
    }
    let mut text = String::new();
    file.take(FILE_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text.trim().to_owned())
}

/// Writes a secret to a file of mode 0600 in place of one that is there, durably: whoever opens the
/// path at any time finds the one or the other.
///
/// # Errors
///
/// [`SecretFileError::File`]; the file is as it was then.
pub fn replace_secret_file(path: &Path, text: &str) -> Result<(), SecretFileError> {
    let failed = |source| SecretFileError::File {
        path: path.to_owned(),
        source,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside);
    let mut file = file.map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or_else(|| Path::new(".")));
    folder.and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn secret_file(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, " secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_secret_is_read_from_a_file_that_others_cannot_open() {
        for mode in [0o600, 0o400] {
            let (_dir, path) = secret_file(mode);

            assert_eq!(read_secret_file(&path).unwrap(), "secret");
        }
    }

    #[test]
    fn a_replaced_secret_is_its_owners_whatever_the_file_was() {
        let (dir, path) = secret_file(0o644);
        // What an earlier attempt left.
        std::fs::write(dir.path().join("secret.new"), "half").unwrap();

        replace_secret_file(&path, "other").unwrap();

        assert_eq!(read_secret_file(&path).unwrap(), "other");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = dir.path().join("none/secret");
        assert!(replace_secret_file(&nowhere, "other").is_err());
    }

    #[test]
    fn a_secret_that_others_may_open_is_refused_without_being_shown() {
        for mode in [0o644, 0o640, 0o620, 0o602, 0o700] {
            let (_dir, path) = secret_file(mode);

            let error = read_secret_file(&path).unwrap_err();

            assert!(matches!(error, SecretFileError::Mode { mode: found, .. } if found == mode));
            assert!(!error.to_string().contains(" secret"), "{error}");
        }
    }
}
