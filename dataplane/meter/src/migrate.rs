//! Opening an arena that an earlier release wrote, or one without places for usage rules.
//!
//! The section for usage rules lies behind everything else, so the old words keep their places. The
//! larger arena is made beside the old one and takes its name only when it is complete: a kill in
//! between leaves the old one. A reader that has the old file open keeps reading that one until it
//! opens the path again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use qlink_io::arena::{Arena, ArenaError};

use crate::arena::{SetupError, check_header};
use crate::layout::{ArenaLayout, LAYOUT_VERSION, header};
use crate::record::{load, store};

/// Opens or makes the arena at `path`, with room for what `layout` says.
pub(crate) fn open(path: &Path, layout: &ArenaLayout) -> Result<Arena, SetupError> {
    let bare = layout.without_urrs();
    match Arena::open_or_create(path, layout.words()) {
        Err(ArenaError::SizeMismatch { found, .. })
            if layout.urrs > 0 && found == bare.words() as u64 =>
        {
            grow(path, &bare, layout)
        }
        result => Ok(result?),
    }
}

/// Makes the arena at `path` one with places for usage rules. The old file's lock is held until
/// the new one has its name.
fn grow(path: &Path, bare: &ArenaLayout, layout: &ArenaLayout) -> Result<Arena, SetupError> {
    let old = Arena::open(path, bare.words())?;
    let version = load(old.words(), header::VERSION);
    if version > LAYOUT_VERSION {
        return Err(SetupError::NewerLayout { found: version });
    }
    if version != 0 {
        check_header(old.words(), bare)?;
    }
    let beside = beside(path);
    // What a killed predecessor left; nobody else gets here while the lock is held.
    let _ = std::fs::remove_file(&beside);
    let new = Arena::create(&beside, layout.words())?;
    for at in 0..bare.words() {
        store(new.words(), at, load(old.words(), at));
    }
    if version != 0 {
        store(new.words(), header::URRS, layout.urrs as u64);
        store(new.words(), header::VERSION, LAYOUT_VERSION);
    }
    let replaced = new.sync().and_then(|()| std::fs::rename(&beside, path));
    replaced.map_err(|source| ArenaError::System {
        operation: "replace",
        path: path.into(),
        source,
    })?;
    drop(old);
    Ok(new)
}

fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(".grown");
    name.into()
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
