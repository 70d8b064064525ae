//! A token bucket in exact integers.

/// Lets at most a rate of events through, with a burst.
///
/// Kept as the one time at which the bucket would be full again (the generic cell rate
/// algorithm), so there is no rounding and no refill. Used for the rate limit that RFC 4443
/// §2.4(f) and RFC 1812 §4.3.2.8 demand of senders of ICMP errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    interval_ns: u64,
    slack_ns: u64,
    full_again_ns: u64,
}

impl TokenBucket {
    /// A bucket that gains `per_second` tokens a second (at least 1; more than 10^9 count as
    /// 10^9) and holds `burst` (at least 1); full at first.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let rate = if per_second == 0 {
            1
        } else {
            per_second as u64
        };
        let interval_ns = match 1_000_000_000 / rate {
            0 => 1,
            interval => interval,
        };
        Self {
            interval_ns,
            slack_ns: interval_ns.saturating_mul((burst as u64).saturating_sub(1)),
            full_again_ns: 0,
        }
    }

    /// Takes a token at time `now_ns`; false when there is none.
    #[inline]
    pub const fn take(&mut self, now_ns: u64) -> bool {
        if self.full_again_ns > now_ns.saturating_add(self.slack_ns) {
            return false;
        }
        let from = if self.full_again_ns > now_ns {
            self.full_again_ns
        } else {
            now_ns
        };
        self.full_again_ns = from.saturating_add(self.interval_ns);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_burst_passes_at_once_and_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 4);
        let mut passed = |from_ms: u64, to_ms: u64| {
            (from_ms..to_ms)
                .filter(|ms| bucket.take(ms * 1_000_000))
                .count()
        };

        assert_eq!(passed(0, 1), 1);
        assert_eq!(passed(1, 10), 3);
        assert_eq!(passed(10, 1010), 10);
        assert_eq!(passed(9000, 9010), 4);
    }
}
