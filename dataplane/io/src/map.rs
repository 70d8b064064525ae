//! Mapped memory and mapped files as owning types; the only place that maps memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

/// How a file is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Readable and writable; writes reach the file, also after the death of the process.
    SharedWrite,
    /// Readable and writable, but a write stays in this process.
    ///
    /// Readers of an arena use it instead of a read-only mapping: a store through `&AtomicU64`
    /// would be a fault there, reachable from safe code; here it only spoils the reader's own
    /// page. Until a page is written, Linux shows the file's current page in a private mapping.
    PrivateWrite,
    /// Readable only.
    SharedRead,
}

/// Mapped memory, unmapped on drop. It gives out addresses only: its owner decides what may be
/// read or written there, and when.
#[derive(Debug)]
pub(crate) struct RawMap {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; it is unmapped once, by the owner.
unsafe impl Send for RawMap {}

impl RawMap {
    /// Zeroed memory of our own, page aligned.
    #[cfg(feature = "uring")]
    pub(crate) fn anonymous(length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::new(length, protection, flags, -1)
    }

    /// A ring that the socket shares with the kernel, all pages present.
    pub(crate) fn of_socket(socket: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::new(length, protection, flags, socket.as_raw_fd())
    }

    fn new(
        length: usize,
        protection: libc::c_int,
        flags: libc::c_int,
        descriptor: RawFd,
    ) -> io::Result<Self> {
        // SAFETY: with a null hint and without MAP_FIXED the system chooses free addresses, so no
        // existing memory is touched; a descriptor or flag that is not valid is an error, which is
        // checked below.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, descriptor, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast())
            .map(|start| Self { start, length })
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// The address of byte `offset`, if `bytes` bytes from there are inside.
    pub(crate) fn at(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(bytes)? > self.length {
            return None;
        }
        // SAFETY: `offset <= length`, so the result is inside the mapping or one past its end.
        Some(unsafe { self.start.add(offset) })
    }
}

impl Drop for RawMap {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is unmapped only here; every reference into it
        // borrows the owner and is gone.
        let status = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert_eq!(status, 0, "munmap of an own mapping");
    }
}

/// A mapping of the first `length` bytes of a file, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Map {
    raw: RawMap,
    access: Access,
}

// SAFETY: shared access only gives atomics, or bytes of a mapping that nobody here can write.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `length` bytes; the caller has checked that the file has them. 0 is refused by the
    /// system as `InvalidInput`.
    pub(crate) fn new(file: &File, length: usize, access: Access) -> io::Result<Self> {
        let (protection, flags) = match access {
            Access::SharedWrite => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
            Access::PrivateWrite => (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_NORESERVE,
            ),
            Access::SharedRead => (libc::PROT_READ, libc::MAP_SHARED),
        };
        RawMap::new(length, protection, flags, file.as_raw_fd()).map(|raw| Self { raw, access })
    }

    /// The bytes of a read-only mapping; empty for another access, whose bytes may change.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.access != Access::SharedRead {
            return &[];
        }
        // SAFETY: `start` is the mapping of `length` readable bytes, alive as long as `self`;
        // this process cannot write them, and `FileMap` states who else may not.
        unsafe { std::slice::from_raw_parts(self.raw.start.as_ptr(), self.raw.length) }
    }

    /// All whole words from byte `skip` on, which must be a multiple of 8; empty when it is not,
    /// lies outside, or when the mapping cannot be written.
    pub(crate) fn words(&self, skip: usize) -> &[AtomicU64] {
        let Some(rest) = self.raw.length.checked_sub(skip) else {
            return &[];
        };
        if self.access == Access::SharedRead || !skip.is_multiple_of(8) {
            return &[];
        }
        // SAFETY: `skip <= length`, so the result is inside the mapping or one past its end.
        let start = unsafe { self.raw.start.as_ptr().add(skip) };
        // SAFETY: the mapping is page aligned and `skip` a multiple of 8, so `start` is aligned;
        // `rest / 8` words are inside the readable and writable mapping, which lives as long as
        // `self`; every bit pattern is a valid AtomicU64, and this type gives out nothing but
        // atomics for a writable mapping.
        unsafe { std::slice::from_raw_parts(start.cast::<AtomicU64>(), rest / 8) }
    }

    /// Writes changed pages to the file's storage and waits.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is exactly this live mapping.
        let status = unsafe {
            libc::msync(
                self.raw.start.as_ptr().cast(),
                self.raw.length,
                libc::MS_SYNC,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
