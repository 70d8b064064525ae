//! IP and transport headers from one family to the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_wire::checksum::Checksum;
use qlink_wire::protocol;

use super::Nat64;
use crate::Rewrite;
use crate::checksum::ChecksumDelta;
use crate::header::{
    DONT_FRAGMENT, FRAGMENT_HEADER, IPV4_HEADER, IPV6_HEADER, Ipv4Header, Ipv6Header,
    MORE_FRAGMENTS, OFFSET_MASK, fragment_header,
};
use crate::nat::NatProtocol;
use crate::rewrite::Header;
use crate::translate::TranslateRefusal;
use crate::transport::{Edit, End, Part};

/// Longest IPv4 packet that may be fragmented on its way. Source: RFC 7915 §5.1.
const FRAGMENTABLE_MAX: usize = 1260;

/// Both ends in one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<A> {
    pub(super) src: A,
    pub(super) dst: A,
}

/// What becomes of a hop limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hops {
    /// A packet that is forwarded: one less.
    Forward,
    /// A packet that is quoted: as it was.
    Keep,
}

impl Nat64 {
    /// Makes a subscriber's packet an IPv4 packet from `external`.
    pub(crate) fn make_v4(
        &mut self,
        rewrite: &mut Rewrite,
        header: &Header,
        protocol: NatProtocol,
        part: Part,
        external: (Ipv4Addr, u16),
        remote: Ipv4Addr,
    ) -> Result<(), TranslateRefusal> {
        refuse_fragmented_icmp(header, protocol)?;
        refuse_routing(rewrite)?;
        let ends = Pair {
            src: external.0,
            dst: remote,
        };
        if part == Part::Head {
            if protocol == NatProtocol::Udp && rewrite.word(header.len.saturating_add(6)) == Some(0)
            {
                return Err(TranslateRefusal::UdpChecksumZero);
            }
            self.edit_to_v4(
                rewrite,
                header,
                header.len,
                protocol,
                End::Source,
                external.1,
                ends,
            )?;
        }
        let header_v4 = self.header_to_v4(rewrite, 0, header, ends, Hops::Forward)?;
        splice(rewrite, 0, header.len, &header_v4)
    }

    /// Makes a packet from the network an IPv6 packet to a subscriber.
    pub(crate) fn make_v6(
        &self,
        rewrite: &mut Rewrite,
        packet: &[u8],
        header: &Header,
        protocol: NatProtocol,
        part: Part,
        internal: (Ipv6Addr, u16),
    ) -> Result<(), TranslateRefusal> {
        refuse_fragmented_icmp(header, protocol)?;
        refuse_source_route(rewrite, header)?;
        let IpAddr::V4(remote) = header.src else {
            return Err(TranslateRefusal::Malformed);
        };
        let ends = Pair {
            src: self.embed(remote),
            dst: internal.0,
        };
        if part == Part::Head {
            let end = End::Destination;
            self.edit_to_v6(rewrite, header, header.len, protocol, end, internal.1, ends)?;
            if protocol == NatProtocol::Udp && rewrite.word(header.len.saturating_add(6)) == Some(0)
            {
                make_udp_checksum(rewrite, packet, header, ends)?;
            }
        }
        let (header_v6, len) = header_to_v6(rewrite, 0, header, ends, Hops::Forward)?;
        splice(rewrite, 0, header.len, header_v6.get(..len).unwrap_or(&[]))
    }

    /// Edits the transport header at `at` for its IPv4 addresses.
    #[expect(
        clippy::too_many_arguments,
        reason = "each says one thing about one header"
    )]
    pub(super) fn edit_to_v4(
        &self,
        rewrite: &mut Rewrite,
        header: &Header,
        at: usize,
        protocol: NatProtocol,
        end: End,
        port: u16,
        ends: Pair<Ipv4Addr>,
    ) -> Result<(), TranslateRefusal> {
        let without_v6 = pseudo_v6(header.src, header.dst);
        let edit = match protocol {
            NatProtocol::Tcp | NatProtocol::Udp => Edit {
                protocol,
                end,
                port,
                pseudo: ChecksumDelta::default()
                    .without(&without_v6)
                    .with(&ends.src.octets())
                    .with(&ends.dst.octets()),
                icmp_type: None,
            },
            NatProtocol::Icmp => Edit {
                protocol,
                end,
                port,
                pseudo: ChecksumDelta::default()
                    .without(&without_v6)
                    .without(&header.payload_len.to_be_bytes())
                    .without_word(protocol::ICMPV6.into()),
                icmp_type: Some(echo_type(rewrite, at, (128, 8), (129, 0))?),
            },
        };
        edit.apply(rewrite, at).ok_or(TranslateRefusal::Malformed)
    }

    /// Edits the transport header at `at` for its IPv6 addresses.
    #[expect(
        clippy::too_many_arguments,
        reason = "each says one thing about one header"
    )]
    pub(super) fn edit_to_v6(
        &self,
        rewrite: &mut Rewrite,
        header: &Header,
        at: usize,
        protocol: NatProtocol,
        end: End,
        port: u16,
        ends: Pair<Ipv6Addr>,
    ) -> Result<(), TranslateRefusal> {
        let (IpAddr::V4(src), IpAddr::V4(dst)) = (header.src, header.dst) else {
            return Err(TranslateRefusal::Malformed);
        };
        let with_v6 = ChecksumDelta::default()
            .with(&ends.src.octets())
            .with(&ends.dst.octets());
        let edit = match protocol {
            NatProtocol::Tcp | NatProtocol::Udp => Edit {
                protocol,
                end,
                port,
                pseudo: with_v6.without(&src.octets()).without(&dst.octets()),
                icmp_type: None,
            },
            NatProtocol::Icmp => Edit {
                protocol,
                end,
                port,
                pseudo: with_v6
                    .with(&header.payload_len.to_be_bytes())
                    .with_word(protocol::ICMPV6.into()),
                icmp_type: Some(echo_type(rewrite, at, (8, 128), (0, 129))?),
            },
        };
        edit.apply(rewrite, at).ok_or(TranslateRefusal::Malformed)
    }

    /// The IPv4 header for the IPv6 header at `at`. Source: RFC 7915 §5.1 and §5.1.1.
    pub(super) fn header_to_v4(
        &mut self,
        rewrite: &Rewrite,
        at: usize,
        header: &Header,
        ends: Pair<Ipv4Addr>,
        hops: Hops,
    ) -> Result<[u8; IPV4_HEADER], TranslateRefusal> {
        let [first, second, _, _, _, _, _, hop_limit] =
            rewrite.bytes::<8>(at).ok_or(TranslateRefusal::Malformed)?;
        let payload = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let total_len = payload.saturating_add(IPV4_HEADER);
        let (id, fragment) = match header.fragment {
            Some(fragment) => {
                let [.., high, low] = fragment.id.to_be_bytes();
                // The offset of a parsed fragment is below 2^16.
                let place = u16::try_from(fragment.offset >> 3).unwrap_or(0) & OFFSET_MASK;
                let more = if fragment.more { MORE_FRAGMENTS } else { 0 };
                (u16::from_be_bytes([high, low]), place | more)
            }
            None => {
                self.last_id = self.last_id.wrapping_add(1);
                let fixed = if total_len <= FRAGMENTABLE_MAX {
                    0
                } else {
                    DONT_FRAGMENT
                };
                (self.last_id, fixed)
            }
        };
        let header_v4 = Ipv4Header {
            traffic_class: first << 4 | second >> 4,
            total_len: u16::try_from(total_len).map_err(|_| TranslateRefusal::TooLong)?,
            id,
            fragment,
            hop_limit: spend(hop_limit, hops)?,
            protocol: if header.protocol == protocol::ICMPV6 {
                protocol::ICMP
            } else {
                header.protocol
            },
            src: ends.src,
            dst: ends.dst,
        };
        Ok(header_v4.encode())
    }
}

/// The IPv6 header, with a fragment header for a fragment, for the IPv4 header at `at`, and how
/// many bytes it has. Source: RFC 7915 §4.1.
pub(super) fn header_to_v6(
    rewrite: &Rewrite,
    at: usize,
    header: &Header,
    ends: Pair<Ipv6Addr>,
    hops: Hops,
) -> Result<([u8; IPV6_HEADER + FRAGMENT_HEADER], usize), TranslateRefusal> {
    let [_, traffic_class, _, _, _, _, _, _, hop_limit, _] =
        rewrite.bytes::<10>(at).ok_or(TranslateRefusal::Malformed)?;
    let number = if header.protocol == protocol::ICMP {
        protocol::ICMPV6
    } else {
        header.protocol
    };
    let (next_header, more) = match header.fragment {
        Some(_) => (protocol::FRAGMENT, FRAGMENT_HEADER),
        None => (number, 0),
    };
    let payload = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
    let header_v6 = Ipv6Header {
        traffic_class,
        payload_len: u16::try_from(payload.saturating_add(more))
            .map_err(|_| TranslateRefusal::TooLong)?,
        next_header,
        hop_limit: spend(hop_limit, hops)?,
        src: ends.src,
        dst: ends.dst,
    };
    let mut bytes = [0; IPV6_HEADER + FRAGMENT_HEADER];
    let (fixed, second) = bytes.split_at_mut(IPV6_HEADER);
    fixed.copy_from_slice(&header_v6.encode());
    if let Some(fragment) = header.fragment {
        second.copy_from_slice(&fragment_header(number, fragment));
    }
    Ok((bytes, IPV6_HEADER + more))
}

/// Replaces a header.
pub(super) fn splice(
    rewrite: &mut Rewrite,
    at: usize,
    old_len: usize,
    new: &[u8],
) -> Result<(), TranslateRefusal> {
    if rewrite.splice(at, old_len, new) {
        Ok(())
    } else {
        Err(TranslateRefusal::TooLong)
    }
}

/// An unexpired source route must not be followed. Source: RFC 7915 §4.1.
pub(super) fn refuse_source_route(
    rewrite: &Rewrite,
    header: &Header,
) -> Result<(), TranslateRefusal> {
    let options = rewrite.head().get(IPV4_HEADER..header.len);
    let mut rest = options.unwrap_or(&[]);
    while let [kind, tail @ ..] = rest {
        rest = match (kind, tail) {
            (0, _) => break,
            (1, _) => tail,
            (131 | 137, [len, pointer, ..]) if pointer <= len => {
                return Err(TranslateRefusal::SourceRoute);
            }
            (_, [len, ..]) if *len >= 2 => rest.get(usize::from(*len)..).unwrap_or(&[]),
            _ => break,
        };
    }
    Ok(())
}

/// A routing header with segments left must not be left out, an authentication header cannot be.
/// Source: RFC 7915 §5.1.
pub(super) fn refuse_routing(rewrite: &Rewrite) -> Result<(), TranslateRefusal> {
    let Some([mut next]) = rewrite.bytes::<1>(6) else {
        return Err(TranslateRefusal::Malformed);
    };
    let mut at = IPV6_HEADER;
    // Each pass moves on by at least 8 bytes of the scratch.
    while let Some([following, len, _, segments_left]) = rewrite.bytes::<4>(at) {
        match next {
            protocol::ROUTING if segments_left > 0 => return Err(TranslateRefusal::SourceRoute),
            protocol::AUTHENTICATION => return Err(TranslateRefusal::Unsupported),
            protocol::ROUTING | protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => {
                at = at.saturating_add((usize::from(len) + 1) << 3);
            }
            protocol::FRAGMENT => at = at.saturating_add(FRAGMENT_HEADER),
            _ => break,
        }
        next = following;
    }
    Ok(())
}

/// The length in the ICMPv6 pseudo header of a fragmented message is not known. Source: RFC 7915 §1.2.
fn refuse_fragmented_icmp(header: &Header, protocol: NatProtocol) -> Result<(), TranslateRefusal> {
    if header.fragment.is_some() && protocol == NatProtocol::Icmp {
        return Err(TranslateRefusal::Unsupported);
    }
    Ok(())
}

/// Sums a datagram that came without a checksum. Source: RFC 7915 §4.5.
fn make_udp_checksum(
    rewrite: &mut Rewrite,
    packet: &[u8],
    header: &Header,
    ends: Pair<Ipv6Addr>,
) -> Result<(), TranslateRefusal> {
    if header.fragment.is_some() {
        return Err(TranslateRefusal::UdpChecksumZero);
    }
    let stated = rewrite.word(header.len.saturating_add(4)).map(u32::from);
    if stated != Some(header.payload_len) {
        return Err(TranslateRefusal::Malformed);
    }
    let head = rewrite.head().get(header.len..).unwrap_or(&[]);
    // The head's length is even unless nothing follows.
    let sum = Checksum::default()
        .with_pseudo_header(
            IpAddr::V6(ends.src),
            IpAddr::V6(ends.dst),
            protocol::UDP,
            header.payload_len,
        )
        .with(head)
        .with(rewrite.body(packet))
        .finish();
    let sum = if sum == 0 { u16::MAX } else { sum };
    rewrite.put_word(header.len.saturating_add(6), sum);
    Ok(())
}

/// The type of an echo message in the other family.
fn echo_type(
    rewrite: &Rewrite,
    at: usize,
    request: (u8, u8),
    reply: (u8, u8),
) -> Result<u8, TranslateRefusal> {
    match rewrite.bytes::<1>(at) {
        Some([kind]) if kind == request.0 => Ok(request.1),
        Some([kind]) if kind == reply.0 => Ok(reply.1),
        _ => Err(TranslateRefusal::Unsupported),
    }
}

/// Both addresses as a pseudo header holds them.
pub(super) fn pseudo_v6(src: IpAddr, dst: IpAddr) -> [u8; 32] {
    let mut bytes = [0; 32];
    let (first, second) = bytes.split_at_mut(16);
    first.copy_from_slice(&crate::index::address_bytes(src));
    second.copy_from_slice(&crate::index::address_bytes(dst));
    bytes
}

fn spend(hop_limit: u8, hops: Hops) -> Result<u8, TranslateRefusal> {
    match (hops, hop_limit) {
        (Hops::Keep, _) => Ok(hop_limit),
        (Hops::Forward, 0 | 1) => Err(TranslateRefusal::HopLimit),
        (Hops::Forward, _) => Ok(hop_limit.saturating_sub(1)),
    }
}
