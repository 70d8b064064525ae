//! One direction of a flow: what each stream offset is, and the judgement of each copy.
use super::ranges::Ranges;
use crate::catalog::Film;

/// Copies ahead of a gap that a stream keeps, in bytes; further ones stay unjudged, hence foreign.
const EARLY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Regions that a stream keeps; what follows is foreign. Chosen: 8 GB in chunks of 16 KiB.
const REGIONS_MAX: usize = 1 << 20;

/// What the bytes from a stream offset on are.
#[derive(Debug, Clone)]
enum Kind {
    /// Head or framing within the allowance; the bytes stand in `Stream::kept` from here on.
    Allowed { kept_at: usize },
    /// A film's body; the first byte has this content position.
    Body { film: Film, position: u64 },
    /// Nothing that can be allowed.
    Foreign,
}

#[derive(Debug)]
struct Region {
    start: u64,
    end: u64,
    kind: Kind,
    /// Copies of allowed bytes that were equal, in bytes.
    allowed: u64,
}

impl Region {
    const fn is_body(&self) -> bool {
        matches!(self.kind, Kind::Body { .. })
    }

    /// Compares a piece of this region that starts at stream offset `at`; the length of the equal
    /// prefix comes back and is counted.
    fn compare(&mut self, kept: &[u8], at: u64, piece: &[u8], found: &mut Judgement) -> usize {
        let inside = at.saturating_sub(self.start);
        match &self.kind {
            Kind::Foreign => 0,
            Kind::Allowed { kept_at } => {
                let from = usize::try_from(inside)
                    .unwrap_or(0)
                    .saturating_add(*kept_at);
                let equal = equal_bytes(piece, kept.get(from..).unwrap_or_default());
                self.allowed = self.allowed.saturating_add(equal as u64);
                equal
            }
            Kind::Body { film, position } => {
                let genuine = film.slice(position.saturating_add(inside), piece.len());
                let equal = equal_bytes(piece, genuine);
                found.genuine = found.genuine.saturating_add(equal as u64);
                if equal > 0 && found.first_genuine_end.is_none() {
                    found.first_genuine_end = Some(at.saturating_add(1));
                }
                equal
            }
        }
    }
}

/// What the judgement of one copy of a segment found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Genuine film bytes.
    pub(super) genuine: u64,
    /// One past the first genuine byte, as stream offset.
    pub(super) first_genuine_end: Option<u64>,
    /// Whether a body byte differed.
    pub(super) mismatch: bool,
}

/// A copy that waits for the bytes before it.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) offset: u64,
    pub(super) payload: Vec<u8>,
}

/// One direction's layout.
#[derive(Debug, Default)]
pub(super) struct Stream {
    first_seq: Option<u32>,
    /// Everything below this offset is laid out.
    known: u64,
    /// One past the last byte seen.
    seen: u64,
    regions: Vec<Region>,
    /// Positions of which a copy was judged.
    seen_ranges: Ranges,
    /// Positions whose first copy stood behind a mismatch: later copies are foreign as well.
    foreign: Ranges,
    kept: Vec<u8>,
    early: Vec<Early>,
    early_bytes: usize,
    message_start: u64,
}

impl Stream {
    /// Notes the sequence number of the stream's first byte.
    pub(super) const fn open(&mut self, first_seq: u32) {
        if self.first_seq.is_none() {
            self.first_seq = Some(first_seq);
        }
    }

    pub(super) const fn first_seq(&self) -> Option<u32> {
        self.first_seq
    }

    pub(super) const fn known(&self) -> u64 {
        self.known
    }

    /// The stream offset of a sequence number: the one nearest to what was seen last. `None` before
    /// the stream's start.
    pub(super) fn offset(&self, seq: u32) -> Option<u64> {
        let [.., a, b, c, d] = self.seen.to_be_bytes();
        let near = self
            .first_seq?
            .wrapping_add(u32::from_be_bytes([a, b, c, d]));
        let distance = i32::from_be_bytes(seq.wrapping_sub(near).to_be_bytes());
        self.seen.checked_add_signed(distance.into())
    }

    pub(super) fn note_seen(&mut self, end: u64) {
        self.seen = self.seen.max(end);
    }

    pub(super) const fn seen(&self) -> u64 {
        self.seen
    }

    /// Starts a new message's layout at the end of what is known.
    pub(super) const fn begin_message(&mut self) {
        self.message_start = self.known;
    }

    /// Lays out head or framing bytes: allowed while `budget` lasts, foreign beyond.
    pub(super) fn add_overhead(&mut self, bytes: &[u8], budget: &mut u64) {
        let allowed = usize::try_from(*budget)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let (head, excess) = bytes.split_at_checked(allowed).unwrap_or((bytes, &[]));
        *budget = budget.saturating_sub(head.len() as u64);
        let kept_at = self.kept.len();
        self.kept.extend_from_slice(head);
        self.add(head.len() as u64, Kind::Allowed { kept_at });
        self.add(excess.len() as u64, Kind::Foreign);
    }

    /// Lays out `len` bytes of a film from `position` on.
    pub(super) fn add_body(&mut self, len: u64, film: Film, position: u64) {
        self.add(len, Kind::Body { film, position });
    }

    /// Lays out `len` bytes that are foreign whatever they hold.
    pub(super) fn add_foreign(&mut self, len: u64) {
        self.add(len, Kind::Foreign);
    }

    fn add(&mut self, len: u64, kind: Kind) {
        if len > 0 {
            let start = self.known;
            self.known = start.saturating_add(len);
            if let (
                Kind::Foreign,
                Some(Region {
                    end,
                    kind: Kind::Foreign,
                    ..
                }),
            ) = (&kind, self.regions.last_mut())
            {
                *end = self.known;
                return;
            }
            self.regions.push(Region {
                start,
                end: self.known,
                kind,
                allowed: 0,
            });
        }
    }

    /// Whether another message's regions fit.
    pub(super) const fn has_room(&self) -> bool {
        self.regions.len() < REGIONS_MAX
    }

    /// Takes back the allowance of the current message: its head turned out to be none.
    pub(super) fn disown_message(&mut self) {
        let start = self.message_start;
        for region in self
            .regions
            .iter_mut()
            .rev()
            .take_while(|region| region.start >= start)
        {
            region.kind = Kind::Foreign;
            region.allowed = 0;
        }
    }

    /// Allowed bytes so far, copies included.
    pub(super) fn allowed(&self) -> u64 {
        self.regions
            .iter()
            .map(|region| region.allowed)
            .fold(0, u64::saturating_add)
    }

    /// Judges one copy, all of whose offsets are laid out.
    pub(super) fn judge(&mut self, offset: u64, payload: &[u8]) -> Judgement {
        let mut found = Judgement::default();
        let end = offset.saturating_add(payload.len() as u64);
        let mut index = self.regions.partition_point(|region| region.end <= offset);
        let mut at = offset;
        while let Some(region) = self.regions.get_mut(index).filter(|_| at < end) {
            let (old, stop) = self.seen_ranges.run(at, end.min(region.end));
            let (foreign, stop) = if old {
                self.foreign.run(at, stop)
            } else {
                (false, stop)
            };
            if !foreign && !found.mismatch {
                let piece = piece(payload, offset, at, stop);
                let equal = region.compare(&self.kept, at, piece, &mut found);
                found.mismatch = region.is_body() && equal < piece.len();
                if found.mismatch && !old {
                    self.foreign.insert(at.saturating_add(equal as u64), stop);
                }
            } else if found.mismatch && !old {
                self.foreign.insert(at, stop);
            }
            at = stop;
            if at >= region.end {
                index = index.saturating_add(1);
            }
        }
        self.seen_ranges.insert(offset, end);
        found
    }

    /// Keeps a copy until the bytes before it are there.
    pub(super) fn defer(&mut self, offset: u64, payload: &[u8]) {
        let bytes = self.early_bytes.saturating_add(payload.len());
        if bytes <= EARLY_BYTES_MAX {
            self.early_bytes = bytes;
            self.early.push(Early {
                offset,
                payload: payload.to_vec(),
            });
        }
    }

    /// The first kept copy, in order of arrival, whose bytes now follow what is known.
    pub(super) fn next_early(&mut self) -> Option<Early> {
        let at = self
            .early
            .iter()
            .position(|early| early.offset <= self.known)?;
        let early = self.early.remove(at);
        self.early_bytes = self.early_bytes.saturating_sub(early.payload.len());
        Some(early)
    }

    /// Drops the copies that wait: they stay unjudged.
    pub(super) fn forget_early(&mut self) {
        self.early.clear();
        self.early_bytes = 0;
    }
}

/// The bytes at stream positions `at..stop` of a payload that starts at `offset`.
fn piece(payload: &[u8], offset: u64, at: u64, stop: u64) -> &[u8] {
    let index =
        |position: u64| usize::try_from(position.saturating_sub(offset)).unwrap_or(usize::MAX);
    payload.get(index(at)..index(stop)).unwrap_or_default()
}

fn equal_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
