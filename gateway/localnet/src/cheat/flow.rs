//! One flow: both streams, the HTTP/1.1 exchange on them, demotion.
use std::collections::VecDeque;

use super::stream::{Judgement, Stream};
use super::{Direction, MISMATCHES_MAX, OVERHEAD_ALLOWED, PayloadCount, Segment};
use crate::catalog::{Catalog, Film};
use crate::http::{
    BodyDecoder, BodyPiece, HEAD_BYTES_MAX, HttpError, RequestHead, ResponseHead, head_end,
};

/// What a request says about its answer.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    film: Option<Film>,
}

/// Where a direction's HTTP reader stands.
#[derive(Debug)]
enum Reader {
    Head(Vec<u8>),
    Body(Body),
    /// Not HTTP/1.1 (any more): everything that follows is foreign.
    Lost,
}

impl Default for Reader {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

/// A message's body, as its head announces it.
#[derive(Debug)]
struct Body {
    decoder: BodyDecoder,
    film: Option<Film>,
    position: u64,
    message: Message,
}

/// Whether a head is an answer's last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Message {
    #[default]
    Final,
    /// A 1xx answer: the final one shares its allowance.
    Interim,
}

#[derive(Debug, Default)]
struct Side {
    stream: Stream,
    reader: Reader,
    /// Allowance left of the current message.
    budget: u64,
    last_message: Message,
    payload: u64,
    genuine: u64,
}

/// One flow of a watched viewer.
#[derive(Debug, Default)]
pub(super) struct Flow {
    up: Side,
    down: Side,
    asked: VecDeque<Asked>,
    first_genuine_end: Option<u64>,
    acked: u64,
    mismatching_segments: u32,
    standing: Standing,
}

/// Whether a flow's later payload can be anything but foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Standing {
    #[default]
    Judged,
    /// Too many mismatches, or no HTTP/1.1: foreign for good.
    Demoted,
}

impl Flow {
    pub(super) fn viewer_isn(&self) -> Option<u32> {
        self.up
            .stream
            .first_seq()
            .map(|first| first.wrapping_sub(1))
    }

    /// Whether a SYN with this sequence number opens another flow on the same ports.
    pub(super) fn is_other_incarnation(&self, syn_seq: u32) -> bool {
        self.viewer_isn() != Some(syn_seq)
    }

    pub(super) fn uplink(&self) -> PayloadCount {
        self.up.count()
    }

    pub(super) fn downlink(&self) -> PayloadCount {
        self.down.count()
    }

    pub(super) fn is_verified(&self) -> bool {
        self.first_genuine_end.is_some_and(|end| self.acked >= end)
    }

    pub(super) const fn mismatching_segments(&self) -> u32 {
        self.mismatching_segments
    }

    fn is_demoted(&self) -> bool {
        self.standing == Standing::Demoted
    }

    fn demote(&mut self) {
        self.standing = Standing::Demoted;
        self.up.stream.forget_early();
        self.down.stream.forget_early();
    }

    const fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Uplink => &mut self.up,
            Direction::Downlink => &mut self.down,
        }
    }

    pub(super) fn take(&mut self, segment: Segment<'_>, catalog: &Catalog) {
        if let (Direction::Uplink, Some(ack)) = (segment.direction, segment.ack)
            && let Some(acked) = self.down.stream.offset(ack)
            && acked <= self.down.stream.seen()
        {
            self.acked = self.acked.max(acked);
        }
        let demoted = self.is_demoted();
        let side = self.side(segment.direction);
        let first_seq = segment.seq.wrapping_add(1);
        if segment.syn {
            side.stream.open(first_seq);
        }
        let len = segment.payload.len() as u64;
        side.payload = side.payload.saturating_add(len);
        let seq = if segment.syn { first_seq } else { segment.seq };
        let Some(offset) = side.stream.offset(seq).filter(|_| len > 0) else {
            return;
        };
        side.stream.note_seen(offset.saturating_add(len));
        if demoted {
            return;
        }
        if offset > side.stream.known() {
            side.stream.defer(offset, segment.payload);
            return;
        }
        self.lay_out_and_judge(segment.direction, offset, segment.payload, catalog);
        while !self.is_demoted()
            && let Some(early) = self.side(segment.direction).stream.next_early()
        {
            self.lay_out_and_judge(segment.direction, early.offset, &early.payload, catalog);
        }
    }

    fn lay_out_and_judge(
        &mut self,
        direction: Direction,
        offset: u64,
        payload: &[u8],
        catalog: &Catalog,
    ) {
        loop {
            let known = self.side(direction).stream.known();
            let old = usize::try_from(known.saturating_sub(offset)).unwrap_or(usize::MAX);
            match payload.get(old..) {
                None | Some([]) => break,
                Some(fresh) => self.lay_out(direction, fresh, catalog),
            }
        }
        let judgement = self.side(direction).stream.judge(offset, payload);
        self.note(direction, judgement);
    }

    fn note(&mut self, direction: Direction, judgement: Judgement) {
        let side = self.side(direction);
        side.genuine = side.genuine.saturating_add(judgement.genuine);
        if let Some(end) = judgement.first_genuine_end {
            self.first_genuine_end =
                Some(self.first_genuine_end.map_or(end, |known| known.min(end)));
        }
        if judgement.mismatch {
            self.mismatching_segments = self.mismatching_segments.saturating_add(1);
            if self.mismatching_segments >= MISMATCHES_MAX {
                self.demote();
            }
        }
    }

    /// Reads the next bytes of a stream as HTTP and lays out at least the first of them.
    fn lay_out(&mut self, direction: Direction, bytes: &[u8], catalog: &Catalog) {
        let Self {
            up, down, asked, ..
        } = self;
        let result = match direction {
            Direction::Uplink => up.read(direction, bytes, |head| {
                let request = RequestHead::parse(head)?;
                let decoder = BodyDecoder::new(request.body_length()?);
                let film = (request.method == "GET")
                    .then(|| catalog.film(request.path()))
                    .flatten();
                asked.push_back(Asked {
                    method: request.method.clone(),
                    film: film.cloned(),
                });
                Ok(Body {
                    decoder,
                    film: None,
                    position: 0,
                    message: Message::Final,
                })
            }),
            Direction::Downlink => down.read(direction, bytes, |head| {
                let response = ResponseHead::parse(head)?;
                let (message, request) = match response.status {
                    100..200 => (Message::Interim, None),
                    _ => (Message::Final, asked.pop_front()),
                };
                let method = request.as_ref().map_or("GET", |asked| &asked.method);
                let decoder = BodyDecoder::new(response.body_length(method)?);
                let start = response.content_start()?;
                let film = request
                    .and_then(|asked| asked.film)
                    .filter(|_| start.is_some());
                let position = start.unwrap_or(0);
                Ok(Body {
                    decoder,
                    film,
                    position,
                    message,
                })
            }),
        };
        let side = self.side(direction);
        if result == Ok(Progress::Some) {
            return;
        }
        if matches!(side.reader, Reader::Head(_)) {
            side.stream.disown_message();
        }
        side.reader = Reader::Lost;
        side.stream.add_foreign(bytes.len() as u64);
        // What was judged of this segment stands; its rest was just laid out as foreign.
        self.demote();
    }
}

/// Whether a reader laid out anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

impl Side {
    fn count(&self) -> PayloadCount {
        PayloadCount {
            payload: self.payload,
            genuine: self.genuine,
            allowed: self.stream.allowed(),
        }
    }

    fn read(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        start: impl FnOnce(&[u8]) -> Result<Body, HttpError>,
    ) -> Result<Progress, HttpError> {
        if !self.stream.has_room() {
            return Err(HttpError::Chunk);
        }
        match &mut self.reader {
            Reader::Lost => Err(HttpError::StartLine),
            Reader::Head(buffer) => {
                if buffer.is_empty() && self.last_message == Message::Final {
                    self.stream.begin_message();
                    self.budget = OVERHEAD_ALLOWED;
                }
                let before = buffer.len();
                buffer.extend_from_slice(bytes);
                let end = head_end(buffer);
                if buffer.len() > HEAD_BYTES_MAX || (end.is_none() && !may_be_head(buffer)) {
                    return Err(HttpError::StartLine);
                }
                let used = end.map_or(bytes.len(), |end| end.saturating_sub(before));
                let body = end
                    .and_then(|end| buffer.get(..end))
                    .map(start)
                    .transpose()?;
                self.stream
                    .add_overhead(bytes.get(..used).unwrap_or_default(), &mut self.budget);
                if let Some(body) = body {
                    self.last_message = body.message;
                    self.begin_body(body);
                }
                Ok(Progress::Some)
            }
            Reader::Body(_) => self.read_body(direction, bytes),
        }
    }

    fn begin_body(&mut self, body: Body) {
        // A body of known length is laid out in whole, so that bytes ahead of a gap have a place.
        match (body.decoder.known_len(), body.film) {
            (Some(len), Some(film)) => self.stream.add_body(len, film, body.position),
            (Some(len), None) => self.stream.add_foreign(len),
            (None, film) => {
                self.reader = Reader::Body(Body { film, ..body });
                return;
            }
        }
        self.reader = Reader::default();
    }

    fn read_body(&mut self, direction: Direction, bytes: &[u8]) -> Result<Progress, HttpError> {
        let Reader::Body(body) = &mut self.reader else {
            return Err(HttpError::Chunk);
        };
        match (body.decoder.next_piece(bytes)?, &body.film) {
            (Some(BodyPiece::Data(len)), Some(film)) => {
                self.stream
                    .add_body(len as u64, film.clone(), body.position);
                body.position = body.position.saturating_add(len as u64);
            }
            (Some(BodyPiece::Framing(len)), _) if direction == Direction::Downlink => {
                let framing = bytes.get(..len).unwrap_or_default();
                self.stream.add_overhead(framing, &mut self.budget);
            }
            (Some(BodyPiece::Data(len) | BodyPiece::Framing(len)), _) => {
                self.stream.add_foreign(len as u64);
            }
            (None, _) => return Ok(Progress::None),
        }
        if body.decoder.is_done() {
            self.reader = Reader::default();
        }
        Ok(Progress::Some)
    }
}

/// Whether an incomplete head can still become one: its first line is complete and right, or short.
fn may_be_head(buffer: &[u8]) -> bool {
    match buffer.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => buffer
            .get(..end)
            .and_then(|line| std::str::from_utf8(line).ok())
            .is_some_and(|line| line.starts_with("HTTP/1.") || line.contains(" HTTP/1.")),
        None => {
            let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r');
            buffer.first().is_some_and(u8::is_ascii_uppercase) && buffer.iter().all(printable)
        }
    }
}
