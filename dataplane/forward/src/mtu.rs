//! Whether a packet fits its path, and what is done when it does not.
//!
//! ```text
//! tunnel MTU    | outer IP 20 / 40 | UDP 8 | GTP-U 8 / 16 | inner packet ........ |
//!               |<------------- overhead --------------->|<----- inner MTU ----->|
//!
//! leaves as  came as  don't fragment   too long for the path
//! IPv4       any      clear            fragments (RFC 791 §3.2)
//! IPv4       IPv4     set              ICMP fragmentation needed (RFC 1191 §4)
//! IPv4       IPv6     set              ICMPv6 packet too big, 20 more (RFC 7915 §5.1)
//! IPv6       IPv6     -                ICMPv6 packet too big (RFC 4443 §3.2)
//! IPv6       IPv4     set              ICMP fragmentation needed, 20 less (RFC 7915 §4.1)
//! IPv6       IPv4     clear            fragments with fragment headers (RFC 7915 §4.1)
//! ```
//!
//! An answer quotes the packet as its sender sent it, before any translation. There is never an
//! answer about an ICMP error, a later fragment, or a packet from or to an address that names no
//! single host (RFC 1122 §3.2.2, RFC 4443 §2.4(e)); RFC 4443's exception for multicast is not
//! used. Answers are limited by the caller's [`TokenBucket`].
//!
//! IPv6 packets of up to 1280 bytes are never answered: a tunnel that is narrower than that has to
//! fragment its outer packets (RFC 8200 §5, RFC 2473 §7.1), which the caller is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use qlink_wire::checksum::Checksum;
use qlink_wire::{Fragment, IcmpFamily, parse_icmp, parse_ip, protocol};

use crate::header::{
    DONT_FRAGMENT, FRAGMENT_HEADER, IPV4_HEADER, IPV6_HEADER, IPV6_MTU_MIN, Ipv4Header, Ipv6Header,
    MORE_FRAGMENTS, OFFSET_MASK, fragment_header,
};
use crate::{Rewrite, TokenBucket};

/// The least inner MTU. Source: RFC 791 §3.1: what every host takes; also, the scratch of a first
/// fragment always fits.
pub const INNER_MTU_MIN: u16 = 576;

/// Bytes of the ICMP or ICMPv6 header of an answer.
const ICMP_HEADER: usize = 8;

/// Longest answer in IPv4. Source: RFC 1812 §4.3.2.3.
const IPV4_ANSWER_MAX: usize = 576;

/// What lies around the packets of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulation {
    /// Nothing: N6.
    Plain,
    /// A GTP-U tunnel.
    Gtpu {
        /// Family of the outer addresses.
        outer: OuterFamily,
        /// What its G-PDUs carry.
        header: GtpuHeader,
    },
}

/// Family of the outer addresses of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OuterFamily {
    /// 20 bytes.
    Ipv4,
    /// 40 bytes.
    Ipv6,
}

/// Which GTP-U header is sent. Source: TS 29.281 §5.1, §5.2.2.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GtpuHeader {
    /// 8 bytes.
    Plain,
    /// 16 bytes: with a PDU session container.
    PduSessionContainer,
}

impl Encapsulation {
    /// Bytes around an inner packet.
    #[must_use]
    pub const fn overhead(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::Gtpu { outer, header } => {
                let ip = match outer {
                    OuterFamily::Ipv4 => 20,
                    OuterFamily::Ipv6 => 40,
                };
                let gtpu = match header {
                    GtpuHeader::Plain => 8,
                    GtpuHeader::PduSessionContainer => 16,
                };
                ip + 8 + gtpu
            }
        }
    }
}

/// Why a path cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Too little is left for inner packets.
    #[error("an mtu of {mtu} bytes leaves {inner} for inner packets, fewer than {INNER_MTU_MIN}")]
    TooNarrow {
        /// The path's MTU.
        mtu: u16,
        /// What is left.
        inner: u16,
    },
}

/// A path with its MTU and the addresses that answers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    inner_mtu: u16,
    gateway_v4: Ipv4Addr,
    gateway_v6: Ipv6Addr,
}

/// Why a packet that does not fit was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TooBigReason {
    /// The standards forbid an answer to such a packet.
    NoAnswerAllowed,
    /// The sender's share of answers is used up.
    RateLimited,
    /// No sound header.
    Malformed,
}

impl TooBigReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NoAnswerAllowed, Self::RateLimited, Self::Malformed];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoAnswerAllowed => "too_big_no_answer",
            Self::RateLimited => "too_big_rate_limited",
            Self::Malformed => "too_big_malformed",
        }
    }
}

/// What to do with a packet.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "boxing would allocate on the packet path; the large variant is the rare one"
)]
pub enum Fit {
    /// Send it.
    Whole,
    /// Send it in a tunnel packet that may itself be fragmented.
    OuterFragments,
    /// Send these instead.
    Fragments(Fragments),
    /// Drop it, and send the answer towards the packet's source.
    Answered,
    /// Drop it.
    Dropped(TooBigReason),
}

impl Path {
    /// A path whose links carry IP packets of `mtu` bytes.
    ///
    /// # Errors
    ///
    /// [`PathError::TooNarrow`] when fewer than [`INNER_MTU_MIN`] bytes are left inside.
    pub const fn try_new(
        mtu: u16,
        around: Encapsulation,
        gateway_v4: Ipv4Addr,
        gateway_v6: Ipv6Addr,
    ) -> Result<Self, PathError> {
        let inner_mtu = mtu.saturating_sub(around.overhead());
        if inner_mtu < INNER_MTU_MIN {
            return Err(PathError::TooNarrow {
                mtu,
                inner: inner_mtu,
            });
        }
        Ok(Self {
            inner_mtu,
            gateway_v4,
            gateway_v6,
        })
    }

    /// Longest inner packet that fits, in bytes; what [`crate::mss::MssClamp::for_mtu`] takes.
    #[must_use]
    pub const fn inner_mtu(&self) -> u16 {
        self.inner_mtu
    }

    /// Judges `leaving` at time `now_ns`. `received` is the packet as it came, before translation;
    /// `answer` receives the ICMP packet of [`Fit::Answered`], whose body is `received` too.
    #[inline]
    pub fn fit(
        &self,
        leaving: &Rewrite,
        received: &[u8],
        limit: &mut TokenBucket,
        now_ns: u64,
        answer: &mut Rewrite,
    ) -> Fit {
        if leaving.total_len() <= usize::from(self.inner_mtu) {
            return Fit::Whole;
        }
        self.too_long(leaving, received, limit, now_ns, answer)
    }

    #[cold]
    fn too_long(
        &self,
        leaving: &Rewrite,
        received: &[u8],
        limit: &mut TokenBucket,
        now_ns: u64,
        answer: &mut Rewrite,
    ) -> Fit {
        let leaves_v4 = leaving.head().first().is_some_and(|byte| byte >> 4 == 4);
        if !leaves_v4 && leaving.total_len() <= usize::from(IPV6_MTU_MIN) {
            return Fit::OuterFragments;
        }
        let came_v4 = received.first().is_some_and(|byte| byte >> 4 == 4);
        let may_fragment = match (leaves_v4, came_v4) {
            (true, _) => leaving
                .word(6)
                .is_some_and(|word| word & DONT_FRAGMENT == 0),
            (false, true) => received.get(6).is_some_and(|byte| byte & 0x40 == 0),
            (false, false) => false,
        };
        if may_fragment {
            let made = if leaves_v4 {
                Fragments::of_ipv4(leaving, self.inner_mtu)
            } else {
                // A narrower tunnel fragments its outer packets.
                Fragments::of_ipv6(leaving, received, self.inner_mtu.max(IPV6_MTU_MIN))
            };
            return made.map_or(Fit::Dropped(TooBigReason::Malformed), Fit::Fragments);
        }
        if !may_be_answered(received) {
            return Fit::Dropped(TooBigReason::NoAnswerAllowed);
        }
        if !limit.take(now_ns) {
            return Fit::Dropped(TooBigReason::RateLimited);
        }
        match self.answer(leaves_v4, received, answer) {
            Some(()) => Fit::Answered,
            None => Fit::Dropped(TooBigReason::Malformed),
        }
    }

    /// Writes the ICMP packet about `received`.
    fn answer(&self, leaves_v4: bool, received: &[u8], answer: &mut Rewrite) -> Option<()> {
        let about = parse_ip(received).ok()?;
        let total_len = usize::try_from(about.total_len).ok()?;
        match about.src {
            IpAddr::V4(to) => {
                let mtu = if leaves_v4 {
                    self.inner_mtu
                } else {
                    self.inner_mtu.max(IPV6_MTU_MIN).saturating_sub(20)
                };
                let quoted = total_len.min(IPV4_ANSWER_MAX - IPV4_HEADER - ICMP_HEADER);
                let header = Ipv4Header {
                    traffic_class: 0xc0, // internetwork control: RFC 1812 §4.3.2.5
                    total_len: u16::try_from(IPV4_HEADER + ICMP_HEADER + quoted).ok()?,
                    id: 0,
                    fragment: DONT_FRAGMENT, // an atomic datagram needs no id: RFC 6864 §4.1
                    hop_limit: 64,
                    protocol: protocol::ICMP,
                    src: self.gateway_v4,
                    dst: to,
                };
                let [high, low] = mtu.to_be_bytes();
                let icmp = [3, 4, 0, 0, 0, 0, high, low];
                let sum = Checksum::default()
                    .with(&icmp)
                    .with(received.get(..quoted)?)
                    .finish();
                answer.set(&[&header.encode(), &icmp], 0..quoted);
                answer.put_word(IPV4_HEADER + 2, sum);
            }
            IpAddr::V6(to) => {
                let mtu = if leaves_v4 {
                    self.inner_mtu.saturating_add(20)
                } else {
                    self.inner_mtu
                }
                .max(IPV6_MTU_MIN);
                let most = usize::from(IPV6_MTU_MIN) - IPV6_HEADER - ICMP_HEADER;
                let quoted = total_len.min(most);
                let payload_len = ICMP_HEADER + quoted;
                let header = Ipv6Header {
                    traffic_class: 0,
                    payload_len: u16::try_from(payload_len).ok()?,
                    next_header: protocol::ICMPV6,
                    hop_limit: 64,
                    src: self.gateway_v6,
                    dst: to,
                };
                let [high, low] = mtu.to_be_bytes();
                let icmp = [2, 0, 0, 0, 0, 0, high, low];
                let sum = Checksum::default()
                    .with_pseudo_header(
                        IpAddr::V6(self.gateway_v6),
                        about.src,
                        protocol::ICMPV6,
                        u32::try_from(payload_len).ok()?,
                    )
                    .with(&icmp)
                    .with(received.get(..quoted)?)
                    .finish();
                answer.set(&[&header.encode(), &icmp], 0..quoted);
                answer.put_word(IPV6_HEADER + 2, sum);
            }
        }
        Some(())
    }
}

/// Whether an ICMP error may be sent about a packet. Source: RFC 1122 §3.2.2, RFC 4443 §2.4(e).
fn may_be_answered(received: &[u8]) -> bool {
    let Ok(ip) = parse_ip(received) else {
        return false;
    };
    if ip.fragment.is_some_and(|fragment| fragment.offset > 0) {
        return false;
    }
    let one_host = |address: IpAddr| match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            // 0/8 names no host here, 224/4 many, 240/4 none, broadcast all.
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(address) => {
            !(address.is_multicast() || address.is_unspecified() || address.is_loopback())
        }
    };
    if !one_host(ip.src) || !one_host(ip.dst) {
        return false;
    }
    match IcmpFamily::from_protocol(ip.protocol) {
        None => true,
        // Of a redirect (137), RFC 4443 §2.4(e.2), as of an error; a cut header tells nothing.
        Some(family) => parse_icmp(family, ip.payload).is_ok_and(|message| {
            !(message.is_error() || family == IcmpFamily::V6 && message.message_type == 137)
        }),
    }
}

/// The header that every fragment gets.
#[derive(Debug, Clone, Copy)]
enum Template {
    /// The header of the packet; `options` are those that later fragments repeat.
    Ipv4 {
        first: [u8; 60],
        first_len: usize,
        later: [u8; 60],
        later_len: usize,
    },
    /// The header of the packet without fragment header, and its next-header number.
    Ipv6 {
        header: [u8; IPV6_HEADER],
        next_header: u8,
        id: u32,
    },
}

/// The fragments of a packet, one after the other; no payload is copied but what a scratch holds.
#[derive(Debug, Clone)]
pub struct Fragments {
    template: Template,
    mtu: usize,
    /// Payload bytes that stand in the packet's scratch: all of them go with the first fragment.
    lead: [u8; crate::SCRATCH_MAX],
    lead_len: usize,
    /// Bytes of the received packet that are not sent yet.
    rest: Range<usize>,
    /// Offset of the next fragment in its datagram, in bytes.
    offset: usize,
    /// Whether the packet itself was a fragment that more follow.
    more: bool,
}

impl Fragments {
    fn of_ipv4(packet: &Rewrite, mtu: u16) -> Option<Self> {
        let header = packet.header(0)?;
        let bytes = packet.head().get(..header.len)?;
        let (mut first, mut later) = ([0; 60], [0; 60]);
        first.get_mut(..header.len)?.copy_from_slice(bytes);
        later
            .get_mut(..IPV4_HEADER)?
            .copy_from_slice(bytes.get(..IPV4_HEADER)?);
        let options = copied_options(bytes.get(IPV4_HEADER..)?, later.get_mut(IPV4_HEADER..)?);
        let later_len = IPV4_HEADER.checked_add(options)?;
        *later.first_mut()? = 0x40 | u8::try_from(later_len >> 2).ok()?;
        let template = Template::Ipv4 {
            first,
            first_len: header.len,
            later,
            later_len,
        };
        Self::new(template, packet, header.len, header.fragment, mtu)
    }

    /// `received` is the IPv4 packet whose identification the fragments get.
    fn of_ipv6(packet: &Rewrite, received: &[u8], mtu: u16) -> Option<Self> {
        let header = packet.header(0)?;
        // Only what NAT64 made is fragmented here: at most a fragment header follows.
        let id = match header.fragment {
            Some(fragment) => fragment.id,
            None => u32::from(u16::from_be_bytes([*received.get(4)?, *received.get(5)?])),
        };
        let template = Template::Ipv6 {
            header: packet.bytes(0)?,
            next_header: header.protocol,
            id,
        };
        Self::new(template, packet, header.len, header.fragment, mtu)
    }

    fn new(
        template: Template,
        packet: &Rewrite,
        header_len: usize,
        fragment: Option<Fragment>,
        mtu: u16,
    ) -> Option<Self> {
        let payload = packet.head().get(header_len..)?;
        let mut lead = [0; crate::SCRATCH_MAX];
        lead.get_mut(..payload.len())?.copy_from_slice(payload);
        Some(Self {
            template,
            mtu: usize::from(mtu),
            lead,
            lead_len: payload.len(),
            rest: packet.body_range(),
            offset: fragment.map_or(Some(0), |fragment| usize::try_from(fragment.offset).ok())?,
            more: fragment.is_some_and(|fragment| fragment.more),
        })
    }

    /// Writes the next fragment; false when there is none. Its body is that of the packet.
    pub fn next_into(&mut self, place: &mut Rewrite) -> bool {
        let left = self.lead_len.saturating_add(self.rest.len());
        if left == 0 {
            return false;
        }
        let header_len = match self.template {
            Template::Ipv4 { first_len, .. } if self.lead_len > 0 => first_len,
            Template::Ipv4 { later_len, .. } => later_len,
            Template::Ipv6 { .. } => IPV6_HEADER + FRAGMENT_HEADER,
        };
        // Above zero: an MTU is at least 576, a header at most 60.
        let room = self.mtu.saturating_sub(header_len) & !7;
        let sent = left.min(room);
        let more = sent < left || self.more;
        let body = sent.saturating_sub(self.lead_len);
        let range = self.rest.start..self.rest.start.saturating_add(body);
        self.write(place, sent, more, range.clone());
        self.lead_len = 0;
        self.rest.start = range.end;
        self.offset = self.offset.saturating_add(sent);
        true
    }

    fn write(&self, place: &mut Rewrite, sent: usize, more: bool, range: Range<usize>) {
        let lead = self.lead.get(..self.lead_len).unwrap_or(&[]);
        // All lengths and offsets are below 2^16: they are parts of one IP packet.
        let word = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
        match &self.template {
            Template::Ipv4 {
                first,
                first_len,
                later,
                later_len,
            } => {
                let header = if lead.is_empty() {
                    later.get(..*later_len)
                } else {
                    first.get(..*first_len)
                };
                let header = header.unwrap_or(&[]);
                place.set(&[header, lead], range);
                let flags = if more { MORE_FRAGMENTS } else { 0 };
                place.put_word(2, word(header.len().saturating_add(sent)));
                place.put_word(6, flags | word(self.offset >> 3) & OFFSET_MASK);
                place.put_word(10, 0);
                let written = place.head().get(..header.len()).unwrap_or(&[]);
                let sum = Checksum::default().with(written).finish();
                place.put_word(10, sum);
            }
            Template::Ipv6 {
                header,
                next_header,
                id,
            } => {
                let fragment = Fragment {
                    id: *id,
                    offset: u32::from(word(self.offset)),
                    more,
                };
                let second = fragment_header(*next_header, fragment);
                place.set(&[header, &second, lead], range);
                place.put_word(4, word(sent.saturating_add(FRAGMENT_HEADER)));
                place.put(6, &[protocol::FRAGMENT]);
            }
        }
    }
}

/// Copies the options that every fragment repeats, padded to words; how many bytes they take.
/// Options behind a malformed one are left out. Source: RFC 791 §3.1 (copied flag).
fn copied_options(options: &[u8], place: &mut [u8]) -> usize {
    let (mut at, mut written) = (0_usize, 0_usize);
    while let Some([kind, rest @ ..]) = options.get(at..) {
        let len = match (kind, rest) {
            (0, _) => break,
            (1, _) => 1,
            (_, [len, ..]) if *len >= 2 => usize::from(*len),
            _ => break,
        };
        let end = at.saturating_add(len);
        let Some(option) = options.get(at..end) else {
            break;
        };
        if kind & 0x80 != 0 {
            let to = written.saturating_add(len);
            if let Some(place) = place.get_mut(written..to) {
                place.copy_from_slice(option);
                written = to;
            }
        }
        at = end;
    }
    written.next_multiple_of(4)
}

#[cfg(test)]
#[path = "mtu_tests.rs"]
mod tests;
