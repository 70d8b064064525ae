//! The mapped ring: which block is ours, and the only places that touch its memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::map::RawMap;

/// Where a block's status word stands.
const STATUS_AT: usize = std::mem::offset_of!(libc::tpacket_block_desc, hdr)
    + std::mem::offset_of!(libc::tpacket_hdr_v1, block_status);

/// A ring of blocks shared with the kernel, at most one of which is held, unmapped on drop.
#[derive(Debug)]
pub(super) struct Ring {
    map: RawMap,
    block_bytes: usize,
    blocks: usize,
    /// The block that is held, or the one that the kernel gives next.
    current: usize,
    holding: Holding,
}

/// Who may touch the current block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    Kernel,
    Us,
}

impl Ring {
    /// Maps the ring of `socket`, which was asked for with exactly these sizes.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        block_bytes: usize,
        blocks: usize,
    ) -> io::Result<Self> {
        let length = block_bytes
            .checked_mul(blocks)
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            map: RawMap::of_socket(socket, length)?,
            block_bytes,
            blocks,
            current: 0,
            holding: Holding::Kernel,
        })
    }

    /// Takes the next block; `false` when the kernel has not filled it. A held one stays held.
    pub(super) fn acquire(&mut self) -> bool {
        // Acquire pairs with the kernel's release of the status word: the frames are visible.
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER != 0 {
            self.holding = Holding::Us;
        }
        self.is_holding()
    }

    /// Gives the held block back; without one nothing happens.
    pub(super) fn release(&mut self) {
        if !self.is_holding() {
            return;
        }
        self.holding = Holding::Kernel;
        // Release: every read of the frames happens before the kernel writes new ones.
        let free = libc::TP_STATUS_KERNEL;
        self.status().store(free, Ordering::Release);
        self.current = self.current.saturating_add(1);
        if self.current >= self.blocks {
            self.current = 0;
        }
    }

    pub(super) fn is_holding(&self) -> bool {
        self.holding == Holding::Us
    }

    /// Offset of the current block in the ring.
    pub(super) const fn block_offset(&self) -> usize {
        self.current.saturating_mul(self.block_bytes)
    }

    /// The held block; empty without one.
    pub(super) fn block(&self) -> &[u8] {
        if !self.is_holding() {
            return &[];
        }
        let start = self.block_start();
        // SAFETY: the current block lies inside the live mapping and every bit pattern is valid.
        // The kernel does not write a block whose status is "user" until the owner stores
        // "kernel", which `release` does through `&mut self`, so not while this borrow lives.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), self.block_bytes) }
    }

    /// The held block, for changes; empty without one.
    pub(super) fn block_mut(&mut self) -> &mut [u8] {
        if !self.is_holding() {
            return &mut [];
        }
        let start = self.block_start();
        // SAFETY: as in `block`; the mapping is writable and borrowed exclusively through `self`.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.block_bytes) }
    }

    /// `length` bytes at `offset` of the ring, if they lie inside the held block; else none.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let inside = offset.checked_sub(self.block_offset());
        inside
            .and_then(|from| self.block().get(from..from.checked_add(length)?))
            .unwrap_or_default()
    }

    fn block_start(&self) -> NonNull<u8> {
        let block = self.map.at(self.block_offset(), self.block_bytes);
        block.unwrap_or_else(|| unreachable!("the current block is one of those mapped"))
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: the status word stands inside the block descriptor, inside the current block.
        let word = unsafe { self.block_start().add(STATUS_AT) };
        // SAFETY: blocks are page aligned and the word's offset is a multiple of 4; both sides
        // access it atomically; it lives as long as the mapping.
        unsafe { word.cast::<AtomicU32>().as_ref() }
    }
}
