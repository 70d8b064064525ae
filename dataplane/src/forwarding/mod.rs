//! What becomes of a judged packet before it leaves, and of a packet from origins before its
//! subscriber is known: segment sizes, path MTU, fragments, address translation.
//!
//! ```text
//! N3 -> judge (the subscriber's own addresses) -> MSS -> NAT44, NAT64 -> MTU of N6      -> send
//! N6 -> NAT back -> find, judge (the same)     -> MSS                 -> MTU of the tunnel -> send
//! ```
//!
//! [`qlink_forward`] decides and edits; here is the state of one worker and the way of packets
//! through it. Without the tables `mtu` and `nat` of the configuration nothing here runs.
//!
//! **Invariants**: rules, proof and counters see the subscriber's own addresses and the packet's
//! own length; a packet that is refused here is dropped for its own reason, is not counted as
//! forwarded, and takes back what usage rules had counted; one that leaves in fragments is counted
//! once, when all of them were accepted. Nothing allocates per packet.
//!
//! **Answers** about packets that are too long are this gateway's own: they are counted
//! (`too_big_answers`), metered to nobody, and need no payer.

mod blocks;
mod inbound;
mod mtu;
mod nat;
mod outbound;
mod reason;
mod setup;
mod state;
mod translation;

pub use blocks::LedgerError;
pub(crate) use inbound::process_from_network;
pub use mtu::{MssPolicy, MtuConfig};
pub use nat::{NatFiltering, NatIpv4, NatLog, NatTable, PoolEntry, WorkerShare};
pub(crate) use reason::of_fragment;
pub(crate) use setup::{BlockWay, block_ways};
pub use state::ForwardingSetup;
pub(crate) use state::{Forwarding, HeadPlace};
pub use translation::{ForwardingError, NatSetup};
