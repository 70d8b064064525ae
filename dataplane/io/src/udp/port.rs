//! The port, the same over every way of passing messages to the system.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use qlink_wire::LinkType;

use super::endpoint::{Endpoint, Failure, PENDING_ERRORS_MAX};
use super::options::{Offload, UdpOptions, UdpStats};
use super::system_calls::SystemCalls;
use super::train::Arrivals;
use crate::wait::{Ready, wait};
use crate::{Burst, Descriptor, IoError, Outgoing, PacketPort, PacketSink, PacketSource};

/// How messages pass between a port and the system.
pub(crate) trait Transport: fmt::Debug + Sized {
    /// What is tried when a transport is made.
    const SET_UP: &'static str;

    /// Makes the transport with memory for what the kernel was told to do with received datagrams.
    fn new(receives: Offload) -> io::Result<Self>;

    /// Replaces `arrivals`, which are all delivered, by the next ones. None, or `EAGAIN`, means
    /// that the socket was empty, so that its readability tells of more.
    fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        arrivals: &mut Arrivals,
        stats: &mut UdpStats,
    ) -> io::Result<()>;

    /// Whether the next [`receive`](Self::receive) has something without asking the kernel.
    fn has_unread(&self) -> bool;

    /// The bytes of a received datagram; empty outside of those that stand.
    fn bytes(&self, offset: usize, length: usize) -> &[u8];

    /// Sends messages in order up to the first that the system does not take; how many it took, or
    /// why it did not take the first. What the messages point to is alive and unmoved until this
    /// returns, and is not looked at later.
    fn transmit(&self, socket: BorrowedFd<'_>, messages: &mut [libc::mmsghdr])
    -> io::Result<usize>;
}

/// A bound UDP socket with its own receive memory; see [`UdpPort`] for the usual kind.
#[derive(Debug)]
pub struct Port<T> {
    // Before the socket, which it may still be using.
    transport: T,
    pub(super) endpoint: Endpoint,
    link: LinkType,
    arrivals: Arrivals,
}

/// A port over `recvmmsg` and `sendmmsg`.
pub type UdpPort = Port<SystemCalls>;

impl<T> Port<T> {
    /// The address bound to, with the port the system chose.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.endpoint.local
    }
}

#[expect(private_bounds, reason = "only this crate's transports are ports")]
impl<T: Transport> Port<T> {
    /// Binds to `address` (port 0 chooses one) without offload; received frames are described as
    /// `link`.
    ///
    /// # Errors
    ///
    /// As [`bind_with`](Self::bind_with).
    pub fn bind(address: SocketAddr, link: LinkType) -> Result<Self, IoError> {
        Self::bind_with(address, link, UdpOptions::default())
    }

    /// Binds to `address` (port 0 chooses one); received frames are described as `link`.
    ///
    /// The kernel's queues are made as large as the process may (up to 8 MiB); a smaller result
    /// is no error, see [`queue_bytes`](Self::queue_bytes). Neither is a kernel without offload.
    ///
    /// # Errors
    ///
    /// [`IoError::Socket`] when the address cannot be bound, the checksum not be left out, or the
    /// transport not be made.
    pub fn bind_with(
        address: SocketAddr,
        link: LinkType,
        options: UdpOptions,
    ) -> Result<Self, IoError> {
        Self::on(Endpoint::open(address, options)?, link)
    }

    /// A port on a bound socket.
    pub(super) fn on(endpoint: Endpoint, link: LinkType) -> Result<Self, IoError> {
        let transport = T::new(endpoint.receives).map_err(endpoint.failed(T::SET_UP))?;
        Ok(Self {
            transport,
            endpoint,
            link,
            arrivals: Arrivals::NONE,
        })
    }

    /// Whether the kernel joins received datagrams into trains.
    #[must_use]
    pub const fn receives_trains(&self) -> bool {
        matches!(self.endpoint.receives, Offload::Segmentation)
    }

    /// Whether packets are sent in trains; `false` for good once the system has refused them.
    #[must_use]
    pub const fn sends_trains(&self) -> bool {
        self.endpoint.trains.get().is_open()
    }

    /// Counters since binding.
    #[must_use]
    pub const fn stats(&self) -> UdpStats {
        self.endpoint.stats.get()
    }

    /// Size of the kernel's receive queue as the kernel accounts it (twice what was granted).
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub fn queue_bytes(&self) -> io::Result<usize> {
        self.endpoint.queue_bytes()
    }

    /// Sleeps until a packet is there or `timeout` has passed (`None` = for ever); `true` if one
    /// is. Use [`wait()`] for several ports, after each said that it has no packets: what the port
    /// has taken from the socket does not make that readable.
    ///
    /// # Errors
    ///
    /// [`IoError::Socket`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, IoError> {
        if !self.arrivals.is_empty() || self.transport.has_unread() {
            return Ok(true);
        }
        wait(&[self.as_fd()], timeout)
            .map(Ready::any)
            .map_err(self.endpoint.failed("poll"))
    }

    /// [`PacketSink::send_burst`] through a shared borrow.
    ///
    /// # Errors
    ///
    /// As [`PacketSink::send_burst`].
    pub fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        let socket = self.endpoint.socket.as_fd();
        self.endpoint
            .send(items, |messages| self.transport.transmit(socket, messages))
    }
}

impl<T: Transport> PacketSource for Port<T> {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        for _ in 0..PENDING_ERRORS_MAX {
            if !self.arrivals.is_empty() {
                break;
            }
            let Endpoint { socket, stats, .. } = &mut self.endpoint;
            let (socket, stats) = (socket.as_fd(), stats.get_mut());
            match self.transport.receive(socket, &mut self.arrivals, stats) {
                Ok(()) => break,
                Err(error) => match self.endpoint.classify(error) {
                    Failure::Retry => {}
                    Failure::Nothing => return Ok(0),
                    Failure::Real(error) => return Err(self.endpoint.failed("receive")(error)),
                },
            }
        }
        let stats = self.endpoint.stats.get_mut();
        self.arrivals.deliver(burst, self.link, stats);
        Ok(burst.len())
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        self.transport
            .bytes(descriptor.offset, descriptor.len as usize)
    }
}

impl<T: Transport> PacketSink for Port<T> {
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }
}

impl<T: Transport> PacketPort for Port<T> {
    #[inline]
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }
}

impl<T> AsFd for Port<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.socket.as_fd()
    }
}

impl<T> AsRawFd for Port<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.endpoint.socket.as_raw_fd()
    }
}
