//! Capture files: total readers for pcap and pcapng, and their writers.
//!
//! [`PcapSource`] reads classic pcap (microseconds and nanoseconds, both byte orders) and pcapng
//! (several sections and interfaces, both byte orders; enhanced, simple and obsolete packet
//! blocks; every other block is skipped). The link type stands in each descriptor. Memory is one
//! fixed window; nothing is allocated per packet, and no length in a file makes it grow.
//!
//! A file that ends inside a record gives the packets before it, then
//! [`CaptureError::Truncated`]; so does every other defect with its own variant.
//!
//! Source: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

mod classic;
mod error;
mod ng;
mod source;
#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "test code builds small files"
)]
mod tests;
mod writer;

pub use error::CaptureError;
pub use source::{CaptureStats, PcapSource};
pub use writer::{InterfaceCounts, InterfaceId, PacketNote, PacketWay, PcapWriter, PcapngWriter};

/// Longest packet accepted or written, bytes (the limit that libpcap itself uses).
pub const PACKET_MAX: u32 = 256 * 1024;
