//! What a node counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Upper bounds in seconds of the work on one block.
const SECONDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// The node's own metrics.
#[derive(Debug, Clone)]
pub(crate) struct NodeMetrics {
    pub(crate) height: IntGauge,
    pub(crate) pool_transactions: IntGauge,
    pub(crate) pool_bytes: IntGauge,
    pub(crate) blocks: IntCounter,
    pub(crate) transactions: IntCounterVec,
    pub(crate) refused: IntCounterVec,
    pub(crate) dropped: IntCounter,
    pub(crate) execute_seconds: Histogram,
    pub(crate) commit_seconds: Histogram,
}

impl NodeMetrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()))
        };
        let metrics = Self {
            height: IntGauge::new(
                "qlink_chain_height_blocks",
                "Height of the last final block.",
            )?,
            pool_transactions: IntGauge::new(
                "qlink_chain_pool_transactions",
                "Transactions that wait for a block.",
            )?,
            pool_bytes: IntGauge::new("qlink_chain_pool_bytes", "Their encoded length.")?,
            blocks: IntCounter::new("qlink_chain_blocks_total", "Blocks made final.")?,
            transactions: IntCounterVec::new(
                Opts::new(
                    "qlink_chain_transactions_total",
                    "Transactions in final blocks, by status.",
                ),
                &["status"],
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "qlink_chain_refused_total",
                    "Transactions that the pool did not take, by reason.",
                ),
                &["reason"],
            )?,
            dropped: IntCounter::new(
                "qlink_chain_pool_dropped_total",
                "Transactions that left the pool without a block.",
            )?,
            execute_seconds: histogram(
                "qlink_chain_execute_seconds",
                "Time to apply a block and compute its root.",
            )?,
            commit_seconds: histogram("qlink_chain_commit_seconds", "Time to store a block.")?,
        };
        registry.register(Box::new(metrics.height.clone()))?;
        registry.register(Box::new(metrics.pool_transactions.clone()))?;
        registry.register(Box::new(metrics.pool_bytes.clone()))?;
        registry.register(Box::new(metrics.blocks.clone()))?;
        registry.register(Box::new(metrics.transactions.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        registry.register(Box::new(metrics.execute_seconds.clone()))?;
        registry.register(Box::new(metrics.commit_seconds.clone()))?;
        Ok(metrics)
    }
}
