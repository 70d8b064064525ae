//! What the gateway counts about itself.

use prometheus::{IntCounter, IntGauge, Opts, Registry};

/// Counters and gauges of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct GatewayMetrics {
    /// Sessions opened.
    pub sessions_opened: IntCounter,
    /// Sessions closed.
    pub sessions_closed: IntCounter,
    /// Sessions ended because their BaseStation was denied.
    pub sessions_denied: IntCounter,
    /// Tunnel keys enrolled, renewals included.
    pub enrolments: IntCounter,
    /// Enrolments refused because the BaseStation or its key is denied.
    pub enrolments_denied: IntCounter,
    /// Enrolments refused for any other reason.
    pub enrolments_refused: IntCounter,
    /// BaseStations and tunnel keys that are denied.
    pub tunnel_denials: IntGauge,
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
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            sessions_opened: counter("qlink_gateway_sessions_opened_total", "sessions opened")?,
            sessions_closed: counter("qlink_gateway_sessions_closed_total", "sessions closed")?,
            sessions_denied: counter(
                "qlink_gateway_sessions_denied_total",
                "sessions ended because their BaseStation was denied",
            )?,
            enrolments: counter(
                "qlink_gateway_enrolments_total",
                "tunnel keys enrolled, renewals included",
            )?,
            enrolments_denied: counter(
                "qlink_gateway_enrolments_denied_total",
                "enrolments refused because the BaseStation or its tunnel key is denied",
            )?,
            enrolments_refused: counter(
                "qlink_gateway_enrolments_refused_total",
                "enrolments refused for any other reason",
            )?,
            tunnel_denials: gauge(
                "qlink_gateway_tunnel_denials",
                "BaseStations and tunnel keys that are denied",
            )?,
            batches_final: counter("qlink_gateway_batches_final_total", "batches made final")?,
            records_refused: counter(
                "qlink_gateway_records_refused_total",
                "records that the ledger refused",
            )?,
            settle_failures: counter(
                "qlink_gateway_settle_failures_total",
                "settlement ticks that failed and were tried again",
            )?,
            outbox_rows: gauge(
                "qlink_gateway_outbox_rows",
                "batches that wait for finality",
            )?,
        })
    }
}
