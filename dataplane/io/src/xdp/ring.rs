//! The four rings between this process and the kernel, each with one producer and one consumer.
//!
//! ```text
//!  producer  consumer  flags        entries, a power of two of them
//! +---------+---------+-----+      +----+----+----+----+----+----+----+----+
//! |  u32    |  u32    | u32 |      |    | ** | ** | ** |    |    |    |    |
//! +---------+---------+-----+      +----+----+----+----+----+----+----+----+
//!                                         ^ consumer & mask  ^ producer & mask
//! ```
//!
//! Both counters only grow and wrap at 2^32; `producer - consumer` entries are full. The producer
//! writes entries, then stores its counter with release; the consumer loads that counter with
//! acquire, reads entries, then stores its own with release, which the producer loads with acquire
//! before it writes there again.
//!
//! **Invariant**: an index into the entries is always masked, so whatever the other side stores
//! leads to a wrong packet at worst, never outside the ring.

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::mapping::Mapping;

/// One frame in the receive or transmit ring.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct FrameEntry {
    /// Offset in the packet memory.
    address: AtomicU64,
    len: AtomicU32,
    options: AtomicU32,
}

impl FrameEntry {
    /// Offset in the packet memory and length in bytes.
    pub(super) fn read(&self) -> (u64, u32) {
        (
            self.address.load(Ordering::Relaxed),
            self.len.load(Ordering::Relaxed),
        )
    }

    /// Writes offset and length, without options.
    pub(super) fn write(&self, address: u64, len: u32) {
        self.address.store(address, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.options.store(0, Ordering::Relaxed);
    }
}

/// The shared parts of a ring.
#[derive(Debug)]
pub(super) struct Shared<'a, T> {
    pub(super) producer: &'a AtomicU32,
    pub(super) consumer: &'a AtomicU32,
    pub(super) entries: &'a [T],
}

// Not derived: a derive would ask for `T: Copy`.
impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// The entry that counter value `index` stands for.
    fn entry(self, index: u32) -> Option<&'a T> {
        let mask = self.entries.len().saturating_sub(1);
        self.entries.get(index as usize & mask)
    }

    fn size(self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(0)
    }
}

/// Our side of a ring that we fill.
#[derive(Debug, Default)]
pub(super) struct Producer {
    /// Entries written, whether published or not.
    written: u32,
    /// The other side's counter when it was last read.
    consumed: u32,
}

impl Producer {
    /// How many entries can be written, at most `wanted`.
    #[inline]
    pub(super) fn room<T>(&mut self, ring: Shared<'_, T>, wanted: u32) -> u32 {
        let free = |own: &Self| {
            ring.size()
                .saturating_sub(own.written.wrapping_sub(own.consumed))
        };
        if free(self) < wanted {
            // Pairs with the consumer's release: it has read what we may now overwrite.
            self.consumed = ring.consumer.load(Ordering::Acquire);
        }
        free(self).min(wanted)
    }

    /// The next entry to write; the caller has asked [`room`](Self::room) for it.
    #[inline]
    pub(super) fn next<'a, T>(&mut self, ring: Shared<'a, T>) -> Option<&'a T> {
        let entry = ring.entry(self.written);
        self.written = self.written.wrapping_add(1);
        entry
    }

    /// Shows everything written to the other side.
    #[inline]
    pub(super) fn publish<T>(&self, ring: Shared<'_, T>) {
        // Pairs with the consumer's acquire: the entries are written before it sees them.
        ring.producer.store(self.written, Ordering::Release);
    }

    /// Entries that the other side has not taken yet.
    pub(super) fn pending<T>(&mut self, ring: Shared<'_, T>) -> u32 {
        // No entry is read or written on the strength of this.
        self.consumed = ring.consumer.load(Ordering::Relaxed);
        self.written.wrapping_sub(self.consumed)
    }

    #[cfg(test)]
    const fn starting_at(counter: u32) -> Self {
        Self {
            written: counter,
            consumed: counter,
        }
    }
}

/// Our side of a ring that we empty.
#[derive(Debug, Default)]
pub(super) struct Consumer {
    read: u32,
    /// The other side's counter when it was last read.
    produced: u32,
}

impl Consumer {
    /// How many entries are there to read, at most `wanted`.
    #[inline]
    pub(super) fn available<T>(&mut self, ring: Shared<'_, T>, wanted: u32) -> u32 {
        let mut full = self.produced.wrapping_sub(self.read);
        if full < wanted {
            // Pairs with the producer's release: the entries are written.
            self.produced = ring.producer.load(Ordering::Acquire);
            full = self.produced.wrapping_sub(self.read);
        }
        full.min(wanted).min(ring.size())
    }

    /// The next entry; the caller has asked [`available`](Self::available) for it.
    #[inline]
    pub(super) fn next<'a, T>(&mut self, ring: Shared<'a, T>) -> Option<&'a T> {
        let entry = ring.entry(self.read);
        self.read = self.read.wrapping_add(1);
        entry
    }

    /// Gives everything read back to the other side.
    #[inline]
    pub(super) fn release<T>(&self, ring: Shared<'_, T>) {
        // Pairs with the producer's acquire: the entries are read before it overwrites them.
        ring.consumer.store(self.read, Ordering::Release);
    }

    #[cfg(test)]
    const fn starting_at(counter: u32) -> Self {
        Self {
            read: counter,
            produced: counter,
        }
    }
}

/// A ring that the kernel lends through a socket.
#[derive(Debug)]
pub(super) struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    count: usize,
    /// Keeps the memory behind the pointers above.
    _mapping: Mapping,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead into a mapping that belongs to the process, and are used through
// shared references to atomics only.
unsafe impl<T: Sync> Send for Ring<T> {}

/// What the rings may hold: plain integers behind atomics, for which every bit pattern is valid.
pub(super) trait RingEntry {}
impl RingEntry for AtomicU64 {}
impl RingEntry for FrameEntry {}

impl<T: RingEntry> Ring<T> {
    /// Maps the ring of `count` entries, a power of two, whose parts lie as `offsets` says.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        offsets: &libc::xdp_ring_offset,
        page_offset: libc::off_t,
        count: u32,
    ) -> io::Result<Self> {
        let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let count = usize::try_from(count).map_err(|_| invalid())?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or_else(invalid)?;
        let length = place(offsets.desc).checked_add(bytes).ok_or_else(invalid)?;
        let mapping = Mapping::of_socket(socket, length, page_offset)?;
        let word = |offset| aligned::<AtomicU32>(&mapping, place(offset), size_of::<u32>());
        let parts = (
            word(offsets.producer),
            word(offsets.consumer),
            word(offsets.flags),
            aligned::<T>(&mapping, place(offsets.desc), bytes),
        );
        let (Some(producer), Some(consumer), Some(flags), Some(entries)) = parts else {
            return Err(invalid());
        };
        Ok(Self {
            producer,
            consumer,
            flags,
            entries,
            count,
            _mapping: mapping,
            _entries: PhantomData,
        })
    }

    /// The shared parts.
    #[inline]
    pub(super) fn shared(&self) -> Shared<'_, T> {
        Shared {
            // SAFETY: `map` has checked that an aligned u32 lies there inside the mapping, which
            // lives as long as `self`; the other side accesses it atomically.
            producer: unsafe { self.producer.as_ref() },
            // SAFETY: as for `producer`.
            consumer: unsafe { self.consumer.as_ref() },
            // SAFETY: `map` has checked that `count` aligned entries lie there; they are atomics,
            // for which every bit pattern is valid.
            entries: unsafe { std::slice::from_raw_parts(self.entries.as_ptr(), self.count) },
        }
    }

    /// Whether the kernel sleeps and wants a system call to go on.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        // SAFETY: `map` has checked that an aligned u32 lies there inside the mapping.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// The place of a `T` at `offset`, if it is aligned and `bytes` bytes are there.
fn aligned<T>(mapping: &Mapping, offset: usize, bytes: usize) -> Option<NonNull<T>> {
    mapping
        .at(offset, bytes)
        .map(NonNull::cast::<T>)
        .filter(|place| place.is_aligned())
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
