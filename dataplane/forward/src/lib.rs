//! What becomes of a judged packet before it leaves: segment sizes, path MTU, fragments, address
//! translation, buffering.
//!
//! Between stop 5 and the send of "follow one byte": the pipeline has judged a packet; this crate
//! says which bytes leave, and what is accepted is counted. It knows no session state but what it
//! is told, no clock (times are nanoseconds of the caller) and no socket. `qlink-dataplane` holds
//! the state of each worker and calls it (`forwarding`; fragments and buffer: `ruled`).
//!
//! A received packet is never changed. Everything that changes stands in a [`Rewrite`]: a small
//! copy of the packet's first bytes, which the modules edit one after the other, and the range of
//! the received bytes that follows it. The pipeline sends both parts gathered.
//!
//! ```text
//! received packet   | IP | TCP / UDP / ICMP | bytes ............................. | padding |
//!                   |<------ replaced ----->|                                     |
//! Rewrite           [  scratch, edited      ] + received bytes [replaced .. end] -+
//! ```
//!
//! ```text
//! uplink:    load -> mss -> translate (NAT44, NAT64) -> mtu of the N6 path -> send
//! downlink:  load -> translate -> judge, buffer -> mss -> mtu of the tunnel -> send
//! redirect:  uplink before everything else, downlink behind it: rules see what was asked for
//! fragments: the ports of a datagram, where a rule asks for them
//! ```
//!
//! **Invariants**: no packet allocates; every table, queue and slab takes its memory when it is
//! made and refuses, with a reason that is counted, when it is full; every parser is total; a
//! checksum that was right when the packet came is right when it leaves, one that was wrong stays
//! wrong (RFC 1624: checksums are adjusted, never made anew over bytes of others).
//!
//! **What it does not do**: it does not decide whether a packet may pass, does not reassemble
//! (outer fragments: `qlink_wire::Reassembler`, whose cap per source and time is the policy), does
//! not look for addresses inside payloads (no ALG), and does not send.
#![forbid(unsafe_code)]

mod bucket;
pub mod buffer;
mod chain;
mod checksum;
pub mod fragments;
mod header;
mod index;
pub mod mss;
pub mod mtu;
pub mod nat;
mod nat44;
pub mod nat64;
pub mod redirect;
mod rewrite;
mod slab;
pub mod translate;
mod transport;

pub use bucket::TokenBucket;
pub use rewrite::{LOADED_MAX, LoadError, Rewrite, SCRATCH_MAX};
