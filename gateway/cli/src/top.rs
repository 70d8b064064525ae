//! `qlink top`: what a data plane does right now.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use qlink_dataplane::top::{Top, TopSample};
use qlink_io::clock;

use crate::link::Source;
use crate::output::{self, Format};
use crate::table::{grouped, lines};

/// Moves to the first place of a terminal and clears what is behind. Source: ECMA-48 §8.3.21, §8.3.39.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Options of `qlink top`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    source: Source,
    /// Print once and end; also what happens when standard output is no terminal.
    #[arg(long)]
    once: bool,
    /// Milliseconds over which rates are taken.
    #[arg(long, value_name = "MS", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(10..=60_000))]
    interval_ms: u64,
    /// How many sessions and contents to show.
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    rows: u16,
    /// What to print; JSON is one object per interval.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Prints rates until it is interrupted.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (arenas, _link) = options.source.open()?;
    let live = !options.once && std::io::stdout().is_terminal();
    let mut before = TopSample::take(&arenas, clock::now_ns());
    loop {
        std::thread::sleep(Duration::from_millis(options.interval_ms));
        let after = TopSample::take(&arenas, clock::now_ns());
        let top = Top::between(&before, &after, options.rows.into());
        match options.output {
            Format::Json => output::line(&serde_json::to_string(&top)?),
            Format::Table if live => output::line(&format!("{CLEAR}{}", text(&top))),
            Format::Table => output::line(&text(&top)),
        }
        if !live {
            return Ok(());
        }
        before = after;
    }
}

fn text(top: &Top) -> String {
    let number = |value: u64| grouped(&value.to_string());
    let mut out = format!(
        "{} sessions, {} content flows, over {} ms\n\n",
        number(top.sessions.0),
        number(top.flows.0),
        top.interval_ms.0
    );
    let rows = top.workers.iter().map(|row| {
        [
            row.worker,
            row.packets_per_second,
            row.bits_per_second,
            row.drops_per_second,
        ]
        .map(|value| number(value.0))
        .to_vec()
    });
    add(
        &mut out,
        &["worker", ">packets/s", ">bit/s", ">drops/s"],
        &rows.collect::<Vec<_>>(),
    );
    let rows = top.drops.iter().map(|row| {
        let (packets, rate) = (number(row.packets.0), number(row.packets_per_second.0));
        vec![row.reason.to_owned(), rate, packets]
    });
    add(
        &mut out,
        &["dropped for", ">packets/s", ">packets"],
        &rows.collect::<Vec<_>>(),
    );
    let rows = top.top_sessions.iter().map(|row| {
        let (bytes, rate) = (number(row.bytes.0), number(row.bytes_per_second.0));
        vec![row.session.to_string(), row.ue.clone(), rate, bytes]
    });
    add(
        &mut out,
        &["session", "address", ">bytes/s", ">bytes"],
        &rows.collect::<Vec<_>>(),
    );
    let rows = top.top_contents.iter().map(|row| {
        let (bytes, rate) = (number(row.bytes.0), number(row.bytes_per_second.0));
        vec![row.content.to_string(), rate, bytes]
    });
    add(
        &mut out,
        &["content", ">bytes/s", ">bytes"],
        &rows.collect::<Vec<_>>(),
    );
    out.trim_end().to_owned()
}

fn add(out: &mut String, names: &[&str], rows: &[Vec<String>]) {
    if !rows.is_empty() {
        out.push_str(&lines(names, rows));
        out.push('\n');
    }
}
