//! Bursts of messages in one submission.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::receiver::new_ring;
use crate::udp::train::TRAIN_PACKETS_MAX;

/// Submissions per burst before the ring is given up; one is enough unless signals interrupt.
const TRIES_MAX: usize = 1000;

/// A ring for sends, which stands empty between two calls.
pub(super) struct Sender {
    /// `None` once the system has failed in the middle of a burst.
    ring: Option<IoUring>,
    owner: Owner,
}

/// Whether the ring belongs to a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    ThisThread,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Sender")
            .field("owner", &self.owner)
            .field("broken", &self.ring.is_none())
            .finish()
    }
}

impl Sender {
    pub(super) fn new() -> io::Result<Self> {
        let entries = u32::try_from(TRAIN_PACKETS_MAX).unwrap_or(64);
        Ok(Self {
            ring: Some(new_ring(entries, entries.saturating_mul(2))?),
            owner: Owner::Nobody,
        })
    }

    /// Sends messages in order up to the first that the system does not take; how many it took, or
    /// why it did not take the first. At most [`TRAIN_PACKETS_MAX`].
    ///
    /// What the messages point to is alive and unmoved until this returns, and no request is left
    /// that could look at it later.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: &[libc::mmsghdr],
    ) -> io::Result<usize> {
        // A descriptor that is not usable, as the caller's error handling understands it.
        let ring = self.ring.as_mut().ok_or_else(broken)?;
        if self.owner == Owner::Nobody {
            ring.submitter().register_enable_rings()?;
            self.owner = Owner::ThisThread;
        }
        let mut results = [-libc::ECANCELED; TRAIN_PACKETS_MAX];
        let results = results.get_mut(..messages.len()).unwrap_or_default();
        let done = enqueue(ring, socket, messages).and_then(|()| complete(ring, results));
        if let Err(error) = done {
            // Requests of this burst may stand in the ring: it must not be used again.
            let limit = Some(Timespec::new().sec(1));
            let _ = ring
                .submitter()
                .register_sync_cancel(limit, CancelBuilder::any());
            self.ring = None;
            return Err(error);
        }
        let taken = results.iter().take_while(|result| **result >= 0).count();
        match results.first() {
            Some(first) if taken == 0 => Err(io::Error::from_raw_os_error(first.saturating_neg())),
            _ => Ok(taken),
        }
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// Writes a chain of requests: each begins when the one before it has been done.
fn enqueue(
    ring: &mut IoUring,
    socket: BorrowedFd<'_>,
    messages: &[libc::mmsghdr],
) -> io::Result<()> {
    let mut submission = ring.submission();
    // Not waiting for room keeps the request from outliving the call.
    let how = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).cast_unsigned();
    let last = messages.len().saturating_sub(1);
    for (number, message) in messages.iter().enumerate() {
        let request = opcode::SendMsg::new(Fd(socket.as_raw_fd()), &raw const message.msg_hdr)
            .flags(how)
            .build()
            .user_data(number as u64);
        let request = if number < last {
            request.flags(squeue::Flags::IO_LINK)
        } else {
            request
        };
        // SAFETY: message, address, vectors and bytes are alive until `Sender::send` returns, and
        // it waits for every completion before, or ends all requests and closes the ring.
        let pushed = unsafe { submission.push(&request) };
        pushed.map_err(|_| broken())?;
    }
    Ok(())
}

/// Submits everything and waits for every completion.
fn complete(ring: &mut IoUring, results: &mut [i32]) -> io::Result<()> {
    let mut missing = results.len();
    for _ in 0..TRIES_MAX {
        if missing == 0 {
            return Ok(());
        }
        match ring.submit_and_wait(missing) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => {}
                _ => return Err(broken()),
            },
        }
        for completion in ring.completion() {
            let number = usize::try_from(completion.user_data()).unwrap_or(usize::MAX);
            if let Some(result) = results.get_mut(number) {
                *result = completion.result();
            }
            missing = missing.saturating_sub(1);
        }
    }
    if missing == 0 { Ok(()) } else { Err(broken()) }
}
