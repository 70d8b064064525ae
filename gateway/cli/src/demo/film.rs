//! The film.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use qlink_types::ids::ContentId;

/// Size of the default film, in bytes.
const DEFAULT_BYTES: usize = 10_000_000;

/// A film on disk and in memory.
#[derive(Debug, Clone)]
pub(crate) struct Film {
    /// Where it is.
    pub(crate) file: PathBuf,
    /// Its bytes.
    pub(crate) bytes: bytes::Bytes,
    /// Its root.
    pub(crate) content: ContentId,
}

impl Film {
    /// Takes `given`, or makes the default film from `seed` in `folder`.
    pub(crate) fn prepare(given: Option<&Path>, seed: u64, folder: &Path) -> anyhow::Result<Self> {
        let (file, bytes) = match given {
            Some(file) => {
                let bytes = std::fs::read(file)
                    .with_context(|| format!("content file {}", file.display()))?;
                (std::fs::canonicalize(file)?, bytes)
            }
            None => {
                let file = folder.join("film.bin");
                let bytes = incompressible(seed);
                std::fs::write(&file, &bytes)?;
                (file, bytes)
            }
        };
        if bytes.is_empty() {
            bail!("content file {} is empty", file.display());
        }
        let content = ContentId::new(*blake3::hash(&bytes).as_bytes());
        Ok(Self {
            file,
            bytes: bytes.into(),
            content,
        })
    }

    /// Length in bytes.
    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}

fn incompressible(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; DEFAULT_BYTES];
    let mut hasher = blake3::Hasher::new_derive_key("qlink demo film");
    hasher.update(&seed.to_be_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
