//! Memory and RocksDB answer alike, whatever is asked.
#![expect(clippy::unwrap_used, reason = "test code")]

use proptest::collection::vec;
use proptest::prelude::*;
use qlink_store::{
    CHAIN_LAYOUT, Column, KvStore, MemoryStore, RocksOptions, RocksStore, Sync, WriteBatch,
};

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(usize, Vec<u8>, Option<Vec<u8>>)>, bool),
    Get(usize, Vec<u8>),
    Scan(usize, Vec<u8>, Option<Vec<u8>>, usize),
}

const COLUMNS: [Column; 3] = [Column::Rows, Column::Blocks, Column::Index];

/// Short keys over few letters, so that they collide, nest and touch 0xff.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff)], 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    let change = (
        0..3_usize,
        key(),
        proptest::option::of(vec(any::<u8>(), 0..5)),
    );
    prop_oneof![
        (vec(change, 0..6), any::<bool>()).prop_map(|(changes, sync)| Step::Write(changes, sync)),
        (0..3_usize, key()).prop_map(|(column, key)| Step::Get(column, key)),
        (0..3_usize, key(), proptest::option::of(key()), 0..6_usize)
            .prop_map(|(column, prefix, after, limit)| Step::Scan(column, prefix, after, limit)),
    ]
}

fn run(step: &Step, store: &dyn KvStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let column = |index: &usize| *COLUMNS.get(*index).unwrap();
    match step {
        Step::Write(changes, durable) => {
            let mut batch = WriteBatch::new();
            for (index, key, value) in changes {
                match value {
                    Some(value) => batch.put(column(index), key.clone(), value.clone()),
                    None => batch.delete(column(index), key.clone()),
                }
            }
            let sync = if *durable { Sync::Durable } else { Sync::Lazy };
            store.write(batch, sync).unwrap();
            Vec::new()
        }
        Step::Get(index, key) => {
            let value = store.get(column(index), key).unwrap();
            value
                .map(|value| (key.clone(), value))
                .into_iter()
                .collect()
        }
        Step::Scan(index, prefix, after, limit) => {
            let after = after
                .as_ref()
                .map(|after| [prefix.as_slice(), after].concat());
            store
                .scan(column(index), prefix, after.as_deref(), *limit)
                .unwrap()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn memory_and_rocks_agree(steps in vec(step(), 1..60)) {
        let directory = tempfile::tempdir().unwrap();
        let options = RocksOptions::default();
        let mut rocks = RocksStore::open(directory.path(), &CHAIN_LAYOUT, &options).unwrap();
        let memory = MemoryStore::new();

        for (index, step) in steps.iter().enumerate() {
            prop_assert_eq!(run(step, &rocks), run(step, &memory), "{:?}", step);
            if index == steps.len() / 2 {
                drop(rocks);
                rocks = RocksStore::open(directory.path(), &CHAIN_LAYOUT, &options).unwrap();
            }
        }
    }
}
