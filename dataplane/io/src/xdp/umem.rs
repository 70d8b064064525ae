//! Packet memory: equal frames that the kernel, this process and packets in flight share.
//!
//! ```text
//! | receive frames                      | transmit frames                     |
//! | 256 B room | packet ...             | frame ...                           |
//! ```
//!
//! The first half only receives and the second half only sends. A frame therefore has one owner at
//! any time that can be told from its number and one byte of bookkeeping: a receive frame belongs
//! to the kernel unless its packet is in the current burst; a transmit frame belongs to the kernel
//! from the moment it is queued until the completion ring returns it. Sending a received packet
//! copies it: some 200 ns of 1000 for 1450 bytes (user time of `examples/xdp_veth` against 64 bytes,
//! 2026-11-20, 2 cores of a Zen 5 class VM). Handing the frame itself over was the alternative; it
//! would write headers into memory that other borrowed packets may show, and works only between
//! ports that share packet memory.

use std::io;

use super::mapping::Mapping;

/// Bytes that the kernel leaves free in front of every received packet, room for any tunnel
/// header. Source: `XDP_PACKET_HEADROOM` in the kernel's `include/uapi/linux/bpf.h`.
pub const HEADROOM: usize = 256;

/// Bytes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrameSize {
    /// Holds a packet of 1792 bytes: every link with an MTU up to 1500.
    #[default]
    Two,
    /// Holds a packet of 3840 bytes; needed above an MTU of 1774.
    Four,
}

impl FrameSize {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.shift()
    }

    /// Longest packet that a frame receives, bytes with the Ethernet header.
    #[must_use]
    pub const fn packet_max(self) -> usize {
        self.bytes() - HEADROOM
    }

    const fn shift(self) -> u32 {
        match self {
            Self::Two => 11,
            Self::Four => 12,
        }
    }
}

/// The memory and its division. It hands out bytes to the one who owns the frame, which its
/// callers in [`port`](super::port) keep account of.
#[derive(Debug)]
pub(super) struct Umem {
    memory: Mapping,
    frame_size: FrameSize,
}

impl Umem {
    /// `frames` frames.
    pub(super) fn new(frames: u32, frame_size: FrameSize) -> io::Result<Self> {
        let length = (frames as usize).saturating_mul(frame_size.bytes());
        Ok(Self {
            memory: Mapping::anonymous(length)?,
            frame_size,
        })
    }

    /// The description for the kernel.
    pub(super) fn registration(&self) -> libc::xdp_umem_reg {
        let start = self.memory.at(0, 0);
        libc::xdp_umem_reg {
            addr: start.map_or(0, |start| start.addr().get() as u64),
            len: self.memory.len() as u64,
            chunk_size: 1 << self.frame_size.shift(),
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.memory.len()
    }

    /// The frame that an offset lies in.
    pub(super) const fn frame_of(&self, offset: usize) -> usize {
        offset >> self.frame_size.shift()
    }

    /// Whether a packet that begins at `offset` ends inside the same frame.
    pub(super) const fn holds(&self, offset: usize, len: usize) -> bool {
        let inside = offset & (self.frame_size.bytes() - 1);
        len <= self.frame_size.bytes() - inside
    }

    /// Where a frame begins.
    pub(super) const fn start_of(&self, frame: usize) -> usize {
        frame << self.frame_size.shift()
    }

    /// The bytes of a received packet; empty when they are not inside the memory.
    ///
    /// # Safety
    ///
    /// Nobody writes these bytes while the result is borrowed: the frame has been taken from the
    /// receive ring and not yet been given back.
    pub(super) unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        match self.memory.at(offset, len) {
            // SAFETY: the bytes are inside the mapping, which lives as long as `self` and was
            // zeroed at first; that nobody writes them is the caller's promise.
            Some(start) => unsafe { std::slice::from_raw_parts(start.as_ptr(), len) },
            None => &[],
        }
    }

    /// The whole frame, to be written; empty when it is not inside the memory.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes this frame while the result is borrowed: it is a transmit frame
    /// that is not queued, and the result is the only borrow of it.
    #[expect(
        clippy::mut_from_ref,
        reason = "frames are disjoint memory; the caller promises that this one is borrowed once"
    )]
    pub(super) unsafe fn frame_mut(&self, frame: usize) -> &mut [u8] {
        let bytes = self.frame_size.bytes();
        match self.memory.at(self.start_of(frame), bytes) {
            // SAFETY: the bytes are inside the mapping, which lives as long as `self` and was
            // zeroed at first; that the borrow is the only one is the caller's promise.
            Some(start) => unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes) },
            None => &mut [],
        }
    }
}
