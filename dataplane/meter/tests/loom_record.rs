//! Every interleaving of the arena's row protocol, under the C11 memory model.
//!
//! The module is compiled here once more with loom's atomics. Run it with
//! `RUSTFLAGS="--cfg loom" cargo test --release -p qlink-meter --test loom_record`; without that flag
//! this file is empty.
#![cfg(loom)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../src/record.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the module is checked, not the crate around it"
)]
mod record;

use loom::sync::Arc;
use loom::thread;

use record::{Row, Sealed, add, load, open_place, read_identity, store};
use sync::AtomicU64;

fn words(count: usize) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// One change: both words of the slot become `value`.
fn change(row: Row, words: &[AtomicU64], value: u64) {
    let mut sink = row.stage(words);
    sink.put(value);
    sink.put(value);
    row.flip(words);
}

/// One change of a slot of one word.
fn change_one(row: Row, words: &[AtomicU64], value: u64) {
    row.stage(words).put(value);
    row.flip(words);
}

#[test]
fn a_copy_is_never_half_of_a_change() {
    loom::model(|| {
        let (words, row) = (words(5), Row { at: 0, len: 2 });
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                change(row, &words, 1);
                change(row, &words, 2);
                change(row, &words, 3);
            }
        });

        let mut out = [0; 2];
        if row.read(&words, &mut out).is_some() {
            assert_eq!(out[0], out[1]);
        }

        writer.join().unwrap();
        assert_eq!(row.read(&words, &mut out), Some(()));
        assert_eq!(out, [3, 3]);
    });
}

/// The model checker remembers one access per word, the last. Here the writer also reads what it
/// writes, which hides from it that the reader looked before; so the writer goes first, and the
/// reader's looks are what is tried at every place.
#[test]
fn a_copy_is_never_half_of_a_change_of_what_stands() {
    loom::model(|| {
        let (words, row) = (words(5), Row { at: 0, len: 2 });
        let reader = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                let mut out = [0; 2];
                if row.read(&words, &mut out).is_some() {
                    assert_eq!(out[0], out[1]);
                }
            }
        });

        for _ in 0..3 {
            row.change(&words, |[first, second]: [u64; 2]| [first + 1, second + 1]);
        }

        reader.join().unwrap();
        assert_eq!(row.standing(&words), [3, 3]);
    });
}

#[test]
fn a_later_copy_is_never_older() {
    loom::model(|| {
        let (words, row) = (words(3), Row { at: 0, len: 1 });
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                for value in 1..3 {
                    change_one(row, &words, value);
                }
            }
        });

        let (mut first, mut second) = ([0], [0]);
        if row.read(&words, &mut first).is_some() && row.read(&words, &mut second).is_some() {
            assert!(first <= second);
        }

        writer.join().unwrap();
    });
}

#[test]
fn who_sees_a_published_word_sees_what_was_counted_before_it() {
    loom::model(|| {
        let words = words(2);
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                add(&words, 1, 7);
                store(&words, 0, 1);
            }
        });

        if words[0].load(sync::Ordering::Acquire) == 1 {
            assert_eq!(load(&words, 1), 7);
        }

        writer.join().unwrap();
    });
}

#[test]
fn a_sealed_slot_is_never_half_of_a_change() {
    loom::model(|| {
        let (words, row) = (words(3), Sealed { at: 0, len: 2 });
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || (1..3).for_each(|value| row.write(&words, &[value, value]))
        });

        let mut out = [0; 2];
        if row.read(&words, &mut out).is_some() {
            assert_eq!(out[0], out[1]);
        }

        writer.join().unwrap();
        assert_eq!(row.read(&words, &mut out), Some(()));
        assert_eq!(out, [2, 2]);
    });
}

/// The place's first holder is 1 and its state 1, those of its second are 2.
#[test]
fn a_state_between_two_equal_identities_is_theirs() {
    const IDENTITY: usize = 2;
    loom::model(|| {
        let (words, row) = (words(5), Row { at: 2, len: 1 });
        let open = move |words: &[AtomicU64], holder| {
            change_one(row, words, holder);
            open_place(words, 0, &[1, holder]);
        };
        open(&words, 1);
        let writer = thread::spawn({
            let words = Arc::clone(&words);
            move || {
                store(&words, 0, 0);
                open(&words, 2);
            }
        });

        let (mut before, mut state, mut after) = ([0; IDENTITY], [0], [0; IDENTITY]);
        read_identity(&words, 0, &mut before);
        let whole = row.read(&words, &mut state).is_some();
        read_identity(&words, 0, &mut after);
        if whole && before == after && before[0] == 1 {
            assert_eq!(before[1], state[0]);
        }

        writer.join().unwrap();
    });
}
