use std::net::IpAddr;

use qlink_pfcp::{DownlinkPath, Payer};
use qlink_types::ids::{ContentId, SessionId, Teid};

use super::*;
use crate::flow::FlowKey;
use crate::reader::ArenaReader;
use crate::record::death;

const SLOT: SessionSlot = SessionSlot::new(1);

const LAYOUT: ArenaLayout = ArenaLayout {
    sessions: 3,
    views: 2,
    flows: 2,
    view_words: 4,
    flow_words: 4,
    head_words: 2,
    urrs: 0,
};

fn setup() -> ArenaSetup {
    ArenaSetup {
        layout: LAYOUT,
        incarnation: Incarnation::new(77),
        shards: 1,
    }
}

fn identity(number: u8) -> SessionIdentity {
    SessionIdentity {
        state: SessionState::Live,
        session: SessionId::new([number; 16]),
        teid: Teid::new(number.into()),
        ue: IpAddr::from([10, 0, 0, number]),
        path: DownlinkPath {
            peer: "127.0.0.2:2152".parse().unwrap(),
            downlink_teid: Teid::new(9),
        },
        basestation: None,
        sponsor: None,
        payer: Payer::Operator,
    }
}

fn flow_identity() -> FlowIdentity {
    FlowIdentity {
        key: FlowKey {
            session: SLOT,
            protocol: 6,
            ue_port: 1,
            remote: IpAddr::from([1, 1, 1, 1]),
            remote_port: 80,
        },
    }
}

/// An arena with one session, one view and one flow.
fn populated(path: &Path) -> CounterArena {
    let (mut arena, _) = CounterArena::open(path, setup()).unwrap();
    arena.establish(SLOT, &identity(1));
    let view = ViewIdentity {
        session: SLOT,
        position: 0,
        content: ContentId::new([5; 32]),
    };
    arena.open_view(0, view, [0; 8], |sink| (0..4).for_each(|_| sink.put(0)));
    arena.open_flow(1, flow_identity(), |sink| (0..4).for_each(|_| sink.put(0)));
    arena
}

/// One step: flow, view and session all go to `number`.
fn step(arena: &mut CounterArena, number: u64) {
    let proven = Proven {
        verified_unique: number,
        ..arena.proven(SLOT)
    };
    let mut update = arena.update();
    update.flow(1, |sink| (0..4).for_each(|_| sink.put(number)));
    update.view(0, [number; 8], |sink| (0..4).for_each(|_| sink.put(number)));
    update.proven(SLOT, proven);
    update.commit();
}

#[test]
fn a_kill_between_any_two_stores_leaves_proof_and_counters_in_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    let mut seen_old = false;
    let mut seen_new = false;
    for stores in 0..60 {
        let _ = std::fs::remove_file(&path);
        let mut arena = populated(&path);
        step(&mut arena, 1);

        death::after(stores);
        step(&mut arena, 2);
        drop(arena);
        death::after(u64::MAX);

        let (arena, recovered) = CounterArena::open(&path, setup()).unwrap();
        let unique = arena.usage(SLOT).verified_unique;
        assert!(unique == 1 || unique == 2, "{stores}: {unique}");
        assert_eq!(arena.flow_state(1), [unique; 4], "{stores}");
        assert_eq!(arena.view_state(0), [unique; 4], "{stores}");
        assert_eq!(recovered.flows, [(1, flow_identity())]);
        seen_old |= unique == 1;
        seen_new |= unique == 2;
    }
    assert!(seen_old && seen_new, "the kills straddle the change");
}

#[test]
fn a_kill_between_any_two_stores_counts_a_burst_once_or_as_uncertain() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    let delta = BurstDelta {
        uplink_bytes: 100,
        uplink_packets: 1,
        user_charged: 60,
        personal: 60,
        ..BurstDelta::default()
    };
    let other = SessionSlot::new(2);
    let entries = [(SLOT, delta), (other, delta)];
    for stores in 0..80 {
        let _ = std::fs::remove_file(&path);
        let mut arena = populated(&path);
        arena.establish(other, &identity(2));

        death::after(stores);
        arena.note_burst(&entries);
        let noted = stores >= 9;
        arena.commit_burst(&entries);
        drop(arena);
        death::after(u64::MAX);

        let (arena, recovered) = CounterArena::open(&path, setup()).unwrap();
        let mut uncertain = 0;
        for slot in [SLOT, other] {
            let usage = arena.usage(slot);
            let counted = usage.uplink_bytes;
            assert!(counted + usage.uncertain <= 100, "{stores}: {usage:?}");
            assert!(!noted || counted + usage.uncertain == 100, "{stores}");
            assert_eq!(usage.user_charged, counted * 60 / 100);
            assert_eq!(usage.user_charged, usage.wire_payload);
            uncertain += usage.uncertain;
        }
        assert_eq!(recovered.uncertain_bytes, uncertain);
        // Another start must not count the same notes again.
        drop(arena);
        let (again, recovered) = CounterArena::open(&path, setup()).unwrap();
        assert_eq!(recovered.uncertain_bytes, 0);
        assert_eq!(again.counter(WorkerCounter::UncertainBytes), uncertain);
    }
}

#[test]
fn readers_see_sessions_contents_drops_and_totals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    let mut arena = populated(&path);
    step(&mut arena, 7);
    arena.count_drop(DropReason::SourceSpoofed, 3);
    arena.count(WorkerCounter::SentPackets, 9);

    let reader = ArenaReader::open(&path).unwrap();

    let session = reader.session(&SessionId::new([1; 16])).unwrap();
    assert_eq!(session.identity, identity(1));
    assert_eq!(session.usage.classes.verified_unique.get(), 7);
    assert_eq!(session.usage.contents[0].verified_unique.get(), 7);
    assert_eq!(reader.sessions(), [session]);
    assert_eq!(reader.drops()["source_spoofed"], 3);
    assert_eq!(reader.totals().packets, 9);
    assert_eq!(reader.incarnation().get(), 77);
    assert!(reader.session(&SessionId::new([2; 16])).is_none());
}

#[test]
fn a_closed_session_keeps_its_counters_and_an_heir_starts_at_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    let mut arena = populated(&path);
    step(&mut arena, 7);
    arena.close_session(SLOT);
    let reader = ArenaReader::open(&path).unwrap();

    let closed = reader.session(&SessionId::new([1; 16])).unwrap();
    assert_eq!(closed.identity.state, SessionState::Closed);
    assert_eq!(closed.usage.classes.verified_unique.get(), 7);

    arena.close_view(0);
    arena.establish(SLOT, &identity(3));
    let heir = reader.session(&SessionId::new([3; 16])).unwrap();
    assert_eq!(heir.usage, SessionUsage::default());
}

#[test]
fn many_sessions_are_read_together_and_a_live_one_stands_before_a_closed_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    let mut arena = populated(&path);
    step(&mut arena, 7);
    arena.close_session(SLOT);
    arena.establish(SessionSlot::new(0), &identity(3));
    arena.establish(SessionSlot::new(2), &identity(1));
    let reader = ArenaReader::open(&path).unwrap();
    let ids = [1, 3, 9].map(|number| SessionId::new([number; 16]));

    let found = reader.sessions_of(&ids.into());

    let slots: Vec<_> = found.iter().map(|(id, row)| (*id, row.slot)).collect();
    let expected = [(ids[0], SessionSlot::new(2)), (ids[1], SessionSlot::new(0))];
    assert_eq!(slots, expected);
    assert_eq!(found[&ids[0]].usage, SessionUsage::default());
}

#[test]
fn other_limits_or_a_newer_layout_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    let words = LAYOUT.words();
    drop(populated(&path));
    let mut other = setup();
    // The same number of words, divided otherwise.
    other.layout.view_words = 3;
    other.layout.flow_words = 5;
    assert_eq!(other.layout.words(), words);

    assert!(matches!(
        CounterArena::open(&path, other),
        Err(SetupError::OtherLimits { .. })
    ));
    {
        let arena = Arena::open(&path, words).unwrap();
        store(arena.words(), header::VERSION, 4);
    }
    assert!(matches!(
        CounterArena::open(&path, setup()),
        Err(SetupError::NewerLayout { found: 4 })
    ));
    assert!(matches!(
        ArenaReader::open(&path),
        Err(crate::reader::ReaderError::NewerLayout { found: 4 })
    ));
}

use qlink_pfcp::SessionUsage;
