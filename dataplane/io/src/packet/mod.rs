//! A passive tap on a network interface: `AF_PACKET` with a ring of blocks (`TPACKET_V3`).
//!
//! For metering mirrored traffic. The kernel copies each frame into the ring and wakes the reader
//! once per block; frames are read where they lie, and a block goes back to the kernel when the
//! burst after its last one is asked for. A tap never sends. It needs `CAP_NET_RAW`.
//!
//! ```text
//! ring:   | block 0 | block 1 | block 2 | ...     status word: kernel's / ours
//! block:  | descriptor | header frame pad | header frame pad | ...
//! ```
//!
//! What is truth here and what is not:
//!
//! - A VLAN tag that the kernel or the interface has taken out of the frame is put back, so that
//!   the bytes are those of the wire; [`Descriptor::orig_len`](crate::Descriptor) counts it.
//! - A frame longer than a block is cut; `orig_len` says how long it was.
//! - Time stamps are the kernel's, taken when the frame came, on the clock of
//!   [`crate::clock::now_ns`]; a step of the wall clock shifts those of one block.
//! - Frames that the interface has joined (GRO) or has yet to cut (GSO of local senders) are seen
//!   as the one long frame that the kernel handles. Turn both off on a mirror port.
//! - Checksums of frames that this machine sends itself may not be computed yet.
//! - Of a packet over the loopback interface both passes are seen, sent and received, unless
//!   [`OutgoingFrames::Skipped`].

mod block;
mod filter;
mod ring;
pub(crate) mod socket;
mod tap;

#[cfg(test)]
mod tests;

pub use tap::{
    BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, BLOCKS_MAX, OutgoingFrames, PacketTap, Promiscuous,
    TapConfig, TapFilter, TapStats,
};
