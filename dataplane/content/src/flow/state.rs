//! Stub.
use super::input::{CloseReason, Context, Direction, Segment, Verdict};
use crate::deltas::Deltas;
use crate::view::View;
use crate::words::{WordSink, WordsError};

/// The proof of one TCP flow.
#[derive(Debug, Clone, Copy)]
pub struct FlowProof {
    last_ns: u64,
}

impl FlowProof {
    /// Words of the largest encoding.
    pub const WORDS: usize = 1_024;

    /// A flow of which nothing was seen.
    #[must_use]
    pub const fn new(now_ns: u64) -> Self {
        Self { last_ns: now_ns }
    }

    /// Judges one segment.
    pub fn segment(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        segment: &Segment<'_>,
    ) -> Verdict {
        let _ = (context, direction, segment);
        Verdict::Forward(Deltas::default())
    }

    /// Ends the flow: nothing of it stays pending.
    pub fn close(&mut self, views: &mut [View], reason: CloseReason) -> Deltas {
        let _ = (views, reason);
        Deltas::default()
    }

    /// Whether the flow is closed, and why.
    #[must_use]
    pub const fn closed(&self) -> Option<CloseReason> {
        None
    }

    /// When the last segment came.
    #[must_use]
    pub const fn idle_since(&self) -> u64 {
        self.last_ns
    }

    /// Writes the state to `out`; how many words were used.
    ///
    /// # Errors
    ///
    /// [`WordsError::TooShort`]; [`Self::WORDS`] always suffice.
    pub fn to_words(&self, out: &mut [u64]) -> Result<usize, WordsError> {
        let _ = out;
        Ok(0)
    }

    /// Sends the state's words to `sink`.
    pub fn encode(&self, sink: &mut impl WordSink) {
        sink.put(0);
    }

    /// Reads a state.
    ///
    /// # Errors
    ///
    /// [`WordsError`] when the words are no state.
    pub fn from_words(words: &[u64]) -> Result<Self, WordsError> {
        let _ = words;
        Ok(Self::new(0))
    }
}
