//! Callbacks: verified first, read second.

use qlink_operator::{
    OpId, OperatorReceipt, Outcome, SharedKey, TIMESTAMP_TOLERANCE_MS, signing_input,
};

use crate::wire::{State, Transaction, verify};

/// Bytes of a callback that are read.
const BODY_BYTES_MAX: usize = 1 << 16;

/// What a callback says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callback {
    /// The operation ended, or is still open.
    Outcome {
        /// The operation.
        id: OpId,
        /// How.
        outcome: Outcome,
    },
    /// A completed operation was taken back.
    Reversal {
        /// The operation.
        id: OpId,
        /// The platform's name of it and its price.
        receipt: OperatorReceipt,
    },
}

/// Why a callback is refused; answer 401 or 400 and change nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// Missing, wrong, or the clock is too far off (a replay of an old one).
    #[error("the callback's signature or timestamp is wrong")]
    Signature,
    /// Signed, but not a transaction.
    #[error("the callback's body does not read")]
    Body(#[source] serde_json::Error),
}

/// Checks and reads a callback: a `POST` to `target` (path and query) with the values of the
/// headers [`qlink_operator::TIMESTAMP_HEADER`] and [`qlink_operator::SIGNATURE_HEADER`].
///
/// A repeated callback gives the same value; the engine takes it once.
///
/// # Errors
///
/// [`CallbackError`].
pub fn verify_callback(
    key: &SharedKey,
    target: &str,
    timestamp: &str,
    signature: &str,
    body: &[u8],
    now_ms: u64,
) -> Result<Callback, CallbackError> {
    let time: u64 = timestamp.parse().map_err(|_| CallbackError::Signature)?;
    let fresh = now_ms.abs_diff(time) <= TIMESTAMP_TOLERANCE_MS;
    let input = signing_input("POST", target, time, body);
    if !fresh || body.len() > BODY_BYTES_MAX || !verify(key, &input, signature) {
        return Err(CallbackError::Signature);
    }
    let transaction: Transaction = serde_json::from_slice(body).map_err(CallbackError::Body)?;
    let id = transaction.reference;
    Ok(match transaction.state {
        State::Reversed => Callback::Reversal {
            id,
            receipt: transaction.receipt(),
        },
        State::Created
        | State::Confirmed
        | State::Submitted
        | State::Completed
        | State::Rejected
        | State::Cancelled
        | State::Declined => Callback::Outcome {
            id,
            outcome: transaction.outcome(0),
        },
    })
}
