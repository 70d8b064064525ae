//! Length of the equal prefix of two byte ranges.

/// Number of leading bytes in which `a` and `b` agree, at most the shorter length.
///
/// Runs with AVX-512BW or AVX2 where the processor has them and eight bytes at a time elsewhere.
/// Goal: at most 70 ns per 1400 equal bytes (specified; the figure stands in
/// `benches/SPECIFICATION.md`).
///
/// ```
/// assert_eq!(qlink_kernel::equal_prefix(b"film-0001", b"film-0002"), 8);
/// ```
#[must_use]
#[inline]
pub fn equal_prefix(a: &[u8], b: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor offers AVX-512BW (which implies AVX-512F), the line above.
            return unsafe { x86::equal_prefix_avx512(a, b) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor offers AVX2, the line above.
            return unsafe { x86::equal_prefix_avx2(a, b) };
        }
    }
    equal_prefix_scalar(a, b)
}

/// The portable variant: eight bytes at a time, the rest one by one.
fn equal_prefix_scalar(a: &[u8], b: &[u8]) -> usize {
    let (a_words, _) = a.as_chunks::<8>();
    let (b_words, _) = b.as_chunks::<8>();
    let mut equal = 0;
    for (x, y) in a_words.iter().zip(b_words) {
        let difference = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if difference != 0 {
            return equal + (difference.trailing_zeros() / 8) as usize;
        }
        equal += 8;
    }
    // The shorter range has fewer than 8 bytes left; the longer one may still have whole words.
    let tail = a.iter().skip(equal).zip(b.iter().skip(equal));
    equal + tail.take_while(|(x, y)| x == y).count()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! Both vector variants: whole registers first, then one partial step.
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_movemask_epi8,
        _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    };

    /// 64 bytes per step; the rest of the shorter range is one masked step, so no length has a
    /// slow tail.
    #[target_feature(enable = "avx512bw")]
    pub(super) fn equal_prefix_avx512(a: &[u8], b: &[u8]) -> usize {
        let length = a.len().min(b.len());
        let (a_lines, _) = a.as_chunks::<64>();
        let (b_lines, _) = b.as_chunks::<64>();
        let mut equal = 0;
        for (x, y) in a_lines.iter().zip(b_lines) {
            let different = _mm512_cmpneq_epi8_mask(load512(x), load512(y));
            if different != 0 {
                return equal + different.trailing_zeros() as usize;
            }
            equal += 64;
        }
        // `length - equal` is below 64: the loop consumed every whole line of the shorter range.
        let rest = length.saturating_sub(equal);
        if rest == 0 {
            return length;
        }
        let (Some(x), Some(y)) = (a.get(equal..length), b.get(equal..length)) else {
            return equal;
        };
        let different = _mm512_cmpneq_epi8_mask(load_partial512(x), load_partial512(y));
        // Masked-off lanes are zero in both, so they never differ.
        equal + (different.trailing_zeros() as usize).min(rest)
    }

    /// 32 bytes per step; the rest of the shorter range by words.
    #[target_feature(enable = "avx2")]
    pub(super) fn equal_prefix_avx2(a: &[u8], b: &[u8]) -> usize {
        let (a_lines, _) = a.as_chunks::<32>();
        let (b_lines, _) = b.as_chunks::<32>();
        let mut equal = 0;
        for (x, y) in a_lines.iter().zip(b_lines) {
            let same = _mm256_movemask_epi8(_mm256_cmpeq_epi8(load256(x), load256(y)));
            if same != -1 {
                return equal + same.trailing_ones() as usize;
            }
            equal += 32;
        }
        let x = a.get(equal..).unwrap_or_default();
        let y = b.get(equal..).unwrap_or_default();
        equal + super::equal_prefix_scalar(x, y)
    }

    #[target_feature(enable = "avx512bw")]
    fn load512(line: &[u8; 64]) -> __m512i {
        // SAFETY: `line` is 64 readable bytes; the instruction has no alignment requirement.
        unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
    }

    /// The first 63 bytes at most, zero behind them. `bytes` is shorter than 64.
    #[target_feature(enable = "avx512bw")]
    fn load_partial512(bytes: &[u8]) -> __m512i {
        let lanes = bytes.len().min(63);
        let mask = (1_u64 << lanes) - 1;
        // SAFETY: the mask has at most `bytes.len()` low bits, so exactly the bytes of the slice
        // are read; masked-off lanes are neither read nor able to fault.
        unsafe { _mm512_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx2")]
    fn load256(line: &[u8; 32]) -> __m256i {
        // SAFETY: `line` is 32 readable bytes; the instruction has no alignment requirement.
        unsafe { _mm256_loadu_si256(line.as_ptr().cast::<__m256i>()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(a: &[u8], b: &[u8]) -> usize {
        a.iter().zip(b).take_while(|(x, y)| x == y).count()
    }

    /// Every variant this processor can run, the dispatched one first.
    fn assert_all_variants(a: &[u8], b: &[u8]) {
        let wanted = naive(a, b);
        assert_eq!(equal_prefix(a, b), wanted, "dispatched");
        assert_eq!(equal_prefix_scalar(a, b), wanted, "scalar");
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512bw") {
                // SAFETY: checked on the line above.
                let got = unsafe { x86::equal_prefix_avx512(a, b) };
                assert_eq!(got, wanted, "avx512");
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: checked on the line above.
                let got = unsafe { x86::equal_prefix_avx2(a, b) };
                assert_eq!(got, wanted, "avx2");
            }
        }
    }

    #[test]
    fn every_length_and_every_first_difference_agrees_with_the_naive_loop() {
        let a: Vec<u8> = (0..300_u16).map(|i| (i % 251) as u8).collect();
        for length in 0..300 {
            let mut b = a[..length].to_vec();
            assert_all_variants(&a[..length], &b);
            assert_all_variants(&a, &b);
            assert_all_variants(&b, &a);
            for at in 0..length {
                b[at] ^= 0x80;
                assert_all_variants(&a[..length], &b);
                b[at] ^= 0x80;
            }
        }
    }

    #[test]
    fn every_alignment_of_both_ranges_agrees_with_the_naive_loop() {
        let bytes = vec![7_u8; 512];
        let mut other = bytes.clone();
        other[400] = 8;
        for x in 0..70 {
            for y in 0..70 {
                assert_all_variants(&bytes[x..], &other[y..]);
            }
        }
    }

    #[test]
    fn bytes_behind_the_shorter_range_do_not_count() {
        let a = [1_u8; 65];
        let mut b = [1_u8; 65];
        b[64] = 2;

        assert_eq!(equal_prefix(&a[..64], &b), 64);
        assert_eq!(equal_prefix(&a, &b), 64);
        assert_eq!(equal_prefix(&a, &[]), 0);
    }

    proptest! {
        #[test]
        fn random_ranges_agree_with_the_naive_loop(
            common in prop::collection::vec(any::<u8>(), 0..300),
            a_tail in prop::collection::vec(any::<u8>(), 0..300),
            b_tail in prop::collection::vec(any::<u8>(), 0..300),
            skip in 0_usize..64,
        ) {
            let a = [common.as_slice(), &a_tail].concat();
            let b = [common.as_slice(), &b_tail].concat();
            assert_all_variants(&a, &b);
            let skip = skip.min(a.len()).min(b.len());
            assert_all_variants(&a[skip..], &b[skip..]);
        }
    }
}
