//! `qlink session explain`.

use anyhow::Context as _;
use clap::Args;
use qlink_dataplane::explain::Explanation;
use qlink_pfcp::{Answer, Request};
use qlink_types::ids::SessionId;

use crate::link::Source;
use crate::output::{self, Format};
use crate::table::{grouped, lines};

/// Options of `qlink session explain`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The session's id.
    session: SessionId,
    #[command(flatten)]
    source: Source,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// Explains a session, closed ones too as long as their counters stand.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let session = options.session;
    let (arenas, link) = options.source.open()?;
    let (reader, snapshot) = arenas
        .worker_of(&session)
        .with_context(|| format!("the data plane has no session {session}"))?;
    let charges = match link {
        None => None,
        Some(mut link) => match link.ask(&Request::Charges { session })? {
            Answer::Charges { charges } => Some(charges),
            _ => None,
        },
    };
    let flows = reader.flows_of(snapshot.slot);
    let explanation = Explanation::new(&snapshot, &reader.views(), &flows, charges.as_ref());
    match options.output {
        Format::Json => output::line(&serde_json::to_string(&explanation)?),
        Format::Table => print(&explanation),
    }
    Ok(())
}

fn print(explanation: &Explanation) {
    let text = |value: &dyn ToString| value.to_string();
    let bytes = |value: &dyn ToString| grouped(&value.to_string());
    output::line(&format!(
        "session  {}  {}  {}  the rest is paid by {}",
        explanation.session, explanation.state, explanation.ue, explanation.payer
    ));
    if let Some(sponsor) = &explanation.sponsor {
        output::line(&format!(
            "sponsor  {}  {} of {} B left, content fetched again: {}",
            sponsor.package,
            bytes(&sponsor.left),
            bytes(&sponsor.limit),
            sponsor.repeat
        ));
    }
    if !explanation.conserved {
        output::line("NOT CONSERVED: the classes do not sum to the payload; report this");
    }
    let rows = explanation.buckets.iter().map(|row| {
        let paid_by = row.paid_by.unwrap_or("-");
        vec![
            text(&row.bucket),
            bytes(&row.bytes),
            text(&paid_by),
            text(&row.because),
        ]
    });
    section(
        &["bucket", ">bytes", "paid by", "because"],
        &rows.collect::<Vec<_>>(),
    );
    let rows = explanation
        .user_charged
        .iter()
        .map(|row| vec![text(&row.reason), bytes(&row.bytes), text(&row.because)]);
    section(
        &["user_charged", ">bytes", "because"],
        &rows.collect::<Vec<_>>(),
    );
    let rows = explanation.contents.iter().map(|row| {
        let classes = &row.classes;
        vec![
            text(&row.content),
            bytes(&classes.verified_unique),
            bytes(&classes.verified_repeat),
            bytes(&classes.user_charged),
            bytes(&classes.pending),
        ]
    });
    let names = ["content", ">unique", ">repeat", ">user_charged", ">pending"];
    section(&names, &rows.collect::<Vec<_>>());
    let rows = explanation.flows.iter().map(|row| {
        vec![
            text(&row.remote),
            text(&row.ue_port),
            text(&row.standing),
            text(&row.mismatches),
            bytes(&row.pending),
        ]
    });
    let names = ["flow to", "ue port", "standing", ">mismatches", ">pending"];
    section(&names, &rows.collect::<Vec<_>>());
    print_redirects(explanation);
}

/// Flows that go elsewhere than they were sent to.
fn print_redirects(explanation: &Explanation) {
    let rows = explanation.redirects.iter().map(|row| {
        vec![
            row.protocol.to_string(),
            row.ue_port.to_string(),
            row.asked.to_string(),
            row.to.to_string(),
            row.port_there.to_string(),
        ]
    });
    let names = [
        "redirected",
        "ue port",
        "asked for",
        "goes to",
        "port there",
    ];
    section(&names, &rows.collect::<Vec<_>>());
}

/// A table behind an empty line; nothing when it has no rows.
fn section(names: &[&str], rows: &[Vec<String>]) {
    if !rows.is_empty() {
        output::line("");
        output::line(lines(names, rows).trim_end());
    }
}
