//! What is logged: who had which ports of which address, from when to when.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

/// What happened to a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockChange {
    /// The subscriber has it from now on.
    Assigned,
    /// The subscriber had it until now.
    Released,
}

impl BlockChange {
    /// The value of the IPFIX element `natEvent`: port block allocation and de-allocation.
    /// Source: RFC 8158 §5.3 table 4, IANA "NAT Event Type".
    #[must_use]
    pub const fn nat_event(self) -> u8 {
        match self {
            Self::Assigned => 16,
            Self::Released => 17,
        }
    }
}

/// A block of ports changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockEvent {
    /// What happened.
    pub change: BlockChange,
    /// What the subscriber was opened as; unlike its number it is never used again.
    pub identity: u128,
    /// The inside address whose packet asked for the block. A subscriber with several addresses
    /// may use the block for all of them.
    pub inside: IpAddr,
    /// The external address.
    pub address: Ipv4Addr,
    /// First port of the block.
    pub first_port: u16,
    /// Last port of the block.
    pub last_port: u16,
    /// When, in nanoseconds of the caller's clock.
    pub time_ns: u64,
}

/// Takes events; behind it stands a bounded queue to an exporter.
pub trait BlockLog {
    /// Takes an event, or refuses it (false) because there is no room. A refused assignment is not
    /// made, a refused release is offered again later: no block is ever unaccounted for.
    fn offer(&mut self, event: &BlockEvent) -> bool;
}

/// A bounded queue of events in memory.
#[derive(Debug, Clone)]
pub struct BlockQueue {
    events: VecDeque<BlockEvent>,
    limit: usize,
}

impl BlockQueue {
    /// Room for `limit` events; takes all its memory now.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            events: VecDeque::with_capacity(limit),
            limit,
        }
    }

    /// Takes the oldest event out.
    pub fn pop(&mut self) -> Option<BlockEvent> {
        self.events.pop_front()
    }

    /// Events held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is no event.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl BlockLog for BlockQueue {
    fn offer(&mut self, event: &BlockEvent) -> bool {
        if self.events.len() >= self.limit {
            return false;
        }
        self.events.push_back(*event);
        true
    }
}
