//! What a data plane does right now: rates between two readings of its arenas.
//!
//! Pure but for [`TopSample::take`]; the JSON of a [`Top`] is described by `top.schema.json`.

use std::collections::BTreeMap;

use qlink_meter::{ArenaReader, ArenaSet, SessionState};
use qlink_pfcp::TunnelFigures;
use qlink_types::ids::{ContentId, SessionId};
use serde::{Serialize, Serializer};

/// A number that is a string in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Count(pub u64);

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Counters of one worker at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct WorkerSample {
    packets: u64,
    bytes: u64,
    drops: BTreeMap<&'static str, u64>,
}

impl WorkerSample {
    fn take(reader: &ArenaReader) -> Self {
        let totals = reader.totals();
        Self {
            packets: totals.packets,
            bytes: totals.network_bytes,
            drops: reader.drops(),
        }
    }

    fn dropped(&self) -> u64 {
        let packets = self.drops.values();
        packets.fold(0, |sum, packets| sum.saturating_add(*packets))
    }
}

/// Counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopSample {
    /// Monotonic nanoseconds.
    at_ns: u64,
    /// In the order of their numbers.
    workers: Vec<WorkerSample>,
    /// Live sessions: address and network bytes.
    sessions: BTreeMap<SessionId, (String, u64)>,
    /// Payload of each content over all sessions that stand.
    contents: BTreeMap<ContentId, u64>,
    flows: u64,
    /// What the tunnel did, where there is one that can be asked.
    tunnel: Option<TunnelFigures>,
}

impl TopSample {
    /// Reads the counters at `at_ns`.
    #[must_use]
    pub fn take(arenas: &ArenaSet, at_ns: u64) -> Self {
        let workers = arenas.workers();
        let live = arenas.sessions().into_iter().filter_map(|snapshot| {
            let usage = &snapshot.usage;
            let (up, down) = (&usage.uplink.network_bytes, &usage.downlink.network_bytes);
            let bytes = up.get().saturating_add(down.get());
            let identity = &snapshot.identity;
            (identity.state == SessionState::Live)
                .then(|| (identity.session, (identity.ue.to_string(), bytes)))
        });
        let mut contents: BTreeMap<ContentId, u64> = BTreeMap::new();
        for view in workers.iter().flat_map(ArenaReader::views) {
            let bytes = contents.entry(view.content).or_default();
            *bytes = bytes.saturating_add(view.classes.wire_payload.get());
        }
        Self {
            at_ns,
            workers: workers.iter().map(WorkerSample::take).collect(),
            sessions: live.collect(),
            contents,
            flows: workers
                .iter()
                .fold(0, |sum, of| sum.saturating_add(of.open_flows() as u64)),
            tunnel: None,
        }
    }

    /// The same with what the data plane says of its tunnel.
    #[must_use]
    pub fn with_tunnel(self, tunnel: Option<TunnelFigures>) -> Self {
        Self { tunnel, ..self }
    }

    /// Packets dropped so far by reason, over all workers.
    fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut sum: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (reason, packets) in self.workers.iter().flat_map(|worker| &worker.drops) {
            let entry = sum.entry(reason).or_default();
            *entry = entry.saturating_add(*packets);
        }
        sum
    }
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerRow {
    /// Its number.
    pub worker: Count,
    /// Forwarded packets per second.
    pub packets_per_second: Count,
    /// Forwarded inner IP bits per second.
    pub bits_per_second: Count,
    /// Dropped packets per second.
    pub drops_per_second: Count,
}

/// Drops of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DropRow {
    /// The reason's stable name.
    pub reason: &'static str,
    /// Packets since the arena was made.
    pub packets: Count,
    /// Packets per second.
    pub packets_per_second: Count,
}

/// A session that is among the busiest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRow {
    /// Which.
    pub session: SessionId,
    /// The subscriber's address.
    pub ue: String,
    /// Network bytes so far.
    pub bytes: Count,
    /// Network bytes per second.
    pub bytes_per_second: Count,
}

/// A content that is among the busiest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContentRow {
    /// Which.
    pub content: ContentId,
    /// Payload judged against it so far, in sessions that stand.
    pub bytes: Count,
    /// Payload per second.
    pub bytes_per_second: Count,
}

/// The tunnel, as of its last report: one each second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelRow {
    /// Keys that may come.
    pub peers: Count,
    /// Those of them with traffic keys in use.
    pub with_keys: Count,
    /// GTP-U packets per second that came out.
    pub received_per_second: Count,
    /// GTP-U packets per second that went in.
    pub sent_per_second: Count,
    /// Handshakes since the data plane started.
    pub handshakes: Count,
    /// Those of them that renewed traffic keys in use.
    pub renewals: Count,
    /// Tunnel keys that took another's place.
    pub successions: Count,
    /// Peers heard from another endpoint than before.
    pub roamed: Count,
    /// Calls of keys that were taken out.
    pub denied: Count,
    /// Everything else that was refused.
    pub refused: Count,
    /// What there was no room for.
    pub shed: Count,
}

impl TunnelRow {
    fn between(
        then: Option<&TunnelFigures>,
        now: &TunnelFigures,
        rate: impl Fn(u64, u64) -> Count,
    ) -> Self {
        let then = then.unwrap_or(now);
        Self {
            peers: Count(now.peers),
            with_keys: Count(now.with_keys),
            received_per_second: rate(now.received, then.received),
            sent_per_second: rate(now.sent, then.sent),
            handshakes: Count(now.handshakes),
            renewals: Count(now.renewals),
            successions: Count(now.successions),
            roamed: Count(now.roamed),
            denied: Count(now.denied),
            refused: Count(now.refused),
            shed: Count(now.shed),
        }
    }
}

/// Rates between two moments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Top {
    /// Milliseconds between the moments.
    pub interval_ms: Count,
    /// By worker.
    pub workers: Vec<WorkerRow>,
    /// By reason, the busiest first.
    pub drops: Vec<DropRow>,
    /// Live sessions.
    pub sessions: Count,
    /// Open content flows.
    pub flows: Count,
    /// The busiest sessions first.
    pub top_sessions: Vec<SessionRow>,
    /// The busiest contents first.
    pub top_contents: Vec<ContentRow>,
    /// The tunnel; absent where there is none, or an arena alone is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelRow>,
}

impl Top {
    /// Rates from `before` to `after`, with at most `rows` sessions and contents. Counters of a
    /// session or content that `before` does not know count from zero.
    #[must_use]
    pub fn between(before: &TopSample, after: &TopSample, rows: usize) -> Self {
        let ns = after.at_ns.saturating_sub(before.at_ns).max(1);
        let rate = |now: u64, then: u64| Count(per_second(now.saturating_sub(then), ns));
        let dropped = before.drops();
        let mut drops: Vec<DropRow> = after
            .drops()
            .iter()
            .map(|(reason, packets)| DropRow {
                reason,
                packets: Count(*packets),
                packets_per_second: rate(*packets, dropped.get(reason).copied().unwrap_or(0)),
            })
            .collect();
        drops.sort_by_key(|row| std::cmp::Reverse((row.packets_per_second, row.packets)));
        let worker = |(number, now): (usize, &WorkerSample)| {
            let fresh = WorkerSample::default();
            let then = before.workers.get(number).unwrap_or(&fresh);
            let bits = |bytes: u64| bytes.saturating_mul(8);
            WorkerRow {
                worker: Count(number as u64),
                packets_per_second: rate(now.packets, then.packets),
                bits_per_second: rate(bits(now.bytes), bits(then.bytes)),
                drops_per_second: rate(now.dropped(), then.dropped()),
            }
        };
        Self {
            interval_ms: Count(ns / 1_000_000),
            workers: after.workers.iter().enumerate().map(worker).collect(),
            drops,
            sessions: Count(after.sessions.len() as u64),
            flows: Count(after.flows),
            top_sessions: top_sessions(before, after, rows, rate),
            top_contents: top_contents(before, after, rows, rate),
            tunnel: after
                .tunnel
                .as_ref()
                .map(|now| TunnelRow::between(before.tunnel.as_ref(), now, rate)),
        }
    }
}

/// Rounded down.
fn per_second(count: u64, ns: u64) -> u64 {
    let scaled = u128::from(count).saturating_mul(1_000_000_000);
    let rate = scaled.checked_div(u128::from(ns)).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn top_sessions(
    before: &TopSample,
    after: &TopSample,
    rows: usize,
    rate: impl Fn(u64, u64) -> Count,
) -> Vec<SessionRow> {
    let row = |(session, (ue, bytes)): (&SessionId, &(String, u64))| {
        let then = before.sessions.get(session).map_or(0, |(_, bytes)| *bytes);
        SessionRow {
            session: *session,
            ue: ue.clone(),
            bytes: Count(*bytes),
            bytes_per_second: rate(*bytes, then),
        }
    };
    let mut all: Vec<SessionRow> = after.sessions.iter().map(row).collect();
    all.sort_by_key(|row| std::cmp::Reverse((row.bytes_per_second, row.bytes)));
    all.truncate(rows);
    all
}

fn top_contents(
    before: &TopSample,
    after: &TopSample,
    rows: usize,
    rate: impl Fn(u64, u64) -> Count,
) -> Vec<ContentRow> {
    let row = |(content, bytes): (&ContentId, &u64)| ContentRow {
        content: *content,
        bytes: Count(*bytes),
        bytes_per_second: rate(*bytes, before.contents.get(content).copied().unwrap_or(0)),
    };
    let mut all: Vec<ContentRow> = after.contents.iter().map(row).collect();
    all.sort_by_key(|row| std::cmp::Reverse((row.bytes_per_second, row.bytes)));
    all.truncate(rows);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ns: u64, sessions: &[(u8, u64)]) -> TopSample {
        let sessions = sessions
            .iter()
            .map(|(number, bytes)| (SessionId::new([*number; 16]), (String::new(), *bytes)));
        TopSample {
            at_ns,
            workers: vec![
                WorkerSample {
                    packets: at_ns / 1_000,
                    bytes: at_ns / 10,
                    drops: BTreeMap::from([("teid_unknown", at_ns / 1_000_000), ("too_long", 3)]),
                },
                WorkerSample {
                    packets: at_ns / 2_000,
                    bytes: 0,
                    drops: BTreeMap::from([("teid_unknown", at_ns / 500_000)]),
                },
            ],
            sessions: sessions.collect(),
            contents: BTreeMap::new(),
            flows: 2,
            tunnel: None,
        }
    }

    #[test]
    fn rates_are_differences_per_second_and_the_busiest_come_first() {
        let before = sample(0, &[(1, 500), (2, 0)]);
        let after = sample(2_000_000_000, &[(1, 600), (2, 4_000), (3, 1_000)]);

        let top = Top::between(&before, &after, 2);

        assert_eq!(top.interval_ms, Count(2_000));
        let worker = &top.workers[0];
        assert_eq!(worker.packets_per_second, Count(1_000_000));
        assert_eq!(worker.bits_per_second, Count(800_000_000));
        assert_eq!(worker.drops_per_second, Count(1_000));
        let second = &top.workers[1];
        assert_eq!(second.worker, Count(1));
        assert_eq!(second.packets_per_second, Count(500_000));
        assert_eq!(second.drops_per_second, Count(2_000));
        let rates: Vec<u64> = top
            .top_sessions
            .iter()
            .map(|row| row.bytes_per_second.0)
            .collect();
        assert_eq!(rates, [2_000, 500]);
        assert_eq!(top.drops[0].reason, "teid_unknown");
        assert_eq!(top.drops[0].packets_per_second, Count(3_000));
        assert_eq!(top.drops[1].packets_per_second, Count(0));
        assert_eq!(top.sessions, Count(3));
    }

    #[test]
    fn a_tunnel_has_rates_of_packets_and_sums_of_what_happened() {
        let figures = |received, denied| {
            Some(TunnelFigures {
                received,
                denied,
                ..TunnelFigures::default()
            })
        };
        let before = sample(0, &[]).with_tunnel(figures(10, 1));
        let after = sample(2_000_000_000, &[]).with_tunnel(figures(30, 4));

        let tunnel = Top::between(&before, &after, 5).tunnel.unwrap();

        assert_eq!(tunnel.received_per_second, Count(10));
        assert_eq!(tunnel.denied, Count(4));
        assert_eq!(Top::between(&before, &sample(1, &[]), 5).tunnel, None);
    }

    #[test]
    fn counters_that_began_again_give_no_absurd_rate() {
        let before = sample(1_000_000_000, &[(1, 500)]);
        let after = sample(2_000_000_000, &[(1, 3)]);

        let top = Top::between(&before, &after, 5);

        assert_eq!(top.top_sessions[0].bytes_per_second, Count(0));
    }
}
