//! The state store through its public API.
#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::collections::BTreeMap;

use qlink_ledger::{Changes, MemoryState, Space, StateView};
use qlink_store::{
    CHAIN_LAYOUT, Fault, FaultyStore, FormatError, KEEP_VERSIONS, KvStore, Layout, MemoryStore,
    RocksOptions, RocksStore, StateProof, StateStore, StateStoreError, TreeChange, TreeError,
};
use qlink_types::ids::Hash32;
use qlink_types::units::BlockHeight;
use support::{advance, certificate, changes, next_block, receipts};

fn memory_state(blocks: u64, keep: u64) -> StateStore<MemoryStore> {
    let mut state = StateStore::new(MemoryStore::new(), keep).unwrap();
    for _ in 0..blocks {
        advance(&mut state);
    }
    state
}

fn tree_key(height: u64) -> Vec<u8> {
    let changes = changes(BlockHeight::new(height));
    let found = changes
        .iter()
        .find(|((space, _), value)| *space == Space::Tree && value.is_some());
    found.unwrap().0.1.clone()
}

#[test]
fn a_block_stored_again_changes_nothing() {
    let mut state = memory_state(5, KEEP_VERSIONS);
    let block = next_block(&state);
    let height = block.header.height;
    let commit = |state: &mut StateStore<MemoryStore>| {
        state
            .commit(&block, &certificate(), &receipts(height), &changes(height))
            .unwrap()
    };
    let first = commit(&mut state);
    advance(&mut state);
    let tip = state.tip().cloned();

    let again = commit(&mut state);

    assert_eq!(first, again);
    assert_eq!(state.tip().cloned(), tip);
}

#[test]
fn another_block_at_a_final_height_and_a_gap_are_refused() {
    let mut state = memory_state(3, KEEP_VERSIONS);
    let mut other = next_block(&state);
    advance(&mut state);
    other.header.time_ms = other.header.time_ms.plus_millis(1);
    let mut far = next_block(&state);
    far.header.height = far.header.height.next();

    let conflict = state.commit(&other, &certificate(), &[], &Changes::new());
    let gap = state.commit(&far, &certificate(), &[], &Changes::new());

    assert!(matches!(conflict, Err(StateStoreError::Conflict { .. })));
    assert!(matches!(gap, Err(StateStoreError::Gap { .. })));
}

#[test]
fn the_root_is_that_of_the_values_alone() {
    let state = memory_state(60, KEEP_VERSIONS);

    let recomputed = state.recompute_root().unwrap();

    assert_eq!(state.tip().unwrap().state_root, recomputed);
}

#[test]
fn a_block_without_tree_changes_keeps_the_root() {
    let mut state = memory_state(4, KEEP_VERSIONS);
    let root = state.tip().unwrap().state_root;
    let block = next_block(&state);
    let rows = Changes::from([((Space::Rows, b"x".to_vec()), Some(vec![1]))]);

    let after = state.commit(&block, &certificate(), &[], &rows).unwrap();

    assert_eq!(after, root);
    assert_eq!(state.tip().unwrap().tree, TreeChange::Unchanged);
    advance(&mut state);
    assert_eq!(
        state.tip().unwrap().state_root,
        state.recompute_root().unwrap()
    );
}

#[test]
fn every_kept_version_is_provable_and_pruned_ones_are_not() {
    let keep = 8;
    let mut state = StateStore::new(MemoryStore::new(), keep).unwrap();
    let mut model = MemoryState::new();
    let mut history: Vec<(Hash32, MemoryState)> = Vec::new();
    for height in 0..40 {
        let root = advance(&mut state);
        model.apply(&changes(BlockHeight::new(height)));
        history.push((root, model.clone()));
    }

    for height in 0..40_u64 {
        let (root, model) = &history[usize::try_from(height).unwrap()];
        for n in 0..97 {
            let key = format!("key {n}").into_bytes();
            let proof = state.prove(&key, BlockHeight::new(height));
            if height < 40 - keep {
                assert!(matches!(
                    proof,
                    Err(StateStoreError::Tree(TreeError::NotKept { .. }))
                ));
                continue;
            }
            let proof = proof.unwrap();
            let expected = model.get(Space::Tree, &key).unwrap();
            assert_eq!(proof.value, expected, "key {n} at {height}");
            StateProof::verify(root, &key, expected.as_deref(), &proof.proof).unwrap();
        }
    }
}

#[test]
fn pruning_bounds_what_the_tree_keeps() {
    let count = |blocks| {
        let state = memory_state(blocks, 4);
        let nodes = state
            .store()
            .scan(qlink_store::Column::TreeNodes, &[], None, usize::MAX);
        nodes.unwrap().len()
    };

    assert!(count(400) < count(100) * 2, "{} {}", count(100), count(400));
}

#[test]
fn a_mutated_proof_fails() {
    let state = memory_state(30, KEEP_VERSIONS);
    let height = state.tip().unwrap().height;
    let root = state.tip().unwrap().state_root;
    let key = tree_key(29);
    let proof = state.prove(&key, height).unwrap();
    let value = proof.value.as_deref();
    StateProof::verify(&root, &key, value, &proof.proof).unwrap();

    for byte in 0..proof.proof.len() {
        let mut mutated = proof.proof.clone();
        mutated[byte] ^= 1;
        assert!(
            StateProof::verify(&root, &key, value, &mutated).is_err(),
            "byte {byte}"
        );
    }
    assert!(StateProof::verify(&root, &key, Some(b"other"), &proof.proof).is_err());
    assert!(StateProof::verify(&root, &key, None, &proof.proof).is_err());
    assert!(StateProof::verify(&root, b"no such key", value, &proof.proof).is_err());
    assert!(StateProof::verify(&Hash32::ZERO, &key, value, &proof.proof).is_err());
}

#[test]
fn a_power_cut_at_any_write_leaves_a_prefix_with_its_own_root() {
    let mut roots = BTreeMap::new();
    let mut reference = StateStore::new(MemoryStore::new(), 8).unwrap();
    for height in 0..12 {
        roots.insert(height, advance(&mut reference));
    }
    for (fault, kept) in [
        (Fault::Refuse, 0),
        (Fault::FailAfterEffect, 1),
        (Fault::PowerLoss, 1),
    ] {
        for cut in 0..12_u64 {
            let store = FaultyStore::new([(cut, fault)]);
            let mut state = StateStore::new(store, 8).unwrap();
            for _ in 0..=cut {
                let block = next_block(&state);
                let height = block.header.height;
                let done =
                    state.commit(&block, &certificate(), &receipts(height), &changes(height));
                assert_eq!(
                    done.is_err(),
                    height.get() == cut && fault != Fault::PowerLoss
                );
            }
            let store = state.into_store();
            store.crash().unwrap();

            let state = StateStore::new(store, 8).unwrap();

            state.check().unwrap();
            let height = state.tip().map(|tip| tip.height.get());
            assert_eq!(height, (cut + kept).checked_sub(1), "{fault:?} at {cut}");
            if let Some(tip) = state.tip() {
                assert_eq!(tip.state_root, roots[&tip.height.get()]);
                assert_eq!(tip.state_root, state.recompute_root().unwrap());
            }
        }
    }
}

#[test]
fn a_disk_that_disagrees_with_its_headers_is_found() {
    use qlink_store::{Column, Sync, WriteBatch};
    let state = memory_state(6, KEEP_VERSIONS);
    state.check().unwrap();
    let receipts_key = [5_u64.to_be_bytes().as_slice(), &[2]].concat();
    let mut batch = WriteBatch::new();
    batch.put(Column::Blocks, receipts_key, 0_u32.to_be_bytes());
    state.store().write(batch, Sync::Durable).unwrap();

    let found = state.check();

    assert!(matches!(
        found,
        Err(StateStoreError::Inconsistent {
            what: "receipts root",
            ..
        })
    ));
}

#[test]
fn a_newer_directory_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let newer = Layout {
        version: CHAIN_LAYOUT.version + 1,
        ..CHAIN_LAYOUT
    };
    drop(RocksStore::open(directory.path(), &newer, &RocksOptions::default()).unwrap());
    let before = listing(directory.path());

    let opened = RocksStore::open(directory.path(), &CHAIN_LAYOUT, &RocksOptions::default());

    let error = opened.unwrap_err();
    assert!(matches!(error, FormatError::Newer { found: 2, known: 1 }));
    assert!(error.is_bad_format());
    assert_eq!(listing(directory.path()), before);
}

#[test]
fn a_store_of_another_kind_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let other = Layout {
        magic: *b"QLNKGATE",
        ..CHAIN_LAYOUT
    };
    drop(RocksStore::open(directory.path(), &other, &RocksOptions::default()).unwrap());

    let opened = RocksStore::open(directory.path(), &CHAIN_LAYOUT, &RocksOptions::default());

    assert!(matches!(opened, Err(FormatError::Foreign { .. })));
}

fn listing(directory: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            (path.display().to_string(), bytes)
        })
        .collect()
}

#[test]
fn a_reader_sees_a_store_that_a_writer_holds() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        RocksStore::open(directory.path(), &CHAIN_LAYOUT, &RocksOptions::default()).unwrap();
    let mut state = StateStore::new(store, KEEP_VERSIONS).unwrap();
    advance(&mut state);
    advance(&mut state);

    let reader = RocksStore::open_for_reading(directory.path(), &CHAIN_LAYOUT).unwrap();
    let seen = StateStore::new(reader, KEEP_VERSIONS).unwrap();

    assert_eq!(seen.tip(), state.tip());
}
