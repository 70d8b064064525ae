use std::path::PathBuf;

use qlink_pfcp::model::{SessionModel, UrrId};
use qlink_types::ids::SessionId;
use qlink_types::units::Incarnation;

use super::*;
use crate::arena::{ArenaSetup, CounterArena};
use crate::layout::LAYOUT_WITHOUT_URRS;
use crate::reader::ArenaReader;
use crate::reason::DropReason;
use crate::session::SessionSlot;

/// Written by the last commit with layout version 1: one session, one view and one flow whose
/// states are 7, 3 packets dropped as spoofed, and a change of all three to 8 whose redo list was
/// complete when the writer died.
const VERSION_1: &[u8] = include_bytes!("../fixtures/arena-v1.bin");

/// Written by the last commit with layout version 2, which has one row for all counters of a
/// session: as version 1, and besides a usage rule of the session, a packet of 100 bytes counted of
/// it, and one of another session that was noted and not counted.
const VERSION_2: &[u8] = include_bytes!("../fixtures/arena-v2.bin");

const LAYOUT: ArenaLayout = ArenaLayout {
    sessions: 3,
    views: 2,
    flows: 2,
    view_words: 4,
    flow_words: 4,
    head_words: 2,
    urrs: 0,
};

fn fixture(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("arena");
    std::fs::write(&path, bytes).unwrap();
    path
}

const fn setup(urrs: usize) -> ArenaSetup {
    ArenaSetup {
        layout: ArenaLayout { urrs, ..LAYOUT },
        incarnation: Incarnation::new(1),
        shards: 1,
    }
}

fn check(arena: &CounterArena) {
    assert_eq!(arena.incarnation(), Incarnation::new(77));
    assert_eq!(arena.usage(SessionSlot::new(1)).verified_unique, 8);
    assert_eq!(arena.flow_state(1), [8; 4]);
    assert_eq!(arena.view_state(0), [8; 4]);
    assert_eq!(arena.drops(DropReason::SourceSpoofed), 3);
}

#[test]
fn an_arena_of_version_1_opens_with_and_without_places_for_usage_rules() {
    for urrs in [0, 5] {
        let folder = tempfile::tempdir().unwrap();
        let path = fixture(&folder, VERSION_1);

        let (arena, recovered) = CounterArena::open(&path, setup(urrs)).unwrap();

        check(&arena);
        assert_eq!((recovered.sessions.len(), recovered.flows.len()), (1, 1));
        assert_eq!(arena.free_urrs(), urrs);
        drop(arena);
        let (arena, _) = CounterArena::open(&path, setup(urrs)).unwrap();
        check(&arena);
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }
}

#[test]
fn an_arena_of_version_2_keeps_counters_rules_and_what_is_uncertain() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture(&folder, VERSION_2);
    let (first, second) = (SessionSlot::new(1), SessionSlot::new(2));

    let (arena, recovered) = CounterArena::open(&path, setup(5)).unwrap();

    check(&arena);
    let usage = arena.usage(first);
    assert_eq!((usage.uplink_bytes, usage.uplink_packets), (100, 1));
    assert_eq!((usage.user_charged, usage.personal), (60, 60));
    assert_eq!(arena.billed(first), 60);
    assert_eq!((recovered.sessions.len(), recovered.flows.len()), (2, 1));
    let urrs: Vec<_> = recovered.urrs.iter().map(|row| row.urr).collect();
    assert_eq!((urrs, arena.free_urrs()), (vec![UrrId::new(9)], 4));
    assert_eq!((usage.uncertain, arena.usage(second).uncertain), (0, 100));
    assert_eq!(recovered.uncertain_bytes, 100);
    drop(arena);
    let (arena, recovered) = CounterArena::open(&path, setup(5)).unwrap();
    check(&arena);
    assert_eq!(recovered.uncertain_bytes, 0);
    assert_eq!(arena.usage(second).uncertain, 100);
}

#[test]
fn a_reader_reads_version_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture(&folder, VERSION_2);

    let reader = ArenaReader::open(&path).unwrap();

    let session = reader.session(&SessionId::new([1; 16])).unwrap();
    assert_eq!(session.usage.personal_bytes.get(), 60);
    assert_eq!(reader.urrs().count(), 1);
    assert_eq!(std::fs::read(&path).unwrap(), VERSION_2);
}

#[test]
fn a_newer_arena_of_other_size_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut newer = VERSION_2.to_vec();
    newer[4096] = 4;
    let path = fixture(&folder, &newer);

    let refused = CounterArena::open(&path, setup(5));

    assert!(matches!(refused, Err(SetupError::NewerLayout { found: 4 })));
    assert_eq!(std::fs::read(&path).unwrap(), newer);
}

#[test]
fn a_reader_reads_version_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture(&folder, VERSION_1);

    let reader = ArenaReader::open(&path).unwrap();

    assert!(reader.session(&SessionId::new([1; 16])).is_some());
    assert_eq!(reader.urrs().count(), 0);
}

#[test]
fn what_a_kill_left_beside_the_old_arena_is_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture(&folder, VERSION_1);
    std::fs::write(beside(&path), b"half").unwrap();

    let (arena, _) = CounterArena::open(&path, setup(5)).unwrap();

    check(&arena);
}

#[test]
fn an_arena_of_other_limits_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture(&folder, VERSION_1);
    let mut other = setup(5);
    // The same number of words, divided otherwise.
    other.layout.view_words = 3;
    other.layout.flow_words = 5;

    let refused = CounterArena::open(&path, other);

    assert!(matches!(refused, Err(SetupError::OtherLimits { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), VERSION_1);
    let version = VERSION_1[4096];
    assert_eq!(u64::from(version), LAYOUT_WITHOUT_URRS);
}

#[test]
fn rules_get_rows_in_a_grown_arena_and_readers_see_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = fixture(&folder, VERSION_1);
    let (mut arena, _) = CounterArena::open(&path, setup(5)).unwrap();
    let slot = SessionSlot::new(1);
    let model = SessionModel::default();
    crate::SessionUrrs::establish(&model, slot, &mut arena, 1).unwrap();

    let place = arena.open_urr(
        slot,
        UrrId::new(9),
        &Default::default(),
        &Default::default(),
    );

    let reader = ArenaReader::open(&path).unwrap();
    let found: Vec<_> = reader.urrs().collect();
    assert_eq!(found.len(), 1);
    assert_eq!((Some(found[0].place), found[0].urr), (place, UrrId::new(9)));
}
