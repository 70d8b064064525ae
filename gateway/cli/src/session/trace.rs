//! `qlink session trace`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use qlink_pfcp::{
    Answer, MAX_TRACE_PACKETS, MAX_TRACE_SECONDS, Request, TraceOrder, TraceReport, TraceState,
    TraceWriter,
};
use qlink_types::codec::Text;
use qlink_types::ids::SessionId;
use serde_json::json;

use crate::link::Link;
use crate::output::{self, Format};

/// How often the data plane is asked how far it is.
const POLL: Duration = Duration::from_millis(100);

/// Options of `qlink session trace`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The session's id.
    session: SessionId,
    /// Control socket of the data plane.
    #[arg(long, value_name = "SOCKET")]
    dataplane: PathBuf,
    /// File to write, as the data plane sees it; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Stop after this many seconds.
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TRACE_SECONDS)))]
    seconds: u32,
    /// Stop after this many packets.
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=MAX_TRACE_PACKETS))]
    packets: u64,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Traces and waits for the end. The data plane goes on, up to its bounds, when this process ends.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let session = options.session;
    // The data plane's working folder is another one.
    let path = std::path::absolute(&options.out)?;
    let text = path.to_str().and_then(|path| Text::try_from(path).ok());
    let order = TraceOrder {
        session,
        path: text.context("the path is too long or not UTF-8")?,
        packets: options.packets,
        seconds: options.seconds,
    };
    let mut link = Link::connect(&options.dataplane)?;
    let mut report = traced(&link.ask(&Request::Trace { order })?)?;
    if output::is_watched() {
        output::progress(&format!(
            "tracing {session}: up to {} packets or {} s",
            options.packets, options.seconds
        ));
    }
    while report.state == TraceState::Running {
        std::thread::sleep(POLL);
        report = traced(&link.ask(&Request::TraceProgress { session })?)?;
    }
    if report.state == TraceState::Failed {
        bail!(
            "{} could not be written to its end; the data plane's log says why",
            path.display()
        );
    }
    print(&report, &path.display().to_string(), options.output);
    Ok(())
}

fn traced(answer: &Answer) -> anyhow::Result<TraceReport> {
    match answer {
        Answer::Traced { report } => Ok(*report),
        _ => bail!("the data plane answers something else"),
    }
}

fn print(report: &TraceReport, file: &str, format: Format) {
    let writer = match report.writer {
        TraceWriter::Uring => "io_uring",
        TraceWriter::Plain => "plain",
    };
    let TraceReport {
        session,
        packets,
        lost,
        bytes,
        ..
    } = report;
    match format {
        Format::Json => output::line(
            &json!({
                "session": session,
                "file": file,
                "packets": packets.to_string(),
                "lost": lost.to_string(),
                "bytes": bytes.to_string(),
                "writer": writer,
            })
            .to_string(),
        ),
        Format::Table => output::line(&format!(
            "{file}: {packets} packets of {session}, {lost} lost, {bytes} bytes, by {writer}"
        )),
    }
}
