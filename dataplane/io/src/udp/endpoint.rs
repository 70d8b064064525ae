//! What every UDP back end has in common: the socket, its counters, and what errors mean.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::batch::Batch;
use super::options::{Checksum, Offload, UdpOptions, UdpStats};
use super::train::{TRAIN_PACKETS_MAX, TrainLimit};
use crate::burst::BURST_MAX;
use crate::{IoError, Outgoing, sys};

/// Bytes asked for in each direction of the kernel's socket queue.
const SOCKET_BUFFER_BYTES: libc::c_int = 8 << 20;

/// A bound socket with its counters; the back ends differ in how messages reach the system.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) socket: UdpSocket,
    pub(crate) local: SocketAddr,
    /// Whether the kernel was told to join received datagrams.
    pub(crate) receives: Offload,
    pub(crate) trains: Cell<TrainLimit>,
    pub(crate) stats: Cell<UdpStats>,
}

impl Endpoint {
    /// Binds, enlarges the queues and turns on what the kernel offers of `options`.
    pub(crate) fn open(address: SocketAddr, options: UdpOptions) -> Result<Self, IoError> {
        let failed = |operation| {
            move |source| IoError::Socket {
                operation,
                address,
                source,
            }
        };
        let socket = UdpSocket::bind(address).map_err(failed("bind"))?;
        Self::on(socket, address, options)
    }

    /// [`Self::open`] on a bound socket; `address` is what errors name.
    pub(super) fn on(
        socket: UdpSocket,
        address: SocketAddr,
        options: UdpOptions,
    ) -> Result<Self, IoError> {
        let failed = |operation| {
            move |source| IoError::Socket {
                operation,
                address,
                source,
            }
        };
        socket
            .set_nonblocking(true)
            .map_err(failed("set non-blocking"))?;
        let local = socket.local_addr().map_err(failed("read own address"))?;
        enlarge(socket.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
        enlarge(socket.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
        if options.checksum == Checksum::Zero {
            leave_checksum_out(socket.as_fd(), local).map_err(failed("leave out checksums"))?;
        }
        let (receives, trains) = match options.offload {
            Offload::None => (Offload::None, TrainLimit::NONE),
            Offload::Segmentation => (
                join_received(socket.as_fd()).map_or(Offload::None, |()| Offload::Segmentation),
                sendable_trains(socket.as_fd(), options.checksum),
            ),
        };
        Ok(Self {
            socket,
            local,
            receives,
            trains: Cell::new(trains),
            stats: Cell::default(),
        })
    }

    /// Sends a prefix of `items` as [`crate::PacketSink::send_burst`] says.
    ///
    /// `transmit` hands messages to the system and says how many it took, or why it did not take
    /// the first. The messages point to memory that is alive and unmoved until it returns.
    pub(crate) fn send(
        &self,
        items: &[Outgoing<'_>],
        transmit: impl FnMut(&mut [libc::mmsghdr]) -> io::Result<usize>,
    ) -> Result<usize, IoError> {
        // A larger batch allows longer trains; setting it up costs about 5 ns per place.
        if items.len() <= BURST_MAX {
            self.send_chunks::<BURST_MAX>(items, transmit)
        } else {
            self.send_chunks::<TRAIN_PACKETS_MAX>(items, transmit)
        }
    }

    fn send_chunks<const N: usize>(
        &self,
        items: &[Outgoing<'_>],
        mut transmit: impl FnMut(&mut [libc::mmsghdr]) -> io::Result<usize>,
    ) -> Result<usize, IoError> {
        let mut accepted = 0_usize;
        for chunk in items.chunks(N) {
            let sent = match self.send_chunk::<N>(chunk, &mut transmit) {
                Ok(sent) => sent,
                // The packet is the first of the caller's next call, which reports it.
                Err(_) if accepted > 0 => break,
                Err(error) => return Err(self.send_error(chunk, error)),
            };
            accepted = accepted.saturating_add(sent);
            if sent < chunk.len() {
                break;
            }
        }
        Ok(accepted)
    }

    /// At most `N` packets at once; 0 when the queue is full.
    fn send_chunk<const N: usize>(
        &self,
        chunk: &[Outgoing<'_>],
        transmit: &mut impl FnMut(&mut [libc::mmsghdr]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut batch = Batch::<N>::new();
        batch.fill(chunk, self.trains.get());
        for _ in 0..PENDING_ERRORS_MAX {
            let error = match transmit(batch.messages()) {
                Ok(taken) => return Ok(self.accepted(batch.packets().iter().take(taken))),
                Err(error) => error,
            };
            if self.gives_up_train(batch.packets(), chunk, &error) {
                batch.fill(chunk, self.trains.get());
                continue;
            }
            match self.classify(error) {
                Failure::Retry => {}
                Failure::Nothing => return Ok(0),
                Failure::Real(error) => return Err(error),
            }
        }
        Ok(0)
    }

    /// Packets of the messages that the system took.
    fn accepted<'p>(&self, messages: impl Iterator<Item = &'p usize>) -> usize {
        let (mut packets, mut trains) = (0_usize, 0_u64);
        for of_message in messages {
            packets = packets.saturating_add(*of_message);
            trains = trains.saturating_add(u64::from(*of_message > 1));
        }
        if trains > 0 {
            let mut stats = self.stats.get();
            stats.trains_sent = stats.trains_sent.saturating_add(trains);
            self.stats.set(stats);
        }
        packets
    }

    /// Whether the refused first message was a train that is now to be sent packet by packet.
    fn gives_up_train(&self, packets: &[usize], chunk: &[Outgoing<'_>], error: &io::Error) -> bool {
        let (Some(2..), Some(first)) = (packets.first(), chunk.first()) else {
            return false;
        };
        let limit = self.trains.get();
        let Some(limit) = limit.after_refusal(first.len(), error.raw_os_error()) else {
            return false;
        };
        self.trains.set(limit);
        self.count(|stats| &mut stats.trains_refused);
        true
    }

    /// Size of the kernel's receive queue as the kernel accounts it (twice what was granted).
    pub(crate) fn queue_bytes(&self) -> io::Result<usize> {
        sys::get_option(self.socket.as_fd(), libc::SO_RCVBUF)
            .map(|bytes| usize::try_from(bytes).unwrap_or(0))
    }

    /// What an error of a receive or send call means for the port.
    pub(crate) fn classify(&self, error: io::Error) -> Failure {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS) => Failure::Nothing,
            Some(libc::EINTR) => Failure::Retry,
            // Reported once for an earlier packet, then cleared; this packet was not touched.
            Some(libc::ECONNREFUSED) => {
                self.count(|stats| &mut stats.unreachable);
                Failure::Retry
            }
            _ => Failure::Real(error),
        }
    }

    /// The error for the first packet of `chunk`.
    fn send_error(&self, chunk: &[Outgoing<'_>], source: io::Error) -> IoError {
        let broken = matches!(source.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK));
        match chunk.first() {
            Some(first) if !broken => {
                self.count(|stats| &mut stats.refused);
                IoError::Refused {
                    len: first.len(),
                    to: first.to,
                    source,
                }
            }
            _ => self.failed("send")(source),
        }
    }

    pub(crate) fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> IoError {
        let address = self.local;
        move |source| IoError::Socket {
            operation,
            address,
            source,
        }
    }

    pub(crate) fn count(&self, counter: impl FnOnce(&mut UdpStats) -> &mut u64) {
        let mut stats = self.stats.get();
        let value = counter(&mut stats);
        *value = value.saturating_add(1);
        self.stats.set(stats);
    }
}

/// How an error of a socket call is handled.
pub(crate) enum Failure {
    /// Call again; the error concerned something else.
    Retry,
    /// Nothing to receive, or no room to send.
    Nothing,
    /// Anything else.
    Real(io::Error),
}

/// Errors of earlier packets that one call steps over before it reports "nothing now".
pub(crate) const PENDING_ERRORS_MAX: usize = 8;

/// Asks for a large queue, with the privileged option first; a refusal leaves the default.
fn enlarge(socket: BorrowedFd<'_>, forced: libc::c_int, plain: libc::c_int) {
    if sys::set_option(socket, forced, SOCKET_BUFFER_BYTES).is_err() {
        let _ = sys::set_option(socket, plain, SOCKET_BUFFER_BYTES);
    }
}

/// Asks the kernel to join received datagrams of one peer and equal length.
pub(crate) fn join_received(socket: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_option_at(socket, libc::SOL_UDP, libc::UDP_GRO, &ON)
}

/// Whether the kernel knows trains: setting the default segment size to 0 changes nothing. One that
/// does not know the option would send a train as one long datagram.
pub(crate) fn knows_trains(socket: BorrowedFd<'_>) -> io::Result<()> {
    let none: libc::c_int = 0;
    sys::set_option_at(socket, libc::SOL_UDP, libc::UDP_SEGMENT, &none)
}

/// Which trains may be tried; the kernel refuses those without checksums.
fn sendable_trains(socket: BorrowedFd<'_>, checksum: Checksum) -> TrainLimit {
    match (knows_trains(socket), checksum) {
        (Ok(()), Checksum::Present) => TrainLimit::ANY,
        _ => TrainLimit::NONE,
    }
}

/// Makes the kernel send checksums of 0.
fn leave_checksum_out(socket: BorrowedFd<'_>, local: SocketAddr) -> io::Result<()> {
    if local.is_ipv6() {
        sys::set_option_at(socket, libc::SOL_UDP, UDP_NO_CHECK6_TX, &ON)?;
        sys::set_option_at(socket, libc::SOL_UDP, UDP_NO_CHECK6_RX, &ON)?;
    }
    sys::set_option(socket, libc::SO_NO_CHECK, ON)
}

const ON: libc::c_int = 1;

/// Missing from the `libc` crate; `linux/udp.h`.
const UDP_NO_CHECK6_TX: libc::c_int = 101;
/// Missing from the `libc` crate; `linux/udp.h`.
const UDP_NO_CHECK6_RX: libc::c_int = 102;
