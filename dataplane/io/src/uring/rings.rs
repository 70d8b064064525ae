//! Two rings as a transport.

use std::cell::RefCell;
use std::io;
use std::os::fd::BorrowedFd;

use super::receiver::{Receiver, new_ring};
use super::sender::Sender;
use crate::udp::port::Transport;
use crate::udp::train::Arrivals;
use crate::udp::{Offload, Port, UdpStats};

/// Whether this process may use io_uring with all that [`UringPort`] needs; makes and closes one.
///
/// # Errors
///
/// `Unsupported` (`ENOSYS`) without io_uring, `PermissionDenied` (`EPERM`) where the system forbids
/// it, `InvalidInput` (`EINVAL`) on a kernel older than 6.1.
pub fn available() -> io::Result<()> {
    new_ring(8, 16).map(drop)
}

/// One ring for receiving and one for sending.
///
/// Memory for received datagrams: 1.2 MB, or 1.0 MiB with [`Offload::Segmentation`].
#[derive(Debug)]
pub struct Rings {
    receiver: Receiver,
    sender: RefCell<Sender>,
}

/// A port over io_uring. It may be bound anywhere and then belongs to the thread that uses it
/// first.
pub type UringPort = Port<Rings>;

impl Transport for Rings {
    const SET_UP: &'static str =
        "set up io_uring (Linux 6.1 or newer, kernel.io_uring_disabled = 0)";

    fn new(receives: Offload) -> io::Result<Self> {
        Ok(Self {
            receiver: Receiver::new(receives)?,
            sender: RefCell::new(Sender::new()?),
        })
    }

    fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        arrivals: &mut Arrivals,
        stats: &mut UdpStats,
    ) -> io::Result<()> {
        self.receiver.receive(socket, arrivals, stats)
    }

    fn has_unread(&self) -> bool {
        self.receiver.has_unread()
    }

    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        self.receiver.bytes(offset, length)
    }

    fn transmit(
        &self,
        socket: BorrowedFd<'_>,
        messages: &mut [libc::mmsghdr],
    ) -> io::Result<usize> {
        match self.sender.try_borrow_mut() {
            Ok(mut sender) => sender.send(socket, messages),
            Err(_) => Err(io::ErrorKind::ResourceBusy.into()),
        }
    }
}
