//! The command line of the demo, and the order of its parts.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use super::network::{Network, Plan};
use super::{places, story, table};
use crate::{output, process};

/// Options of `qlink demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Viewers; each fetches the whole film.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) viewers: u32,
    /// Cheaters; they rotate through four modes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) cheaters: u32,
    /// Loss between gateway and viewers, each direction, in per cent (0 to 50).
    #[arg(long, default_value = "3", value_parser = parse_loss)]
    pub(crate) loss: LossPercent,
    /// Decides film, keys, losses and sequence numbers.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The film; default: 10,000,000 incompressible bytes from the seed.
    #[arg(long, value_name = "FILE")]
    pub(crate) content: Option<PathBuf>,
    /// Volume of the package.
    #[arg(long, value_name = "N", default_value_t = 100_000_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) package_bytes: u64,
    /// Reward of the package in units of 10^-8 QLC.
    #[arg(long, value_name = "N", default_value_t = 100_000_000)]
    pub(crate) reward_units: u64,
    /// Write n3.pcapng and n6.pcapng here: the gateway's side of the loss.
    #[arg(long, value_name = "DIR")]
    pub(crate) capture: Option<PathBuf>,
    /// Print exactly one JSON object on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep everything under this folder; default: a temporary one that is removed.
    #[arg(long, value_name = "PATH")]
    pub(crate) dir: Option<PathBuf>,
    /// Stay up after the report until interrupted.
    #[arg(long)]
    pub(crate) hold: bool,
    /// Kill the gateway process (SIGKILL) this many times during the traffic and restart it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) kill_gateway: u32,
    /// Kill the data plane process (SIGKILL) this many times during the traffic and restart it.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) kill_dataplane: u32,
}

/// A loss in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LossPercent(pub(crate) u32);

/// Reads per cent with up to four decimals as parts per million, without floats.
pub(crate) fn parse_loss(text: &str) -> Result<LossPercent, String> {
    let bad = || format!("'{text}' is not a loss in per cent from 0 to 50, for example 3 or 0.5");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 4 || whole.is_empty() {
        return Err(bad());
    }
    let digits = format!("{whole}{decimals:0<4}");
    let ppm: u32 = digits.parse().map_err(|_| bad())?;
    if ppm > 500_000 {
        Err(bad())
    } else {
        Ok(LossPercent(ppm))
    }
}

/// Plays the story.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (folder, _temporary) = places::folder(options.dir.as_deref())?;
    let runtime = process::runtime()?;
    runtime.block_on(play(options, folder))
}

async fn play(options: &Options, folder: PathBuf) -> anyhow::Result<()> {
    let mut network = Network::start(&Plan {
        folder,
        seed: options.seed,
        loss_ppm: options.loss.0,
        capture: options.capture.clone(),
        sessions: options
            .viewers
            .saturating_add(options.cheaters)
            .saturating_add(16),
    })
    .await
    .context("the local network did not start")?;
    let told = tokio::select! {
        told = story::tell(options, &mut network) => told,
        () = process::terminated() => bail!("interrupted"),
    };
    let report = told?;
    if options.json {
        output::line(&serde_json::to_string(&report.json)?);
    } else {
        table::print(&report);
    }
    if options.hold {
        output::progress(&format!(
            "holding; console at {}/console, stop with Ctrl-C",
            network.api_base()
        ));
        process::terminated().await;
    }
    network.stop().await;
    if report.faults.is_empty() {
        return Ok(());
    }
    bail!("not exact: {}", report.faults.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_read_without_floats() {
        assert_eq!(parse_loss("3"), Ok(LossPercent(30_000)));
        assert_eq!(parse_loss("0.5"), Ok(LossPercent(5_000)));
        assert_eq!(parse_loss("0"), Ok(LossPercent(0)));
        for bad in ["", ".5", "51", "-1", "1.23456", "x"] {
            assert!(parse_loss(bad).is_err(), "{bad}");
        }
    }
}
