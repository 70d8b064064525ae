//! The framing machine of one direction.

use super::fields::Fields;
use super::line::Line;
use super::{Queue, RequestKind, Violation};
use crate::words::{WordSink, WordSource, WordsError};

/// Longest body or chunk that is framed, 2^48 bytes. Chosen: positions then never overflow.
pub const BODY_LIMIT: u64 = 1 << 48;

const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"CONNECT ",
];

/// Whose messages a parser reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The subscriber's.
    Request,
    /// The server's.
    Response,
}

/// What the consumed bytes were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Start line and fields.
    Head,
    /// Chunk sizes, the CRLF behind chunks, trailers.
    Framing,
}

/// How long the body is that follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// None.
    None,
    /// This many bytes, at least 1; the caller steps over them.
    Length(u64),
    /// Chunks, announced one by one.
    Chunked,
}

/// Where in which content a response body lies, if it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nomination {
    /// Content offset of the first body byte.
    pub offset: u64,
    /// Length of the whole content where the head states it.
    pub total: Option<u64>,
}

/// A complete head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// A 1xx response: the final one follows.
    pub interim: bool,
    /// The body.
    pub body: Body,
    /// Only for 200 and 206 with a body.
    pub nomination: Option<Nomination>,
}

/// What happened at the end of the consumed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing; more is needed.
    More,
    /// A head is complete.
    Head(Head),
    /// A chunk of this many bytes follows, at least 1; the caller steps over them.
    Chunk(u64),
    /// A chunked message is complete.
    End,
    /// The next byte cannot be framed, nor anything behind it.
    Violation(Violation),
}

/// The answer to one piece of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Bytes taken, all of the same role.
    pub consumed: usize,
    /// Their role.
    pub role: Role,
    /// What follows them.
    pub event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Start = 0,
    Fields,
    ChunkSize,
    ChunkEnd,
    Trailers,
}

/// The framing state of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parser {
    side: Side,
    phase: Phase,
    line: Line,
    fields: Fields,
}

impl Parser {
    pub(crate) const WORDS: usize = 1 + Line::WORDS + Fields::WORDS;

    /// At the start of a stream.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self {
            side,
            phase: Phase::Start,
            line: Line::new(),
            fields: Fields::default(),
        }
    }

    /// Whether the next byte begins a message.
    #[must_use]
    pub const fn at_start(&self) -> bool {
        matches!(self.phase, Phase::Start) && !self.line.is_begun()
    }

    /// Takes bytes up to the next event. `queue` gains the requests and loses those answered.
    /// After a violation the parser must not be fed again.
    pub fn feed(&mut self, queue: &mut Queue, bytes: &[u8]) -> Fed {
        let role = match self.phase {
            Phase::Start | Phase::Fields => Role::Head,
            Phase::ChunkSize | Phase::ChunkEnd | Phase::Trailers => Role::Framing,
        };
        let mut consumed = 0_usize;
        for byte in bytes {
            match self.take(queue, *byte) {
                Ok(Event::More) => consumed = consumed.saturating_add(1),
                Ok(event) => {
                    let consumed = consumed.saturating_add(1);
                    return Fed {
                        consumed,
                        role,
                        event,
                    };
                }
                Err(violation) => {
                    let event = Event::Violation(violation);
                    return Fed {
                        consumed,
                        role,
                        event,
                    };
                }
            }
        }
        let event = Event::More;
        Fed {
            consumed,
            role,
            event,
        }
    }

    fn take(&mut self, queue: &mut Queue, byte: u8) -> Result<Event, Violation> {
        if self.phase == Phase::ChunkEnd && !matches!(byte, b'\r' | b'\n') {
            return Err(Violation::Chunk);
        }
        let complete = self.line.push(byte)?;
        if !complete {
            if self.phase == Phase::Start && self.side == Side::Request && self.line.spaces() == 0 {
                self.check_method()?;
            }
            return Ok(Event::More);
        }
        let event = match self.phase {
            Phase::Start => self.start_line().map(|()| Event::More),
            Phase::Fields if self.line.is_empty() => self.head_end(queue).map(Event::Head),
            Phase::Fields => self.fields.take(&self.line).map(|()| Event::More),
            Phase::ChunkSize => self.chunk_size(),
            Phase::ChunkEnd => {
                self.phase = Phase::ChunkSize;
                Ok(Event::More)
            }
            Phase::Trailers => self.trailer(),
        };
        self.line.clear();
        event
    }

    /// Refuses at the first byte that no method continues with, so that a foreign protocol is
    /// known as such from its first byte.
    fn check_method(&self) -> Result<(), Violation> {
        let kept = self.line.kept();
        if METHODS.iter().any(|method| method.starts_with(kept)) {
            return Ok(());
        }
        Err(Violation::NoMethod)
    }

    fn start_line(&mut self) -> Result<(), Violation> {
        self.fields = Fields::default();
        match self.side {
            Side::Request => self.request_line()?,
            Side::Response => self.status_line()?,
        }
        self.phase = Phase::Fields;
        Ok(())
    }

    /// `METHOD target HTTP/1.x`. Source: RFC 9112 §3.
    fn request_line(&mut self) -> Result<(), Violation> {
        let kept = self.line.kept();
        if !METHODS.iter().any(|method| kept.starts_with(method)) {
            return Err(Violation::NoMethod);
        }
        if kept.starts_with(b"CONNECT ") {
            return Err(Violation::Upgrade);
        }
        if self.line.spaces() != 2 {
            return Err(Violation::Syntax);
        }
        self.fields.head = kept.starts_with(b"HEAD ");
        self.fields.http_1_0 = match self.line.last_word().as_ref() {
            Some(b"HTTP/1.1") => false,
            Some(b"HTTP/1.0") => true,
            _ => return Err(Violation::Version),
        };
        Ok(())
    }

    /// `HTTP/1.x NNN reason`. Source: RFC 9112 §4.
    fn status_line(&mut self) -> Result<(), Violation> {
        let kept = self.line.kept();
        self.fields.http_1_0 = match kept.get(..9) {
            Some(b"HTTP/1.1 ") => false,
            Some(b"HTTP/1.0 ") => true,
            _ => return Err(Violation::Version),
        };
        let digits = kept.get(9..12).ok_or(Violation::Syntax)?;
        let delimited = matches!(kept.get(12), None | Some(b' '));
        if !delimited || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Violation::Syntax);
        }
        self.fields.status = digits.iter().fold(0, |status: u16, digit| {
            status
                .saturating_mul(10)
                .saturating_add(u16::from(digit & 0x0f))
        });
        if self.fields.status < 100 {
            return Err(Violation::Syntax);
        }
        Ok(())
    }

    fn head_end(&mut self, queue: &mut Queue) -> Result<Head, Violation> {
        let head = match self.side {
            Side::Request => self.request_end(queue)?,
            Side::Response => self.response_end(queue)?,
        };
        self.phase = match head.body {
            Body::None | Body::Length(_) => Phase::Start,
            Body::Chunked => Phase::ChunkSize,
        };
        Ok(head)
    }

    fn request_end(&self, queue: &mut Queue) -> Result<Head, Violation> {
        let kind = if self.fields.head {
            RequestKind::Head
        } else {
            RequestKind::Other
        };
        if !queue.push(kind) {
            return Err(Violation::Pipelining);
        }
        let body = self.stated_body().unwrap_or(Body::None);
        Ok(Head {
            interim: false,
            body,
            nomination: None,
        })
    }

    fn response_end(&self, queue: &mut Queue) -> Result<Head, Violation> {
        let kind = queue.front().ok_or(Violation::Unsolicited)?;
        let fields = &self.fields;
        let bare = |interim| Head {
            interim,
            body: Body::None,
            nomination: None,
        };
        match fields.status {
            101 => return Err(Violation::Upgrade),
            100..200 if self.stated_body().is_some() => return Err(Violation::Unsized),
            100..200 => return Ok(bare(true)),
            _ => queue.pop(),
        }
        if fields.status == 206 && fields.multipart {
            return Err(Violation::Multipart);
        }
        if kind == RequestKind::Head || matches!(fields.status, 204 | 304) {
            return Ok(bare(false));
        }
        let ranged = fields.content_range.map(|range| Body::Length(range.len));
        let body = self.stated_body().or(ranged).ok_or(Violation::Unsized)?;
        let nomination = match (fields.status, fields.content_range, body) {
            (_, _, Body::None) => None,
            (200, _, Body::Length(length)) => Some(Nomination {
                offset: 0,
                total: Some(length),
            }),
            (200, _, Body::Chunked) => Some(Nomination {
                offset: 0,
                total: None,
            }),
            (206, Some(range), Body::Length(length)) if length != range.len => {
                return Err(Violation::ContentRange);
            }
            (206, Some(range), _) => Some(Nomination {
                offset: range.first,
                total: range.total,
            }),
            _ => None,
        };
        Ok(Head {
            interim: false,
            body,
            nomination,
        })
    }

    /// The body by Transfer-Encoding or Content-Length. Source: RFC 9112 §6.3.
    const fn stated_body(&self) -> Option<Body> {
        match (self.fields.chunked, self.fields.content_length) {
            (true, _) => Some(Body::Chunked),
            (false, Some(0)) => Some(Body::None),
            (false, Some(length)) => Some(Body::Length(length)),
            (false, None) => None,
        }
    }

    /// `hex [;extension]`. Source: RFC 9112 §7.1.
    fn chunk_size(&mut self) -> Result<Event, Violation> {
        if !self.line.is_whole() {
            return Err(Violation::LineTooLong);
        }
        let kept = self.line.kept();
        let digits = kept.split(|byte| *byte == b';').next().unwrap_or_default();
        if digits.is_empty() || digits.len() > 15 {
            return Err(Violation::Chunk);
        }
        let size = digits.iter().try_fold(0_u64, |size, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(size << 4 | u64::from(digit))
        });
        match size {
            Some(0) => {
                self.phase = Phase::Trailers;
                Ok(Event::More)
            }
            Some(size) if size <= BODY_LIMIT => {
                self.phase = Phase::ChunkEnd;
                Ok(Event::Chunk(size))
            }
            _ => Err(Violation::Chunk),
        }
    }

    fn trailer(&mut self) -> Result<Event, Violation> {
        if self.line.is_empty() {
            self.phase = Phase::Start;
            return Ok(Event::End);
        }
        if matches!(self.line.kept().first(), Some(b' ' | b'\t')) {
            return Err(Violation::ObsFold);
        }
        Ok(Event::More)
    }

    pub(crate) fn encode(&self, sink: &mut impl WordSink) {
        let begun = u64::from(self.line.is_begun());
        sink.put(begun << 8 | self.phase as u64);
        self.line.encode(sink);
        if self.phase == Phase::Fields {
            self.fields.encode(sink);
        }
    }

    pub(crate) fn decode(source: &mut WordSource<'_>, side: Side) -> Result<Self, WordsError> {
        let value = source.take()?;
        let phases = [
            Phase::Start,
            Phase::Fields,
            Phase::ChunkSize,
            Phase::ChunkEnd,
            Phase::Trailers,
        ];
        let phase = phases
            .into_iter()
            .find(|phase| *phase as u64 == value & 0xff)
            .ok_or(WordsError::Value {
                field: "phase",
                value,
            })?;
        let line = Line::decode(source, value >> 8 == 1)?;
        let fields = if phase == Phase::Fields {
            Fields::decode(source)?
        } else {
            Fields::default()
        };
        Ok(Self {
            side,
            phase,
            line,
            fields,
        })
    }
}
