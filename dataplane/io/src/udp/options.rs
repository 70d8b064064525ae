//! How a UDP endpoint is opened, and what it counts.

/// Longest datagram received, bytes (chosen: a jumbo frame's payload with room to spare).
pub const DATAGRAM_MAX: usize = 9216;

/// Whether the kernel carries several datagrams as one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offload {
    /// One message per datagram; 288 KiB of memory for received ones. Right for small machines.
    #[default]
    None,
    /// Generic receive and segmentation offload (`UDP_GRO`, `UDP_SEGMENT`); 512 KiB of memory.
    ///
    /// A kernel without it, or one that refuses it later, leaves the port working as without; the
    /// port tells by `receives_trains` and `sends_trains`. Only datagrams with a checksum are
    /// joined when they come from a network.
    Segmentation,
}

/// Whether sent datagrams carry a UDP checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// They do.
    #[default]
    Present,
    /// The field is 0, "not computed", as many GTP-U senders have it; over IPv6 such datagrams are
    /// also received then. Excludes sending in trains, and receivers cannot join such datagrams.
    ///
    /// Source: RFC 768; RFC 6935 §5 for IPv6.
    Zero,
}

/// How a port is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UdpOptions {
    /// Trains of datagrams.
    pub offload: Offload,
    /// The checksum of sent datagrams.
    pub checksum: Checksum,
}

/// What a port has seen besides the packets that it delivered. Counters since binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UdpStats {
    /// Received datagrams that were longer than [`DATAGRAM_MAX`] and dropped.
    pub truncated: u64,
    /// Received datagrams without a usable sender address, dropped.
    pub unaddressed: u64,
    /// Errors that the network reported for earlier packets ("connection refused" by ICMP).
    pub unreachable: u64,
    /// Packets that the system refused to send as they were.
    pub refused: u64,
    /// Received messages that were several datagrams.
    pub trains_received: u64,
    /// Sent messages that were several packets.
    pub trains_sent: u64,
    /// Messages of several packets that the system refused; the packets went out one by one.
    pub trains_refused: u64,
    /// Times that datagrams had to wait in the kernel because all memory for received ones was in
    /// use (`uring` only; `udp` asks for as many as it has room for).
    pub pauses: u64,
}
