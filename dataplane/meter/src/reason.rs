//! Why a packet was not forwarded: the one closed list, for JSON, metrics, arena and console.

use qlink_wire::WireError;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Why a packet was not forwarded, or in a replay not counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DropReason {
            /// The outer packet is malformed; the name is [`WireError::reason`].
            Wire(WireError),
            $($(#[$doc])* $variant,)*
        }

        #[derive(Clone, Copy)]
        enum Place { $($variant),* }

        /// Every reason that is not a [`WireError`].
        const OWN: &[DropReason] = &[$(DropReason::$variant),*];

        impl DropReason {
            /// Place in tables of counters, `0..DropReason::COUNT`.
            #[must_use]
            #[inline]
            pub const fn index(self) -> usize {
                match self {
                    Self::Wire(error) => error as usize,
                    $(Self::$variant => WireError::ALL.len().saturating_add(Place::$variant as usize),)*
                }
            }

            /// The stable name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    Self::Wire(error) => error.reason(),
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// An IP packet that is no GTP-U, for example other traffic in a capture.
    NotGtpu = "not_gtpu";
    /// A GTP-U message other than a G-PDU that nothing here acts on.
    GtpuSignalling = "gtpu_signalling";
    /// An extension header that the sender requires us to understand.
    GtpuExtensionUnknown = "gtpu_extension_unknown";
    /// The G-PDU holds no sound IP header.
    InnerMalformed = "inner_malformed";
    /// No session has this TEID.
    TeidUnknown = "teid_unknown";
    /// The TEID belongs to another peer.
    PeerMismatch = "peer_mismatch";
    /// The inner source is not the session's subscriber.
    SourceSpoofed = "source_spoofed";
    /// No session has the destination of a downlink packet.
    UeUnknown = "ue_unknown";
    /// GTP-U inside GTP-U.
    GtpuNested = "gtpu_nested";
    /// Addressed to this gateway's own addresses.
    ToInfrastructure = "to_infrastructure";
    /// From an address that is not the configured neighbour.
    NeighbourUnknown = "neighbour_unknown";
    /// The personal payer's limit is used up.
    QuotaExhausted = "quota_exhausted";
    /// Nobody pays for these bytes.
    NotSponsored = "not_sponsored";
    /// Would need more coverage ranges than a flow has; TCP sends it again.
    CoverageFull = "coverage_full";
    /// Ahead of framing that was not seen yet; TCP sends it again.
    FramingUnknown = "framing_unknown";
    /// No room for another flow.
    FlowTableFull = "flow_table_full";
    /// Too long for a tunnel packet.
    TooLong = "too_long";
    /// The send queue is full.
    TransmitFull = "transmit_full";
    /// The system refused the packet.
    TransmitRefused = "transmit_refused";
    /// An outer fragment where no back end puts datagrams together.
    FragmentUnsupported = "fragment_unsupported";
    /// Outer fragments whose rest never came.
    FragmentExpired = "fragment_expired";
    /// An echo request from an address that is no session's peer.
    PeerUnknown = "peer_unknown";
    /// Addressed to a port of the core's control protocols: PFCP or GTP-C.
    CoreSignalling = "core_signalling";
    /// The session has as many content flows as one session may have.
    SessionFlowsFull = "session_flows_full";
    /// The worker that owns the session has no room for more packets of others.
    HandoverFull = "handover_full";
    /// No packet detection rule of the session matches.
    NoPdr = "no_pdr";
    /// The forwarding rule says so.
    FarDrop = "far_drop";
    /// A `QoS` rule closes this direction.
    GateClosed = "gate_closed";
    /// Above the maximum bit rate of a `QoS` rule.
    RateExceeded = "rate_exceeded";
    /// The quota of a usage rule is used up.
    UrrQuotaExhausted = "urr_quota_exhausted";
    /// The packets that a session may keep are kept already.
    BufferFull = "buffer_full";
    /// Kept too long, or its session ended meanwhile.
    BufferExpired = "buffer_expired";
    /// Longer than its path; its sender was told.
    TooBigAnswered = "too_big_answered";
    /// Longer than its path, and the standards forbid an answer to such a packet.
    TooBigNoAnswer = "too_big_no_answer";
    /// Longer than its path, and no more answers may be sent now.
    TooBigRateLimited = "too_big_rate_limited";
    /// Longer than its path, without a sound header to cut it behind.
    TooBigMalformed = "too_big_malformed";
    /// To be translated, without a header that can be read whole.
    TranslateMalformed = "translate_malformed";
    /// A protocol, message or header that is not translated.
    TranslateUnsupported = "translate_unsupported";
    /// From subscriber to subscriber through the translator.
    TranslateHairpinRefused = "translate_hairpin_refused";
    /// NAT64: the hop limit is used up.
    TranslateHopLimit = "translate_hop_limit";
    /// NAT64: a UDP checksum of zero where IPv6 needs one that cannot be made.
    TranslateUdpChecksumZero = "translate_udp_checksum_zero";
    /// NAT64: a source route that is not at its end.
    TranslateSourceRoute = "translate_source_route";
    /// NAT64: too long for the other family.
    TranslateTooLong = "translate_too_long";
    /// NAT64: an IPv4 address that the prefix must not reach.
    TranslateDestinationForbidden = "translate_destination_forbidden";
    /// The translator knows no such subscriber.
    NatSubscriberUnknown = "nat_subscriber_unknown";
    /// All port blocks are taken or rest, or all on the subscriber's address.
    NatNoBlock = "nat_no_block";
    /// No port is free in the blocks that one subscriber may have.
    NatSubscriberPortsFull = "nat_subscriber_ports_full";
    /// The subscriber has all translated connections that one may have.
    NatSubscriberSessionsFull = "nat_subscriber_sessions_full";
    /// The table of mappings is full.
    NatMappingTableFull = "nat_mapping_table_full";
    /// The table of translated connections is full.
    NatSessionTableFull = "nat_session_table_full";
    /// The log of port blocks has no room, so no block can be given.
    NatLogFull = "nat_log_full";
    /// A TCP segment of no translated connection that opens none.
    NatTcpWithoutSyn = "nat_tcp_without_syn";
    /// An ICMP reply without its query, or an error about a packet that was not translated.
    NatIcmpWithoutQuery = "nat_icmp_without_query";
    /// A later fragment of a flow without a mapping.
    NatFragmentWithoutMapping = "nat_fragment_without_mapping";
    /// No mapping has this outside address and port.
    NatNoMapping = "nat_no_mapping";
    /// The mapping does not let this remote end in.
    NatFiltered = "nat_filtered";
    /// An inner fragment whose first one is not known: lost, late or refused.
    InnerFragmentUnmatched = "inner_fragment_unmatched";
    /// An inner fragment that ends inside its transport header, or would write into it.
    InnerFragmentTiny = "inner_fragment_tiny";
    /// A second first fragment of a datagram, with other ports.
    InnerFragmentConflict = "inner_fragment_conflict";
    /// A fragment of a protocol without ports.
    InnerFragmentPortless = "inner_fragment_portless";
    /// No room for another datagram in fragments.
    InnerFragmentTableFull = "inner_fragment_table_full";
    /// The subscriber has all datagrams in fragments that one may have.
    InnerFragmentOwnerFull = "inner_fragment_owner_full";
    /// Came faster than the worker took them: dropped by the card or the kernel in front of it. Of
    /// a tap they are what is missing in its account.
    ReceiveFull = "receive_full";
    /// The rule redirects, and the packet is of no plain HTTP request.
    NotRedirectable = "not_redirectable";
    /// No room for another flow that goes to another destination than it asked for.
    RedirectTableFull = "redirect_table_full";
}

impl DropReason {
    /// Number of reasons.
    pub const COUNT: usize = WireError::ALL.len() + OWN.len();

    /// Every reason in the order of [`Self::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let wire = WireError::ALL.iter().copied().map(Self::Wire);
        wire.chain(OWN.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        let names: BTreeSet<&str> = DropReason::all().map(DropReason::name).collect();

        assert_eq!(names.len(), DropReason::COUNT);
        for (index, reason) in DropReason::all().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
