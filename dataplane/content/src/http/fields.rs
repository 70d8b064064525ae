//! The fields of a head that decide framing and mapping.

use super::line::Line;
use super::{BODY_LIMIT, Violation};
use crate::words::{WordSink, WordSource, WordsError};

/// `Content-Range: bytes first-last/total`. Source: RFC 9110 §14.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Number of bytes, at least 1.
    pub len: u64,
    /// Length of the whole content where stated.
    pub total: Option<u64>,
}

/// What was read of the current head so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fields {
    pub content_length: Option<u64>,
    pub chunked: bool,
    pub content_range: Option<ContentRange>,
    pub multipart: bool,
    pub http_1_0: bool,
    /// Status of a response.
    pub status: u16,
    /// Whether a request is HEAD.
    pub head: bool,
}

impl Fields {
    pub(super) const WORDS: usize = 5;

    /// Takes one field line that is not empty.
    pub(super) fn take(&mut self, line: &Line) -> Result<(), Violation> {
        let kept = line.kept();
        if matches!(kept.first(), Some(b' ' | b'\t')) {
            return Err(Violation::ObsFold);
        }
        let colon = kept
            .iter()
            .position(|byte| *byte == b':')
            .ok_or(Violation::Syntax)?;
        let (name, value) = kept.split_at(colon);
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(Violation::Syntax);
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("content-type") {
            let kind = value.get(..20).unwrap_or_default();
            self.multipart |= kind.eq_ignore_ascii_case(b"multipart/byteranges");
            return Ok(());
        }
        let decisive = is("content-length")
            || is("transfer-encoding")
            || is("content-encoding")
            || is("content-range")
            || is("upgrade");
        if !decisive {
            return Ok(());
        }
        if !line.is_whole() {
            return Err(Violation::LineTooLong);
        }
        if is("content-length") {
            self.take_length(value)
        } else if is("transfer-encoding") {
            self.take_encoding(value)
        } else if is("content-encoding") {
            let identity = value.eq_ignore_ascii_case(b"identity");
            if identity {
                Ok(())
            } else {
                Err(Violation::ContentEncoding)
            }
        } else if is("content-range") {
            self.take_range(value)
        } else {
            Err(Violation::Upgrade)
        }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Violation> {
        let length = number(value)
            .filter(|length| *length <= BODY_LIMIT)
            .ok_or(Violation::ContentLength)?;
        if self.chunked {
            return Err(Violation::LengthAndEncoding);
        }
        if self.content_length.is_some_and(|before| before != length) {
            return Err(Violation::ContentLength);
        }
        self.content_length = Some(length);
        Ok(())
    }

    fn take_encoding(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.chunked || self.http_1_0 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Violation::TransferEncoding);
        }
        if self.content_length.is_some() {
            return Err(Violation::LengthAndEncoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// Only a 206 is about a range; elsewhere the field decides nothing.
    fn take_range(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.status != 206 {
            return Ok(());
        }
        if self.content_range.is_some() {
            return Err(Violation::ContentRange);
        }
        self.content_range = Some(content_range(value).ok_or(Violation::ContentRange)?);
        Ok(())
    }

    pub(super) fn encode(&self, sink: &mut impl WordSink) {
        sink.put(self.content_length.unwrap_or(u64::MAX));
        let flags = [
            self.chunked,
            self.multipart,
            self.http_1_0,
            self.head,
            self.content_range.is_some(),
        ];
        let bits = flags
            .iter()
            .rev()
            .fold(0, |bits, flag| bits << 1 | u64::from(*flag));
        sink.put(u64::from(self.status) << 8 | bits);
        if let Some(range) = self.content_range {
            sink.put(range.first);
            sink.put(range.len);
            sink.put(range.total.unwrap_or(u64::MAX));
        }
    }

    pub(super) fn decode(source: &mut WordSource<'_>) -> Result<Self, WordsError> {
        let content_length = source.take_option()?;
        let value = source.take()?;
        let error = WordsError::Value {
            field: "fields",
            value,
        };
        let flag = |bit: u32| value >> bit & 1 == 1;
        let content_range = if flag(4) {
            Some(ContentRange {
                first: source.take()?,
                len: source.take()?,
                total: source.take_option()?,
            })
        } else {
            None
        };
        Ok(Self {
            content_length,
            chunked: flag(0),
            content_range,
            multipart: flag(1),
            http_1_0: flag(2),
            status: u16::try_from(value >> 8).map_err(|_| error)?,
            head: flag(3),
        })
    }
}

/// Source: RFC 9110 §5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit & 0x0f))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn content_range(value: &[u8]) -> Option<ContentRange> {
    let (unit, rest) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes ") {
        return None;
    }
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    let (range, total) = rest.split_at(slash);
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let (first, last) = range.split_at(dash);
    let first = number(first)?;
    let last = number(last.get(1..)?)?;
    let total = match total.get(1..)? {
        b"*" => None,
        digits => Some(number(digits)?),
    };
    let len = last.checked_sub(first)?.checked_add(1)?;
    let end = first.checked_add(len)?;
    if end > total.unwrap_or(BODY_LIMIT) || end > BODY_LIMIT {
        return None;
    }
    Some(ContentRange { first, len, total })
}
