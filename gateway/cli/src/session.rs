//! `qlink session`: one subscriber's session at a data plane.

mod explain;
mod trace;

use clap::Subcommand;

/// What can be done with a session.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say for each byte of a session in which bucket it is, and why.
    Explain(explain::Options),
    /// Capture a session's packets on both sides, with the data plane's verdicts, into a pcapng
    /// file.
    Trace(trace::Options),
}

/// Runs a session command.
pub(crate) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Explain(options) => explain::run(options),
        Command::Trace(options) => trace::run(options),
    }
}
