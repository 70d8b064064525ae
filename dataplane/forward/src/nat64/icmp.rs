//! ICMP errors from one family to the other, with the packets that they quote.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use qlink_wire::protocol;

use super::Nat64;
use super::header::{
    Hops, Pair, header_to_v6, pseudo_v6, refuse_routing, refuse_source_route, splice,
};
use crate::Rewrite;
use crate::checksum::ChecksumDelta;
use crate::header::{IPV4_HEADER, IPV6_HEADER, IPV6_MTU_MIN};
use crate::rewrite::Header;
use crate::translate::TranslateRefusal;
use crate::transport::{End, ICMP_HEADER, IcmpBefore, Quoted};

/// The usual path MTUs, for routers that tell none. Source: RFC 1191 §7.1 table.
const PLATEAUS: [u16; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// Type, code, and bytes 4 to 7.
type Message = (u8, u8, u32);

impl Nat64 {
    /// Makes a subscriber's error an ICMP error from `external`, about a packet to it.
    pub(crate) fn error_to_v4(
        &mut self,
        rewrite: &mut Rewrite,
        header: &Header,
        quoted: &Quoted,
        external: (Ipv4Addr, u16),
        remote: Ipv4Addr,
    ) -> Result<(), TranslateRefusal> {
        refuse_routing(rewrite)?;
        let malformed = TranslateRefusal::Malformed;
        let IpAddr::V6(quoted_src) = quoted.header.src else {
            return Err(malformed);
        };
        let quoted_ends = Pair {
            src: self.extract(quoted_src).ok_or(malformed)?,
            dst: external.0,
        };
        let message = read_message(rewrite, header.len).ok_or(malformed)?;
        let message = self
            .message_to_v4(message)
            .ok_or(TranslateRefusal::Unsupported)?;
        let before = IcmpBefore::note(rewrite, header.len).ok_or(malformed)?;
        write_message(rewrite, header.len, message);

        let transport = quoted.at.saturating_add(quoted.header.len);
        self.edit_to_v4(
            rewrite,
            &quoted.header,
            transport,
            quoted.flow.protocol,
            End::Destination,
            external.1,
            quoted_ends,
        )?;
        let inner =
            self.header_to_v4(rewrite, quoted.at, &quoted.header, quoted_ends, Hops::Keep)?;
        splice(rewrite, quoted.at, quoted.header.len, &inner)?;

        let ends = Pair {
            src: external.0,
            dst: remote,
        };
        // What the quoted header loses, the packet loses.
        let lost = quoted.header.len.saturating_sub(IPV4_HEADER);
        let shorter = shortened(header, lost);
        let outer = self.header_to_v4(rewrite, 0, &shorter, ends, Hops::Forward)?;
        splice(rewrite, 0, header.len, &outer)?;
        let pseudo = ChecksumDelta::default()
            .without(&pseudo_v6(header.src, header.dst))
            .without(&header.payload_len.to_be_bytes())
            .without_word(protocol::ICMPV6.into());
        before.settle(rewrite, IPV4_HEADER, pseudo).ok_or(malformed)
    }

    /// Makes an ICMP error from the network one to a subscriber, about a packet from it.
    pub(crate) fn error_to_v6(
        &self,
        rewrite: &mut Rewrite,
        packet: &[u8],
        header: &Header,
        quoted: &Quoted,
        internal: (Ipv6Addr, u16),
    ) -> Result<(), TranslateRefusal> {
        refuse_source_route(rewrite, header)?;
        let malformed = TranslateRefusal::Malformed;
        let (IpAddr::V4(router), IpAddr::V4(quoted_dst)) = (header.src, quoted.header.dst) else {
            return Err(malformed);
        };
        let quoted_ends = Pair {
            src: internal.0,
            dst: self.embed(quoted_dst),
        };
        let quoted_len = rewrite.word(quoted.at.saturating_add(2)).ok_or(malformed)?;
        let message = read_message(rewrite, header.len).ok_or(malformed)?;
        let message = self
            .message_to_v6(message, quoted_len)
            .ok_or(TranslateRefusal::Unsupported)?;
        let before = IcmpBefore::note(rewrite, header.len).ok_or(malformed)?;
        write_message(rewrite, header.len, message);

        let transport = quoted.at.saturating_add(quoted.header.len);
        self.edit_to_v6(
            rewrite,
            &quoted.header,
            transport,
            quoted.flow.protocol,
            End::Source,
            internal.1,
            quoted_ends,
        )?;
        let (inner, inner_len) =
            header_to_v6(rewrite, quoted.at, &quoted.header, quoted_ends, Hops::Keep)?;
        let inner = inner.get(..inner_len).unwrap_or(&[]);
        splice(rewrite, quoted.at, quoted.header.len, inner)?;

        let ends = Pair {
            src: self.embed(router),
            dst: internal.0,
        };
        // No longer than every IPv6 link carries: RFC 4443 §2.4(c).
        let full = rewrite.body(packet);
        rewrite.cut_body(
            usize::from(IPV6_MTU_MIN)
                .saturating_sub(IPV6_HEADER)
                .saturating_add(header.len),
        );
        let cut = full.get(rewrite.body(packet).len()..).unwrap_or(&[]);
        let icmp_len = rewrite.total_len().saturating_sub(header.len);
        let icmp_len = u32::try_from(icmp_len).map_err(|_| TranslateRefusal::TooLong)?;
        let resized = Header {
            payload_len: icmp_len,
            ..*header
        };
        let (outer, outer_len) = header_to_v6(rewrite, 0, &resized, ends, Hops::Forward)?;
        splice(
            rewrite,
            0,
            header.len,
            outer.get(..outer_len).unwrap_or(&[]),
        )?;
        let pseudo = ChecksumDelta::default()
            .with(&pseudo_v6(IpAddr::V6(ends.src), IpAddr::V6(ends.dst)))
            .with(&icmp_len.to_be_bytes())
            .with_word(protocol::ICMPV6.into())
            .without(cut);
        before.settle(rewrite, IPV6_HEADER, pseudo).ok_or(malformed)
    }

    /// Source: RFC 7915 §5.2.
    fn message_to_v4(&self, (kind, code, rest): Message) -> Option<Message> {
        match (kind, code) {
            (1, 0 | 2 | 3) => Some((3, 1, 0)),
            (1, 1) => Some((3, 10, 0)),
            (1, 4) => Some((3, 3, 0)),
            (2, _) => {
                let told = rest.saturating_sub(20);
                let most = self.mtu_v4.min(self.mtu_v6.saturating_sub(20));
                Some((3, 4, told.min(most.into())))
            }
            (3, 0 | 1) => Some((11, code, 0)),
            (4, 0) => Some((12, 0, u32::from(pointer_to_v4(rest)?) << 24)),
            (4, 1) => Some((3, 2, 0)),
            _ => None,
        }
    }

    /// `quoted_len` is the length of the packet that did not fit. Source: RFC 7915 §4.2.
    fn message_to_v6(&self, (kind, code, rest): Message, quoted_len: u16) -> Option<Message> {
        match (kind, code) {
            (3, 0 | 1 | 5..=8 | 11 | 12) => Some((1, 0, 0)),
            (3, 2) => Some((4, 1, 6)),
            (3, 3) => Some((1, 4, 0)),
            (3, 4) => {
                let [_, _, high, low] = rest.to_be_bytes();
                let told = match u16::from_be_bytes([high, low]) {
                    0 => PLATEAUS
                        .into_iter()
                        .find(|plateau| *plateau < quoted_len)
                        .unwrap_or(IPV6_MTU_MIN),
                    told => told,
                };
                let most = self.mtu_v6.min(self.mtu_v4.saturating_add(20));
                let mtu = told.saturating_add(20).min(most).max(IPV6_MTU_MIN);
                Some((2, 0, mtu.into()))
            }
            (3, 9 | 10 | 13 | 15) => Some((1, 1, 0)),
            (11, 0 | 1) => Some((3, code, 0)),
            (12, 0 | 2) => {
                let [pointer, ..] = rest.to_be_bytes();
                Some((4, 0, pointer_to_v6(pointer)?))
            }
            _ => None,
        }
    }
}

/// Source: RFC 7915 §4.2 figure 3.
const fn pointer_to_v6(pointer: u8) -> Option<u32> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        2 | 3 => Some(4),
        8 => Some(7),
        9 => Some(6),
        12..=15 => Some(8),
        16..=19 => Some(24),
        _ => None,
    }
}

/// Source: RFC 7915 §5.2 figure 6.
const fn pointer_to_v4(pointer: u32) -> Option<u8> {
    match pointer {
        0 => Some(0),
        1 => Some(1),
        4 | 5 => Some(2),
        6 => Some(9),
        7 => Some(8),
        8..=23 => Some(12),
        24..=39 => Some(16),
        _ => None,
    }
}

fn read_message(rewrite: &Rewrite, at: usize) -> Option<Message> {
    let [kind, code, _, _, a, b, c, d] = rewrite.bytes::<ICMP_HEADER>(at)?;
    Some((kind, code, u32::from_be_bytes([a, b, c, d])))
}

/// Writes everything but the checksum.
fn write_message(rewrite: &mut Rewrite, at: usize, (kind, code, rest): Message) {
    rewrite.put(at, &[kind, code]);
    rewrite.put(at.saturating_add(4), &rest.to_be_bytes());
}

/// The header of a packet whose payload became shorter.
fn shortened(header: &Header, by: usize) -> Header {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    Header {
        payload_len: header.payload_len.saturating_sub(by),
        ..*header
    }
}
