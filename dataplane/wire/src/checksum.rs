//! The Internet checksum. Source: RFC 1071, RFC 8200 §8.1.

use std::net::IpAddr;

/// A running one's complement sum of big-endian 16-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// Adds bytes; an odd last byte is padded with zero, so only the last call may be odd.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let (words, odd) = bytes.as_chunks::<2>();
        let sum: u64 = words
            .iter()
            .map(|word| u64::from(u16::from_be_bytes(*word)))
            .sum();
        let last = odd.first().map_or(0, |byte| u64::from(*byte) << 8);
        // 2^48 words would be needed to wrap; memory is smaller.
        Self(self.0.wrapping_add(sum).wrapping_add(last))
    }

    /// Adds the pseudo header of a transport segment of `length` bytes.
    #[must_use]
    pub fn with_pseudo_header(self, src: IpAddr, dst: IpAddr, protocol: u8, length: u32) -> Self {
        let add = |sum: Self, address: IpAddr| match address {
            IpAddr::V4(address) => sum.with(&address.octets()),
            IpAddr::V6(address) => sum.with(&address.octets()),
        };
        add(add(self, src), dst)
            .with(&length.to_be_bytes())
            .with(&[0, protocol])
    }

    /// The checksum to write; zero over bytes that already contain a correct one.
    #[must_use]
    pub const fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [.., high, low] = sum.to_be_bytes();
        !u16::from_be_bytes([high, low])
    }
}

/// The checksum of a whole transport segment with its pseudo header: zero when `segment` contains
/// a correct one.
#[must_use]
pub fn transport_checksum(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    Checksum::default()
        .with_pseudo_header(src, dst, protocol, length)
        .with(segment)
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 1071 §3 sums these bytes to ddf2.
    #[test]
    fn the_example_of_rfc_1071_holds() {
        let sum = Checksum::default().with(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);

        assert_eq!(sum.finish(), !0xddf2);
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_half_of_a_word() {
        assert_eq!(
            Checksum::default().with(&[1, 2, 3]),
            Checksum::default().with(&[1, 2, 3, 0])
        );
    }

    // A captured IPv4 header with its transmitted checksum b861 (public example of RFC 1071 use).
    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];

        assert_eq!(Checksum::default().with(&header).finish(), 0);
    }
}
