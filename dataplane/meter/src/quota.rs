//! Who pays for charged bytes, and when a packet must stop.

use qlink_pfcp::Payer;
use qlink_types::package::RepeatPolicy;

use crate::reason::DropReason;

/// The session's payer without its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeMode {
    /// A personal package with this limit in bytes: stop at zero.
    Personal {
        /// Most bytes it pays for.
        limit: u64,
    },
    /// The mobile operator: no limit here.
    Operator,
    /// Nobody: charged packets stop.
    Block,
}

impl From<&Payer> for ChargeMode {
    fn from(payer: &Payer) -> Self {
        match payer {
            Payer::Personal { limit, .. } => Self::Personal { limit: limit.get() },
            Payer::Operator => Self::Operator,
            Payer::Block => Self::Block,
        }
    }
}

/// Whether a packet may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaVerdict {
    /// It may.
    Pass,
    /// It may not.
    Stop(DropReason),
}

/// How a session's charged bytes are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Its payer.
    pub mode: ChargeMode,
    /// Who pays for proven bytes delivered again.
    pub repeat: RepeatPolicy,
}

impl Quota {
    /// Bytes that the payer may still be charged, after `used`.
    #[inline]
    #[must_use]
    pub const fn left(&self, used: u64) -> u64 {
        match self.mode {
            ChargeMode::Personal { limit } => limit.saturating_sub(used),
            ChargeMode::Operator => u64::MAX,
            ChargeMode::Block => 0,
        }
    }

    /// Judges a packet with payload whose bytes charge `charged` after `used` were charged.
    ///
    /// A packet without payload always passes: what it settles was forwarded before.
    #[inline]
    #[must_use]
    pub const fn judge(&self, used: u64, charged: u64, payload: u64) -> QuotaVerdict {
        if payload == 0 || charged <= self.left(used) {
            return QuotaVerdict::Pass;
        }
        match self.mode {
            ChargeMode::Personal { .. } => QuotaVerdict::Stop(DropReason::QuotaExhausted),
            ChargeMode::Block => QuotaVerdict::Stop(DropReason::NotSponsored),
            ChargeMode::Operator => QuotaVerdict::Pass,
        }
    }

    /// The part of `user_charged` and `verified_repeat` bytes that the session's payer pays.
    #[inline]
    #[must_use]
    pub const fn charged(&self, user_charged: u64, verified_repeat: u64) -> u64 {
        match self.repeat {
            RepeatPolicy::ChargeUser => user_charged.saturating_add(verified_repeat),
            RepeatPolicy::Free => user_charged,
        }
    }

    /// What a personal payer is billed for `charged` bytes after `used`: never above its limit.
    #[inline]
    #[must_use]
    pub fn billed(&self, used: u64, charged: u64) -> u64 {
        match self.mode {
            ChargeMode::Personal { .. } => charged.min(self.left(used)),
            ChargeMode::Operator | ChargeMode::Block => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn quota(mode: ChargeMode) -> Quota {
        Quota {
            mode,
            repeat: RepeatPolicy::ChargeUser,
        }
    }

    #[test]
    fn a_personal_limit_stops_at_zero_to_the_byte() {
        let quota = quota(ChargeMode::Personal { limit: 100 });

        assert_eq!(quota.judge(60, 40, 40), QuotaVerdict::Pass);
        assert_eq!(
            quota.judge(61, 40, 40),
            QuotaVerdict::Stop(DropReason::QuotaExhausted)
        );
        assert_eq!(quota.billed(90, 40), 10);
    }

    #[test]
    fn blocked_payload_is_dropped_and_a_bare_acknowledgement_is_not() {
        let quota = quota(ChargeMode::Block);

        assert_eq!(
            quota.judge(0, 1, 1),
            QuotaVerdict::Stop(DropReason::NotSponsored)
        );
        assert_eq!(quota.judge(0, 0, 1400), QuotaVerdict::Pass);
        assert_eq!(quota.judge(0, 5, 0), QuotaVerdict::Pass);
    }

    #[test]
    fn the_operator_has_no_limit_here() {
        let quota = quota(ChargeMode::Operator);

        assert_eq!(quota.judge(u64::MAX, 1, 1), QuotaVerdict::Pass);
        assert_eq!(quota.billed(0, 7), 0);
    }

    #[test]
    fn a_free_repeat_is_charged_to_nobody() {
        let quota = Quota {
            mode: ChargeMode::Operator,
            repeat: RepeatPolicy::Free,
        };

        assert_eq!(quota.charged(3, 1000), 3);
    }
}
