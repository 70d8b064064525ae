//! The flow's state as words.

use super::half::{BAD_RANGES, Half, SEEN_RANGES};
use super::input::CloseReason;
use super::state::{FlowProof, PENDING_RANGES, RESPONSES_KEPT, Standing};
use crate::coverage::Ranges;
use crate::http::{Parser, Queue, Side, Violation};
use crate::map::{OffsetMap, Slot};
use crate::view::Classes;
use crate::words::{WordSink, WordSource, WordsError, fill};

const LAYOUT: u64 = 0x464c_4f57_0000_0002; // "FLOW", version 2

/// Version 1 has every standing but [`Standing::Ebbing`], and else the same words.
const LAYOUT_1: u64 = 0x464c_4f57_0000_0001;

const HALF_WORDS: usize = 12
    + Ranges::<SEEN_RANGES>::WORDS
    + Ranges::<BAD_RANGES>::WORDS
    + Parser::WORDS
    + OffsetMap::WORDS;

impl FlowProof {
    /// Words of the largest encoding; the steady state needs some sixty.
    pub const WORDS: usize =
        18 + 2 * HALF_WORDS + Ranges::<PENDING_RANGES>::WORDS + RESPONSES_KEPT as usize;

    /// Writes the state to `out`; how many words were used.
    ///
    /// # Errors
    ///
    /// [`WordsError::TooShort`]; [`Self::WORDS`] always suffice.
    pub fn to_words(&self, out: &mut [u64]) -> Result<usize, WordsError> {
        fill(out, |put| self.encode(put))
    }

    /// Sends the state's words to `sink`, at most [`Self::WORDS`].
    pub fn encode(&self, sink: &mut impl WordSink) {
        sink.put(LAYOUT);
        let (standing, detail) = self.standing.code();
        sink.put(standing << 8 | detail);
        sink.put(u64::from(self.mismatches) << 1 | u64::from(self.verified));
        sink.put(self.primary.map_or(u64::MAX, u64::from));
        sink.put(self.pending_verified);
        sink.put(self.pending_overhead);
        sink.put(self.last_ns);
        sink.put(self.violations);
        self.queue.encode(sink);
        self.unbound.encode(sink);
        for total in self.totals {
            sink.put(total);
        }
        self.pending.encode(sink);
        self.up.encode(sink);
        self.down.encode(sink);
    }

    /// Reads a state written by [`Self::to_words`]; words behind it are ignored.
    ///
    /// # Errors
    ///
    /// [`WordsError`] when the words are no state.
    pub fn from_words(words: &[u64]) -> Result<Self, WordsError> {
        let mut source = WordSource::new(words);
        let found = source.take()?;
        if found != LAYOUT && found != LAYOUT_1 {
            let expected = LAYOUT;
            return Err(WordsError::Layout { found, expected });
        }
        let mut flow = Self::new(0);
        let value = source.take()?;
        flow.standing = Standing::from_code(value >> 8, value & 0xff).ok_or(WordsError::Value {
            field: "standing",
            value,
        })?;
        let value = source.take()?;
        flow.verified = value & 1 == 1;
        flow.mismatches = u8::try_from(value >> 1).map_err(|_| WordsError::Value {
            field: "mismatches",
            value,
        })?;
        flow.primary = match source.take_option()? {
            None => None,
            Some(value) => Some(u16::try_from(value).map_err(|_| WordsError::Value {
                field: "primary",
                value,
            })?),
        };
        flow.pending_verified = source.take()?;
        flow.pending_overhead = source.take()?;
        flow.last_ns = source.take()?;
        flow.violations = source.take()?;
        flow.queue = Queue::decode(&mut source)?;
        flow.unbound = Classes::decode(&mut source)?;
        for total in &mut flow.totals {
            *total = source.take()?;
        }
        flow.pending = Ranges::decode(&mut source)?;
        flow.up = Half::decode(&mut source, Side::Request)?;
        flow.down = Half::decode(&mut source, Side::Response)?;
        Ok(flow)
    }
}

impl Standing {
    const fn code(self) -> (u64, u64) {
        match self {
            Self::Proving => (0, 0),
            Self::MidStream => (1, 0),
            Self::Unframed(violation) => (2, violation as u64),
            Self::Demoted => (3, 0),
            Self::Closed(reason) => (4, reason as u64),
            Self::Ebbing => (5, 0),
        }
    }

    fn from_code(code: u64, detail: u64) -> Option<Self> {
        match code {
            0 => Some(Self::Proving),
            1 => Some(Self::MidStream),
            2 => Violation::from_code(detail).map(Self::Unframed),
            3 => Some(Self::Demoted),
            4 => CloseReason::ALL
                .into_iter()
                .find(|reason| *reason as u64 == detail)
                .map(Self::Closed),
            5 => Some(Self::Ebbing),
            _ => None,
        }
    }
}

impl Half {
    fn encode(&self, sink: &mut impl WordSink) {
        sink.put(self.isn.map_or(u64::MAX, u64::from));
        sink.put(self.end);
        sink.put(self.acked);
        sink.put(self.fin.unwrap_or(u64::MAX));
        sink.put(self.parse_at);
        sink.put(self.log);
        sink.put(self.allowance);
        sink.put(u64::from(self.message) << 1 | u64::from(self.interim));
        self.slot.encode(sink);
        sink.put(self.offset);
        self.seen.encode(sink);
        self.bad.encode(sink);
        self.parser.encode(sink);
        self.map.encode(sink);
    }

    fn decode(source: &mut WordSource<'_>, side: Side) -> Result<Self, WordsError> {
        let isn = match source.take_option()? {
            None => None,
            Some(value) => Some(u32::try_from(value).map_err(|_| WordsError::Value {
                field: "isn",
                value,
            })?),
        };
        let (end, acked, fin) = (source.take()?, source.take()?, source.take_option()?);
        let (parse_at, log, allowance) = (source.take()?, source.take()?, source.take()?);
        let value = source.take()?;
        let message = u32::try_from(value >> 1).map_err(|_| WordsError::Value {
            field: "message",
            value,
        })?;
        Ok(Self {
            isn,
            end,
            acked,
            fin,
            parse_at,
            log,
            allowance,
            message,
            interim: value & 1 == 1,
            slot: Slot::decode(source)?,
            offset: source.take()?,
            seen: Ranges::decode(source)?,
            bad: Ranges::decode(source)?,
            parser: Parser::decode(source, side)?,
            map: OffsetMap::decode(source)?,
        })
    }
}
