//! Sessions as the console shows them: every payload byte in its class, with the reason.

use qlink_api::session::{SessionEnd, SessionState, SessionView};
use qlink_types::receipt::{ByteClasses, ReceiptSigner};
use qlink_types::units::Bytes;

use super::figures::{bytes, short};
use super::package::Line;

/// Width of a bar in its own units.
const BAR: u64 = 1000;

/// Classes of payload in the order of [`ByteClasses`], without their sum.
const CLASSES: [&str; 7] = [
    "verified_unique",
    "retransmit",
    "verified_repeat",
    "overhead_allowed",
    "undelivered",
    "user_charged",
    "pending",
];

/// A piece of a bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// Class of bytes, which is its style class too.
    pub class: &'static str,
    /// Where it begins.
    pub x: u64,
    /// How long it is.
    pub width: u64,
}

/// A session in the overview's table.
#[derive(Debug, Clone)]
pub(super) struct SessionRow {
    /// Its id.
    pub id: String,
    /// Its id, shortened.
    pub short: String,
    /// `open` or `closed`.
    pub state: &'static str,
    /// Class of the state's mark.
    pub mark: &'static str,
    /// The sponsoring package.
    pub package: Option<(String, String)>,
    /// The viewer, shortened.
    pub viewer: String,
    /// All payload, then the seven classes it consists of.
    pub classes: Vec<String>,
    /// Bytes that the session's payer pays for.
    pub charged: String,
    /// The classes as a bar.
    pub bar: Vec<Piece>,
}

/// A reason with its bytes.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    /// From the closed list.
    pub reason: String,
    /// Its name in pieces between which a line may break.
    pub pieces: Vec<String>,
    /// How many.
    pub bytes: String,
    /// Who pays.
    pub payer: String,
    /// Why.
    pub explanation: String,
}

/// A session's own page.
#[derive(Debug, Clone)]
pub(super) struct SessionDetail {
    /// As on the overview.
    pub row: SessionRow,
    /// What it is.
    pub lines: Vec<Line>,
    /// A reason for every byte.
    pub reasons: Vec<Reason>,
    /// Whether the classes sum up to the payload.
    pub conserved: bool,
    /// Proven bytes by content.
    pub contents: Vec<(String, String)>,
    /// Receipts: who states what.
    pub receipts: Vec<(&'static str, String)>,
}

fn classes(classes: &ByteClasses) -> [Bytes; 7] {
    [
        classes.verified_unique,
        classes.retransmit,
        classes.verified_repeat,
        classes.overhead_allowed,
        classes.undelivered,
        classes.user_charged,
        classes.pending,
    ]
}

fn bar(of: &ByteClasses) -> Vec<Piece> {
    let parts = classes(of);
    let whole = parts
        .iter()
        .fold(0, |sum: u128, part| sum.saturating_add(part.get().into()));
    let place = |sum: u128| -> u64 {
        let scaled = sum.saturating_mul(BAR.into()).checked_div(whole);
        u64::try_from(scaled.unwrap_or(0)).unwrap_or(BAR)
    };
    let mut sum: u128 = 0;
    let mut pieces = Vec::new();
    for (class, part) in CLASSES.iter().zip(parts) {
        let x = place(sum);
        sum = sum.saturating_add(part.get().into());
        let width = place(sum).saturating_sub(x);
        if width > 0 {
            pieces.push(Piece { class, x, width });
        }
    }
    pieces
}

/// A session's row.
pub(super) fn row(view: &SessionView) -> SessionRow {
    let id = view.session.to_string();
    let (state, mark) = match (view.state, view.ended_by) {
        (SessionState::Open, _) => ("open", "good"),
        (SessionState::Closed, Some(SessionEnd::BasestationDenied)) => ("ended: denied", "bad"),
        (SessionState::Closed, _) => ("closed", "done"),
    };
    let mut columns = vec![bytes(view.classes.wire_payload)];
    columns.extend(classes(&view.classes).map(bytes));
    SessionRow {
        short: short(&id),
        id,
        state,
        mark,
        package: view.package.map(|package| {
            let id = package.to_string();
            (short(&id), id)
        }),
        viewer: match &view.viewer {
            Some(viewer) => short(&viewer.to_string()),
            None => "none".to_owned(),
        },
        classes: columns,
        charged: bytes(view.charged_bytes),
        bar: bar(&view.classes),
    }
}

/// Reasons of a session.
pub(super) fn reasons(view: &SessionView) -> Vec<Reason> {
    view.reasons
        .iter()
        .map(|row| Reason {
            reason: row.reason.clone(),
            pieces: row.reason.split_inclusive('_').map(str::to_owned).collect(),
            bytes: bytes(row.bytes),
            payer: row.payer.clone(),
            explanation: row.explanation.clone(),
        })
        .collect()
}

/// A session's page.
pub(super) fn detail(view: &SessionView) -> SessionDetail {
    let network = |of: Bytes| format!("{} bytes", bytes(of));
    let lines = [
        ("Subscriber address", view.ue_address.clone()),
        ("Tunnel", format!("{}, TEID {}", view.peer, view.teid)),
        ("BaseStation", view.basestation.to_string()),
        ("Uplink network bytes", network(view.uplink_network_bytes)),
        (
            "Downlink network bytes",
            network(view.downlink_network_bytes),
        ),
        (
            "Viewer",
            view.viewer
                .map_or_else(|| "none: nobody is paid".to_owned(), |key| key.to_string()),
        ),
    ];
    SessionDetail {
        row: row(view),
        lines: lines
            .into_iter()
            .map(|(name, value)| Line { name, value })
            .collect(),
        reasons: reasons(view),
        conserved: view.classes.is_conserved(),
        contents: view
            .contents
            .iter()
            .map(|content| {
                (
                    content.content.to_string(),
                    bytes(content.classes.verified_unique),
                )
            })
            .collect(),
        receipts: view
            .receipts
            .iter()
            .map(|signed| match signed.signer {
                ReceiptSigner::Gateway => (
                    "Gateway",
                    format!(
                        "{} content bytes, {} network bytes",
                        bytes(signed.receipt.classes.verified_unique),
                        bytes(sum(&signed.receipt)),
                    ),
                ),
                ReceiptSigner::Viewer => (
                    "Viewer",
                    format!(
                        "{} content bytes",
                        bytes(signed.receipt.classes.verified_unique)
                    ),
                ),
                ReceiptSigner::BaseStation => (
                    "BaseStation",
                    format!("{} network bytes", bytes(sum(&signed.receipt))),
                ),
            })
            .collect(),
    }
}

fn sum(receipt: &qlink_types::receipt::Receipt) -> Bytes {
    Bytes::new(
        receipt
            .uplink_network_bytes
            .get()
            .saturating_add(receipt.downlink_network_bytes.get()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_and_its_pieces_meet() {
        let pieces = bar(&ByteClasses {
            wire_payload: Bytes::new(7),
            verified_unique: Bytes::new(3),
            retransmit: Bytes::new(3),
            user_charged: Bytes::new(1),
            ..ByteClasses::default()
        });

        assert_eq!(pieces.len(), 3);
        let mut end = 0;
        for piece in pieces {
            assert_eq!(piece.x, end);
            end += piece.width;
        }
        assert_eq!(end, BAR);
    }

    #[test]
    fn a_session_without_traffic_has_an_empty_bar() {
        assert_eq!(bar(&ByteClasses::default()), []);
    }
}
