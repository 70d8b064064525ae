//! Which stream position is which content byte.
//!
//! A direction's recent stream is a row of extents. Each is `count` units of the same shape:
//!
//! ```text
//! start        start + overhead                start + unit
//! | overhead   | body: content offset ..       | overhead | body ...
//! ```
//!
//! Overhead is a head or chunk framing; its first `stored` bytes lie in the head log. Chunks of
//! equal size fold into one extent, so a chunked film needs few.

use crate::heads::KEPT_BYTES;
use crate::words::{WordSink, WordSource, WordsError};

/// Extents kept per direction. Chosen: 16 pipelined responses and 16 unequal chunks.
pub(crate) const EXTENTS: usize = 32;

/// What is known about the content of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// No content of the session.
    None,
    /// The first body bytes to come decide.
    Undecided,
    /// The content in this slot.
    Content(u16),
}

impl Slot {
    const fn code(self) -> u64 {
        match self {
            Self::None => 0x1_0000,
            Self::Undecided => 0x1_0001,
            Self::Content(slot) => slot as u64,
        }
    }

    pub(crate) fn from_code(code: u64) -> Option<Self> {
        match code {
            0x1_0000 => Some(Self::None),
            0x1_0001 => Some(Self::Undecided),
            _ => u16::try_from(code).ok().map(Self::Content),
        }
    }

    pub(crate) fn encode(self, sink: &mut impl WordSink) {
        sink.put(self.code());
    }

    pub(crate) fn decode(source: &mut WordSource<'_>) -> Result<Self, WordsError> {
        let value = source.take()?;
        Self::from_code(value).ok_or(WordsError::Value {
            field: "slot",
            value,
        })
    }
}

/// What a stream position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Head or framing; where its byte lies in the log, if it was stored.
    Overhead(Option<u64>),
    /// Body of a message.
    Body {
        slot: Slot,
        /// Content offset.
        offset: u64,
    },
    /// Forgotten, or never mapped.
    Unknown,
}

/// A place, the message it belongs to, and for how many positions it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located {
    pub place: Place,
    pub message: u32,
    pub len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    start: u64,
    overhead: u64,
    /// Body bytes per unit; 0 while the head is not complete.
    body: u64,
    count: u64,
    /// Content offset of the first body byte.
    offset: u64,
    /// Log offset of the first overhead byte.
    log: u64,
    /// Leading overhead bytes in the log; all of them where `count` is above 1.
    stored: u64,
    message: u32,
    slot: Slot,
    /// Whether overhead may still grow.
    open: bool,
}

impl Extent {
    const WORDS: usize = 9;

    const EMPTY: Self = Self {
        start: 0,
        overhead: 0,
        body: 0,
        count: 0,
        offset: 0,
        log: 0,
        stored: 0,
        message: 0,
        slot: Slot::None,
        open: false,
    };

    #[inline]
    const fn unit(&self) -> u64 {
        self.overhead.saturating_add(self.body)
    }

    #[inline]
    const fn end(&self) -> u64 {
        self.start
            .saturating_add(self.unit().saturating_mul(self.count))
    }

    /// `at` must lie inside.
    #[inline]
    fn locate(&self, at: u64) -> Located {
        let mut inside = at.saturating_sub(self.start);
        let mut index = 0;
        if self.count > 1 {
            index = inside.checked_div(self.unit()).unwrap_or(0);
            inside = inside.checked_rem(self.unit()).unwrap_or(0);
        }
        let (place, len) = if inside >= self.overhead {
            let body = inside.saturating_sub(self.overhead);
            let before = index.saturating_mul(self.body).saturating_add(body);
            let offset = self.offset.saturating_add(before);
            let slot = self.slot;
            (
                Place::Body { slot, offset },
                self.unit().saturating_sub(inside),
            )
        } else if inside < self.stored {
            let before = index.saturating_mul(self.overhead).saturating_add(inside);
            let log = self.log.saturating_add(before);
            (
                Place::Overhead(Some(log)),
                self.stored.saturating_sub(inside),
            )
        } else {
            (Place::Overhead(None), self.overhead.saturating_sub(inside))
        };
        let message = self.message;
        Located {
            place,
            message,
            len,
        }
    }

    /// Whether `next` is one more unit of this extent.
    fn is_continued_by(&self, next: &Self) -> bool {
        let shape = self.overhead == next.overhead && self.body == next.body;
        let whole = self.stored == self.overhead && next.stored == next.overhead;
        let before = self.count.saturating_mul(self.body);
        shape
            && whole
            && self.body > 0
            && next.count == 1
            && self.message == next.message
            && self.slot == next.slot
            && self.end() == next.start
            && self.offset.saturating_add(before) == next.offset
            && self
                .log
                .saturating_add(self.count.saturating_mul(self.overhead))
                == next.log
    }
}

/// The recent stream of one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffsetMap {
    len: usize,
    items: [Extent; EXTENTS],
}

/// Every extent still has bytes that wait for their acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapFull {
    /// Where the oldest extent starts.
    pub oldest: u64,
}

impl OffsetMap {
    pub(crate) const WORDS: usize = 1 + EXTENTS * Extent::WORDS;

    pub(crate) const fn new() -> Self {
        Self {
            len: 0,
            items: [Extent::EMPTY; EXTENTS],
        }
    }

    #[inline]
    fn as_slice(&self) -> &[Extent] {
        self.items.get(..self.len).unwrap_or_default()
    }

    fn last_mut(&mut self) -> Option<&mut Extent> {
        self.len.checked_sub(1).and_then(|i| self.items.get_mut(i))
    }

    /// What position `at` is.
    #[inline]
    pub(crate) fn locate(&self, at: u64) -> Located {
        let items = self.as_slice();
        if let Some(last) = items.last()
            && last.start <= at
            && at < last.end()
        {
            return last.locate(at);
        }
        let behind = items.partition_point(|item| item.start <= at);
        let inside = behind.checked_sub(1).and_then(|i| items.get(i));
        if let Some(extent) = inside.filter(|extent| at < extent.end()) {
            return extent.locate(at);
        }
        let until = items.get(behind).map_or(u64::MAX, |next| next.start);
        let len = until.saturating_sub(at);
        Located {
            place: Place::Unknown,
            message: 0,
            len,
        }
    }

    /// Makes room for one extent by forgetting the oldest, unless positions at or above `needed`
    /// belong to it.
    fn push(&mut self, extent: Extent, needed: u64) -> Result<(), MapFull> {
        if self.len >= EXTENTS {
            let oldest = self.items.first().copied().unwrap_or(Extent::EMPTY);
            if oldest.end() > needed {
                let oldest = oldest.start;
                return Err(MapFull { oldest });
            }
            self.items.copy_within(1.., 0);
            self.len = self.len.saturating_sub(1);
        }
        if let Some(place) = self.items.get_mut(self.len) {
            *place = extent;
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }

    /// Records `len` overhead bytes at `at`, the first `stored` of them in the log at `log`.
    pub(crate) fn overhead(
        &mut self,
        at: u64,
        len: u64,
        (log, stored): (u64, u64),
        message: u32,
        needed: u64,
    ) -> Result<(), MapFull> {
        if let Some(last) = self.last_mut()
            && last.open
            && last.end() == at
        {
            if last.stored == last.overhead && last.log.saturating_add(last.stored) == log {
                last.stored = last.stored.saturating_add(stored);
            }
            last.overhead = last.overhead.saturating_add(len);
            return Ok(());
        }
        let extent = Extent {
            start: at,
            overhead: len,
            count: 1,
            log,
            stored,
            message,
            open: true,
            ..Extent::EMPTY
        };
        self.push(extent, needed)
    }

    /// Records that a body of `len` bytes follows at `at`.
    pub(crate) fn body(
        &mut self,
        at: u64,
        len: u64,
        (slot, offset): (Slot, u64),
        message: u32,
        needed: u64,
    ) -> Result<(), MapFull> {
        if let Some(last) = self.last_mut()
            && last.open
            && last.end() == at
        {
            last.open = false;
            last.body = len;
            last.slot = slot;
            last.offset = offset;
            self.fold();
            return Ok(());
        }
        let extent = Extent {
            start: at,
            body: len,
            count: 1,
            offset,
            message,
            slot,
            ..Extent::EMPTY
        };
        self.push(extent, needed)
    }

    /// The message ended without a body here: what follows belongs to the next one.
    pub(crate) fn seal(&mut self) {
        if let Some(last) = self.last_mut() {
            last.open = false;
        }
    }

    fn fold(&mut self) {
        let Some([.., before, last]) = self.items.get_mut(..self.len) else {
            return;
        };
        if before.is_continued_by(last) {
            before.count = before.count.saturating_add(1);
            self.len = self.len.saturating_sub(1);
        }
    }

    /// Decides the content of a message's bodies.
    pub(crate) fn decide(&mut self, message: u32, slot: Slot) {
        for extent in self.items.iter_mut().take(self.len) {
            if extent.message == message && extent.slot == Slot::Undecided {
                extent.slot = slot;
            }
        }
    }

    pub(crate) fn encode(&self, sink: &mut impl WordSink) {
        sink.put(self.len as u64);
        for extent in self.as_slice() {
            sink.put(extent.start);
            sink.put(extent.overhead);
            sink.put(extent.body);
            sink.put(extent.count);
            sink.put(extent.offset);
            sink.put(extent.log);
            sink.put(extent.stored);
            sink.put(u64::from(extent.message) << 1 | u64::from(extent.open));
            extent.slot.encode(sink);
        }
    }

    pub(crate) fn decode(source: &mut WordSource<'_>) -> Result<Self, WordsError> {
        let mut map = Self::new();
        let len = source.take_at_most("extents", EXTENTS)?;
        let mut floor = 0;
        for place in map.items.iter_mut().take(len) {
            let mut extent = Extent {
                start: source.take()?,
                overhead: source.take()?,
                body: source.take()?,
                count: source.take()?,
                offset: source.take()?,
                log: source.take()?,
                stored: source.take()?,
                ..Extent::EMPTY
            };
            let value = source.take()?;
            let error = |field| WordsError::Value { field, value };
            extent.open = value & 1 == 1;
            extent.message = u32::try_from(value >> 1).map_err(|_| error("message"))?;
            extent.slot = Slot::decode(source)?;
            // Folded units have stored overhead, so the allowance bounds their number.
            let absurd = extent.count == 0 || extent.count > KEPT_BYTES;
            if extent.start < floor || absurd || extent.stored > extent.overhead {
                return Err(error("extent"));
            }
            floor = extent.end();
            *place = extent;
        }
        map.len = len;
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILM: Slot = Slot::Content(3);

    #[test]
    fn chunks_of_equal_size_fold_into_one_extent() {
        let mut map = OffsetMap::new();
        map.overhead(0, 100, (0, 100), 1, 0).unwrap();
        map.body(100, 50, (FILM, 0), 1, 0).unwrap();
        for chunk in 1..=40 {
            let at = 100 + 50 * chunk + 8 * (chunk - 1);
            map.overhead(at, 8, (100 + 8 * (chunk - 1), 8), 1, 0)
                .unwrap();
            map.body(at + 8, 50, (FILM, 50 * chunk), 1, 0).unwrap();
        }

        assert_eq!(map.len, 2);
        for chunk in 1..=40 {
            let at = 100 + 58 * chunk + 7;
            let body = Place::Body {
                slot: FILM,
                offset: 50 * chunk + 7,
            };
            assert_eq!(
                map.locate(at),
                Located {
                    place: body,
                    message: 1,
                    len: 43
                }
            );
            let framing = Place::Overhead(Some(100 + 8 * (chunk - 1) + 1));
            let got = map.locate(150 + 58 * (chunk - 1) + 1);
            assert_eq!(
                got,
                Located {
                    place: framing,
                    message: 1,
                    len: 7
                }
            );
        }
    }

    #[test]
    fn a_full_map_forgets_only_what_nothing_waits_for() {
        let mut map = OffsetMap::new();
        for message in 0..32 {
            map.body(u64::from(message) * 10, 10, (FILM, 0), message, 0)
                .unwrap();
        }

        assert_eq!(
            map.body(320, 10, (FILM, 0), 32, 9),
            Err(MapFull { oldest: 0 })
        );
        assert_eq!(map.body(320, 10, (FILM, 0), 32, 10), Ok(()));
        assert_eq!(map.locate(5).place, Place::Unknown);
        assert_eq!(map.locate(5).len, 5);
    }

    #[test]
    fn unstored_overhead_cannot_be_compared() {
        let mut map = OffsetMap::new();
        map.overhead(0, 10, (0, 10), 1, 0).unwrap();
        map.overhead(10, 10, (10, 4), 1, 0).unwrap();
        map.overhead(20, 10, (14, 10), 1, 0).unwrap();

        assert_eq!(map.locate(13).place, Place::Overhead(Some(13)));
        assert_eq!(map.locate(14).place, Place::Overhead(None));
        assert_eq!(map.locate(14).len, 16);
    }
}
