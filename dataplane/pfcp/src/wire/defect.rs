//! Why a message cannot be taken or made.

use super::numbers::{CauseCode, IeType};

/// Why the body of a message is refused, in the words of the answer to it.
///
/// Source: TS 29.244 §7.6.4 and §8.2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{cause} at {offending}")]
pub struct Defect {
    /// The answer's cause.
    pub cause: CauseCode,
    /// The answer's offending IE; [`IeType::RESERVED`] when the octets belong to none.
    pub offending: IeType,
}

impl Defect {
    pub(super) const fn new(cause: CauseCode, offending: IeType) -> Self {
        Self { cause, offending }
    }
}

/// Why a message cannot be stated on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum EncodeError {
    /// The message is longer than a datagram.
    #[error("message of {length} bytes exceeds {}", super::MAX_MESSAGE_BYTES)]
    TooLong {
        /// Its length as far as it was made.
        length: usize,
    },
    /// A value is outside the range of its IE.
    #[error("a value does not fit into {ie}")]
    Value {
        /// The IE.
        ie: IeType,
    },
}

/// Why the value of an IE is refused; who reads the value does not know which IE it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Shorter than its content.
    Length,
    /// Of the right length, but not possible.
    Incorrect,
    /// Possible, but not here.
    Unsupported,
    /// More of it than fits here.
    TooMany,
    /// An IE inside it is refused.
    Inside(Defect),
}

impl Fault {
    pub(super) const fn at(self, ie: IeType) -> Defect {
        let cause = match self {
            Self::Length => CauseCode::INVALID_LENGTH,
            Self::Incorrect => CauseCode::MANDATORY_IE_INCORRECT,
            Self::Unsupported => CauseCode::SERVICE_NOT_SUPPORTED,
            Self::TooMany => CauseCode::NO_RESOURCES_AVAILABLE,
            Self::Inside(defect) => return defect,
        };
        Defect::new(cause, ie)
    }

    pub(super) const fn missing(ie: IeType) -> Self {
        Self::Inside(Defect::new(CauseCode::MANDATORY_IE_MISSING, ie))
    }

    pub(super) const fn missing_here(ie: IeType) -> Self {
        Self::Inside(Defect::new(CauseCode::CONDITIONAL_IE_MISSING, ie))
    }
}
