//! Encoding of proof state as 64-bit words, the unit in which the arena stores it.
//!
//! The encoding is compact: a set writes its length and its members, so the steady state of a
//! flow is some sixty words although the largest possible state is many times that.

/// Why words are not a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// The input ends before the state does, or the output is too short for it.
    #[error("{have} words are too few")]
    TooShort {
        /// Words given.
        have: usize,
    },
    /// The words were written by another layout.
    #[error("layout {found} is not {expected}")]
    Layout {
        /// First word.
        found: u64,
        /// Wanted.
        expected: u64,
    },
    /// A field holds a value that no state has.
    #[error("{field} holds {value}")]
    Value {
        /// Which field.
        field: &'static str,
        /// Its word.
        value: u64,
    },
}

/// Receives words in order.
pub trait WordSink {
    /// Takes the next word.
    fn put(&mut self, word: u64);
}

impl<F: FnMut(u64)> WordSink for F {
    #[inline]
    fn put(&mut self, word: u64) {
        self(word);
    }
}

/// Writes words to a slice and counts those it has no room for too.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    out: &'a mut [u64],
    used: usize,
}

impl WordSink for Filler<'_> {
    #[inline]
    fn put(&mut self, word: u64) {
        if let Some(place) = self.out.get_mut(self.used) {
            *place = word;
        }
        self.used = self.used.saturating_add(1);
    }
}

/// Writes `encode`'s words to `out`; how many were used.
pub(crate) fn fill(
    out: &mut [u64],
    encode: impl FnOnce(&mut Filler<'_>),
) -> Result<usize, WordsError> {
    let have = out.len();
    let mut filler = Filler { out, used: 0 };
    encode(&mut filler);
    if filler.used > have {
        return Err(WordsError::TooShort { have });
    }
    Ok(filler.used)
}

/// Reads words in order.
#[derive(Debug)]
pub(crate) struct WordSource<'a> {
    words: &'a [u64],
    at: usize,
}

impl<'a> WordSource<'a> {
    pub(crate) const fn new(words: &'a [u64]) -> Self {
        Self { words, at: 0 }
    }

    pub(crate) fn take(&mut self) -> Result<u64, WordsError> {
        let have = self.words.len();
        let word = self.words.get(self.at).copied();
        self.at = self.at.saturating_add(1);
        word.ok_or(WordsError::TooShort { have })
    }

    /// A word that must fit into `T`.
    pub(crate) fn take_as<T: TryFrom<u64>>(
        &mut self,
        field: &'static str,
    ) -> Result<T, WordsError> {
        let value = self.take()?;
        T::try_from(value).map_err(|_| WordsError::Value { field, value })
    }

    /// A word that must be at most `limit`.
    pub(crate) fn take_at_most(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<usize, WordsError> {
        let value = self.take()?;
        match usize::try_from(value) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(WordsError::Value { field, value }),
        }
    }

    pub(crate) fn take_flag(&mut self, field: &'static str) -> Result<bool, WordsError> {
        Ok(self.take_at_most(field, 1)? == 1)
    }

    /// `None` is written as `u64::MAX`.
    pub(crate) fn take_option(&mut self) -> Result<Option<u64>, WordsError> {
        let word = self.take()?;
        Ok((word != u64::MAX).then_some(word))
    }
}
