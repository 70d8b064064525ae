//! Packet back ends and the operating system's objects that the data plane stands on.
//!
//! | Module | What it gives |
//! |---|---|
//! | [`mem`] | frames from memory, for benches and tests |
//! | [`pcap`] | total readers of pcap and pcapng, and their writers |
//! | [`udp`] | a UDP endpoint with `recvmmsg`/`sendmmsg` in bursts of 32, without privileges |
//! | [`handover`] | packets from worker to worker, and waking the one that sleeps |
//! | [`arena`] | the shared file mapping that counters live in and that survives `kill -9` |
//! | [`filemap`] | a file as `&[u8]`, for content copies |
//! | [`seqpacket`] | message sockets between processes of one machine |
//! | [`wait`] | blocking until one of several descriptors is readable |
//! | [`clock`] | nanoseconds, read once per burst |
//!
//! The packet contract is [`PacketSource`] -> [`Burst`] -> [`PacketSink`]: a source writes
//! descriptors, the frames stay in the source's own memory, and a sink gathers a head and a body,
//! so a packet is never copied inside a worker. No back end allocates per packet or per burst.
//!
//! It deliberately does not parse packets beyond the capture formats (that is `qlink-wire`) and
//! knows no session, counter or content.
//!
//! Invariant: this crate and `qlink-kernel` hold all unsafe code of the data plane; everything
//! exposed here is safe to call with any argument.
#![allow(
    unsafe_code,
    reason = "system calls and file mappings; one operation per block behind safe, owning types"
)]

pub mod arena;
mod burst;
pub mod clock;
mod error;
pub mod filemap;
pub mod handover;
mod map;
pub mod mem;
pub mod pcap;
pub mod seqpacket;
mod sys;
pub mod udp;
mod udp_group;
pub mod wait;

pub use burst::{BURST_MAX, Burst, Descriptor, Outgoing, PacketSink, PacketSource};
pub use error::IoError;
pub use udp_group::Steering;
