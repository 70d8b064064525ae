//! The pcapng format: sections of blocks.
//!
//! ```text
//! | type u32 | total length u32 | body (multiple of 4) | total length u32 |
//! ```

use qlink_wire::LinkType;

use super::source::{BLOCK_MAX, ByteOrder, Packet, Step};
use super::{CaptureError, PACKET_MAX};

/// The type of a section header block; reads the same in both byte orders.
pub(super) const SECTION_TYPE: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const OPTION_END: u16 = 0;
const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;

/// Type, total length and the first word of the body, which a section needs for its byte order.
const HEAD_BYTES: usize = 12;

/// Most interfaces per section (chosen; capture machines have a few).
const INTERFACES_MAX: usize = 4096;

/// The current section.
#[derive(Debug)]
pub(super) struct Sections {
    order: ByteOrder,
    interfaces: Vec<Interface>,
}

impl Default for Sections {
    /// Before the first section header, which sets the byte order.
    fn default() -> Self {
        Self {
            order: ByteOrder::Little,
            interfaces: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    /// `None` when the link type is not supported.
    link: Option<LinkType>,
    /// Bytes that were captured of each packet at most; 0 = all.
    snap_len: u32,
    resolution: Resolution,
    offset_seconds: i64,
}

/// How a time stamp becomes nanoseconds.
#[derive(Debug, Clone, Copy)]
enum Resolution {
    Multiply(u64),
    Divide(u128),
    /// Units of 2^-n seconds.
    Binary(u8),
}

impl Resolution {
    const MICROSECONDS: Self = Self::Multiply(1000);

    /// Source: draft-ietf-opsawg-pcapng, `if_tsresol`.
    const fn parse(value: u8) -> Self {
        if value & 0x80 != 0 {
            return Self::Binary(value & 0x7f);
        }
        if value <= 9 {
            return Self::Multiply(10_u64.saturating_pow(9_u32.saturating_sub(value as u32)));
        }
        // Beyond 10^38 every stamp is below one nanosecond.
        Self::Divide(10_u128.saturating_pow((value as u32).saturating_sub(9)))
    }

    fn nanoseconds(self, ticks: u64) -> u128 {
        match self {
            Self::Multiply(factor) => u128::from(ticks).saturating_mul(factor.into()),
            Self::Divide(divisor) => u128::from(ticks).checked_div(divisor).unwrap_or(0),
            Self::Binary(shift) => u128::from(ticks).saturating_mul(1_000_000_000) >> shift,
        }
    }
}

impl Interface {
    fn timestamp_ns(&self, ticks: u64) -> u64 {
        let offset = i128::from(self.offset_seconds).saturating_mul(1_000_000_000);
        let ticks = i128::try_from(self.resolution.nanoseconds(ticks)).unwrap_or(i128::MAX);
        let sum = ticks.saturating_add(offset);
        u64::try_from(sum.max(0)).unwrap_or(u64::MAX)
    }
}

/// One block whose bytes are all present.
#[derive(Clone, Copy)]
struct Block<'a> {
    block_type: u32,
    offset: u64,
    /// Total length.
    len: usize,
    body: &'a [u8],
    order: ByteOrder,
}

impl Block<'_> {
    const fn too_short(&self) -> CaptureError {
        CaptureError::BlockContent {
            offset: self.offset,
            block_type: self.block_type,
        }
    }

    fn field<const N: usize>(&self, at: usize) -> Result<[u8; N], CaptureError> {
        let field = self.body.get(at..).and_then(<[u8]>::first_chunk);
        field.copied().ok_or_else(|| self.too_short())
    }

    fn u16(&self, at: usize) -> Result<u16, CaptureError> {
        self.field(at).map(|bytes| self.order.u16(bytes))
    }

    fn u32(&self, at: usize) -> Result<u32, CaptureError> {
        self.field(at).map(|bytes| self.order.u32(bytes))
    }
}

/// The words of a packet block that do not depend on its kind.
struct PacketFields {
    interface: u32,
    ticks: u64,
    len: u32,
    orig_len: u32,
    /// Where the packet begins in the body.
    data: usize,
}

impl Sections {
    /// Reads one block.
    pub(super) fn step(&mut self, bytes: &[u8], offset: u64) -> Result<Step, CaptureError> {
        let Some(&[t0, t1, t2, t3, l0, l1, l2, l3, o0, o1, o2, o3]) =
            bytes.first_chunk::<HEAD_BYTES>()
        else {
            return Ok(Step::Need(HEAD_BYTES));
        };
        let section = [t0, t1, t2, t3] == SECTION_TYPE;
        let order = match (section, [o0, o1, o2, o3]) {
            (false, _) => self.order,
            (true, [0x1a, 0x2b, 0x3c, 0x4d]) => ByteOrder::Big,
            (true, [0x4d, 0x3c, 0x2b, 0x1a]) => ByteOrder::Little,
            (true, mark) => {
                return Err(CaptureError::ByteOrder {
                    offset,
                    found: u32::from_be_bytes(mark),
                });
            }
        };
        let block_type = order.u32([t0, t1, t2, t3]);
        let stated = order.u32([l0, l1, l2, l3]);
        if (stated as usize) < HEAD_BYTES || !stated.is_multiple_of(4) {
            return Err(CaptureError::BlockLength {
                offset,
                block_type,
                len: stated,
            });
        }
        let known = [
            SECTION,
            INTERFACE,
            OBSOLETE_PACKET,
            SIMPLE_PACKET,
            ENHANCED_PACKET,
        ];
        if !known.contains(&block_type) {
            return Ok(Step::Skip(stated.into()));
        }
        let len = stated as usize;
        if len > BLOCK_MAX {
            return Err(CaptureError::BlockLength {
                offset,
                block_type,
                len: stated,
            });
        }
        let Some((body, tail)) = bytes.get(8..len).and_then(<[u8]>::split_last_chunk) else {
            return Ok(Step::Need(len));
        };
        let tail = order.u32(*tail);
        if tail != stated {
            return Err(CaptureError::BlockTail {
                offset,
                head: stated,
                tail,
            });
        }
        self.read_block(&Block {
            block_type,
            offset,
            len,
            body,
            order,
        })
    }

    fn read_block(&mut self, block: &Block<'_>) -> Result<Step, CaptureError> {
        let fields = match block.block_type {
            SECTION => {
                self.begin_section(block)?;
                return Ok(Step::Skip(block.len as u64));
            }
            INTERFACE => {
                self.add_interface(block)?;
                return Ok(Step::Skip(block.len as u64));
            }
            SIMPLE_PACKET => self.simple_packet(block)?,
            ENHANCED_PACKET => enhanced_packet(block, block.u32(0)?)?,
            // The obsolete block has two 16-bit words, interface and drops, in the first place.
            _ => enhanced_packet(block, block.u16(0)?.into())?,
        };
        self.packet(block, &fields)
    }

    /// Source: draft-ietf-opsawg-pcapng, "Section Header Block".
    fn begin_section(&mut self, block: &Block<'_>) -> Result<(), CaptureError> {
        let (major, minor) = (block.u16(4)?, block.u16(6)?);
        let _section_length: [u8; 8] = block.field(8)?;
        if major != 1 {
            let offset = block.offset;
            return Err(CaptureError::UnsupportedVersion {
                offset,
                major,
                minor,
            });
        }
        self.order = block.order;
        self.interfaces.clear();
        Ok(())
    }

    /// Source: draft-ietf-opsawg-pcapng, "Interface Description Block".
    fn add_interface(&mut self, block: &Block<'_>) -> Result<(), CaptureError> {
        if self.interfaces.len() >= INTERFACES_MAX {
            let (offset, max) = (block.offset, INTERFACES_MAX);
            return Err(CaptureError::TooManyInterfaces { offset, max });
        }
        let mut interface = Interface {
            link: LinkType::from_pcap(block.u16(0)?.into()),
            snap_len: block.u32(4)?,
            resolution: Resolution::MICROSECONDS,
            offset_seconds: 0,
        };
        let mut at = 8_usize;
        while at.saturating_add(4) <= block.body.len() {
            let (code, len) = (block.u16(at)?, block.u16(at.saturating_add(2))?);
            let value = at.saturating_add(4);
            match code {
                OPTION_END => break,
                OPTION_TSRESOL if len == 1 => {
                    let [value] = block.field(value)?;
                    interface.resolution = Resolution::parse(value);
                }
                OPTION_TSOFFSET if len == 8 => {
                    let seconds = block.order.u64(block.field(value)?);
                    interface.offset_seconds = seconds.cast_signed();
                }
                _ => {}
            }
            at = value.saturating_add(usize::from(len).next_multiple_of(4));
            if at > block.body.len() {
                return Err(block.too_short());
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// A simple packet has neither time nor interface nor captured length of its own.
    fn simple_packet(&self, block: &Block<'_>) -> Result<PacketFields, CaptureError> {
        let orig_len = block.u32(0)?;
        let snap_len = match self.interfaces.first() {
            Some(first) if first.snap_len > 0 => first.snap_len,
            _ => u32::MAX,
        };
        let room = u32::try_from(block.body.len().saturating_sub(4)).unwrap_or(u32::MAX);
        let len = orig_len.min(snap_len).min(room);
        Ok(PacketFields {
            interface: 0,
            ticks: 0,
            len,
            orig_len,
            data: 4,
        })
    }

    fn packet(&self, block: &Block<'_>, fields: &PacketFields) -> Result<Step, CaptureError> {
        let (offset, len) = (block.offset, fields.len);
        if len > PACKET_MAX {
            return Err(CaptureError::PacketTooLong { offset, len });
        }
        let end = fields.data.saturating_add(len as usize);
        if end > block.body.len() {
            return Err(block.too_short());
        }
        let Some(interface) = self.interfaces.get(fields.interface as usize) else {
            let (interface, known) = (fields.interface, self.interfaces.len());
            return Err(CaptureError::UnknownInterface {
                offset,
                interface,
                known,
            });
        };
        let Some(link) = interface.link else {
            return Ok(Step::Unsupported(block.len));
        };
        let timestamp_ns = match block.block_type {
            SIMPLE_PACKET => 0,
            _ => interface.timestamp_ns(fields.ticks),
        };
        // The body begins behind type and length.
        let data = fields.data.saturating_add(8)..end.saturating_add(8);
        let packet = Packet {
            data,
            orig_len: fields.orig_len,
            timestamp_ns,
            link,
        };
        Ok(Step::Packet {
            record: block.len,
            packet,
        })
    }
}

/// The enhanced packet block, and the obsolete one, which differs in its first word only.
fn enhanced_packet(block: &Block<'_>, interface: u32) -> Result<PacketFields, CaptureError> {
    let ticks = u64::from(block.u32(4)?) << 32 | u64::from(block.u32(8)?);
    let (len, orig_len) = (block.u32(12)?, block.u32(16)?);
    Ok(PacketFields {
        interface,
        ticks,
        len,
        orig_len,
        data: 20,
    })
}
