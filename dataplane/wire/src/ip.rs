//! IPv4 and IPv6 headers.
//!
//! Network bytes are counted by what the header states ([`IpPacket::total_len`]); payload bytes
//! are only those that were captured. A capture that is cut behind the fixed header is therefore
//! no error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::WireError;

/// Most IPv6 extension headers that are walked. Chosen: RFC 8200 §4.1 foresees seven, each once
/// and destination options twice; real traffic has one or two.
pub const MAX_IPV6_EXTENSIONS: usize = 8;

/// Protocol numbers that this crate names. Source: IANA "Protocol Numbers".
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: nothing follows.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// One IP packet, or one fragment of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// What `payload` is, by IANA number. When an IPv6 capture is cut inside the extension
    /// chain, the number of the first header that is not complete.
    pub protocol: u8,
    /// Length of the whole packet in bytes as the header states it; IPv6: 40 + payload length.
    /// These are the network bytes of the packet, also when the capture is shorter.
    pub total_len: u32,
    /// Length of the header in bytes, including IPv4 options and IPv6 extension headers.
    pub header_len: u16,
    /// Present when the packet is a part of a larger one. IPv6 extension headers behind the
    /// fragment header are then left in `payload`.
    pub fragment: Option<Fragment>,
    /// The captured bytes behind the header, never beyond `total_len`.
    pub payload: &'a [u8],
    /// Bytes behind the header as the header states them; larger than `payload.len()` when the
    /// capture is cut.
    pub payload_len: u32,
}

/// Where a fragment belongs in its datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification; 16 bits in IPv4, 32 bits in IPv6.
    pub id: u32,
    /// Position of the first byte in the datagram's payload, in bytes; a multiple of 8.
    pub offset: u32,
    /// Whether more fragments follow.
    pub more: bool,
}

impl IpPacket<'_> {
    /// Whether fewer bytes were captured than the header states.
    #[inline]
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        // A slice of a packet is shorter than 2^17 bytes, so widening to u64 loses nothing.
        (self.payload.len() as u64) < self.payload_len as u64
    }
}

/// Parses the IPv4 or IPv6 packet at the start of `bytes`; what follows its stated end is ignored.
///
/// IPv6 "atomic fragments" (offset 0, nothing follows) count as whole packets.
/// Source: RFC 791 §3.1, RFC 8200 §3 and §4, RFC 6946 §4, RFC 4302 §2.
///
/// # Errors
///
/// [`WireError::IpTruncated`] when the fixed header (20 or 40 bytes) is not there,
/// [`WireError::IpVersion`], [`WireError::IpHeaderLength`], [`WireError::IpTotalLength`],
/// [`WireError::Ipv6ExtensionLength`], [`WireError::Ipv6ChainTooLong`].
// Always: returned through memory, the result costs more than the parse (benches/SPECIFICATION.md,
// `pipeline::uplink`).
#[inline(always)]
pub fn parse_ip(bytes: &[u8]) -> Result<IpPacket<'_>, WireError> {
    match bytes.first().map(|first| first >> 4) {
        Some(4) => parse_ipv4(bytes),
        Some(6) => parse_ipv6(bytes),
        Some(_) => Err(WireError::IpVersion),
        None => Err(WireError::IpTruncated),
    }
}

#[inline(always)]
fn parse_ipv4(bytes: &[u8]) -> Result<IpPacket<'_>, WireError> {
    let head = bytes.first_chunk::<20>().ok_or(WireError::IpTruncated)?;
    let header_len = u16::from(head[0] & 0x0f) << 2;
    if header_len < 20 {
        return Err(WireError::IpHeaderLength);
    }
    let total_len = u16::from_be_bytes([head[2], head[3]]);
    let payload_len = total_len
        .checked_sub(header_len)
        .ok_or(WireError::IpTotalLength)?;
    let fragment = u16::from_be_bytes([head[6], head[7]]);
    Ok(IpPacket {
        src: IpAddr::V4(Ipv4Addr::new(head[12], head[13], head[14], head[15])),
        dst: IpAddr::V4(Ipv4Addr::new(head[16], head[17], head[18], head[19])),
        protocol: head[9],
        total_len: u32::from(total_len),
        header_len,
        fragment: (fragment & 0x3fff != 0).then(|| Fragment {
            id: u32::from(u16::from_be_bytes([head[4], head[5]])),
            offset: u32::from(fragment & 0x1fff) << 3,
            more: fragment & 0x2000 != 0,
        }),
        payload: cut(bytes, usize::from(total_len))
            .get(usize::from(header_len)..)
            .unwrap_or(&[]),
        payload_len: u32::from(payload_len),
    })
}

#[inline]
fn parse_ipv6(bytes: &[u8]) -> Result<IpPacket<'_>, WireError> {
    let (head, rest) = bytes
        .split_first_chunk::<40>()
        .ok_or(WireError::IpTruncated)?;
    let stated = u16::from_be_bytes([head[4], head[5]]);
    let body = cut(rest, usize::from(stated));
    let chain = walk_extensions(head[6], body, usize::from(stated))?;
    let [_, _, _, _, _, _, _, _, addresses @ ..] = head;
    let (src, dst) = addresses.split_at(16);
    Ok(IpPacket {
        src: IpAddr::V6(ipv6_address(src)),
        dst: IpAddr::V6(ipv6_address(dst)),
        protocol: chain.protocol,
        total_len: u32::from(stated) + 40,
        header_len: chain.len.saturating_add(40),
        fragment: chain.fragment,
        payload: body.get(usize::from(chain.len)..).unwrap_or(&[]),
        payload_len: u32::from(stated.saturating_sub(chain.len)),
    })
}

/// The chain of IPv6 extension headers at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtensionChain {
    /// What follows the chain.
    pub(crate) protocol: u8,
    /// Its length in bytes.
    pub(crate) len: u16,
    /// The fragment header that ended it.
    pub(crate) fragment: Option<Fragment>,
}

/// Walks extension headers up to a transport header, a fragment header of a real fragment, or the
/// end of the captured `body`; `stated` is how long the headers say that `body` is.
#[inline]
pub(crate) fn walk_extensions(
    protocol: u8,
    body: &[u8],
    stated: usize,
) -> Result<ExtensionChain, WireError> {
    let chain = ExtensionChain {
        protocol,
        len: 0,
        fragment: None,
    };
    if is_extension(protocol) {
        walk_chain(chain, body, stated)
    } else {
        Ok(chain)
    }
}

#[cold]
fn walk_chain(
    mut chain: ExtensionChain,
    body: &[u8],
    stated: usize,
) -> Result<ExtensionChain, WireError> {
    for _ in 0..MAX_IPV6_EXTENSIONS {
        let rest = body.get(usize::from(chain.len)..).unwrap_or(&[]);
        let left = stated.saturating_sub(usize::from(chain.len));
        // Every extension header has at least 8 bytes.
        let Some(head) = rest.first_chunk::<8>() else {
            return if left < 8 {
                Err(WireError::Ipv6ExtensionLength)
            } else {
                Ok(chain)
            };
        };
        let len = match chain.protocol {
            protocol::FRAGMENT => 8,
            protocol::AUTHENTICATION => (u16::from(head[1]) + 2) << 2,
            _ => (u16::from(head[1]) + 1) << 3,
        };
        if usize::from(len) > left {
            return Err(WireError::Ipv6ExtensionLength);
        }
        if usize::from(len) > rest.len() {
            return Ok(chain);
        }
        // At most 8 headers of 2048 bytes: no overflow.
        chain.len += len;
        if chain.protocol == protocol::FRAGMENT {
            let place = u16::from_be_bytes([head[2], head[3]]);
            // Offset and "more" both zero is an atomic fragment: a whole packet (RFC 6946 §4).
            if place & 0xfff9 != 0 {
                chain.fragment = Some(Fragment {
                    id: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
                    offset: u32::from(place & 0xfff8),
                    more: place & 1 != 0,
                });
            }
        }
        chain.protocol = head[0];
        if chain.fragment.is_some() || !is_extension(chain.protocol) {
            return Ok(chain);
        }
    }
    Err(WireError::Ipv6ChainTooLong)
}

#[inline]
const fn is_extension(number: u8) -> bool {
    matches!(
        number,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

#[inline]
fn cut(bytes: &[u8], stated: usize) -> &[u8] {
    bytes.get(..stated).unwrap_or(bytes)
}

#[inline]
fn ipv6_address(bytes: &[u8]) -> Ipv6Addr {
    bytes
        .first_chunk::<16>()
        .map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
}

#[cfg(test)]
#[path = "ip_tests.rs"]
mod tests;
