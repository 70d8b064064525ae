//! The reader: a fixed window over the file and the choice of format.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use qlink_wire::LinkType;

use super::classic::Classic;
use super::ng::Sections;
use super::{CaptureError, PACKET_MAX};
use crate::{Burst, Descriptor, IoError, PacketSource};

/// Bytes held at once (chosen: twice the longest block, so that compacting is rare).
const WINDOW_BYTES: usize = 1 << 20;

/// Bytes read at once (chosen: a quarter of the second-level cache of a small core, so that what was
/// read is still there when it is looked at).
const READ_BYTES: usize = 1 << 18;

/// Longest block that is looked into: a packet of the longest length with plenty of options.
pub(super) const BLOCK_MAX: usize = WINDOW_BYTES / 2;

/// The byte order of a file or section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }

    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        }
    }

    pub(super) const fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Big => u64::from_be_bytes(bytes),
            Self::Little => u64::from_le_bytes(bytes),
        }
    }
}

/// What stands at the beginning of the bytes that a format was shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A packet in a record of `record` bytes.
    Packet { record: usize, packet: Packet },
    /// A record of that many bytes that holds no packet; it may be longer than the window.
    Skip(u64),
    /// A packet that cannot be delivered because of its link type, in a record of that length.
    Unsupported(usize),
    /// At least this many bytes must be shown, at most [`BLOCK_MAX`].
    Need(usize),
}

/// A packet inside its record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) data: Range<usize>,
    pub(super) orig_len: u32,
    pub(super) timestamp_ns: u64,
    pub(super) link: LinkType,
}

#[derive(Debug)]
enum Format {
    Classic(Classic),
    Ng(Sections),
}

/// Counters of one capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaptureStats {
    /// Packets delivered.
    pub packets: u64,
    /// Packets of interfaces with an unsupported link type, left out.
    pub unsupported_link: u64,
}

/// Reads the packets of a pcap or pcapng file, or of any other reader.
#[derive(Debug)]
pub struct PcapSource<R = File> {
    window: Window<R>,
    format: Format,
    stats: CaptureStats,
    /// Bytes of a skipped record that are still to come.
    skip: u64,
    ended: bool,
}

impl PcapSource<File> {
    /// Opens the file at `path` and reads its first header.
    ///
    /// # Errors
    ///
    /// [`CaptureError::Read`], [`CaptureError::UnknownMagic`], [`CaptureError::Truncated`],
    /// [`CaptureError::UnsupportedLink`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CaptureError> {
        let file = File::open(path).map_err(|source| CaptureError::Read { offset: 0, source })?;
        Self::new(file)
    }
}

impl<R: Read> PcapSource<R> {
    /// Reads the first header from `reader`, which needs no buffer of its own.
    ///
    /// # Errors
    ///
    /// As [`open`](PcapSource::open).
    pub fn new(reader: R) -> Result<Self, CaptureError> {
        let mut window = Window::new(reader);
        let head = window.need(4)?;
        let magic: [u8; 4] = head.first_chunk().copied().unwrap_or_default();
        let format = if magic == super::ng::SECTION_TYPE {
            Format::Ng(Sections::default())
        } else if let Some(kind) = Classic::kind(magic) {
            let header = window.need(super::classic::HEADER_BYTES)?;
            let classic = Classic::parse(kind, header)?;
            window.consume(super::classic::HEADER_BYTES);
            Format::Classic(classic)
        } else {
            return Err(CaptureError::UnknownMagic {
                found: u32::from_be_bytes(magic),
            });
        };
        Ok(Self {
            window,
            format,
            stats: CaptureStats::default(),
            skip: 0,
            ended: false,
        })
    }

    /// Packets delivered and left out so far.
    #[must_use]
    pub const fn stats(&self) -> CaptureStats {
        self.stats
    }

    /// Reads records into `burst` until it is full or more bytes must be read from the file.
    fn fill(&mut self, burst: &mut Burst) -> Result<(), IoError> {
        while !burst.is_full() {
            self.skip = self.window.skip(self.skip);
            let step = if self.skip > 0 {
                Step::Need(1)
            } else {
                self.next_step()?
            };
            match step {
                Step::Packet { record, packet } => {
                    burst.push(self.window.describe(&packet));
                    self.window.consume(record);
                    self.stats.packets = self.stats.packets.saturating_add(1);
                }
                Step::Unsupported(record) => {
                    self.window.consume(record);
                    self.stats.unsupported_link = self.stats.unsupported_link.saturating_add(1);
                }
                Step::Skip(record) => self.skip = record,
                // Reading moves the window, and the burst points into it.
                Step::Need(_) if !burst.is_empty() => return Ok(()),
                Step::Need(wanted) => self.read(wanted)?,
            }
        }
        Ok(())
    }

    fn next_step(&mut self) -> Result<Step, CaptureError> {
        let (bytes, offset) = (self.window.present(), self.window.offset());
        match &mut self.format {
            Format::Classic(classic) => classic.step(bytes, offset),
            Format::Ng(sections) => sections.step(bytes, offset),
        }
    }

    /// Makes `wanted` bytes present; the end of the file between two records is the end.
    fn read(&mut self, wanted: usize) -> Result<(), IoError> {
        if self.window.is_at_end()? && self.skip == 0 {
            return Err(IoError::End);
        }
        self.window.need(wanted)?;
        Ok(())
    }
}

impl<R: Read> PacketSource for PcapSource<R> {
    fn recv_burst(&mut self, burst: &mut Burst) -> Result<usize, IoError> {
        burst.clear();
        if self.ended {
            return Err(IoError::End);
        }
        match self.fill(burst) {
            // A defect behind good packets shows again in the next call.
            Err(_) if !burst.is_empty() => Ok(burst.len()),
            Err(error) => {
                self.ended = true;
                Err(error)
            }
            Ok(()) => Ok(burst.len()),
        }
    }

    fn frame(&self, descriptor: &Descriptor) -> &[u8] {
        let end = descriptor.offset.saturating_add(descriptor.len as usize);
        self.window
            .buffer
            .get(descriptor.offset..end)
            .unwrap_or_default()
    }
}

/// A part of the file in memory: `buffer[start..end]` is unread.
#[derive(Debug)]
struct Window<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Offset in the file of `buffer[0]`.
    base: u64,
}

impl<R: Read> Window<R> {
    fn new(reader: R) -> Self {
        let buffer = vec![0; WINDOW_BYTES].into_boxed_slice();
        Self {
            reader,
            buffer,
            start: 0,
            end: 0,
            base: 0,
        }
    }

    fn present(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    const fn offset(&self) -> u64 {
        self.base.saturating_add(self.start as u64)
    }

    fn consume(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.end);
    }

    /// Consumes up to `bytes` of what is present; what remains to be skipped.
    fn skip(&mut self, bytes: u64) -> u64 {
        let present = self.present().len();
        let now = usize::try_from(bytes).map_or(present, |bytes| bytes.min(present));
        self.consume(now);
        bytes.saturating_sub(now as u64)
    }

    fn describe(&self, packet: &Packet) -> Descriptor {
        // Both formats refuse packets above `PACKET_MAX`, so the length always fits.
        let len = u32::try_from(packet.data.len()).unwrap_or(PACKET_MAX);
        Descriptor {
            offset: self.start.saturating_add(packet.data.start),
            len,
            // A capture that claims less on the wire than it holds is corrected.
            orig_len: packet.orig_len.max(len),
            timestamp_ns: packet.timestamp_ns,
            peer: None,
            link: packet.link,
        }
    }

    /// Whether no byte is left, in memory or in the file.
    fn is_at_end(&mut self) -> Result<bool, CaptureError> {
        Ok(self.present().is_empty() && self.read_more()? == 0)
    }

    /// At least `wanted` unread bytes (at most [`BLOCK_MAX`]); frames delivered before are gone.
    fn need(&mut self, wanted: usize) -> Result<&[u8], CaptureError> {
        while self.present().len() < wanted {
            let present = self.present().len() as u64;
            if self.read_more()? == 0 {
                let (offset, wanted) = (self.offset(), wanted as u64);
                return Err(CaptureError::Truncated {
                    offset,
                    wanted,
                    present,
                });
            }
        }
        Ok(self.present())
    }

    /// Moves the unread bytes to the front and reads once; 0 at the end of the file.
    fn read_more(&mut self) -> Result<usize, CaptureError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base = self.base.saturating_add(self.start as u64);
        self.end = self.end.saturating_sub(self.start);
        self.start = 0;
        loop {
            let stop = self.end.saturating_add(READ_BYTES).min(self.buffer.len());
            let room = self.buffer.get_mut(self.end..stop).unwrap_or_default();
            match self.reader.read(room) {
                Ok(read) => {
                    self.end = self.end.saturating_add(read).min(self.buffer.len());
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.base.saturating_add(self.end as u64);
                    return Err(CaptureError::Read { offset, source });
                }
            }
        }
    }
}
