//! HTTP/1.1 as far as a browser and a film server need it: heads, body lengths, chunked framing.
//!
//! Three users share it: the simulated client, the simulated origin, and the accounting of the
//! simulators, which must be independent of the gateway's own parser. Nothing here does I/O.
//! Source: RFC 9112.

/// Largest head that the simulators read, in bytes. Chosen: room for the cheat that hides payload
/// in heads, and still a bound.
pub(crate) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Why bytes are not an HTTP/1.1 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The first line is not a request line or a status line.
    #[error("malformed start line")]
    StartLine,
    /// A header line has no colon or is not UTF-8.
    #[error("malformed header line")]
    HeaderLine,
    /// The head is longer than [`HEAD_BYTES_MAX`].
    #[error("head longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    /// `Content-Length`, `Content-Range` or `Range` is not what RFC 9110 allows.
    #[error("malformed length or range")]
    Length,
    /// A chunk's size line or its end is malformed.
    #[error("malformed chunk framing")]
    Chunk,
}

/// The headers of a head, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value under `name`, compared without case.
    #[must_use]
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// Whether a comma-separated header holds `token`.
    #[must_use]
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.value(name).is_some_and(|value| {
            value
                .split(',')
                .any(|part| part.trim().eq_ignore_ascii_case(token))
        })
    }

    /// The stated body length.
    ///
    /// # Errors
    ///
    /// [`HttpError::Length`] when the header is there and not a number.
    pub(crate) fn content_length(&self) -> Result<Option<u64>, HttpError> {
        self.value("content-length")
            .map(|value| value.trim().parse().map_err(|_| HttpError::Length))
            .transpose()
    }

    fn parse(lines: std::str::Split<'_, &str>) -> Result<Self, HttpError> {
        lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or(HttpError::HeaderLine)?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }
}

/// A request line and its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestHead {
    /// `GET`, `HEAD`, `POST`.
    pub method: String,
    /// The request target as sent, query included.
    pub target: String,
    /// All headers.
    pub headers: Headers,
}

impl RequestHead {
    /// Reads a complete head, the empty line included.
    ///
    /// # Errors
    ///
    /// [`HttpError::StartLine`] or [`HttpError::HeaderLine`].
    pub(crate) fn parse(head: &[u8]) -> Result<Self, HttpError> {
        let text = std::str::from_utf8(head).map_err(|_| HttpError::HeaderLine)?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version), None)
                if version.starts_with("HTTP/1.") && !method.is_empty() && !target.is_empty() =>
            {
                Ok(Self {
                    method: method.to_owned(),
                    target: target.to_owned(),
                    headers: Headers::parse(lines)?,
                })
            }
            _ => Err(HttpError::StartLine),
        }
    }

    /// The target's path, without the query.
    #[must_use]
    pub(crate) fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(&*self.target, |(path, _)| path)
    }

    /// Whether the query holds `flag`, as `?flag` or `&flag=1`.
    #[must_use]
    pub(crate) fn has_query_flag(&self, flag: &str) -> bool {
        self.target.split_once('?').is_some_and(|(_, query)| {
            query
                .split('&')
                .any(|pair| pair == flag || pair.strip_prefix(flag) == Some("=1"))
        })
    }

    /// How long the request's own body is.
    ///
    /// # Errors
    ///
    /// [`HttpError::Length`].
    pub(crate) fn body_length(&self) -> Result<BodyLength, HttpError> {
        if self.headers.has_token("transfer-encoding", "chunked") {
            return Ok(BodyLength::Chunked);
        }
        Ok(BodyLength::Known(
            self.headers.content_length()?.unwrap_or(0),
        ))
    }

    /// The one range `bytes=a-b`, `bytes=a-` or `bytes=-n` of a representation of `size` bytes, as
    /// start and end (exclusive). A list of ranges is answered in whole, as RFC 9110 §14.2 permits.
    #[must_use]
    pub(crate) fn range(&self, size: u64) -> RangeRequest {
        let Some(spec) = self
            .headers
            .value("range")
            .and_then(|v| v.strip_prefix("bytes="))
        else {
            return RangeRequest::Whole;
        };
        let Some((first, last)) = spec.split_once('-').filter(|_| !spec.contains(',')) else {
            return RangeRequest::Whole;
        };
        let bounds = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(start), Ok(end)) => Some((start, end.saturating_add(1).min(size))),
            (Ok(start), Err(_)) if last.is_empty() => Some((start, size)),
            (Err(_), Ok(tail)) if first.is_empty() => Some((size.saturating_sub(tail), size)),
            _ => None,
        };
        match bounds {
            Some((start, end)) if start < end => RangeRequest::Part { start, end },
            Some(_) => RangeRequest::Unsatisfiable,
            None => RangeRequest::Whole,
        }
    }
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeRequest {
    /// Everything.
    Whole,
    /// Bytes `start..end`.
    Part {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
    /// Nothing that exists: status 416.
    Unsatisfiable,
}

/// A status line and its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// All headers.
    pub headers: Headers,
}

impl ResponseHead {
    /// Reads a complete head, the empty line included.
    ///
    /// # Errors
    ///
    /// [`HttpError::StartLine`] or [`HttpError::HeaderLine`].
    pub(crate) fn parse(head: &[u8]) -> Result<Self, HttpError> {
        let text = std::str::from_utf8(head).map_err(|_| HttpError::HeaderLine)?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        match status.filter(|status| version.starts_with("HTTP/1.") && (100..600).contains(status))
        {
            Some(status) => Ok(Self {
                status,
                headers: Headers::parse(lines)?,
            }),
            None => Err(HttpError::StartLine),
        }
    }

    /// How long the body is that follows, given the request's method. Source: RFC 9112 §6.3.
    ///
    /// # Errors
    ///
    /// [`HttpError::Length`].
    pub(crate) fn body_length(&self, method: &str) -> Result<BodyLength, HttpError> {
        if method == "HEAD" || self.status < 200 || matches!(self.status, 204 | 304) {
            return Ok(BodyLength::Known(0));
        }
        if self.headers.has_token("transfer-encoding", "chunked") {
            return Ok(BodyLength::Chunked);
        }
        Ok(self
            .headers
            .content_length()?
            .map_or(BodyLength::UntilClose, BodyLength::Known))
    }

    /// Where in the representation the body starts: 0 for 200, the first byte of `Content-Range`
    /// for 206, `None` for any other status.
    ///
    /// # Errors
    ///
    /// [`HttpError::Length`] for 206 without a readable `Content-Range`.
    pub(crate) fn content_start(&self) -> Result<Option<u64>, HttpError> {
        match self.status {
            200 => Ok(Some(0)),
            206 => self
                .headers
                .value("content-range")
                .and_then(|value| value.strip_prefix("bytes "))
                .and_then(|value| value.split_once('-'))
                .and_then(|(start, _)| start.parse().ok())
                .map(Some)
                .ok_or(HttpError::Length),
            _ => Ok(None),
        }
    }
}

/// The length of a message's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// This many bytes.
    Known(u64),
    /// Chunked framing tells.
    Chunked,
    /// All bytes up to the connection's end.
    UntilClose,
}

/// Where the head ends: one past the empty line, or `None` while it is incomplete.
#[must_use]
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .and_then(|at| at.checked_add(4))
}

/// What the next bytes of a body are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyPiece {
    /// This many bytes of content.
    Data(usize),
    /// This many bytes of chunk size lines, line ends and trailers.
    Framing(usize),
}

/// Cuts a body's bytes into content and framing, piece by piece, without storing any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyDecoder {
    state: BodyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    Fixed { left: u64 },
    UntilClose,
    Chunked(ChunkState),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
}

impl BodyDecoder {
    /// A decoder for one body.
    #[must_use]
    pub(crate) const fn new(length: BodyLength) -> Self {
        Self {
            state: match length {
                BodyLength::Known(0) => BodyState::Done,
                BodyLength::Known(left) => BodyState::Fixed { left },
                BodyLength::Chunked => BodyState::Chunked(ChunkState::Size {
                    value: 0,
                    digits: 0,
                }),
                BodyLength::UntilClose => BodyState::UntilClose,
            },
        }
    }

    /// Whether the body is complete.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        self.state == BodyState::Done
    }

    /// The bytes left of a body whose length was stated; `None` for any other.
    #[must_use]
    pub(crate) const fn known_len(&self) -> Option<u64> {
        match self.state {
            BodyState::Fixed { left } => Some(left),
            BodyState::Done => Some(0),
            BodyState::UntilClose | BodyState::Chunked(_) => None,
        }
    }

    /// Whether only the connection's end completes the body.
    #[must_use]
    pub(crate) fn ends_at_close(&self) -> bool {
        self.state == BodyState::UntilClose
    }

    /// Judges the start of `bytes`, which must not be empty and continues the last call's bytes.
    /// `None` when the body is already complete.
    ///
    /// # Errors
    ///
    /// [`HttpError::Chunk`].
    pub(crate) fn next_piece(&mut self, bytes: &[u8]) -> Result<Option<BodyPiece>, HttpError> {
        match &mut self.state {
            BodyState::Done => Ok(None),
            BodyState::UntilClose => Ok(Some(BodyPiece::Data(bytes.len()))),
            BodyState::Fixed { left } => {
                let taken = take(left, bytes.len());
                if *left == 0 {
                    self.state = BodyState::Done;
                }
                Ok(Some(BodyPiece::Data(taken)))
            }
            BodyState::Chunked(ChunkState::Data { left }) => {
                let taken = take(left, bytes.len());
                if *left == 0 {
                    self.state = BodyState::Chunked(ChunkState::DataCr);
                }
                Ok(Some(BodyPiece::Data(taken)))
            }
            BodyState::Chunked(_) => self.framing(bytes).map(|len| Some(BodyPiece::Framing(len))),
        }
    }

    fn framing(&mut self, bytes: &[u8]) -> Result<usize, HttpError> {
        let mut used = 0_usize;
        for byte in bytes {
            let BodyState::Chunked(state) = self.state else {
                break;
            };
            if matches!(state, ChunkState::Data { .. }) {
                break;
            }
            self.state = chunk_step(state, *byte)?;
            used = used.saturating_add(1);
        }
        Ok(used)
    }
}

fn take(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left = left.saturating_sub(taken as u64);
    taken
}

fn chunk_step(state: ChunkState, byte: u8) -> Result<BodyState, HttpError> {
    let next = match (state, byte) {
        (ChunkState::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
            if digits < 15 =>
        {
            let digit = char::from(byte).to_digit(16).ok_or(HttpError::Chunk)?;
            let value = value.wrapping_shl(4) | u64::from(digit);
            ChunkState::Size {
                value,
                digits: digits.saturating_add(1),
            }
        }
        (ChunkState::Size { value, digits: 1.. }, b'\r')
        | (ChunkState::Extension { value }, b'\r') => ChunkState::SizeLf { value },
        (ChunkState::Size { value, digits: 1.. }, b';' | b' ')
        | (ChunkState::Extension { value }, _) => ChunkState::Extension { value },
        (ChunkState::SizeLf { value: 0 }, b'\n') => ChunkState::TrailerStart,
        (ChunkState::SizeLf { value }, b'\n') => ChunkState::Data { left: value },
        (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
        (ChunkState::DataLf, b'\n') => ChunkState::Size {
            value: 0,
            digits: 0,
        },
        (ChunkState::TrailerStart, b'\r') => ChunkState::LastLf,
        (ChunkState::Trailer, b'\r') => ChunkState::TrailerLf,
        (ChunkState::TrailerStart | ChunkState::Trailer, _) => ChunkState::Trailer,
        (ChunkState::TrailerLf, b'\n') => ChunkState::TrailerStart,
        (ChunkState::LastLf, b'\n') => return Ok(BodyState::Done),
        _ => return Err(HttpError::Chunk),
    };
    Ok(BodyState::Chunked(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(decoder: &mut BodyDecoder, mut bytes: &[u8]) -> Result<(Vec<u8>, usize), HttpError> {
        let (mut data, mut framing) = (Vec::new(), 0);
        while !bytes.is_empty() {
            match decoder.next_piece(bytes)? {
                Some(BodyPiece::Data(len)) => {
                    data.extend_from_slice(&bytes[..len]);
                    bytes = &bytes[len..];
                }
                Some(BodyPiece::Framing(len)) => {
                    framing += len;
                    bytes = &bytes[len..];
                }
                None => break,
            }
        }
        Ok((data, framing))
    }

    #[test]
    fn chunked_body_is_cut_alike_at_every_split() {
        let body: &[u8] = b"4\r\nWiki\r\nA;x=y\r\npedia in c\r\n0\r\nX: y\r\n\r\n";

        for split in 0..body.len() {
            let mut decoder = BodyDecoder::new(BodyLength::Chunked);
            let (mut data, mut framing) = cut(&mut decoder, &body[..split]).unwrap();
            let (rest, more) = cut(&mut decoder, &body[split..]).unwrap();
            data.extend(rest);
            framing += more;

            assert_eq!(data, b"Wikipedia in c", "split at {split}");
            assert_eq!(framing, body.len() - 14);
            assert!(decoder.is_done());
        }
    }

    #[test]
    fn chunk_size_without_digits_is_refused() {
        let mut decoder = BodyDecoder::new(BodyLength::Chunked);

        assert_eq!(cut(&mut decoder, b"\r\nabc"), Err(HttpError::Chunk));
    }

    #[test]
    fn known_length_ends_at_its_last_byte() {
        let mut decoder = BodyDecoder::new(BodyLength::Known(3));

        assert_eq!(cut(&mut decoder, b"abcHTTP").unwrap(), (b"abc".to_vec(), 0));
        assert!(decoder.is_done());
    }

    #[test]
    fn range_forms_of_rfc_9110_are_understood() {
        let head = |range: &str| {
            RequestHead::parse(
                format!("GET /f?chunked=1 HTTP/1.1\r\nRange: {range}\r\n\r\n").as_bytes(),
            )
            .unwrap()
        };

        assert_eq!(
            head("bytes=0-9").range(100),
            RangeRequest::Part { start: 0, end: 10 }
        );
        assert_eq!(
            head("bytes=90-").range(100),
            RangeRequest::Part {
                start: 90,
                end: 100
            }
        );
        assert_eq!(
            head("bytes=-5").range(100),
            RangeRequest::Part {
                start: 95,
                end: 100
            }
        );
        assert_eq!(head("bytes=100-").range(100), RangeRequest::Unsatisfiable);
        assert_eq!(head("bytes=0-1,4-5").range(100), RangeRequest::Whole);
        assert_eq!(head("bytes=0-1").path(), "/f");
        assert!(head("bytes=0-1").has_query_flag("chunked"));
    }

    #[test]
    fn head_answer_has_no_body_whatever_it_states() {
        let head = ResponseHead::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n").unwrap();

        assert_eq!(head.body_length("HEAD").unwrap(), BodyLength::Known(0));
        assert_eq!(head.body_length("GET").unwrap(), BodyLength::Known(9));
        assert_eq!(head.content_start().unwrap(), Some(0));
    }
}
