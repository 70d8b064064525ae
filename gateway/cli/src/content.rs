//! `qlink content`: naming contents by their root.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use qlink_types::codec::Text;

use crate::output;

/// What can be done with contents.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a file's root and what its registration would hold.
    Hash {
        /// The file.
        file: PathBuf,
    },
}

/// Runs a content command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Hash { file } = command;
    let open = std::fs::File::open(file).with_context(|| format!("file {}", file.display()))?;
    let registered =
        qlink_content::register_reader(&mut std::io::BufReader::new(open), Text::default())
            .with_context(|| format!("file {}", file.display()))?;
    output::line(&serde_json::to_string(&registered.registration)?);
    Ok(())
}
