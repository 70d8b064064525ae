//! Verified local copies of contents: what every byte is compared with.
//!
//! A copy is written once under a temporary name, hashed while it is written, synced, made
//! read-only and renamed to its root; a file under its final name therefore is the content.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use qlink_content::{RegistrationError, register_reader};
use qlink_types::codec::Text;
use qlink_types::content::ContentRegistration;
use qlink_types::ids::ContentId;
use qlink_types::units::Bytes;

/// Why a copy was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The disk failed.
    #[error("the copy cannot be kept")]
    Io(#[from] io::Error),
    /// The bytes cannot be a content.
    #[error("the bytes cannot be registered")]
    Registration(#[from] RegistrationError),
    /// The bytes are another content.
    #[error("the bytes are {found}, not {expected}")]
    Mismatch {
        /// What was announced.
        expected: ContentId,
        /// What arrived.
        found: ContentId,
    },
}

/// A folder of copies.
#[derive(Debug, Clone)]
pub(crate) struct Copies {
    folder: PathBuf,
}

impl Copies {
    /// Copies in `folder`, which is made if missing; leftovers of broken uploads are removed.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or read.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "part")
            {
                fs::remove_file(path)?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// The file of a copy, whether or not it is here.
    #[must_use]
    pub(crate) fn path(&self, content: &ContentId) -> PathBuf {
        self.folder.join(hex::encode(content.as_bytes()))
    }

    /// The length of a copy that is here.
    #[must_use]
    pub(crate) fn size(&self, content: &ContentId) -> Option<Bytes> {
        fs::metadata(self.path(content))
            .ok()
            .map(|meta| Bytes::new(meta.len()))
    }

    /// The copies that are here, in the order of their roots.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub(crate) fn list(&self) -> io::Result<Vec<ContentId>> {
        let mut contents = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let mut root = [0; 32];
            let digits = name.to_str().unwrap_or_default();
            if hex::decode_to_slice(digits, &mut root).is_ok() {
                contents.push(ContentId::new(root));
            }
        }
        contents.sort_unstable();
        Ok(contents)
    }

    /// A temporary file for an upload.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn begin(&self, name: &str) -> io::Result<Upload> {
        let path = self.folder.join(format!("{name}.part"));
        // Two uploads never share a file: one could change the other's bytes after their check.
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Upload {
            path,
            file,
            kept: false,
        })
    }

    /// Takes a finished upload in as the copy of `expected`.
    ///
    /// # Errors
    ///
    /// [`CopyError::Mismatch`] when the bytes are another content; nothing is kept then.
    pub(crate) fn finish(&self, mut upload: Upload, expected: ContentId) -> Result<(), CopyError> {
        upload.file.sync_all()?;
        let registered = read_registration(&upload.path, Text::default())?;
        if registered.content != expected {
            return Err(CopyError::Mismatch {
                expected,
                found: registered.content,
            });
        }
        fs::set_permissions(&upload.path, fs::Permissions::from_mode(0o444))?;
        fs::rename(&upload.path, self.path(&expected))?;
        fs::File::open(&self.folder)?.sync_all()?;
        upload.kept = true;
        Ok(())
    }

    /// What the chain would hold about a copy.
    ///
    /// # Errors
    ///
    /// When the copy is not here or cannot be read.
    pub(crate) fn registration(
        &self,
        content: &ContentId,
        media_type: Text<100>,
    ) -> Result<ContentRegistration, CopyError> {
        read_registration(&self.path(content), media_type)
    }
}

fn read_registration(path: &Path, media_type: Text<100>) -> Result<ContentRegistration, CopyError> {
    let mut file = io::BufReader::new(fs::File::open(path)?);
    Ok(register_reader(&mut file, media_type)?.registration)
}

/// An upload in progress; dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Upload {
    path: PathBuf,
    file: fs::File,
    kept: bool,
}

impl Upload {
    /// Appends bytes.
    ///
    /// # Errors
    ///
    /// When the disk fails.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing can be done about a failure here; `Copies::open` removes leftovers.
            let _leftover = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_announced_bytes_become_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let copies = Copies::open(folder.path()).unwrap();
        let content = ContentId::new(*blake3::hash(b"film").as_bytes());
        let mut upload = copies.begin("a").unwrap();
        upload.write(b"flim").unwrap();
        assert!(matches!(
            copies.finish(upload, content),
            Err(CopyError::Mismatch { .. })
        ));
        assert_eq!(copies.list().unwrap(), []);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        let mut upload = copies.begin("b").unwrap();
        upload.write(b"fi").unwrap();
        upload.write(b"lm").unwrap();
        copies.finish(upload, content).unwrap();

        assert_eq!(copies.list().unwrap(), [content]);
        assert_eq!(copies.size(&content), Some(Bytes::new(4)));
    }
}
