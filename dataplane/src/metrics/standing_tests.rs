//! Each thing that can keep a data plane from serving.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use qlink_io::handover::bell;
use qlink_meter::{ArenaLayout, ArenaSetup, CounterArena};
use qlink_types::units::Incarnation;

use super::*;
use crate::control::{Order, Outcome};

/// A data plane with one worker, which answers as long as it is told to.
struct Rig {
    standing: Arc<Standing>,
    orders: crossbeam::channel::Receiver<Order>,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arena");
        let layout = ArenaLayout {
            sessions: 1,
            views: 1,
            flows: 1,
            view_words: 1,
            flow_words: 1,
            head_words: 1,
            urrs: 0,
        };
        let setup = ArenaSetup {
            layout,
            incarnation: Incarnation::new(1),
            shards: 1,
        };
        drop(CounterArena::open(&path, setup).unwrap());
        let (worker, orders) = WorkerHandle::pair(bell().unwrap().0);
        let standing = Arc::new(Standing::new());
        assert_eq!(standing.check(0), Err(Hindrance::Starting));
        standing.serves(ArenaSet::open(&path).unwrap(), vec![worker]);
        Self {
            standing,
            orders,
            _folder: folder,
        }
    }

    /// Asks while the worker answers.
    fn check(&self, now_ns: u64) -> Result<(), Hindrance> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if let Ok((_, result)) = self.orders.recv_timeout(Duration::from_millis(1)) {
                        result.send(Ok(Outcome::Done)).unwrap();
                    }
                }
            });
            let checked = self.standing.check(now_ns);
            done.store(true, Ordering::Relaxed);
            checked
        })
    }
}

#[test]
fn it_is_ready_while_all_threads_work_and_both_journals_take_records() {
    let rig = Rig::new();
    let late = u64::try_from(CONTROL_AWAY.as_nanos()).unwrap() + 1_000_000;

    assert_eq!(rig.check(1), Ok(()));

    assert_eq!(rig.check(late), Err(Hindrance::ControlAway(10_001)));
    rig.standing.turned(late);
    assert_eq!(rig.check(late), Ok(()));
    rig.standing.hold_pfcp(true);
    assert_eq!(rig.check(late), Err(Hindrance::PfcpJournal));
    rig.standing.hold_pfcp(false);
    rig.standing.control_journal(true);
    assert_eq!(rig.check(late), Err(Hindrance::ControlJournal));
    rig.standing.control_journal(false);
    rig.standing.enter(Phase::Stopping);
    assert_eq!(rig.check(late), Err(Hindrance::Stopping));
}

#[test]
fn a_worker_that_answers_nothing_is_named() {
    let rig = Rig::new();

    assert_eq!(rig.standing.check(1), Err(Hindrance::WorkerAway(0)));
}
