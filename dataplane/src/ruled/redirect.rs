//! Answers in the place of a web server: a plain HTTP request gets a redirection.
//!
//! ```text
//! subscriber: SYN          -> SYN, ACK: our first number is a cookie of both ends and the time
//! subscriber: ACK          -> nothing
//! subscriber: GET / ...    -> 302 Found, FIN
//! subscriber: ACK, FIN     -> ACK
//! ```
//!
//! Nothing is kept of a connection: every segment names by its acknowledgement where in the
//! conversation it stands, and the cookie says whether there is one. A request that comes again is
//! answered again with the same octets, and an acknowledgement of a part gets the rest, so that
//! losses heal without a timer.
//!
//! It deliberately reads nothing of a request but its method: where it goes is the rule's to say.
//!
//! Invariant: a segment provokes no more than one answer, which is not longer than the response of
//! its rule, and goes to nobody but the subscriber who sent it.
//!
//! Source: RFC 9110 §15.4.3, RFC 9293 §3.10.7, RFC 4987 §3.6, TS 29.244 §8.2.20.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::ops::Range;

use qlink_wire::{TcpFlags, TcpSegment};

/// The port of plain HTTP. Source: RFC 9110 §4.2.1.
pub(crate) const HTTP_PORT: u16 = 80;

/// Seconds for which one cookie is given out; it is taken for as many more (chosen: longer than
/// browsers keep an idle connection open before the request).
const COOKIE_SECONDS: u64 = 64;

/// Methods that start a request. Source: RFC 9110 §9 and RFC 5789.
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"TRACE ",
];

const BEFORE: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: ";
const BEHIND: &[u8] =
    b"\r\nContent-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n";

/// Whether a URL can stand in a response: visible characters only, so that nobody can put further
/// fields there. Source: RFC 3986 §2.
pub(crate) fn is_location(url: &str) -> bool {
    !url.is_empty() && url.bytes().all(|octet| (0x21..=0x7e).contains(&octet))
}

/// The response that redirects to an address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Response<'a> {
    location: &'a [u8],
}

impl<'a> Response<'a> {
    pub(crate) const fn to(location: &'a str) -> Self {
        Self {
            location: location.as_bytes(),
        }
    }

    pub(crate) const fn len(&self) -> usize {
        BEFORE
            .len()
            .saturating_add(self.location.len())
            .saturating_add(BEHIND.len())
    }

    /// Appends a part of it.
    pub(crate) fn copy(&self, part: Range<usize>, out: &mut Vec<u8>) {
        let Range { mut start, mut end } = part;
        for piece in [BEFORE, self.location, BEHIND] {
            let from = start.min(piece.len());
            let to = end.min(piece.len());
            out.extend_from_slice(piece.get(from..to).unwrap_or_default());
            start = start.saturating_sub(piece.len());
            end = end.saturating_sub(piece.len());
        }
    }
}

/// What follows from a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A segment without a part of the response.
    Say { seq: u32, ack: u32, flags: TcpFlags },
    /// The response from an octet on, then the end.
    Respond { seq: u32, ack: u32, from: usize },
    /// Nothing.
    Nothing,
    /// It is no request.
    NotHttp,
}

/// What makes first sequence numbers hard to guess.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cookies(RandomState);

impl Cookies {
    /// Our first sequence number of a connection that begins at `window`.
    fn first(&self, ends: (SocketAddr, SocketAddr), window: u64) -> u32 {
        let [a, b, c, d, ..] = self.0.hash_one((ends, window)).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// What follows from `segment`, which `ends.0` sent to `ends.1` and whose payload is whole;
    /// `response` is as many octets long. `now_s` never goes back.
    pub(crate) fn turn(
        &self,
        ends: (SocketAddr, SocketAddr),
        segment: &TcpSegment<'_>,
        response: usize,
        now_s: u64,
    ) -> Turn {
        let flags = segment.flags;
        let window = now_s.wrapping_div(COOKIE_SECONDS);
        if flags.rst() || flags.syn() == flags.ack() {
            return Turn::Nothing;
        }
        if flags.syn() {
            return Turn::Say {
                seq: self.first(ends, window),
                ack: segment.seq.wrapping_add(1),
                flags: TcpFlags::SYN.union(TcpFlags::ACK),
            };
        }
        let response = u32::try_from(response).unwrap_or(u32::MAX);
        let acknowledged = [window, window.wrapping_sub(1)]
            .map(|window| self.first(ends, window).wrapping_add(1))
            .map(|start| segment.ack.wrapping_sub(start))
            .into_iter()
            // The end of the connection counts as one more.
            .find(|acknowledged| *acknowledged <= response.saturating_add(1));
        match acknowledged {
            // A connection of before the rule: the browser opens another one.
            None => reset(segment),
            Some(0) => begin(segment),
            Some(part) if part <= response => Turn::Respond {
                seq: segment.ack,
                ack: consumed(segment),
                from: usize::try_from(part).unwrap_or(usize::MAX),
            },
            Some(_) if consumed(segment) == segment.seq => Turn::Nothing,
            Some(_) => Turn::Say {
                seq: segment.ack,
                ack: consumed(segment),
                flags: TcpFlags::ACK,
            },
        }
    }
}

/// What follows while nothing of the response has arrived.
fn begin(segment: &TcpSegment<'_>) -> Turn {
    let payload = segment.payload;
    if METHODS.iter().any(|method| payload.starts_with(method)) {
        return Turn::Respond {
            seq: segment.ack,
            ack: consumed(segment),
            from: 0,
        };
    }
    match (payload.is_empty(), segment.flags.fin()) {
        // The rest of a request whose beginning was answered comes again and is acknowledged then.
        (false, _) => Turn::NotHttp,
        (true, true) => reset(segment),
        (true, false) => Turn::Nothing,
    }
}

const fn reset(segment: &TcpSegment<'_>) -> Turn {
    Turn::Say {
        seq: segment.ack,
        ack: 0,
        flags: TcpFlags::RST,
    }
}

/// The number behind everything that a segment brings.
fn consumed(segment: &TcpSegment<'_>) -> u32 {
    let length = u32::try_from(segment.payload.len()).unwrap_or(u32::MAX);
    let end = u32::from(segment.flags.fin());
    segment.seq.wrapping_add(length).wrapping_add(end)
}

#[cfg(test)]
#[path = "redirect_tests.rs"]
mod tests;
