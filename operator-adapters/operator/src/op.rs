//! Operations at a mobile operator, their derived ids and their three-way outcome.

use std::fmt;
use std::str::FromStr;

use qlink_types::ids::TxId;
use qlink_types::units::Bytes;
use serde::{Deserialize, Serialize};

/// Names an operation at the operator; derived, never random, so that a restart asks again under
/// the same name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId([u8; 32]);

impl OpId {
    /// The id of leg `leg` of what transaction `tx` ordered. `attempt_group` grows only when a
    /// human starts over after a final refusal.
    #[must_use]
    pub fn derive(tx: &TxId, leg: u16, attempt_group: u16) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("qlink v1 operator operation");
        hasher.update(tx.as_bytes());
        hasher.update(&leg.to_be_bytes());
        hasher.update(&attempt_group.to_be_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// The id of the payout that closes a settlement.
    #[must_use]
    pub fn of_settlement(settlement: &str) -> Self {
        Self(blake3::derive_key(
            "qlink v1 operator payout",
            settlement.as_bytes(),
        ))
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("op_")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `op_` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an operation id is 'op_' and 64 lower-case hexadecimal digits")]
pub struct ParseOpIdError;

impl FromStr for OpId {
    type Err = ParseOpIdError;

    fn from_str(text: &str) -> Result<Self, ParseOpIdError> {
        let digits = text.strip_prefix("op_").ok_or(ParseOpIdError)?.as_bytes();
        let mut bytes = [0_u8; 32];
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(ParseOpIdError);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, ParseOpIdError> {
    match digit {
        b'0'..=b'9' => Ok(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(digit.wrapping_sub(b'a').wrapping_add(10)),
        _ => Err(ParseOpIdError),
    }
}

impl Serialize for OpId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OpId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A sum in the smallest part of an asset: `units` * 10^-`scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// `QLC`, or an ISO 4217 code.
    pub asset: String,
    /// Decimal digits after the point.
    pub scale: u8,
    /// Smallest parts, signed.
    #[serde(with = "qlink_types::text")]
    pub units: i128,
}

/// What can be asked of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Buy a volume of data for a subscriber.
    Activate {
        /// The operator's name of the offer.
        offer: String,
        /// The operator's pseudonym of the subscriber; never an MSISDN or IMSI.
        subscriber_ref: String,
        /// Volume.
        volume_bytes: Bytes,
    },
    /// Take an activation back.
    Refund {
        /// The activation.
        of: OpId,
    },
    /// Tell the operator what it was paid for a period, and have the statement countersigned.
    Payout {
        /// Id of the settlement.
        settlement: String,
        /// Units that moved to the operator for the undisputed lines.
        amount: Money,
        /// Root over the reconciled lines, `0x` and 64 hexadecimal digits.
        statement_root: String,
    },
}

/// What an operator gives for a completed operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorReceipt {
    /// The operator's own name of the transaction.
    pub reference: String,
    /// What it charged.
    pub price: Money,
    /// When it completed, milliseconds since 1970 by the operator's clock.
    #[serde(with = "qlink_types::text")]
    pub time_ms: u64,
    /// Signature over the statement root of a payout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countersignature: Option<String>,
}

/// Why an operator refused for good. Closed: the same words in journal, metrics and API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Declined without a nearer reason.
    Declined,
    /// Our balance there does not cover it.
    InsufficientBalance,
    /// No such offer.
    UnknownOffer,
    /// No such subscriber.
    UnknownSubscriber,
    /// The reference was used with another body.
    KeyReused,
    /// Cancelled before it was confirmed.
    Cancelled,
    /// Completed and reversed before we saw it complete.
    Reversed,
    /// The request itself was refused: a fault of ours.
    BadRequest,
}

impl Reason {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Declined => "declined",
            Self::InsufficientBalance => "insufficient_balance",
            Self::UnknownOffer => "unknown_offer",
            Self::UnknownSubscriber => "unknown_subscriber",
            Self::KeyReused => "key_reused",
            Self::Cancelled => "cancelled",
            Self::Reversed => "reversed",
            Self::BadRequest => "bad_request",
        }
    }
}

/// How an operation ended, if it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It happened.
    Done(OperatorReceipt),
    /// It did not and will not happen.
    Rejected {
        /// Why.
        reason: Reason,
    },
    /// Nobody knows yet; the only legal step is `resolve` under the same id.
    Unknown {
        /// Milliseconds to wait before asking.
        retry_after_ms: u64,
    },
}

/// What the far side does with a second request under one key; it decides what may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DedupClass {
    /// It answers the first result again.
    KeyReplays,
    /// It refuses, so that the second answer is a conflict.
    KeyRejects,
    /// It may act twice, but can be asked by key.
    QueryOnly,
    /// It may act twice and cannot be asked: nothing is retried.
    None,
}

impl DedupClass {
    /// Whether a request whose fate is unknown may be sent again under the same key.
    #[must_use]
    pub const fn may_resend(self) -> bool {
        matches!(self, Self::KeyReplays | Self::KeyRejects)
    }
}

/// What an operator is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Name in logs, books and summaries: `[a-z0-9-]+`.
    pub operator: String,
    /// What a repeated key does there.
    pub dedup: DedupClass,
    /// Bytes that its "unit of volume" stands for: 1, 10^6 or 2^20.
    pub volume_unit_bytes: u64,
    /// Asset it charges in.
    pub asset: String,
    /// Decimal digits of that asset.
    pub scale: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_id_is_derived_and_reads_back() {
        let tx = TxId::new([7; 32]);
        let id = OpId::derive(&tx, 1, 0);

        assert_eq!(id, OpId::derive(&tx, 1, 0));
        assert_ne!(id, OpId::derive(&tx, 0, 1));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("op_00".parse::<OpId>(), Err(ParseOpIdError));
        assert_eq!(
            id.to_string().to_uppercase().parse::<OpId>(),
            Err(ParseOpIdError)
        );
    }
}
