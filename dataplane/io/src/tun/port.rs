//! The port: bursts out of and into an interface.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use qlink_wire::LinkType;

use super::config::{MTU_MAX, TunConfig};
use super::device::{self, TunError};
use crate::burst::BURST_MAX;
use crate::wait::{Ready, wait};
use crate::{Burst, Descriptor, IoError, Outgoing, PacketPort, PacketSink, PacketSource, clock};

/// Longest packet received, bytes: the largest MTU.
pub const PACKET_MAX: usize = MTU_MAX as usize;

/// A place is longer than any packet, so that one that fills it was cut.
const PLACE: usize = PACKET_MAX + 64;

/// Longest list of interfaces read for [`TunPort::queue_drops`], bytes (chosen: 5,000 of them).
const LIST_MAX: u64 = 1 << 20;

/// What a port has done. Counters since opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunStats {
    /// Packets received.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets that the kernel took.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets that the kernel refused: no IP packet, or the interface is down.
    pub refused: u64,
    /// Packets longer than [`PACKET_MAX`], dropped: somebody raised the MTU.
    pub truncated: u64,
}

/// An open TUN interface with its own receive memory. It goes away with the port, unless it was
/// made persistent by somebody else.
#[derive(Debug)]
pub struct TunPort {
    device: File,
    name: String,
    /// [`BURST_MAX`] places of [`PLACE`] bytes.
    slab: Box<[u8]>,
    stats: Cell<TunStats>,
}

impl TunPort {
    /// Takes the interface of `config` in the calling thread's network namespace, making it if
    /// needed; sets it up as far as `config` says, and brings it up then.
    ///
    /// A name that another process has is tried for 2 s, because it stays taken for a moment after
    /// that process ended.
    ///
    /// # Errors
    ///
    /// [`TunError`].
    pub fn open(config: &TunConfig) -> Result<Self, TunError> {
        let (device, name) = device::open(config)?;
        Ok(Self {
            device,
            name,
            slab: vec![0; BURST_MAX * PLACE].into_boxed_slice(),
            stats: Cell::default(),
        })
    }

    /// Another port on the same queue, for another worker: each packet goes to one of them.
    ///
    /// # Errors
    ///
    /// The system's reason when it gives no descriptor.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            device: self.device.try_clone()?,
            name: self.name.clone(),
            slab: vec![0; BURST_MAX * PLACE].into_boxed_slice(),
            stats: Cell::default(),
        })
    }

    /// The interface's name, with the number that the kernel chose.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counters since opening.
    #[must_use]
    pub const fn stats(&self) -> TunStats {
        self.stats.get()
    }

    /// Packets that the kernel had for this port and dropped because its queue was full; since the
    /// interface was made. Reads a file: for reports, not per burst.
    ///
    /// # Errors
    ///
    /// The system's reason; `NotFound` when the interface is gone.
    pub fn queue_drops(&self) -> io::Result<u64> {
        let mut list = String::new();
        // The calling thread's network namespace, which may differ from the process's.
        File::open("/proc/thread-self/net/dev")?
            .take(LIST_MAX)
            .read_to_string(&mut list)?;
        transmit_drops(&list, &self.name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Sleeps until a packet is there or `timeout` has passed (`None` = for ever); `true` if one
    /// is. Use [`wait()`] for several ports.
    ///
    /// # Errors
    ///
    /// [`IoError::Device`].
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, IoError> {
        wait(&[self.as_fd()], timeout)
            .map(Ready::any)
            .map_err(|error| self.failed("poll", error))
    }

    /// [`PacketSink::send_burst`] through a shared borrow. The receiver's address is not used: the
    /// packet's own destination decides.
    ///
    /// # Errors
    ///
    /// As [`PacketSink::send_burst`], with [`IoError::Device`] for a broken port.
    pub fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        let mut accepted = 0_usize;
        for item in items {
            match self.send_one(item) {
                Ok(Sent::Taken) => accepted = accepted.saturating_add(1),
                Ok(Sent::Full) => break,
                // The packet is the first of the caller's next call, which reports it.
                Err(_) if accepted > 0 => break,
                Err(error) => {
                    if matches!(error, IoError::Refused { .. }) {
                        self.count(|stats| add(&mut stats.refused, 1));
                    }
                    return Err(error);
                }
            }
        }
        Ok(accepted)
    }

    fn send_one(&self, item: &Outgoing<'_>) -> Result<Sent, IoError> {
        loop {
            let error = match device::write_packet(self.as_fd(), item.head, item.body) {
                Ok(bytes) => {
                    self.count(|stats| {
                        add(&mut stats.sent_packets, 1);
                        add(&mut stats.sent_bytes, bytes as u64);
                    });
                    return Ok(Sent::Taken);
                }
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => return Ok(Sent::Full),
                Some(libc::EBADF | libc::EBADFD) => return Err(self.failed("send", error)),
                _ => {
                    return Err(IoError::Refused {
                        len: item.len(),
                        to: item.to,
                        source: error,
                    });
                }
            }
        }
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> IoError {
        IoError::Device {
            operation,
            name: self.name.clone(),
            source,
        }
    }

    fn count(&self, change: impl FnOnce(&mut TunStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

/// What became of one packet.
enum Sent {
    Taken,
    Full,
}

fn add(counter: &mut u64, amount: u64) {
    *counter = counter.saturating_add(amount);
}

/// Column "transmit drop" of an interface in the kernel's list: eight numbers about receiving come
/// first, then bytes, packets and errors. What the interface transmits comes to us.
fn transmit_drops(list: &str, name: &str) -> Option<u64> {
    list.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(interface, _)| interface.trim() == name)
        .and_then(|(_, numbers)| numbers.split_whitespace().nth(11))
        .and_then(|number| number.parse().ok())
}

impl PacketSource for TunPort {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        let timestamp_ns = clock::now_ns();
        let mut stats = self.stats.get();
        let mut device = &self.device;
        let mut broken = None;
        for (number, place) in self.slab.chunks_exact_mut(PLACE).enumerate() {
            let length = match device.read(place) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            };
            if length > PACKET_MAX {
                add(&mut stats.truncated, 1);
                continue;
            }
            let len = u32::try_from(length).unwrap_or(0);
            add(&mut stats.received_packets, 1);
            add(&mut stats.received_bytes, len.into());
            burst.push(Descriptor {
                offset: number.saturating_mul(PLACE),
                len,
                orig_len: len,
                timestamp_ns,
                peer: None,
                link: LinkType::RawIp,
            });
        }
        self.stats.set(stats);
        match broken {
            // What was read before is delivered; a broken port says so again at the next call.
            Some(error) if burst.is_empty() => Err(self.failed("receive", error)),
            _ => Ok(burst.len()),
        }
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let end = descriptor.offset.saturating_add(descriptor.len as usize);
        self.slab.get(descriptor.offset..end).unwrap_or_default()
    }
}

impl PacketSink for TunPort {
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }
}

impl PacketPort for TunPort {
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.send(items)
    }
}

impl AsFd for TunPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::transmit_drops;

    #[test]
    fn drops_are_read_from_the_right_line_and_column() {
        let list = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
                    tun12:   1 2 3 4 5 6 7 8 9 10 11 99 13 14 15 16\n";

        assert_eq!(transmit_drops(list, "lo"), Some(12));
        assert_eq!(transmit_drops(list, "tun12"), Some(99));
        assert_eq!(transmit_drops(list, "tun1"), None);
    }
}
