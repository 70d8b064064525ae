//! The standing receive request and its completions.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread::{self, ThreadId};

use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::pool::Pool;
use crate::burst::BURST_MAX;
use crate::clock;
use crate::sys::RawAddress;
use crate::udp::batch::Control;
use crate::udp::system_calls::arrival;
use crate::udp::train::Arrivals;
use crate::udp::{DATAGRAM_MAX, Offload, UdpStats};

/// The one buffer group of the ring.
const GROUP: u16 = 0;

/// Requests that one call starts when they end at once, for example with errors of earlier packets.
const STARTS_MAX: usize = 8;

/// Bytes in front of the datagram: the kernel's header (four 32-bit words), address, control.
const FRONT: usize = 16 + RawAddress::CAPACITY as usize + Control::SPACE;

/// Buffers and the bytes of one: room for a burst that is read and three on the way, or for as
/// much in trains.
const fn buffers(offload: Offload) -> (u16, usize) {
    match offload {
        Offload::None => (128, (FRONT + DATAGRAM_MAX).next_multiple_of(64)),
        Offload::Segmentation => (16, (FRONT + (1 << 16)).next_multiple_of(64)),
    }
}

/// A ring with one receive request and its buffers.
pub(super) struct Receiver {
    ring: IoUring,
    /// Kept for ever if the request cannot be ended: the kernel may still write.
    pool: ManuallyDrop<Pool>,
    request: Request,
    /// The thread that the ring belongs to.
    owner: Option<ThreadId>,
    /// An error that came behind datagrams; reported once they are delivered.
    failed: Option<io::Error>,
    /// Whether completions were left unread because the arrivals were full.
    unread: bool,
}

/// State of the receive request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// The ring does not belong to a thread yet.
    New,
    Ended,
    Standing,
    /// The kernel did not take what was submitted; the ring is never entered again.
    Broken,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Receiver")
            .field("pool", &self.pool)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// A ring that belongs to the thread that enables it.
pub(super) fn new_ring(entries: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_r_disabled()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(entries)
}

impl Receiver {
    pub(super) fn new(offload: Offload) -> io::Result<Self> {
        let (count, bytes) = buffers(offload);
        // Each buffer gives one completion; the others are ends of the request.
        let ring = new_ring(8, u32::from(count).saturating_mul(2))?;
        let pool = Pool::new(count, bytes)?;
        // SAFETY: the ring of `count` entries lives in the pool, which is unmapped only after the
        // io_uring's requests have ended.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                pool.ring_address(),
                pool.count(),
                GROUP,
                0,
            )?;
        }
        Ok(Self {
            ring,
            pool: ManuallyDrop::new(pool),
            request: Request::New,
            owner: None,
            failed: None,
            unread: false,
        })
    }

    /// The bytes of a frame; empty outside of held buffers.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        self.pool.bytes(offset, length)
    }

    /// Whether [`receive`](Self::receive) has something without asking the kernel.
    pub(super) const fn has_unread(&self) -> bool {
        self.unread || self.failed.is_some()
    }

    /// Replaces `arrivals`, which are all delivered, by the next ones. None means that the socket
    /// was empty and that the request stands, so that the socket's readability tells of more.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        arrivals: &mut Arrivals,
        stats: &mut UdpStats,
    ) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        arrivals.clear(clock::now_ns());
        for _ in 0..STARTS_MAX {
            self.pool.lend_all();
            if !self.unread {
                self.start(socket)?;
            }
            self.collect(arrivals, stats);
            if !arrivals.is_empty() {
                return Ok(());
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.request == Request::Standing && !self.unread {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Starts the request if it does not stand, and lets the kernel work on it.
    fn start(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        match self.request {
            Request::New => {
                self.ring.submitter().register_enable_rings()?;
                self.request = Request::Ended;
                self.owner = Some(thread::current().id());
            }
            // The kernel would quietly do nothing.
            _ if self.owner != Some(thread::current().id()) => {
                return Err(io::Error::from_raw_os_error(libc::EEXIST));
            }
            Request::Broken => return Err(io::Error::from_raw_os_error(libc::EBADF)),
            Request::Ended | Request::Standing => {}
        }
        let message = message_shape();
        if self.request == Request::Ended {
            let descriptor = Fd(socket.as_raw_fd());
            let request = opcode::RecvMsgMulti::new(descriptor, &raw const message, GROUP).build();
            // SAFETY: the kernel reads the message, which has no pointers, when the request is
            // submitted: below, or never. The buffers live in the pool until the request has
            // ended; the socket is the owner's, dropped after this ring.
            let pushed = unsafe { self.ring.submission().push(&request) };
            pushed.map_err(|_| io::ErrorKind::ResourceBusy)?;
            self.request = Request::Standing;
        }
        let mut result = self.ring.submit();
        for _ in 0..STARTS_MAX {
            if result.is_ok() || self.ring.submission().is_empty() {
                break;
            }
            result = self.ring.submit();
        }
        if !self.ring.submission().is_empty() {
            self.request = Request::Broken;
        }
        match result.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) | Err((Some(libc::EINTR | libc::EAGAIN | libc::EBUSY), _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }

    /// Turns completions into arrivals, at most as many as fit.
    fn collect(&mut self, arrivals: &mut Arrivals, stats: &mut UdpStats) {
        let shape = message_shape();
        for completion in self.ring.completion().take(BURST_MAX) {
            let flags = completion.flags();
            if !cqueue::more(flags) {
                self.request = Request::Ended;
            }
            let Ok(length) = usize::try_from(completion.result()) else {
                let errno = completion.result().saturating_neg();
                match errno {
                    libc::ENOBUFS => stats.pauses = stats.pauses.saturating_add(1),
                    libc::ECONNREFUSED => stats.unreachable = stats.unreachable.saturating_add(1),
                    libc::EAGAIN | libc::EINTR | libc::ECANCELED => {}
                    _ => self.failed = Some(io::Error::from_raw_os_error(errno)),
                }
                continue;
            };
            let Some(buffer) = cqueue::buffer_select(flags) else {
                continue;
            };
            if self.pool.take(buffer).is_none() {
                continue;
            }
            let start = self.pool.offset(buffer);
            let Ok(message) = RecvMsgOut::parse(self.pool.bytes(start, length), &shape) else {
                continue;
            };
            if message.is_payload_truncated() {
                stats.truncated = stats.truncated.saturating_add(1);
                continue;
            }
            let control = message.control_data();
            let control = Some(Control::from_bytes(control)).filter(|_| !control.is_empty());
            let address = RawAddress::from_bytes(message.name_data());
            let (offset, length) = (start.saturating_add(FRONT), message.payload_data().len());
            if let Some(arrival) = arrival(offset, length, control.as_ref(), address, stats) {
                arrivals.push(arrival);
            }
        }
        self.unread = !self.ring.completion().is_empty();
    }
}

/// How much room for address and control data stands in front of each datagram.
fn message_shape() -> libc::msghdr {
    let mut message = crate::udp::batch::empty_message().msg_hdr;
    message.msg_namelen = RawAddress::CAPACITY;
    message.msg_controllen = Control::SPACE;
    message
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let submitter = self.ring.submitter();
        let limit = Some(Timespec::new().sec(1));
        let ended = match submitter.register_sync_cancel(limit, CancelBuilder::any()) {
            // The request ends, and lets go of the socket, in the kernel's work for this thread.
            Ok(()) => self.ring.submit_and_wait(1).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if ended || self.request == Request::New {
            // SAFETY: the pool is not used again, this is its owner's drop.
            unsafe { ManuallyDrop::drop(&mut self.pool) };
        }
    }
}
