//! The contract between packet back ends and the pipeline.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use qlink_kernel::prefetch_slice;
use qlink_wire::LinkType;

use crate::IoError;

/// Packets per burst (chosen: 32 hides table misses behind prefetches; 64 gains little more).
pub const BURST_MAX: usize = 32;

/// Where one received frame lies and what is known about it besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// First byte inside the source's memory; meaningful to [`PacketSource::frame`] only.
    pub offset: usize,
    /// Bytes present.
    pub len: u32,
    /// Bytes the frame had on the wire; larger than `len` when a capture was cut.
    pub orig_len: u32,
    /// Nanoseconds: since the Unix epoch in captures, [`crate::clock::now_ns`] in live back ends.
    pub timestamp_ns: u64,
    /// Who sent it, where the back end knows that outside the frame's own bytes (`udp`).
    pub peer: Option<SocketAddr>,
    /// What the first byte of the frame is.
    pub link: LinkType,
}

impl Descriptor {
    /// An empty frame; fills the unused places of a burst.
    pub(crate) const EMPTY: Self = Self {
        offset: 0,
        len: 0,
        orig_len: 0,
        timestamp_ns: 0,
        peer: None,
        link: LinkType::RawIp,
    };
}

/// Up to [`BURST_MAX`] descriptors, reused from burst to burst.
#[derive(Debug, Clone)]
pub struct Burst {
    descriptors: [Descriptor; BURST_MAX],
    len: usize,
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Burst {
    /// An empty burst.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            descriptors: [Descriptor::EMPTY; BURST_MAX],
            len: 0,
        }
    }

    /// Forgets every descriptor.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// Number of descriptors, 0 to [`BURST_MAX`].
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no descriptor.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another [`push`](Self::push) would be refused.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len >= BURST_MAX
    }

    /// Adds a descriptor; `false`, and nothing changes, when the burst is full.
    pub fn push(&mut self, descriptor: Descriptor) -> bool {
        let Some(place) = self.descriptors.get_mut(self.len) else {
            return false;
        };
        *place = descriptor;
        self.len = self.len.saturating_add(1);
        true
    }

    /// Replaces the content by the first [`BURST_MAX`] of `descriptors`.
    #[inline]
    pub fn refill(&mut self, descriptors: impl Iterator<Item = Descriptor>) {
        let mut len = 0_usize;
        for (place, descriptor) in self.descriptors.iter_mut().zip(descriptors) {
            *place = descriptor;
            len = len.saturating_add(1);
        }
        self.len = len;
    }

    /// Keeps, in order, the descriptors that `keep` says so of.
    pub fn retain(&mut self, mut keep: impl FnMut(&Descriptor) -> bool) {
        let mut kept = Self::new();
        for descriptor in self.iter().filter(|descriptor| keep(descriptor)) {
            kept.push(*descriptor);
        }
        *self = kept;
    }

    /// The descriptors in order of arrival.
    #[must_use]
    pub fn as_slice(&self) -> &[Descriptor] {
        self.descriptors.get(..self.len).unwrap_or_default()
    }

    /// The descriptors in order of arrival.
    pub fn iter(&self) -> std::slice::Iter<'_, Descriptor> {
        self.as_slice().iter()
    }
}

impl<'a> IntoIterator for &'a Burst {
    type Item = &'a Descriptor;
    type IntoIter = std::slice::Iter<'a, Descriptor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Where packets come from.
pub trait PacketSource {
    /// Replaces the content of `burst` with the next packets and returns how many there are;
    /// 0 means that nothing is there now, which only live back ends say.
    ///
    /// The frames of the previous burst are gone after this call.
    ///
    /// # Errors
    ///
    /// [`IoError::End`] when there will never be another packet, [`IoError::Capture`] for a
    /// malformed or cut capture (after all packets before the defect), [`IoError::Socket`] when
    /// the system refuses.
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError>;

    /// The bytes of a frame of the current burst; empty for a descriptor of another source.
    fn frame(&self, descriptor: &Descriptor) -> &[u8];

    /// Starts loading the headers of the current burst into the cache, as far as its source has not
    /// done so already.
    #[inline]
    fn prefetch(&self, burst: &Burst) {
        for descriptor in burst {
            prefetch_headers(self.frame(descriptor));
        }
    }
}

/// Starts loading the first two cache lines of a frame: as far as headers reach, also those of a
/// packet in a tunnel.
#[inline(always)]
pub(crate) fn prefetch_headers(frame: &[u8]) {
    prefetch_slice(frame, 0);
    prefetch_slice(frame, 64);
}

/// A packet to send: `head` then `body`, gathered by the sink, so that encapsulation writes a
/// few header bytes and never copies the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// What goes in front, for example a GTP-U header; may be empty.
    pub head: &'a [u8],
    /// The rest, usually a frame of the received burst.
    pub body: &'a [u8],
    /// The receiver.
    pub to: SocketAddr,
}

impl Outgoing<'_> {
    /// Fills the unused places of an array of packets.
    pub const EMPTY: Self = Self {
        head: &[],
        body: &[],
        to: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
    };

    /// Bytes of head and body together.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.head.len().saturating_add(self.body.len())
    }

    /// Whether there is no byte to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where packets go.
pub trait PacketSink {
    /// Sends a prefix of `items` and returns its length; the packets behind it were not sent.
    ///
    /// A caller handles every packet with this loop, each outcome having its own drop reason:
    ///
    /// ```
    /// # use qlink_io::{IoError, Outgoing, PacketSink};
    /// # fn send(sink: &mut impl PacketSink, mut rest: &[Outgoing<'_>]) -> Result<(), IoError> {
    /// while !rest.is_empty() {
    ///     match sink.send_burst(rest) {
    ///         Ok(0) => break, // the queue is full: drop the rest or try later
    ///         Ok(accepted) => rest = rest.get(accepted..).unwrap_or_default(),
    ///         Err(IoError::Refused { .. }) => rest = rest.get(1..).unwrap_or_default(),
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`IoError::Refused`] when the first packet can never be sent as it is (too long, no
    /// route); nothing was sent. [`IoError::Socket`] when the sink itself is broken.
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError>;
}

/// A live back end with a descriptor to wait on, or several, which sends through a shared borrow: a received
/// frame can go out through the port whose memory it lies in.
pub trait PacketPort: PacketSource + AsFd {
    /// [`PacketSink::send_burst`] through a shared borrow.
    ///
    /// # Errors
    ///
    /// As [`PacketSink::send_burst`].
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError>;

    /// Further descriptors to wait on, for a port that is made of several.
    fn more_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None; 2]
    }

    /// What the port, or the system in front of it, has dropped since it was opened. May ask the
    /// system: call it about once a second.
    fn losses(&mut self) -> Losses {
        Losses::default()
    }
}

/// Packets that never reached a burst. They only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Dropped in front of the port because they came faster than they were taken.
    pub full: u64,
    /// Dropped because they are for another address or port than ours.
    pub foreign: u64,
    /// Fragments that were dropped: no room, or inconsistent.
    pub fragments: u64,
    /// Fragments whose rest never came.
    pub expired: u64,
}

impl Losses {
    /// What both have lost together.
    #[must_use]
    pub const fn and(&self, other: &Self) -> Self {
        Self {
            full: self.full.saturating_add(other.full),
            foreign: self.foreign.saturating_add(other.foreign),
            fragments: self.fragments.saturating_add(other.fragments),
            expired: self.expired.saturating_add(other.expired),
        }
    }

    /// What has been lost since `before`.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            full: self.full.saturating_sub(before.full),
            foreign: self.foreign.saturating_sub(before.foreign),
            fragments: self.fragments.saturating_sub(before.fragments),
            expired: self.expired.saturating_sub(before.expired),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_burst_refuses_the_thirty_third_descriptor() {
        let mut burst = Burst::new();
        for offset in 0..BURST_MAX {
            assert!(burst.push(Descriptor {
                offset,
                ..Descriptor::EMPTY
            }));
        }

        let refused = !burst.push(Descriptor {
            offset: 99,
            ..Descriptor::EMPTY
        });

        assert!(refused && burst.is_full());
        let offsets: Vec<usize> = burst.iter().map(|d| d.offset).collect();
        assert_eq!(offsets, (0..BURST_MAX).collect::<Vec<_>>());
    }

    #[test]
    fn a_refilled_burst_has_the_new_descriptors_alone_and_no_thirty_third() {
        let numbered = |count| {
            (0..count).map(|offset| Descriptor {
                offset,
                ..Descriptor::EMPTY
            })
        };
        let offsets = |burst: &Burst| burst.iter().map(|d| d.offset).collect::<Vec<_>>();
        let mut burst = Burst::new();

        burst.refill(numbered(BURST_MAX + 1));
        assert_eq!(offsets(&burst), (0..BURST_MAX).collect::<Vec<_>>());
        burst.refill(numbered(2));
        assert_eq!(offsets(&burst), [0, 1]);
    }

    #[test]
    fn what_is_not_kept_is_gone_and_the_rest_stays_in_order() {
        let mut burst = Burst::new();
        for offset in 0..5 {
            burst.push(Descriptor {
                offset,
                ..Descriptor::EMPTY
            });
        }

        burst.retain(|descriptor| descriptor.offset % 2 == 0);

        let offsets: Vec<usize> = burst.iter().map(|d| d.offset).collect();
        assert_eq!(offsets, [0, 2, 4]);
    }

    #[test]
    fn a_cleared_burst_is_empty() {
        let mut burst = Burst::new();
        burst.push(Descriptor::EMPTY);

        burst.clear();

        assert!(burst.is_empty());
        assert_eq!(burst.iter().count(), 0);
    }
}
