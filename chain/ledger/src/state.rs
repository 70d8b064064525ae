//! What the ledger reads from and what it writes: a key-value state in two spaces.
//!
//! The ledger never writes by itself. It reads through [`StateView`] and hands back [`Changes`];
//! the caller stores them atomically together with the block.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Where a row lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// In the authenticated tree: accounts, contents, parties, packages with totals.
    Tree,
    /// In a plain column family: per-viewer and carriage rows, the due queue, listings.
    Rows,
}

/// A row as scanned: its key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// Read access to the state before a block.
pub trait StateView {
    /// The value under `key`, or `None`.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the storage fails.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// At most `limit` rows whose keys begin with `prefix`, sorted by key, starting behind the key
    /// `after`. Only [`Space::Rows`] must be scannable.
    ///
    /// # Errors
    ///
    /// [`StateError`] when the storage fails or cannot scan `space`.
    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        limit: usize,
        after: Option<&[u8]>,
    ) -> Result<Vec<KeyValue>, StateError>;
}

/// The storage failed, or holds something the ledger cannot have written: the caller stops.
#[derive(Debug, thiserror::Error)]
#[error("the state cannot be used")]
pub struct StateError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl StateError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }

    /// The cause.
    #[must_use]
    pub fn cause(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0
    }
}

/// What a block changes: a new value, or `None` for removal, per key.
pub type Changes = BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>;

/// A state in memory, for tests, benches and tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState {
    rows: BTreeMap<(Space, Vec<u8>), Vec<u8>>,
}

impl MemoryState {
    /// An empty state.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
        }
    }

    /// Applies what a block changed.
    pub fn apply(&mut self, changes: &Changes) {
        for (key, value) in changes {
            match value {
                Some(value) => self.rows.insert(key.clone(), value.clone()),
                None => self.rows.remove(key),
            };
        }
    }

    /// All rows in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&(Space, Vec<u8>), &Vec<u8>)> {
        self.rows.iter()
    }
}

impl StateView for MemoryState {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.rows.get(&(space, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        limit: usize,
        after: Option<&[u8]>,
    ) -> Result<Vec<KeyValue>, StateError> {
        Ok(self
            .rows
            .range((scan_start(space, prefix, after), Bound::Unbounded))
            .take_while(|((found, key), _)| *found == space && key.starts_with(prefix))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }
}

/// A state with changes on top that are not stored yet.
pub struct Layered<'a> {
    base: &'a dyn StateView,
    changes: &'a Changes,
}

impl std::fmt::Debug for Layered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layered")
            .field("changes", &self.changes.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Layered<'a> {
    /// `changes` on top of `base`.
    #[must_use]
    pub const fn new(base: &'a dyn StateView, changes: &'a Changes) -> Self {
        Self { base, changes }
    }
}

impl StateView for Layered<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match self.changes.get(&(space, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(space, key),
        }
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        limit: usize,
        after: Option<&[u8]>,
    ) -> Result<Vec<KeyValue>, StateError> {
        let start = scan_start(space, prefix, after);
        let above: BTreeMap<&[u8], &Option<Vec<u8>>> = self
            .changes
            .range((start, Bound::Unbounded))
            .take_while(|((found, key), _)| *found == space && key.starts_with(prefix))
            .map(|((_, key), value)| (key.as_slice(), value))
            .collect();
        // Each change hides at most one row below, so this many rows are always enough.
        let below = self
            .base
            .scan(space, prefix, limit.saturating_add(above.len()), after)?;
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = below.into_iter().collect();
        for (key, value) in above {
            match value {
                Some(value) => rows.insert(key.to_vec(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().take(limit).collect())
    }
}

fn scan_start(space: Space, prefix: &[u8], after: Option<&[u8]>) -> Bound<(Space, Vec<u8>)> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded((space, after.to_vec())),
        Some(_) | None => Bound::Included((space, prefix.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> MemoryState {
        let mut state = MemoryState::new();
        let rows = [b"a1", b"a2", b"a3", b"b1"];
        state.apply(
            &rows
                .iter()
                .map(|key| ((Space::Rows, key.to_vec()), Some(vec![1])))
                .collect(),
        );
        state
    }

    fn keys(rows: Vec<KeyValue>) -> Vec<String> {
        rows.into_iter()
            .map(|(key, _)| String::from_utf8(key).unwrap())
            .collect()
    }

    #[test]
    fn a_scan_is_paged_and_stays_in_its_prefix() {
        let state = state();

        let first = state.scan(Space::Rows, b"a", 2, None).unwrap();
        let second = state.scan(Space::Rows, b"a", 2, Some(b"a2")).unwrap();

        assert_eq!(keys(first), ["a1", "a2"]);
        assert_eq!(keys(second), ["a3"]);
        assert!(state.scan(Space::Tree, b"a", 9, None).unwrap().is_empty());
    }

    #[test]
    fn a_layer_hides_and_adds_rows_in_order() {
        let state = state();
        let changes = Changes::from([
            ((Space::Rows, b"a1".to_vec()), None),
            ((Space::Rows, b"a25".to_vec()), Some(vec![2])),
        ]);
        let layered = Layered::new(&state, &changes);

        assert_eq!(layered.get(Space::Rows, b"a1").unwrap(), None);
        assert_eq!(
            keys(layered.scan(Space::Rows, b"a", 2, None).unwrap()),
            ["a2", "a25"]
        );
        assert_eq!(
            keys(layered.scan(Space::Rows, b"a", 2, Some(b"a25")).unwrap()),
            ["a3"]
        );
    }
}
