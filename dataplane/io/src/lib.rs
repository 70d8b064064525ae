//! Packet back ends and the operating system's objects that the data plane stands on.
//!
//! | Module | What it gives |
//! |---|---|
//! | [`mem`] | frames from memory, for benches and tests |
//! | [`pcap`] | total readers of pcap and pcapng, and their writers |
//! | [`handover`] | packets from worker to worker, and waking the one that sleeps |
//! | [`udp`] | a UDP endpoint with `recvmmsg`/`sendmmsg` in bursts of 32 and optional GSO/GRO, without privileges |
//! | `dpdk` | a network card, or a virtual device, driven by DPDK (feature `dpdk`) |
//! | `uring` | the work of [`udp`] over io_uring (feature `uring`) |
//! | [`packet`] | a passive tap: frames of an interface out of a ring shared with the kernel |
//! | [`probe`] | which back ends can run here and now, and what to do about the others |
//! | [`xdp`] | one queue of an interface through AF_XDP, steered by an embedded program |
//! | [`tun`] | a TUN interface: IP packets to and from the machine's own kernel |
//! | [`frame`] | Ethernet, IP and UDP headers around a packet that leaves a raw interface |
//! | [`neighbour`] | from an address to the card that takes it |
//! | [`interfaces`] | the addresses that the machine has itself |
//! | [`arena`] | the shared file mapping that counters live in and that survives `kill -9` |
//! | [`filemap`] | a file as `&[u8]`, for content copies |
//! | [`secret_file`] | a file with a secret, which only its owner may open |
//! | [`huge`] | tables in huge pages |
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
mod asleep;
mod burst;
pub mod clock;
#[cfg(feature = "dpdk")]
pub mod dpdk;
mod endpoint;
mod error;
mod families;
pub mod filemap;
pub mod frame;
pub mod handover;
pub mod huge;
pub mod interfaces;
mod map;
pub mod mem;
pub mod neighbour;
mod netlink;
#[cfg(test)]
mod netns;
pub mod packet;
pub mod pcap;
pub mod probe;
pub mod secret_file;
pub mod seqpacket;
mod sync;
mod sys;
pub mod tun;
pub mod udp;
#[cfg(feature = "uring")]
pub mod uring;
pub mod wait;
pub mod xdp;

pub use burst::{
    BURST_MAX, Burst, Descriptor, Losses, Outgoing, PacketPort, PacketSink, PacketSource,
};
pub use endpoint::RawEndpoint;
pub use error::IoError;
pub use families::Families;
