//! `qlink top`: what a data plane does right now.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use qlink_dataplane::top::{Top, TopSample, TunnelRow};
use qlink_io::clock;
use qlink_pfcp::{Answer, Request, TunnelFigures};

use crate::link::{Link, Source};
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
    let (arenas, mut link) = options.source.open()?;
    let mut sample = || {
        let tunnel = link.as_mut().and_then(tunnel_figures);
        TopSample::take(&arenas, clock::now_ns()).with_tunnel(tunnel)
    };
    let live = !options.once && std::io::stdout().is_terminal();
    let mut before = sample();
    loop {
        std::thread::sleep(Duration::from_millis(options.interval_ms));
        let after = sample();
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

/// What a data plane says of its tunnel; nothing where it has none, or ended meanwhile.
fn tunnel_figures(link: &mut Link) -> Option<TunnelFigures> {
    match link.ask(&Request::TunnelFigures) {
        Ok(Answer::TunnelFigures { figures }) => Some(figures),
        _ => None,
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
    if let Some(tunnel) = &top.tunnel {
        add_tunnel(&mut out, tunnel);
    }
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

fn add_tunnel(out: &mut String, tunnel: &TunnelRow) {
    let columns = [
        ("tunnel peers", tunnel.peers),
        (">with keys", tunnel.with_keys),
        (">in/s", tunnel.received_per_second),
        (">out/s", tunnel.sent_per_second),
        (">handshakes", tunnel.handshakes),
        (">renewals", tunnel.renewals),
        (">key changes", tunnel.successions),
        (">roamed", tunnel.roamed),
        (">denied", tunnel.denied),
        (">refused", tunnel.refused),
        (">shed", tunnel.shed),
    ];
    let row = columns.map(|(_, value)| grouped(&value.0.to_string()));
    add(out, &columns.map(|(name, _)| name), &[row.to_vec()]);
}

fn add(out: &mut String, names: &[&str], rows: &[Vec<String>]) {
    if !rows.is_empty() {
        out.push_str(&lines(names, rows));
        out.push('\n');
    }
}
