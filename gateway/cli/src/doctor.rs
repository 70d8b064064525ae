//! `qlink doctor`: what this machine lets a data plane use, and how to get the rest.

use std::path::PathBuf;

use clap::Args;
use qlink_dataplane::doctor::{Auto, Backend, auto, backends};
use serde_json::json;

use crate::config;
use crate::output::{self, BadConfiguration, Format};
use crate::table::lines;

/// Options of `qlink doctor`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Say as well what `backend = "auto"` takes for this configuration of a data plane.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Prints one row per packet back end, and what `auto` takes.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let backends = backends();
    let auto = match &options.config {
        Some(file) => {
            let config = config::read(file)?;
            Some(auto(&config).map_err(|error| BadConfiguration(error.into()))?)
        }
        None => None,
    };
    match options.output {
        Format::Json => {
            let mut answer = json!({ "backends": backends });
            if let (Some(auto), Some(answer)) = (auto, answer.as_object_mut()) {
                answer.insert("auto".to_owned(), json!(auto));
            }
            output::line(&answer.to_string());
        }
        Format::Table => {
            output::line(lines(&["back end", "usable", "why", "fix"], &rows(&backends)).trim_end());
            output::line(&auto.map_or_else(
                || {
                    "auto: the first usable one of dpdk, xdp, udp that --config FILE describes"
                        .into()
                },
                |auto| sentence(&auto),
            ));
        }
    }
    Ok(())
}

fn sentence(auto: &Auto) -> String {
    let passed = auto.passed_over.iter();
    let passed = passed.map(|passed| format!("; not {}: {}", passed.backend, passed.why));
    format!("auto: {}{}", auto.backend, passed.collect::<String>())
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
