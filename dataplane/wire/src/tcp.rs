//! TCP headers. Source: RFC 9293 §3.1.

use crate::WireError;

/// One TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSegment<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number of the first payload byte, or of the SYN.
    pub seq: u32,
    /// Next sequence number expected from the peer; meaningful when the ACK flag is set.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Receive window as sent, without scaling.
    pub window: u16,
    /// Length of the header with options, 20 to 60 bytes.
    pub header_len: u16,
    /// The captured payload.
    pub payload: &'a [u8],
}

/// The control bits of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);

    /// The flags with these bits, in the order of the header's fourteenth byte.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The header's fourteenth byte.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The flags of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every flag of `other` is set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the sender has no more data.
    #[inline]
    #[must_use]
    pub const fn fin(self) -> bool {
        self.contains(Self::FIN)
    }

    /// Whether the segment opens a connection.
    #[inline]
    #[must_use]
    pub const fn syn(self) -> bool {
        self.contains(Self::SYN)
    }

    /// Whether the segment resets the connection.
    #[inline]
    #[must_use]
    pub const fn rst(self) -> bool {
        self.contains(Self::RST)
    }

    /// Whether the sender pushes.
    #[inline]
    #[must_use]
    pub const fn psh(self) -> bool {
        self.contains(Self::PSH)
    }

    /// Whether the acknowledgement number counts.
    #[inline]
    #[must_use]
    pub const fn ack(self) -> bool {
        self.contains(Self::ACK)
    }
}

/// Parses the payload of an IP packet as TCP.
///
/// # Errors
///
/// [`WireError::TcpTruncated`] when the header with its options is not complete,
/// [`WireError::TcpHeaderLength`] when it states fewer than 20 bytes.
#[inline]
pub fn parse_tcp(bytes: &[u8]) -> Result<TcpSegment<'_>, WireError> {
    let head = bytes.first_chunk::<20>().ok_or(WireError::TcpTruncated)?;
    let header_len = u16::from(head[12] >> 4) << 2;
    if header_len < 20 {
        return Err(WireError::TcpHeaderLength);
    }
    Ok(TcpSegment {
        src_port: u16::from_be_bytes([head[0], head[1]]),
        dst_port: u16::from_be_bytes([head[2], head[3]]),
        seq: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        ack: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
        flags: TcpFlags(head[13]),
        window: u16::from_be_bytes([head[14], head[15]]),
        header_len,
        payload: bytes
            .get(usize::from(header_len)..)
            .ok_or(WireError::TcpTruncated)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Vec<u8> {
        let mut bytes = vec![
            0x00, 0x50, 0xc0, 0x00, 1, 2, 3, 4, 5, 6, 7, 8, 0x60, 0x12, 0x20, 0x00, 0, 0, 0, 0,
        ];
        bytes.extend_from_slice(&[2, 4, 5, 0xb4]); // MSS 1460
        bytes.extend_from_slice(b"data");
        bytes
    }

    #[test]
    fn every_field_is_read() {
        let bytes = segment();

        let tcp = parse_tcp(&bytes).unwrap();

        assert_eq!((tcp.src_port, tcp.dst_port), (80, 49152));
        assert_eq!(
            (tcp.seq, tcp.ack, tcp.window),
            (0x0102_0304, 0x0506_0708, 0x2000)
        );
        assert_eq!(tcp.header_len, 24);
        assert_eq!(tcp.payload, b"data");
        assert_eq!(tcp.flags, TcpFlags::SYN.union(TcpFlags::ACK));
    }

    #[test]
    fn each_flag_is_its_own_bit() {
        let read = |bits: u8| {
            let flags = TcpFlags::from_bits(bits);
            [
                flags.fin(),
                flags.syn(),
                flags.rst(),
                flags.psh(),
                flags.ack(),
            ]
        };

        for bit in 0..5 {
            let mut expected = [false; 5];
            expected[bit] = true;
            assert_eq!(read(1 << bit), expected);
        }
        assert_eq!(read(0xe0), [false; 5]);
    }

    #[test]
    fn a_header_truncated_anywhere_is_refused() {
        let bytes = segment();
        for length in 0..24 {
            assert_eq!(parse_tcp(&bytes[..length]), Err(WireError::TcpTruncated));
        }
    }

    #[test]
    fn a_data_offset_below_five_words_is_refused() {
        for words in 0..5_u8 {
            let mut bytes = segment();
            bytes[12] = words << 4;

            assert_eq!(parse_tcp(&bytes), Err(WireError::TcpHeaderLength));
        }
    }
}
