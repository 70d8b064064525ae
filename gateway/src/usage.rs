//! Reading a session's counters out of the data plane's arena.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qlink_meter::ArenaSet;
use qlink_pfcp::{DataPlaneInfo, SessionUsage};
use qlink_types::ids::SessionId;

/// A reader that follows the data plane from arena file to arena file.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    arena: Option<(PathBuf, ArenaSet)>,
}

impl Counters {
    /// Counters of those of `sessions` that the arena holds.
    pub(crate) fn read(
        &mut self,
        info: &DataPlaneInfo,
        sessions: &BTreeSet<SessionId>,
    ) -> BTreeMap<SessionId, SessionUsage> {
        let path = Path::new(info.arena.as_str());
        if self.arena.as_ref().is_none_or(|(open, _)| open != path) {
            match ArenaSet::open(path) {
                Ok(reader) => self.arena = Some((path.to_owned(), reader)),
                Err(error) => {
                    tracing::warn!(%error, "the data plane's arena cannot be read yet");
                    return BTreeMap::new();
                }
            }
        }
        let Some((_, reader)) = &self.arena else {
            return BTreeMap::new();
        };
        let found = reader.sessions_of(sessions).into_iter();
        found.map(|(id, snapshot)| (id, snapshot.usage)).collect()
    }
}
