//! Ethernet, IP and UDP headers around a packet that leaves a raw interface.
//!
//! Pure: bytes in, bytes out. Every back end that sends whole frames uses it.
//!
//! ```text
//! Envelope::Udp       | Ethernet 14, +4 with a VLAN | IPv4 20 / IPv6 40 | UDP 8 | head | body |
//! Envelope::Ethernet  | Ethernet 14, +4 with a VLAN | head | body |     (the body is IP already)
//! ```
//!
//! It does not fragment: a packet beyond the link's MTU is refused, and IPv4 packets say "don't
//! fragment", which allows the identification 0 (RFC 6864 §4.1).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use qlink_wire::checksum::Checksum;
use qlink_wire::protocol;

use crate::Outgoing;

/// The most header bytes in front of head and body: Ethernet with a VLAN, IPv6, UDP.
pub const FRAME_HEAD_MAX: usize = 18 + 40 + 8;

/// Shortest Ethernet frame without its check sequence; shorter ones are padded with zeros.
/// Source: IEEE 802.3 §4A.4.2.
pub const FRAME_MIN: usize = 60;

/// Hop limit of the outer header (chosen: the recommended default of RFC 1700).
const HOP_LIMIT: u8 = 64;

/// The address of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// From the bytes in transmission order.
    #[must_use]
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The bytes in transmission order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is no card's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hardware address has six hexadecimal bytes separated by colons")]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    /// Reads `02:00:5e:10:00:01`.
    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(MacAddressError)?;
            let plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            *octet = plain
                .then(|| u8::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or(MacAddressError)?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(MacAddressError),
        }
    }
}

/// Whether UDP over IPv4 carries a checksum; over IPv6 it always does (RFC 8200 §8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ipv4Checksum {
    /// Computed: protects the tunnel header and lets a receiving Linux coalesce packets (GRO).
    #[default]
    Computed,
    /// Zero, which means none (RFC 768); saves one pass over the payload.
    Zero,
}

/// What is written in front of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// Ethernet alone; head and body together are an IP packet (N6).
    Ethernet,
    /// Ethernet, IP and UDP; head and body together are the payload (N3).
    Udp {
        /// Our own endpoint: source address and port.
        local: SocketAddr,
        /// Whether an IPv4 datagram carries a checksum.
        checksum: Ipv4Checksum,
    },
}

/// Why a packet cannot be framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The receiver belongs to another address family than our endpoint.
    #[error("our endpoint and the receiver belong to different address families")]
    FamilyMismatch,
    /// The IP packet is longer than the link carries.
    #[error("an IP packet of {length} bytes exceeds the link's {mtu}")]
    TooLong {
        /// Bytes of the IP packet with its outer headers.
        length: usize,
        /// Bytes the link carries.
        mtu: usize,
    },
    /// Without an envelope the packet has to be IP, and is not.
    #[error("the packet is neither IPv4 nor IPv6")]
    NotIp,
    /// The memory given for the frame is too short.
    #[error("a frame of {length} bytes does not fit {room} bytes of memory")]
    NoRoom {
        /// Bytes of the frame.
        length: usize,
        /// Bytes given.
        room: usize,
    },
}

impl FrameError {
    /// What the system would say of such a packet on a socket (`errno`).
    pub(crate) const fn code(self) -> i32 {
        match self {
            Self::FamilyMismatch => libc::EAFNOSUPPORT,
            Self::TooLong { .. } | Self::NoRoom { .. } => libc::EMSGSIZE,
            Self::NotIp => libc::EPROTONOSUPPORT,
        }
    }
}

/// Writes frames for one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framer {
    /// What goes in front.
    pub envelope: Envelope,
    /// Our card's address.
    pub source: MacAddress,
    /// VLAN to tag with, 1 to 4094; `None` sends untagged. Source: IEEE 802.1Q §9.6.
    pub vlan: Option<u16>,
    /// Longest IP packet, bytes.
    pub mtu: usize,
}

/// A gathered header: the bytes and how many of them count.
struct Header {
    bytes: [u8; FRAME_HEAD_MAX],
    len: usize,
}

impl Header {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Framer {
    /// Writes the frame for `item` into `out` and returns its length in bytes, at least
    /// [`FRAME_MIN`].
    ///
    /// # Errors
    ///
    /// Any [`FrameError`]; `out` may then hold a part of the frame.
    #[inline]
    pub fn write(
        &self,
        next_hop: MacAddress,
        item: &Outgoing<'_>,
        out: &mut [u8],
    ) -> Result<usize, FrameError> {
        let mut header = Header {
            bytes: [0; FRAME_HEAD_MAX],
            len: 0,
        };
        let link_len = self.push_link(&mut header, next_hop, item)?;
        if let Envelope::Udp { local, .. } = self.envelope {
            push_ip_and_udp(&mut header, local, item, self.mtu)?;
        }
        let used = header.len.saturating_add(item.len());
        let ip_len = used.saturating_sub(link_len);
        if ip_len > self.mtu {
            return Err(FrameError::TooLong {
                length: ip_len,
                mtu: self.mtu,
            });
        }
        let length = used.max(FRAME_MIN);
        let room = out.len();
        let frame = out
            .get_mut(..length)
            .ok_or(FrameError::NoRoom { length, room })?;
        let (front, rest) = frame.split_at_mut(header.len);
        let (head, rest) = rest.split_at_mut(item.head.len());
        let (body, padding) = rest.split_at_mut(item.body.len());
        front.copy_from_slice(header.as_slice());
        head.copy_from_slice(item.head);
        body.copy_from_slice(item.body);
        padding.fill(0);
        self.seal_udp(frame, link_len, used, item.to.ip());
        Ok(length)
    }

    /// Writes the Ethernet header and returns its length.
    fn push_link(
        &self,
        header: &mut Header,
        next_hop: MacAddress,
        item: &Outgoing<'_>,
    ) -> Result<usize, FrameError> {
        let is_v4 = match self.envelope {
            Envelope::Udp { .. } => item.to.is_ipv4(),
            Envelope::Ethernet => {
                let first = item.head.first().or_else(|| item.body.first());
                match first.map(|first| first >> 4) {
                    Some(4) => true,
                    Some(6) => false,
                    _ => return Err(FrameError::NotIp),
                }
            }
        };
        header.push(&next_hop.octets());
        header.push(&self.source.octets());
        if let Some(vlan) = self.vlan {
            header.push(&0x8100_u16.to_be_bytes());
            header.push(&(vlan & 0x0fff).to_be_bytes());
        }
        let ethertype: u16 = if is_v4 { 0x0800 } else { 0x86dd };
        header.push(&ethertype.to_be_bytes());
        Ok(header.len)
    }

    /// Writes the UDP checksum of a finished frame where there is one.
    fn seal_udp(&self, frame: &mut [u8], link_len: usize, used: usize, to: IpAddr) {
        let Envelope::Udp { local, checksum } = self.envelope else {
            return;
        };
        if local.is_ipv4() && checksum == Ipv4Checksum::Zero {
            return;
        }
        let ip_len = if local.is_ipv4() { 20 } else { 40 };
        let udp_at = link_len.saturating_add(ip_len);
        let Some(datagram) = frame.get_mut(udp_at..used) else {
            return;
        };
        let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
        let sum = Checksum::default()
            .with_pseudo_header(local.ip(), to, protocol::UDP, length)
            .with(&word_sum(datagram))
            .finish();
        // Zero would mean "no checksum", so it is sent as its other representation (RFC 768).
        let sum = if sum == 0 { u16::MAX } else { sum };
        if let Some(place) = datagram.get_mut(6..8) {
            place.copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// Writes the outer IP header and the UDP header with a checksum of zero.
fn push_ip_and_udp(
    header: &mut Header,
    local: SocketAddr,
    item: &Outgoing<'_>,
    mtu: usize,
) -> Result<(), FrameError> {
    let udp_len = item.len().saturating_add(8);
    let too_long = |length| FrameError::TooLong { length, mtu };
    match (local.ip(), item.to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let length = udp_len.saturating_add(20);
            let stated = u16::try_from(length).map_err(|_| too_long(length))?;
            let mut ip = [0; 20];
            let [high, low] = stated.to_be_bytes();
            let (fixed, addresses) = ip.split_at_mut(12);
            // Version and length, no class, length, identification 0, don't fragment.
            let front = [
                0x45,
                0,
                high,
                low,
                0,
                0,
                0x40,
                0,
                HOP_LIMIT,
                protocol::UDP,
                0,
                0,
            ];
            fixed.copy_from_slice(&front);
            let (source, destination) = addresses.split_at_mut(4);
            source.copy_from_slice(&src.octets());
            destination.copy_from_slice(&dst.octets());
            let sum = Checksum::default().with(&ip).finish();
            if let Some(place) = ip.get_mut(10..12) {
                place.copy_from_slice(&sum.to_be_bytes());
            }
            header.push(&ip);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let length = udp_len.saturating_add(40);
            let stated = u16::try_from(udp_len).map_err(|_| too_long(length))?;
            header.push(&[0x60, 0, 0, 0]);
            header.push(&stated.to_be_bytes());
            header.push(&[protocol::UDP, HOP_LIMIT]);
            header.push(&src.octets());
            header.push(&dst.octets());
        }
        _ => return Err(FrameError::FamilyMismatch),
    }
    header.push(&local.port().to_be_bytes());
    header.push(&item.to.port().to_be_bytes());
    let stated = u16::try_from(udp_len).map_err(|_| too_long(udp_len))?;
    header.push(&stated.to_be_bytes());
    header.push(&[0, 0]);
    Ok(())
}

/// The one's complement sum of all 16-bit words as one such word, in packet order; an odd last
/// byte is padded with zero.
///
/// It adds 32-bit words in the machine's order, which gives the same sum (RFC 1071 §2) and lets
/// the compiler use wide registers: a payload of 1400 bytes is summed for every packet sent.
fn word_sum(bytes: &[u8]) -> [u8; 2] {
    let (words, rest) = bytes.as_chunks::<4>();
    // 2^32 words would be needed to wrap; a datagram is smaller.
    let sum: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)))
        .sum();
    let mut last = [0; 4];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    let mut sum = sum.wrapping_add(u64::from(u32::from_ne_bytes(last)));
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0).to_ne_bytes()
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
