//! One content in one session: what was acknowledged of it, and the classes of its bytes.

use qlink_types::ids::ContentId;
use qlink_types::receipt::ByteClasses;
use qlink_types::units::Bytes;

use crate::coverage::Ranges;
use crate::deltas::{ChargeReason, add};
use crate::words::{WordSink, WordSource, WordsError, fill};

/// Room of a view's acknowledged coverage. Chosen: design.md section 5.
pub const VIEW_RANGES: usize = 32;

const LAYOUT: u64 = 0x5649_4557_0000_0001; // "VIEW", version 1

/// A content that flows of a session may be nominated for.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its root.
    pub id: ContentId,
    /// Its verified copy.
    pub bytes: &'a [u8],
}

/// The contents of a session by slot. A slot keeps its content as long as the session lives; the
/// view of slot `n` is element `n` of the views.
pub trait ContentSet {
    /// Number of slots; slots at or above it are empty.
    fn slots(&self) -> u16;

    /// What is in `slot`; `None` when it is empty or its copy is gone.
    fn content(&self, slot: u16) -> Option<Candidate<'_>>;
}

impl ContentSet for Vec<Candidate<'_>> {
    fn slots(&self) -> u16 {
        u16::try_from(self.len()).unwrap_or(u16::MAX)
    }

    #[inline]
    fn content(&self, slot: u16) -> Option<Candidate<'_>> {
        self.get(usize::from(slot)).copied()
    }
}

/// What a view's limit stands for, hence why bytes above it are charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LimitReason {
    /// The reservation of package bytes.
    #[default]
    PackageExhausted,
    /// The cap per viewer.
    Cap,
}

/// Plain counters in bytes, the classes of [`ByteClasses`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Classes {
    pub wire_payload: u64,
    pub verified_unique: u64,
    pub retransmit: u64,
    pub verified_repeat: u64,
    pub overhead_allowed: u64,
    pub undelivered: u64,
    pub user_charged: u64,
    pub pending: u64,
}

impl Classes {
    const WORDS: usize = 8;

    pub(crate) fn absorb(&mut self, other: &Self) {
        add(&mut self.wire_payload, other.wire_payload);
        add(&mut self.verified_unique, other.verified_unique);
        add(&mut self.retransmit, other.retransmit);
        add(&mut self.verified_repeat, other.verified_repeat);
        add(&mut self.overhead_allowed, other.overhead_allowed);
        add(&mut self.undelivered, other.undelivered);
        add(&mut self.user_charged, other.user_charged);
        add(&mut self.pending, other.pending);
    }

    pub(crate) fn encode(&self, sink: &mut impl WordSink) {
        sink.put(self.wire_payload);
        sink.put(self.verified_unique);
        sink.put(self.retransmit);
        sink.put(self.verified_repeat);
        sink.put(self.overhead_allowed);
        sink.put(self.undelivered);
        sink.put(self.user_charged);
        sink.put(self.pending);
    }

    pub(crate) fn decode(source: &mut WordSource<'_>) -> Result<Self, WordsError> {
        Ok(Self {
            wire_payload: source.take()?,
            verified_unique: source.take()?,
            retransmit: source.take()?,
            verified_repeat: source.take()?,
            overhead_allowed: source.take()?,
            undelivered: source.take()?,
            user_charged: source.take()?,
            pending: source.take()?,
        })
    }
}

/// How acknowledged content bytes were judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Acknowledged {
    pub unique: u64,
    pub repeat: u64,
    /// Above the limit.
    pub limited: u64,
    /// Would have needed one range too many.
    pub unplaced: u64,
}

/// The state of one content in one session.
///
/// Attribution: a byte belongs to the view of the content it was judged against; everything else
/// of a flow (heads, request bodies, unproven bodies) to the first content the flow nominated. A
/// flow that never nominated belongs to no view and shows in the session's totals only.
#[derive(Debug, Clone, Copy)]
pub struct View {
    limit: u64,
    limit_reason: LimitReason,
    coverage: Ranges<VIEW_RANGES>,
    pub(crate) classes: Classes,
    /// The part of `classes.pending` that is heads and framing. Not written: after a restart each
    /// flow states its own again, [`crate::FlowProof::rejoin`].
    pub(crate) pending_overhead: u64,
}

/// Views are equal when their words are.
impl PartialEq for View {
    fn eq(&self, other: &Self) -> bool {
        self.limit == other.limit
            && self.limit_reason == other.limit_reason
            && self.coverage == other.coverage
            && self.classes == other.classes
    }
}

impl Eq for View {}

impl View {
    /// Words of the largest encoding.
    pub const WORDS: usize = 3 + Classes::WORDS + Ranges::<VIEW_RANGES>::WORDS;

    /// Nothing delivered yet; at most `limit` bytes may become `verified_unique`.
    #[must_use]
    pub const fn new(limit: Bytes, reason: LimitReason) -> Self {
        Self {
            limit: limit.get(),
            limit_reason: reason,
            coverage: Ranges::new(),
            classes: Classes {
                wire_payload: 0,
                verified_unique: 0,
                retransmit: 0,
                verified_repeat: 0,
                overhead_allowed: 0,
                undelivered: 0,
                user_charged: 0,
                pending: 0,
            },
            pending_overhead: 0,
        }
    }

    /// Content bytes that matched and are not acknowledged yet: no more than these become
    /// `verified_unique` without another packet.
    #[inline]
    #[must_use]
    pub const fn pending_content(&self) -> u64 {
        self.classes.pending.saturating_sub(self.pending_overhead)
    }

    /// Replaces the limit; what was counted stays counted.
    pub const fn set_limit(&mut self, limit: Bytes, reason: LimitReason) {
        self.limit = limit.get();
        self.limit_reason = reason;
    }

    /// Most bytes that may become `verified_unique`.
    #[must_use]
    pub const fn limit(&self) -> Bytes {
        Bytes::new(self.limit)
    }

    /// Acknowledged content offsets.
    #[must_use]
    pub const fn coverage(&self) -> &Ranges<VIEW_RANGES> {
        &self.coverage
    }

    /// The counters.
    #[must_use]
    pub const fn classes(&self) -> ByteClasses {
        let own = &self.classes;
        ByteClasses {
            wire_payload: Bytes::new(own.wire_payload),
            verified_unique: Bytes::new(own.verified_unique),
            retransmit: Bytes::new(own.retransmit),
            verified_repeat: Bytes::new(own.verified_repeat),
            overhead_allowed: Bytes::new(own.overhead_allowed),
            undelivered: Bytes::new(own.undelivered),
            user_charged: Bytes::new(own.user_charged),
            pending: Bytes::new(own.pending),
        }
    }

    /// Whether the classes sum to the wire payload and the coverage to `verified_unique`.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.classes().is_conserved() && self.coverage.total() == self.classes.verified_unique
    }

    pub(crate) const fn limit_charge(&self) -> ChargeReason {
        match self.limit_reason {
            LimitReason::PackageExhausted => ChargeReason::PackageExhausted,
            LimitReason::Cap => ChargeReason::Cap,
        }
    }

    /// Takes the acknowledgement of content `start..end`; `charged` hears of each part that was
    /// neither new within the limit nor delivered before.
    pub(crate) fn acknowledge(
        &mut self,
        start: u64,
        end: u64,
        mut charged: impl FnMut(u64, u64),
    ) -> Acknowledged {
        let mut result = Acknowledged::default();
        let mut at = start;
        while let Some(gap) = self.coverage.next_gap(at, end) {
            add(&mut result.repeat, gap.start.saturating_sub(at));
            at = gap.end;
            let room = self.limit.saturating_sub(self.classes.verified_unique);
            let fits = gap.start.saturating_add(room.min(gap.len()));
            let counted = if fits > gap.start && self.coverage.insert(gap.start, fits).is_err() {
                add(&mut result.unplaced, fits.saturating_sub(gap.start));
                gap.start
            } else {
                fits
            };
            let unique = counted.saturating_sub(gap.start);
            add(&mut result.unique, unique);
            add(&mut self.classes.verified_unique, unique);
            add(&mut result.limited, gap.end.saturating_sub(fits));
            if counted < gap.end {
                charged(counted, gap.end);
            }
        }
        add(&mut result.repeat, end.saturating_sub(at));
        add(&mut self.classes.verified_repeat, result.repeat);
        let refused = result.limited.saturating_add(result.unplaced);
        add(&mut self.classes.user_charged, refused);
        result
    }

    /// Writes the view to `out`; how many words were used.
    ///
    /// # Errors
    ///
    /// [`WordsError::TooShort`]; [`Self::WORDS`] always suffice.
    pub fn to_words(&self, out: &mut [u64]) -> Result<usize, WordsError> {
        fill(out, |put| self.encode(put))
    }

    /// Sends the view's words to `sink`.
    pub fn encode(&self, sink: &mut impl WordSink) {
        sink.put(LAYOUT);
        sink.put(self.limit);
        sink.put(match self.limit_reason {
            LimitReason::PackageExhausted => 0,
            LimitReason::Cap => 1,
        });
        self.classes.encode(sink);
        self.coverage.encode(sink);
    }

    /// Reads a view written by [`Self::to_words`]; words behind it are ignored.
    ///
    /// # Errors
    ///
    /// [`WordsError`] when the words are no view.
    pub fn from_words(words: &[u64]) -> Result<Self, WordsError> {
        let mut source = WordSource::new(words);
        let found = source.take()?;
        if found != LAYOUT {
            let expected = LAYOUT;
            return Err(WordsError::Layout { found, expected });
        }
        let limit = source.take()?;
        let limit_reason = if source.take_flag("limit reason")? {
            LimitReason::Cap
        } else {
            LimitReason::PackageExhausted
        };
        Ok(Self {
            limit,
            limit_reason,
            classes: Classes::decode(&mut source)?,
            coverage: Ranges::decode(&mut source)?,
            pending_overhead: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_above_the_limit_are_refused_to_the_byte() {
        let mut view = View::new(Bytes::new(100), LimitReason::Cap);
        let mut refused = Vec::new();

        let first = view.acknowledge(0, 60, |a, b| refused.push((a, b)));
        let second = view.acknowledge(50, 150, |a, b| refused.push((a, b)));

        assert_eq!((first.unique, first.repeat, first.limited), (60, 0, 0));
        assert_eq!((second.unique, second.repeat, second.limited), (40, 10, 50));
        assert_eq!(refused, [(100, 150)]);
        assert_eq!(view.limit_charge(), ChargeReason::Cap);
    }

    #[test]
    fn the_33rd_island_is_charged_and_the_coverage_stays() {
        let mut view = View::new(Bytes::new(u64::MAX), LimitReason::PackageExhausted);
        for island in 0..32 {
            view.acknowledge(island * 10, island * 10 + 5, |_, _| {});
        }

        let result = view.acknowledge(1_000, 1_005, |_, _| {});

        assert_eq!((result.unique, result.unplaced), (0, 5));
        assert_eq!(view.coverage().total(), 160);
    }

    #[test]
    fn words_of_another_layout_are_refused() {
        let mut words = [0; View::WORDS];
        View::new(Bytes::new(1), LimitReason::Cap)
            .to_words(&mut words)
            .unwrap();
        words[0] += 1;

        assert!(matches!(
            View::from_words(&words),
            Err(WordsError::Layout { .. })
        ));
    }
}
