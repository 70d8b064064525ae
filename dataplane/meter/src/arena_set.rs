//! The arenas of all workers of one data plane, read as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qlink_types::ids::SessionId;
use qlink_types::units::Incarnation;

use crate::reader::{ArenaReader, ReaderError, SessionSnapshot, Totals};

/// The arena file of worker `shard` when `first` is that of the first one: `arena`, `arena.1`, ...
#[must_use]
pub fn shard_path(first: &Path, shard: u8) -> PathBuf {
    if shard == 0 {
        return first.to_owned();
    }
    let mut name = first.as_os_str().to_owned();
    name.push(format!(".{shard}"));
    PathBuf::from(name)
}

/// Readers of every worker's counters.
#[derive(Debug)]
pub struct ArenaSet {
    readers: Vec<ArenaReader>,
}

impl ArenaSet {
    /// Opens the arena at `first` and those of the other workers beside it.
    ///
    /// # Errors
    ///
    /// Any [`ReaderError`] of any of them.
    pub fn open(first: impl AsRef<Path>) -> Result<Self, ReaderError> {
        let first = first.as_ref();
        let mut readers = vec![ArenaReader::open(first)?];
        let shards = readers.first().map_or(1, ArenaReader::shards);
        for shard in 1..shards {
            readers.push(ArenaReader::open(shard_path(first, shard))?);
        }
        Ok(Self { readers })
    }

    /// Start of the counters.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.readers
            .first()
            .map_or(Incarnation::ZERO, ArenaReader::incarnation)
    }

    /// The readers in the order of their workers.
    #[must_use]
    pub fn workers(&self) -> &[ArenaReader] {
        &self.readers
    }

    /// Every session of every worker; see [`ArenaReader::sessions`].
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionSnapshot> {
        self.readers
            .iter()
            .flat_map(ArenaReader::sessions)
            .collect()
    }

    /// One session; see [`ArenaReader::session`].
    #[must_use]
    pub fn session(&self, session: &SessionId) -> Option<SessionSnapshot> {
        self.worker_of(session).map(|(_, snapshot)| snapshot)
    }

    /// The worker that has a session, a live one rather than a closed one, and the session.
    #[must_use]
    pub fn worker_of(&self, session: &SessionId) -> Option<(&ArenaReader, SessionSnapshot)> {
        self.readers
            .iter()
            .filter_map(|reader| Some((reader, reader.session(session)?)))
            .max_by_key(|(_, snapshot)| snapshot.is_live())
    }

    /// Those of `wanted` that stand, a live one rather than a closed one; see
    /// [`ArenaReader::sessions_of`].
    #[must_use]
    pub fn sessions_of(
        &self,
        wanted: &BTreeSet<SessionId>,
    ) -> BTreeMap<SessionId, SessionSnapshot> {
        let mut found: BTreeMap<SessionId, SessionSnapshot> = BTreeMap::new();
        for reader in &self.readers {
            for (id, snapshot) in reader.sessions_of(wanted) {
                let kept = found.entry(id).or_insert_with(|| snapshot.clone());
                if !kept.is_live() && snapshot.is_live() {
                    *kept = snapshot;
                }
            }
        }
        found
    }

    /// Packets dropped so far by reason; reasons without any are left out.
    #[must_use]
    pub fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut sum = BTreeMap::new();
        for (reason, packets) in self.readers.iter().flat_map(ArenaReader::drops) {
            let entry: &mut u64 = sum.entry(reason).or_default();
            *entry = entry.saturating_add(packets);
        }
        sum
    }

    /// Sums over all workers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for totals in self.readers.iter().map(ArenaReader::totals) {
            sum.packets = sum.packets.saturating_add(totals.packets);
            sum.network_bytes = sum.network_bytes.saturating_add(totals.network_bytes);
            sum.uncertain_bytes = sum.uncertain_bytes.saturating_add(totals.uncertain_bytes);
            sum.conservation_violations = sum
                .conservation_violations
                .saturating_add(totals.conservation_violations);
            for (name, count) in totals.worker {
                let entry = sum.worker.entry(name).or_default();
                *entry = entry.saturating_add(count);
            }
        }
        sum
    }
}
