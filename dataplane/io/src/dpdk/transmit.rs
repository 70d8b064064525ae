//! The sending half of a port.

use std::io;

use super::packets::{Device, Packets};
use crate::Outgoing;
use crate::burst::BURST_MAX;
use crate::frame::{FrameError, Framer};
use crate::neighbour::NeighbourReader;

/// What happened to packets that were to be sent. Counters since the port was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SendStats {
    /// Refused: the next hop is not known.
    pub no_next_hop: u64,
    /// Refused: longer than the link's MTU, or than a packet of the pool.
    pub too_long: u64,
    /// Refused: of another address family than our endpoint, or no IP packet.
    pub unframeable: u64,
    /// Left to the caller: the pool had no packet to put them in.
    pub no_packet: u64,
    /// Left to the caller: the device's queue was full.
    pub queue_full: u64,
}

/// Why a packet cannot be sent as it is.
enum Refusal {
    NoNextHop,
    Frame(FrameError),
}

/// A framer and packets to write into.
#[derive(Debug)]
pub(super) struct Transmit {
    packets: Packets,
    framer: Framer,
    neighbours: NeighbourReader,
    stats: SendStats,
}

impl Transmit {
    pub(super) fn new(framer: Framer, neighbours: NeighbourReader) -> Self {
        Self {
            packets: Packets::new(),
            framer,
            neighbours,
            stats: SendStats::default(),
        }
    }

    pub(super) const fn stats(&self) -> SendStats {
        self.stats
    }

    /// Sends a prefix of `items` and returns its length. An error means that the first of them
    /// cannot be sent as it is.
    #[inline]
    pub(super) fn send(
        &mut self,
        device: &Device,
        items: &[Outgoing<'_>],
    ) -> Result<usize, io::Error> {
        self.neighbours.update();
        let wanted = items.len().min(BURST_MAX);
        self.packets.allocate(device, wanted);
        let room = self.packets.views().len();
        let mut framed = 0_usize;
        let mut refused = None;
        for item in items.iter().take(room) {
            match self.write(framed, item) {
                Ok(()) => framed = framed.saturating_add(1),
                // Behind others the packet is the first of the caller's next call, which reports it.
                Err(refusal) => {
                    refused = Some((refusal, item)).filter(|_| framed == 0);
                    break;
                }
            }
        }
        let sent = self.packets.send(device, framed);
        if let Some((refusal, item)) = refused {
            return Err(self.refuse(&refusal, item));
        }
        let missing = wanted.saturating_sub(room) as u64;
        let waiting = framed.saturating_sub(sent) as u64;
        self.stats.no_packet = self.stats.no_packet.saturating_add(missing);
        self.stats.queue_full = self.stats.queue_full.saturating_add(waiting);
        Ok(sent)
    }

    /// Frames one packet into the allocated packet at `place`.
    #[inline]
    fn write(&mut self, place: usize, item: &Outgoing<'_>) -> Result<(), Refusal> {
        let table = self.neighbours.table();
        let next_hop = table.next_hop(item.to.ip()).ok_or(Refusal::NoNextHop)?;
        let room = self.packets.room(place);
        let len = self
            .framer
            .write(next_hop, item, room)
            .map_err(Refusal::Frame)?;
        self.packets.set_len(place, len);
        Ok(())
    }

    /// Counts a refusal and says it as the system would; without an allocation.
    #[cold]
    fn refuse(&mut self, refusal: &Refusal, item: &Outgoing<'_>) -> io::Error {
        let stats = &mut self.stats;
        let (counter, code) = match refusal {
            Refusal::NoNextHop => {
                self.neighbours.report(item.to.ip());
                (&mut stats.no_next_hop, libc::EHOSTUNREACH)
            }
            Refusal::Frame(error) => match error {
                FrameError::TooLong { .. } | FrameError::NoRoom { .. } => {
                    (&mut stats.too_long, error.code())
                }
                FrameError::FamilyMismatch | FrameError::NotIp => {
                    (&mut stats.unframeable, error.code())
                }
            },
        };
        *counter = counter.saturating_add(1);
        io::Error::from_raw_os_error(code)
    }
}
