//! `qlink doctor`: what this machine lets a data plane use, and how to get the rest.

use clap::Args;
use qlink_dataplane::doctor::{Backend, backends};
use serde_json::json;

use crate::output::{self, Format};
use crate::table::lines;

/// Options of `qlink doctor`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Prints one row per packet back end.
pub(crate) fn run(options: &Options) {
    let backends = backends();
    match options.output {
        Format::Json => output::line(&json!({ "backends": backends }).to_string()),
        Format::Table => {
            output::line(lines(&["back end", "usable", "why", "fix"], &rows(&backends)).trim_end())
        }
    }
}

fn rows(backends: &[Backend]) -> Vec<Vec<String>> {
    let row = |backend: &Backend| {
        let usable = if backend.usable { "yes" } else { "no" };
        let fix = backend.fix.unwrap_or("-");
        [backend.backend, usable, &backend.why, fix]
            .map(str::to_owned)
            .to_vec()
    };
    backends.iter().map(row).collect()
}
