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

use crate::gtpu::{GTPU_PORT, PduSessionInfo, extension_type, message_type};
use crate::ip::protocol;

/// A G-PDU whose headers have the usual shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsualGpdu<'a> {
    /// Tunnel endpoint identifier of the receiver.
    pub teid: u32,
    /// What its PDU session container says, when it has one of a known type.
    pub pdu_session: Option<PduSessionInfo>,
    /// The inner packet.
    pub payload: &'a [u8],
}

/// Version 1, protocol type GTP, no option; the same with extension headers.
const BARE: [u8; 2] = [0x30, message_type::G_PDU];
const EXTENDED: [u8; 2] = [0x34, message_type::G_PDU];

/// Recognises an IPv4 packet that holds nothing but a whole G-PDU to [`GTPU_PORT`]: its source and
/// the G-PDU. Source: RFC 791 §3.1, RFC 768, TS 29.281 §4.4.2.
#[inline]
#[must_use]
pub fn usual_gpdu_packet(bytes: &[u8]) -> Option<(Ipv4Addr, UsualGpdu<'_>)> {
    let (head, rest) = bytes.split_first_chunk::<28>()?;
    let total_len = u16::from_be_bytes([head[2], head[3]]);
    let fragment = u16::from_be_bytes([head[6], head[7]]);
    let to_port = u16::from_be_bytes([head[22], head[23]]);
    let udp_length = u16::from_be_bytes([head[24], head[25]]);
    if head[0] != 0x45
        || fragment & 0x3fff != 0
        || head[9] != protocol::UDP
        || to_port != GTPU_PORT
        || udp_length.checked_add(20) != Some(total_len)
    {
        return None;
    }
    let message = rest.get(..usize::from(total_len).checked_sub(28)?)?;
    let source = Ipv4Addr::new(head[12], head[13], head[14], head[15]);
    Some((source, usual_gpdu(message)?))
}

/// Recognises a whole G-PDU. Source: TS 29.281 §5.1, TS 38.415 §5.5.2.
#[inline]
#[must_use]
pub fn usual_gpdu(message: &[u8]) -> Option<UsualGpdu<'_>> {
    let (head, rest) = message.split_first_chunk::<8>()?;
    let length = u16::from_be_bytes([head[2], head[3]]);
    if usize::from(length) != rest.len() {
        return None;
    }
    let teid = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    match [head[0], head[1]] {
        BARE => Some(UsualGpdu {
            teid,
            pdu_session: None,
            payload: rest,
        }),
        EXTENDED => {
            let (options, payload) = rest.split_first_chunk::<8>()?;
            let [_, _, _, kind, 1, pdu_type, flags, next] = *options else {
                return None;
            };
            if kind != extension_type::PDU_SESSION || next != extension_type::NONE {
                return None;
            }
            Some(UsualGpdu {
                teid,
                pdu_session: PduSessionInfo::from_content(pdu_type, flags),
                payload,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::{GtpuMessage, udp_packet};
    use crate::{GtpuPacket, parse_gtpu, parse_ip, parse_udp};

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
        assert_eq!(found.pdu_session, general.pdu_session);
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
            assert_eq!(
                gpdu.pdu_session.map(|info| info.qfi),
                container.then_some(9)
            );
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
