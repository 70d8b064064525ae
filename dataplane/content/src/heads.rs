//! The bytes of recent heads and chunk framing, kept to compare copies of them.
//!
//! One byte log per direction, written round and round in [`LOG_BYTES`]. Only the last
//! [`KEPT_BYTES`] count, and one packet appends at most that many: what a committed state may still
//! compare with is never touched before the next state is committed, so a crash in mid-write
//! damages nothing.

use crate::flow::Direction;

/// Size of one direction's log.
pub(crate) const LOG_BYTES: u64 = 16_384;

/// Newest bytes of a log that copies are compared with, and most bytes one packet appends.
pub(crate) const KEPT_BYTES: u64 = 8_192;

const LOG_WORDS: usize = 2_048;

/// Words that a flow's two logs need.
pub const HEAD_WORDS: usize = 2 * LOG_WORDS;

/// Storage for [`HEAD_WORDS`] words, zero at the start of a flow or left from an earlier one.
pub trait HeadWords {
    /// Word `index`; 0 when there is no such word.
    fn load(&self, index: usize) -> u64;

    /// Replaces word `index`; nothing when there is no such word.
    fn store(&mut self, index: usize, word: u64);
}

impl HeadWords for Vec<u64> {
    fn load(&self, index: usize) -> u64 {
        self.get(index).copied().unwrap_or(0)
    }

    fn store(&mut self, index: usize, word: u64) {
        if let Some(place) = self.get_mut(index) {
            *place = word;
        }
    }
}

/// Word and bit shift of byte `at` of a direction's log.
fn place(direction: Direction, at: u64) -> (usize, u32) {
    let byte = at & LOG_BYTES.saturating_sub(1);
    let base = match direction {
        Direction::Uplink => 0,
        Direction::Downlink => LOG_WORDS,
    };
    let word = usize::try_from(byte >> 3).unwrap_or(0);
    let shift = u32::try_from(byte & 7).unwrap_or(0).saturating_mul(8);
    (base.saturating_add(word), shift)
}

/// Appends `bytes` at log offset `at`.
pub(crate) fn write(words: &mut dyn HeadWords, direction: Direction, at: u64, bytes: &[u8]) {
    let mut at = at;
    for byte in bytes {
        let (index, shift) = place(direction, at);
        let cleared = words.load(index) & !(0xff << shift);
        words.store(index, cleared | u64::from(*byte) << shift);
        at = at.saturating_add(1);
    }
}

/// Number of leading bytes of `bytes` that equal the log at offset `at`.
pub(crate) fn equal_prefix(
    words: &dyn HeadWords,
    direction: Direction,
    at: u64,
    bytes: &[u8],
) -> usize {
    let same = |(offset, byte): &(u64, &u8)| {
        let (index, shift) = place(direction, *offset);
        (words.load(index) >> shift) & 0xff == u64::from(**byte)
    };
    (at..).zip(bytes).take_while(same).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_wraps_and_directions_do_not_mix() {
        let mut words = vec![0_u64; HEAD_WORDS];
        let at = LOG_BYTES * 3 - 5;
        write(&mut words, Direction::Uplink, at, b"GET /film HTTP/1.1");
        write(&mut words, Direction::Downlink, at, b"HTTP/1.1 200 OK");

        let up = equal_prefix(&words, Direction::Uplink, at, b"GET /film HTTP/1.0");
        let down = equal_prefix(&words, Direction::Downlink, at + 5, b"1.1x");

        assert_eq!((up, down), (17, 4 - 1));
    }
}
