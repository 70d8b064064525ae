//! The data plane's metrics as text, read from the arena.

use prometheus::{Encoder as _, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use qlink_meter::{ArenaSet, DropReason, SessionState, WorkerCounter};

/// All metrics in the text format of Prometheus.
///
/// # Errors
///
/// [`prometheus::Error`]: not possible with the fixed names here.
pub fn metrics_text(reader: &ArenaSet) -> Result<Vec<u8>, prometheus::Error> {
    let registry = Registry::new();
    let totals = reader.totals();
    for counter in WorkerCounter::ALL {
        let name = format!("qlink_dataplane_{}_total", counter.name());
        let help = format!(
            "{} since the arena was made",
            counter.name().replace('_', " ")
        );
        let metric = IntCounter::new(name, help)?;
        metric.inc_by(totals.worker.get(counter.name()).copied().unwrap_or(0));
        registry.register(Box::new(metric))?;
    }
    let drops = IntCounterVec::new(
        Opts::new(
            "qlink_dataplane_dropped_packets_total",
            "packets that were not forwarded, by reason",
        ),
        &["reason"],
    )?;
    let counted = reader.drops();
    for reason in DropReason::all() {
        let packets = counted.get(reason.name()).copied().unwrap_or(0);
        drops.with_label_values(&[reason.name()]).inc_by(packets);
    }
    registry.register(Box::new(drops))?;
    let live = reader
        .sessions()
        .iter()
        .filter(|session| session.identity.state == SessionState::Live)
        .count();
    let sessions = IntGauge::new("qlink_dataplane_sessions", "sessions that stand")?;
    sessions.set(i64::try_from(live).unwrap_or(i64::MAX));
    registry.register(Box::new(sessions))?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}
