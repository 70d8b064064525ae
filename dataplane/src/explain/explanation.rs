//! The rows of an explanation, and how they come from a session's counters.

use qlink_content::FlowProof;
use qlink_meter::{FlowSnapshot, SessionSnapshot, SessionState, ViewSnapshot};
use qlink_pfcp::{Payer, RedirectRow, SessionCharges};
use qlink_types::ids::{ContentId, PackageId, SessionId, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::receipt::ByteClasses;
use qlink_types::units::Bytes;
use qlink_wire::protocol;
use serde::Serialize;

use super::words::{Bucket, Cause, PaidBy, cause_of};

/// One bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BucketRow {
    /// Its stable name.
    pub bucket: &'static str,
    /// Its bytes.
    pub bytes: Bytes,
    /// Who pays for them; absent where the bucket is not one of payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paid_by: Option<&'static str>,
    /// Why bytes are in it.
    pub because: &'static str,
}

/// Charged bytes of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseRow {
    /// The stable name.
    pub reason: &'static str,
    /// How many bytes.
    pub bytes: Bytes,
    /// In words.
    pub because: &'static str,
}

/// One content of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContentRow {
    /// Which.
    pub content: ContentId,
    /// Bytes judged against it, by class.
    #[serde(flatten)]
    pub classes: ByteClasses,
}

/// One open content flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowRow {
    /// The server.
    pub remote: String,
    /// The subscriber's port.
    pub ue_port: String,
    /// `proving`; `reset`: compared, but nothing is acknowledged any more; or why all of its payload
    /// is charged now.
    pub standing: &'static str,
    /// Segments that did not match so far; the third demotes the flow.
    pub mismatches: String,
    /// Proven bytes that wait for their acknowledgement.
    pub pending: Bytes,
}

/// One flow that goes to another destination than the subscriber asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedirectedRow {
    /// `tcp`, `udp`, `icmp` or `icmpv6`.
    pub protocol: &'static str,
    /// The subscriber's port, or the identifier of its echo requests.
    pub ue_port: String,
    /// What it asked for.
    pub asked: String,
    /// Where it goes instead.
    pub to: String,
    /// The subscriber's port there; another one where two flows would be one.
    pub port_there: String,
}

/// The sponsor's part of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SponsorRow {
    /// The package.
    pub package: PackageId,
    /// Who is rewarded; zeros: nobody.
    pub viewer: ViewerKey,
    /// Most content bytes it pays for.
    pub limit: Bytes,
    /// What is left of them.
    pub left: Bytes,
    /// Who pays for content that is fetched again: `charge_user` or `free`.
    pub repeat: &'static str,
}

/// All bytes of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The session.
    pub session: SessionId,
    /// `live` or `closed`.
    pub state: &'static str,
    /// The subscriber's address.
    pub ue: String,
    /// Who pays for what is charged: `personal`, `operator` or `nobody`.
    pub payer: &'static str,
    /// Who pays for content.
    pub sponsor: Option<SponsorRow>,
    /// Every bucket, empty ones too.
    pub buckets: Vec<BucketRow>,
    /// The bucket `user_charged` by reason; the sum is the bucket.
    pub user_charged: Vec<CauseRow>,
    /// By content, in the order of the sponsor's list.
    pub contents: Vec<ContentRow>,
    /// Content flows that are open now.
    pub flows: Vec<FlowRow>,
    /// Flows that go to another destination now, as far as the process was asked and they fit into
    /// its answer.
    pub redirects: Vec<RedirectedRow>,
    /// Whether the seven classes sum to the payload that was forwarded.
    pub conserved: bool,
}

impl Explanation {
    /// Explains a session. `charges`: what its process says, if one could be asked.
    #[must_use]
    pub fn new(
        snapshot: &SessionSnapshot,
        views: &[ViewSnapshot],
        flows: &[FlowSnapshot],
        charges: Option<&SessionCharges>,
    ) -> Self {
        let identity = &snapshot.identity;
        let mut own: Vec<&ViewSnapshot> = views
            .iter()
            .filter(|view| view.slot == snapshot.slot)
            .collect();
        own.sort_by_key(|view| view.position);
        Self {
            session: identity.session,
            state: match identity.state {
                SessionState::Live => "live",
                SessionState::Closed => "closed",
            },
            ue: identity.ue.to_string(),
            payer: payer(snapshot).name(),
            sponsor: sponsor(snapshot),
            buckets: buckets(snapshot),
            user_charged: causes(snapshot, charges),
            contents: own
                .into_iter()
                .map(|view| ContentRow {
                    content: view.content,
                    classes: view.classes,
                })
                .collect(),
            flows: flows.iter().filter_map(flow_row).collect(),
            redirects: charges.map_or_else(Vec::new, |charges| {
                charges.redirects.iter().map(redirected_row).collect()
            }),
            conserved: snapshot.usage.classes.is_conserved()
                && snapshot.usage.conservation_violations == 0,
        }
    }
}

const fn payer(snapshot: &SessionSnapshot) -> PaidBy {
    match snapshot.identity.payer {
        Payer::Personal { .. } => PaidBy::Personal,
        Payer::Operator => PaidBy::Operator,
        Payer::Block => PaidBy::Nobody,
    }
}

fn sponsor(snapshot: &SessionSnapshot) -> Option<SponsorRow> {
    let (package, _, viewer, limit, repeat) = snapshot.identity.sponsor?;
    let used = snapshot.usage.classes.verified_unique.get();
    Some(SponsorRow {
        package,
        viewer,
        limit,
        left: Bytes::new(limit.get().saturating_sub(used)),
        repeat: match repeat {
            RepeatPolicy::ChargeUser => "charge_user",
            RepeatPolicy::Free => "free",
        },
    })
}

fn buckets(snapshot: &SessionSnapshot) -> Vec<BucketRow> {
    let usage = &snapshot.usage;
    let classes = &usage.classes;
    let payer = Some(payer(snapshot));
    let repeat = match snapshot.identity.sponsor {
        Some((.., RepeatPolicy::Free)) => Some(PaidBy::Nobody),
        _ => payer,
    };
    let (sponsor, nobody) = (Some(PaidBy::Sponsor), Some(PaidBy::Nobody));
    [
        (Bucket::NetworkUplink, usage.uplink.network_bytes, None),
        (Bucket::NetworkDownlink, usage.downlink.network_bytes, None),
        (Bucket::VerifiedUnique, classes.verified_unique, sponsor),
        (Bucket::Retransmit, classes.retransmit, nobody),
        (Bucket::VerifiedRepeat, classes.verified_repeat, repeat),
        (Bucket::OverheadAllowed, classes.overhead_allowed, nobody),
        (Bucket::Undelivered, classes.undelivered, nobody),
        (Bucket::UserCharged, classes.user_charged, payer),
        (Bucket::Pending, classes.pending, None),
        (
            Bucket::Personal,
            usage.personal_bytes,
            Some(PaidBy::Personal),
        ),
        (Bucket::Uncertain, usage.uncertain_bytes, nobody),
    ]
    .into_iter()
    .map(|(bucket, bytes, paid_by)| BucketRow {
        bucket: bucket.name(),
        bytes,
        paid_by: paid_by.map(PaidBy::name),
        because: bucket.because(),
    })
    .collect()
}

/// The parts of `user_charged`. What its process counted and what it found before its start is
/// named; the rest never was on a content flow.
fn causes(snapshot: &SessionSnapshot, charges: Option<&SessionCharges>) -> Vec<CauseRow> {
    let mut left = snapshot.usage.classes.user_charged.get();
    let mut rows = Vec::new();
    let mut take = |cause: Cause, bytes: u64| {
        // A packet that the sender refused is in its reason and not in the sum.
        let bytes = bytes.min(left);
        left = left.saturating_sub(bytes);
        if bytes > 0 {
            rows.push(CauseRow {
                reason: cause.name(),
                bytes: Bytes::new(bytes),
                because: cause.because(),
            });
        }
    };
    if snapshot.identity.sponsor.is_none() {
        take(Cause::NoSponsor, u64::MAX);
        return rows;
    }
    let Some(charges) = charges else {
        take(Cause::NotRecorded, u64::MAX);
        return rows;
    };
    for row in &charges.rows {
        if let Some(cause) = cause_of(row.reason.as_str()) {
            take(cause, row.bytes.get());
        }
    }
    take(Cause::NotRecorded, charges.before.get());
    take(Cause::NoContentFlow, u64::MAX);
    rows
}

fn flow_row(flow: &FlowSnapshot) -> Option<FlowRow> {
    let proof = FlowProof::from_words(&flow.state).ok()?;
    let key = &flow.identity.key;
    Some(FlowRow {
        remote: std::net::SocketAddr::new(key.remote, key.remote_port).to_string(),
        ue_port: key.ue_port.to_string(),
        standing: match proof.charge() {
            Some(reason) => reason.as_str(),
            None if proof.is_ebbing() => "reset",
            None => "proving",
        },
        mismatches: proof.mismatches().to_string(),
        pending: Bytes::new(proof.pending_bytes()),
    })
}

fn redirected_row(row: &RedirectRow) -> RedirectedRow {
    RedirectedRow {
        protocol: match row.protocol {
            protocol::TCP => "tcp",
            protocol::UDP => "udp",
            protocol::ICMP => "icmp",
            _ => "icmpv6",
        },
        ue_port: row.ue_port.to_string(),
        asked: row.asked.to_string(),
        to: row.to.to_string(),
        port_there: row.port_there.to_string(),
    }
}

#[cfg(test)]
#[path = "explanation_tests.rs"]
mod tests;
