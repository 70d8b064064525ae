//! Packets of one direction, copied out of the ring in the form in which the pipeline takes them.

use std::net::SocketAddr;

use qlink_io::{BURST_MAX, Burst, Descriptor, IoError, Outgoing, PacketSink, PacketSource};
use qlink_wire::LinkType;

/// Longest packet: what the length field of IPv4 can say.
const PACKET_MAX: usize = 65_535;

/// A burst of copies. Its memory is taken once.
///
/// Copies, and not the frames themselves, because a packet may have come in fragments or wait for
/// its session; 1400 bytes take some 30 ns of the microsecond that the kernel takes for the frame.
#[derive(Debug)]
pub(super) struct Copies {
    bytes: Box<[u8]>,
    used: usize,
    burst: Burst,
}

impl Copies {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; PACKET_MAX.saturating_mul(BURST_MAX)].into_boxed_slice(),
            used: 0,
            burst: Burst::new(),
        }
    }

    pub(super) const fn burst(&self) -> &Burst {
        &self.burst
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.burst.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.burst.is_full()
    }

    pub(super) const fn clear(&mut self) {
        self.burst.clear();
        self.used = 0;
    }

    /// Adds a packet as a socket would have given it, or with `peer` absent a plain one; nothing
    /// happens where there is no room.
    pub(super) fn push(&mut self, packet: &[u8], peer: Option<SocketAddr>, now_ns: u64) {
        let end = self.used.saturating_add(packet.len());
        let (Some(place), Ok(len)) = (
            self.bytes.get_mut(self.used..end),
            u32::try_from(packet.len()),
        ) else {
            return;
        };
        place.copy_from_slice(packet);
        let taken = self.burst.push(Descriptor {
            offset: self.used,
            len,
            orig_len: len,
            timestamp_ns: now_ns,
            peer,
            link: LinkType::RawIp,
        });
        if taken {
            self.used = end;
        }
    }
}

impl PacketSource for Copies {
    /// Copies are pushed; there is nothing to receive.
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        Ok(0)
    }

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let end = descriptor.offset.saturating_add(descriptor.len as usize);
        self.bytes.get(descriptor.offset..end).unwrap_or_default()
    }
}

/// Where packets of a tap go: they have gone their way already.
#[derive(Debug)]
pub(super) struct Nowhere;

impl PacketSink for Nowhere {
    #[inline]
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        Ok(items.len())
    }
}
