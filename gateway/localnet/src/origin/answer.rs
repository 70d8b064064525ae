//! One answer of the origin: head, body, chunked framing, and what a play puts in the body's place.
use crate::catalog::{Catalog, Film, foreign_byte};
use crate::http::{RangeRequest, RequestHead};
use crate::script::{PLAY_HEADER, Play};

/// Body bytes per piece, and per chunk when chunked. Chosen: one tree group.
const PIECE: usize = 16 * 1024;

/// A body that is being sent.
#[derive(Debug)]
struct Body {
    film: Film,
    start: u64,
    next: u64,
    end: u64,
    play: Option<Play>,
}

impl Body {
    fn piece(&mut self) -> Vec<u8> {
        let left = usize::try_from(self.end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let genuine = self.film.slice(self.next, left.min(PIECE));
        let genuine_until = match self.play {
            Some(Play::ForeignBody) => self.start,
            Some(Play::ForeignTail { after }) => self.start.saturating_add(after),
            Some(Play::FakeRetransmit { .. }) | None => u64::MAX,
        };
        let at = self.next;
        self.next = self.next.saturating_add(genuine.len() as u64);
        (at..)
            .zip(genuine)
            .map(|(position, byte)| {
                if position < genuine_until {
                    *byte
                } else {
                    foreign_byte(*byte, position)
                }
            })
            .collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Plain,
    Chunked,
}

/// Foreign bytes to be sent as retransmissions once the answer is acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct FakeOrder {
    /// The film whose bytes stand at those positions.
    pub(crate) film: Film,
    /// The body's first content position.
    pub(crate) start: u64,
    /// Body bytes that exist.
    pub(crate) len: u64,
    /// Head bytes before the body.
    pub(crate) head_bytes: u64,
    /// Foreign bytes to send in all.
    pub(crate) bytes: u64,
}

/// An answer, handed out piece by piece.
#[derive(Debug)]
pub(crate) struct Answer {
    staged: Vec<u8>,
    staged_used: usize,
    body: Option<Body>,
    framing: Framing,
    last_chunk_due: bool,
    fake: Option<FakeOrder>,
    closes: bool,
}

impl Answer {
    /// What the catalogue answers to a request.
    pub(crate) fn to(request: &RequestHead, catalog: &Catalog) -> Self {
        let closes = request.headers.has_token("connection", "close");
        let mut answer = match request.method.as_str() {
            "GET" | "HEAD" => match catalog.film(request.path()) {
                Some(film) => Self::film(request, film),
                None => Self::bare("404 Not Found", "Content-Length: 0\r\n"),
            },
            "POST" => Self::bare("204 No Content", ""),
            _ => Self::bare(
                "405 Method Not Allowed",
                "Allow: GET, HEAD, POST\r\nContent-Length: 0\r\n",
            ),
        };
        answer.closes = closes;
        answer
    }

    /// The answer to bytes that are no request.
    pub(crate) fn bad_request() -> Self {
        let mut answer = Self::bare(
            "400 Bad Request",
            "Content-Length: 0\r\nConnection: close\r\n",
        );
        answer.closes = true;
        answer
    }

    fn bare(status: &str, headers: &str) -> Self {
        Self {
            staged: format!("HTTP/1.1 {status}\r\nServer: qlink-localnet\r\n{headers}\r\n")
                .into_bytes(),
            staged_used: 0,
            body: None,
            framing: Framing::Plain,
            last_chunk_due: false,
            fake: None,
            closes: false,
        }
    }

    fn film(request: &RequestHead, film: &Film) -> Self {
        let size = film.size();
        let (status, start, end, range_line) = match request.range(size) {
            RangeRequest::Whole => ("200 OK", 0, size, String::new()),
            RangeRequest::Part { start, end } => {
                let last = end.saturating_sub(1);
                (
                    "206 Partial Content",
                    start,
                    end,
                    format!("Content-Range: bytes {start}-{last}/{size}\r\n"),
                )
            }
            RangeRequest::Unsatisfiable => {
                let headers = format!("Content-Range: bytes */{size}\r\nContent-Length: 0\r\n");
                return Self::bare("416 Range Not Satisfiable", &headers);
            }
        };
        let len = end.saturating_sub(start);
        let (framing, length_line) = if request.has_query_flag("chunked") {
            (
                Framing::Chunked,
                "Transfer-Encoding: chunked\r\n".to_owned(),
            )
        } else {
            (Framing::Plain, format!("Content-Length: {len}\r\n"))
        };
        let headers = format!(
            "Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n{range_line}{length_line}"
        );
        let mut answer = Self::bare(status, &headers);
        if request.method == "GET" {
            let play = request
                .headers
                .value(PLAY_HEADER)
                .and_then(Play::from_header);
            let head_bytes = answer.staged.len() as u64;
            answer.framing = framing;
            answer.last_chunk_due = framing == Framing::Chunked;
            answer.fake = match play {
                Some(Play::FakeRetransmit { bytes }) if framing == Framing::Plain && len > 0 => {
                    Some(FakeOrder {
                        film: film.clone(),
                        start,
                        len,
                        head_bytes,
                        bytes,
                    })
                }
                _ => None,
            };
            answer.body = Some(Body {
                film: film.clone(),
                start,
                next: start,
                end,
                play,
            });
        }
        answer
    }

    /// Whether the connection shall end after this answer.
    pub(crate) const fn closes(&self) -> bool {
        self.closes
    }

    /// The foreign bytes to send afterwards.
    pub(crate) fn take_fake(&mut self) -> Option<FakeOrder> {
        self.fake.take()
    }

    /// The next bytes to send; empty when the answer is complete.
    pub(crate) fn pending(&mut self) -> &[u8] {
        if self.staged_used >= self.staged.len() {
            self.staged.clear();
            self.staged_used = 0;
            self.stage();
        }
        self.staged.get(self.staged_used..).unwrap_or_default()
    }

    /// Notes that the first `count` pending bytes are on their way.
    pub(crate) fn consume(&mut self, count: usize) {
        self.staged_used = self.staged_used.saturating_add(count);
    }

    fn stage(&mut self) {
        let piece = self.body.as_mut().map(Body::piece).unwrap_or_default();
        match (self.framing, piece.is_empty()) {
            (Framing::Plain, _) => self.staged = piece,
            (Framing::Chunked, false) => {
                self.staged
                    .extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                self.staged.extend_from_slice(&piece);
                self.staged.extend_from_slice(b"\r\n");
            }
            (Framing::Chunked, true) => {
                if std::mem::take(&mut self.last_chunk_due) {
                    self.staged.extend_from_slice(b"0\r\n\r\n");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::browser::{ResponseReader, encode_request};
    use crate::http::head_end;
    use crate::script::{Outcome, RequestResult, RequestScript};

    fn catalog() -> (Catalog, Vec<u8>) {
        let bytes: Vec<u8> = (0..40_000_u32)
            .map(|at| at.wrapping_mul(7).to_le_bytes()[0])
            .collect();
        (
            Catalog::new([("/f".to_owned(), Film::new(bytes.clone()))]),
            bytes,
        )
    }

    fn fetch(script: &RequestScript) -> (RequestResult, usize) {
        let wire = encode_request(script, "h");
        let request = RequestHead::parse(&wire[..head_end(&wire).unwrap()]).unwrap();
        let mut answer = Answer::to(&request, &catalog().0);
        let mut reader = ResponseReader::new(&script.method);
        let mut sent = 0;
        loop {
            let pending = answer.pending().to_vec();
            if pending.is_empty() {
                break;
            }
            reader.feed(&pending).unwrap();
            answer.consume(pending.len());
            sent += pending.len();
        }
        assert!(reader.is_done(false));
        (reader.result(&script.path, Outcome::Complete), sent)
    }

    fn hash(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex().to_string()
    }

    #[test]
    fn plain_chunked_and_partial_answers_carry_the_same_film() {
        let bytes = catalog().1;

        let (plain, _) = fetch(&RequestScript::get("/f"));
        let (chunked, _) = fetch(&RequestScript::get("/f?chunked=1"));
        let (part, _) = fetch(&RequestScript::part("/f", 100, 20_000));

        assert_eq!((plain.status, plain.body_blake3), (200, hash(&bytes)));
        assert_eq!(chunked.body_blake3, hash(&bytes));
        assert_eq!(
            (part.status, part.body_blake3),
            (206, hash(&bytes[100..20_000]))
        );
        assert_eq!(part.content_range.as_deref(), Some("bytes 100-19999/40000"));
    }

    #[test]
    fn head_and_unknown_path_have_no_body() {
        let head = RequestScript {
            method: "HEAD".to_owned(),
            ..RequestScript::get("/f")
        };

        assert_eq!((fetch(&head).0.status, fetch(&head).0.body_bytes), (200, 0));
        assert_eq!(fetch(&RequestScript::get("/none")).0.status, 404);
    }

    #[test]
    fn foreign_tail_differs_in_every_byte_after_the_given_one() {
        let bytes = catalog().1;
        let script = RequestScript {
            play: Some(Play::ForeignTail { after: 5_000 }),
            ..RequestScript::get("/f")
        };
        let foreign: Vec<u8> = (0..)
            .zip(&bytes)
            .map(|(at, byte)| {
                if at < 5_000 {
                    *byte
                } else {
                    foreign_byte(*byte, at)
                }
            })
            .collect();

        assert_eq!(fetch(&script).0.body_blake3, hash(&foreign));
    }
}
