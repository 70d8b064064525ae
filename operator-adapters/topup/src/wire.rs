//! The platform's JSON.

use hmac::{Hmac, KeyInit, Mac};
use qlink_operator::{Money, OpId, OperatorReceipt, Outcome, Reason, SharedKey};
use serde::Deserialize;
use sha2::Sha256;

/// States of a transaction. Source: DT One, "Handling transactions".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum State {
    Created,
    Confirmed,
    Submitted,
    Completed,
    Rejected,
    Cancelled,
    Reversed,
    Declined,
}

/// A transaction as the platform shows it; members added later are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) id: String,
    pub(crate) reference: OpId,
    pub(crate) state: State,
    pub(crate) price: Money,
    pub(crate) reason: Option<Reason>,
    #[serde(with = "qlink_types::text")]
    pub(crate) time_ms: u64,
    pub(crate) countersignature: Option<String>,
}

impl Transaction {
    pub(crate) fn receipt(&self) -> OperatorReceipt {
        OperatorReceipt {
            reference: self.id.clone(),
            price: self.price.clone(),
            time_ms: self.time_ms,
            countersignature: self.countersignature.clone(),
        }
    }

    /// What the state means for an operation that is not known to be done.
    pub(crate) fn outcome(&self, retry_after_ms: u64) -> Outcome {
        let rejected = |fallback: Reason| Outcome::Rejected {
            reason: self.reason.unwrap_or(fallback),
        };
        match self.state {
            State::Completed => Outcome::Done(self.receipt()),
            State::Rejected | State::Declined => rejected(Reason::Declined),
            State::Cancelled => rejected(Reason::Cancelled),
            State::Reversed => rejected(Reason::Reversed),
            State::Created | State::Confirmed | State::Submitted => {
                Outcome::Unknown { retry_after_ms }
            }
        }
    }
}

/// HMAC-SHA256, lower-case hexadecimal. Source: RFC 2104.
pub(crate) fn sign(key: &SharedKey, input: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose()) else {
        return String::new();
    };
    mac.update(input);
    hex::encode(mac.finalize().into_bytes())
}

/// Constant-time check of [`sign`].
pub(crate) fn verify(key: &SharedKey, input: &[u8], signature: &str) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose()) else {
        return false;
    };
    mac.update(input);
    hex::decode(signature).is_ok_and(|bytes| mac.verify_slice(&bytes).is_ok())
}
