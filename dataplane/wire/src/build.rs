//! Encoders for tests, simulators and captures: whole packets with correct checksums.
//!
//! These allocate and are not for the packet path; the data plane prepends
//! [`gpdu_header`](crate::gpdu_header) and sends both parts.

use std::net::{IpAddr, SocketAddr};

use crate::checksum::{Checksum, transport_checksum};
use crate::{LinkType, PduSessionInfo, TcpFlags, extension_type, message_type, parse_ip, protocol};

/// Why a packet could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// One address is IPv4 and the other IPv6.
    #[error("source and destination belong to different address families")]
    FamilyMismatch,
    /// A length does not fit its header field.
    #[error("{length} bytes do not fit the length field, which holds {limit}")]
    TooLong {
        /// The bytes given.
        length: usize,
        /// The most that fit.
        limit: usize,
    },
    /// An option or extension is not a multiple of the unit that its length is stated in.
    #[error("{length} bytes are not a multiple of {unit}")]
    Unaligned {
        /// The bytes given.
        length: usize,
        /// The unit.
        unit: usize,
    },
    /// The bytes given as a packet do not parse.
    #[error("the packet to build upon does not parse")]
    Packet(#[from] crate::WireError),
}

/// One IPv6 extension header: its type, and everything behind its next-header byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Extension<'a> {
    /// Protocol number of the extension header.
    pub kind: u8,
    /// The bytes behind the length byte: 6 + 8n, or 6 + 4n for the authentication header; exactly
    /// 6 for a fragment header, whose second byte is reserved.
    pub content: &'a [u8],
}

/// The IP header around a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpEnvelope<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IPv4 identification.
    pub id: u16,
    /// Time to live, hop limit.
    pub hop_limit: u8,
    /// IPv4 options, a multiple of 4 bytes, at most 40; ignored for IPv6.
    pub options: &'a [u8],
    /// IPv6 extension headers; ignored for IPv4.
    pub extensions: &'a [Ipv6Extension<'a>],
}

impl<'a> IpEnvelope<'a> {
    /// An envelope without options, hop limit 64.
    #[must_use]
    pub const fn new(src: IpAddr, dst: IpAddr) -> Self {
        Self {
            src,
            dst,
            id: 0,
            hop_limit: 64,
            options: &[],
            extensions: &[],
        }
    }

    /// The same with IPv4 options.
    #[must_use]
    pub const fn with_options(self, options: &'a [u8]) -> Self {
        Self { options, ..self }
    }

    /// The same with IPv6 extension headers.
    #[must_use]
    pub const fn with_extensions(self, extensions: &'a [Ipv6Extension<'a>]) -> Self {
        Self { extensions, ..self }
    }

    /// The packet that carries `payload` as `number`.
    ///
    /// # Errors
    ///
    /// [`BuildError::FamilyMismatch`], [`BuildError::TooLong`], [`BuildError::Unaligned`].
    pub fn wrap(&self, number: u8, payload: &[u8]) -> Result<Vec<u8>, BuildError> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header_len = aligned(self.options.len(), 4, 40)?.saturating_add(20);
                let total_len = length_field(header_len.saturating_add(payload.len()))?;
                // At most 60 bytes, so at most 15 words.
                let words = u8::try_from(header_len >> 2).unwrap_or(15);
                let mut head = vec![0x40 | words, 0];
                head.extend_from_slice(&total_len.to_be_bytes());
                head.extend_from_slice(&self.id.to_be_bytes());
                head.extend_from_slice(&[0, 0, self.hop_limit, number, 0, 0]);
                head.extend_from_slice(&src.octets());
                head.extend_from_slice(&dst.octets());
                head.extend_from_slice(self.options);
                write_ipv4_checksum(&mut head);
                head.extend_from_slice(payload);
                Ok(head)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let (first, chain) = self.extension_chain(number)?;
                let body_len = length_field(chain.len().saturating_add(payload.len()))?;
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend_from_slice(&body_len.to_be_bytes());
                packet.extend_from_slice(&[first, self.hop_limit]);
                packet.extend_from_slice(&src.octets());
                packet.extend_from_slice(&dst.octets());
                packet.extend_from_slice(&chain);
                packet.extend_from_slice(payload);
                Ok(packet)
            }
            _ => Err(BuildError::FamilyMismatch),
        }
    }

    /// The first next-header number and the bytes of all extension headers before `number`.
    fn extension_chain(&self, number: u8) -> Result<(u8, Vec<u8>), BuildError> {
        let (mut next, mut chain) = (number, Vec::new());
        for extension in self.extensions.iter().rev() {
            let len = extension.content.len().saturating_add(2);
            let stated = match extension.kind {
                protocol::FRAGMENT => 0,
                protocol::AUTHENTICATION => (aligned(len, 4, 1028)? >> 2).saturating_sub(2),
                _ => (aligned(len, 8, 2048)? >> 3).saturating_sub(1),
            };
            // The limits above keep it in one byte.
            let mut header = vec![next, u8::try_from(stated).unwrap_or(u8::MAX)];
            header.extend_from_slice(extension.content);
            header.append(&mut chain);
            (next, chain) = (extension.kind, header);
        }
        Ok((next, chain))
    }
}

/// The fields of a TCP header that a simulator chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpFields<'a> {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Control bits.
    pub flags: TcpFlags,
    /// Window.
    pub window: u16,
    /// Options, a multiple of 4 bytes, at most 40.
    pub options: &'a [u8],
}

impl TcpFields<'_> {
    /// Fields without options, with the largest unscaled window.
    #[must_use]
    pub const fn new(seq: u32, ack: u32, flags: TcpFlags) -> Self {
        Self {
            seq,
            ack,
            flags,
            window: u16::MAX,
            options: &[],
        }
    }
}

/// A UDP header and payload with its checksum, to be wrapped in IP.
///
/// # Errors
///
/// [`BuildError::TooLong`].
pub fn udp_datagram(
    src: SocketAddr,
    dst: SocketAddr,
    payload: &[u8],
) -> Result<Vec<u8>, BuildError> {
    let length = length_field(payload.len().saturating_add(8))?;
    let mut datagram = Vec::with_capacity(usize::from(length));
    datagram.extend_from_slice(&src.port().to_be_bytes());
    datagram.extend_from_slice(&dst.port().to_be_bytes());
    datagram.extend_from_slice(&length.to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    // Zero would mean "no checksum" (RFC 768), so it is sent as its other representation.
    let sum = match transport_checksum(src.ip(), dst.ip(), protocol::UDP, &datagram) {
        0 => u16::MAX,
        sum => sum,
    };
    write_at(&mut datagram, 6, sum);
    Ok(datagram)
}

/// A UDP packet in IP.
///
/// # Errors
///
/// [`BuildError::FamilyMismatch`], [`BuildError::TooLong`].
pub fn udp_packet(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Result<Vec<u8>, BuildError> {
    IpEnvelope::new(src.ip(), dst.ip()).wrap(protocol::UDP, &udp_datagram(src, dst, payload)?)
}

/// A TCP segment in IP.
///
/// # Errors
///
/// [`BuildError::FamilyMismatch`], [`BuildError::TooLong`], [`BuildError::Unaligned`].
pub fn tcp_packet(
    src: SocketAddr,
    dst: SocketAddr,
    fields: &TcpFields<'_>,
    payload: &[u8],
) -> Result<Vec<u8>, BuildError> {
    let header_len = aligned(fields.options.len(), 4, 40)?.saturating_add(20);
    // At most 60 bytes, so at most 15 words.
    let words = u8::try_from(header_len >> 2).unwrap_or(15);
    let mut segment = Vec::with_capacity(header_len.saturating_add(payload.len()));
    segment.extend_from_slice(&src.port().to_be_bytes());
    segment.extend_from_slice(&dst.port().to_be_bytes());
    segment.extend_from_slice(&fields.seq.to_be_bytes());
    segment.extend_from_slice(&fields.ack.to_be_bytes());
    segment.extend_from_slice(&[words << 4, fields.flags.bits()]);
    segment.extend_from_slice(&fields.window.to_be_bytes());
    segment.extend_from_slice(&[0; 4]);
    segment.extend_from_slice(fields.options);
    segment.extend_from_slice(payload);
    let sum = transport_checksum(src.ip(), dst.ip(), protocol::TCP, &segment);
    write_at(&mut segment, 16, sum);
    IpEnvelope::new(src.ip(), dst.ip()).wrap(protocol::TCP, &segment)
}

/// An ICMP or ICMPv6 message in IP; `rest` are header bytes 4 to 7.
///
/// # Errors
///
/// [`BuildError::FamilyMismatch`], [`BuildError::TooLong`].
pub fn icmp_packet(
    src: IpAddr,
    dst: IpAddr,
    (kind, code, rest): (u8, u8, u32),
    body: &[u8],
) -> Result<Vec<u8>, BuildError> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&rest.to_be_bytes());
    message.extend_from_slice(body);
    let (number, sum) = match src {
        IpAddr::V4(_) => (protocol::ICMP, Checksum::default().with(&message).finish()),
        IpAddr::V6(_) => (
            protocol::ICMPV6,
            transport_checksum(src, dst, protocol::ICMPV6, &message),
        ),
    };
    write_at(&mut message, 2, sum);
    IpEnvelope::new(src, dst).wrap(number, &message)
}

/// The ICMP error "port unreachable" that quotes the start of a packet, as much as a router may
/// (576 bytes in IPv4, 1280 in IPv6). Source: RFC 1812 §4.3.2.3, RFC 4443 §3.1.
///
/// # Errors
///
/// [`BuildError::FamilyMismatch`].
pub fn icmp_port_unreachable(
    src: IpAddr,
    dst: IpAddr,
    about: &[u8],
) -> Result<Vec<u8>, BuildError> {
    let (kind, code, most) = match src {
        IpAddr::V4(_) => (3, 3, 576 - 28),
        IpAddr::V6(_) => (1, 4, 1280 - 48),
    };
    icmp_packet(
        src,
        dst,
        (kind, code, 0),
        about.get(..most).unwrap_or(about),
    )
}

/// One GTP-U extension header; its content is 2 + 4n bytes, at most 1018.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GtpuExtension<'a> {
    /// Extension header type.
    pub kind: u8,
    /// The bytes between length and next type.
    pub content: &'a [u8],
}

/// A GTP-U message to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GtpuMessage<'a> {
    /// Message type.
    pub message_type: u8,
    /// Tunnel endpoint identifier.
    pub teid: u32,
    /// Sequence number; `None` leaves the S flag off.
    pub sequence: Option<u16>,
    /// N-PDU number; `None` leaves the PN flag off.
    pub npdu: Option<u8>,
    /// PDU session container, written before the other extension headers.
    pub pdu_session: Option<PduSessionInfo>,
    /// Further extension headers, in order.
    pub extensions: &'a [GtpuExtension<'a>],
}

impl<'a> GtpuMessage<'a> {
    /// A G-PDU without any option.
    #[must_use]
    pub const fn gpdu(teid: u32) -> Self {
        Self {
            message_type: message_type::G_PDU,
            teid,
            sequence: None,
            npdu: None,
            pdu_session: None,
            extensions: &[],
        }
    }

    /// The same with a PDU session container.
    #[must_use]
    pub const fn with_pdu_session(self, info: PduSessionInfo) -> Self {
        Self {
            pdu_session: Some(info),
            ..self
        }
    }

    /// The same with extension headers.
    #[must_use]
    pub const fn with_extensions(self, extensions: &'a [GtpuExtension<'a>]) -> Self {
        Self { extensions, ..self }
    }

    /// The message in front of `payload`, to be sent as a UDP payload.
    ///
    /// # Errors
    ///
    /// [`BuildError::TooLong`], [`BuildError::Unaligned`].
    pub fn encode(&self, payload: &[u8]) -> Result<Vec<u8>, BuildError> {
        let (first, chain) = self.extension_chain()?;
        let flags = u8::from(first != extension_type::NONE) << 2
            | u8::from(self.sequence.is_some()) << 1
            | u8::from(self.npdu.is_some());
        let optional = if flags == 0 { 0 } else { 4 };
        let length = length_field(
            chain
                .len()
                .saturating_add(payload.len())
                .saturating_add(optional),
        )?;
        let mut message = vec![0x30 | flags, self.message_type];
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(&self.teid.to_be_bytes());
        if flags != 0 {
            message.extend_from_slice(&self.sequence.unwrap_or(0).to_be_bytes());
            message.extend_from_slice(&[self.npdu.unwrap_or(0), first]);
        }
        message.extend_from_slice(&chain);
        message.extend_from_slice(payload);
        Ok(message)
    }

    fn extension_chain(&self) -> Result<(u8, Vec<u8>), BuildError> {
        let (mut next, mut chain) = (extension_type::NONE, Vec::new());
        for extension in self.extensions.iter().rev() {
            let units = aligned(extension.content.len().saturating_add(2), 4, 1020)? >> 2;
            // The limit above keeps it in one byte.
            let mut header = vec![u8::try_from(units).unwrap_or(u8::MAX)];
            header.extend_from_slice(extension.content);
            header.push(next);
            header.append(&mut chain);
            (next, chain) = (extension.kind, header);
        }
        if let Some(info) = self.pdu_session {
            let mut header = info.to_extension(next).to_vec();
            header.append(&mut chain);
            (next, chain) = (extension_type::PDU_SESSION, header);
        }
        Ok((next, chain))
    }
}

/// A G-PDU without options, in UDP, in IP.
///
/// # Errors
///
/// [`BuildError::FamilyMismatch`], [`BuildError::TooLong`].
pub fn gpdu_packet(
    src: SocketAddr,
    dst: SocketAddr,
    teid: u32,
    inner: &[u8],
) -> Result<Vec<u8>, BuildError> {
    udp_packet(src, dst, &GtpuMessage::gpdu(teid).encode(inner)?)
}

/// Cuts a whole IP packet into fragments that carry at most `piece` payload bytes each, rounded
/// down to a multiple of 8 and at least 8.
///
/// IPv6 fragment headers stand behind hop-by-hop and routing headers (RFC 8200 §4.5).
///
/// # Errors
///
/// [`BuildError::Packet`] when the packet does not parse, [`BuildError::TooLong`].
pub fn fragment_packet(packet: &[u8], piece: usize, id: u32) -> Result<Vec<Vec<u8>>, BuildError> {
    let parsed = parse_ip(packet)?;
    let piece = (piece & !7).max(8);
    let (head_len, next_at) = match parsed.src {
        IpAddr::V4(_) => (usize::from(parsed.header_len), None),
        IpAddr::V6(_) => {
            let (head_len, next_at) = unfragmentable_part(packet);
            (head_len, Some(next_at))
        }
    };
    let whole = usize::try_from(parsed.total_len).unwrap_or(usize::MAX);
    let packet = packet.get(..whole).unwrap_or(packet);
    let (head, body) = packet.split_at_checked(head_len).unwrap_or((packet, &[]));
    let mut offset: usize = 0;
    let mut fragments = Vec::new();
    for part in body.chunks(piece) {
        let end = offset.saturating_add(part.len());
        let more = end < body.len();
        let place = length_field(offset)?;
        fragments.push(match next_at {
            None => ipv4_fragment(head, part, (place >> 3) | u16::from(more) << 13, id)?,
            Some(next_at) => ipv6_fragment(head, part, place | u16::from(more), id, next_at)?,
        });
        offset = end;
    }
    Ok(fragments)
}

/// Length of base, hop-by-hop and routing headers, and where the last of them names the next.
fn unfragmentable_part(packet: &[u8]) -> (usize, usize) {
    let (mut len, mut next_at): (usize, usize) = (40, 6);
    while let Some(protocol::HOP_BY_HOP | protocol::ROUTING) = packet.get(next_at).copied() {
        let Some(units) = packet.get(len.saturating_add(1)) else {
            break;
        };
        next_at = len;
        len = len.saturating_add((usize::from(*units) << 3).saturating_add(8));
    }
    (len, next_at)
}

fn ipv4_fragment(head: &[u8], part: &[u8], place: u16, id: u32) -> Result<Vec<u8>, BuildError> {
    let mut fragment = head.to_vec();
    let [_, _, id @ ..] = id.to_be_bytes();
    write_at(
        &mut fragment,
        2,
        length_field(head.len().saturating_add(part.len()))?,
    );
    write_at(&mut fragment, 4, u16::from_be_bytes(id));
    write_at(&mut fragment, 6, place);
    write_ipv4_checksum(&mut fragment);
    fragment.extend_from_slice(part);
    Ok(fragment)
}

fn ipv6_fragment(
    head: &[u8],
    part: &[u8],
    place: u16,
    id: u32,
    next_at: usize,
) -> Result<Vec<u8>, BuildError> {
    let mut fragment = head.to_vec();
    let next = fragment
        .get_mut(next_at)
        .map_or(protocol::NO_NEXT_HEADER, |next| {
            std::mem::replace(next, protocol::FRAGMENT)
        });
    fragment.extend_from_slice(&[next, 0]);
    fragment.extend_from_slice(&place.to_be_bytes());
    fragment.extend_from_slice(&id.to_be_bytes());
    fragment.extend_from_slice(part);
    let stated = length_field(fragment.len().saturating_sub(40))?;
    write_at(&mut fragment, 4, stated);
    Ok(fragment)
}

/// The link header around an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkFrame<'a> {
    link: LinkType,
    vlan_tags: &'a [u16],
}

impl<'a> LinkFrame<'a> {
    /// A frame of this type without VLAN tags.
    #[must_use]
    pub const fn new(link: LinkType) -> Self {
        Self {
            link,
            vlan_tags: &[],
        }
    }

    /// The same with VLAN tags, outermost first; ignored where the link type has no ethertype.
    #[must_use]
    pub const fn with_vlan_tags(self, vlan_tags: &'a [u16]) -> Self {
        Self { vlan_tags, ..self }
    }

    /// The frame around an IP packet.
    ///
    /// # Errors
    ///
    /// [`BuildError::Packet`] when `packet` is neither IPv4 nor IPv6.
    pub fn wrap(&self, packet: &[u8]) -> Result<Vec<u8>, BuildError> {
        let (ethertype, family): (u16, u32) = match packet.first().map(|first| first >> 4) {
            Some(4) => (0x0800, 2),
            Some(6) => (0x86dd, 10),
            _ => return Err(BuildError::Packet(crate::WireError::IpVersion)),
        };
        let (first, tags) = self.tag_chain(ethertype);
        let mut frame = Vec::new();
        match self.link {
            LinkType::Ethernet => {
                frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
                frame.extend_from_slice(&first.to_be_bytes());
                frame.extend_from_slice(&tags);
            }
            LinkType::LinuxSll => {
                frame.extend_from_slice(&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
                frame.extend_from_slice(&first.to_be_bytes());
                frame.extend_from_slice(&tags);
            }
            LinkType::LinuxSll2 => {
                frame.extend_from_slice(&first.to_be_bytes());
                frame.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
                frame.extend_from_slice(&tags);
            }
            LinkType::RawIp => {}
            LinkType::Null => frame.extend_from_slice(&family.to_le_bytes()),
            LinkType::Loop => frame.extend_from_slice(&family.to_be_bytes()),
        }
        frame.extend_from_slice(packet);
        Ok(frame)
    }

    /// The first ethertype and the tags that lead to `ethertype`: 802.1Q inside, 802.1ad around.
    fn tag_chain(&self, ethertype: u16) -> (u16, Vec<u8>) {
        let (mut next, mut chain) = (ethertype, Vec::new());
        for tag in self.vlan_tags.iter().rev() {
            let mut bytes = tag.to_be_bytes().to_vec();
            bytes.extend_from_slice(&next.to_be_bytes());
            bytes.append(&mut chain);
            (next, chain) = (if next == ethertype { 0x8100 } else { 0x88a8 }, bytes);
        }
        (next, chain)
    }
}

fn length_field(length: usize) -> Result<u16, BuildError> {
    u16::try_from(length).map_err(|_| BuildError::TooLong {
        length,
        limit: 65_535,
    })
}

const fn aligned(length: usize, unit: usize, limit: usize) -> Result<usize, BuildError> {
    if length > limit {
        Err(BuildError::TooLong { length, limit })
    } else if !length.is_multiple_of(unit) {
        Err(BuildError::Unaligned { length, unit })
    } else {
        Ok(length)
    }
}

fn write_at(bytes: &mut [u8], at: usize, value: u16) {
    for (place, octet) in bytes.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *place = octet;
    }
}

fn write_ipv4_checksum(header: &mut [u8]) {
    write_at(header, 10, 0);
    let sum = Checksum::default().with(header).finish();
    write_at(header, 10, sum);
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
