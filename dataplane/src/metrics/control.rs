//! What the control thread and the exporters count.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use qlink_io::probe::BackEnd;
use qlink_pfcp::node::{Node, Note};
use qlink_pfcp::wire::Datagram;
use qlink_pfcp::{Answer, Cause};

use super::TunnelMetrics;
use crate::paths::PathCounts;

/// Which journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JournalName {
    /// Requests of gateways.
    Control,
    /// Records of the PFCP node.
    Pfcp,
}

impl JournalName {
    const ALL: [Self; 2] = [Self::Control, Self::Pfcp];

    const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Pfcp => "pfcp",
        }
    }
}

/// Counters of the control side; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct ControlMetrics {
    back_ends: IntGaugeVec,
    requests: IntCounterVec,
    journal_errors: IntCounterVec,
    pub(crate) ipfix_sent: IntCounter,
    pub(crate) ipfix_lost: IntCounter,
    pub(crate) pfcp: PfcpMetrics,
    pub(crate) paths: PathMetrics,
    pub(crate) tunnel: TunnelMetrics,
}

impl ControlMetrics {
    /// Registers every family; those of closed lists begin at zero.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = Family(registry);
        let back_ends = family.gauges(
            "back_end",
            "1: the back end that carries the interface.",
            &["interface", "back_end"],
        )?;
        let requests = family.counters(
            "requests",
            "Requests over the control socket, by what came of them.",
            &["result"],
        )?;
        let journal_errors = family.counters(
            "journal_errors",
            "Times that a journal could not be written.",
            &["journal"],
        )?;
        let ipfix = family.counters(
            "ipfix_messages",
            "IPFIX messages, by whether the system took them.",
            &["result"],
        )?;
        let causes = Cause::ALL.iter().map(|cause| cause.name());
        for result in ["done"].into_iter().chain(causes) {
            requests.with_label_values(&[result]);
        }
        for journal in JournalName::ALL {
            journal_errors.with_label_values(&[journal.name()]);
        }
        Ok(Self {
            back_ends,
            requests,
            journal_errors,
            ipfix_sent: ipfix.with_label_values(&["sent"]),
            ipfix_lost: ipfix.with_label_values(&["lost"]),
            pfcp: PfcpMetrics::register(&family)?,
            paths: PathMetrics::register(&family)?,
            tunnel: TunnelMetrics::register(&family)?,
        })
    }

    /// What carries N3 and, where there is one, N6.
    pub(crate) fn carried_by(&self, n3: BackEnd, n6: Option<BackEnd>) {
        for (interface, back_end) in [("n3", Some(n3)), ("n6", n6)] {
            if let Some(back_end) = back_end {
                let labels = [interface, back_end.name()];
                self.back_ends.with_label_values(&labels).set(1);
            }
        }
    }

    /// A request of a gateway was answered.
    pub(crate) fn answered(&self, answer: &Answer) {
        let result = match answer {
            Answer::Refused { refusal } => refusal.cause.name(),
            _ => "done",
        };
        self.requests.with_label_values(&[result]).inc();
    }

    /// A journal could not be written.
    pub(crate) fn journal_failed(&self, journal: JournalName) {
        self.journal_errors
            .with_label_values(&[journal.name()])
            .inc();
    }
}

/// Makes and registers families whose names begin alike.
pub(super) struct Family<'a>(&'a Registry);

impl Family<'_> {
    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let name = format!("qlink_dataplane_{name}_total");
        let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let metric = IntGauge::new(format!("qlink_dataplane_{name}"), help)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let name = format!("qlink_dataplane_{name}");
        let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

/// What the watch over paths counts; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct PathMetrics {
    standing: IntGaugeVec,
    unwatched: IntGauge,
    echoes: IntCounterVec,
    changes: IntCounterVec,
}

impl PathMetrics {
    fn register(family: &Family<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            standing: family.gauges(
                "paths",
                "GTP-U peers that are watched, by whether they answer.",
                &["state"],
            )?,
            unwatched: family.gauge(
                "paths_unwatched_sessions",
                "Sessions whose peer finds no room among those that are watched.",
            )?,
            echoes: family.counters(
                "path_echoes",
                "Echo requests: asked, answered, missed at a time-out; and stray answers.",
                &["event"],
            )?,
            changes: family.counters(
                "path_changes",
                "Times that a path failed or came back.",
                &["change"],
            )?,
        })
    }

    /// How many paths stand and have failed, and everything that happened to them so far.
    pub(crate) fn stand(&self, (answering, failed): (usize, usize), counts: PathCounts) {
        for (state, paths) in [("answering", answering), ("failed", failed)] {
            let paths = i64::try_from(paths).unwrap_or(i64::MAX);
            self.standing.with_label_values(&[state]).set(paths);
        }
        for (event, count) in [
            ("asked", counts.asked),
            ("answered", counts.answered),
            ("missed", counts.missed),
            ("stray", counts.stray),
        ] {
            raise(&self.echoes.with_label_values(&[event]), count);
        }
        for (change, count) in [("failed", counts.failed), ("recovered", counts.recovered)] {
            raise(&self.changes.with_label_values(&[change]), count);
        }
    }

    /// Sessions whose peer is not watched.
    pub(crate) fn unwatched(&self, sessions: u64) {
        self.unwatched
            .set(i64::try_from(sessions).unwrap_or(i64::MAX));
    }
}

/// Brings a counter up to a count that only grows.
pub(super) fn raise(metric: &IntCounter, count: u64) {
    metric.inc_by(count.saturating_sub(metric.get()));
}

/// What the PFCP endpoint counts; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct PfcpMetrics {
    messages: IntCounterVec,
    answers: IntCounterVec,
    notes: IntCounterVec,
    associations: IntGauge,
    sessions: IntGauge,
}

impl PfcpMetrics {
    fn register(family: &Family<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            messages: family.counters(
                "pfcp_messages",
                "PFCP messages by type; requests sent again count each time.",
                &["direction", "type"],
            )?,
            answers: family.counters(
                "pfcp_answers",
                "PFCP answers by type and cause.",
                &["direction", "type", "cause"],
            )?,
            notes: family.counters(
                "pfcp_notes",
                "What the PFCP node noticed: refused peers, repetitions, full tables, ...",
                &["note"],
            )?,
            associations: family.gauge(
                "pfcp_associations",
                "Control planes that have an association.",
            )?,
            sessions: family.gauge(
                "pfcp_sessions",
                "Sessions of control planes, those that are about to end too.",
            )?,
        })
    }

    /// A datagram came.
    pub(crate) fn received(&self, datagram: &[u8]) {
        self.count("received", datagram);
    }

    /// A datagram leaves.
    pub(crate) fn sent(&self, datagram: &[u8]) {
        self.count("sent", datagram);
    }

    fn count(&self, direction: &str, datagram: &[u8]) {
        for message in Datagram::new(datagram).map_while(Result::ok) {
            let kind = message.kind.name().unwrap_or("UNKNOWN");
            let kind = kind.to_ascii_lowercase();
            self.messages.with_label_values(&[direction, &kind]).inc();
            if let Some(cause) = message.cause() {
                let cause = cause.name().unwrap_or("unknown");
                let cause = cause.to_ascii_lowercase().replace([' ', '-'], "_");
                self.answers
                    .with_label_values(&[direction, &kind, &cause])
                    .inc();
            }
        }
    }

    /// The node noticed something.
    pub(crate) fn noted(&self, note: &Note) {
        self.notes.with_label_values(&[note.name()]).inc();
    }

    /// What the node has now.
    pub(crate) fn stands(&self, node: &Node) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.associations.set(count(node.associations().count()));
        self.sessions.set(count(node.session_count()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_by_type_and_answers_by_cause_whatever_a_stranger_sends() {
        let registry = Registry::new();
        let metrics = ControlMetrics::register(&registry).unwrap();
        let heartbeat = [0x20, 1, 0, 12, 0, 0, 1, 0, 0, 96, 0, 4, 0, 0, 0, 1];
        let mandatory_missing = [0x20, 6, 0, 9, 0, 0, 1, 0, 0, 19, 0, 1, 66];
        let cut = [0x20, 6, 0, 8, 0, 0, 1, 0, 0, 19, 0, 1];

        metrics.pfcp.received(&heartbeat);
        metrics.pfcp.sent(&mandatory_missing);
        metrics.pfcp.received(&[0x20, 200, 0, 4, 0, 0, 1, 0]);
        metrics.pfcp.received(&cut);
        metrics.pfcp.received(b"no PFCP");

        let encoder = prometheus::TextEncoder::new();
        let text = encoder.encode_to_string(&registry.gather()).unwrap();
        for line in [
            "pfcp_messages_total{direction=\"received\",type=\"heartbeat_request\"} 1",
            "pfcp_messages_total{direction=\"received\",type=\"unknown\"} 1",
            "pfcp_messages_total{direction=\"received\",type=\"association_setup_response\"} 1",
            "pfcp_answers_total{cause=\"mandatory_ie_missing\",direction=\"sent\",\
             type=\"association_setup_response\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert_eq!(
            text.matches("qlink_dataplane_pfcp_answers_total{").count(),
            1
        );
    }
}
