//! Stop 2 of a byte's way: from a frame to the inner IP packet of a tunnel.

use std::net::{IpAddr, Ipv4Addr};

use qlink_content::{Direction, Segment};
use qlink_io::Descriptor;
use qlink_meter::DropReason;
use qlink_wire::{
    GTPU_PORT, GtpuPacket, IpPacket, LinkType, Reassembler, TcpSegment, WireError, parse_gtpu,
    parse_ip, parse_tcp, parse_udp, protocol, strip_link, usual_container, usual_ipv4,
};

/// A GTP-U message and the outer addresses it came with.
#[derive(Debug, Clone, Copy)]
pub struct Tunnelled<'a> {
    /// Outer source.
    pub source: IpAddr,
    /// Its UDP port.
    pub source_port: u16,
    /// Outer destination; where the back end does not tell, the unspecified address.
    pub destination: IpAddr,
    /// The message.
    pub gtpu: GtpuPacket<'a>,
    /// Its bytes: the payload of UDP.
    pub message: &'a [u8],
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
        source_port: udp.src_port,
        destination: outer.dst,
        gtpu,
        message: udp.payload,
    }))
}

/// What may be a usual G-PDU, from the IPv4 header on.
#[inline(always)]
pub(crate) fn usual_packet(link: LinkType, frame: &[u8]) -> Option<&[u8]> {
    match link {
        LinkType::Ethernet => match frame.split_first_chunk::<14>()? {
            ([.., 0x08, 0x00], packet) => Some(packet),
            _ => None,
        },
        LinkType::RawIp => Some(frame),
        _ => None,
    }
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
    /// Payload bytes as the headers state them: those behind the TCP or UDP header; for any other
    /// protocol and for a later fragment all bytes behind the IP header. IPv6 extension headers
    /// beyond [`EXTENSIONS_FREE`] bytes are payload too, else they would carry bytes for free.
    pub payload_len: u32,
}

impl Inner<'_> {
    /// Destination port of a UDP datagram.
    #[inline]
    pub(crate) const fn udp_port(&self) -> Option<u16> {
        match self.transport {
            Transport::Udp { dst_port, .. } => Some(dst_port),
            Transport::Tcp(_) | Transport::Other => None,
        }
    }
}

/// Bytes of IPv6 extension headers that count as header (chosen: sound traffic has one or two, of
/// 8 to 24 bytes).
pub const EXTENSIONS_FREE: u32 = 64;

/// Bytes of the fixed IPv6 header.
const IPV6_HEADER: u32 = 40;

/// Parses an inner packet.
///
/// # Errors
///
/// [`WireError`] for an IP header that is none; a transport header that is cut or malformed makes
/// the packet [`Transport::Other`], and so does a TCP segment behind more than
/// [`EXTENSIONS_FREE`] bytes of extension headers, of which nothing is proven.
#[inline]
pub fn parse_inner(bytes: &[u8]) -> Result<Inner<'_>, WireError> {
    let ip = parse_ip(bytes)?;
    let later = ip.fragment.is_some_and(|fragment| fragment.offset > 0);
    let surplus = surplus_extensions(&ip);
    let (transport, payload_len) = match ip.protocol {
        protocol::TCP | protocol::UDP if later => (Transport::Other, ip.payload_len),
        protocol::TCP => match parse_tcp(ip.payload) {
            Ok(tcp) if ip.fragment.is_some() || surplus > 0 => (
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
        _ => (Transport::Other, ip.payload_len),
    };
    Ok(Inner {
        ip,
        transport,
        payload_len: payload_len.saturating_add(surplus),
    })
}

/// Bytes of IPv6 extension headers above the free ones.
#[inline]
fn surplus_extensions(ip: &IpPacket<'_>) -> u32 {
    match ip.src {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => {
            u32::from(ip.header_len).saturating_sub(IPV6_HEADER.saturating_add(EXTENSIONS_FREE))
        }
    }
}

/// An inner packet of the shape that nearly all have, read at fixed places: IPv4 without options,
/// no fragment, a whole TCP or UDP header, all bytes there.
///
/// **Invariant**: [`parse_inner`] says the same of these bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsualInner<'a> {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    /// [`protocol::TCP`] or [`protocol::UDP`].
    pub(crate) protocol: u8,
    pub(crate) dst_port: u16,
    /// As [`Inner::payload_len`].
    pub(crate) payload_len: u16,
    /// The packet up to the length that its header states.
    pub(crate) bytes: &'a [u8],
}

impl<'a> UsualInner<'a> {
    /// `None` says nothing about `bytes`.
    #[inline(always)]
    pub(crate) fn of(bytes: &'a [u8]) -> Option<Self> {
        // As far as a UDP header reaches.
        let head = bytes.first_chunk::<28>()?;
        let total_len = usual_ipv4(*head.first_chunk()?)?;
        let bytes = bytes.get(..total_len.into())?;
        let headers = match head[9] {
            protocol::TCP => {
                let words = bytes.first_chunk::<40>()?[32] >> 4;
                if words < 5 {
                    return None;
                }
                (u16::from(words) << 2) + 20
            }
            protocol::UDP => {
                let length = u16::from_be_bytes([head[24], head[25]]);
                if length < 8 {
                    return None;
                }
                28
            }
            _ => return None,
        };
        Some(Self {
            src: Ipv4Addr::new(head[12], head[13], head[14], head[15]),
            dst: Ipv4Addr::new(head[16], head[17], head[18], head[19]),
            protocol: head[9],
            dst_port: u16::from_be_bytes([head[22], head[23]]),
            payload_len: total_len.checked_sub(headers)?,
            bytes,
        })
    }

    /// Whether it is a TCP segment; otherwise it is a UDP datagram.
    #[inline(always)]
    pub(crate) const fn is_tcp(&self) -> bool {
        self.protocol == protocol::TCP
    }

    /// Destination port of a UDP datagram.
    #[inline(always)]
    pub(crate) const fn udp_port(&self) -> Option<u16> {
        if self.is_tcp() {
            None
        } else {
            Some(self.dst_port)
        }
    }

    /// As [`IpPacket::total_len`].
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "as long as its header's 16 bits say"
    )]
    pub(crate) const fn total_len(&self) -> u32 {
        self.bytes.len() as u32
    }
}

/// A G-PDU with an inner TCP or UDP packet whose headers have the most frequent shape, all of them,
/// read at fixed places of the frame: Ethernet, IPv4 without options, UDP, GTP-U with one PDU
/// session container, IPv4 without options.
///
/// **Invariant**: [`usual_packet`], [`usual_gpdu_packet`] and [`UsualInner::of`], one after the
/// other, say the same of these bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrequentFrame<'a> {
    pub(crate) source: Ipv4Addr,
    pub(crate) teid: u32,
    pub(crate) qfi: u8,
    pub(crate) inner: UsualInner<'a>,
}

impl<'a> FrequentFrame<'a> {
    /// `None` says nothing about `frame`.
    #[inline(always)]
    pub(crate) fn of(frame: &'a [u8]) -> Option<Self> {
        // As far as an inner TCP header reaches: Ethernet 14, IPv4 20, UDP 8, GTP-U 16, IPv4 20.
        let head = frame.first_chunk::<98>()?;
        let (outer, gtpu, inner) = (field(head, 14), field(head, 42), field(head, 58));
        let total_len = usual_ipv4(outer)?;
        // Behind all headers of the tunnel; the last eight bytes of them count as GTP-U's payload.
        let room = total_len.checked_sub(44)?;
        let (teid, qfi) = usual_container(gtpu, field(head, 50), room.saturating_add(8))?;
        let inner_len = usual_ipv4(inner)?;
        let udp_len = u16::from_be_bytes([head[38], head[39]]);
        if [head[12], head[13]] != [0x08, 0x00]
            || head[23] != protocol::UDP
            || u16::from_be_bytes([head[36], head[37]]) != GTPU_PORT
            || total_len.wrapping_sub(20) != udp_len
            || usize::from(total_len) > frame.len().wrapping_sub(14)
            || inner_len > room
        {
            return None;
        }
        let headers = match head[67] {
            protocol::TCP if head[90] >> 4 >= 5 => (u16::from(head[90] >> 4) << 2) + 20,
            protocol::UDP if u16::from_be_bytes([head[82], head[83]]) >= 8 => 28,
            _ => return None,
        };
        Some(Self {
            source: Ipv4Addr::new(head[26], head[27], head[28], head[29]),
            teid,
            qfi,
            inner: UsualInner {
                src: Ipv4Addr::new(head[70], head[71], head[72], head[73]),
                dst: Ipv4Addr::new(head[74], head[75], head[76], head[77]),
                protocol: head[67],
                dst_port: u16::from_be_bytes([head[80], head[81]]),
                payload_len: inner_len.checked_sub(headers)?,
                bytes: frame.get(58..)?.get(..inner_len.into())?,
            },
        })
    }
}

/// Eight bytes of a header.
#[inline(always)]
fn field(head: &[u8; 98], at: usize) -> [u8; 8] {
    let field = head.get(at..).and_then(<[u8]>::first_chunk);
    field.copied().unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use qlink_wire::build::{
        GtpuMessage, IpEnvelope, Ipv6Extension, LinkFrame, TcpFields, icmp_packet, tcp_packet,
        udp_packet,
    };
    use qlink_wire::{PduSessionInfo, TcpFlags, usual_gpdu_packet};

    use super::*;

    const V6: (&str, &str) = ("2001:db8::1", "2001:db8::2");

    fn with_options(content: &[u8], number: u8, payload: &[u8]) -> Vec<u8> {
        let extension = Ipv6Extension {
            kind: protocol::DESTINATION_OPTIONS,
            content,
        };
        IpEnvelope::new(V6.0.parse().unwrap(), V6.1.parse().unwrap())
            .with_extensions(&[extension])
            .wrap(number, payload)
            .unwrap()
    }

    /// Protocol, destination port, and the latter again for UDP.
    type Ports = (u8, u16, Option<u16>);

    /// What the general parser says of the fields that a usual packet has.
    fn general(bytes: &[u8]) -> Option<(IpAddr, IpAddr, Ports, u32, u32, usize)> {
        let inner = parse_inner(bytes).ok()?;
        let ports = match inner.transport {
            Transport::Tcp(tcp) => (protocol::TCP, tcp.dst_port, None),
            Transport::Udp { dst_port, .. } => (protocol::UDP, dst_port, Some(dst_port)),
            Transport::Other => return None,
        };
        let length = usize::try_from(inner.ip.total_len).ok()?;
        Some((
            inner.ip.src,
            inner.ip.dst,
            ports,
            inner.ip.total_len,
            inner.payload_len,
            bytes.get(..length)?.len(),
        ))
    }

    fn usual(bytes: &[u8]) -> Option<(IpAddr, IpAddr, Ports, u32, u32, usize)> {
        let usual = UsualInner::of(bytes)?;
        Some((
            usual.src.into(),
            usual.dst.into(),
            (usual.protocol, usual.dst_port, usual.udp_port()),
            usual.total_len(),
            usual.payload_len.into(),
            usual.bytes.len(),
        ))
    }

    fn sound(payload: usize, transport: u8) -> Vec<u8> {
        let (from, to) = (
            "10.45.0.2:40000".parse().unwrap(),
            "192.0.2.1:80".parse().unwrap(),
        );
        if transport == protocol::TCP {
            let fields = TcpFields::new(1, 2, TcpFlags::ACK);
            tcp_packet(from, to, &fields, &vec![7; payload]).unwrap()
        } else {
            udp_packet(from, to, &vec![7; payload]).unwrap()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        /// The fields read at fixed places are those that the general parser reads, whatever the
        /// headers say, and sound packets are read that way.
        #[test]
        fn a_usual_packet_says_what_the_general_parser_says(
            payload in 0_usize..60,
            transport in prop::sample::select(vec![protocol::TCP, protocol::UDP]),
            changes in prop::collection::vec((0_usize..44, any::<u8>()), 0..4),
            surplus in 0_usize..4,
            cut in 0_usize..30,
        ) {
            let mut packet = sound(payload, transport);
            prop_assert!(usual(&packet).is_some());
            packet.extend(vec![0xee; surplus]);
            for (at, value) in changes {
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
            }
            packet.truncate(packet.len().saturating_sub(cut / 4));
            if let Some(usual) = usual(&packet) {
                prop_assert_eq!(Some(usual), general(&packet));
            }
        }
    }

    /// What is read step by step.
    fn by_steps(frame: &[u8]) -> Option<String> {
        let packet = usual_packet(LinkType::Ethernet, frame)?;
        let (source, gpdu) = usual_gpdu_packet(packet)?;
        let inner = UsualInner::of(gpdu.payload)?;
        Some(format!("{source} {} {:?} {inner:?}", gpdu.teid, gpdu.qfi))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8192))]

        #[test]
        fn a_frequent_frame_says_what_is_read_step_by_step(
            payload in 0_usize..60,
            transport in prop::sample::select(vec![protocol::TCP, protocol::UDP]),
            changes in prop::collection::vec((0_usize..100, any::<u8>()), 0..3),
            lengths in prop::collection::vec(
                (prop::sample::select(vec![16_usize, 38, 44, 60, 82]), -3_i16..3), 0..3),
            shorter in prop_oneof![Just(0_u16), 0_u16..120],
            surplus in 0_usize..4,
            cut in 0_usize..60,
        ) {
            let inner = sound(payload, transport);
            let container = PduSessionInfo { qfi: 9, downlink: false };
            let message = GtpuMessage::gpdu(0x0102_0304).with_pdu_session(container);
            let message = message.encode(&inner).unwrap();
            let (ran, core) = ("127.0.0.2:2152".parse().unwrap(), "127.0.0.1:2152".parse().unwrap());
            let packet = udp_packet(ran, core, &message).unwrap();
            let mut frame = LinkFrame::new(LinkType::Ethernet).wrap(&packet).unwrap();
            let is_long = frame.len() >= 98;
            prop_assert_eq!(FrequentFrame::of(&frame).is_some(), is_long);

            frame.extend(vec![0xee; surplus]);
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            // Lengths that agree with each other, but not with what is behind them.
            let outer = [16, 38, 44].map(|at| (at, -shorter.cast_signed()));
            for (at, by) in lengths.into_iter().chain(outer) {
                if let Some(field) = frame.get_mut(at..at + 2) {
                    let length = u16::from_be_bytes([field[0], field[1]]).wrapping_add_signed(by);
                    field.copy_from_slice(&length.to_be_bytes());
                }
            }
            frame.truncate(frame.len().saturating_sub(cut / 8));
            if let Some(found) = FrequentFrame::of(&frame) {
                let FrequentFrame { source, teid, qfi, inner } = found;
                let found = format!("{source} {teid} {:?} {inner:?}", Some(qfi));
                prop_assert_eq!(Some(found), by_steps(&frame));
            }
        }
    }

    #[test]
    fn bytes_of_other_protocols_are_payload() {
        let (ue, server) = ([10, 0, 0, 1].into(), [192, 0, 2, 1].into());
        let ping = icmp_packet(ue, server, (8, 0, 1), &[0; 56]).unwrap();
        let tunnel = IpEnvelope::new(ue, server).wrap(47, &[0; 1400]).unwrap();

        assert_eq!(parse_inner(&ping).unwrap().payload_len, 64);
        assert_eq!(parse_inner(&tunnel).unwrap().payload_len, 1400);
    }

    #[test]
    fn extension_headers_are_payload_beyond_64_bytes() {
        let payload_len = |options: usize, number: u8| {
            let packet = with_options(&vec![0; options], number, &[0; 20]);
            parse_inner(&packet).unwrap().payload_len
        };

        assert_eq!(payload_len(62, 47), 20);
        assert_eq!(payload_len(70, 47), 28);
        let mut udp = vec![0; 20];
        udp[5] = 20;
        let packet = with_options(&[0; 70], protocol::UDP, &udp);
        assert_eq!(parse_inner(&packet).unwrap().payload_len, 12 + 8);
    }

    #[test]
    fn a_segment_behind_long_extension_headers_is_charged_and_proves_nothing() {
        let fields = TcpFields::new(1, 0, TcpFlags::ACK);
        let (ue, server) = ("[2001:db8::1]:1", "[2001:db8::2]:80");
        let bare = tcp_packet(ue.parse().unwrap(), server.parse().unwrap(), &fields, &[]).unwrap();
        let segment = &bare[40..];

        let short = with_options(&[0; 62], protocol::TCP, segment);
        let long = with_options(&[0; 1022], protocol::TCP, segment);

        let short = parse_inner(&short).unwrap();
        assert!(matches!(short.transport, Transport::Tcp(_)));
        assert_eq!(short.payload_len, 0);
        let long = parse_inner(&long).unwrap();
        assert!(matches!(long.transport, Transport::Other));
        assert_eq!(long.payload_len, 960);
    }
}
