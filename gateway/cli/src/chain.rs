//! `qlink chain`: looking at a chain.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Subcommand};
use qlink_chain::ExportError;
use qlink_client::ChainClient;
use qlink_types::units::BlockHeight;

use crate::{output, process};

/// What can be done with a chain.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every block with its receipts, one JSON object a line.
    Export(Export),
}

/// Options of `qlink chain export`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true)))]
pub(crate) struct Export {
    /// A running node, for example http://127.0.0.1:7001.
    #[arg(long, value_name = "URL", group = "source")]
    node: Option<String>,
    /// A node's data folder; the node must not run.
    #[arg(long, value_name = "DIR", group = "source")]
    dir: Option<PathBuf>,
    /// JSON lines, the only format there is.
    #[arg(long)]
    json: bool,
}

/// Runs a chain command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Export(options) = command;
    match (&options.node, &options.dir) {
        (Some(node), None) => process::runtime()?.block_on(export_from_node(node)),
        (None, Some(dir)) => {
            // Opening a database for reading would leave an empty folder where there was none.
            if !dir.join("CURRENT").is_file() {
                bail!("{} holds no chain", dir.display());
            }
            qlink_chain::export_directory(dir, &mut std::io::stdout().lock())
                .map_err(|error| {
                    let bad =
                        matches!(&error, ExportError::Format(format) if format.is_bad_format());
                    process::judged(bad, error)
                })
                .with_context(|| format!("the chain in {} cannot be read", dir.display()))?;
            Ok(())
        }
        _ => bail!("name a node (--node URL) or its data folder (--dir DIR)"),
    }
}

async fn export_from_node(base: &str) -> anyhow::Result<()> {
    let node = ChainClient::new(base);
    let last = node.status().await?.final_height;
    let mut height = BlockHeight::ZERO;
    while height <= last {
        if let Some(block) = node.block(height).await? {
            output::line(&serde_json::to_string(&block)?);
        }
        height = height.next();
    }
    Ok(())
}
