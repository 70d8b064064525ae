//! The counters of a session as plain numbers.

use qlink_pfcp::{SessionUsage, VolumeMeasurement};
use qlink_types::receipt::ByteClasses;
use qlink_types::units::Bytes;

/// What a session's packets count once they have left, and what kills left uncertain. Its
/// `charged` bytes are wire payload and `user_charged` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    pub(crate) uplink_bytes: u64,
    pub(crate) uplink_packets: u64,
    pub(crate) downlink_bytes: u64,
    pub(crate) downlink_packets: u64,
    pub(crate) charged: u64,
    /// The part of `charged` that the personal payer was billed.
    pub(crate) personal: u64,
    pub(crate) uncertain: u64,
}

impl Traffic {
    /// Words of the encoding.
    pub(crate) const WORDS: usize = 7;

    #[inline]
    pub(crate) const fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.uplink_bytes,
            self.uplink_packets,
            self.downlink_bytes,
            self.downlink_packets,
            self.charged,
            self.personal,
            self.uncertain,
        ]
    }

    #[inline]
    pub(crate) const fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [
            uplink_bytes,
            uplink_packets,
            downlink_bytes,
            downlink_packets,
            charged,
            personal,
            uncertain,
        ] = words;
        Self {
            uplink_bytes,
            uplink_packets,
            downlink_bytes,
            downlink_packets,
            charged,
            personal,
            uncertain,
        }
    }
}

/// What is proven in a session's content flows: every class of their payload, what the personal
/// payer was billed at once, and how often a conservation law was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the fields of SessionUsage and ByteClasses, as words"
)]
pub struct Proven {
    pub wire_payload: u64,
    pub verified_unique: u64,
    pub retransmit: u64,
    pub verified_repeat: u64,
    pub overhead_allowed: u64,
    pub undelivered: u64,
    pub user_charged: u64,
    pub pending: u64,
    pub personal: u64,
    pub violations: u64,
}

impl Proven {
    /// Words of the encoding.
    pub(crate) const WORDS: usize = 10;

    #[inline]
    pub(crate) const fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.wire_payload,
            self.verified_unique,
            self.retransmit,
            self.verified_repeat,
            self.overhead_allowed,
            self.undelivered,
            self.user_charged,
            self.pending,
            self.personal,
            self.violations,
        ]
    }

    #[inline]
    pub(crate) const fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [
            wire_payload,
            verified_unique,
            retransmit,
            verified_repeat,
            overhead_allowed,
            undelivered,
            user_charged,
            pending,
            personal,
            violations,
        ] = words;
        Self {
            wire_payload,
            verified_unique,
            retransmit,
            verified_repeat,
            overhead_allowed,
            undelivered,
            user_charged,
            pending,
            personal,
            violations,
        }
    }

    /// The payload classes.
    #[must_use]
    pub const fn classes(&self) -> ByteClasses {
        ByteClasses {
            wire_payload: Bytes::new(self.wire_payload),
            verified_unique: Bytes::new(self.verified_unique),
            retransmit: Bytes::new(self.retransmit),
            verified_repeat: Bytes::new(self.verified_repeat),
            overhead_allowed: Bytes::new(self.overhead_allowed),
            undelivered: Bytes::new(self.undelivered),
            user_charged: Bytes::new(self.user_charged),
            pending: Bytes::new(self.pending),
        }
    }
}

/// Cumulative counters of one session, in bytes and packets. See [`SessionUsage`] for meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    missing_docs,
    reason = "the fields of SessionUsage and ByteClasses, as words"
)]
pub struct Usage {
    pub uplink_bytes: u64,
    pub uplink_packets: u64,
    pub downlink_bytes: u64,
    pub downlink_packets: u64,
    pub wire_payload: u64,
    pub verified_unique: u64,
    pub retransmit: u64,
    pub verified_repeat: u64,
    pub overhead_allowed: u64,
    pub undelivered: u64,
    pub user_charged: u64,
    pub pending: u64,
    pub personal: u64,
    pub uncertain: u64,
    pub violations: u64,
}

impl Usage {
    /// Words of the encoding in versions 1 and 2 of the layout.
    pub(crate) const WORDS: usize = 15;

    /// All counters of a session.
    #[inline]
    pub(crate) const fn sum(traffic: &Traffic, proven: &Proven) -> Self {
        Self {
            uplink_bytes: traffic.uplink_bytes,
            uplink_packets: traffic.uplink_packets,
            downlink_bytes: traffic.downlink_bytes,
            downlink_packets: traffic.downlink_packets,
            wire_payload: proven.wire_payload.saturating_add(traffic.charged),
            verified_unique: proven.verified_unique,
            retransmit: proven.retransmit,
            verified_repeat: proven.verified_repeat,
            overhead_allowed: proven.overhead_allowed,
            undelivered: proven.undelivered,
            user_charged: proven.user_charged.saturating_add(traffic.charged),
            pending: proven.pending,
            personal: proven.personal.saturating_add(traffic.personal),
            uncertain: traffic.uncertain,
            violations: proven.violations,
        }
    }

    /// The parts whose [`Self::sum`] this is; what was charged counts as proven to be.
    pub(crate) const fn split(&self) -> (Traffic, Proven) {
        let traffic = Traffic {
            uplink_bytes: self.uplink_bytes,
            uplink_packets: self.uplink_packets,
            downlink_bytes: self.downlink_bytes,
            downlink_packets: self.downlink_packets,
            charged: 0,
            personal: 0,
            uncertain: self.uncertain,
        };
        let proven = Proven {
            wire_payload: self.wire_payload,
            verified_unique: self.verified_unique,
            retransmit: self.retransmit,
            verified_repeat: self.verified_repeat,
            overhead_allowed: self.overhead_allowed,
            undelivered: self.undelivered,
            user_charged: self.user_charged,
            pending: self.pending,
            personal: self.personal,
            violations: self.violations,
        };
        (traffic, proven)
    }

    pub(crate) const fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [
            uplink_bytes,
            uplink_packets,
            downlink_bytes,
            downlink_packets,
            wire_payload,
            verified_unique,
            retransmit,
            verified_repeat,
            overhead_allowed,
            undelivered,
            user_charged,
            pending,
            personal,
            uncertain,
            violations,
        ] = words;
        Self {
            uplink_bytes,
            uplink_packets,
            downlink_bytes,
            downlink_packets,
            wire_payload,
            verified_unique,
            retransmit,
            verified_repeat,
            overhead_allowed,
            undelivered,
            user_charged,
            pending,
            personal,
            uncertain,
            violations,
        }
    }

    /// The payload classes.
    #[must_use]
    pub const fn classes(&self) -> ByteClasses {
        ByteClasses {
            wire_payload: Bytes::new(self.wire_payload),
            verified_unique: Bytes::new(self.verified_unique),
            retransmit: Bytes::new(self.retransmit),
            verified_repeat: Bytes::new(self.verified_repeat),
            overhead_allowed: Bytes::new(self.overhead_allowed),
            undelivered: Bytes::new(self.undelivered),
            user_charged: Bytes::new(self.user_charged),
            pending: Bytes::new(self.pending),
        }
    }

    /// As the control messages carry it, without contents.
    #[must_use]
    pub fn to_session_usage(self) -> SessionUsage {
        SessionUsage {
            uplink: VolumeMeasurement {
                network_bytes: Bytes::new(self.uplink_bytes),
                packets: self.uplink_packets,
            },
            downlink: VolumeMeasurement {
                network_bytes: Bytes::new(self.downlink_bytes),
                packets: self.downlink_packets,
            },
            classes: self.classes(),
            personal_bytes: Bytes::new(self.personal),
            uncertain_bytes: Bytes::new(self.uncertain),
            conservation_violations: self.violations,
            ..SessionUsage::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_own_field() {
        let traffic: [u64; Traffic::WORDS] = std::array::from_fn(|index| index as u64 + 1);
        let proven: [u64; Proven::WORDS] = std::array::from_fn(|index| index as u64 + 1);

        assert_eq!(Traffic::from_words(traffic).to_words(), traffic);
        assert_eq!(Proven::from_words(proven).to_words(), proven);
    }

    #[test]
    fn what_was_one_row_is_the_sum_of_its_parts() {
        let usage = Usage::from_words(std::array::from_fn(|index| index as u64 + 1));

        let (traffic, proven) = usage.split();

        assert_eq!(Usage::sum(&traffic, &proven), usage);
        let all = [usage.uplink_bytes, usage.user_charged, usage.violations];
        assert_eq!(all, [1, 11, 15]);
    }
}
