//! Incremental update of the Internet checksum. Source: RFC 1624 §3, equation 3.

/// What a change of some bytes does to a checksum over them.
///
/// Bytes are taken in whole 16-bit words in their place: every piece must begin at an even distance
/// from the start of what the checksum covers; only the very last may have an odd length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ChecksumDelta(u64);

impl ChecksumDelta {
    /// Takes bytes out.
    #[inline]
    #[must_use]
    pub(crate) fn without(self, old: &[u8]) -> Self {
        words(old).fold(self, Self::without_word)
    }

    /// Puts bytes in.
    #[inline]
    #[must_use]
    pub(crate) fn with(self, new: &[u8]) -> Self {
        words(new).fold(self, Self::with_word)
    }

    /// Takes a word out.
    #[inline]
    #[must_use]
    pub(crate) const fn without_word(self, old: u16) -> Self {
        self.with_word(!old)
    }

    /// Puts a word in.
    #[inline]
    #[must_use]
    pub(crate) const fn with_word(self, new: u16) -> Self {
        // 2^48 words would be needed to wrap.
        Self(self.0.wrapping_add(new as u64))
    }

    /// The checksum after the change.
    #[inline]
    #[must_use]
    pub(crate) const fn apply(self, checksum: u16) -> u16 {
        let mut sum = self.with_word(!checksum).0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [.., high, low] = sum.to_be_bytes();
        !u16::from_be_bytes([high, low])
    }

    /// A UDP checksum after the change: zero means "none" and stays, and a sum that is zero is
    /// sent as its other form. Source: RFC 768.
    #[inline]
    #[must_use]
    pub(crate) const fn apply_udp(self, checksum: u16) -> u16 {
        match checksum {
            0 => 0,
            checksum => match self.apply(checksum) {
                0 => u16::MAX,
                sum => sum,
            },
        }
    }
}

/// Big-endian words; an odd last byte is padded with zero.
#[inline]
fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let last = odd.first().map(|byte| u16::from(*byte) << 8);
    pairs
        .iter()
        .map(|pair| u16::from_be_bytes(*pair))
        .chain(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qlink_wire::checksum::Checksum;

    use super::*;

    // The example of RFC 1624 §4: the equation of RFC 1141 gives ffff here.
    #[test]
    fn the_example_of_rfc_1624_gives_zero() {
        let delta = ChecksumDelta::default()
            .without_word(0x5555)
            .with_word(0x3285);

        assert_eq!(delta.apply(0xdd2f), 0x0000);
    }

    #[test]
    fn a_udp_sum_of_zero_is_sent_as_its_other_form_and_no_sum_stays_none() {
        let delta = ChecksumDelta::default()
            .without_word(0x5555)
            .with_word(0x3285);

        assert_eq!(delta.apply_udp(0xdd2f), u16::MAX);
        assert_eq!(delta.apply_udp(0), 0);
        assert_eq!(delta.apply_udp(u16::MAX), delta.apply(u16::MAX));
    }

    proptest! {
        #[test]
        fn an_adjusted_checksum_is_that_of_the_changed_bytes(
            before in prop::collection::vec(any::<u8>(), 2..80),
            change in prop::collection::vec(any::<u8>(), 2..40),
            at in 0..40_usize,
        ) {
            // A first word that is not zero: no packet sums to zero.
            let before: Vec<u8> = [1, 1].into_iter().chain(before).collect();
            let at = (2 + at * 2).min(before.len() & !1);
            let mut after = before.clone();
            for (to, from) in after.iter_mut().skip(at).zip(&change) {
                *to = *from;
            }

            let sum = |bytes: &[u8]| Checksum::default().with(bytes).finish();
            let delta = ChecksumDelta::default().without(&before[at..]).with(&after[at..]);
            prop_assert_eq!(delta.apply(sum(&before)), sum(&after));
        }
    }
}
