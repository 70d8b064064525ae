//! The translator that a pipeline holds: NAT44 and NAT64 over one pool, fragments included.
//!
//! ```text
//! uplink     IPv4                          -> NAT44 -+-> network
//!            IPv6 to the NAT64 prefix      -> NAT64 -+-> pool address: hairpin, then as downlink
//!            other IPv6                    -> as it is
//! downlink   IPv4 to an address of the pool -> whatever family the mapping's inside has
//!            anything else                 -> as it is
//! ```
//!
//! Later fragments are translated like their first (RFC 6146 §3.4, RFC 4787 §11 REQ-14); one that
//! comes before its first is refused.

use std::net::{IpAddr, Ipv4Addr};

use crate::Rewrite;
use crate::fragments::{DatagramKey, FragmentLimits, FragmentMap, FragmentRefusal, Ports};
use crate::nat::{
    BlockLog, Hairpinning, Inbound, Internal, Nat, NatProtocol, NatRefusal, Outbound, Signal,
};
use crate::nat44;
use crate::nat64::Nat64;
use crate::rewrite::Header;
use crate::transport::{self, Content, End, FlowHead, Part, Quoted};

/// The realm of datagrams that come from the network.
const NETWORK: u32 = u32::MAX;

/// Why a packet was not translated, and must not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TranslateRefusal {
    /// The engine has no other end for it.
    Nat(NatRefusal),
    /// A fragment that belongs to no flow.
    Fragment(FragmentRefusal),
    /// No header that can be read whole.
    Malformed,
    /// A protocol, message or header that is not translated.
    Unsupported,
    /// From subscriber to subscriber, which is not allowed here.
    HairpinRefused,
    /// NAT64: the hop limit is used up.
    HopLimit,
    /// NAT64: a UDP checksum of zero where IPv6 needs one that cannot be made.
    UdpChecksumZero,
    /// NAT64: a source route that is not at its end.
    SourceRoute,
    /// NAT64: too long for the other family.
    TooLong,
    /// NAT64: an IPv4 address that the prefix must not reach.
    DestinationForbidden,
}

impl TranslateRefusal {
    /// Every refusal.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [
            Self::Malformed,
            Self::Unsupported,
            Self::HairpinRefused,
            Self::HopLimit,
            Self::UdpChecksumZero,
            Self::SourceRoute,
            Self::TooLong,
            Self::DestinationForbidden,
        ];
        let nat = NatRefusal::ALL.into_iter().map(Self::Nat);
        let fragment = FragmentRefusal::ALL.into_iter().map(Self::Fragment);
        own.into_iter().chain(nat).chain(fragment)
    }

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat(refusal) => refusal.name(),
            Self::Fragment(refusal) => refusal.name(),
            Self::Malformed => "translate_malformed",
            Self::Unsupported => "translate_unsupported",
            Self::HairpinRefused => "translate_hairpin_refused",
            Self::HopLimit => "translate_hop_limit",
            Self::UdpChecksumZero => "translate_udp_checksum_zero",
            Self::SourceRoute => "translate_source_route",
            Self::TooLong => "translate_too_long",
            Self::DestinationForbidden => "translate_destination_forbidden",
        }
    }
}

impl From<NatRefusal> for TranslateRefusal {
    fn from(refusal: NatRefusal) -> Self {
        Self::Nat(refusal)
    }
}

impl From<FragmentRefusal> for TranslateRefusal {
    fn from(refusal: FragmentRefusal) -> Self {
        Self::Fragment(refusal)
    }
}

/// Where a packet that went through [`Translator::uplink`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplinked {
    /// To the network as it came: nothing here is responsible for it.
    Untouched,
    /// To the network.
    Translated,
    /// To another subscriber, or to the same.
    Hairpin(Internal),
}

/// Where a packet that went through [`Translator::downlink`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downlinked {
    /// Wherever its destination is: nothing here is responsible for it.
    Untouched,
    /// To a subscriber.
    Translated(Internal),
}

/// NAT44 and NAT64 of one worker.
#[derive(Debug, Clone)]
pub struct Translator {
    nat: Nat,
    fragments: FragmentMap,
    /// Datagrams from the network, whoever owns their external port.
    passing: FragmentMap,
    nat64: Option<Nat64>,
}

impl Translator {
    /// A translator over an engine; without `nat64`, IPv6 is left alone.
    #[must_use]
    pub fn new(nat: Nat, fragments: FragmentLimits, nat64: Option<Nat64>) -> Self {
        Self {
            nat,
            fragments: FragmentMap::new(fragments),
            passing: FragmentMap::new(FragmentLimits {
                owners: 1,
                datagrams_per_owner: u16::MAX,
                ..fragments
            }),
            nat64,
        }
    }

    /// The engine, to open, close and sweep.
    pub const fn nat_mut(&mut self) -> &mut Nat {
        &mut self.nat
    }

    /// The engine.
    #[must_use]
    pub const fn nat(&self) -> &Nat {
        &self.nat
    }

    /// Translates a subscriber's packet; `packet` is the one that `rewrite` was loaded from.
    ///
    /// # Errors
    ///
    /// [`TranslateRefusal`]; the rewrite must not be sent then.
    pub fn uplink(
        &mut self,
        subscriber: u32,
        rewrite: &mut Rewrite,
        packet: &[u8],
        now_ns: u64,
        log: &mut impl BlockLog,
    ) -> Result<Uplinked, TranslateRefusal> {
        let header = rewrite.header(0).ok_or(TranslateRefusal::Malformed)?;
        let Some(remote) = self.remote_of(&header)? else {
            return Ok(Uplinked::Untouched);
        };
        let hairpin = self.nat.is_external(remote);
        if hairpin && self.nat.hairpinning() == Hairpinning::Refuse {
            return Err(TranslateRefusal::HairpinRefused);
        }
        match transport::read(rewrite, &header)? {
            Content::Error(quoted) => {
                self.error_out(subscriber, rewrite, &header, &quoted, remote, now_ns)?;
            }
            content => {
                let (flow, part) = self.flow_out(subscriber, &header, content, now_ns)?;
                let outbound = Outbound {
                    subscriber,
                    protocol: flow.protocol,
                    internal: (header.src, flow.ports.src),
                    remote: (remote, remote_port(&flow, flow.ports.dst)),
                    signal: flow.signal,
                };
                let external = self.nat.outbound(&outbound, now_ns, log)?;
                match &mut self.nat64 {
                    Some(nat64) if !header.src.is_ipv4() => {
                        nat64.make_v4(rewrite, &header, flow.protocol, part, external, remote)?;
                    }
                    _ => nat44::translate(
                        rewrite,
                        &header,
                        flow.protocol,
                        part,
                        End::Source,
                        external,
                    )
                    .ok_or(TranslateRefusal::Malformed)?,
                }
            }
        }
        if !hairpin {
            return Ok(Uplinked::Translated);
        }
        match self.downlink(rewrite, packet, now_ns)? {
            Downlinked::Translated(internal) => Ok(Uplinked::Hairpin(internal)),
            Downlinked::Untouched => Err(TranslateRefusal::Malformed),
        }
    }

    /// Which share of the pool a packet from the network is for; `None` when it is not for the
    /// pool. Its fragments must all be shown to the same translator, the first one first.
    ///
    /// # Errors
    ///
    /// [`TranslateRefusal`]: no share can do anything with it.
    pub fn owner_of(
        &mut self,
        rewrite: &Rewrite,
        now_ns: u64,
    ) -> Result<Option<u8>, TranslateRefusal> {
        let header = rewrite.header(0).ok_or(TranslateRefusal::Malformed)?;
        let external = match header.dst {
            IpAddr::V4(external) => self.nat.is_external(external),
            IpAddr::V6(_) => false,
        };
        if !external {
            return Ok(None);
        }
        let key =
            |fragment| DatagramKey::new(NETWORK, header.src, header.dst, fragment, header.protocol);
        let port = match (transport::read(rewrite, &header)?, header.fragment) {
            (Content::Error(quoted), _) => quoted.flow.ports.src,
            (Content::Flow(flow), None) => flow.ports.dst,
            (Content::Flow(flow), Some(fragment)) => {
                self.passing.first(&key(fragment), 0, flow.ports, now_ns)?;
                flow.ports.dst
            }
            (Content::Later(_), Some(fragment)) => {
                let number = header.protocol;
                self.passing
                    .later(&key(fragment), fragment, number, now_ns)?
                    .dst
            }
            (Content::Later(_), None) => return Err(TranslateRefusal::Malformed),
        };
        Ok(Some(self.nat.owner_of(port)))
    }

    /// Translates a packet from the network.
    ///
    /// # Errors
    ///
    /// [`TranslateRefusal`]; the rewrite must not be sent then.
    pub fn downlink(
        &mut self,
        rewrite: &mut Rewrite,
        packet: &[u8],
        now_ns: u64,
    ) -> Result<Downlinked, TranslateRefusal> {
        let header = rewrite.header(0).ok_or(TranslateRefusal::Malformed)?;
        let (IpAddr::V4(remote), IpAddr::V4(external)) = (header.src, header.dst) else {
            return Ok(Downlinked::Untouched);
        };
        if !self.nat.is_external(external) {
            return Ok(Downlinked::Untouched);
        }
        let internal = match transport::read(rewrite, &header)? {
            Content::Error(quoted) => self.error_in(rewrite, packet, &header, &quoted, now_ns)?,
            content => {
                let (flow, part) = self.flow_in(&header, content, now_ns)?;
                let inbound = Inbound {
                    protocol: flow.protocol,
                    external: (external, flow.ports.dst),
                    remote: (remote, remote_port(&flow, flow.ports.src)),
                    signal: flow.signal,
                };
                let internal = self.nat.inbound(&inbound, now_ns)?;
                if part == Part::Head {
                    self.remember(NETWORK, internal.subscriber, &header, flow.ports, now_ns)?;
                }
                match (internal.address, &self.nat64) {
                    (IpAddr::V4(address), _) => nat44::translate(
                        rewrite,
                        &header,
                        flow.protocol,
                        part,
                        End::Destination,
                        (address, internal.port),
                    )
                    .ok_or(TranslateRefusal::Malformed)?,
                    (IpAddr::V6(address), Some(nat64)) => {
                        let inside = (address, internal.port);
                        nat64.make_v6(rewrite, packet, &header, flow.protocol, part, inside)?;
                    }
                    (IpAddr::V6(_), None) => return Err(TranslateRefusal::Unsupported),
                }
                internal
            }
        };
        Ok(Downlinked::Translated(internal))
    }

    /// The IPv4 address that a subscriber's packet goes to; `None` when nothing is to be done.
    fn remote_of(&self, header: &Header) -> Result<Option<Ipv4Addr>, TranslateRefusal> {
        match (header.dst, &self.nat64) {
            (IpAddr::V4(address), _) => Ok(Some(address)),
            (IpAddr::V6(address), Some(nat64)) => nat64.reach(address),
            (IpAddr::V6(_), None) => Ok(None),
        }
    }

    /// The flow of a subscriber's packet.
    fn flow_out(
        &mut self,
        subscriber: u32,
        header: &Header,
        content: Content,
        now_ns: u64,
    ) -> Result<(FlowHead, Part), TranslateRefusal> {
        let (flow, part) = self.flow(subscriber, header, content, now_ns)?;
        if part == Part::Head {
            self.remember(subscriber, subscriber, header, flow.ports, now_ns)?;
        }
        Ok((flow, part))
    }

    /// The flow of a packet from the network.
    fn flow_in(
        &mut self,
        header: &Header,
        content: Content,
        now_ns: u64,
    ) -> Result<(FlowHead, Part), TranslateRefusal> {
        self.flow(NETWORK, header, content, now_ns)
    }

    fn flow(
        &mut self,
        realm: u32,
        header: &Header,
        content: Content,
        now_ns: u64,
    ) -> Result<(FlowHead, Part), TranslateRefusal> {
        match (content, header.fragment) {
            (Content::Flow(flow), _) => Ok((flow, Part::Head)),
            (Content::Later(protocol), Some(fragment)) => {
                let key =
                    DatagramKey::new(realm, header.src, header.dst, fragment, header.protocol);
                let ports = self
                    .fragments
                    .later(&key, fragment, header.protocol, now_ns)?;
                let flow = FlowHead {
                    protocol,
                    ports,
                    signal: Signal::LaterFragment,
                };
                Ok((flow, Part::Later))
            }
            (Content::Later(_) | Content::Error(_), _) => Err(TranslateRefusal::Malformed),
        }
    }

    /// Remembers the ports of a first fragment.
    fn remember(
        &mut self,
        realm: u32,
        owner: u32,
        header: &Header,
        ports: Ports,
        now_ns: u64,
    ) -> Result<(), TranslateRefusal> {
        if let Some(fragment) = header.fragment {
            let key = DatagramKey::new(realm, header.src, header.dst, fragment, header.protocol);
            self.fragments.first(&key, owner, ports, now_ns)?;
        }
        Ok(())
    }

    /// An error from a subscriber, about a packet that it received.
    fn error_out(
        &mut self,
        subscriber: u32,
        rewrite: &mut Rewrite,
        header: &Header,
        quoted: &Quoted,
        remote: Ipv4Addr,
        now_ns: u64,
    ) -> Result<(), TranslateRefusal> {
        let inside = (quoted.header.dst, quoted.flow.ports.dst);
        let external = self
            .nat
            .external_of(subscriber, quoted.flow.protocol, inside, now_ns)
            .ok_or(NatRefusal::IcmpWithoutQuery)?;
        match &mut self.nat64 {
            Some(nat64) if !header.src.is_ipv4() => {
                nat64.error_to_v4(rewrite, header, quoted, external, remote)
            }
            _ => nat44::translate_error(rewrite, header, quoted, End::Source, external)
                .ok_or(TranslateRefusal::Malformed),
        }
    }

    /// An error from the network, about a packet that a subscriber sent.
    fn error_in(
        &self,
        rewrite: &mut Rewrite,
        packet: &[u8],
        header: &Header,
        quoted: &Quoted,
        now_ns: u64,
    ) -> Result<Internal, TranslateRefusal> {
        let IpAddr::V4(sender) = quoted.header.src else {
            return Err(TranslateRefusal::Malformed);
        };
        let internal = (quoted.header.src == header.dst)
            .then_some((sender, quoted.flow.ports.src))
            .and_then(|external| self.nat.internal_of(quoted.flow.protocol, external, now_ns))
            .ok_or(NatRefusal::IcmpWithoutQuery)?;
        match (internal.address, &self.nat64) {
            (IpAddr::V4(address), _) => {
                let inside = (address, internal.port);
                nat44::translate_error(rewrite, header, quoted, End::Destination, inside)
                    .ok_or(TranslateRefusal::Malformed)?;
            }
            (IpAddr::V6(address), Some(nat64)) => {
                let inside = (address, internal.port);
                nat64.error_to_v6(rewrite, packet, header, quoted, inside)?;
            }
            (IpAddr::V6(_), None) => return Err(TranslateRefusal::Unsupported),
        }
        Ok(internal)
    }
}

/// The port of the remote end; an ICMP identifier belongs to the inside only.
const fn remote_port(flow: &FlowHead, port: u16) -> u16 {
    match flow.protocol {
        NatProtocol::Tcp | NatProtocol::Udp => port,
        NatProtocol::Icmp => 0,
    }
}
