//! The viewer's HTTP client: writes requests, reads answers, checks what a browser would check.
use crate::http::{BodyDecoder, BodyPiece, HEAD_BYTES_MAX, HttpError, ResponseHead, head_end};
use crate::script::{Outcome, PLAY_HEADER, RequestResult, RequestScript};

/// Bytes of hidden payload per header line of the head cheat. Chosen: servers accept such lines.
const HIDDEN_LINE: usize = 1000;

/// The request as it goes on the wire, body included. Hidden payload is letters drawn by position,
/// so two requests of one script are equal byte for byte.
#[must_use]
pub fn encode_request(request: &RequestScript, host: &str) -> Vec<u8> {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {host}\r\n",
        request.method, request.path
    );
    if let Some(range) = &request.range {
        head.push_str(&format!("Range: {range}\r\n"));
    }
    if let Some(play) = &request.play {
        head.push_str(&format!("{PLAY_HEADER}: {}\r\n", play.header_value()));
    }
    let mut left = usize::try_from(request.hidden_head_bytes)
        .unwrap_or(0)
        .min(HEAD_BYTES_MAX / 2);
    while left > 0 {
        let line = left.min(HIDDEN_LINE);
        head.push_str("X-Hidden: ");
        head.extend((0..line).map(|at| letter(at.wrapping_mul(31).wrapping_add(left))));
        head.push_str("\r\n");
        left = left.saturating_sub(line);
    }
    if request.body_bytes > 0 || request.method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", request.body_bytes));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend((0..request.body_bytes).map(|at| at.wrapping_mul(167).to_be_bytes()[2]));
    bytes
}

fn letter(at: usize) -> char {
    char::from(
        b"abcdefghijklmnopqrstuvwxyz"
            .get(at % 26)
            .copied()
            .unwrap_or(b'a'),
    )
}

/// Reads one answer from a stream of bytes.
#[derive(Debug)]
pub struct ResponseReader {
    method: String,
    head: Vec<u8>,
    parsed: Option<(ResponseHead, BodyDecoder)>,
    hasher: blake3::Hasher,
    body_bytes: u64,
}

impl ResponseReader {
    /// A reader of the answer to a request with this method.
    #[must_use]
    pub fn new(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            head: Vec::new(),
            parsed: None,
            hasher: blake3::Hasher::new(),
            body_bytes: 0,
        }
    }

    /// Takes the next bytes of the stream; bytes past the answer's end are left alone. Returns how
    /// many were taken.
    ///
    /// # Errors
    ///
    /// When the bytes are not an HTTP/1.1 answer.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, HttpError> {
        let in_head = if self.parsed.is_none() {
            self.feed_head(bytes)?
        } else {
            0
        };
        let body = bytes.get(in_head..).unwrap_or_default();
        Ok(in_head.saturating_add(self.feed_body(body)?))
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Result<usize, HttpError> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = head_end(&self.head) else {
            return if self.head.len() > HEAD_BYTES_MAX {
                Err(HttpError::HeadTooLong)
            } else {
                Ok(bytes.len())
            };
        };
        self.head.truncate(end);
        let head = ResponseHead::parse(&self.head)?;
        let decoder = BodyDecoder::new(head.body_length(&self.method)?);
        if head.status < 200 {
            self.head.clear();
        } else {
            self.parsed = Some((head, decoder));
        }
        Ok(end.saturating_sub(before))
    }

    fn feed_body(&mut self, mut bytes: &[u8]) -> Result<usize, HttpError> {
        let offered = bytes.len();
        let Some((_, decoder)) = &mut self.parsed else {
            return Ok(0);
        };
        while !bytes.is_empty() {
            let used = match decoder.next_piece(bytes)? {
                Some(BodyPiece::Data(len)) => {
                    self.hasher.update(bytes.get(..len).unwrap_or_default());
                    self.body_bytes = self.body_bytes.saturating_add(len as u64);
                    len
                }
                Some(BodyPiece::Framing(len)) => len,
                None => break,
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(offered.saturating_sub(bytes.len()))
    }

    /// Body bytes so far.
    #[must_use]
    pub const fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the whole answer is there; `at_close` says that the peer has ended the stream.
    #[must_use]
    pub fn is_done(&self, at_close: bool) -> bool {
        self.parsed
            .as_ref()
            .is_some_and(|(_, decoder)| decoder.is_done() || (at_close && decoder.ends_at_close()))
    }

    /// What came in.
    #[must_use]
    pub fn result(&self, path: &str, outcome: Outcome) -> RequestResult {
        let head = self.parsed.as_ref().map(|(head, _)| head);
        RequestResult {
            path: path.to_owned(),
            status: head.map_or(0, |head| head.status),
            content_range: head
                .and_then(|head| head.headers.value("content-range"))
                .map(str::to_owned),
            body_bytes: self.body_bytes,
            body_blake3: self.hasher.finalize().to_hex().to_string(),
            outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestHead;
    use crate::script::Play;

    #[test]
    fn answer_cut_anywhere_gives_the_same_body() {
        let wire = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/9\r\n\
            Content-Length: 3\r\n\r\nabcHTTP/1.1";

        for cut in 0..wire.len() {
            let mut reader = ResponseReader::new("GET");
            let used = reader.feed(&wire[..cut]).unwrap();
            let used = used + reader.feed(&wire[used..]).unwrap();

            assert!(reader.is_done(false));
            assert_eq!(
                used,
                wire.len() - 8,
                "bytes of the next answer are left alone"
            );
            let result = reader.result("/f", Outcome::Complete);
            assert_eq!(
                result.body_blake3,
                blake3::hash(b"abc").to_hex().to_string()
            );
            assert_eq!(result.content_range.as_deref(), Some("bytes 2-4/9"));
        }
    }

    #[test]
    fn hidden_payload_is_in_the_head_and_the_body() {
        let request = RequestScript {
            method: "POST".to_owned(),
            hidden_head_bytes: 12_000,
            body_bytes: 500,
            play: Some(Play::ForeignBody),
            ..RequestScript::get("/film.bin")
        };

        let wire = encode_request(&request, "h");

        let end = head_end(&wire).unwrap();
        let head = RequestHead::parse(&wire[..end]).unwrap();
        assert!(end > 12_000);
        assert_eq!(wire.len() - end, 500);
        assert_eq!(head.headers.content_length().unwrap(), Some(500));
        assert_eq!(
            head.headers.value(PLAY_HEADER).and_then(Play::from_header),
            request.play
        );
    }
}
