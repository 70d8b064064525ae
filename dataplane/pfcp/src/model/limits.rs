//! How large a session may become.

use crate::rules::MAX_CONTENTS;

/// Most detection rules of a session (chosen: two directions of the 64 `QoS` flows that a PDU
/// session can have).
pub const MAX_PDRS: usize = 128;

/// Most forwarding rules of a session (chosen: one for each detection rule).
pub const MAX_FARS: usize = MAX_PDRS;

/// Most copies that are made of a packet (chosen: one for each of the agencies that may listen to a
/// subscriber at once, and each costs as much as the packet).
pub const MAX_DUPLICATIONS: usize = 4;

/// Most usage rules of a session (chosen: one for each `QoS` flow; each holds counters).
pub const MAX_URRS: usize = 64;

/// Most `QoS` rules of a session (chosen: one for each `QoS` flow and some shared ones).
pub const MAX_QERS: usize = 80;

/// Most buffering rules of a session (chosen: one is usual; each holds a queue).
pub const MAX_BARS: usize = 8;

/// Most filters of a detection rule (chosen: the most packet filters that a `QoS` rule of a
/// subscriber carries, TS 24.501 §9.11.4.13).
pub const MAX_FILTERS: usize = 16;

/// Most usage rules or `QoS` rules that one detection rule names (chosen: each costs time with
/// every packet).
pub const MAX_RULES_OF_PDR: usize = 16;

/// Most usage rules that one usage rule is linked to.
pub const MAX_LINKED: usize = 16;

/// Most monitoring times of a usage rule (chosen: tariffs change a few times a day).
pub const MAX_SPLITS: usize = 8;

/// Bounds of one session; each exceeded one is answered with `no_resources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelLimits {
    /// Detection rules.
    pub pdrs: usize,
    /// Forwarding rules.
    pub fars: usize,
    /// Usage rules.
    pub urrs: usize,
    /// `QoS` rules.
    pub qers: usize,
    /// Buffering rules.
    pub bars: usize,
    /// Filters of a detection rule.
    pub filters: usize,
    /// Contents of a detection rule.
    pub contents: usize,
    /// Monitoring times of a usage rule.
    pub splits: usize,
}

impl Default for ModelLimits {
    fn default() -> Self {
        Self {
            pdrs: MAX_PDRS,
            fars: MAX_FARS,
            urrs: MAX_URRS,
            qers: MAX_QERS,
            bars: MAX_BARS,
            filters: MAX_FILTERS,
            contents: MAX_CONTENTS,
            splits: MAX_SPLITS,
        }
    }
}
