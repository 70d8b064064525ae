//! Receive buffers and the ring through which they are lent to the kernel.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::map::RawMap;

/// Most buffers of a pool: one bit of `held` each.
const BUFFERS_MAX: u16 = 128;

/// Page size that the ring is aligned to; larger pages are multiples of it.
const PAGE: usize = 4096;

/// One mapping: the ring's entries, then the buffers.
///
/// A buffer is either lent (the kernel may write it, nobody here looks at it) or held.
#[derive(Debug)]
pub(super) struct Pool {
    map: RawMap,
    count: u16,
    buffer_bytes: usize,
    /// Offset of the first buffer.
    buffers_at: usize,
    /// Entries written since the beginning, modulo 2^16.
    tail: u16,
    /// Bit `n`: buffer `n` is held.
    held: u128,
}

impl Pool {
    /// A pool of `count` buffers, a power of two up to [`BUFFERS_MAX`], all held.
    pub(super) fn new(count: u16, buffer_bytes: usize) -> io::Result<Self> {
        if !count.is_power_of_two() || count > BUFFERS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let entries = usize::from(count).saturating_mul(size_of::<BufRingEntry>());
        let buffers_at = entries.next_multiple_of(PAGE);
        let length = usize::from(count)
            .checked_mul(buffer_bytes)
            .and_then(|bytes| bytes.checked_add(buffers_at))
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            map: RawMap::anonymous(length)?,
            count,
            buffer_bytes,
            buffers_at,
            tail: 0,
            held: u128::MAX >> (u32::from(BUFFERS_MAX).saturating_sub(count.into())),
        })
    }

    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// Where the ring's entries stand, for registering.
    pub(super) fn ring_address(&self) -> u64 {
        self.start().as_ptr().expose_provenance() as u64
    }

    /// Lends every held buffer to the kernel.
    pub(super) fn lend_all(&mut self) {
        if self.held == 0 {
            return;
        }
        for buffer in 0..self.count {
            if self.held & bit(buffer) != 0 {
                self.write_entry(buffer);
            }
        }
        self.held = 0;
        // Release: the kernel sees the entries before the new tail; our reads of the buffers are
        // over.
        self.tail_word().store(self.tail, Ordering::Release);
    }

    fn write_entry(&mut self, buffer: u16) {
        let place = usize::from(self.tail & self.count.saturating_sub(1));
        let offset = self.offset(buffer).saturating_add(self.buffers_at);
        let address = self.ring_address().saturating_add(offset as u64);
        let entries = self.start().cast::<BufRingEntry>();
        // SAFETY: `place < count`, so the entry lies inside the mapping, page aligned at its start.
        let entry = unsafe { entries.add(place) };
        // SAFETY: integers of which every pattern is valid, in our own memory. The kernel reads an
        // entry only between our store of the tail and its completion, and this place is free:
        // there are as many places as buffers, and this buffer is not lent.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(address);
        entry.set_len(u32::try_from(self.buffer_bytes).unwrap_or(u32::MAX));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Notes that the kernel has given the buffer back; `None` for one that was not lent.
    pub(super) fn take(&mut self, buffer: u16) -> Option<()> {
        let lent = buffer < self.count && self.held & bit(buffer) == 0;
        self.held |= if lent { bit(buffer) } else { 0 };
        lent.then_some(())
    }

    /// Offset of a buffer, counted from the first buffer.
    pub(super) fn offset(&self, buffer: u16) -> usize {
        usize::from(buffer).saturating_mul(self.buffer_bytes)
    }

    /// `length` bytes at `offset`, counted from the first buffer, if they lie inside one held
    /// buffer; else none.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let number = offset.checked_div(self.buffer_bytes);
        let Some(buffer) = number.and_then(|number| u16::try_from(number).ok()) else {
            return &[];
        };
        let inside = offset.saturating_sub(self.offset(buffer));
        let fits = inside
            .checked_add(length)
            .is_some_and(|end| end <= self.buffer_bytes);
        if buffer >= self.count || self.held & bit(buffer) == 0 || !fits {
            return &[];
        }
        let Some(start) = self.map.at(self.buffers_at.saturating_add(offset), length) else {
            return &[];
        };
        // SAFETY: the range lies inside one buffer of the live mapping, every bit pattern is
        // valid, and the kernel does not write a held buffer; it is lent again only through
        // `&mut self`, so not while this borrow lives.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), length) }
    }

    fn start(&self) -> NonNull<u8> {
        let start = self.map.at(0, self.buffers_at);
        start.unwrap_or_else(|| unreachable!("the entries are mapped"))
    }

    fn tail_word(&self) -> &AtomicU16 {
        let entries = self.start().cast::<BufRingEntry>();
        // SAFETY: the first entry of the ring, page aligned and initialised (zeroed mapping).
        let tail = unsafe { BufRingEntry::tail(entries.as_ptr()) };
        // SAFETY: the tail is an aligned u16 inside the mapping, written only here and read by the
        // kernel; the entry setters do not touch it.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }
}

const fn bit(buffer: u16) -> u128 {
    1 << (buffer % BUFFERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_inside_one_held_buffer_are_shown() {
        let mut pool = Pool::new(4, 8192).unwrap();

        assert_eq!(pool.bytes(8192, 8192).len(), 8192);
        assert!(pool.bytes(8193, 8192).is_empty());
        assert!(pool.bytes(4 * 8192, 1).is_empty());
        assert!(pool.bytes(usize::MAX, 2).is_empty());
        pool.lend_all();
        assert!(pool.bytes(8192, 1).is_empty());
        assert_eq!(pool.take(1), Some(()));
        assert_eq!(pool.bytes(8192, 1), [0]);
        assert_eq!(pool.take(1), None);
        assert_eq!(pool.take(4), None);
    }

    #[test]
    fn a_count_that_is_no_power_of_two_is_refused() {
        assert!(Pool::new(3, 4096).is_err());
        assert!(Pool::new(256, 4096).is_err());
    }
}
