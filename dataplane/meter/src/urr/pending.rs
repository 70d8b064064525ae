//! Reports that wait for their acknowledgement.

use qlink_pfcp::model::{SplitSide, Time, Triggers, UrrId, UsageReport, Volume};

use super::limits::{halves, trigger_bits, triggers_of};

/// Most reports of one rule that wait (chosen: one on its way, one behind it, a usage before a
/// monitoring time, and a place that only the last report may take).
pub const PENDING_MAX: usize = 4;

/// Words of one report.
pub(super) const REPORT_WORDS: usize = 8;

const USED: u32 = 1;
const HELD: u32 = 2;
const BEFORE: u32 = 4;
const AFTER: u32 = 8;
const VOLUME: u32 = 16;
const PACKETS: u32 = 32;
const DURATION: u32 = 64;
const TIMES: u32 = 128;

/// A report as it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingReport {
    pub(super) sequence: u32,
    pub(super) triggers: Triggers,
    /// Start and end in seconds; `None`: a report without usage.
    pub(super) times: Option<(u32, u32)>,
    pub(super) volume: Option<Volume>,
    pub(super) duration: Option<u32>,
    /// First and last packet in seconds; 0: none.
    pub(super) packets_at: (u32, u32),
    pub(super) split: Option<SplitSide>,
    /// It goes out with the next report, not before.
    pub(super) held: bool,
}

impl PendingReport {
    pub(super) fn to_words(self) -> [u64; REPORT_WORDS] {
        let volume = self.volume.unwrap_or_default();
        let (uplink_packets, downlink_packets) = volume.packets.unwrap_or_default();
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let flags = USED
            | flag(self.held, HELD)
            | flag(self.split == Some(SplitSide::Before), BEFORE)
            | flag(self.split == Some(SplitSide::After), AFTER)
            | flag(self.volume.is_some(), VOLUME)
            | flag(volume.packets.is_some(), PACKETS)
            | flag(self.duration.is_some(), DURATION)
            | flag(self.times.is_some(), TIMES);
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (start, end) = self.times.unwrap_or_default();
        [
            pair(self.sequence, trigger_bits(self.triggers)),
            pair(start, end),
            volume.uplink,
            volume.downlink,
            uplink_packets,
            downlink_packets,
            pair(self.duration.unwrap_or(0), flags),
            pair(self.packets_at.0, self.packets_at.1),
        ]
    }

    /// Inverse of [`Self::to_words`]; `None` for an empty place.
    pub(super) fn from_words(words: [u64; REPORT_WORDS]) -> Option<Self> {
        let [head, times, uplink, downlink, up, down, tail, packets_at] = words;
        let (sequence, triggers) = halves(head);
        let (duration, flags) = halves(tail);
        let has = |bit: u32| flags & bit != 0;
        let split = if has(BEFORE) {
            Some(SplitSide::Before)
        } else {
            has(AFTER).then_some(SplitSide::After)
        };
        has(USED).then(|| Self {
            sequence,
            triggers: triggers_of(triggers),
            times: has(TIMES).then(|| halves(times)),
            volume: has(VOLUME).then(|| Volume {
                uplink,
                downlink,
                packets: has(PACKETS).then_some((up, down)),
            }),
            duration: has(DURATION).then_some(duration),
            packets_at: halves(packets_at),
            split,
            held: has(HELD),
        })
    }

    pub(super) fn to_report(self, urr: UrrId) -> UsageReport {
        let at = |seconds: u32| (seconds != 0).then(|| Time::new(seconds.into()));
        UsageReport {
            urr,
            sequence: self.sequence,
            triggers: self.triggers,
            start: self.times.map(|(start, _)| Time::new(start.into())),
            end: self.times.map(|(_, end)| Time::new(end.into())),
            volume: self.volume,
            duration: self.duration,
            first_packet: at(self.packets_at.0),
            last_packet: at(self.packets_at.1),
            split: self.split,
        }
    }
}
