//! A writer killed at random instants leaves a store that goes on where it was.
#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use qlink_ledger::{MemoryState, Space, StateView};
use qlink_store::{CHAIN_LAYOUT, RocksOptions, RocksStore, StateStore};
use qlink_types::units::BlockHeight;
use support::{advance, changes};

const DIRECTORY: &str = "QLINK_STORE_KILL_TEST";

fn open(directory: &Path) -> StateStore<RocksStore> {
    let store = RocksStore::open(directory, &CHAIN_LAYOUT, &RocksOptions::default()).unwrap();
    StateStore::new(store, 16).unwrap()
}

/// Not a test by itself: the process that the test below kills.
#[test]
fn writer_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let mut state = open(Path::new(&directory));
    // Bounded, should the parent die first.
    for _ in 0..100_000 {
        advance(&mut state);
        println!("committed {}", state.tip().unwrap().height);
    }
}

#[test]
fn a_writer_killed_ten_times_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;

    for round in 0..10_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_process", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Kill only a writer that is under way; the instant after that is arbitrary.
        let _ = lines.find(|line| line.as_ref().unwrap().starts_with("committed"));
        std::thread::sleep(Duration::from_millis(7 + round * 13 % 60));
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines
            .filter_map(|line| line.ok()?.strip_prefix("committed ")?.parse::<u64>().ok())
            .last();
        acknowledged = acknowledged.max(last.unwrap_or(0));

        let state = open(directory.path());

        state.check().unwrap();
        let tip = state.tip().unwrap();
        assert!(tip.height.get() >= acknowledged);
        assert_eq!(tip.state_root, state.recompute_root().unwrap());
        let mut model = MemoryState::new();
        for height in 0..=tip.height.get() {
            model.apply(&changes(BlockHeight::new(height)));
        }
        for n in 0..97 {
            let key = format!("key {n}").into_bytes();
            for space in [Space::Tree, Space::Rows] {
                assert_eq!(
                    state.get(space, &key).unwrap(),
                    model.get(space, &key).unwrap()
                );
            }
        }
    }
    assert!(acknowledged > 10, "the writer hardly ran: {acknowledged}");
}
