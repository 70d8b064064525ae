//! UDP headers. Source: RFC 768.

use crate::WireError;

/// One UDP datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpDatagram<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length of header and payload in bytes as the header states it, at least 8.
    pub length: u16,
    /// The captured payload, never beyond `length`.
    pub payload: &'a [u8],
}

/// Parses the payload of an IP packet as UDP; bytes behind the stated length are ignored.
///
/// # Errors
///
/// [`WireError::UdpTruncated`] below 8 bytes, [`WireError::UdpLength`] when the header states
/// fewer than 8. A length beyond the captured bytes is a cut capture and no error.
#[inline]
pub fn parse_udp(bytes: &[u8]) -> Result<UdpDatagram<'_>, WireError> {
    let (head, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or(WireError::UdpTruncated)?;
    let length = u16::from_be_bytes([head[4], head[5]]);
    let payload_len = length.checked_sub(8).ok_or(WireError::UdpLength)?;
    Ok(UdpDatagram {
        src_port: u16::from_be_bytes([head[0], head[1]]),
        dst_port: u16::from_be_bytes([head[2], head[3]]),
        length,
        payload: rest.get(..usize::from(payload_len)).unwrap_or(rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(length: u16) -> Vec<u8> {
        let mut bytes = vec![0x08, 0x68, 0x13, 0x88];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 1, 2, 3, 4]);
        bytes
    }

    #[test]
    fn ports_length_and_payload_are_read() {
        let bytes = datagram(12);

        let udp = parse_udp(&bytes).unwrap();

        assert_eq!((udp.src_port, udp.dst_port, udp.length), (2152, 5000, 12));
        assert_eq!(udp.payload, [1, 2, 3, 4]);
    }

    #[test]
    fn a_length_below_the_header_is_refused() {
        for length in 0..8 {
            assert_eq!(parse_udp(&datagram(length)), Err(WireError::UdpLength));
        }
    }

    #[test]
    fn a_shorter_length_cuts_the_payload_and_a_longer_one_does_not_extend_it() {
        assert_eq!(parse_udp(&datagram(8)).unwrap().payload, []);
        assert_eq!(parse_udp(&datagram(10)).unwrap().payload, [1, 2]);
        assert_eq!(
            parse_udp(&datagram(u16::MAX)).unwrap().payload,
            [1, 2, 3, 4]
        );
        assert_eq!(parse_udp(&datagram(u16::MAX)).unwrap().length, u16::MAX);
    }

    #[test]
    fn a_header_truncated_anywhere_is_refused() {
        for length in 0..8 {
            assert_eq!(
                parse_udp(&datagram(12)[..length]),
                Err(WireError::UdpTruncated)
            );
        }
    }
}
