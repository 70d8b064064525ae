//! Packets from and to memory, for benches and tests.

use qlink_wire::LinkType;

use crate::burst::{BURST_MAX, prefetch_headers};
use crate::{Burst, Descriptor, IoError, Outgoing, PacketSink, PacketSource, clock, huge};

/// As in the buffers of a card, a frame begins a cache line, and the buffers have huge pages.
const FRAME_ALIGN: usize = 64;

/// Prepared frames in one slab, delivered in order, the whole list several times.
///
/// [`PacketSource::recv_burst`] only writes descriptors: no copy, no allocation. As a card does, it
/// brings the headers of frames into the cache before it tells of them: those of the next burst.
#[derive(Debug)]
pub struct MemSource {
    slab: Vec<u8>,
    /// Offset and length of each frame in the slab.
    frames: Vec<(usize, u32)>,
    link: LinkType,
    next: usize,
    rounds_left: u64,
    clock: MemClock,
}

/// Where the time stamps of a [`MemSource`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemClock {
    /// [`clock::now_ns`] once per burst.
    Monotonic,
    /// A virtual clock, the same in every run: the first frame has `next_ns`, each further one
    /// `step_ns` more.
    Virtual {
        /// Time stamp of the next frame, nanoseconds.
        next_ns: u64,
        /// Distance between two frames, nanoseconds.
        step_ns: u64,
    },
}

impl MemSource {
    /// Copies `frames` into one slab, to be delivered `repeats` times (0 = never).
    #[must_use]
    pub fn new(frames: Vec<Vec<u8>>, link: LinkType, repeats: u64) -> Self {
        let mut source = Self {
            slab: huge::room(
                frames
                    .iter()
                    .map(|frame| frame.len().saturating_add(FRAME_ALIGN))
                    .sum(),
            ),
            frames: Vec::with_capacity(frames.len()),
            link,
            next: 0,
            rounds_left: 0,
            clock: MemClock::Monotonic,
        };
        for frame in frames {
            source.push(&frame);
        }
        source.rounds_left = if source.frames.is_empty() { 0 } else { repeats };
        source
    }

    /// Forgets every frame; the memory stays for the next ones.
    pub fn clear(&mut self) {
        self.slab.clear();
        self.frames.clear();
        self.next = 0;
        self.rounds_left = 0;
    }

    /// Adds a frame; all that there are will be delivered once, from the first on.
    pub fn push(&mut self, frame: &[u8]) {
        // A longer frame than 4 GiB does not exist; it would be cut, never misread.
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let end = self.slab.as_ptr_range().end;
        let gap = end.align_offset(FRAME_ALIGN).min(FRAME_ALIGN);
        let start = self.slab.len().saturating_add(gap);
        self.slab.resize(start, 0);
        self.frames.push((start, length));
        self.slab.extend_from_slice(frame);
        self.next = 0;
        self.rounds_left = 1;
    }

    /// The same source with another clock.
    #[must_use]
    pub const fn with_clock(mut self, clock: MemClock) -> Self {
        self.clock = clock;
        self
    }

    /// Time of the next frame, and the step to the one after it.
    fn start_of_burst(&self) -> (u64, u64) {
        match self.clock {
            MemClock::Monotonic => (clock::now_ns(), 0),
            MemClock::Virtual { next_ns, step_ns } => (next_ns, step_ns),
        }
    }
}

impl PacketSource for MemSource {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        if self.rounds_left == 0 {
            return Err(IoError::End);
        }
        let (mut now, step) = self.start_of_burst();
        let places = self.frames.get(self.next..).unwrap_or_default();
        burst.refill(places.iter().map(|&(offset, len)| {
            let timestamp_ns = now;
            now = now.saturating_add(step);
            Descriptor {
                offset,
                len,
                orig_len: len,
                timestamp_ns,
                peer: None,
                link: self.link,
            }
        }));
        if let MemClock::Virtual { next_ns, .. } = &mut self.clock {
            *next_ns = now;
        }
        self.next = self.next.saturating_add(burst.len());
        if self.next >= self.frames.len() {
            self.next = 0;
            self.rounds_left = self.rounds_left.saturating_sub(1);
        }
        let ahead = self.frames.get(self.next..).unwrap_or_default();
        for (offset, _) in ahead.iter().take(BURST_MAX) {
            prefetch_headers(self.slab.get(*offset..).unwrap_or_default());
        }
        Ok(burst.len())
    }

    /// [`Self::recv_burst`] has done it.
    fn prefetch(&self, _: &Burst) {}

    #[inline]
    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let from = self.slab.get(descriptor.offset..);
        from.and_then(|from| from.get(..descriptor.len as usize))
            .unwrap_or_default()
    }
}

/// Counts what is sent to it and can keep copies.
#[derive(Debug, Default)]
pub struct MemSink {
    packets: u64,
    bytes: u64,
    kept: Option<Vec<SentPacket>>,
}

/// A packet that a [`MemSink`] kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentPacket {
    /// The receiver.
    pub to: std::net::SocketAddr,
    /// Head and body joined.
    pub bytes: Vec<u8>,
}

impl MemSink {
    /// A sink that only counts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A sink that keeps a copy of every packet, for tests; memory grows without bound.
    #[must_use]
    pub const fn keeping() -> Self {
        Self {
            packets: 0,
            bytes: 0,
            kept: Some(Vec::new()),
        }
    }

    /// Packets accepted so far.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes of all packets accepted so far, heads and bodies.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The copies, in order; empty for a sink that only counts.
    #[must_use]
    pub fn kept(&self) -> &[SentPacket] {
        self.kept.as_deref().unwrap_or_default()
    }
}

impl PacketSink for MemSink {
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        for item in items {
            self.packets = self.packets.saturating_add(1);
            self.bytes = self.bytes.saturating_add(item.len() as u64);
            if let Some(kept) = &mut self.kept {
                kept.push(SentPacket {
                    to: item.to,
                    bytes: [item.head, item.body].concat(),
                });
            }
        }
        Ok(items.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_were_pushed_are_delivered_once_and_cleared_ones_never() {
        let mut source = MemSource::new(vec![b"old".to_vec()], LinkType::RawIp, 7);
        source.clear();
        source.push(b"one");
        source.push(b"two");

        let seen = drain(&mut source);

        let seen: Vec<&[u8]> = seen.iter().map(|(_, frame)| &frame[..]).collect();
        assert_eq!(seen, [b"one", b"two"]);
    }

    fn drain(source: &mut MemSource) -> Vec<(u64, Vec<u8>)> {
        let mut burst = Burst::new();
        let mut seen = Vec::new();
        loop {
            match source.recv_burst(&mut burst) {
                Ok(_) => seen.extend(
                    burst
                        .iter()
                        .map(|d| (d.timestamp_ns, source.frame(d).to_vec())),
                ),
                Err(IoError::End) => return seen,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn every_frame_comes_in_order_as_often_as_asked() {
        let frames: Vec<Vec<u8>> = (0..70_u8).map(|i| vec![i; usize::from(i)]).collect();
        let mut source = MemSource::new(frames.clone(), LinkType::RawIp, 3);

        let seen = drain(&mut source);

        assert_eq!(seen.len(), 210);
        for (index, (_, frame)) in seen.iter().enumerate() {
            assert_eq!(frame, &frames[index % 70]);
        }
    }

    #[test]
    fn a_virtual_clock_gives_the_same_stamps_in_every_run() {
        let clock = MemClock::Virtual {
            next_ns: 100,
            step_ns: 10,
        };
        let mut source =
            MemSource::new(vec![vec![1], vec![2]], LinkType::RawIp, 2).with_clock(clock);

        let stamps: Vec<u64> = drain(&mut source).into_iter().map(|(at, _)| at).collect();

        assert_eq!(stamps, [100, 110, 120, 130]);
    }

    #[test]
    fn no_frames_or_no_repeats_is_the_end_at_once() {
        let mut burst = Burst::new();
        let mut empty = MemSource::new(vec![], LinkType::RawIp, u64::MAX);
        let mut never = MemSource::new(vec![vec![1]], LinkType::RawIp, 0);

        assert!(matches!(empty.recv_burst(&mut burst), Err(IoError::End)));
        assert!(matches!(never.recv_burst(&mut burst), Err(IoError::End)));
    }

    #[test]
    fn a_descriptor_of_another_source_has_no_bytes() {
        let source = MemSource::new(vec![vec![1; 10]], LinkType::RawIp, 1);
        let foreign = Descriptor {
            offset: usize::MAX,
            len: 4,
            orig_len: 4,
            timestamp_ns: 0,
            peer: None,
            link: LinkType::RawIp,
        };

        assert!(source.frame(&foreign).is_empty());
    }

    #[test]
    fn a_sink_counts_and_keeps_head_and_body() {
        let mut sink = MemSink::keeping();
        let to = "127.0.0.1:2152".parse().unwrap();

        let sent = sink
            .send_burst(
                &[Outgoing {
                    head: b"he",
                    body: b"ad",
                    to,
                }; 2],
            )
            .unwrap();

        assert_eq!((sent, sink.packets(), sink.bytes()), (2, 2, 8));
        assert_eq!(
            sink.kept()[1],
            SentPacket {
                to,
                bytes: b"head".to_vec()
            }
        );
        assert!(MemSink::new().kept().is_empty());
    }
}
