//! The requests of a flow that have no response yet.

use crate::words::{WordSink, WordSource, WordsError};

/// Most requests without response. Chosen: browsers pipeline at most 8.
pub const QUEUE_LIMIT: usize = 16;

/// What of a request decides how its response is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// HEAD: the response has no body whatever it says.
    Head,
    /// Any other.
    Other,
}

/// Outstanding requests, oldest first; one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    heads: u16,
    len: u8,
}

impl Queue {
    /// No request.
    #[must_use]
    pub const fn new() -> Self {
        Self { heads: 0, len: 0 }
    }

    /// Number of outstanding requests.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether every request has its response.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a request; `false` when there are [`QUEUE_LIMIT`] already.
    #[must_use]
    pub fn push(&mut self, kind: RequestKind) -> bool {
        if self.len() >= QUEUE_LIMIT {
            return false;
        }
        if kind == RequestKind::Head {
            self.heads |= 1 << self.len;
        }
        self.len = self.len.saturating_add(1);
        true
    }

    /// The oldest request.
    #[must_use]
    pub const fn front(&self) -> Option<RequestKind> {
        match (self.len, self.heads & 1) {
            (0, _) => None,
            (_, 1) => Some(RequestKind::Head),
            _ => Some(RequestKind::Other),
        }
    }

    /// Removes the oldest request.
    pub const fn pop(&mut self) {
        self.heads >>= 1;
        self.len = self.len.saturating_sub(1);
    }

    pub(crate) fn encode(self, sink: &mut impl WordSink) {
        sink.put(u64::from(self.heads) << 8 | u64::from(self.len));
    }

    pub(crate) fn decode(source: &mut WordSource<'_>) -> Result<Self, WordsError> {
        let value = source.take()?;
        let error = WordsError::Value {
            field: "queue",
            value,
        };
        let len = u8::try_from(value & 0xff).map_err(|_| error)?;
        let heads = u16::try_from(value >> 8).map_err(|_| error)?;
        if usize::from(len) > QUEUE_LIMIT || u32::from(heads) >> len != 0 {
            return Err(error);
        }
        Ok(Self { heads, len })
    }
}
