//! Why a change of a session was refused.

use super::ids::{BarId, FarId, PdrId, QerId, UrrId};
use crate::cause::Cause;

/// The rule because of which a whole request failed. Source: TS 29.244 §8.2.80.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the kinds of rules")]
pub enum FailedRule {
    Pdr(PdrId),
    Far(FarId),
    Qer(QerId),
    Urr(UrrId),
    Bar(BarId),
}

/// Types of information elements that a rejection can name. Source: TS 29.244 §8.1.2.
pub mod element {
    /// Create PDR.
    pub const CREATE_PDR: u16 = 1;
    /// PDI.
    pub const PDI: u16 = 2;
    /// Create FAR.
    pub const CREATE_FAR: u16 = 3;
    /// Forwarding Parameters.
    pub const FORWARDING_PARAMETERS: u16 = 4;
    /// F-TEID.
    pub const F_TEID: u16 = 21;
    /// Application ID.
    pub const APPLICATION_ID: u16 = 24;
    /// Destination Interface.
    pub const DESTINATION_INTERFACE: u16 = 42;
    /// F-SEID.
    pub const F_SEID: u16 = 57;
    /// Node ID.
    pub const NODE_ID: u16 = 60;
    /// Measurement Method.
    pub const MEASUREMENT_METHOD: u16 = 62;
    /// UE IP Address.
    pub const UE_IP_ADDRESS: u16 = 93;
    /// Recovery Time Stamp.
    pub const RECOVERY_TIME_STAMP: u16 = 96;
    /// FAR ID.
    pub const FAR_ID: u16 = 108;
}

/// A refused change; nothing of it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{cause}")]
pub struct Rejection {
    /// Why.
    pub cause: Cause,
    /// Type of the information element at fault, see [`element`]. Source: TS 29.244 §8.2.22.
    pub offending: Option<u16>,
    /// The rule at fault.
    pub failed_rule: Option<FailedRule>,
}

impl Rejection {
    /// A rejection without particulars.
    #[must_use]
    pub const fn new(cause: Cause) -> Self {
        Self {
            cause,
            offending: None,
            failed_rule: None,
        }
    }

    /// A rule cannot be created, changed or removed as asked.
    #[must_use]
    pub const fn rule(rule: FailedRule) -> Self {
        Self {
            cause: Cause::RuleInvalid,
            offending: None,
            failed_rule: Some(rule),
        }
    }

    /// A rule lacks the information element `offending`, which it needs as it is.
    #[must_use]
    pub const fn missing(offending: u16, rule: FailedRule) -> Self {
        Self {
            cause: Cause::ConditionalMissing,
            offending: Some(offending),
            failed_rule: Some(rule),
        }
    }

    /// This rejection with the information element at fault.
    #[must_use]
    pub const fn about(self, offending: u16) -> Self {
        Self {
            offending: Some(offending),
            ..self
        }
    }

    /// This rejection with the rule at fault.
    #[must_use]
    pub const fn of(self, rule: FailedRule) -> Self {
        Self {
            failed_rule: Some(rule),
            ..self
        }
    }
}
