//! PFCP on the wire against itself, against other codecs and against recorded traffic.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code"
)]

mod arbitrary;
mod captures;
mod datagram;
mod facts;
mod refusals;
mod round_trip;
mod scapy;
mod tshark;
