//! Transport headers in a scratch: what they say about a flow, and the edit of their ports.

use qlink_wire::{IcmpFamily, TcpFlags, protocol};

use crate::checksum::ChecksumDelta;
use crate::fragments::Ports;
use crate::nat::{NatProtocol, Signal};
use crate::rewrite::Header;
use crate::translate::TranslateRefusal;
use crate::{Rewrite, SCRATCH_MAX};

/// Bytes of an ICMP header.
pub(crate) const ICMP_HEADER: usize = 8;

/// Where a port stands in a transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// Whether a packet holds its transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It does.
    Head,
    /// A later fragment.
    Later,
}

/// A transport header that belongs to a flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlowHead {
    pub(crate) protocol: NatProtocol,
    pub(crate) ports: Ports,
    pub(crate) signal: Signal,
}

/// A packet that an ICMP error quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    /// Where its IP header stands in the scratch.
    pub(crate) at: usize,
    pub(crate) header: Header,
    pub(crate) flow: FlowHead,
}

/// What a packet is to a translator.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Flow(FlowHead),
    Later(NatProtocol),
    Error(Quoted),
}

/// Reads a packet's transport header.
#[inline]
pub(crate) fn read(rewrite: &Rewrite, header: &Header) -> Result<Content, TranslateRefusal> {
    if header.is_later_fragment() {
        return nat_protocol(header)
            .map(Content::Later)
            .ok_or(TranslateRefusal::Unsupported);
    }
    let at = header.len;
    match header.icmp() {
        None => read_flow(rewrite, header, at, Depth::Outer).map(Content::Flow),
        Some(family) => {
            let [kind, _] = rewrite.bytes(at).ok_or(TranslateRefusal::Malformed)?;
            if is_error(family, kind) {
                read_error(rewrite, header).map(Content::Error)
            } else {
                read_flow(rewrite, header, at, Depth::Outer).map(Content::Flow)
            }
        }
    }
}

/// How much of a transport header must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// All of it.
    Outer,
    /// Eight bytes: what every ICMP error quotes. Source: RFC 792.
    Quoted,
}

fn read_flow(
    rewrite: &Rewrite,
    header: &Header,
    at: usize,
    depth: Depth,
) -> Result<FlowHead, TranslateRefusal> {
    let protocol = nat_protocol(header).ok_or(TranslateRefusal::Unsupported)?;
    let [a, b, c, d, e, f, _, _] = rewrite.bytes::<8>(at).ok_or(TranslateRefusal::Malformed)?;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let signal = match (protocol, depth) {
        (NatProtocol::Tcp, Depth::Outer) => {
            let head = rewrite.bytes::<20>(at).ok_or(TranslateRefusal::Malformed)?;
            Signal::Segment(TcpFlags::from_bits(head[13]))
        }
        (NatProtocol::Tcp, Depth::Quoted) | (NatProtocol::Udp, _) => Signal::Datagram,
        (NatProtocol::Icmp, _) => match (header.src.is_ipv4(), a) {
            (true, 8) | (false, 128) => Signal::Datagram,
            (true, 0) | (false, 129) => Signal::Reply,
            _ => return Err(TranslateRefusal::Unsupported),
        },
    };
    let ports = match protocol {
        NatProtocol::Tcp | NatProtocol::Udp => Ports {
            src: word(a, b),
            dst: word(c, d),
        },
        NatProtocol::Icmp => Ports {
            src: word(e, f),
            dst: word(e, f),
        },
    };
    Ok(FlowHead {
        protocol,
        ports,
        signal,
    })
}

fn read_error(rewrite: &Rewrite, header: &Header) -> Result<Quoted, TranslateRefusal> {
    if header.fragment.is_some() {
        return Err(TranslateRefusal::Unsupported);
    }
    let at = header.len.saturating_add(ICMP_HEADER);
    let inner = rewrite.header(at).ok_or(TranslateRefusal::Malformed)?;
    if inner.is_later_fragment() || inner.src.is_ipv4() != header.src.is_ipv4() {
        return Err(TranslateRefusal::Unsupported);
    }
    let transport = at.saturating_add(inner.len);
    Ok(Quoted {
        at,
        header: inner,
        flow: read_flow(rewrite, &inner, transport, Depth::Quoted)?,
    })
}

/// The errors that reach subscribers. Source: RFC 5508 §4, RFC 7915 §4.2 and §5.2; source quench
/// and redirect stay on their link.
pub(crate) const fn is_error(family: IcmpFamily, kind: u8) -> bool {
    match family {
        IcmpFamily::V4 => matches!(kind, 3 | 11 | 12),
        IcmpFamily::V6 => matches!(kind, 1..=4),
    }
}

fn nat_protocol(header: &Header) -> Option<NatProtocol> {
    match header.protocol {
        protocol::TCP => Some(NatProtocol::Tcp),
        protocol::UDP => Some(NatProtocol::Udp),
        _ => header.icmp().map(|_| NatProtocol::Icmp),
    }
}

/// An edit of a transport header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edit {
    pub(crate) protocol: NatProtocol,
    pub(crate) end: End,
    pub(crate) port: u16,
    /// What the change of the addresses does to the checksum; of ICMP, that of its pseudo header.
    pub(crate) pseudo: ChecksumDelta,
    /// The new ICMP type.
    pub(crate) icmp_type: Option<u8>,
}

impl Edit {
    /// Edits the transport header at `at`; a checksum that is not there (quoted bytes are cut) is
    /// left out. `None` when the port is not there.
    #[inline]
    pub(crate) fn apply(&self, rewrite: &mut Rewrite, at: usize) -> Option<()> {
        let (port_at, checksum_at) = match (self.protocol, self.end) {
            (NatProtocol::Tcp, End::Source) => (0, 16),
            (NatProtocol::Tcp, End::Destination) => (2, 16),
            (NatProtocol::Udp, End::Source) => (0, 6),
            (NatProtocol::Udp, End::Destination) => (2, 6),
            (NatProtocol::Icmp, _) => (4, 2),
        };
        let port_at = at.checked_add(port_at)?;
        let mut delta = self
            .pseudo
            .without_word(rewrite.word(port_at)?)
            .with_word(self.port);
        rewrite.put_word(port_at, self.port);
        if let Some(kind) = self.icmp_type {
            delta = delta.without_word(rewrite.word(at)?);
            rewrite.put(at, &[kind]);
            delta = delta.with_word(rewrite.word(at)?);
        }
        let checksum_at = at.checked_add(checksum_at)?;
        if let Some(checksum) = rewrite.word(checksum_at) {
            let checksum = match self.protocol {
                NatProtocol::Udp => delta.apply_udp(checksum),
                NatProtocol::Tcp | NatProtocol::Icmp => delta.apply(checksum),
            };
            rewrite.put_word(checksum_at, checksum);
        }
        Some(())
    }
}

/// An ICMP error before it is edited, to adjust its checksum over everything that changed.
#[derive(Debug)]
pub(crate) struct IcmpBefore {
    bytes: [u8; SCRATCH_MAX],
    len: usize,
    checksum: u16,
}

impl IcmpBefore {
    /// Notes the message at `at` of the scratch.
    pub(crate) fn note(rewrite: &Rewrite, at: usize) -> Option<Self> {
        let message = rewrite.head().get(at..)?;
        let mut bytes = [0; SCRATCH_MAX];
        bytes.get_mut(..message.len())?.copy_from_slice(message);
        Some(Self {
            bytes,
            len: message.len(),
            checksum: rewrite.word(at.checked_add(2)?)?,
        })
    }

    /// Adjusts the checksum of the edited message, which is now at `at`; `other` is what changed
    /// besides the scratch.
    pub(crate) fn settle(
        &self,
        rewrite: &mut Rewrite,
        at: usize,
        other: ChecksumDelta,
    ) -> Option<()> {
        // Its own place counts as zero on both sides.
        let checksum_at = at.checked_add(2)?;
        rewrite.put_word(checksum_at, 0);
        let before = self.bytes.get(..self.len)?;
        let delta = other
            .without(before)
            .with_word(self.checksum)
            .with(rewrite.head().get(at..)?);
        rewrite.put_word(checksum_at, delta.apply(self.checksum));
        Some(())
    }
}
