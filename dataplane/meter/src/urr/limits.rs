//! Thresholds and quotas that hold at the moment, and why a rule has stopped.

use qlink_pfcp::model::{Trigger, Triggers, Urr, VolumeLimit};

/// Why packets of a usage rule are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaStop {
    /// The volume quota is used up.
    Volume,
    /// The time quota is used up.
    Time,
    /// The event quota is used up.
    Event,
    /// No packet came for the quota holding time.
    Holding,
    /// The quota is no longer valid.
    Validity,
}

impl QuotaStop {
    /// The trigger of the report that says so.
    #[must_use]
    pub const fn trigger(self) -> Trigger {
        match self {
            Self::Volume => Trigger::VolumeQuota,
            Self::Time => Trigger::TimeQuota,
            Self::Event => Trigger::EventQuota,
            Self::Holding => Trigger::QuotaHolding,
            Self::Validity => Trigger::QuotaValidity,
        }
    }
}

/// A set of [`QuotaStop`]s; packets pass while it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaStops(u8);

impl QuotaStops {
    /// Whether `stop` is in it.
    #[must_use]
    pub const fn has(self, stop: QuotaStop) -> bool {
        self.0 >> stop as u8 & 1 == 1
    }

    /// Whether packets pass.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn add(&mut self, stop: QuotaStop) {
        self.0 |= 1 << stop as u8;
    }

    pub(super) const fn remove(&mut self, stop: QuotaStop) {
        self.0 &= !(1 << stop as u8);
    }

    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x1f)
    }
}

/// The limits in force: those of the rule, or those that follow a monitoring time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields of Urr")]
pub struct UrrLimits {
    pub volume_threshold: Option<VolumeLimit>,
    pub volume_quota: Option<VolumeLimit>,
    pub time_threshold: Option<u32>,
    pub time_quota: Option<u32>,
    pub event_threshold: Option<u32>,
    pub event_quota: Option<u32>,
}

impl UrrLimits {
    pub(crate) const WORDS: usize = 8;

    pub(super) const fn of(rule: &Urr) -> Self {
        Self {
            volume_threshold: rule.volume_threshold,
            volume_quota: rule.volume_quota,
            time_threshold: rule.time_threshold,
            time_quota: rule.time_quota,
            event_threshold: rule.event_threshold,
            event_quota: rule.event_quota,
        }
    }

    /// Whether any quota is granted.
    pub(super) const fn has_quota(&self) -> bool {
        self.volume_quota.is_some() || self.time_quota.is_some() || self.event_quota.is_some()
    }

    /// The words, and a bit for each that is present.
    pub(super) fn to_words(self) -> ([u64; Self::WORDS], u16) {
        let threshold = self.volume_threshold.unwrap_or_default();
        let quota = self.volume_quota.unwrap_or_default();
        let present = [
            self.volume_threshold.is_some(),
            threshold.total.is_some(),
            threshold.uplink.is_some(),
            threshold.downlink.is_some(),
            self.volume_quota.is_some(),
            quota.total.is_some(),
            quota.uplink.is_some(),
            quota.downlink.is_some(),
            self.time_threshold.is_some(),
            self.time_quota.is_some(),
            self.event_threshold.is_some(),
            self.event_quota.is_some(),
        ];
        let bits = present.iter().zip(0..).fold(0_u16, |bits, (there, place)| {
            bits | u16::from(*there) << place
        });
        let pair = |low: Option<u32>, high: Option<u32>| {
            u64::from(low.unwrap_or(0)) | u64::from(high.unwrap_or(0)) << 32
        };
        let words = [
            threshold.total.unwrap_or(0),
            threshold.uplink.unwrap_or(0),
            threshold.downlink.unwrap_or(0),
            quota.total.unwrap_or(0),
            quota.uplink.unwrap_or(0),
            quota.downlink.unwrap_or(0),
            pair(self.time_threshold, self.time_quota),
            pair(self.event_threshold, self.event_quota),
        ];
        (words, bits)
    }

    /// Inverse of [`Self::to_words`].
    pub(super) fn from_words(words: [u64; Self::WORDS], bits: u16) -> Self {
        let there = |place: u16| bits >> place & 1 == 1;
        let [t0, t1, t2, q0, q1, q2, times, events] = words;
        let volume = |first: u16, [total, uplink, downlink]: [u64; 3]| {
            there(first).then(|| VolumeLimit {
                total: there(first.saturating_add(1)).then_some(total),
                uplink: there(first.saturating_add(2)).then_some(uplink),
                downlink: there(first.saturating_add(3)).then_some(downlink),
            })
        };
        let (time_threshold, time_quota) = halves(times);
        let (event_threshold, event_quota) = halves(events);
        Self {
            volume_threshold: volume(0, [t0, t1, t2]),
            volume_quota: volume(4, [q0, q1, q2]),
            time_threshold: there(8).then_some(time_threshold),
            time_quota: there(9).then_some(time_quota),
            event_threshold: there(10).then_some(event_threshold),
            event_quota: there(11).then_some(event_quota),
        }
    }
}

/// Lower and upper half of a word.
#[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
pub(super) const fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// Whether a limit is reached by these volumes.
pub(super) fn reached(limit: &VolumeLimit, uplink: u64, downlink: u64) -> bool {
    let at = |bound: Option<u64>, volume: u64| bound.is_some_and(|bound| volume >= bound);
    at(limit.total, uplink.saturating_add(downlink))
        || at(limit.uplink, uplink)
        || at(limit.downlink, downlink)
}

/// Whether a limit would be passed by these volumes.
#[inline]
pub(super) fn passed(limit: &VolumeLimit, uplink: u64, downlink: u64) -> bool {
    let beyond = |bound: Option<u64>, volume: u64| bound.is_some_and(|bound| volume > bound);
    beyond(limit.total, uplink.saturating_add(downlink))
        || beyond(limit.uplink, uplink)
        || beyond(limit.downlink, downlink)
}

/// A set of triggers as bits.
pub(super) fn trigger_bits(triggers: Triggers) -> u32 {
    triggers
        .iter()
        .fold(0, |bits, trigger| bits | 1 << trigger as u32)
}

/// Inverse of [`trigger_bits`].
pub(super) fn triggers_of(bits: u32) -> Triggers {
    Trigger::ALL
        .iter()
        .filter(|trigger| bits >> **trigger as u32 & 1 == 1)
        .fold(Triggers::NONE, |set, trigger| set.with(*trigger))
}

/// Both sets together.
pub(super) fn union(left: Triggers, right: Triggers) -> Triggers {
    right.iter().fold(left, Triggers::with)
}
