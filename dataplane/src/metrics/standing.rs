//! Whether a data plane can serve, and what keeps it from that.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use qlink_meter::ArenaSet;

use crate::control::{Command, WorkerHandle};

/// How long the control thread may be away until it counts as stuck: twice what it waits for a
/// worker.
const CONTROL_AWAY: Duration = Duration::from_secs(10);

/// How long a worker may take to answer (chosen: it answers between two bursts).
const WORKER_WITHIN: Duration = Duration::from_secs(1);

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Arenas and journals are being brought together.
    Starting = 0,
    /// Packets are forwarded and requests answered.
    Serving = 1,
    /// It was told to stop.
    Stopping = 2,
}

/// Why a data plane is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Hindrance {
    /// It is not there yet.
    #[error("sessions and rules are being restored")]
    Starting,
    /// It ends.
    #[error("the process was told to stop")]
    Stopping,
    /// The control thread does not turn.
    #[error("the control thread has not turned for {0} ms")]
    ControlAway(u64),
    /// A worker takes no commands.
    #[error("worker {0} takes no commands")]
    WorkerAway(usize),
    /// A journal refuses records.
    #[error("the journal of the PFCP node cannot be written: no answer leaves")]
    PfcpJournal,
    /// A journal refuses records.
    #[error("the control journal cannot be written: no request is accepted")]
    ControlJournal,
}

/// What is there once a process serves.
#[derive(Debug)]
struct Parts {
    arenas: ArenaSet,
    workers: Vec<WorkerHandle>,
}

/// What the threads know of each other's state.
#[derive(Debug)]
pub(crate) struct Standing {
    phase: AtomicU8,
    /// Monotonic time of the control thread's last turn.
    turned_ns: AtomicU64,
    pfcp_held: AtomicBool,
    journal_failed: AtomicBool,
    parts: OnceLock<Parts>,
}

impl Standing {
    pub(crate) const fn new() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            turned_ns: AtomicU64::new(0),
            pfcp_held: AtomicBool::new(false),
            journal_failed: AtomicBool::new(false),
            parts: OnceLock::new(),
        }
    }

    /// It serves from now on.
    pub(crate) fn serves(&self, arenas: ArenaSet, workers: Vec<WorkerHandle>) {
        // There is one start in the life of a process.
        let _ = self.parts.set(Parts { arenas, workers });
        self.enter(Phase::Serving);
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The control thread begins a turn at `now_ns`.
    pub(crate) fn turned(&self, now_ns: u64) {
        self.turned_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Whether the PFCP node's answers wait for its journal.
    pub(crate) fn hold_pfcp(&self, held: bool) {
        self.pfcp_held.store(held, Ordering::Relaxed);
    }

    /// Whether the last record found its way into the control journal.
    pub(crate) fn control_journal(&self, failed: bool) {
        self.journal_failed.store(failed, Ordering::Relaxed);
    }

    /// The arenas, once there are any.
    pub(crate) fn arenas(&self) -> Option<&ArenaSet> {
        self.parts.get().map(|parts| &parts.arenas)
    }

    /// Asks every worker, and says what keeps the data plane from serving at `now_ns`; the first
    /// thing that somebody would have to mend. May take [`WORKER_WITHIN`] for each worker.
    ///
    /// # Errors
    ///
    /// The [`Hindrance`].
    pub(crate) fn check(&self, now_ns: u64) -> Result<(), Hindrance> {
        let phase = self.phase.load(Ordering::Acquire);
        if phase == Phase::Stopping as u8 {
            return Err(Hindrance::Stopping);
        }
        let parts = self.parts.get().filter(|_| phase == Phase::Serving as u8);
        let parts = parts.ok_or(Hindrance::Starting)?;
        let away_ns = now_ns.saturating_sub(self.turned_ns.load(Ordering::Relaxed));
        if Duration::from_nanos(away_ns) > CONTROL_AWAY {
            return Err(Hindrance::ControlAway(away_ns / 1_000_000));
        }
        for (number, worker) in parts.workers.iter().enumerate() {
            let asked = worker.run_within(Command::Probe, WORKER_WITHIN);
            asked.map_err(|_| Hindrance::WorkerAway(number))?;
        }
        if self.journal_failed.load(Ordering::Relaxed) {
            return Err(Hindrance::ControlJournal);
        }
        if self.pfcp_held.load(Ordering::Relaxed) {
            return Err(Hindrance::PfcpJournal);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
