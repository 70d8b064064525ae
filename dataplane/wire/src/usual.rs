//! The usual G-PDU, recognised in one look.
//!
//! Nearly every packet of a BaseStation has the same headers: IPv4 without options, UDP, GTP-U
//! without options or with one PDU session container. Read at fixed places, without the cases that
//! are not there, they cost a third of the general parsers (benches/SPECIFICATION.md,
//! `pipeline::uplink`).
//!
//! **Invariant**: what is recognised here is exactly what [`crate::parse_ip`], [`crate::parse_udp`]
//! and [`crate::parse_gtpu`] say of the same bytes; `None` says nothing, not even that they refuse.

use std::net::Ipv4Addr;

use crate::gtpu::{GTPU_PORT, extension_type, message_type};
use crate::ip::protocol;

/// A G-PDU whose headers have the usual shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsualGpdu<'a> {
    /// Tunnel endpoint identifier of the receiver.
    pub teid: u32,
    /// QoS flow identifier (0 to 63) of its PDU session container, when it has one.
    pub qfi: Option<u8>,
    /// The inner packet.
    pub payload: &'a [u8],
}

/// Version 1, protocol type GTP, no option; the same with extension headers.
const BARE: u64 = u16::from_be_bytes([0x30, message_type::G_PDU]) as u64;
const EXTENDED: u64 = u16::from_be_bytes([0x34, message_type::G_PDU]) as u64;

/// The rest of a header with one PDU session container of type 0 or 1: sequence and N-PDU number
/// may be anything, and so may flags and QFI.
const CONTAINER: Shape = Shape::new(
    [
        0,
        0,
        0,
        extension_type::PDU_SESSION,
        1,
        0,
        0,
        extension_type::NONE,
    ],
    [0, 0, 0, 0xff, 0xff, 0xe0, 0, 0xff],
);

/// The first eight bytes of an IPv4 header without options, and of no fragment; lengths are read
/// from the same word.
const IPV4: Shape = Shape::new(
    [0x45, 0, 0, 0, 0, 0, 0, 0],
    [0xff, 0, 0, 0, 0, 0, 0x3f, 0xff],
);

/// Eight bytes of which some bits must have given values: one compare in place of one for each
/// field.
#[derive(Debug, Clone, Copy)]
struct Shape {
    value: u64,
    mask: u64,
}

impl Shape {
    const fn new(value: [u8; 8], mask: [u8; 8]) -> Self {
        Self {
            value: u64::from_be_bytes(value),
            mask: u64::from_be_bytes(mask),
        }
    }

    #[inline(always)]
    const fn fits(self, word: u64) -> bool {
        word & self.mask == self.value
    }
}

/// The total length of an IPv4 packet without options that is no fragment, by the first eight bytes
/// of its header; `None`: it is another packet. Source: RFC 791 §3.1.
#[inline(always)]
#[must_use]
pub const fn usual_ipv4(head: [u8; 8]) -> Option<u16> {
    let word = u64::from_be_bytes(head);
    if IPV4.fits(word) {
        Some((word >> 32 & 0xffff) as u16)
    } else {
        None
    }
}

/// TEID and QFI of a G-PDU with one PDU session container, by the sixteen bytes of its header;
/// `length` is what the header must state. `None`: it is another message.
/// Source: TS 29.281 §5.1, TS 38.415 §5.5.2.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields of a word are cut out of it"
)]
pub const fn usual_container(head: [u8; 8], options: [u8; 8], length: u16) -> Option<(u32, u8)> {
    let (head, options) = (u64::from_be_bytes(head), u64::from_be_bytes(options));
    if head >> 32 == EXTENDED << 16 | length as u64 && CONTAINER.fits(options) {
        Some((head as u32, (options >> 8) as u8 & 0x3f))
    } else {
        None
    }
}

/// Recognises an IPv4 packet that holds nothing but a whole G-PDU to [`GTPU_PORT`]: its source and
/// the G-PDU. Source: RFC 791 §3.1, RFC 768, TS 29.281 §4.4.2.
#[inline(always)]
#[must_use]
pub fn usual_gpdu_packet(bytes: &[u8]) -> Option<(Ipv4Addr, UsualGpdu<'_>)> {
    let (head, rest) = bytes.split_first_chunk::<28>()?;
    let total_len = usual_ipv4(*head.first_chunk()?)?;
    let to_port = u16::from_be_bytes([head[22], head[23]]);
    let udp_length = u16::from_be_bytes([head[24], head[25]]);
    if head[9] != protocol::UDP
        || to_port != GTPU_PORT
        || u32::from(udp_length) + 20 != u32::from(total_len)
    {
        return None;
    }
    let message = rest.get(..usize::from(total_len).checked_sub(28)?)?;
    let source = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
    Some((source, usual_gpdu(message)?))
}

/// Recognises a whole G-PDU. Source: TS 29.281 §5.1, TS 38.415 §5.5.2.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields of a word are cut out of it"
)]
pub fn usual_gpdu(message: &[u8]) -> Option<UsualGpdu<'_>> {
    let (head, rest) = message.split_first_chunk::<8>()?;
    let head = u64::from_be_bytes(*head);
    if head >> 32 & 0xffff != rest.len() as u64 {
        return None;
    }
    let teid = head as u32;
    match head >> 48 {
        EXTENDED => {
            let (options, payload) = rest.split_first_chunk::<8>()?;
            let options = u64::from_be_bytes(*options);
            CONTAINER.fits(options).then_some(UsualGpdu {
                teid,
                qfi: Some((options >> 8) as u8 & 0x3f),
                payload,
            })
        }
        BARE => Some(UsualGpdu {
            teid,
            qfi: None,
            payload: rest,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{GtpuMessage, udp_packet};
    use crate::{GtpuPacket, PduSessionInfo, parse_gtpu, parse_ip, parse_udp};

    /// A G-PDU from a BaseStation.
    fn packet(container: bool, inner: &[u8]) -> Vec<u8> {
        let mut message = GtpuMessage::gpdu(0x0102_0304);
        if container {
            let info = PduSessionInfo {
                qfi: 9,
                downlink: false,
            };
            message = message.with_pdu_session(info);
        }
        let message = message.encode(inner).unwrap();
        let (ran, core) = ("127.0.0.2:2152", "127.0.0.1:2152");
        udp_packet(ran.parse().unwrap(), core.parse().unwrap(), &message).unwrap()
    }

    fn agrees(found: &UsualGpdu<'_>, general: &GtpuPacket<'_>) {
        assert!(general.is_gpdu());
        assert_eq!(found.teid, general.teid);
        assert_eq!(found.qfi, general.pdu_session.map(|info| info.qfi));
        assert_eq!(general.unknown_required_extension, None);
        assert_eq!(found.payload, general.payload);
        assert_eq!(found.payload.len(), usize::from(general.payload_len));
    }

    #[test]
    fn packets_with_and_without_a_container_are_usual() {
        for container in [false, true] {
            let packet = packet(container, b"inner");

            let (source, gpdu) = usual_gpdu_packet(&packet).unwrap();

            assert_eq!(source, Ipv4Addr::new(127, 0, 0, 2));
            assert_eq!((gpdu.teid, gpdu.payload), (0x0102_0304, &b"inner"[..]));
            assert_eq!(gpdu.qfi, container.then_some(9));
        }
    }

    proptest! {
        /// Sound packets with some bytes changed, cut or with bytes behind them.
        #[test]
        fn what_is_recognised_is_what_the_general_parsers_say(
            container: bool,
            inner in prop::collection::vec(any::<u8>(), 0..20),
            changes in prop::collection::vec((0..60_usize, any::<u8>()), 0..3),
            keep in 0..80_usize,
            padding in 0..3_usize,
        ) {
            let mut bytes = packet(container, &inner);
            let length = bytes.len();
            for (at, value) in changes {
                bytes[at % length] = value;
            }
            bytes.resize(length + padding, 0);
            bytes.truncate(keep.max(20));

            if let Some((source, found)) = usual_gpdu_packet(&bytes) {
                let ip = parse_ip(&bytes).unwrap();
                let udp = parse_udp(ip.payload).unwrap();
                prop_assert_eq!(ip.src, std::net::IpAddr::V4(source));
                prop_assert_eq!(ip.fragment, None);
                prop_assert_eq!((ip.protocol, udp.dst_port), (protocol::UDP, GTPU_PORT));
                agrees(&found, &parse_gtpu(udp.payload).unwrap());
            }
            if let Some(found) = bytes.get(28..).and_then(usual_gpdu) {
                agrees(&found, &parse_gtpu(&bytes[28..]).unwrap());
            }
        }
    }
}
