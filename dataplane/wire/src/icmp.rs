//! ICMP and ICMPv6: just enough to know an error message and the packet that it quotes.
//!
//! A quoted GTP-U packet is evidence of a broken path, never traffic: it lies behind protocol 1 or
//! 58, so it is never looked at as a G-PDU. Source: RFC 792, RFC 4443 §2.1.

use crate::{WireError, protocol};

/// Which of the two protocols a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpFamily {
    /// ICMP for IPv4.
    V4,
    /// ICMPv6.
    V6,
}

impl IcmpFamily {
    /// The family of an IP protocol number; `None` when the packet is not ICMP.
    #[must_use]
    pub const fn from_protocol(number: u8) -> Option<Self> {
        match number {
            protocol::ICMP => Some(Self::V4),
            protocol::ICMPV6 => Some(Self::V6),
            _ => None,
        }
    }

    /// The IP protocol number.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::V4 => protocol::ICMP,
            Self::V6 => protocol::ICMPV6,
        }
    }
}

/// One ICMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpMessage<'a> {
    /// Which protocol.
    pub family: IcmpFamily,
    /// Type.
    pub message_type: u8,
    /// Code.
    pub code: u8,
    /// Bytes 4 to 7: next-hop MTU, identifier and sequence, or unused, by type.
    pub rest: u32,
    /// The bytes behind the first eight.
    pub body: &'a [u8],
}

impl<'a> IcmpMessage<'a> {
    /// Whether the message reports an error about another packet.
    ///
    /// ICMP: destination unreachable, source quench, redirect, time exceeded, parameter problem.
    /// ICMPv6: every type below 128.
    #[must_use]
    pub const fn is_error(&self) -> bool {
        match self.family {
            IcmpFamily::V4 => matches!(self.message_type, 3 | 4 | 5 | 11 | 12),
            IcmpFamily::V6 => self.message_type < 128,
        }
    }

    /// The start of the packet that an error is about, from its IP header on; usually cut.
    #[must_use]
    pub const fn quoted(&self) -> Option<&'a [u8]> {
        if self.is_error() {
            Some(self.body)
        } else {
            None
        }
    }
}

/// Parses the payload of an IP packet as ICMP.
///
/// # Errors
///
/// [`WireError::IcmpTruncated`] below 8 bytes.
pub fn parse_icmp(family: IcmpFamily, bytes: &[u8]) -> Result<IcmpMessage<'_>, WireError> {
    let (head, body) = bytes
        .split_first_chunk::<8>()
        .ok_or(WireError::IcmpTruncated)?;
    Ok(IcmpMessage {
        family,
        message_type: head[0],
        code: head[1],
        rest: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{build, parse_gtpu, parse_ip, parse_udp};

    #[test]
    fn an_error_that_quotes_a_g_pdu_is_icmp_and_shows_the_quoted_packet() {
        for (router, gnb, upf) in [
            ("192.0.2.9", "192.0.2.1:2152", "192.0.2.2:2152"),
            ("2001:db8::9", "[2001:db8::1]:2152", "[2001:db8::2]:2152"),
        ] {
            let (gnb, upf) = (gnb.parse().unwrap(), upf.parse().unwrap());
            let inner = build::udp_packet(
                "10.45.0.2:1".parse().unwrap(),
                "8.8.8.8:53".parse().unwrap(),
                b"q",
            )
            .unwrap();
            let quoted = build::gpdu_packet(gnb, upf, 77, &inner).unwrap();
            let error =
                build::icmp_port_unreachable(router.parse().unwrap(), gnb.ip(), &quoted).unwrap();

            let ip = parse_ip(&error).unwrap();
            let family = IcmpFamily::from_protocol(ip.protocol).unwrap();
            let message = parse_icmp(family, ip.payload).unwrap();

            assert_ne!(ip.protocol, protocol::UDP);
            let inside = parse_ip(message.quoted().unwrap()).unwrap();
            assert_eq!(inside.total_len as usize, quoted.len());
            let udp = parse_udp(inside.payload).unwrap();
            assert_eq!(parse_gtpu(udp.payload).unwrap().teid, 77);
        }
    }

    #[test]
    fn an_echo_is_no_error_and_quotes_nothing() {
        let v4 = parse_icmp(IcmpFamily::V4, &[8, 0, 0, 0, 0, 1, 0, 2, 9]).unwrap();
        let v6 = parse_icmp(IcmpFamily::V6, &[128, 0, 0, 0, 0, 1, 0, 2, 9]).unwrap();

        assert_eq!((v4.quoted(), v6.quoted()), (None, None));
        assert_eq!((v4.rest, v4.body), (0x0001_0002, &[9][..]));
    }

    #[test]
    fn a_header_truncated_anywhere_is_refused() {
        for length in 0..8 {
            let bytes = &[3; 8][..length];
            assert_eq!(
                parse_icmp(IcmpFamily::V4, bytes),
                Err(WireError::IcmpTruncated)
            );
        }
    }
}
