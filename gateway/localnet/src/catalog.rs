//! The simulators' own copies of what the origin serves, by path.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a catalogue could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path} for the catalogue")]
pub struct CatalogError {
    /// The file.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: std::io::Error,
}

/// One resource's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Film(Arc<[u8]>);

impl Film {
    /// A film of these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.len() as u64
    }

    /// Up to `len` bytes from position `at` on; fewer at the end.
    #[must_use]
    pub fn slice(&self, at: u64, len: usize) -> &[u8] {
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let end = start.saturating_add(len).min(self.0.len());
        self.0.get(start..end).unwrap_or_default()
    }
}

/// Paths and what stands under them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog(BTreeMap<String, Film>);

impl Catalog {
    /// A catalogue of films already in memory.
    #[must_use]
    pub fn new(films: impl IntoIterator<Item = (String, Film)>) -> Self {
        Self(films.into_iter().collect())
    }

    /// Reads every file of a map {path -> file}.
    ///
    /// # Errors
    ///
    /// [`CatalogError`] names the first file that cannot be read.
    pub fn open(files: &BTreeMap<String, PathBuf>) -> Result<Self, CatalogError> {
        let read = |path: &Path| {
            std::fs::read(path)
                .map(Film::new)
                .map_err(|source| CatalogError {
                    path: path.to_owned(),
                    source,
                })
        };
        files
            .iter()
            .map(|(name, path)| Ok((name.clone(), read(path)?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What stands under a path.
    #[must_use]
    pub fn film(&self, path: &str) -> Option<&Film> {
        self.0.get(path)
    }

    /// Puts a film under a path; what stood there is replaced.
    pub fn insert(&mut self, path: String, film: Film) {
        self.0.insert(path, film);
    }
}

/// A byte that is not `genuine`, whatever `genuine` is: XOR with a keystream of non-zero bytes
/// drawn by position, so that a foreign byte is foreign by construction and never equal by chance.
#[must_use]
pub fn foreign_byte(genuine: u8, position: u64) -> u8 {
    let mixed = position.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [.., high] = (mixed ^ (mixed >> 29))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .to_le_bytes();
    genuine ^ high.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_byte_is_never_the_genuine_one() {
        for position in 0..100_000_u64 {
            let genuine = position.to_le_bytes()[0];

            assert_ne!(foreign_byte(genuine, position), genuine);
        }
    }

    #[test]
    fn slice_past_the_end_is_short() {
        let film = Film::new(vec![1, 2, 3]);

        assert_eq!(film.slice(2, 5), &[3]);
        assert_eq!(film.slice(9, 5), &[] as &[u8]);
    }

    #[test]
    fn missing_file_is_named() {
        let files = BTreeMap::from([("/f".to_owned(), PathBuf::from("/nonexistent/f"))]);

        let error = Catalog::open(&files).unwrap_err();

        assert!(error.to_string().contains("/nonexistent/f"));
    }
}
