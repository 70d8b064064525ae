//! Opening an arena that an earlier release wrote, or one without places for usage rules.
//!
//! The new arena is made beside the old one and takes its name only when it is complete: a kill in
//! between leaves the old one. What a dead writer left unfinished in the old one goes over as it
//! is, to be finished by the recovery that follows. A reader that has the old file open keeps
//! reading that one until it opens the path again.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use qlink_io::arena::{Arena, ArenaError};

use crate::arena::{SetupError, check_header};
use crate::identity::SessionIdentity;
use crate::inflight::{self, BurstDelta};
use crate::layout::{ArenaLayout, LAYOUT_VERSION, Places, header};
use crate::record::{load, store};
use crate::redo;
use crate::session::SessionSlot;
use crate::sync::AtomicU64;

/// Opens or makes the arena at `path`, with room for what `layout` says.
pub(crate) fn open(path: &Path, layout: &ArenaLayout) -> Result<Arena, SetupError> {
    let opened = Arena::open_or_create(path, layout.words());
    let Err(ArenaError::SizeMismatch { found, .. }) = opened else {
        return Ok(opened?);
    };
    let old = Arena::open(path, usize::try_from(found).unwrap_or(usize::MAX))?;
    let version = load(old.words(), header::VERSION);
    let urrs = usize::try_from(load(old.words(), header::URRS)).unwrap_or(usize::MAX);
    let bare = layout.without_urrs();
    let dimensions = if urrs == 0 { bare } else { *layout };
    let places = match version {
        0 => return Ok(opened?),
        LAYOUT_VERSION => Places::of(&dimensions),
        1..LAYOUT_VERSION => Places::joined(&dimensions),
        found => return Err(SetupError::NewerLayout { found }),
    };
    check_header(old.words(), &dimensions)?;
    if places.end != old.words().len() {
        return Ok(opened?);
    }
    replace(path, (&old, &dimensions, &places), layout)
}

/// Makes the arena at `path` one of this version with room for `layout`. The old file's lock is
/// held until the new one has its name.
fn replace(
    path: &Path,
    (old, dimensions, from): (&Arena, &ArenaLayout, &Places),
    layout: &ArenaLayout,
) -> Result<Arena, SetupError> {
    let beside = beside(path);
    // What a killed predecessor left; nobody else gets here while the lock is held.
    let _ = std::fs::remove_file(&beside);
    let new = Arena::create(&beside, layout.words())?;
    redo::recover(old.words(), dimensions, from);
    carry_over(
        (old.words(), from),
        (new.words(), &Places::of(layout)),
        dimensions,
    );
    store(new.words(), header::URRS, layout.urrs as u64);
    store(new.words(), header::VERSION, LAYOUT_VERSION);
    let replaced = new.sync().and_then(|()| std::fs::rename(&beside, path));
    replaced.map_err(|source| ArenaError::System {
        operation: "replace",
        path: path.into(),
        source,
    })?;
    Ok(new)
}

/// Writes everything that stands in one arena into another, empty one.
fn carry_over(
    (old, from): (&[AtomicU64], &Places),
    (new, to): (&[AtomicU64], &Places),
    dimensions: &ArenaLayout,
) {
    let copy = |range: Range<usize>, to: usize| {
        for (at, place) in range.zip(to..) {
            store(new, place, load(old, at));
        }
    };
    // Header and counters of the worker; without its version the arena is still new.
    copy(1..Places::INFLIGHT, 1);
    for slot in 0..dimensions.sessions {
        let identity = from.session(slot);
        copy(
            identity..identity.saturating_add(1 + SessionIdentity::WORDS),
            to.session(slot),
        );
        if let Some(usage) = from.read_usage(old, slot) {
            let (traffic, proven) = usage.split();
            to.traffic(slot).change(new, |_| traffic.to_words());
            to.proven(slot).change(new, |_| proven.to_words());
        }
    }
    let views = dimensions.views;
    copy(from.view(0)..from.view(views), to.view(0));
    copy(from.flow(0)..from.flow(dimensions.flows), to.flow(0));
    if dimensions.urrs > 0 {
        copy(from.redo_large()..from.end, to.redo_large());
    }
    // Notes whose count did not happen go with the guards that the rows have now.
    let notes = inflight::leftovers(old, Places::INFLIGHT);
    let open = notes.iter().filter(|note| {
        let row = from.counted(note.slot.index());
        row.guard(old) == note.guard
    });
    let sums: Vec<(SessionSlot, BurstDelta)> = open
        .map(|note| {
            let sum = BurstDelta {
                uplink_bytes: note.network_bytes,
                ..BurstDelta::default()
            };
            (note.slot, sum)
        })
        .collect();
    inflight::note(new, Places::INFLIGHT, &sums, |slot| {
        to.traffic(slot.index()).guard(new)
    });
}

fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(".grown");
    name.into()
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
