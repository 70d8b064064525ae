//! The sending half of a port.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::ring::{Consumer, Producer};
use super::socket::XdpSocket;
use super::umem::Umem;
use crate::Outgoing;
use crate::frame::{FrameError, Framer};
use crate::neighbour::NeighbourReader;

/// Most system calls for one burst (chosen: in copy mode each sends 32 packets, so that a burst
/// needs one and leftovers another).
const WAKEUPS_MAX: usize = 4;

/// What happened to packets that were to be sent. Counters since the port was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransmitStats {
    /// Refused: the next hop is not known (yet).
    pub no_next_hop: u64,
    /// Refused: longer than the link's MTU, or than a frame.
    pub too_long: u64,
    /// Refused: of another address family than our endpoint, or no IP packet.
    pub unframeable: u64,
    /// Times that the kernel could not take packets at once: no memory, full queue, link down.
    pub wakeups_failed: u64,
    /// Completed frames that were not in flight; a fault of the kernel.
    pub foreign_frames: u64,
}

/// Why nothing was sent.
#[derive(Debug)]
pub(super) enum SendError {
    /// The first packet cannot be sent as it is.
    Refused(io::Error),
    /// The socket is of no use any more.
    Broken(io::Error),
}

/// Why one packet was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// There is no frame or no place in the ring; later there will be.
    Full,
    /// Nobody is known to take it.
    NoNextHop,
    /// It cannot be framed.
    Frame(FrameError),
}

/// Frames and rings for sending.
#[derive(Debug)]
pub(super) struct Transmit {
    ring: Producer,
    completion: Consumer,
    /// Frame numbers.
    free: Vec<usize>,
    /// By frame number less the first: whether the kernel has it.
    in_flight: Box<[bool]>,
    first: usize,
    framer: Framer,
    neighbours: NeighbourReader,
    /// The kernel has not taken everything yet.
    must_wake: bool,
    stats: TransmitStats,
}

impl Transmit {
    pub(super) fn new(frames: Range<usize>, framer: Framer, neighbours: NeighbourReader) -> Self {
        Self {
            ring: Producer::default(),
            completion: Consumer::default(),
            in_flight: vec![false; frames.len()].into_boxed_slice(),
            first: frames.start,
            free: frames.collect(),
            framer,
            neighbours,
            must_wake: false,
            stats: TransmitStats::default(),
        }
    }

    pub(super) const fn stats(&self) -> TransmitStats {
        self.stats
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len().saturating_sub(self.free.len())
    }

    /// Frames, queues and sends a prefix of `items`; one system call per 32 packets.
    #[inline]
    pub(super) fn send(
        &mut self,
        socket: &XdpSocket,
        umem: &Umem,
        items: &[Outgoing<'_>],
    ) -> Result<usize, SendError> {
        self.neighbours.update();
        if self.reap(socket, umem) < items.len() {
            self.wake(socket);
            self.reap(socket, umem);
        }
        let wanted = u32::try_from(items.len().min(self.free.len())).unwrap_or(u32::MAX);
        let room = self.ring.room(socket.transmit.shared(), wanted) as usize;
        let mut accepted = 0_usize;
        for item in items.iter().take(room) {
            match self.queue(socket, umem, item) {
                Ok(()) => accepted = accepted.saturating_add(1),
                // The packet is the first of the caller's next call, which reports it.
                Err(refusal) if accepted > 0 || refusal == Refusal::Full => break,
                Err(refusal) => return Err(SendError::Refused(self.refuse(refusal, item))),
            }
        }
        if accepted > 0 {
            self.ring.publish(socket.transmit.shared());
            self.must_wake = true;
        }
        self.wake(socket).map_or(Ok(accepted), |error| {
            // What was accepted before the interface vanished is lost with it.
            if accepted > 0 {
                Ok(accepted)
            } else {
                Err(SendError::Broken(error))
            }
        })
    }

    /// Writes one packet into a free frame and the ring, unpublished. The caller has made sure of
    /// both.
    #[inline]
    fn queue(
        &mut self,
        socket: &XdpSocket,
        umem: &Umem,
        item: &Outgoing<'_>,
    ) -> Result<(), Refusal> {
        let table = self.neighbours.table();
        let next_hop = table.next_hop(item.to.ip()).ok_or(Refusal::NoNextHop)?;
        let frame = self.free.last().copied().ok_or(Refusal::Full)?;
        // SAFETY: a frame on the free list belongs to nobody: the kernel has returned it or never
        // had it, and the list is borrowed mutably here, so there is no other borrow of it.
        let out = unsafe { umem.frame_mut(frame) };
        let len = self
            .framer
            .write(next_hop, item, out)
            .map_err(Refusal::Frame)?;
        let entry = self
            .ring
            .next(socket.transmit.shared())
            .ok_or(Refusal::Full)?;
        entry.write(umem.start_of(frame) as u64, u32::try_from(len).unwrap_or(0));
        self.free.pop();
        if let Some(flag) = self.in_flight.get_mut(frame.saturating_sub(self.first)) {
            *flag = true;
        }
        Ok(())
    }

    /// Counts a refusal and says it as the system would; without an allocation.
    #[cold]
    fn refuse(&mut self, refusal: Refusal, item: &Outgoing<'_>) -> io::Error {
        let (counter, code) = match refusal {
            Refusal::Full => return io::Error::from_raw_os_error(libc::EAGAIN),
            Refusal::NoNextHop => {
                self.neighbours.report(item.to.ip());
                (&mut self.stats.no_next_hop, libc::EHOSTUNREACH)
            }
            Refusal::Frame(error) => match error {
                FrameError::TooLong { .. } | FrameError::NoRoom { .. } => {
                    (&mut self.stats.too_long, error.code())
                }
                FrameError::FamilyMismatch | FrameError::NotIp => {
                    (&mut self.stats.unframeable, error.code())
                }
            },
        };
        *counter = counter.saturating_add(1);
        io::Error::from_raw_os_error(code)
    }

    /// Takes completed frames back; returns how many frames are free.
    #[inline]
    pub(super) fn reap(&mut self, socket: &XdpSocket, umem: &Umem) -> usize {
        let ring = socket.completion.shared();
        for _ in 0..self.completion.available(ring, u32::MAX) {
            let Some(entry) = self.completion.next(ring) else {
                break;
            };
            let offset = usize::try_from(entry.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
            let frame = umem.frame_of(offset);
            let place = frame.checked_sub(self.first);
            match place.and_then(|place| self.in_flight.get_mut(place)) {
                Some(flag) if *flag => {
                    *flag = false;
                    self.free.push(frame);
                }
                _ => self.stats.foreign_frames = self.stats.foreign_frames.saturating_add(1),
            }
        }
        self.completion.release(ring);
        self.free.len()
    }

    /// Lets the kernel send what is queued. An error means that the interface is gone.
    #[inline]
    pub(super) fn wake(&mut self, socket: &XdpSocket) -> Option<io::Error> {
        for _ in 0..WAKEUPS_MAX {
            if !self.must_wake {
                return None;
            }
            if !socket.transmit.needs_wakeup() {
                self.must_wake = false;
                return None;
            }
            match socket.wake_transmit() {
                Ok(()) => self.must_wake = false,
                Err(error) => match error.raw_os_error() {
                    // More than 32 packets were queued.
                    Some(libc::EAGAIN | libc::EINTR) => {}
                    Some(libc::EBUSY | libc::ENOBUFS | libc::ENETDOWN | libc::ENOMEM) => {
                        self.stats.wakeups_failed = self.stats.wakeups_failed.saturating_add(1);
                        return None;
                    }
                    _ => return Some(error),
                },
            }
        }
        None
    }
}
