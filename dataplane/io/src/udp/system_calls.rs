//! Messages by `recvmmsg`, into memory of our own, and `sendmmsg`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::batch::{Control, EMPTY_VECTOR, empty_message, receive_into};
use super::options::{DATAGRAM_MAX, Offload, UdpStats};
use super::port::Transport;
use super::train::{Arrival, Arrivals};
use crate::burst::BURST_MAX;
use crate::clock;
use crate::sys::RawAddress;

impl Offload {
    /// Places for received messages and the bytes of one.
    const fn places(self) -> (usize, usize) {
        match self {
            Self::None => (BURST_MAX, DATAGRAM_MAX),
            // Whatever the kernel joins stays below 64 KiB.
            Self::Segmentation => (8, 1 << 16),
        }
    }

    /// Memory of a port for received messages, bytes.
    #[must_use]
    pub const fn receive_bytes(self) -> usize {
        let (count, size) = self.places();
        count * size
    }
}

/// One system call per burst and direction, and memory for received messages.
#[derive(Debug)]
pub struct SystemCalls {
    slab: Box<[u8]>,
    place_bytes: usize,
}

impl Transport for SystemCalls {
    const SET_UP: &'static str = "make room for datagrams";

    fn new(receives: Offload) -> io::Result<Self> {
        Ok(Self {
            slab: vec![0; receives.receive_bytes()].into_boxed_slice(),
            place_bytes: receives.places().1,
        })
    }

    fn has_unread(&self) -> bool {
        false
    }

    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let end = offset.saturating_add(length);
        self.slab.get(offset..end).unwrap_or_default()
    }

    fn transmit(
        &self,
        socket: BorrowedFd<'_>,
        messages: &mut [libc::mmsghdr],
    ) -> io::Result<usize> {
        let count = libc::c_uint::try_from(messages.len()).unwrap_or(libc::c_uint::MAX);
        // SAFETY: the caller keeps what the `count` messages point to alive and unmoved during the
        // call; the system only reads what their vectors point to.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        arrivals: &mut Arrivals,
        stats: &mut UdpStats,
    ) -> io::Result<()> {
        let mut addresses = [RawAddress::EMPTY; BURST_MAX];
        let mut vectors = [EMPTY_VECTOR; BURST_MAX];
        let mut controls = [Control::EMPTY; BURST_MAX];
        let mut messages = [empty_message(); BURST_MAX];
        let places = self.slab.chunks_exact_mut(self.place_bytes);
        let count = libc::c_uint::try_from(places.len().min(BURST_MAX)).unwrap_or(0);
        let headers = messages.iter_mut().zip(&mut vectors);
        let belongings = addresses.iter_mut().zip(&mut controls);
        for (((message, vector), (address, control)), place) in headers.zip(belongings).zip(places)
        {
            *vector = libc::iovec {
                iov_base: place.as_mut_ptr().cast(),
                iov_len: place.len(),
            };
            receive_into(&mut message.msg_hdr, vector, address, control);
        }
        // SAFETY: each of the first `count` messages points to an address, a control buffer and a
        // vector on this stack and, through it, to its own place of the slab, which is borrowed
        // mutably for the call; the lengths are those of the objects; a null timeout is allowed.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            return Err(io::Error::last_os_error());
        };
        arrivals.clear(clock::now_ns());
        let headers = messages.iter().zip(&addresses).zip(&controls);
        for (place, ((message, address), control)) in headers.enumerate().take(received) {
            // With MSG_TRUNC the length is the message's own, not what fitted.
            let length = message.msg_len as usize;
            let offset = place.saturating_mul(self.place_bytes);
            if length > self.place_bytes {
                stats.truncated = stats.truncated.saturating_add(1);
                continue;
            }
            let control = Some(control).filter(|_| message.msg_hdr.msg_controllen > 0);
            if let Some(arrival) = arrival(offset, length, control, *address, stats) {
                arrivals.push(arrival);
            }
        }
        Ok(())
    }
}

/// A received message as an arrival; one without a usable sender is counted and dropped.
pub(crate) fn arrival(
    offset: usize,
    length: usize,
    control: Option<&Control>,
    address: RawAddress,
    stats: &mut UdpStats,
) -> Option<Arrival> {
    let joined = control
        .and_then(Control::joined_size)
        .filter(|segment| *segment < length);
    let segment = joined.unwrap_or(length);
    let datagrams = length.div_ceil(segment.max(1)).max(1);
    let Some(peer) = address.to_socket_addr() else {
        let datagrams = u64::try_from(datagrams).unwrap_or(u64::MAX);
        stats.unaddressed = stats.unaddressed.saturating_add(datagrams);
        return None;
    };
    if joined.is_some() {
        stats.trains_received = stats.trains_received.saturating_add(1);
    }
    Some(Arrival {
        offset,
        left: length,
        segment,
        peer,
    })
}
