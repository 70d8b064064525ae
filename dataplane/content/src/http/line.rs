//! One line of a head, of which only the beginning is kept.

use super::Violation;
use crate::words::{WordSink, WordSource, WordsError};

/// Bytes kept of a line. Chosen: the longest field that decides framing is a Content-Range with
/// three 20-digit numbers, 84 bytes.
pub(super) const LINE_BYTES: usize = 128;

const LINE_WORDS: usize = LINE_BYTES / 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    buf: [u8; LINE_BYTES],
    len: u32,
    cr: bool,
    spaces: u32,
    /// Length of the line up to and including its last space.
    word_at: u32,
    /// The last eight bytes, oldest first in the high bits.
    tail: u64,
}

impl Line {
    pub(super) const WORDS: usize = 4 + LINE_WORDS;

    pub(super) const fn new() -> Self {
        Self {
            buf: [0; LINE_BYTES],
            len: 0,
            cr: false,
            spaces: 0,
            word_at: 0,
            tail: 0,
        }
    }

    /// Takes a byte; whether it completes the line.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) -> Result<bool, Violation> {
        if self.cr {
            return if byte == b'\n' {
                Ok(true)
            } else {
                Err(Violation::LineEnd)
            };
        }
        match byte {
            b'\r' => {
                self.cr = true;
                return Ok(false);
            }
            b'\t' | 0x20..=0x7e | 0x80.. => {}
            _ => return Err(Violation::LineEnd),
        }
        if let Some(place) = self.buf.get_mut(self.len as usize) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1);
        self.tail = self.tail << 8 | u64::from(byte);
        if byte == b' ' {
            self.spaces = self.spaces.saturating_add(1);
            self.word_at = self.len;
        }
        Ok(false)
    }

    /// Starts over.
    pub(super) const fn clear(&mut self) {
        self.len = 0;
        self.cr = false;
        self.spaces = 0;
        self.word_at = 0;
        self.tail = 0;
    }

    /// What was kept of the line, without CRLF.
    pub(super) fn kept(&self) -> &[u8] {
        self.buf.get(..self.len as usize).unwrap_or(&self.buf)
    }

    /// Whether every byte of the line was kept.
    pub(super) const fn is_whole(&self) -> bool {
        self.len as usize <= LINE_BYTES
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a byte or a CR came since [`Self::clear`].
    pub(super) const fn is_begun(&self) -> bool {
        self.len > 0 || self.cr
    }

    pub(super) const fn spaces(&self) -> u32 {
        self.spaces
    }

    /// The last word, when it has eight bytes.
    pub(super) const fn last_word(&self) -> Option<[u8; 8]> {
        if self.len.saturating_sub(self.word_at) == 8 {
            Some(self.tail.to_be_bytes())
        } else {
            None
        }
    }

    pub(super) fn encode(&self, sink: &mut impl WordSink) {
        sink.put(u64::from(self.len));
        if !self.is_begun() {
            return;
        }
        sink.put(u64::from(self.cr));
        sink.put(u64::from(self.spaces) << 32 | u64::from(self.word_at));
        sink.put(self.tail);
        let (words, _) = self.buf.as_chunks::<8>();
        for word in words.iter().take(self.kept().len().div_ceil(8)) {
            sink.put(u64::from_le_bytes(*word));
        }
    }

    pub(super) fn decode(source: &mut WordSource<'_>, begun: bool) -> Result<Self, WordsError> {
        let mut line = Self::new();
        line.len = source.take_as("line length")?;
        if !begun {
            return Ok(line);
        }
        line.cr = source.take_flag("line end")?;
        let spaces = source.take()?;
        line.spaces = u32::try_from(spaces >> 32).unwrap_or(0);
        line.word_at = u32::try_from(spaces & u64::from(u32::MAX)).unwrap_or(0);
        line.tail = source.take()?;
        let words = line.kept().len().div_ceil(8);
        let (places, _) = line.buf.as_chunks_mut::<8>();
        for place in places.iter_mut().take(words) {
            *place = source.take()?.to_le_bytes();
        }
        Ok(line)
    }
}
