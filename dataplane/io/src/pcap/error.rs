//! What can be wrong with a capture.

use std::io;

use super::PACKET_MAX;

/// Why a capture could not be read on. `offset` is that of the record in the file.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Neither a pcap nor a pcapng file.
    #[error("not a capture: it begins with 0x{found:08x}")]
    UnknownMagic {
        /// The first four bytes, big-endian.
        found: u32,
    },
    /// The file ends inside a header or record; everything before it was delivered.
    #[error("the capture ends at offset {offset} inside a record: {present} of {wanted} bytes")]
    Truncated {
        /// Where the record begins.
        offset: u64,
        /// Bytes that the record needs at least.
        wanted: u64,
        /// Bytes left in the file.
        present: u64,
    },
    /// Every packet of this pcap file has a link type that is not supported.
    #[error("link type {link} at offset {offset} is not supported")]
    UnsupportedLink {
        /// Where the number stands.
        offset: u64,
        /// The file's number.
        link: u32,
    },
    /// A pcapng section of an unknown version.
    #[error("pcapng section at offset {offset} has version {major}.{minor}, 1.x is supported")]
    UnsupportedVersion {
        /// Where the section begins.
        offset: u64,
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A section header without a valid byte order mark.
    #[error("pcapng section at offset {offset} has byte order mark 0x{found:08x}")]
    ByteOrder {
        /// Where the section begins.
        offset: u64,
        /// The mark read as big-endian.
        found: u32,
    },
    /// A packet longer than any capture tool writes.
    #[error("packet at offset {offset} claims {len} bytes, at most {PACKET_MAX} are accepted")]
    PacketTooLong {
        /// Where the record begins.
        offset: u64,
        /// Captured length claimed.
        len: u32,
    },
    /// A block length that is too small, too large or not a multiple of four.
    #[error("pcapng block of type 0x{block_type:08x} at offset {offset} claims {len} bytes")]
    BlockLength {
        /// Where the block begins.
        offset: u64,
        /// Its type.
        block_type: u32,
        /// Total length claimed.
        len: u32,
    },
    /// The length behind a block is not the one before it.
    #[error("pcapng block at offset {offset} has length {head} before and {tail} behind it")]
    BlockTail {
        /// Where the block begins.
        offset: u64,
        /// First statement.
        head: u32,
        /// Second statement.
        tail: u32,
    },
    /// A field, option or packet does not fit its block.
    #[error("pcapng block of type 0x{block_type:08x} at offset {offset} is too short")]
    BlockContent {
        /// Where the block begins.
        offset: u64,
        /// Its type.
        block_type: u32,
    },
    /// A packet of an interface that its section did not describe.
    #[error("packet at offset {offset} names interface {interface} of {known}")]
    UnknownInterface {
        /// Where the block begins.
        offset: u64,
        /// The number in the packet's block.
        interface: u32,
        /// Interfaces described so far.
        known: usize,
    },
    /// More interfaces in one section than are accepted.
    #[error("pcapng section describes more than {max} interfaces, at offset {offset}")]
    TooManyInterfaces {
        /// Where the block begins.
        offset: u64,
        /// The limit.
        max: usize,
    },
    /// The file could not be opened or read.
    #[error("cannot read the capture at offset {offset}")]
    Read {
        /// How far reading had come.
        offset: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}
