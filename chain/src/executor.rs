//! The one thread that makes, applies and stores blocks: the only writer of the store.
//!
//! ```text
//! wake or pace -> select -> Orderer::propose -> final block -> apply -> prepare -> store (synced)
//!                                                                  -> acknowledge -> settle the pool
//! ```
//! A block that changed the tree is followed by another within one interval, so that a header
//! carries its root; while nothing happens, blocks are rare.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use qlink_ledger::{BlockContext, SignatureCheck, StateError, apply_block};
use qlink_order::{Final, Orderer, Parent, ProposeError};
use qlink_store::{StateStoreError, Tip, TreeChange};
use qlink_types::ids::TxId;
use qlink_types::outcome::{Status, TxReceipt};
use qlink_types::units::BlockHeight;

use crate::node::{Shared, gauge};
use crate::time;

/// How often blocks are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Least time between blocks, unless a full one waits.
    pub(crate) interval: Duration,
    /// Time between empty blocks while nothing happens.
    pub(crate) idle: Duration,
}

/// Why no more blocks are made.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The ledger cannot use the state.
    #[error("the ledger stopped")]
    Ledger(#[from] StateError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StateStoreError),
    /// The engine contradicts the chain.
    #[error("the engine does not follow the chain")]
    Order(#[source] ProposeError),
    /// The thread ended without a result.
    #[error("the executor thread ended unexpectedly")]
    Panicked,
}

/// Longest sleep before looking at the stop flag again.
const LOOK: Duration = Duration::from_millis(500);

/// Pause while the clock is behind the chain.
const CLOCK_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Executor {
    shared: Arc<Shared>,
    engine: Box<dyn Orderer>,
    wakes: Receiver<()>,
    pace: Pace,
}

impl Executor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        engine: Box<dyn Orderer>,
        wakes: Receiver<()>,
        pace: Pace,
    ) -> Self {
        Self {
            shared,
            engine,
            wakes,
            pace,
        }
    }

    /// Makes blocks until the node stops.
    pub(crate) fn run(mut self) -> Result<(), ExecutorError> {
        self.shared.set_running(true);
        let result = self.run_until_stopped();
        self.shared.set_running(false);
        if let Err(error) = &result {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "block production stopped"
            );
        }
        result
    }

    fn run_until_stopped(&mut self) -> Result<(), ExecutorError> {
        // A chain that was away for longer than an interval goes on at once.
        let mut last = Instant::now();
        while !self.shared.stopping() {
            let due = self.due_after();
            let elapsed = last.elapsed();
            if elapsed < due {
                let wait = due.saturating_sub(elapsed).min(LOOK);
                match self.wakes.recv_timeout(wait) {
                    Ok(()) | Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            if self.produce()? {
                last = Instant::now();
            } else {
                std::thread::sleep(CLOCK_PAUSE);
            }
        }
        Ok(())
    }

    /// How long after the last block the next one is due.
    fn due_after(&self) -> Duration {
        let pool = self.shared.pool();
        if pool.fills(self.engine.budget()) {
            return Duration::ZERO;
        }
        let waiting = !pool.is_empty();
        drop(pool);
        let state = self.shared.state();
        let owed = state
            .tip()
            .is_some_and(|tip| tip.tree == TreeChange::Changed);
        if waiting || owed {
            self.pace.interval
        } else {
            self.pace.idle
        }
    }

    /// Makes one block; `false` when the clock does not allow it yet.
    pub(crate) fn produce(&mut self) -> Result<bool, ExecutorError> {
        let parent = self.parent()?;
        let chosen = self.shared.pool().select(self.engine.budget());
        let content = chosen.iter().map(|chosen| (**chosen).clone()).collect();
        match self.engine.propose(&parent, content, time::now()) {
            Ok(()) => {}
            Err(ProposeError::ClockBehind { parent, now }) => {
                tracing::warn!(%parent, %now, "the clock is behind the chain");
                return Ok(false);
            }
            Err(error) => return Err(ExecutorError::Order(error)),
        }
        while let Some(made) = self.engine.take_final() {
            let height = made.block.header.height;
            self.deliver(&made)?;
            self.engine.acknowledge(height);
        }
        Ok(true)
    }

    fn parent(&self) -> Result<Parent, ExecutorError> {
        let state = self.shared.state();
        let tip = state.tip().ok_or(StateStoreError::Missing {
            record: "tip",
            height: BlockHeight::ZERO,
        })?;
        Ok(Parent {
            height: tip.height,
            id: tip.block,
            time_ms: tip.time_ms,
            state_root: tip.state_root,
            receipts_root: tip.receipts_root,
        })
    }

    /// Applies a final block, stores it durably, and lets everybody know.
    fn deliver(&self, made: &Final) -> Result<(), ExecutorError> {
        let header = &made.block.header;
        let context = BlockContext {
            chain: header.chain,
            height: header.height,
            time_ms: header.time_ms,
        };
        let execute = self.shared.metrics.execute_seconds.start_timer();
        let state = self.shared.state();
        // Solo orders only what its own pool has admitted, signatures checked.
        let outcome = apply_block(
            &*state,
            &context,
            &made.block.transactions,
            SignatureCheck::AlreadyVerified,
        )?;
        let prepared = state.prepare(
            &made.block,
            &made.certificate,
            &outcome.receipts,
            &outcome.changes,
        )?;
        drop(state);
        execute.observe_duration();
        if let Some(prepared) = prepared {
            let commit = self.shared.metrics.commit_seconds.start_timer();
            self.shared.state_mut().finish(prepared)?;
            commit.observe_duration();
        }
        self.settle(&outcome.receipts)?;
        self.shared.heights.send_replace(header.height);
        tracing::info!(
            height = %header.height,
            transactions = made.block.transactions.len(),
            "block is final"
        );
        Ok(())
    }

    fn settle(&self, receipts: &[TxReceipt]) -> Result<(), ExecutorError> {
        let metrics = &self.shared.metrics;
        let results: Vec<(TxId, Status)> = receipts
            .iter()
            .filter(|receipt| !receipt.tx.is_zero())
            .map(|receipt| (receipt.tx, receipt.status))
            .collect();
        for (_, status) in &results {
            let name = status.name();
            metrics.transactions.with_label_values(&[name]).inc();
        }
        metrics.blocks.inc();
        let mut pool = self.shared.pool();
        let state = self.shared.state();
        if let Some(tip) = state.tip() {
            metrics.height.set(height_gauge(tip));
            let context = self.shared.next_context(tip);
            let dropped = pool.settle(&*state, &context, &results)?;
            metrics
                .dropped
                .inc_by(u64::try_from(dropped).unwrap_or(u64::MAX));
        }
        metrics.pool_transactions.set(gauge(pool.len()));
        metrics.pool_bytes.set(gauge(pool.bytes()));
        Ok(())
    }
}

fn height_gauge(tip: &Tip) -> i64 {
    i64::try_from(tip.height.get()).unwrap_or(i64::MAX)
}
