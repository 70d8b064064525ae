//! How a translator is set up.

use std::net::Ipv4Addr;

use super::blocks::FIRST_PORT;

const SECOND: u64 = 1_000_000_000;

/// Which packets from outside pass a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtering {
    /// All of them: peers can reach a subscriber that reached anybody.
    EndpointIndependent,
    /// UDP and ICMP from addresses that the internal end wrote to, and segments of TCP connections
    /// that are known. Stricter than RFC 5382 §4.1 REQ-3 in TCP, where the port counts too.
    AddressDependent,
}

/// What becomes of a packet from one subscriber to the external address of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hairpinning {
    /// It is translated twice and delivered. Source: RFC 4787 §6 REQ-9, RFC 5382 §7.1 REQ-8.
    Translate,
    /// It is refused, with a reason.
    Refuse,
}

/// How long idle things are kept, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP mappings. Source: RFC 4787 §4.3 REQ-5, at least 2 min, 5 min recommended.
    pub udp_ns: u64,
    /// Established TCP connections. Source: RFC 5382 §5 REQ-5, at least 2 h 4 min.
    pub tcp_established_ns: u64,
    /// TCP connections that open or close. Source: RFC 5382 §5 REQ-5, at least 4 min.
    pub tcp_transitory_ns: u64,
    /// ICMP queries. Source: RFC 5508 §3.2 REQ-2, at least 60 s.
    pub icmp_ns: u64,
    /// Rest of a port, and of a block, before it is used again. Source: RFC 6888 §3 REQ-8, 120 s.
    pub rest_ns: u64,
    /// How long a subscriber keeps a block without mappings. Chosen, 60 s: a phone that sleeps
    /// between two queries does not fill the log.
    pub idle_block_ns: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            udp_ns: 300 * SECOND,
            tcp_established_ns: 7440 * SECOND,
            tcp_transitory_ns: 240 * SECOND,
            icmp_ns: 60 * SECOND,
            rest_ns: 120 * SECOND,
            idle_block_ns: 60 * SECOND,
        }
    }
}

/// Which part of the pool's blocks one of several translators has, so that the owner of an external
/// port follows from the port alone: of block `n` of any address it is `n % of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolShare {
    /// This one, below `of`.
    pub index: u8,
    /// How many there are, at least 1.
    pub of: u8,
}

impl PoolShare {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, of: 1 };
}

/// Everything about a translator; [`crate::nat::Nat::try_new`] checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatConfig {
    /// External addresses, 1 to 4096, each once. Each takes 768 KiB of memory in all shares
    /// together.
    pub pool: Vec<Ipv4Addr>,
    /// Which of the pool's blocks are this translator's.
    pub share: PoolShare,
    /// Ports of a block: a power of two, 64 to 4096.
    pub block_ports: u16,
    /// Blocks of one subscriber, 1 to 8.
    pub blocks_per_subscriber: u8,
    /// Subscribers, numbered from 0.
    pub subscribers: u32,
    /// Mappings of all subscribers, 1 to 2^26.
    pub mappings: u32,
    /// Sessions of all subscribers, 1 to 2^26: one per TCP connection, and with
    /// [`Filtering::AddressDependent`] one per remote address of a mapping.
    pub sessions: u32,
    /// Sessions of one subscriber, at least 1.
    pub sessions_per_subscriber: u32,
    /// What passes from outside.
    pub filtering: Filtering,
    /// From subscriber to subscriber.
    pub hairpinning: Hairpinning,
    /// Times.
    pub timeouts: Timeouts,
    /// Seed of hashes and of the choice of ports; unknown outside. Source: RFC 6056 §3.
    pub secret: u64,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NatConfigError {
    /// No address, or more than 4096.
    #[error("a pool of {0} addresses; 1 to 4096 are possible")]
    PoolSize(usize),
    /// An address is there twice.
    #[error("the pool holds {0} twice")]
    PoolAddressTwice(Ipv4Addr),
    /// The block size is no power of two from 64 to 4096.
    #[error("a block of {0} ports; powers of two from 64 to 4096 are possible")]
    BlockPorts(u16),
    /// No share, or one without a block.
    #[error("share {index} of {of} has no block of {ports} ports")]
    Share {
        /// The share.
        index: u8,
        /// Of how many.
        of: u8,
        /// Ports of a block.
        ports: u16,
    },
    /// Not 1 to 8 blocks.
    #[error("{0} blocks of one subscriber; 1 to 8 are possible")]
    BlocksPerSubscriber(u8),
    /// A table without places, or with too many.
    #[error("a table of {0} places; 1 to 67,108,864 are possible")]
    TableSize(u32),
}

/// Most places of a table.
const TABLE_MAX: u32 = 1 << 26;

impl NatConfig {
    /// A configuration with the standards' times for so many subscribers: blocks of 512 ports, at
    /// most 4 each, 64 mappings and 64 sessions per subscriber on average.
    #[must_use]
    pub fn for_subscribers(pool: Vec<Ipv4Addr>, subscribers: u32, secret: u64) -> Self {
        let places = subscribers.saturating_mul(64).clamp(1024, TABLE_MAX);
        Self {
            pool,
            share: PoolShare::WHOLE,
            block_ports: 512,
            blocks_per_subscriber: 4,
            subscribers,
            mappings: places,
            sessions: places,
            sessions_per_subscriber: 2048,
            filtering: Filtering::EndpointIndependent,
            hairpinning: Hairpinning::Translate,
            timeouts: Timeouts::default(),
            secret,
        }
    }

    /// The pool in order, once everything is known to be possible.
    ///
    /// # Errors
    ///
    /// The first [`NatConfigError`].
    pub fn check(&self) -> Result<Vec<Ipv4Addr>, NatConfigError> {
        if !(1..=4096).contains(&self.pool.len()) {
            return Err(NatConfigError::PoolSize(self.pool.len()));
        }
        if !self.block_ports.is_power_of_two() || !(64..=4096).contains(&self.block_ports) {
            return Err(NatConfigError::BlockPorts(self.block_ports));
        }
        if !(1..=8).contains(&self.blocks_per_subscriber) {
            return Err(NatConfigError::BlocksPerSubscriber(
                self.blocks_per_subscriber,
            ));
        }
        let PoolShare { index, of } = self.share;
        let usable = u32::from(u16::MAX / self.block_ports)
            .saturating_sub(FIRST_PORT.div_ceil(u32::from(self.block_ports)))
            .saturating_add(1);
        if index >= of || u32::from(of) > usable {
            let ports = self.block_ports;
            return Err(NatConfigError::Share { index, of, ports });
        }
        for size in [self.subscribers, self.mappings, self.sessions] {
            if !(1..=TABLE_MAX).contains(&size) {
                return Err(NatConfigError::TableSize(size));
            }
        }
        let mut pool = self.pool.clone();
        pool.sort_unstable();
        let twice = pool
            .iter()
            .zip(pool.iter().skip(1))
            .find(|(one, other)| one == other);
        match twice {
            Some((address, _)) => Err(NatConfigError::PoolAddressTwice(*address)),
            None => Ok(pool),
        }
    }
}
