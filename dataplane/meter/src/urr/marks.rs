//! Marks on the counters: what is reported, from where limits count, and which reports wait.

use qlink_pfcp::model::{Triggers, UrrId, UsageReport};

use super::counters::UrrCounters;
use super::limits::{QuotaStops, UrrLimits, halves, trigger_bits, triggers_of};
use super::pending::{PENDING_MAX, PendingReport, REPORT_WORDS};

/// A place on the counters from which something counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    pub(super) uplink: u64,
    pub(super) downlink: u64,
    pub(super) active_ns: u64,
    pub(super) events: u64,
}

impl Mark {
    pub(super) const fn at(counters: &UrrCounters) -> Self {
        Self {
            uplink: counters.uplink_bytes,
            downlink: counters.downlink_bytes,
            active_ns: counters.active_ns,
            events: counters.events,
        }
    }

    const fn to_words(self) -> [u64; 4] {
        [self.uplink, self.downlink, self.active_ns, self.events]
    }

    const fn from_words([uplink, downlink, active_ns, events]: [u64; 4]) -> Self {
        Self {
            uplink,
            downlink,
            active_ns,
            events,
        }
    }
}

/// Everything of a usage rule that changes rarely; a row of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UrrMarks {
    /// Why packets are stopped.
    pub stops: QuotaStops,
    /// Limits in force.
    pub limits: UrrLimits,
    /// Modifications of the session that the rule has seen.
    pub revision: u64,
    /// Packets came and no inactivity since.
    pub(super) traffic: bool,
    /// The running measurement follows a monitoring time.
    pub(super) after_split: bool,
    /// Monitoring times that have passed.
    pub(super) splits_passed: u8,
    pub(super) next_sequence: u32,
    /// Reports that were due while no place was free.
    pub(super) owed: Triggers,
    /// Reported so far; events are not.
    pub(super) reported: Mark,
    pub(super) reported_packets: (u64, u64),
    /// Start of the running measurement.
    pub(super) since_ns: u64,
    pub(super) threshold_from: Mark,
    pub(super) quota_from: Mark,
    /// Packets and bytes.
    pub(super) dropped_from: (u64, u64),
    /// Next end of a period; 0: none.
    pub(super) period_ns: u64,
    /// When the quota was granted.
    pub(super) granted_ns: u64,
    /// In the order of their numbers, without gaps.
    pub(super) pending: [Option<PendingReport>; PENDING_MAX],
}

/// Words in front of the pending reports.
const HEAD_WORDS: usize = 22 + UrrLimits::WORDS;

impl UrrMarks {
    /// Words of the encoding.
    pub(crate) const WORDS: usize = HEAD_WORDS + PENDING_MAX * REPORT_WORDS;

    /// Reports that wait for an acknowledgement, in order.
    pub fn waiting(&self, urr: UrrId) -> impl Iterator<Item = UsageReport> + '_ {
        self.pending
            .iter()
            .flatten()
            .filter(|report| !report.held)
            .map(move |report| report.to_report(urr))
    }

    /// Bytes up and down that no report covers yet.
    #[must_use]
    pub const fn unreported(&self, counters: &UrrCounters) -> (u64, u64) {
        (
            counters.uplink_bytes.saturating_sub(self.reported.uplink),
            counters
                .downlink_bytes
                .saturating_sub(self.reported.downlink),
        )
    }

    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        let (limits, present) = self.limits.to_words();
        let flags = u64::from(self.stops.bits())
            | u64::from(self.traffic) << 8
            | u64::from(self.after_split) << 9
            | u64::from(self.splits_passed) << 16
            | u64::from(present) << 32;
        let head = [
            flags,
            u64::from(self.next_sequence) | u64::from(trigger_bits(self.owed)) << 32,
            self.revision,
            self.reported_packets.0,
            self.reported_packets.1,
            self.since_ns,
            self.dropped_from.0,
            self.dropped_from.1,
            self.period_ns,
            self.granted_ns,
        ];
        let marks = [self.reported, self.threshold_from, self.quota_from];
        let reports = self
            .pending
            .iter()
            .flat_map(|report| report.map_or([0; REPORT_WORDS], PendingReport::to_words));
        let all = head
            .into_iter()
            .chain(marks.into_iter().flat_map(Mark::to_words))
            .chain(limits)
            .chain(reports);
        let mut words = [0; Self::WORDS];
        for (to, from) in words.iter_mut().zip(all) {
            *to = from;
        }
        words
    }

    pub(crate) fn from_words(words: [u64; Self::WORDS]) -> Self {
        let mut words = words.into_iter();
        let mut next = || words.next().unwrap_or(0);
        let flags = next();
        let (next_sequence, owed) = halves(next());
        let [revision, up, down, since_ns] = std::array::from_fn(|_| next());
        let [packets, bytes, period_ns, granted_ns] = std::array::from_fn(|_| next());
        let mut mark = || Mark::from_words(std::array::from_fn(|_| next()));
        let (reported, threshold_from, quota_from) = (mark(), mark(), mark());
        let limits = std::array::from_fn(|_| next());
        let pending =
            std::array::from_fn(|_| PendingReport::from_words(std::array::from_fn(|_| next())));
        let [stops, bits, splits_passed, _, present @ ..] = flags.to_le_bytes();
        let [low, high, ..] = present;
        Self {
            stops: QuotaStops::from_bits(stops),
            limits: UrrLimits::from_words(limits, u16::from_le_bytes([low, high])),
            revision,
            traffic: bits & 1 == 1,
            after_split: bits >> 1 & 1 == 1,
            splits_passed,
            next_sequence,
            owed: triggers_of(owed),
            reported,
            reported_packets: (up, down),
            since_ns,
            threshold_from,
            quota_from,
            dropped_from: (packets, bytes),
            period_ns,
            granted_ns,
            pending,
        }
    }
}
