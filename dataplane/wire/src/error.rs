//! Why bytes were refused: one closed list for the whole crate.
//!
//! One list and not one per parser, because the pipeline reports every refusal as a drop reason
//! and the list of drop reasons is closed.

/// Why a packet could not be parsed or reassembled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum WireError {
    /// The frame ends inside its link header.
    #[error("the frame ends inside its link header")]
    LinkTruncated,
    /// The link header announces something else than IPv4 or IPv6.
    #[error("the frame carries no ip packet")]
    NotIp,
    /// More VLAN tags are stacked than [`MAX_VLAN_TAGS`](crate::MAX_VLAN_TAGS).
    #[error("the frame stacks more vlan tags than the limit")]
    VlanStackTooDeep,
    /// The bytes end inside the fixed IP header.
    #[error("the bytes end inside the fixed ip header")]
    IpTruncated,
    /// The version is neither 4 nor 6, or not the one that the link header announced.
    #[error("the ip version is unknown or not the announced one")]
    IpVersion,
    /// The IPv4 header length is below 20 bytes.
    #[error("the ipv4 header states a length below 20 bytes")]
    IpHeaderLength,
    /// The IPv4 total length is below the header's own length.
    #[error("the ip header states a total length below its own length")]
    IpTotalLength,
    /// An IPv6 extension header runs past the packet's stated end.
    #[error("an ipv6 extension header runs past the stated end of the packet")]
    Ipv6ExtensionLength,
    /// More IPv6 extension headers than [`MAX_IPV6_EXTENSIONS`](crate::MAX_IPV6_EXTENSIONS).
    #[error("the ipv6 extension header chain is longer than the limit")]
    Ipv6ChainTooLong,
    /// The bytes end inside the UDP header.
    #[error("the bytes end inside the udp header")]
    UdpTruncated,
    /// The UDP length is below the 8 bytes of its own header.
    #[error("the udp header states a length below 8 bytes")]
    UdpLength,
    /// The bytes end inside the TCP header.
    #[error("the bytes end inside the tcp header")]
    TcpTruncated,
    /// The TCP data offset is below 20 bytes.
    #[error("the tcp header states a length below 20 bytes")]
    TcpHeaderLength,
    /// The bytes end inside the ICMP header.
    #[error("the bytes end inside the icmp header")]
    IcmpTruncated,
    /// The captured bytes end inside the GTP-U header.
    #[error("the bytes end inside the gtp-u header")]
    GtpuTruncated,
    /// Not GTP version 1, or GTP' (protocol type 0).
    #[error("the header is not that of gtp-u version 1")]
    GtpuVersion,
    /// The GTP-U length ends inside the header that the flags announce.
    #[error("the gtp-u length ends inside its own header")]
    GtpuLength,
    /// A GTP-U extension header states length 0.
    #[error("a gtp-u extension header states length 0")]
    GtpuExtensionLength,
    /// More GTP-U extension headers than [`MAX_GTPU_EXTENSIONS`](crate::MAX_GTPU_EXTENSIONS).
    #[error("the gtp-u extension header chain is longer than the limit")]
    GtpuChainTooLong,
    /// A GTP-U control message lacks an information element or states a wrong length in one.
    #[error("a gtp-u information element is missing or malformed")]
    GtpuElement,
    /// A fragment that was cut by the capture, is empty, or is no multiple of 8 bytes though more
    /// follow.
    #[error("the fragment is cut, empty, or not a multiple of 8 bytes")]
    FragmentLength,
    /// The fragments add up to more than an IP packet can hold.
    #[error("the fragments exceed the largest ip packet")]
    FragmentTooLarge,
    /// Fragments of one datagram overlap with different bytes or disagree about its end.
    #[error("fragments of one datagram overlap or disagree about its end")]
    FragmentOverlap,
    /// The table, or the share of this source in it, is full.
    #[error("the table of incomplete datagrams is full")]
    FragmentTableFull,
    /// The memory for incomplete datagrams is used up.
    #[error("the memory for incomplete datagrams is used up")]
    FragmentMemoryFull,
}

impl WireError {
    /// Every variant, in declaration order: the labels a metric can take.
    pub const ALL: [Self; 25] = [
        Self::LinkTruncated,
        Self::NotIp,
        Self::VlanStackTooDeep,
        Self::IpTruncated,
        Self::IpVersion,
        Self::IpHeaderLength,
        Self::IpTotalLength,
        Self::Ipv6ExtensionLength,
        Self::Ipv6ChainTooLong,
        Self::UdpTruncated,
        Self::UdpLength,
        Self::TcpTruncated,
        Self::TcpHeaderLength,
        Self::IcmpTruncated,
        Self::GtpuTruncated,
        Self::GtpuVersion,
        Self::GtpuLength,
        Self::GtpuExtensionLength,
        Self::GtpuChainTooLong,
        Self::GtpuElement,
        Self::FragmentLength,
        Self::FragmentTooLarge,
        Self::FragmentOverlap,
        Self::FragmentTableFull,
        Self::FragmentMemoryFull,
    ];

    /// The stable name for schemas, metrics and the console; never changes once released.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::LinkTruncated => "link_truncated",
            Self::NotIp => "not_ip",
            Self::VlanStackTooDeep => "vlan_stack_too_deep",
            Self::IpTruncated => "ip_truncated",
            Self::IpVersion => "ip_version",
            Self::IpHeaderLength => "ip_header_length",
            Self::IpTotalLength => "ip_total_length",
            Self::Ipv6ExtensionLength => "ipv6_extension_length",
            Self::Ipv6ChainTooLong => "ipv6_chain_too_long",
            Self::UdpTruncated => "udp_truncated",
            Self::UdpLength => "udp_length",
            Self::TcpTruncated => "tcp_truncated",
            Self::TcpHeaderLength => "tcp_header_length",
            Self::IcmpTruncated => "icmp_truncated",
            Self::GtpuTruncated => "gtpu_truncated",
            Self::GtpuVersion => "gtpu_version",
            Self::GtpuLength => "gtpu_length",
            Self::GtpuExtensionLength => "gtpu_extension_length",
            Self::GtpuChainTooLong => "gtpu_chain_too_long",
            Self::GtpuElement => "gtpu_element",
            Self::FragmentLength => "fragment_length",
            Self::FragmentTooLarge => "fragment_too_large",
            Self::FragmentOverlap => "fragment_overlap",
            Self::FragmentTableFull => "fragment_table_full",
            Self::FragmentMemoryFull => "fragment_memory_full",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_is_snake_case_and_used_once() {
        let reasons: BTreeSet<_> = WireError::ALL.iter().map(|error| error.reason()).collect();

        assert_eq!(reasons.len(), WireError::ALL.len());
        assert!(reasons.iter().all(|reason| {
            reason
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        }));
    }

    #[test]
    fn the_list_of_all_is_in_declaration_order_without_gaps() {
        assert!(WireError::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            WireError::ALL
                .iter()
                .enumerate()
                .all(|(index, error)| *error as usize == index)
        );
    }
}
