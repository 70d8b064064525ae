//! `qlink replay`: the pipeline on captures, unprivileged.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use qlink_dataplane::replay::ReplayOptions;

use crate::output;

/// Options of `qlink replay`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Captures (pcap or pcapng), read in this order as one input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Register every file of a folder as content first.
    #[arg(long, value_name = "DIR")]
    contents: Option<PathBuf>,
}

/// Replays and prints one JSON object.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let settings = ReplayOptions {
        contents: options.contents.clone(),
    };
    let report = qlink_dataplane::replay::replay(&options.files, &settings)
        .context("the captures could not be replayed")?;
    output::line(&serde_json::to_string_pretty(&report)?);
    Ok(())
}
