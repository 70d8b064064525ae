//! The operator's side of the story: one settlement cycle over the package's carriage.
//!
//! Three sources are joined by package id. Ours: the sessions' proven bytes. Theirs: what the
//! operator counted by itself; here the simulated devices' own counts stand for its radio network,
//! fed into the simulated platform, which states them. The chain's: finalized events that moved
//! bytes and units. Bytes become units by the one rating function; the sum is what the chain has
//! moved to the operator's account, and the operator signs for it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use qlink_client::ChainClient;
use qlink_client::rpc::EventAnswer;
use qlink_operator::{
    ChainLine, CycleEvent, DedupClass, Desk, FileJournal, Line, Money, Profile, SharedKey, Summary,
    Tolerance,
};
use qlink_topup::{TopUp, TopUpConfig};
use qlink_types::ids::PackageId;
use qlink_types::outcome::{Event, Share};
use qlink_types::rating::Ratio;
use qlink_types::units::{Bytes, Units};

use super::story::now_ms;

/// The platform's price list: what a package's C_op follows, in units per 10^6 bytes.
pub(crate) const UNITS_PER_MB: u64 = 500;

/// The name of the operator in reports.
const OPERATOR: &str = "opsim";

/// The cycle's id.
const SETTLEMENT: &str = "demo-1";

/// How long the operator may take to settle.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// Events read at a time.
const EVENTS: usize = 256;

/// Our balance at the platform when it starts.
pub(crate) fn operator_balance() -> Money {
    Money {
        asset: "QLC".to_owned(),
        scale: 8,
        units: 1_000_000_000_000,
    }
}

/// What is to be settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carriage {
    /// The package.
    pub(crate) package: PackageId,
    /// Its volume.
    pub(crate) volume: Bytes,
    /// C_op.
    pub(crate) share: Units,
    /// Bytes that our sessions have proven.
    pub(crate) metered: Bytes,
    /// Bytes that the devices have received.
    pub(crate) received: Bytes,
}

impl Carriage {
    fn line(&self, bytes: Bytes) -> anyhow::Result<Line> {
        let units = Ratio::new(self.share, self.volume)?.owed(bytes)?;
        Ok(Line {
            reference: self.package.to_string(),
            bytes: bytes.get(),
            units: units.get(),
            time_ms: now_ms(),
        })
    }
}

/// Runs the whole cycle with the platform at `address`.
pub(crate) async fn settle(
    folder: &Path,
    address: SocketAddr,
    key_file: &Path,
    node: &ChainClient,
    carriage: Carriage,
) -> anyhow::Result<Summary> {
    let key = SharedKey::load(key_file)?;
    let theirs = carriage.line(carriage.received)?;
    let feed = opsim::Feed::new(address, key.clone());
    let usage = opsim::Usage {
        reference: theirs.reference,
        bytes: theirs.bytes,
        units: theirs.units,
    };
    feed.report(&usage)
        .await
        .context("the operator's own meter")?;

    let opened = FileJournal::open(&folder.join("operator.journal"))?;
    let mut desk = Desk::recover(OPERATOR, opened.journal, &opened.records)?;
    desk.open_cycle(SETTLEMENT, 0, Tolerance::default(), None)?;
    let meter = CycleEvent::Meter(carriage.line(carriage.metered)?);
    desk.cycle_event(SETTLEMENT, meter)?;
    for line in chain_lines(node, carriage.package).await? {
        desk.cycle_event(SETTLEMENT, CycleEvent::Chain(line))?;
    }
    let until_ms = now_ms().saturating_add(1_000);
    desk.cycle_event(SETTLEMENT, CycleEvent::CutOff { until_ms })?;
    run(&mut desk, &platform(address, key)?).await
}

fn platform(address: SocketAddr, key: SharedKey) -> anyhow::Result<TopUp> {
    let profile = Profile {
        operator: OPERATOR.to_owned(),
        dedup: DedupClass::KeyReplays,
        volume_unit_bytes: 1,
        asset: "QLC".to_owned(),
        scale: 8,
    };
    let config = TopUpConfig {
        base: format!("http://{address}"),
        profile,
        deadline: Duration::from_secs(5),
        tries: 3,
        retry_after_ms: 50,
    };
    Ok(TopUp::new(config, key)?)
}

async fn run(desk: &mut Desk<FileJournal>, platform: &TopUp) -> anyhow::Result<Summary> {
    let started = std::time::Instant::now();
    while started.elapsed() < SETTLED_WITHIN {
        desk.resolve_open(platform, now_ms()).await?;
        let summary = desk.run_cycle(platform, SETTLEMENT, now_ms()).await?;
        if summary.state == "settled" || summary.state == "disputed" {
            return Ok(summary);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!(
        "the operator has not settled after {} s",
        SETTLED_WITHIN.as_secs()
    )
}

/// What finalized events have moved for a package, as increments.
async fn chain_lines(node: &ChainClient, package: PackageId) -> anyhow::Result<Vec<ChainLine>> {
    let mut lines = Vec::new();
    let mut after: Option<String> = None;
    let mut cursor = 0;
    let mut used = Bytes::ZERO;
    loop {
        let page = node.events(after.as_deref(), EVENTS).await?;
        let Some(last) = page.data.last() else {
            return Ok(lines);
        };
        after = Some(last.cursor.clone());
        for answer in &page.data {
            cursor += 1;
            if let Some((bytes, units)) = increment(answer, package, &mut used) {
                lines.push(ChainLine {
                    cursor,
                    line: Line {
                        reference: package.to_string(),
                        bytes: bytes.get(),
                        units: units.get(),
                        time_ms: answer.time_ms.get(),
                    },
                });
            }
        }
    }
}

fn increment(answer: &EventAnswer, wanted: PackageId, used: &mut Bytes) -> Option<(Bytes, Units)> {
    match &answer.event {
        Event::PackageSettled {
            package,
            used_bytes,
            ..
        } if *package == wanted => {
            let grown = used_bytes.saturating_sub(*used);
            *used = *used_bytes;
            Some((grown, Units::ZERO))
        }
        Event::CarriagePaid {
            package,
            share: Share::Operator,
            units,
            ..
        } if *package == wanted => Some((Bytes::ZERO, *units)),
        _ => None,
    }
}
