//! What the workers' arenas say, as families of metrics.

use prometheus::proto::MetricFamily;
use prometheus::{Encoder as _, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use qlink_meter::{ArenaReader, ArenaSet, DropReason, Occupancies, WorkerCounter};

/// All that the arenas say, in the text format of Prometheus.
///
/// # Errors
///
/// [`prometheus::Error`]: not possible with the fixed names here.
pub fn metrics_text(arenas: &ArenaSet) -> Result<Vec<u8>, prometheus::Error> {
    let mut text = Vec::new();
    TextEncoder::new().encode(&families(arenas)?, &mut text)?;
    Ok(text)
}

/// All that the arenas say.
pub(super) fn families(arenas: &ArenaSet) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let registry = Registry::new();
    let workers = numbered(arenas.workers());
    counters(&registry, &workers)?;
    drops(&registry, &workers)?;
    tables(&registry, &workers)?;
    let incarnation = IntGauge::new(
        "qlink_dataplane_incarnation",
        "Start of the counters: milliseconds since 1970 when the arena was made.",
    )?;
    incarnation.set(gauge(arenas.incarnation().get()));
    registry.register(Box::new(incarnation))?;
    Ok(registry.gather())
}

/// Readers with the value of their label.
fn numbered(readers: &[ArenaReader]) -> Vec<(String, &ArenaReader)> {
    let readers = readers.iter().enumerate();
    readers
        .map(|(number, reader)| (number.to_string(), reader))
        .collect()
}

fn counters(
    registry: &Registry,
    workers: &[(String, &ArenaReader)],
) -> Result<(), prometheus::Error> {
    let totals: Vec<_> = workers
        .iter()
        .map(|(worker, reader)| (worker, reader.totals().worker))
        .collect();
    for counter in WorkerCounter::ALL {
        let name = counter.name();
        let help = format!("{} since the arena was made.", name.replace('_', " "));
        let opts = Opts::new(format!("qlink_dataplane_{name}_total"), help);
        let metric = IntCounterVec::new(opts, &["worker"])?;
        for (worker, counted) in &totals {
            let count = counted.get(name).copied().unwrap_or(0);
            metric.with_label_values(&[worker]).inc_by(count);
        }
        registry.register(Box::new(metric))?;
    }
    Ok(())
}

fn drops(registry: &Registry, workers: &[(String, &ArenaReader)]) -> Result<(), prometheus::Error> {
    let drops = IntCounterVec::new(
        Opts::new(
            "qlink_dataplane_dropped_packets_total",
            "Packets that were not forwarded, by reason.",
        ),
        &["worker", "reason"],
    )?;
    for (worker, reader) in workers {
        let counted = reader.drops();
        for reason in DropReason::all() {
            let packets = counted.get(reason.name()).copied().unwrap_or(0);
            let metric = drops.with_label_values(&[worker, reason.name()]);
            metric.inc_by(packets);
        }
    }
    registry.register(Box::new(drops))
}

fn tables(
    registry: &Registry,
    workers: &[(String, &ArenaReader)],
) -> Result<(), prometheus::Error> {
    let full: Vec<(&String, Occupancies)> = workers
        .iter()
        .map(|(worker, reader)| (worker, reader.occupancies()))
        .collect();
    for (number, (name, _)) in Occupancies::default().named().iter().enumerate() {
        let used = Opts::new(
            format!("qlink_dataplane_{name}"),
            format!("Places taken in the worker's table of {name}."),
        );
        let used = IntGaugeVec::new(used, &["worker"])?;
        let bound = Opts::new(
            format!("qlink_dataplane_{name}_max"),
            format!("Places in the worker's table of {name}."),
        );
        let bound = IntGaugeVec::new(bound, &["worker"])?;
        for (worker, of) in &full {
            let table = of.named().get(number).map(|(_, table)| *table);
            let table = table.unwrap_or_default();
            used.with_label_values(&[worker]).set(gauge(table.used));
            bound.with_label_values(&[worker]).set(gauge(table.bound));
        }
        registry.register(Box::new(used))?;
        registry.register(Box::new(bound))?;
    }
    Ok(())
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
