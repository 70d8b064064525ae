//! One direction of a flow. Positions count payload bytes from 0, the byte behind the SYN.

use crate::coverage::Ranges;
use crate::http::{Parser, Side};
use crate::map::{OffsetMap, Slot};

/// Room for islands of stream that was seen. Chosen: design.md section 5.
pub(super) const SEEN_RANGES: usize = 32;

/// Room for islands of charged stream; behind it neighbours count as charged too.
pub(super) const BAD_RANGES: usize = 16;

/// Largest unscaled receive window. Source: RFC 9293 §3.1.
const WINDOW: i64 = 65_535;

/// What every segment looks at comes first: it lies on few cache lines.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Half {
    /// Initial sequence number; `None` until a SYN was seen.
    pub isn: Option<u32>,
    /// End of the farthest byte forwarded.
    pub end: u64,
    /// Highest cumulative acknowledgement of the other side, at most what was forwarded.
    pub acked: u64,
    /// Position of the FIN.
    pub fin: Option<u64>,
    /// Where the next head or framing byte lies; everything below is mapped.
    pub parse_at: u64,
    /// Bytes appended to the head log so far.
    pub log: u64,
    /// Allowance used by the current message.
    pub allowance: u64,
    /// Number of the current message.
    pub message: u32,
    /// The last head was a 1xx: the next one shares its allowance.
    pub interim: bool,
    /// Content of the current message's body.
    pub slot: Slot,
    /// Content offset of its next chunk.
    pub offset: u64,
    /// Everything that was forwarded.
    pub seen: Ranges<SEEN_RANGES>,
    pub map: OffsetMap,
    /// What was charged although the map knows it.
    pub bad: Ranges<BAD_RANGES>,
    pub parser: Parser,
}

impl Half {
    pub(super) fn new(side: Side) -> Self {
        Self {
            isn: None,
            seen: Ranges::new(),
            bad: Ranges::new(),
            end: 0,
            acked: 0,
            fin: None,
            parse_at: 0,
            parser: Parser::new(side),
            map: OffsetMap::new(),
            log: 0,
            allowance: 0,
            message: 0,
            interim: false,
            slot: Slot::None,
            offset: 0,
        }
    }

    /// The position that `seq` stands for, the nearest one to the farthest byte forwarded; below
    /// zero for what lies before the stream. `None` while the start is unknown.
    #[inline]
    pub(super) fn position(&self, seq: u32) -> Option<i64> {
        let isn = self.isn?;
        let low = u32::try_from(self.end & u64::from(u32::MAX)).unwrap_or(0);
        let ahead = seq.wrapping_sub(isn).wrapping_sub(1).wrapping_sub(low);
        let end = i64::try_from(self.end).unwrap_or(i64::MAX);
        Some(end.saturating_add(i64::from(ahead.cast_signed())))
    }

    /// The position acknowledged by `ack`, at most what was forwarded.
    #[inline]
    pub(super) fn acknowledged(&self, ack: u32) -> Option<u64> {
        let position = u64::try_from(self.position(ack)?).ok()?;
        let fin = self.fin.map_or(0, |fin| fin.saturating_add(1));
        Some(position.min(self.end.max(fin)))
    }

    /// Whether the FIN was acknowledged.
    pub(super) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.acked > fin)
    }

    /// Whether a RST at `seq` lies within the receive window of what was seen.
    pub(super) fn believes_reset(&self, seq: u32) -> bool {
        let Some(position) = self.position(seq) else {
            return false;
        };
        let low = i64::try_from(self.acked).unwrap_or(i64::MAX);
        let high = i64::try_from(self.end)
            .unwrap_or(i64::MAX)
            .saturating_add(WINDOW);
        low.saturating_sub(1) <= position && position <= high
    }

    /// Whether the stream can end at `fin`: not before what was acknowledged, and within the
    /// receive window of what was seen.
    pub(super) fn believes_end(&self, fin: u64) -> bool {
        let window = WINDOW.unsigned_abs();
        (self.acked..=self.end.saturating_add(window)).contains(&fin)
    }

    /// Lowest position that may still come or be acknowledged; the map must not forget it.
    pub(super) fn needed(&self, pending: Option<u64>) -> u64 {
        let contiguous = match self.seen.first() {
            Some(first) if first.start == 0 => first.end,
            _ => 0,
        };
        contiguous.max(self.acked).min(pending.unwrap_or(u64::MAX))
    }
}
