//! Gates and bit rates.

use super::ids::{QerId, Qfi};

/// Whether a direction may pass. Source: TS 29.244 §8.2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Gate {
    /// It may.
    #[default]
    Open,
    /// It may not.
    Closed,
}

/// A rate for each direction in kilobits (1000 bits) per second. Source: TS 29.244 §8.2.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BitRate {
    /// Uplink.
    pub uplink_kbps: u64,
    /// Downlink.
    pub downlink_kbps: u64,
}

/// A `QoS` enforcement rule. Rules of one session with the same correlation id share one limit:
/// the session's aggregate (session AMBR) is a rule that several detection rules name.
///
/// Source: TS 29.244 §7.5.2.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Qer {
    /// Its id in the session.
    pub id: QerId,
    /// Correlation id.
    pub correlation: Option<u32>,
    /// Uplink gate.
    pub uplink: Gate,
    /// Downlink gate.
    pub downlink: Gate,
    /// Maximum bit rate of the inner packets.
    pub mbr: Option<BitRate>,
    /// Guaranteed bit rate; stated, admission is the control plane's business.
    pub gbr: Option<BitRate>,
    /// QFI that downlink packets carry in their PDU session container.
    pub qfi: Option<Qfi>,
}

/// What a modification changes in a [`Qer`]; absent parts stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(missing_docs, reason = "the fields of Qer")]
pub struct QerChanges {
    pub id: QerId,
    pub correlation: Option<u32>,
    pub gates: Option<(Gate, Gate)>,
    pub mbr: Option<BitRate>,
    pub gbr: Option<BitRate>,
    pub qfi: Option<Qfi>,
}
