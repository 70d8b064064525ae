//! Why a change of a session was refused.

use super::ids::{BarId, FarId, PdrId, QerId, UrrId};
use crate::cause::Cause;
use crate::wire::IeType;

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

/// A refused change; nothing of it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{cause}")]
pub struct Rejection {
    /// Why.
    pub cause: Cause,
    /// The information element at fault. Source: TS 29.244 §8.2.22.
    pub offending: Option<IeType>,
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
    pub const fn missing(offending: IeType, rule: FailedRule) -> Self {
        Self {
            cause: Cause::ConditionalMissing,
            offending: Some(offending),
            failed_rule: Some(rule),
        }
    }

    /// This rejection with the information element at fault.
    #[must_use]
    pub const fn about(self, offending: IeType) -> Self {
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
