//! What a packet is to the table of redirected flows.

use std::net::IpAddr;

use qlink_wire::{IcmpFamily, IpPacket, TcpFlags, parse_ip, protocol};

use crate::nat::{NatProtocol, Signal};
use crate::transport::is_error;

/// One end of a flow that asked for something: address and port; of an ICMP echo the port is 0.
pub type Asked = (IpAddr, u16);

/// Both ends of a packet of a flow; of an ICMP echo its identifier is the subscriber's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowId {
    /// What it carries.
    pub protocol: NatProtocol,
    /// The subscriber's end.
    pub own: (IpAddr, u16),
    /// The other end.
    pub remote: Asked,
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// It is of a flow.
    Flow(FlowId, Signal),
    /// It is an ICMP error about a packet of a flow.
    Error(FlowId),
}

/// Where the subscriber's end of a packet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Source,
    Destination,
}

impl Message {
    /// Reads a packet from a subscriber. `ports` are those of its datagram, stated for a later
    /// fragment alone. `None`: it is of nothing that can be redirected.
    #[must_use]
    pub fn from_subscriber(packet: &IpPacket<'_>, ports: Option<(u16, u16)>) -> Option<Self> {
        Self::read(packet, ports, Own::Source)
    }

    /// Reads a packet to a subscriber, like [`Self::from_subscriber`].
    #[must_use]
    pub fn to_subscriber(packet: &IpPacket<'_>, ports: Option<(u16, u16)>) -> Option<Self> {
        Self::read(packet, ports, Own::Destination)
    }

    fn read(packet: &IpPacket<'_>, ports: Option<(u16, u16)>, own: Own) -> Option<Self> {
        let later = packet.fragment.is_some_and(|fragment| fragment.offset > 0);
        if later {
            let signal = Signal::LaterFragment;
            let protocol = match packet.protocol {
                protocol::TCP => NatProtocol::Tcp,
                protocol::UDP => NatProtocol::Udp,
                _ => return None,
            };
            return Some(Self::Flow(flow(packet, protocol, ports?, own), signal));
        }
        let family = icmp_of(packet);
        if let (Some(family), [kind, ..]) = (family, packet.payload)
            && is_error(family, *kind)
        {
            let quoted = parse_ip(packet.payload.get(8..)?).ok()?;
            let cut = quoted.fragment.is_some_and(|fragment| fragment.offset > 0);
            if cut || packet.fragment.is_some() {
                return None;
            }
            // Who is told sent it.
            let sender = match own {
                Own::Source => Own::Destination,
                Own::Destination => Own::Source,
            };
            let (protocol, ports, _) = head(&quoted)?;
            return Some(Self::Error(flow(&quoted, protocol, ports, sender)));
        }
        let (protocol, ports, signal) = head(packet)?;
        Some(Self::Flow(flow(packet, protocol, ports, own), signal))
    }
}

fn icmp_of(packet: &IpPacket<'_>) -> Option<IcmpFamily> {
    IcmpFamily::from_protocol(packet.protocol)
        .filter(|family| (*family == IcmpFamily::V4) == packet.src.is_ipv4())
}

fn flow(
    packet: &IpPacket<'_>,
    protocol: NatProtocol,
    (source, destination): (u16, u16),
    own: Own,
) -> FlowId {
    let echo = protocol == NatProtocol::Icmp;
    let (near, far) = match own {
        Own::Source => ((packet.src, source), (packet.dst, destination)),
        Own::Destination => ((packet.dst, destination), (packet.src, source)),
    };
    FlowId {
        protocol,
        own: near,
        remote: (far.0, if echo { 0 } else { far.1 }),
    }
}

/// The ports and what a transport header says; of quoted ones eight bytes are there.
fn head(packet: &IpPacket<'_>) -> Option<(NatProtocol, (u16, u16), Signal)> {
    let [a, b, c, d, e, f, ..] = *packet.payload.first_chunk::<8>()?;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let ports = (word(a, b), word(c, d));
    match packet.protocol {
        protocol::TCP => {
            let flags = packet.payload.get(13).copied().unwrap_or_default();
            let signal = Signal::Segment(TcpFlags::from_bits(flags));
            Some((NatProtocol::Tcp, ports, signal))
        }
        protocol::UDP => Some((NatProtocol::Udp, ports, Signal::Datagram)),
        _ => {
            icmp_of(packet)?;
            let signal = match (packet.src.is_ipv4(), a) {
                (true, 8) | (false, 128) => Signal::Datagram,
                (true, 0) | (false, 129) => Signal::Reply,
                _ => return None,
            };
            let identifier = word(e, f);
            Some((NatProtocol::Icmp, (identifier, identifier), signal))
        }
    }
}
