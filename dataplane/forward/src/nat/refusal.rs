//! Why an address was not translated.

/// Why the engine has no other end for a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatRefusal {
    /// The subscriber is not open.
    SubscriberUnknown,
    /// All blocks are taken or rest, or all on the subscriber's address.
    NoBlock,
    /// The subscriber has all blocks that one may have, and no port in them is free.
    SubscriberPortsFull,
    /// The subscriber has all sessions that one may have.
    SubscriberSessionsFull,
    /// The table of mappings is full.
    MappingTableFull,
    /// The table of sessions is full.
    SessionTableFull,
    /// The log of blocks has no room, so no block can be assigned.
    LogFull,
    /// A TCP segment of no connection that opens none.
    TcpWithoutSyn,
    /// An ICMP reply without its query, or an error about a packet that was not translated.
    IcmpWithoutQuery,
    /// A later fragment of a flow without a mapping.
    FragmentWithoutMapping,
    /// No mapping has this external address and port.
    NoMapping,
    /// The mapping's filter does not let this remote end pass.
    Filtered,
}

impl NatRefusal {
    /// Every refusal.
    pub const ALL: [Self; 12] = [
        Self::SubscriberUnknown,
        Self::NoBlock,
        Self::SubscriberPortsFull,
        Self::SubscriberSessionsFull,
        Self::MappingTableFull,
        Self::SessionTableFull,
        Self::LogFull,
        Self::TcpWithoutSyn,
        Self::IcmpWithoutQuery,
        Self::FragmentWithoutMapping,
        Self::NoMapping,
        Self::Filtered,
    ];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SubscriberUnknown => "nat_subscriber_unknown",
            Self::NoBlock => "nat_no_block",
            Self::SubscriberPortsFull => "nat_subscriber_ports_full",
            Self::SubscriberSessionsFull => "nat_subscriber_sessions_full",
            Self::MappingTableFull => "nat_mapping_table_full",
            Self::SessionTableFull => "nat_session_table_full",
            Self::LogFull => "nat_log_full",
            Self::TcpWithoutSyn => "nat_tcp_without_syn",
            Self::IcmpWithoutQuery => "nat_icmp_without_query",
            Self::FragmentWithoutMapping => "nat_fragment_without_mapping",
            Self::NoMapping => "nat_no_mapping",
            Self::Filtered => "nat_filtered",
        }
    }
}
