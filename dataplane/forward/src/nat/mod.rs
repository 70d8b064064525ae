//! Who has which external address and port: port blocks, mappings and connections.
//!
//! One engine for NAT44 and NAT64; it knows addresses, ports and TCP flags, never a packet.
//!
//! ```text
//! pool       address x block of ports -> subscriber        logged: one event per block
//! mapping    (subscriber, protocol, internal address, port) <-> (external address, port)
//! session    (mapping, remote address, remote port) -> TCP state, time
//! ```
//!
//! | Rule | Source |
//! |---|---|
//! | a mapping does not depend on the remote end | RFC 4787 §4.1 REQ-1, RFC 5382 §4 REQ-1, RFC 5508 §3.1 REQ-1 |
//! | all ports of a subscriber are on one address | RFC 4787 §4.1 REQ-2, RFC 6888 §3 REQ-2 |
//! | a subscriber has a bounded number of ports and of sessions | RFC 6888 §3 REQ-4 |
//! | a port or block rests 120 s before somebody else has it | RFC 6888 §3 REQ-8 |
//! | that rest holds over a restart: what a process before left of its blocks is inherited | the same |
//! | several engines share a pool without meeting: a port's block names its engine | chosen |
//! | each block is logged when it is assigned and released, no mapping is | RFC 6888 §3 REQ-12, §4; RFC 8158 §5.3 |
//! | ports below 1024 are not used | RFC 6888 §3 (none asks for them), RFC 6335 §6 |
//! | what comes in is filtered by choice: everything with a mapping, or known remotes only | RFC 4787 §5 REQ-8, RFC 5382 §4.1 REQ-3 |
//! | only packets that go out keep a UDP mapping alive | RFC 4787 §4.3 REQ-6 |
//! | UDP 5 min, TCP 2 h 4 min and 4 min, ICMP queries 60 s | RFC 4787 §4.3 REQ-5, RFC 5382 §5 REQ-5, RFC 5508 §3.2 REQ-2 |
//! | the states of a TCP connection | RFC 6146 §3.5.2.2 |
//!
//! **Invariant**: a place (external address, protocol, port) belongs to one mapping or to none;
//! a block belongs to one subscriber or to none, and no subscriber has a block that the log did
//! not take.

mod blocks;
mod config;
mod engine;
mod event;
mod refusal;
mod session;
mod sweep;

pub use config::{Filtering, Hairpinning, NatConfig, NatConfigError, PoolShare, Timeouts};
pub use engine::{Inbound, Inherited, Internal, Nat, NatGauges, Outbound, Past};
pub use event::{BlockChange, BlockEvent, BlockLog, BlockQueue};
pub use refusal::NatRefusal;
pub use session::{NatProtocol, Signal};
pub(crate) use session::{TcpState, TcpTime, Way};

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
