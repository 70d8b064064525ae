//! Stop 2 of a byte's way: from a frame to the inner IP packet of a tunnel.

use std::net::IpAddr;

use qlink_content::{Direction, Segment};
use qlink_io::Descriptor;
use qlink_meter::DropReason;
use qlink_wire::{
    GTPU_PORT, GtpuPacket, IpPacket, Reassembler, TcpSegment, WireError, parse_gtpu, parse_ip,
    parse_tcp, parse_udp, protocol, strip_link,
};

/// A GTP-U message and the outer addresses it came with.
#[derive(Debug, Clone, Copy)]
pub struct Tunnelled<'a> {
    /// Outer source.
    pub source: IpAddr,
    /// Outer destination; where the back end does not tell, the unspecified address.
    pub destination: IpAddr,
    /// The message.
    pub gtpu: GtpuPacket<'a>,
}

/// The outer headers of a captured frame; `Ok(None)` when the frame is a fragment that waits for
/// the rest of its datagram.
///
/// # Errors
///
/// The reason why there is no GTP-U message.
#[inline]
pub fn parse_frame<'a>(
    descriptor: &Descriptor,
    frame: &'a [u8],
    fragments: &'a mut Reassembler,
) -> Result<Option<Tunnelled<'a>>, DropReason> {
    let bytes = strip_link(descriptor.link, frame).map_err(DropReason::Wire)?;
    let outer = parse_ip(bytes).map_err(DropReason::Wire)?;
    let whole = fragments
        .push(&outer, descriptor.timestamp_ns)
        .map_err(DropReason::Wire)?;
    let Some(outer) = whole else {
        return Ok(None);
    };
    if outer.protocol != protocol::UDP {
        return Err(DropReason::NotGtpu);
    }
    let udp = parse_udp(outer.payload).map_err(DropReason::Wire)?;
    if udp.dst_port != GTPU_PORT && udp.src_port != GTPU_PORT {
        return Err(DropReason::NotGtpu);
    }
    let gtpu = parse_gtpu(udp.payload).map_err(DropReason::Wire)?;
    Ok(Some(Tunnelled {
        source: outer.src,
        destination: outer.dst,
        gtpu,
    }))
}

/// What stands behind the inner IP header.
#[derive(Debug, Clone, Copy)]
pub enum Transport<'a> {
    /// A whole TCP segment.
    Tcp(TcpSegment<'a>),
    /// A UDP datagram with these ports.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// A later fragment, or a protocol without ports.
    Other,
}

/// An inner packet with its transport and the length of its payload.
#[derive(Debug, Clone, Copy)]
pub struct Inner<'a> {
    /// The IP header.
    pub ip: IpPacket<'a>,
    /// What it carries.
    pub transport: Transport<'a>,
    /// Payload bytes behind the TCP or UDP header as the headers state them; all bytes of a later
    /// TCP or UDP fragment; 0 for other protocols.
    pub payload_len: u32,
}

/// Parses an inner packet.
///
/// # Errors
///
/// [`WireError`] for an IP header that is none; a transport header that is cut or malformed makes
/// the packet [`Transport::Other`].
#[inline]
pub fn parse_inner(bytes: &[u8]) -> Result<Inner<'_>, WireError> {
    let ip = parse_ip(bytes)?;
    let later = ip.fragment.is_some_and(|fragment| fragment.offset > 0);
    let (transport, payload_len) = match ip.protocol {
        protocol::TCP | protocol::UDP if later => (Transport::Other, ip.payload_len),
        protocol::TCP => match parse_tcp(ip.payload) {
            Ok(tcp) if ip.fragment.is_some() => (
                Transport::Other,
                ip.payload_len.saturating_sub(tcp.header_len.into()),
            ),
            Ok(tcp) => (
                Transport::Tcp(tcp),
                ip.payload_len.saturating_sub(tcp.header_len.into()),
            ),
            Err(_) => (Transport::Other, ip.payload_len),
        },
        protocol::UDP => match parse_udp(ip.payload) {
            Ok(udp) => (
                Transport::Udp {
                    src_port: udp.src_port,
                    dst_port: udp.dst_port,
                },
                ip.payload_len.saturating_sub(8),
            ),
            Err(_) => (Transport::Other, ip.payload_len),
        },
        _ => (Transport::Other, 0),
    };
    Ok(Inner {
        ip,
        transport,
        payload_len,
    })
}

/// The fields of a TCP segment that the proof looks at.
#[inline]
#[must_use]
pub fn proof_segment<'a>(tcp: &TcpSegment<'a>, payload_len: u32) -> Segment<'a> {
    Segment {
        seq: tcp.seq,
        ack: tcp.ack,
        flags: tcp.flags.bits(),
        payload: tcp.payload,
        payload_len,
    }
}

/// The reason under which a content verdict's drop is counted.
#[inline]
#[must_use]
pub const fn drop_reason(reason: qlink_content::DropReason) -> DropReason {
    match reason {
        qlink_content::DropReason::FramingUnknown => DropReason::FramingUnknown,
        qlink_content::DropReason::CoverageFull => DropReason::CoverageFull,
    }
}

/// Source and destination port of a packet going `direction`, as subscriber's and remote port.
#[inline]
#[must_use]
pub const fn ports_by_side(direction: Direction, src_port: u16, dst_port: u16) -> (u16, u16) {
    match direction {
        Direction::Uplink => (src_port, dst_port),
        Direction::Downlink => (dst_port, src_port),
    }
}
