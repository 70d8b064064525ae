//! The counters of a session as plain numbers.

use qlink_pfcp::{SessionUsage, VolumeMeasurement};
use qlink_types::receipt::ByteClasses;
use qlink_types::units::Bytes;

use crate::record::StageSink;

/// Cumulative counters of one session, in bytes and packets. See [`SessionUsage`] for meanings.
/// Aligned so that it lies on two cache lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(align(64))]
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
    /// Words of the encoding.
    pub(crate) const WORDS: usize = 15;

    #[inline]
    pub(crate) fn encode(&self, sink: &mut StageSink<'_>) {
        sink.put_all(self.to_words());
    }

    #[inline]
    pub(crate) const fn to_words(self) -> [u64; Self::WORDS] {
        [
            self.uplink_bytes,
            self.uplink_packets,
            self.downlink_bytes,
            self.downlink_packets,
            self.wire_payload,
            self.verified_unique,
            self.retransmit,
            self.verified_repeat,
            self.overhead_allowed,
            self.undelivered,
            self.user_charged,
            self.pending,
            self.personal,
            self.uncertain,
            self.violations,
        ]
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
        let words: [u64; Usage::WORDS] = std::array::from_fn(|index| index as u64 + 1);

        assert_eq!(Usage::from_words(words).to_words(), words);
    }
}
