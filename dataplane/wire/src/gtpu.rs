//! GTP-U version 1: the tunnel between a base station and the user plane.
//!
//! The layout is drawn in the crate's overview. Source: TS 29.281 §5 and §7, TS 38.415 §5.5.2.

use std::net::IpAddr;
use std::ops::Deref;

use crate::WireError;

/// The registered UDP port. Source: TS 29.281 §4.4.2.
pub const GTPU_PORT: u16 = 2152;

/// Most extension headers that are walked. Chosen: TS 29.281 §5.2.1 defines 8 kinds for the user
/// plane; twice that leaves room for private ones and bounds the work.
pub const MAX_GTPU_EXTENSIONS: usize = 16;

/// Message types. Source: TS 29.281 §6.1.
pub mod message_type {
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 1;
    /// Echo response.
    pub const ECHO_RESPONSE: u8 = 2;
    /// Error indication: the receiver knows no such tunnel.
    pub const ERROR_INDICATION: u8 = 26;
    /// Supported extension headers notification.
    pub const SUPPORTED_EXTENSIONS: u8 = 31;
    /// End marker: nothing more comes on this path.
    pub const END_MARKER: u8 = 254;
    /// A subscriber's packet.
    pub const G_PDU: u8 = 255;
}

/// Extension header types. Source: TS 29.281 §5.2.1.
pub mod extension_type {
    /// Nothing follows.
    pub const NONE: u8 = 0x00;
    /// Service class indicator.
    pub const SERVICE_CLASS: u8 = 0x20;
    /// UDP port of the packet that triggered an error indication.
    pub const UDP_PORT: u8 = 0x40;
    /// PDU session container.
    pub const PDU_SESSION: u8 = 0x85;
    /// PDCP PDU number.
    pub const PDCP_NUMBER: u8 = 0xc0;
}

/// Information element: tunnel endpoint identifier data I. Source: TS 29.281 §8.3.
const IE_TEID: u8 = 16;
/// Information element: GTP-U peer address. Source: TS 29.281 §8.4.
const IE_PEER_ADDRESS: u8 = 133;
/// Information element: recovery. Source: TS 29.281 §8.2.
const IE_RECOVERY: u8 = 14;
/// Information element: extension header type list. Source: TS 29.281 §8.5.
const IE_EXTENSION_TYPES: u8 = 141;

const FLAG_EXTENSION: u8 = 0x04;
const FLAG_SEQUENCE: u8 = 0x02;
const FLAG_NPDU: u8 = 0x01;
/// Version 1, protocol type GTP.
const VERSION_1: u8 = 0x30;

/// One GTP-U message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GtpuPacket<'a> {
    /// Message type, see [`message_type`].
    pub message_type: u8,
    /// Tunnel endpoint identifier of the receiver.
    pub teid: u32,
    /// Sequence number, when the header has one.
    pub sequence: Option<u16>,
    /// What the first PDU session container says, when there is one of a known type.
    pub pdu_session: Option<PduSessionInfo>,
    /// An extension header that the receiver must understand to handle the message and that this
    /// crate does not know; a receiving endpoint answers with
    /// [`supported_extensions_notification`]. Source: TS 29.281 §5.2.1.
    pub unknown_required_extension: Option<u8>,
    /// The captured bytes behind all headers: a G-PDU's inner packet or a control message's
    /// information elements. Never beyond the stated length.
    pub payload: &'a [u8],
    /// Bytes behind all headers as the header states them; larger than `payload.len()` when the
    /// capture is cut.
    pub payload_len: u16,
}

impl GtpuPacket<'_> {
    /// Whether the message carries a subscriber's packet.
    #[inline]
    #[must_use]
    pub const fn is_gpdu(&self) -> bool {
        self.message_type == message_type::G_PDU
    }
}

/// What a PDU session container says. Source: TS 38.415 §5.5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PduSessionInfo {
    /// QoS flow identifier, 0 to 63.
    pub qfi: u8,
    /// True in DL PDU SESSION INFORMATION, false in UL PDU SESSION INFORMATION.
    pub downlink: bool,
}

impl PduSessionInfo {
    /// The extension header of one 4-byte unit that says this, `next` being the type behind it.
    #[must_use]
    pub const fn to_extension(self, next: u8) -> [u8; 4] {
        let pdu_type = if self.downlink { 0x00 } else { 0x10 };
        [1, pdu_type, self.qfi & 0x3f, next]
    }

    pub(crate) const fn from_content(kind: u8, flags: u8) -> Option<Self> {
        match kind >> 4 {
            0 => Some(Self {
                qfi: flags & 0x3f,
                downlink: true,
            }),
            1 => Some(Self {
                qfi: flags & 0x3f,
                downlink: false,
            }),
            _ => None,
        }
    }
}

/// Parses the payload of a UDP datagram as GTP-U, with any chain of extension headers.
///
/// A length beyond the captured bytes is a cut capture and no error as long as the headers are
/// there; bytes behind the stated length are ignored.
///
/// # Errors
///
/// [`WireError::GtpuTruncated`] when the captured bytes end inside the headers,
/// [`WireError::GtpuLength`] when the stated length does, [`WireError::GtpuVersion`],
/// [`WireError::GtpuExtensionLength`], [`WireError::GtpuChainTooLong`].
#[inline]
pub fn parse_gtpu(bytes: &[u8]) -> Result<GtpuPacket<'_>, WireError> {
    let (head, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or(WireError::GtpuTruncated)?;
    if head[0] & 0xf0 != VERSION_1 {
        return Err(WireError::GtpuVersion);
    }
    let length = u16::from_be_bytes([head[2], head[3]]);
    let packet = GtpuPacket {
        message_type: head[1],
        teid: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        sequence: None,
        pdu_session: None,
        unknown_required_extension: None,
        payload: rest.get(..usize::from(length)).unwrap_or(rest),
        payload_len: length,
    };
    if head[0] & (FLAG_EXTENSION | FLAG_SEQUENCE | FLAG_NPDU) == 0 {
        return Ok(packet);
    }
    parse_optional_part(head[0], packet)
}

/// `packet.payload` and `packet.payload_len` still begin at the optional part.
#[inline]
fn parse_optional_part(flags: u8, mut packet: GtpuPacket<'_>) -> Result<GtpuPacket<'_>, WireError> {
    let optional = packet
        .payload
        .first_chunk::<4>()
        .copied()
        .ok_or_else(|| missing(&packet, 4))?;
    packet = advance(packet, 4)?;
    if flags & FLAG_SEQUENCE != 0 {
        packet.sequence = Some(u16::from_be_bytes([optional[0], optional[1]]));
    }
    if flags & FLAG_EXTENSION == 0 {
        return Ok(packet);
    }
    let mut kind = optional[3];
    for _ in 0..MAX_GTPU_EXTENSIONS {
        if kind == extension_type::NONE {
            return Ok(packet);
        }
        let units = *packet.payload.first().ok_or_else(|| missing(&packet, 4))?;
        let len = u16::from(units) << 2;
        let header = packet
            .payload
            .get(..usize::from(len))
            .ok_or_else(|| missing(&packet, len))?;
        // One unit of 4 bytes is the least: length, two bytes of content, next type.
        let [_, first, second, .., next] = header else {
            return Err(WireError::GtpuExtensionLength);
        };
        note_extension(&mut packet, kind, *first, *second);
        kind = *next;
        packet = advance(packet, len)?;
    }
    if kind == extension_type::NONE {
        Ok(packet)
    } else {
        Err(WireError::GtpuChainTooLong)
    }
}

#[inline]
const fn note_extension(packet: &mut GtpuPacket<'_>, kind: u8, first: u8, second: u8) {
    if kind == extension_type::PDU_SESSION {
        if packet.pdu_session.is_none() {
            packet.pdu_session = PduSessionInfo::from_content(first, second);
        }
    } else if kind & 0x80 != 0 && kind != extension_type::PDCP_NUMBER {
        // Bit 8 set: comprehension required by the receiving endpoint.
        if packet.unknown_required_extension.is_none() {
            packet.unknown_required_extension = Some(kind);
        }
    }
}

#[inline]
fn advance(packet: GtpuPacket<'_>, len: u16) -> Result<GtpuPacket<'_>, WireError> {
    let payload = packet
        .payload
        .get(usize::from(len)..)
        .ok_or_else(|| missing(&packet, len))?;
    let payload_len = packet
        .payload_len
        .checked_sub(len)
        .ok_or(WireError::GtpuLength)?;
    Ok(GtpuPacket {
        payload,
        payload_len,
        ..packet
    })
}

/// Why `len` bytes are not there: the header states fewer, or the capture is cut.
#[inline]
const fn missing(packet: &GtpuPacket<'_>, len: u16) -> WireError {
    if packet.payload_len < len {
        WireError::GtpuLength
    } else {
        WireError::GtpuTruncated
    }
}

/// What an error indication is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorIndicated {
    /// The tunnel endpoint that the sender does not know.
    pub teid: u32,
    /// The address that the refused G-PDU was sent to.
    pub peer: IpAddr,
}

/// Reads the information elements (`payload`) of an error indication.
///
/// Act on it only when address and TEID belong to a live tunnel: anybody can send one.
/// Source: TS 29.281 §7.3.1.
///
/// # Errors
///
/// [`WireError::GtpuElement`] when one of the two elements is missing or malformed.
pub fn parse_error_indication(payload: &[u8]) -> Result<ErrorIndicated, WireError> {
    let (mut rest, mut teid, mut peer) = (payload, None, None);
    // Each turn consumes at least two bytes, so the loop ends with the payload.
    while let Some((kind, after)) = rest.split_first() {
        // Types below 128 have a fixed length (TS 29.281 §8.1); others state two bytes of it.
        let (value, next) = match *kind {
            IE_TEID => after.split_at_checked(4),
            IE_RECOVERY => after.split_at_checked(1),
            IE_EXTENSION_TYPES => after
                .split_first()
                .and_then(|(len, after)| after.split_at_checked(usize::from(*len))),
            128.. => after.split_first_chunk::<2>().and_then(|(len, after)| {
                after.split_at_checked(usize::from(u16::from_be_bytes(*len)))
            }),
            _ => None,
        }
        .ok_or(WireError::GtpuElement)?;
        match *kind {
            IE_TEID => {
                teid = value
                    .first_chunk::<4>()
                    .map(|octets| u32::from_be_bytes(*octets))
            }
            IE_PEER_ADDRESS => peer = Some(address_element(value)?),
            _ => {}
        }
        rest = next;
    }
    teid.zip(peer)
        .map(|(teid, peer)| ErrorIndicated { teid, peer })
        .ok_or(WireError::GtpuElement)
}

fn address_element(value: &[u8]) -> Result<IpAddr, WireError> {
    <[u8; 4]>::try_from(value)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
        .map_err(|_| WireError::GtpuElement)
}

/// The 8 header bytes in front of an inner packet of `payload_len` bytes, without options.
#[inline]
#[must_use]
pub const fn gpdu_header(teid: u32, payload_len: u16) -> [u8; 8] {
    header(VERSION_1, message_type::G_PDU, payload_len, teid)
}

/// The 16 header bytes in front of an inner packet of `payload_len` bytes (at most 65,527), with a
/// PDU session container.
#[inline]
#[must_use]
pub const fn gpdu_header_with_container(
    teid: u32,
    payload_len: u16,
    container: PduSessionInfo,
) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h] = header(
        VERSION_1 | FLAG_EXTENSION,
        message_type::G_PDU,
        payload_len.saturating_add(8),
        teid,
    );
    let [i, j, k, l] = container.to_extension(extension_type::NONE);
    [
        a,
        b,
        c,
        d,
        e,
        f,
        g,
        h,
        0,
        0,
        0,
        extension_type::PDU_SESSION,
        i,
        j,
        k,
        l,
    ]
}

/// An end marker for a tunnel. Source: TS 29.281 §7.3.2.
#[must_use]
pub const fn end_marker(teid: u32) -> [u8; 8] {
    header(VERSION_1, message_type::END_MARKER, 0, teid)
}

/// An echo request with this sequence number. Source: TS 29.281 §7.2.1.
#[must_use]
pub const fn echo_request(sequence: u16) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] =
        header(VERSION_1 | FLAG_SEQUENCE, message_type::ECHO_REQUEST, 4, 0);
    let [i, j] = sequence.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, 0, 0]
}

/// The answer to an echo request with this sequence number; the restart counter is zero as the
/// standard demands. Source: TS 29.281 §7.2.2, §8.2.
#[must_use]
pub const fn echo_response(sequence: u16) -> [u8; 14] {
    let [a, b, c, d, e, f, g, h] =
        header(VERSION_1 | FLAG_SEQUENCE, message_type::ECHO_RESPONSE, 6, 0);
    let [i, j] = sequence.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, 0, 0, IE_RECOVERY, 0]
}

/// A GTP-U control message of at most 40 bytes, held without allocation; derefs to its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlMessage {
    bytes: [u8; 40],
    len: u8,
}

impl ControlMessage {
    /// A message with sequence number 0 and TEID 0; elements beyond 28 bytes would be cut.
    fn new(kind: u8, elements: &[&[u8]]) -> Self {
        let mut bytes = [0; 40];
        let mut len: u8 = 12;
        for octet in elements.iter().copied().flatten() {
            if let Some(place) = bytes.get_mut(usize::from(len)) {
                *place = *octet;
                len += 1;
            }
        }
        let length = u16::from(len).saturating_sub(8);
        let head = header(VERSION_1 | FLAG_SEQUENCE, kind, length, 0);
        for (place, octet) in bytes.iter_mut().zip(head) {
            *place = octet;
        }
        Self { bytes, len }
    }
}

impl Deref for ControlMessage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl AsRef<[u8]> for ControlMessage {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// An error indication: the G-PDU sent to `peer` (our address) named a tunnel that is not there.
///
/// Source: TS 29.281 §7.3.1.
#[must_use]
pub fn error_indication(teid: u32, peer: IpAddr) -> ControlMessage {
    let teid = teid.to_be_bytes();
    let kind = message_type::ERROR_INDICATION;
    match peer {
        IpAddr::V4(peer) => ControlMessage::new(
            kind,
            &[&[IE_TEID], &teid, &[IE_PEER_ADDRESS, 0, 4], &peer.octets()],
        ),
        IpAddr::V6(peer) => ControlMessage::new(
            kind,
            &[&[IE_TEID], &teid, &[IE_PEER_ADDRESS, 0, 16], &peer.octets()],
        ),
    }
}

/// The list of extension headers that this crate understands. Source: TS 29.281 §7.2.3, §8.5.
#[must_use]
pub fn supported_extensions_notification() -> ControlMessage {
    let types = [extension_type::PDU_SESSION, extension_type::PDCP_NUMBER];
    ControlMessage::new(
        message_type::SUPPORTED_EXTENSIONS,
        &[&[IE_EXTENSION_TYPES, 2], &types],
    )
}

const fn header(flags: u8, kind: u8, length: u16, teid: u32) -> [u8; 8] {
    let [l0, l1] = length.to_be_bytes();
    let [t0, t1, t2, t3] = teid.to_be_bytes();
    [flags, kind, l0, l1, t0, t1, t2, t3]
}

#[cfg(test)]
#[path = "gtpu_tests.rs"]
mod tests;
