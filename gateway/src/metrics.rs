//! What the gateway counts about itself.

use prometheus::{IntCounter, IntGauge, Opts, Registry};

/// Counters and gauges of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct GatewayMetrics {
    /// Sessions opened.
    pub sessions_opened: IntCounter,
    /// Sessions closed.
    pub sessions_closed: IntCounter,
    /// Batches that became final.
    pub batches_final: IntCounter,
    /// Records that the ledger refused; each one needs a look.
    pub records_refused: IntCounter,
    /// Batches that could not be made or sent at a tick; they are tried again.
    pub settle_failures: IntCounter,
    /// Batches that wait for finality.
    pub outbox_rows: IntGauge,
}

impl GatewayMetrics {
    /// Makes and registers them.
    ///
    /// # Errors
    ///
    /// When a name is taken in `registry`.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let outbox_rows = IntGauge::with_opts(Opts::new(
            "qlink_gateway_outbox_rows",
            "batches that wait for finality",
        ))?;
        registry.register(Box::new(outbox_rows.clone()))?;
        Ok(Self {
            sessions_opened: counter("qlink_gateway_sessions_opened_total", "sessions opened")?,
            sessions_closed: counter("qlink_gateway_sessions_closed_total", "sessions closed")?,
            batches_final: counter("qlink_gateway_batches_final_total", "batches made final")?,
            records_refused: counter(
                "qlink_gateway_records_refused_total",
                "records that the ledger refused",
            )?,
            settle_failures: counter(
                "qlink_gateway_settle_failures_total",
                "settlement ticks that failed and were tried again",
            )?,
            outbox_rows,
        })
    }
}
