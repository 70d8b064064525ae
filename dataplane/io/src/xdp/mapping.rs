//! Memory shared with the kernel: packet memory of our own, and rings that a socket lends.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// A mapping that is unmapped on drop. It gives out addresses only; what may be read or written
/// there, and when, is decided by [`Ring`](super::ring::Ring) and [`Umem`](super::umem::Umem).
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is unmapped once, by its owner.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Fresh zeroed memory, page aligned, all pages present.
    pub(super) fn anonymous(length: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        Self::new(length, flags, -1, 0)
    }

    /// A ring of a socket.
    pub(super) fn of_socket(
        socket: BorrowedFd<'_>,
        length: usize,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Self::new(length, flags, socket.as_raw_fd(), offset)
    }

    fn new(
        length: usize,
        flags: libc::c_int,
        descriptor: libc::c_int,
        offset: libc::off_t,
    ) -> io::Result<Self> {
        // SAFETY: with a null hint and without MAP_FIXED the system chooses free addresses, so no
        // existing memory is touched; errors are checked below.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                descriptor,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast::<u8>())
            .map(|start| Self { start, length })
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// The address of byte `offset`, if `bytes` bytes follow it inside the mapping.
    pub(super) fn at(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(bytes)?;
        if end > self.length {
            return None;
        }
        // SAFETY: `offset <= end <= length`, so the result is inside the mapping or one past it.
        Some(unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is unmapped only here; what borrows from it
        // borrows its owner and is gone.
        let status = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert_eq!(status, 0, "munmap of an own mapping");
    }
}
