//! Every interleaving of a worker that goes to sleep and others that hand packets over to it, under
//! the C11 memory model.
//!
//! The module is compiled here once more with loom's atomics. Run it with
//! `RUSTFLAGS="--cfg loom" cargo test --release -p qlink-io --test loom_asleep`; without that flag
//! this file is empty.
//!
//! The queue is the weakest there can be: a number that who hands over raises and the sleeper
//! reads, without any order of its own. The rings of packets themselves are `crossbeam`'s
//! `ArrayQueue`, one of free buffers and one of full ones; who holds a buffer has popped it.
#![cfg(loom)]

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering, fence};
}

#[path = "../src/asleep.rs"]
mod asleep;

use asleep::Asleep;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU32;
use loom::thread;
use sync::Ordering;

/// The ways between a worker and those who hand packets over to it.
struct Worker {
    asleep: Asleep,
    queued: AtomicU32,
    wire: AtomicU32,
}

impl Worker {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asleep: Asleep::new(),
            queued: AtomicU32::new(0),
            wire: AtomicU32::new(0),
        })
    }

    /// What `Others::hand` and `Others::ring` do.
    fn hand_over(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
        if self.asleep.ask() {
            self.wire.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One packet: the checker lets a second exchange of the flag read what is older than a fence
/// allows, so it cannot be asked about several. Of several who ask, those who find the announcement
/// taken leave the waking to the one who took it.
#[test]
fn no_packet_waits_for_a_sleeper_that_nobody_wakes() {
    loom::model(|| {
        let worker = Worker::new();
        let sender = thread::spawn({
            let worker = Arc::clone(&worker);
            move || worker.hand_over()
        });

        // What `Seat::sleep` does.
        worker.asleep.announce();
        let seen = worker.queued.load(Ordering::Relaxed);

        sender.join().unwrap();
        let woken = worker.wire.load(Ordering::Relaxed) > 0;
        assert!(seen == 1 || woken, "asleep for ever, and a packet waits");
    });
}

#[test]
fn who_is_awake_is_not_rung_for_and_who_sleeps_is_rung_for_once() {
    loom::model(|| {
        let worker = Worker::new();
        worker.hand_over();
        assert_eq!(worker.wire.load(Ordering::Relaxed), 0);
        worker.asleep.announce();
        let senders = [(), ()].map(|()| {
            let worker = Arc::clone(&worker);
            thread::spawn(move || worker.hand_over())
        });

        for sender in senders {
            sender.join().unwrap();
        }

        assert_eq!(worker.wire.load(Ordering::Relaxed), 1);
        worker.asleep.end();
        worker.hand_over();
        assert_eq!(worker.wire.load(Ordering::Relaxed), 1);
    });
}
