//! Why bytes of a session were charged.

use qlink_types::codec::{List, Text};
use qlink_types::ids::SessionId;
use qlink_types::struct_codec;
use qlink_types::units::Bytes;

/// Most reasons in one answer.
pub const MAX_CHARGE_REASONS: usize = 32;

/// Longest name of a reason in bytes.
pub const MAX_REASON_BYTES: usize = 32;

/// Bytes charged for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChargeRow {
    /// The reason's stable name.
    pub reason: Text<MAX_REASON_BYTES>,
    /// How many, ever since counting began.
    pub bytes: Bytes,
}

struct_codec!(ChargeRow { reason, bytes });

/// `user_charged` of a session's content flows by reason, as the running process has counted it.
///
/// What is missing to the session's `user_charged` was charged outside its content flows. Counted
/// when a packet is judged: one that the sender then refused is here and not in the session's sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCharges {
    /// The session.
    pub session: SessionId,
    /// `user_charged` bytes that an earlier process counted; it took their reasons with it.
    pub before: Bytes,
    /// Reasons with bytes.
    pub rows: List<ChargeRow, MAX_CHARGE_REASONS>,
}

struct_codec!(SessionCharges {
    session,
    before,
    rows
});
