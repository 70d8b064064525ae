//! Writers of both formats, little-endian, with time stamps in nanoseconds.

use std::io::{self, Write};

use qlink_wire::LinkType;

use super::PACKET_MAX;

/// Writes a pcap file: one link type, nanoseconds.
///
/// Give it a buffered writer; every packet is two writes.
#[derive(Debug)]
pub struct PcapWriter<W: Write> {
    writer: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn new(mut writer: W, link: LinkType) -> io::Result<Self> {
        let mut header = [0; 24];
        put(&mut header, 0, &0xa1b2_3c4d_u32.to_le_bytes());
        put(&mut header, 4, &2_u16.to_le_bytes());
        put(&mut header, 6, &4_u16.to_le_bytes());
        put(&mut header, 16, &PACKET_MAX.to_le_bytes());
        put(&mut header, 20, &link.to_pcap().to_le_bytes());
        writer.write_all(&header)?;
        Ok(Self { writer })
    }

    /// Writes one packet: nanoseconds since the Unix epoch (until 2106), the bytes, and the
    /// length it had on the wire.
    ///
    /// # Errors
    ///
    /// `InvalidInput` above [`PACKET_MAX`] bytes, otherwise those of the writer.
    pub fn write(&mut self, timestamp_ns: u64, frame: &[u8], orig_len: u32) -> io::Result<()> {
        let len = frame_len(frame)?;
        let seconds = u32::try_from(timestamp_ns / 1_000_000_000).unwrap_or(u32::MAX);
        let fraction = u32::try_from(timestamp_ns % 1_000_000_000).unwrap_or(0);
        let mut header = [0; 16];
        put(&mut header, 0, &seconds.to_le_bytes());
        put(&mut header, 4, &fraction.to_le_bytes());
        put(&mut header, 8, &len.to_le_bytes());
        put(&mut header, 12, &orig_len.max(len).to_le_bytes());
        self.writer.write_all(&header)?;
        self.writer.write_all(frame)
    }

    /// Flushes and gives the writer back.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

/// Whether a packet came or left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketWay {
    /// It was received.
    Inbound,
    /// It was sent.
    Outbound,
}

/// What a reader of a file is told about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketNote<'a> {
    /// For people; at most 255 bytes are kept.
    pub comment: &'a str,
    /// Whether it came or left.
    pub way: PacketWay,
}

/// What an interface saw while a file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceCounts<'a> {
    /// Packets it received.
    pub received: u64,
    /// Those of them that the file lacks.
    pub dropped: u64,
    /// For people; at most 255 bytes are kept.
    pub comment: &'a str,
}

/// An interface of one [`PcapngWriter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceId(u32);

/// Writes a pcapng file: one section, any number of interfaces, nanoseconds.
///
/// Give it a buffered writer; every packet is three writes. A file cut after any packet is valid,
/// so a capture survives the death of its writer.
#[derive(Debug)]
pub struct PcapngWriter<W: Write> {
    writer: W,
    interfaces: u32,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section header.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn new(mut writer: W) -> io::Result<Self> {
        let mut block = [0; 28];
        put(&mut block, 0, &super::ng::SECTION_TYPE);
        put(&mut block, 4, &28_u32.to_le_bytes());
        put(&mut block, 8, &0x1a2b_3c4d_u32.to_le_bytes());
        put(&mut block, 12, &1_u16.to_le_bytes());
        put(&mut block, 16, &u64::MAX.to_le_bytes()); // section length: not stated
        put(&mut block, 24, &28_u32.to_le_bytes());
        writer.write_all(&block)?;
        Ok(Self {
            writer,
            interfaces: 0,
        })
    }

    /// Describes an interface; `name` (may be empty, at most 255 bytes are kept) is what
    /// `tshark -e frame.interface_name` shows.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn add_interface(&mut self, link: LinkType, name: &str) -> io::Result<InterfaceId> {
        let id = InterfaceId(self.interfaces);
        let mut body = Vec::with_capacity(300);
        // The number has 16 bits and 16 reserved ones follow: the same as 32 little-endian bits.
        body.extend_from_slice(&link.to_pcap().to_le_bytes());
        body.extend_from_slice(&PACKET_MAX.to_le_bytes());
        add_text(&mut body, 2, name);
        add_option(&mut body, 9, &[9]); // if_tsresol: 10^-9 s
        add_option(&mut body, 0, &[]);
        let total = u32::from(small(body.len()).saturating_add(12)).to_le_bytes();
        self.writer.write_all(&1_u32.to_le_bytes())?;
        self.writer.write_all(&total)?;
        self.writer.write_all(&body)?;
        self.writer.write_all(&total)?;
        self.interfaces = self.interfaces.saturating_add(1);
        Ok(id)
    }

    /// Writes one packet of `interface`: nanoseconds since the Unix epoch, the bytes, and the
    /// length it had on the wire.
    ///
    /// # Errors
    ///
    /// `InvalidInput` above [`PACKET_MAX`] bytes or for another writer's interface, otherwise
    /// those of the writer.
    pub fn write(
        &mut self,
        interface: InterfaceId,
        timestamp_ns: u64,
        frame: &[u8],
        orig_len: u32,
    ) -> io::Result<()> {
        self.write_packet(interface, timestamp_ns, frame, orig_len, &[])
    }

    /// Writes one packet like [`Self::write`], with a comment of which at most 255 bytes are kept
    /// and the way it went.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub fn write_commented(
        &mut self,
        interface: InterfaceId,
        timestamp_ns: u64,
        frame: &[u8],
        orig_len: u32,
        note: &PacketNote<'_>,
    ) -> io::Result<()> {
        let mut options = Vec::with_capacity(300);
        add_text(&mut options, 1, note.comment);
        // epb_flags: the two lowest bits are the direction.
        let way = match note.way {
            PacketWay::Inbound => 1_u32,
            PacketWay::Outbound => 2,
        };
        add_option(&mut options, 2, &way.to_le_bytes());
        add_option(&mut options, 0, &[]);
        self.write_packet(interface, timestamp_ns, frame, orig_len, &options)
    }

    /// States how many packets an interface received and how many of them the file lacks.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for another writer's interface, otherwise those of the writer.
    pub fn write_statistics(
        &mut self,
        interface: InterfaceId,
        timestamp_ns: u64,
        counts: &InterfaceCounts<'_>,
    ) -> io::Result<()> {
        if interface.0 >= self.interfaces {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut body = Vec::with_capacity(320);
        body.extend_from_slice(&interface.0.to_le_bytes());
        let [t0, t1, t2, t3, h0, h1, h2, h3] = timestamp_ns.to_le_bytes();
        body.extend_from_slice(&[h0, h1, h2, h3, t0, t1, t2, t3]);
        add_text(&mut body, 1, counts.comment);
        add_option(&mut body, 4, &counts.received.to_le_bytes()); // isb_ifrecv
        add_option(&mut body, 5, &counts.dropped.to_le_bytes()); // isb_ifdrop
        add_option(&mut body, 0, &[]);
        let total = u32::from(small(body.len()).saturating_add(12)).to_le_bytes();
        self.writer.write_all(&5_u32.to_le_bytes())?;
        self.writer.write_all(&total)?;
        self.writer.write_all(&body)?;
        self.writer.write_all(&total)
    }

    fn write_packet(
        &mut self,
        interface: InterfaceId,
        timestamp_ns: u64,
        frame: &[u8],
        orig_len: u32,
        options: &[u8],
    ) -> io::Result<()> {
        if interface.0 >= self.interfaces {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let len = frame_len(frame)?;
        let padded = len.next_multiple_of(4);
        let options_len = u32::from(small(options.len()));
        let total = padded.saturating_add(32).saturating_add(options_len);
        let total = total.to_le_bytes();
        let [t0, t1, t2, t3, h0, h1, h2, h3] = timestamp_ns.to_le_bytes();
        let mut head = [0; 28];
        put(&mut head, 0, &6_u32.to_le_bytes());
        put(&mut head, 4, &total);
        put(&mut head, 8, &interface.0.to_le_bytes());
        put(&mut head, 12, &[h0, h1, h2, h3]);
        put(&mut head, 16, &[t0, t1, t2, t3]);
        put(&mut head, 20, &len.to_le_bytes());
        put(&mut head, 24, &orig_len.max(len).to_le_bytes());
        let padding = padded.saturating_sub(len) as usize;
        self.writer.write_all(&head)?;
        self.writer.write_all(frame)?;
        if options.is_empty() {
            let mut tail = [0; 7];
            put(&mut tail, padding, &total);
            let used = padding.saturating_add(4);
            return self.writer.write_all(tail.get(..used).unwrap_or_default());
        }
        self.writer
            .write_all([0; 3].get(..padding).unwrap_or_default())?;
        self.writer.write_all(options)?;
        self.writer.write_all(&total)
    }

    /// Brings everything written so far to the underlying file.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Flushes and gives the writer back.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

fn frame_len(frame: &[u8]) -> io::Result<u32> {
    match u32::try_from(frame.len()) {
        Ok(len) if len <= PACKET_MAX => Ok(len),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Places `value` at `at` in a fixed header.
fn put(header: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in header.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// A length of an interface block or of options, which are below 400 bytes.
fn small(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// Appends a text of which at most 255 bytes are kept; nothing when it is empty.
fn add_text(body: &mut Vec<u8>, code: u16, text: &str) {
    let kept = text.get(..text.floor_char_boundary(255));
    match kept.unwrap_or_default() {
        "" => {}
        kept => add_option(body, code, kept.as_bytes()),
    }
}

/// Appends an option, padded to a multiple of four. `value` is at most 255 bytes.
fn add_option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&small(value.len()).to_le_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}
