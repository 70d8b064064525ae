//! `qlink replay` against tshark, byte by byte, on traffic that neither has seen before.
//!
//! A seed makes a capture ([`traffic`], or `scapy_downloads.py`, a foreign encoder). tshark takes it
//! apart: it puts IP fragments together, finds tunnels, inner addresses, sequence numbers and
//! payloads. What has to come out follows from its fields alone ([`model`]), and is compared with
//! the replay: packets and inner bytes of each tunnel endpoint, hence of each direction, and every
//! class of every content's bytes in every session.
//!
//! | What a capture holds | Made by |
//! |---|---|
//! | outer IPv4 and IPv6, whole and in fragments that come in any order, twice, or in contradiction | [`traffic::encapsulate`] |
//! | no extension header, PDU session container, chains, sequence numbers | [`traffic::encapsulate`] |
//! | inner IPv4 and IPv6, inner fragments of datagrams and of segments, atomic ones too | [`traffic::filler`] |
//! | loss before and behind us, reordering, duplicates, overlap with the same and with other bytes | [`traffic::download`] |
//! | whole contents and ranges, several per connection, again in the same session | [`traffic::download`] |
//! | sequence numbers that pass 2^32, ports that are used again, with and without FIN | [`traffic::session`] |
//!
//! A failure names its seed: `QLINK_ORACLE_SEED=7` runs that one alone. `QLINK_LONG=1` runs 400.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::arithmetic_side_effects,
    reason = "test code"
)]

mod captures;
mod model;
mod seed;
mod traffic;
#[path = "../tshark/mod.rs"]
#[allow(dead_code, reason = "its other functions serve other tests")]
mod tshark;
