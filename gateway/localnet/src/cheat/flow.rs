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
    Body {
        decoder: BodyDecoder,
        film: Option<Film>,
        position: u64,
    },
    /// Not HTTP/1.1 (any more): everything that follows is foreign.
    Lost,
}

impl Default for Reader {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

#[derive(Debug, Default)]
struct Side {
    stream: Stream,
    reader: Reader,
    /// Allowance left of the current message.
    budget: u64,
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

    const fn is_demoted(&self) -> bool {
        self.mismatching_segments >= MISMATCHES_MAX
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
            if self.is_demoted() {
                self.up.stream.forget_early();
                self.down.stream.forget_early();
            }
        }
    }

    /// Reads the next bytes of a stream as HTTP and lays out at least the first of them.
    fn lay_out(&mut self, direction: Direction, bytes: &[u8], catalog: &Catalog) {
        let Self {
            up, down, asked, ..
        } = self;
        let result = match direction {
            Direction::Uplink => up.read(bytes, |head| {
                let request = RequestHead::parse(head)?;
                let decoder = BodyDecoder::new(request.body_length()?);
                let film = (request.method == "GET")
                    .then(|| catalog.film(request.path()))
                    .flatten();
                asked.push_back(Asked {
                    method: request.method.clone(),
                    film: film.cloned(),
                });
                Ok((decoder, None, 0))
            }),
            Direction::Downlink => down.read(bytes, |head| {
                let response = ResponseHead::parse(head)?;
                let request = match response.status {
                    100..200 => None,
                    _ => asked.pop_front(),
                };
                let method = request.as_ref().map_or("GET", |asked| &asked.method);
                let decoder = BodyDecoder::new(response.body_length(method)?);
                let start = response.content_start()?;
                let film = request
                    .and_then(|asked| asked.film)
                    .filter(|_| start.is_some());
                Ok((decoder, film, start.unwrap_or(0)))
            }),
        };
        let side = self.side(direction);
        if result == Ok(Progress::Some) && side.stream.has_room() {
            return;
        }
        if matches!(side.reader, Reader::Head(_)) {
            side.stream.disown_message();
        }
        side.reader = Reader::Lost;
        side.stream.add_foreign(bytes.len() as u64);
    }
}

/// Whether a reader laid out anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Some,
    None,
}

type Started = (BodyDecoder, Option<Film>, u64);

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
        bytes: &[u8],
        start: impl FnOnce(&[u8]) -> Result<Started, HttpError>,
    ) -> Result<Progress, HttpError> {
        match &mut self.reader {
            Reader::Lost => Err(HttpError::StartLine),
            Reader::Head(buffer) => {
                if buffer.is_empty() {
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
                let started = end
                    .and_then(|end| buffer.get(..end))
                    .map(start)
                    .transpose()?;
                self.stream
                    .add_overhead(bytes.get(..used).unwrap_or_default(), &mut self.budget);
                if let Some((decoder, film, position)) = started {
                    self.begin_body(decoder, film, position);
                }
                Ok(Progress::Some)
            }
            Reader::Body { .. } => self.read_body(bytes),
        }
    }

    fn begin_body(&mut self, decoder: BodyDecoder, film: Option<Film>, position: u64) {
        if decoder.is_done() {
            self.reader = Reader::default();
            return;
        }
        // A body of known length is laid out in whole, so that bytes ahead of a gap have a place.
        if let Some(len) = decoder.known_len() {
            match film {
                Some(film) => self.stream.add_body(len, film, position),
                None => self.stream.add_foreign(len),
            }
            self.reader = Reader::default();
            return;
        }
        self.reader = Reader::Body {
            decoder,
            film,
            position,
        };
    }

    fn read_body(&mut self, bytes: &[u8]) -> Result<Progress, HttpError> {
        let Reader::Body {
            decoder,
            film,
            position,
        } = &mut self.reader
        else {
            return Err(HttpError::Chunk);
        };
        let progress = match (decoder.next_piece(bytes)?, film) {
            (Some(BodyPiece::Data(len)), Some(film)) => {
                self.stream.add_body(len as u64, film.clone(), *position);
                *position = position.saturating_add(len as u64);
                Progress::Some
            }
            (Some(BodyPiece::Data(len)), None) => {
                self.stream.add_foreign(len as u64);
                Progress::Some
            }
            (Some(BodyPiece::Framing(len)), _) => {
                let framing = bytes.get(..len).unwrap_or_default();
                self.stream.add_overhead(framing, &mut self.budget);
                Progress::Some
            }
            (None, _) => Progress::None,
        };
        if decoder.is_done() {
            self.reader = Reader::default();
        }
        Ok(progress)
    }
}

/// Whether an incomplete head can still become one: its first line is complete and right, or short.
fn may_be_head(buffer: &[u8]) -> bool {
    match buffer.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => buffer
            .get(..end)
            .and_then(|line| std::str::from_utf8(line).ok())
            .is_some_and(|line| line.starts_with("HTTP/1.") || line.contains(" HTTP/1.")),
        None => buffer.is_ascii(),
    }
}
