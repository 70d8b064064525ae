//! The arena's promise: what a writer stored is there after SIGKILL.
#![expect(clippy::cast_possible_truncation, reason = "test code")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use qlink_io::arena::{Arena, ArenaError, ArenaView};

const CHILD: &str = "QLINK_TEST_ARENA_CHILD";
const WORDS: usize = 1 << 16;
const KILLS: u64 = 5;

/// The child's part: counts up in a pattern over the whole arena until it is killed.
#[test]
fn child_writes_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return; // only meaningful when the test below starts it
    };
    let arena = Arena::open_or_create(path, WORDS).unwrap();
    let words = arena.words();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(20) {
        let next = words[0].load(Relaxed) + 1;
        words[1 + (next as usize % (WORDS - 1))].store(next, Relaxed);
        words[0].store(next, Release);
    }
}

#[test]
fn every_store_before_sigkill_survives_and_the_lock_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    drop(Arena::create(&path, WORDS).unwrap());
    let view = ArenaView::open(&path).unwrap();
    let mut before = 0;
    for _ in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_killed"])
            .env(CHILD, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while view.words()[0].load(Acquire) < before + 1000 {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "the child does not write"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let in_use = Arena::open(&path, WORDS);
        let seen = view.words()[0].load(Acquire);

        child.kill().unwrap();
        let status = child.wait().unwrap();

        assert_eq!(status.signal(), Some(9));
        assert!(matches!(in_use, Err(ArenaError::InUse { .. })));
        let arena = Arena::open(&path, WORDS).unwrap();
        let last = arena.words()[0].load(Relaxed);
        assert!(last >= seen && seen >= before + 1000);
        for count in last.saturating_sub(WORDS as u64 - 2).max(1)..=last {
            let word = arena.words()[1 + (count as usize % (WORDS - 1))].load(Relaxed);
            // The child may have died between its two stores.
            assert!(word == count || word == last + 1, "{count} of {last}");
        }
        before = last;
    }
}
