//! Model conversations against an independent per-byte model of the rules.
//!
//! The model knows what each stream byte is because it made the stream; it keeps one record per
//! byte and no ranges, so it shares no structure with the crate.
#![expect(
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    reason = "test code; the rules stand in one piece, as in their text"
)]

mod rig;

use proptest::prelude::*;
use qlink_content::{DropReason, LimitReason, Policy, View};
use qlink_types::units::Bytes;
use rig::{Random, Rig, film};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Overhead,
    /// Framing of a request body: never allowed.
    RequestFraming,
    Body {
        offset: u64,
        chunk: u32,
    },
}

#[derive(Debug, Clone)]
struct Byte {
    value: u8,
    role: Role,
    message: usize,
    seen: bool,
    charged: bool,
    stored: bool,
    waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Film {
    None,
    Undecided { total: u64 },
    Is(usize),
}

#[derive(Debug, Default)]
struct Stream {
    bytes: Vec<Byte>,
    films: Vec<Film>,
    allowance: Vec<u64>,
    parsed: usize,
}

/// Classes of one packet, as the model sees them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Classes {
    unique: u64,
    retransmit: u64,
    repeat: u64,
    allowed: u64,
    charged: u64,
    pending_in: u64,
    pending_out: u64,
}

struct Model {
    up: Stream,
    down: Stream,
    films: Vec<Vec<u8>>,
    ids: Vec<[u8; 32]>,
    delivered: Vec<Vec<bool>>,
    unique: Vec<u64>,
    limit: u64,
    policy: Policy,
    verified: bool,
    overhead_waits: u64,
    mismatches: u32,
}

fn islands(bytes: &[Byte], of: impl Fn(&Byte) -> bool) -> usize {
    let mut before = false;
    let mut count = 0;
    for byte in bytes {
        let now = of(byte);
        count += usize::from(now && !before);
        before = now;
    }
    count
}

impl Model {
    fn segment(
        &mut self,
        downlink: bool,
        start: usize,
        payload: &[u8],
    ) -> Result<Classes, DropReason> {
        let mut got = Classes::default();
        let length = payload.len() as u64;
        if self.mismatches >= 3 {
            got.charged = length;
            return Ok(got);
        }
        let end = start + payload.len();
        let live = self.policy == Policy::Live;
        let stream = if downlink {
            &mut self.down
        } else {
            &mut self.up
        };
        if start > stream.parsed {
            if live {
                return Err(DropReason::FramingUnknown);
            }
            for byte in &mut stream.bytes[start..end] {
                byte.seen = true;
                byte.charged = true;
            }
            got.charged = length;
            return Ok(got);
        }
        let before: Vec<bool> = stream.bytes.iter().map(|byte| byte.seen).collect();
        let mut poisoned = false;
        let mut foreign_head = false;
        for at in start..end {
            let old = before[at];
            let wire = payload[at - start];
            let byte = &self.stream(downlink).bytes[at];
            let (role, message, charged, stored) =
                (byte.role, byte.message, byte.charged, byte.stored);
            let continues = at > start && {
                let last = &self.stream(downlink).bytes[at - 1];
                last.role == role
                    && last.message == message
                    && before[at - 1] == old
                    && last.charged == charged
                    && last.stored == stored
            };
            foreign_head &= continues;
            self.parse(downlink, at);
            if poisoned {
                got.charged += 1;
                if !old {
                    self.mark_charged(downlink, at);
                }
                continue;
            }
            if old && charged {
                got.charged += 1;
                continue;
            }
            match role {
                Role::RequestFraming => got.charged += 1,
                Role::Overhead if !old => self.fresh_head(downlink, at, &mut got),
                Role::Overhead => {
                    foreign_head |= self.stream(downlink).bytes[at].value != wire;
                    if !stored || foreign_head {
                        got.charged += 1;
                    } else if self.verified {
                        got.retransmit += 1;
                    } else {
                        got.pending_in += 1;
                        self.overhead_waits += 1;
                    }
                }
                Role::Body { offset, chunk } => {
                    if !old && downlink {
                        let run = (at..end)
                            .take_while(|&i| {
                                let next = &self.down.bytes[i];
                                let same =
                                    matches!(next.role, Role::Body { chunk: c, .. } if c == chunk);
                                same && next.message == message && !before[i]
                            })
                            .count();
                        let run = &payload[at - start..][..run];
                        self.decide(message, offset, run);
                    }
                    let Film::Is(index) = self.stream(downlink).films[message] else {
                        got.charged += 1;
                        continue;
                    };
                    let equal = self.films[index].get(offset as usize) == Some(&wire);
                    if equal && old {
                        got.retransmit += 1;
                    } else if equal {
                        got.pending_in += 1;
                        self.down.bytes[at].waits = true;
                    } else {
                        poisoned = true;
                        self.mismatches += 1;
                        got.charged += 1;
                        if !old {
                            self.mark_charged(downlink, at);
                        }
                    }
                }
            }
        }
        for byte in &mut self.stream(downlink).bytes[start..end] {
            byte.seen = true;
        }
        Ok(got)
    }

    fn stream(&mut self, downlink: bool) -> &mut Stream {
        if downlink {
            &mut self.down
        } else {
            &mut self.up
        }
    }

    fn mark_charged(&mut self, downlink: bool, at: usize) {
        self.stream(downlink).bytes[at].charged = true;
    }

    /// The framing is known up to the first head byte that was not read.
    fn parse(&mut self, downlink: bool, at: usize) {
        let stream = self.stream(downlink);
        if at != stream.parsed {
            return;
        }
        stream.parsed += 1;
        while stream
            .bytes
            .get(stream.parsed)
            .is_some_and(|byte| matches!(byte.role, Role::Body { .. }))
        {
            stream.parsed += 1;
        }
    }

    fn fresh_head(&mut self, downlink: bool, at: usize, got: &mut Classes) {
        let verified = self.verified;
        let stream = self.stream(downlink);
        let message = stream.bytes[at].message;
        let in_run = at > 0
            && stream.bytes[at - 1].message == message
            && stream.bytes[at - 1].role == Role::Overhead;
        let chained = !in_run || stream.bytes[at - 1].stored;
        if stream.allowance[message] >= 8_192 {
            got.charged += 1;
            return;
        }
        stream.allowance[message] += 1;
        stream.bytes[at].stored = chained;
        if verified {
            got.allowed += 1;
        } else {
            got.pending_in += 1;
            self.overhead_waits += 1;
        }
    }

    fn decide(&mut self, message: usize, offset: u64, run: &[u8]) {
        let Film::Undecided { total } = self.down.films[message] else {
            return;
        };
        let probe = &run[..run.len().min(32)];
        let mut best: Option<usize> = None;
        for (index, film) in self.films.iter().enumerate() {
            let fits = total == 0 || film.len() as u64 == total;
            let here = film.get(offset as usize..).unwrap_or_default();
            if fits && here.starts_with(probe) && best.is_none_or(|b| self.ids[index] < self.ids[b])
            {
                best = Some(index);
            }
        }
        self.down.films[message] = best.map_or(Film::None, Film::Is);
    }

    fn ack(&mut self, below: usize) -> Classes {
        let mut got = Classes::default();
        for at in 0..below.min(self.down.bytes.len()) {
            let byte = &mut self.down.bytes[at];
            if !byte.waits {
                continue;
            }
            byte.waits = false;
            got.pending_out += 1;
            let (Role::Body { offset, .. }, Film::Is(index)) =
                (byte.role, self.down.films[byte.message])
            else {
                unreachable!("only content waits");
            };
            let place = &mut self.delivered[index][offset as usize];
            if *place {
                got.repeat += 1;
                self.verified = true;
            } else if self.unique[index] < self.limit {
                *place = true;
                self.unique[index] += 1;
                got.unique += 1;
                self.verified = true;
            } else {
                got.charged += 1;
                byte.charged = true;
            }
        }
        if self.verified {
            got.allowed = std::mem::take(&mut self.overhead_waits);
            got.pending_out += got.allowed;
        }
        got
    }

    fn forwarded_end(&self) -> usize {
        self.down
            .bytes
            .iter()
            .rposition(|byte| byte.seen)
            .map_or(0, |at| at + 1)
    }
}

struct Conversation {
    random: Random,
    rig: Rig,
    model: Model,
    packets: u64,
    chunks: u32,
}

impl Conversation {
    fn new(seed: u64, policy: Policy) -> Self {
        let mut random = Random(seed);
        let mut films = vec![
            film(seed, 1_500),
            film(seed + 1, 900),
            film(seed + 2, 1_500),
        ];
        // Two films that begin alike: the first 40 bytes decide wrongly or not at all.
        let beginning = films[0][..20].to_vec();
        films[2][..20].copy_from_slice(&beginning);
        let slices: Vec<&[u8]> = films.iter().map(Vec::as_slice).collect();
        let mut rig = Rig::opened(&slices);
        rig.policy = policy;
        let limit = if random.chance(20) {
            random.below(1_500)
        } else {
            u64::MAX
        };
        for view in &mut rig.views {
            *view = View::new(Bytes::new(limit), LimitReason::Cap);
        }
        let model = Model {
            up: Stream::default(),
            down: Stream::default(),
            ids: films
                .iter()
                .map(|film| *blake3::hash(film).as_bytes())
                .collect(),
            delivered: films.iter().map(|film| vec![false; film.len()]).collect(),
            unique: vec![0; films.len()],
            films,
            limit,
            policy,
            verified: false,
            overhead_waits: 0,
            mismatches: 0,
        };
        Self {
            random,
            rig,
            model,
            packets: 0,
            chunks: 0,
        }
    }

    /// Room of the crate's sets; a conversation that leaves it is not compared further.
    fn fits(&self) -> bool {
        let down = &self.model.down.bytes;
        islands(down, |byte| byte.charged) <= 8
            && islands(&self.model.up.bytes, |byte| byte.charged) <= 8
            && islands(down, |byte| byte.seen) <= 30
    }

    fn send(&mut self, downlink: bool, at: usize, payload: &[u8]) -> Result<(), TestCaseError> {
        let wanted = self.model.segment(downlink, at, payload);
        if !self.fits() {
            return Err(TestCaseError::reject("beyond the sets"));
        }
        self.packets += 1;
        let got = if downlink {
            self.rig.try_down(at as u64, payload)
        } else {
            self.rig.try_up(at as u64, payload)
        };
        let got = got.map(|deltas| Classes {
            unique: deltas.verified_unique,
            retransmit: deltas.retransmit,
            repeat: deltas.verified_repeat,
            allowed: deltas.overhead_allowed,
            charged: deltas.user_charged,
            pending_in: deltas.pending_in,
            pending_out: deltas.pending_out,
        });
        prop_assert_eq!(
            got,
            wanted,
            "packet {} downlink {} at {}",
            self.packets,
            downlink,
            at
        );
        Ok(())
    }

    fn ack(&mut self, below: usize) -> Result<(), TestCaseError> {
        let wanted = self.model.ack(below.min(self.model.forwarded_end()));
        if !self.fits() {
            return Err(TestCaseError::reject("beyond the sets"));
        }
        let got = self.rig.ack(below as u64);
        let got = Classes {
            unique: got.verified_unique,
            retransmit: got.retransmit,
            repeat: got.verified_repeat,
            allowed: got.overhead_allowed,
            charged: got.user_charged,
            pending_in: got.pending_in,
            pending_out: got.pending_out,
        };
        prop_assert_eq!(got, wanted, "ack {}", below);
        for (view, delivered) in self.rig.views.iter().zip(&self.model.delivered) {
            for (at, is) in delivered.iter().enumerate() {
                prop_assert_eq!(view.coverage().run(at as u64, u64::MAX).0, *is);
            }
        }
        Ok(())
    }

    fn append(&mut self, downlink: bool, text: &[u8], role: Role) {
        let stream = self.model.stream(downlink);
        let message = stream.films.len() - 1;
        for (i, value) in text.iter().enumerate() {
            let role = match role {
                Role::Body { offset, chunk } => Role::Body {
                    offset: offset + i as u64,
                    chunk,
                },
                other => other,
            };
            let byte = Byte {
                value: *value,
                role,
                message,
                seen: false,
                charged: false,
                stored: false,
                waits: false,
            };
            stream.bytes.push(byte);
        }
    }

    fn begin(&mut self, downlink: bool, film: Film) {
        let stream = self.model.stream(downlink);
        stream.films.push(film);
        stream.allowance.push(0);
    }

    fn request(&mut self) {
        self.begin(false, Film::None);
        let pad = "p".repeat(self.random.below(60) as usize);
        match self.random.below(6) {
            0 => {
                let head = format!("POST /{pad} HTTP/1.1\r\nContent-Length: 40\r\n\r\n");
                self.append(false, head.as_bytes(), Role::Overhead);
                self.append(
                    false,
                    &[b'u'; 40],
                    Role::Body {
                        offset: 0,
                        chunk: 0,
                    },
                );
            }
            1 => {
                let head = format!("PUT /{pad} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
                self.append(false, head.as_bytes(), Role::Overhead);
                self.append(false, b"9\r\n", Role::RequestFraming);
                self.append(
                    false,
                    b"uuuuuuuuu",
                    Role::Body {
                        offset: 0,
                        chunk: 0,
                    },
                );
                self.append(false, b"\r\n0\r\n\r\n", Role::RequestFraming);
            }
            _ => {
                let head = format!("GET /{pad} HTTP/1.1\r\nHost: films\r\n\r\n");
                self.append(false, head.as_bytes(), Role::Overhead);
            }
        }
    }

    fn response(&mut self) {
        let which = self.random.below(3) as usize;
        let film = self.model.films[which].clone();
        let total = film.len();
        let twins = which != 1;
        let sized = |total: usize| match (twins, total) {
            (_, 0) | (true, _) => Film::Undecided {
                total: total as u64,
            },
            (false, _) => Film::Is(which),
        };
        let pad = "p".repeat(self.random.below(200) as usize);
        let first = self.random.below(total as u64 - 1) as usize;
        let len = 1 + self.random.below((total - first) as u64) as usize;
        let last = first + len - 1;
        let chunked_runs = self.model.limit == u64::MAX;
        match self.random.below(if chunked_runs { 6 } else { 4 }) {
            0 => {
                self.begin(true, Film::None);
                let head = format!("HTTP/1.1 404 No\r\nX: {pad}\r\nContent-Length: 50\r\n\r\n");
                self.append(true, head.as_bytes(), Role::Overhead);
                self.append(
                    true,
                    &[b'n'; 50],
                    Role::Body {
                        offset: 0,
                        chunk: 0,
                    },
                );
            }
            1 => {
                self.begin(true, sized(total));
                let head =
                    format!("HTTP/1.1 200 OK\r\nX: {pad}\r\nContent-Length: {total}\r\n\r\n");
                self.append(true, head.as_bytes(), Role::Overhead);
                let body = self.maybe_foreign(&film);
                self.append(
                    true,
                    &body,
                    Role::Body {
                        offset: 0,
                        chunk: 0,
                    },
                );
            }
            2 | 3 => {
                let stated = if self.random.chance(70) { total } else { 0 };
                self.begin(true, sized(stated));
                let stated = if stated == 0 {
                    "*".to_owned()
                } else {
                    stated.to_string()
                };
                let head = format!(
                    "HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/{stated}\r\nX: {pad}\r\n\r\n"
                );
                self.append(true, head.as_bytes(), Role::Overhead);
                let body = self.maybe_foreign(&film[first..=last]);
                self.append(
                    true,
                    &body,
                    Role::Body {
                        offset: first as u64,
                        chunk: 0,
                    },
                );
            }
            _ => {
                self.begin(true, Film::Undecided { total: 0 });
                let head =
                    format!("HTTP/1.1 200 OK\r\nX: {pad}\r\nTransfer-Encoding: chunked\r\n\r\n");
                self.append(true, head.as_bytes(), Role::Overhead);
                self.chunked(&film);
            }
        }
    }

    fn chunked(&mut self, film: &[u8]) {
        let size = total_in(film, 200 + self.random.below(900) as usize);
        let equal = self.random.chance(50);
        let mut at = 0;
        let mut end_of_chunk = "";
        while at < film.len() {
            let len = if equal {
                size
            } else {
                150 + self.random.below(500) as usize
            };
            let len = len.min(film.len() - at);
            let line = format!("{end_of_chunk}{len:x}\r\n");
            self.append(true, line.as_bytes(), Role::Overhead);
            let body = self.maybe_foreign(&film[at..at + len]);
            self.chunks += 1;
            let chunk = self.chunks;
            self.append(
                true,
                &body,
                Role::Body {
                    offset: at as u64,
                    chunk,
                },
            );
            at += len;
            end_of_chunk = "\r\n";
        }
        self.append(true, b"\r\n0\r\n\r\n", Role::Overhead);
    }

    /// Sometimes another body, or one that turns foreign on the way.
    fn maybe_foreign(&mut self, genuine: &[u8]) -> Vec<u8> {
        let mut body = genuine.to_vec();
        if self.random.chance(8) {
            let from = self.random.below(body.len() as u64) as usize;
            for byte in &mut body[from..] {
                *byte ^= 0x55;
            }
        }
        body
    }

    fn wire(&self, downlink: bool, at: usize, len: usize) -> Vec<u8> {
        let stream = if downlink {
            &self.model.down
        } else {
            &self.model.up
        };
        stream.bytes[at..at + len]
            .iter()
            .map(|byte| byte.value)
            .collect()
    }

    /// Sends the last message and copies of the last two in any order, then what is missing.
    fn deliver(&mut self, downlink: bool, older: usize, start: usize) -> Result<(), TestCaseError> {
        let end = self.model.stream(downlink).bytes.len();
        let mut plan = Vec::new();
        let mut at = start;
        while at < end {
            let len = (1 + self.random.below(400) as usize).min(end - at);
            plan.push((at, len));
            at += len;
        }
        // In a replay a request that is never framed leaves its response unsolicited, for which the
        // model has no words.
        let ordered = self.random.chance(50) || (!downlink && self.model.policy == Policy::Replay);
        let disorder = if ordered { 1 } else { 6 };
        for i in 0..plan.len() {
            let other = (i + self.random.below(disorder) as usize).min(plan.len() - 1);
            plan.swap(i, other);
        }
        for (at, len) in plan {
            if ordered || self.random.chance(90) {
                self.one(downlink, at, len)?;
            }
            while self.random.chance(25) {
                let far = if ordered { at + len } else { end };
                let from = older + self.random.below((far - older) as u64) as usize;
                let len = (1 + self.random.below(500) as usize).min(far - from);
                self.one(downlink, from, len)?;
            }
            if downlink && self.random.chance(40) {
                let below = self.random.below(end as u64 + 300) as usize;
                self.ack(below)?;
            }
        }
        while let Some(at) = self
            .model
            .stream(downlink)
            .bytes
            .iter()
            .position(|byte| !byte.seen)
        {
            if self.model.mismatches >= 3 {
                break;
            }
            let len = (1 + self.random.below(700) as usize).min(end - at);
            let payload = self.wire(downlink, at, len);
            self.send(downlink, at, &payload)?;
        }
        if downlink { self.ack(end) } else { Ok(()) }
    }

    /// One segment, sometimes with another byte where that does not change the framing.
    fn one(&mut self, downlink: bool, at: usize, len: usize) -> Result<(), TestCaseError> {
        let mut payload = self.wire(downlink, at, len);
        if self.random.chance(4) {
            let index = self.random.below(len as u64) as usize;
            let stream = self.model.stream(downlink);
            let byte = &stream.bytes[at + index];
            let parsed = at + index < stream.parsed;
            if parsed || matches!(byte.role, Role::Body { .. }) {
                payload[index] ^= 1 << self.random.below(8);
            }
        }
        self.send(downlink, at, &payload)
    }

    fn run(&mut self) -> Result<(), TestCaseError> {
        let (mut up_older, mut down_older) = (0, 0);
        for _ in 0..4 + self.random.below(5) {
            let up = self.model.up.bytes.len();
            self.request();
            self.deliver(false, up_older, up)?;
            up_older = up;
            let down = self.model.down.bytes.len();
            self.response();
            self.deliver(true, down_older, down)?;
            down_older = down;
        }
        self.rig.close();
        prop_assert_eq!(self.rig.total.violations, 0);
        Ok(())
    }
}

fn total_in(film: &[u8], size: usize) -> usize {
    size.min(film.len())
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn live_conversations_are_classed_byte_by_byte(seed: u64) {
        Conversation::new(seed >> 1, Policy::Live).run()?;
    }

    #[test]
    fn replayed_conversations_are_classed_byte_by_byte(seed: u64) {
        Conversation::new(seed >> 1, Policy::Replay).run()?;
    }
}
