//! What people and programs see of the binary: lines, logs, errors and exit codes.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The command did what it could and the outcome is not what it should be.
const FAILED: u8 = 1;

/// Bad configuration, or a format of a newer version.
const BAD_CONFIGURATION: u8 = 64;

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: objects that the schemas beside this crate describe.
    Json,
}

/// Marks an error as one of configuration or format: exit code 64.
#[derive(Debug, thiserror::Error)]
#[error("bad configuration or format")]
pub(crate) struct BadConfiguration(#[source] pub(crate) anyhow::Error);

/// Writes one line to standard output; a closed pipe is not an error worth a word.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes one line of progress to standard error.
pub(crate) fn progress(text: &str) {
    let mut out = std::io::stderr().lock();
    let _closed = writeln!(out, "{text}");
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Starts logging to standard error: text for people, JSON for programs. `QLINK_LOG` chooses what.
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_env("QLINK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if is_watched() {
        builder.init();
    } else {
        builder.json().init();
    }
}

/// Reports an error with its causes and chooses the exit code.
pub(crate) fn fail(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("qlink: {error}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some messages tell their cause themselves.
        if !text.ends_with(cause.trim_end()) {
            text.push_str(": ");
            text.push_str(cause.trim_end());
        }
    }
    progress(&text);
    if error.chain().any(|cause| cause.is::<BadConfiguration>()) {
        ExitCode::from(BAD_CONFIGURATION)
    } else {
        ExitCode::from(FAILED)
    }
}
