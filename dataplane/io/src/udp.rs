//! A UDP endpoint that receives and sends in bursts of 32, without privileges.
//!
//! It carries GTP-U towards BaseStations (the caller knows that and does not look at the link
//! type) and, in the local network, raw inner IP packets towards the origin. The kernel
//! reassembles outer fragments, so a datagram may be longer than the path's MTU;
//! [`DATAGRAM_MAX`] is the limit here, longer ones are dropped and counted.
//!
//! One port belongs to one worker. Sending borrows the port shared ([`UdpPort::send`]), so that a
//! received frame can go out again through the port it came from without a copy.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::time::Duration;

use qlink_wire::LinkType;

use crate::burst::BURST_MAX;
use crate::sys::{self, RawAddress};
use crate::wait::{Ready, wait};
use crate::{Burst, Descriptor, IoError, Outgoing, PacketSink, PacketSource, clock};

/// Longest datagram received, bytes (chosen: a jumbo frame's payload with room to spare).
pub const DATAGRAM_MAX: usize = 9216;

/// Bytes asked for in each direction of the kernel's socket queue.
const SOCKET_BUFFER_BYTES: libc::c_int = 8 << 20;

/// What a port has seen besides the packets that it delivered. Counters since binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UdpStats {
    /// Received datagrams that were longer than [`DATAGRAM_MAX`] and dropped.
    pub truncated: u64,
    /// Received datagrams without a usable sender address, dropped.
    pub unaddressed: u64,
    /// Errors that the network reported for earlier packets ("connection refused" by ICMP).
    pub unreachable: u64,
    /// Packets that the system refused to send as they were.
    pub refused: u64,
}

/// A bound UDP socket with its own receive memory.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    local: SocketAddr,
    link: LinkType,
    /// [`BURST_MAX`] places of [`DATAGRAM_MAX`] bytes.
    slab: Box<[u8]>,
    stats: Cell<UdpStats>,
}

impl UdpPort {
    /// Binds to `address` (port 0 chooses one); received frames are described as `link`.
    ///
    /// The kernel's queues are made as large as the process may (up to 8 MiB); a smaller result
    /// is no error, see [`queue_bytes`](Self::queue_bytes).
    ///
    /// # Errors
    ///
    /// [`IoError::Socket`] when the address cannot be bound.
    pub fn bind(address: SocketAddr, link: LinkType) -> Result<Self, IoError> {
        let failed = |operation| {
            move |source| IoError::Socket {
                operation,
                address,
                source,
            }
        };
        let socket = UdpSocket::bind(address).map_err(failed("bind"))?;
        Self::from_socket(socket, address, link)
    }

    /// A port on a bound socket; `address` is what errors name.
    pub(crate) fn from_socket(
        socket: UdpSocket,
        address: SocketAddr,
        link: LinkType,
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
        let slab = vec![0; BURST_MAX * DATAGRAM_MAX].into_boxed_slice();
        Ok(Self {
            socket,
            local,
            link,
            slab,
            stats: Cell::default(),
        })
    }

    /// The address bound to, with the port the system chose.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Counters since binding.
    #[must_use]
    pub const fn stats(&self) -> UdpStats {
        self.stats.get()
    }

    /// Size of the kernel's receive queue as the kernel accounts it (twice what was granted).
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub fn queue_bytes(&self) -> io::Result<usize> {
        sys::get_option(self.as_fd(), libc::SO_RCVBUF)
            .map(|bytes| usize::try_from(bytes).unwrap_or(0))
    }

    /// Sleeps until a packet is there or `timeout` has passed (`None` = for ever); `true` if one
    /// is. Use [`wait()`] for several ports.
    ///
    /// # Errors
    ///
    /// [`IoError::Socket`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, IoError> {
        wait(&[self.as_fd()], timeout)
            .map(Ready::any)
            .map_err(self.failed("poll"))
    }

    /// [`PacketSink::send_burst`] through a shared borrow.
    ///
    /// # Errors
    ///
    /// As [`PacketSink::send_burst`].
    pub fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        let mut accepted = 0_usize;
        for chunk in items.chunks(BURST_MAX) {
            let sent = match self.send_chunk(chunk) {
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

    /// One `sendmmsg` of at most [`BURST_MAX`] packets; 0 when the queue is full.
    fn send_chunk(&self, chunk: &[Outgoing<'_>]) -> io::Result<usize> {
        let mut addresses = [RawAddress::EMPTY; BURST_MAX];
        let mut vectors = [[EMPTY_VECTOR; 2]; BURST_MAX];
        let mut messages = [empty_message(); BURST_MAX];
        let places = messages.iter_mut().zip(&mut vectors).zip(&mut addresses);
        for (((message, vector), address), item) in places.zip(chunk) {
            let (raw, length) = RawAddress::new(&item.to);
            *address = raw;
            *vector = [read_vector(item.head), read_vector(item.body)];
            message.msg_hdr.msg_name = ptr::from_mut(address).cast();
            message.msg_hdr.msg_namelen = length;
            message.msg_hdr.msg_iov = vector.as_mut_ptr();
            message.msg_hdr.msg_iovlen = vector.len();
        }
        let count = libc::c_uint::try_from(chunk.len().min(BURST_MAX)).unwrap_or(0);
        for _ in 0..PENDING_ERRORS_MAX {
            // SAFETY: the first `count` messages point to addresses and vectors on this stack and,
            // through them, to borrowed bytes, all alive during the call; the system only reads
            // what the vectors point to.
            let sent = unsafe {
                libc::sendmmsg(
                    self.as_raw_fd(),
                    messages.as_mut_ptr(),
                    count,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => return Ok(sent),
                Err(_) => match self.classify(io::Error::last_os_error()) {
                    Failure::Retry => {}
                    Failure::Nothing => return Ok(0),
                    Failure::Real(error) => return Err(error),
                },
            }
        }
        Ok(0)
    }

    /// One `recvmmsg` into the slab, described in `burst`.
    fn recv_chunk(&mut self, burst: &mut Burst) -> io::Result<()> {
        let mut addresses = [RawAddress::EMPTY; BURST_MAX];
        let mut vectors = [EMPTY_VECTOR; BURST_MAX];
        let mut messages = [empty_message(); BURST_MAX];
        let slab = self.slab.chunks_exact_mut(DATAGRAM_MAX);
        let places = messages.iter_mut().zip(&mut vectors).zip(&mut addresses);
        for (((message, vector), address), place) in places.zip(slab) {
            *vector = libc::iovec {
                iov_base: place.as_mut_ptr().cast(),
                iov_len: place.len(),
            };
            message.msg_hdr.msg_name = ptr::from_mut(address).cast();
            message.msg_hdr.msg_namelen = RawAddress::CAPACITY;
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = libc::c_uint::try_from(messages.len()).unwrap_or(0);
        // SAFETY: each message points to an address and a vector on this stack and, through it, to
        // its own DATAGRAM_MAX bytes of the slab, which is borrowed mutably for the call; the
        // lengths are those of the objects; a null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            return Err(io::Error::last_os_error());
        };
        self.describe(messages.iter().zip(&addresses).take(received), burst);
        Ok(())
    }

    /// Writes a descriptor for every received message that is whole and has a sender.
    fn describe<'m>(
        &self,
        received: impl Iterator<Item = (&'m libc::mmsghdr, &'m RawAddress)>,
        burst: &mut Burst,
    ) {
        let timestamp_ns = clock::now_ns();
        for (place, (message, address)) in received.enumerate() {
            // With MSG_TRUNC the length is the datagram's own, not what fitted.
            if message.msg_len as usize > DATAGRAM_MAX {
                self.count(|stats| &mut stats.truncated);
                continue;
            }
            let Some(peer) = address.to_socket_addr() else {
                self.count(|stats| &mut stats.unaddressed);
                continue;
            };
            burst.push(Descriptor {
                offset: place.saturating_mul(DATAGRAM_MAX),
                len: message.msg_len,
                orig_len: message.msg_len,
                timestamp_ns,
                peer: Some(peer),
                link: self.link,
            });
        }
    }

    /// What an error of a receive or send call means for the port.
    fn classify(&self, error: io::Error) -> Failure {
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

    fn failed(&self, operation: &'static str) -> impl FnOnce(io::Error) -> IoError {
        let address = self.local;
        move |source| IoError::Socket {
            operation,
            address,
            source,
        }
    }

    fn count(&self, counter: impl FnOnce(&mut UdpStats) -> &mut u64) {
        let mut stats = self.stats.get();
        let value = counter(&mut stats);
        *value = value.saturating_add(1);
        self.stats.set(stats);
    }
}

impl PacketSource for UdpPort {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        for _ in 0..PENDING_ERRORS_MAX {
            match self.recv_chunk(burst) {
                Ok(()) => return Ok(burst.len()),
                Err(error) => match self.classify(error) {
                    Failure::Retry => {}
                    Failure::Nothing => return Ok(0),
                    Failure::Real(error) => return Err(self.failed("receive")(error)),
                },
            }
        }
        Ok(0)
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let end = descriptor.offset.saturating_add(descriptor.len as usize);
        self.slab.get(descriptor.offset..end).unwrap_or_default()
    }
}

impl PacketSink for UdpPort {
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }
}

impl AsFd for UdpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for UdpPort {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// How an error of a socket call is handled.
enum Failure {
    /// Call again; the error concerned something else.
    Retry,
    /// Nothing to receive, or no room to send.
    Nothing,
    /// Anything else.
    Real(io::Error),
}

/// Errors of earlier packets that one call steps over before it reports "nothing now".
const PENDING_ERRORS_MAX: usize = 8;

const EMPTY_VECTOR: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// A vector for sending; the system does not write through it.
const fn read_vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn empty_message() -> libc::mmsghdr {
    // SAFETY: `mmsghdr` consists of integers and raw pointers, for which all zero is valid; it has
    // private padding on some systems, so it cannot be written as a literal.
    unsafe { std::mem::zeroed() }
}

/// Asks for a large queue, with the privileged option first; a refusal leaves the default.
fn enlarge(socket: BorrowedFd<'_>, forced: libc::c_int, plain: libc::c_int) {
    if sys::set_option(socket, forced, SOCKET_BUFFER_BYTES).is_err() {
        let _ = sys::set_option(socket, plain, SOCKET_BUFFER_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(5));

    fn port() -> UdpPort {
        UdpPort::bind("127.0.0.1:0".parse().unwrap(), LinkType::RawIp).unwrap()
    }

    /// Bursts until `count` packets have come.
    fn receive(port: &mut UdpPort, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut burst = Burst::new();
        let mut packets = Vec::new();
        while packets.len() < count {
            assert!(
                port.poll(SECOND).unwrap(),
                "{} of {count} packets came",
                packets.len()
            );
            port.recv_burst(&mut burst).unwrap();
            packets.extend(
                burst
                    .iter()
                    .map(|d| (d.peer.unwrap(), port.frame(d).to_vec())),
            );
        }
        packets
    }

    #[test]
    fn head_and_body_arrive_joined_and_in_order() {
        let (mut to, mut from) = (port(), port());
        let bodies: Vec<Vec<u8>> = (0..100_u8).map(|i| vec![i; usize::from(i) * 80]).collect();
        let items: Vec<Outgoing<'_>> = bodies
            .iter()
            .map(|body| Outgoing {
                head: b"head",
                body,
                to: to.local_addr(),
            })
            .collect();

        let accepted = from.send_burst(&items).unwrap();

        assert_eq!(accepted, 100);
        for ((peer, bytes), body) in receive(&mut to, 100).into_iter().zip(&bodies) {
            assert_eq!(peer, from.local_addr());
            assert_eq!(bytes, [b"head", body.as_slice()].concat());
        }
    }

    #[test]
    fn nothing_there_is_zero_packets_and_no_error() {
        let mut burst = Burst::new();

        assert_eq!(port().recv_burst(&mut burst).unwrap(), 0);
        assert!(!port().poll(Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn a_datagram_above_the_limit_is_dropped_and_counted() {
        let (mut to, from) = (port(), port());
        let (long, fits) = (vec![1; DATAGRAM_MAX + 1], vec![2; DATAGRAM_MAX]);
        let items = [&long, &fits].map(|body| Outgoing {
            head: &[],
            body,
            to: to.local_addr(),
        });

        assert_eq!(from.send(&items).unwrap(), 2);

        assert_eq!(receive(&mut to, 1), [(from.local_addr(), fits.clone())]);
        assert_eq!(
            to.stats(),
            UdpStats {
                truncated: 1,
                ..UdpStats::default()
            }
        );
    }

    #[test]
    fn a_packet_the_system_refuses_stops_only_itself() {
        let (mut to, from) = (port(), port());
        let (too_long, fits) = (vec![0; 70_000], vec![1; 10]);
        let items = [&fits, &too_long, &fits].map(|body| Outgoing {
            head: &[],
            body,
            to: to.local_addr(),
        });

        assert_eq!(from.send(&items).unwrap(), 1);
        let refused = from.send(&items[1..]).unwrap_err();
        assert_eq!(from.send(&items[2..]).unwrap(), 1);

        assert!(
            matches!(refused, IoError::Refused { len: 70_000, .. }),
            "{refused}"
        );
        assert_eq!(from.stats().refused, 1);
        assert_eq!(receive(&mut to, 2).len(), 2);
    }

    #[test]
    fn what_is_accepted_is_always_a_prefix() {
        let (mut to, from) = (port(), port());
        let (too_long, fits) = (vec![0; 70_000], vec![1; 10]);
        let item = |body| Outgoing {
            head: &[],
            body,
            to: to.local_addr(),
        };
        let mut items = vec![item(fits.as_slice()); 3 * BURST_MAX];
        items[BURST_MAX + 5] = item(too_long.as_slice());

        let accepted = from.send(&items).unwrap();

        assert_eq!(accepted, BURST_MAX + 5);
        assert_eq!(receive(&mut to, accepted).len(), accepted);
        assert!(!to.poll(Some(Duration::from_millis(5))).unwrap());
    }

    #[test]
    fn a_peer_that_is_gone_does_not_break_the_port() {
        let mut from = port();
        let gone = port().local_addr();
        let mut to = port();
        from.socket.connect(gone).unwrap();
        let nobody = [Outgoing {
            head: &[],
            body: b"x",
            to: gone,
        }];

        for _ in 0..10 {
            from.send(&nobody).unwrap();
            from.recv_burst(&mut Burst::new()).unwrap();
        }

        assert!(from.stats().unreachable > 0);
        let someone = [Outgoing {
            head: &[],
            body: b"x",
            to: to.local_addr(),
        }];
        assert_eq!(from.send(&someone).unwrap(), 1);
        assert_eq!(receive(&mut to, 1).len(), 1);
    }

    #[test]
    fn a_received_frame_goes_back_through_its_own_port() {
        let (mut echo, mut client) = (port(), port());
        let there = [Outgoing {
            head: b"",
            body: b"echo",
            to: echo.local_addr(),
        }];
        client.send_burst(&there).unwrap();
        let mut burst = Burst::new();
        assert!(echo.poll(SECOND).unwrap());
        echo.recv_burst(&mut burst).unwrap();

        let back = burst.iter().map(|d| Outgoing {
            head: b"re:",
            body: echo.frame(d),
            to: d.peer.unwrap(),
        });
        assert_eq!(echo.send(&back.collect::<Vec<_>>()).unwrap(), 1);

        assert_eq!(
            receive(&mut client, 1),
            [(echo.local_addr(), b"re:echo".to_vec())]
        );
    }

    #[test]
    fn ipv6_peers_are_reached_and_named() {
        let Ok(mut to) = UdpPort::bind("[::1]:0".parse().unwrap(), LinkType::RawIp) else {
            println!("skipped: no IPv6 loopback");
            return;
        };
        let from = UdpPort::bind("[::1]:0".parse().unwrap(), LinkType::RawIp).unwrap();

        from.send(&[Outgoing {
            head: b"",
            body: b"six",
            to: to.local_addr(),
        }])
        .unwrap();

        assert_eq!(receive(&mut to, 1), [(from.local_addr(), b"six".to_vec())]);
    }

    #[test]
    fn an_address_in_use_is_refused_with_the_address() {
        let taken = port();

        let error = UdpPort::bind(taken.local_addr(), LinkType::RawIp).unwrap_err();

        assert!(
            error.to_string().contains(&taken.local_addr().to_string()),
            "{error}"
        );
    }
}
