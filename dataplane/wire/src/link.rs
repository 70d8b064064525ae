//! Link layers: from a captured frame to the first byte of its IP header.
//!
//! Source: <https://www.tcpdump.org/linktypes.html>, IEEE 802.1Q, IEEE 802.1ad.

use crate::WireError;

/// Most VLAN tags that are skipped in one frame. Chosen: operators stack two, seldom three.
pub const MAX_VLAN_TAGS: usize = 8;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// How the frames of a capture or an interface begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkType {
    /// Ethernet II, with any stack of VLAN tags.
    Ethernet,
    /// Linux cooked capture, version 1 (16 bytes).
    LinuxSll,
    /// Linux cooked capture, version 2 (20 bytes).
    LinuxSll2,
    /// No link header: the frame is an IPv4 or IPv6 packet.
    RawIp,
    /// BSD loopback: address family in the byte order of the capturing machine.
    Null,
    /// OpenBSD loopback: address family in network byte order.
    Loop,
}

impl LinkType {
    /// The link type that a capture file's number stands for; `None` when it is not supported.
    ///
    /// Raw IP has several numbers: 101, the BSD values 12 and 14, and 228 and 229 for IPv4 and
    /// IPv6 alone.
    #[must_use]
    pub const fn from_pcap(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Null),
            1 => Some(Self::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Self::RawIp),
            108 => Some(Self::Loop),
            113 => Some(Self::LinuxSll),
            276 => Some(Self::LinuxSll2),
            _ => None,
        }
    }

    /// The number to write into a capture file.
    #[must_use]
    pub const fn to_pcap(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Ethernet => 1,
            Self::RawIp => 101,
            Self::Loop => 108,
            Self::LinuxSll => 113,
            Self::LinuxSll2 => 276,
        }
    }
}

/// The bytes of `frame` from its IP header on; Ethernet padding may still follow the packet.
///
/// # Errors
///
/// [`WireError::LinkTruncated`] when the frame ends inside its link header,
/// [`WireError::VlanStackTooDeep`] beyond [`MAX_VLAN_TAGS`], [`WireError::IpVersion`] when the
/// packet's version is not the one announced, [`WireError::NotIp`] for everything else.
#[inline]
pub fn strip_link(link: LinkType, frame: &[u8]) -> Result<&[u8], WireError> {
    match link {
        LinkType::Ethernet => {
            let (head, rest) = frame
                .split_first_chunk::<14>()
                .ok_or(WireError::LinkTruncated)?;
            strip_ethertype(u16::from_be_bytes([head[12], head[13]]), rest)
        }
        LinkType::RawIp => match frame.first().map(|first| first >> 4) {
            None => Err(WireError::LinkTruncated),
            Some(4 | 6) => Ok(frame),
            Some(_) => Err(WireError::NotIp),
        },
        LinkType::LinuxSll => {
            let (head, rest) = frame
                .split_first_chunk::<16>()
                .ok_or(WireError::LinkTruncated)?;
            strip_ethertype(u16::from_be_bytes([head[14], head[15]]), rest)
        }
        LinkType::LinuxSll2 => {
            let (head, rest) = frame
                .split_first_chunk::<20>()
                .ok_or(WireError::LinkTruncated)?;
            strip_ethertype(u16::from_be_bytes([head[0], head[1]]), rest)
        }
        LinkType::Null => {
            let (head, rest) = frame
                .split_first_chunk::<4>()
                .ok_or(WireError::LinkTruncated)?;
            // The capturing machine's byte order is unknown; a family number is below 2^16, so
            // exactly one order gives a small number.
            let family = u32::from_le_bytes(*head).min(u32::from_be_bytes(*head));
            strip_family(family, rest)
        }
        LinkType::Loop => {
            let (head, rest) = frame
                .split_first_chunk::<4>()
                .ok_or(WireError::LinkTruncated)?;
            strip_family(u32::from_be_bytes(*head), rest)
        }
    }
}

#[inline]
fn strip_ethertype(ethertype: u16, rest: &[u8]) -> Result<&[u8], WireError> {
    match ethertype {
        ETHERTYPE_IPV4 => announced(4, rest),
        ETHERTYPE_IPV6 => announced(6, rest),
        _ => strip_vlan_tags(ethertype, rest),
    }
}

/// The address families that BSD, macOS and Linux write for IPv4 (2) and IPv6 (10, 24, 28, 30).
const fn strip_family(family: u32, rest: &[u8]) -> Result<&[u8], WireError> {
    match family {
        2 => announced(4, rest),
        10 | 24 | 28 | 30 => announced(6, rest),
        _ => Err(WireError::NotIp),
    }
}

#[cold]
fn strip_vlan_tags(mut ethertype: u16, mut rest: &[u8]) -> Result<&[u8], WireError> {
    for _ in 0..=MAX_VLAN_TAGS {
        match ethertype {
            ETHERTYPE_IPV4 => return announced(4, rest),
            ETHERTYPE_IPV6 => return announced(6, rest),
            // 802.1Q, 802.1ad, and the numbers that were used for stacking before 802.1ad.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => {
                let (tag, inner) = rest
                    .split_first_chunk::<4>()
                    .ok_or(WireError::LinkTruncated)?;
                ethertype = u16::from_be_bytes([tag[2], tag[3]]);
                rest = inner;
            }
            _ => return Err(WireError::NotIp),
        }
    }
    Err(WireError::VlanStackTooDeep)
}

/// Refuses a packet of another version than its link header says; an empty one is left to the IP
/// parser.
#[inline]
const fn announced(version: u8, packet: &[u8]) -> Result<&[u8], WireError> {
    match packet.first() {
        Some(first) if *first >> 4 != version => Err(WireError::IpVersion),
        _ => Ok(packet),
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
