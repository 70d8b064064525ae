//! A UDP endpoint on a port that gives whole frames, where no kernel stands behind.
//!
//! ```text
//! frame --> for our address and port? --> whole?  --> payload with its sender, like a socket's
//!              no: dropped, counted       fragment: kept until the rest is there
//! ```
//!
//! Fragments are put together in bounded memory ([`ReassemblyLimits`]). UDP checksums are left to
//! the card, which refuses damaged packets; the inner packets have their own.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use qlink_wire::{
    LinkType, Reassembler, ReassemblyLimits, parse_ip, parse_udp, protocol, strip_link,
};

use crate::udp::DATAGRAM_MAX;
use crate::{BURST_MAX, Burst, Descriptor, IoError, Losses, Outgoing, PacketPort, PacketSource};

/// Bursts without anything for us that one call steps over (chosen: a call stays short).
const FOREIGN_BURSTS_MAX: usize = 8;

/// A port's frames as datagrams of one endpoint. Packets to be sent go to the port as they are.
#[derive(Debug)]
pub struct RawEndpoint<P> {
    port: P,
    local: SocketAddr,
    frames: Burst,
    places: [Place; BURST_MAX],
    fragments: Reassembler,
    /// Datagrams that were put together in the current burst, one behind the other.
    joined: Box<[u8]>,
    joined_len: usize,
    foreign: u64,
    refused: u64,
}

/// Where the payload of a datagram lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In a frame of the port.
    Frame {
        frame: Descriptor,
        start: usize,
        len: usize,
    },
    /// Among those put together.
    Joined { start: usize, len: usize },
}

/// What a frame turned out to be.
enum Found {
    Datagram(SocketAddr, Place),
    /// A fragment that waits for the rest.
    Waits,
    Foreign,
    /// A fragment that cannot be kept.
    Refused,
}

impl<P> RawEndpoint<P> {
    /// An endpoint at `local` of `port`.
    #[must_use]
    pub fn new(port: P, local: SocketAddr) -> Self {
        Self {
            port,
            local,
            frames: Burst::new(),
            places: [Place::Joined { start: 0, len: 0 }; BURST_MAX],
            fragments: Reassembler::new(ReassemblyLimits::default()),
            joined: vec![0; DATAGRAM_MAX.saturating_mul(BURST_MAX)].into_boxed_slice(),
            joined_len: 0,
            foreign: 0,
            refused: 0,
        }
    }
}

impl<P: PacketSource> RawEndpoint<P> {
    /// Turns the frames of the port's burst into datagrams.
    fn deliver(&mut self, burst: &mut Burst) {
        self.joined_len = 0;
        for frame in &self.frames {
            let bytes = self.port.frame(frame);
            let joined = (&mut self.joined, &mut self.joined_len);
            let found = look(frame, bytes, self.local, &mut self.fragments, joined);
            match found.unwrap_or(Found::Foreign) {
                Found::Datagram(peer, place) => {
                    let number = burst.len();
                    let (Place::Frame { len, .. } | Place::Joined { len, .. }) = place;
                    let len = u32::try_from(len).unwrap_or(0);
                    let taken = burst.push(Descriptor {
                        offset: number,
                        len,
                        orig_len: len,
                        timestamp_ns: frame.timestamp_ns,
                        peer: Some(peer),
                        link: LinkType::RawIp,
                    });
                    if let (true, Some(free)) = (taken, self.places.get_mut(number)) {
                        *free = place;
                    }
                }
                Found::Waits => {}
                Found::Foreign => self.foreign = self.foreign.saturating_add(1),
                Found::Refused => self.refused = self.refused.saturating_add(1),
            }
        }
    }
}

/// Looks at one frame; `None` where a header is missing.
#[inline]
fn look(
    frame: &Descriptor,
    bytes: &[u8],
    local: SocketAddr,
    fragments: &mut Reassembler,
    (joined, joined_len): (&mut Box<[u8]>, &mut usize),
) -> Option<Found> {
    let packet = strip_link(frame.link, bytes).ok()?;
    let ip = parse_ip(packet).ok()?;
    if ip.dst != local.ip() || ip.protocol != protocol::UDP && ip.fragment.is_none() {
        return None;
    }
    let is_fragment = ip.fragment.is_some();
    let Ok(whole) = fragments.push(&ip, frame.timestamp_ns) else {
        return Some(Found::Refused);
    };
    let Some(whole) = whole else {
        return Some(Found::Waits);
    };
    if whole.protocol != protocol::UDP {
        return None;
    }
    let udp = parse_udp(whole.payload).ok()?;
    if udp.dst_port != local.port() {
        return None;
    }
    let peer = SocketAddr::new(whole.src, udp.src_port);
    let len = udp.payload.len();
    if is_fragment {
        let start = *joined_len;
        let end = start.checked_add(len)?;
        let Some(place) = joined.get_mut(start..end) else {
            return Some(Found::Refused);
        };
        place.copy_from_slice(udp.payload);
        *joined_len = end;
        return Some(Found::Datagram(peer, Place::Joined { start, len }));
    }
    let link_len = bytes.len().checked_sub(packet.len())?;
    let start = link_len
        .checked_add(ip.header_len.into())?
        .checked_add(UDP_HEADER)?;
    let frame = *frame;
    Some(Found::Datagram(peer, Place::Frame { frame, start, len }))
}

/// Bytes of a UDP header. Source: RFC 768.
const UDP_HEADER: usize = 8;

impl<P: PacketSource> PacketSource for RawEndpoint<P> {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        for _ in 0..FOREIGN_BURSTS_MAX {
            if self.port.recv_burst(&mut self.frames)? == 0 {
                break;
            }
            self.deliver(burst);
            if !burst.is_empty() {
                break;
            }
        }
        Ok(burst.len())
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let (bytes, start, len) = match self.places.get(descriptor.offset) {
            Some(Place::Frame { frame, start, len }) => (self.port.frame(frame), *start, *len),
            Some(Place::Joined { start, len }) => (self.joined.as_ref(), *start, *len),
            None => return &[],
        };
        let end = start.saturating_add(len);
        bytes.get(start..end).unwrap_or_default()
    }
}

impl<P: PacketPort> PacketPort for RawEndpoint<P> {
    #[inline]
    fn send(&self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.port.send(items)
    }

    fn more_fds(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.port.more_fds()
    }

    fn losses(&mut self) -> Losses {
        self.fragments.expire(crate::clock::now_ns());
        self.port.losses().and(&Losses {
            full: 0,
            foreign: self.foreign,
            fragments: self.refused,
            expired: self.fragments.stats().fragments_expired,
        })
    }
}

impl<P: AsFd> AsFd for RawEndpoint<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.as_fd()
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
