//! What one packet adds to the classes, and why bytes were charged.

/// Why payload bytes are `user_charged`; closed list, in the order of [`ChargeReason::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChargeReason {
    /// The flow is no HTTP/1.1 that can be framed without doubt.
    Unframed = 0,
    /// The flow's start was not seen.
    MidStream,
    /// Three segments of the flow did not match.
    Demoted,
    /// The flow is closed.
    Closed,
    /// From the first byte that differs from the content to the end of the segment.
    Mismatch,
    /// Body or chunk framing of a request.
    RequestBody,
    /// Body of a response that is no content of the session.
    NotContent,
    /// Heads and framing above the allowance.
    BeyondAllowance,
    /// A copy of bytes that were charged already.
    ChargedCopy,
    /// A copy that differs from the bytes of the head it claims to repeat.
    ForeignCopy,
    /// A copy of something too old to compare.
    ForgottenCopy,
    /// Ahead of the framing (replay only; live traffic is dropped).
    FramingUnknown,
    /// A bound on ranges was hit.
    CoverageFull,
    /// Not captured, so not provable.
    CaptureCut,
    /// Heads of a flow that never delivered a verified byte.
    NoVerifiedByte,
    /// The package has no bytes left for the session.
    PackageExhausted,
    /// The viewer's cap is reached.
    Cap,
}

impl ChargeReason {
    /// Number of reasons.
    pub const COUNT: usize = 17;

    /// Every reason; `ALL[reason as usize] == reason`.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Unframed,
        Self::MidStream,
        Self::Demoted,
        Self::Closed,
        Self::Mismatch,
        Self::RequestBody,
        Self::NotContent,
        Self::BeyondAllowance,
        Self::ChargedCopy,
        Self::ForeignCopy,
        Self::ForgottenCopy,
        Self::FramingUnknown,
        Self::CoverageFull,
        Self::CaptureCut,
        Self::NoVerifiedByte,
        Self::PackageExhausted,
        Self::Cap,
    ];

    /// Stable name in schemas and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unframed => "unframed",
            Self::MidStream => "mid_stream",
            Self::Demoted => "demoted",
            Self::Closed => "flow_closed",
            Self::Mismatch => "mismatch",
            Self::RequestBody => "request_body",
            Self::NotContent => "not_content",
            Self::BeyondAllowance => "beyond_allowance",
            Self::ChargedCopy => "charged_copy",
            Self::ForeignCopy => "foreign_copy",
            Self::ForgottenCopy => "forgotten_copy",
            Self::FramingUnknown => "framing_unknown",
            Self::CoverageFull => "coverage_full",
            Self::CaptureCut => "capture_cut",
            Self::NoVerifiedByte => "no_verified_byte",
            Self::PackageExhausted => "package_exhausted",
            Self::Cap => "cap",
        }
    }
}

/// What one packet, or the close of a flow, adds to the classes of its session, in bytes.
///
/// Conservation: `wire_payload + pending_out` equals `pending_in` plus the six final classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deltas {
    /// Payload of this packet.
    pub wire_payload: u64,
    /// Content acknowledged for the first time in the session.
    pub verified_unique: u64,
    /// Copies with the same bytes.
    pub retransmit: u64,
    /// Content acknowledged again.
    pub verified_repeat: u64,
    /// Heads and framing within the allowance of a flow with verified bytes.
    pub overhead_allowed: u64,
    /// Proven bytes that the closed flow never had acknowledged.
    pub undelivered: u64,
    /// Everything else; the sum of `charged`.
    pub user_charged: u64,
    /// Bytes that became pending.
    pub pending_in: u64,
    /// Bytes that were pending and found their class.
    pub pending_out: u64,
    /// `user_charged` by reason, indexed by [`ChargeReason`].
    pub charged: [u64; ChargeReason::COUNT],
    /// Broken conservation laws found in this step; always zero.
    pub violations: u64,
}

impl Deltas {
    /// Whether every byte found exactly one class.
    #[must_use]
    #[inline]
    pub fn is_conserved(&self) -> bool {
        let finals = [
            self.verified_unique,
            self.retransmit,
            self.verified_repeat,
            self.overhead_allowed,
            self.undelivered,
            self.user_charged,
        ];
        let sum = |values: &[u64]| values.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
        sum(&finals).saturating_add(self.pending_in)
            == self.wire_payload.saturating_add(self.pending_out)
            && sum(&self.charged) == self.user_charged
    }

    #[inline]
    pub(crate) fn charge(&mut self, reason: ChargeReason, bytes: u64) {
        add(&mut self.user_charged, bytes);
        if let Some(counter) = self.charged.get_mut(reason as usize) {
            add(counter, bytes);
        }
    }
}

/// Saturating: a counter that sticks is a conservation violation, a panic would be an outage.
#[inline]
pub(crate) const fn add(counter: &mut u64, bytes: u64) {
    *counter = counter.saturating_add(bytes);
}

#[inline]
pub(crate) const fn take(counter: &mut u64, bytes: u64) {
    *counter = counter.saturating_sub(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        for (index, reason) in ChargeReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        let mut names: Vec<_> = ChargeReason::ALL.iter().map(|r| r.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ChargeReason::COUNT);
    }
}
