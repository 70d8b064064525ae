//! The classic pcap format: one header, then records of one link type.

use qlink_wire::LinkType;

use super::source::{ByteOrder, Packet, Step};
use super::{CaptureError, PACKET_MAX};

/// Length of the file's header.
pub(super) const HEADER_BYTES: usize = 24;

const RECORD_HEADER_BYTES: usize = 16;

/// Byte order and unit of the time stamps, as the magic number states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    order: ByteOrder,
    /// Nanoseconds in one unit of the stamp's fraction.
    fraction_ns: u64,
}

/// A pcap file behind its header.
#[derive(Debug)]
pub(super) struct Classic {
    kind: Kind,
    link: LinkType,
}

impl Classic {
    /// The kind that a magic number stands for.
    pub(super) const fn kind(magic: [u8; 4]) -> Option<Kind> {
        let (order, fraction_ns) = match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => (ByteOrder::Big, 1000),
            [0xd4, 0xc3, 0xb2, 0xa1] => (ByteOrder::Little, 1000),
            [0xa1, 0xb2, 0x3c, 0x4d] => (ByteOrder::Big, 1),
            [0x4d, 0x3c, 0xb2, 0xa1] => (ByteOrder::Little, 1),
            _ => return None,
        };
        Some(Kind { order, fraction_ns })
    }

    /// Reads the header, of which [`HEADER_BYTES`] are present.
    pub(super) fn parse(kind: Kind, header: &[u8]) -> Result<Self, CaptureError> {
        let number = header
            .get(20..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or_default();
        // The upper half may hold the length of a frame check sequence.
        let link = kind.order.u32(number) & 0xffff;
        let link =
            LinkType::from_pcap(link).ok_or(CaptureError::UnsupportedLink { offset: 20, link })?;
        Ok(Self { kind, link })
    }

    /// Reads one record.
    pub(super) fn step(&self, bytes: &[u8], offset: u64) -> Result<Step, CaptureError> {
        let Some(&header) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
            return Ok(Step::Need(RECORD_HEADER_BYTES));
        };
        let (fields, _) = header.as_chunks::<4>();
        let [seconds, fraction, len, orig_len] = [0, 1, 2, 3].map(|at| {
            self.kind
                .order
                .u32(fields.get(at).copied().unwrap_or_default())
        });
        if len > PACKET_MAX {
            return Err(CaptureError::PacketTooLong { offset, len });
        }
        let record = RECORD_HEADER_BYTES.saturating_add(len as usize);
        if bytes.len() < record {
            return Ok(Step::Need(record));
        }
        let fraction_ns = u64::from(fraction).saturating_mul(self.kind.fraction_ns);
        let timestamp_ns = u64::from(seconds)
            .saturating_mul(1_000_000_000)
            .saturating_add(fraction_ns);
        let packet = Packet {
            data: RECORD_HEADER_BYTES..record,
            orig_len,
            timestamp_ns,
            link: self.link,
        };
        Ok(Step::Packet { record, packet })
    }
}
