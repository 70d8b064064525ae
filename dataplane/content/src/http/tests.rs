//! Framing, message by message.

use proptest::prelude::*;

use super::*;
use crate::words::{WordSource, fill};

/// Feeds a whole stream, stepping over bodies; the events in order, and the bytes per role.
fn read(side: Side, requests: &[RequestKind], stream: &[u8]) -> (Vec<Event>, u64) {
    let mut queue = Queue::new();
    for kind in requests {
        assert!(queue.push(*kind));
    }
    let mut parser = Parser::new(side);
    let mut events = Vec::new();
    let mut at = 0_usize;
    while at < stream.len() {
        let fed = parser.feed(&mut queue, &stream[at..]);
        at += fed.consumed;
        match fed.event {
            Event::More => break,
            Event::Violation(_) => {
                events.push(fed.event);
                break;
            }
            Event::Head(Head {
                body: Body::Length(skip),
                ..
            })
            | Event::Chunk(skip) => {
                at += usize::try_from(skip).unwrap();
                events.push(fed.event);
            }
            event => events.push(event),
        }
    }
    (events, at as u64)
}

fn response(head: &str) -> Event {
    let stream = format!("{head}\r\n\r\n");
    let (events, _) = read(Side::Response, &[RequestKind::Other], stream.as_bytes());
    *events.first().unwrap()
}

fn request(head: &str) -> Event {
    let stream = format!("{head}\r\n\r\n");
    let (events, _) = read(Side::Request, &[], stream.as_bytes());
    *events.first().unwrap()
}

#[track_caller]
fn refused(event: Event, violation: Violation) {
    assert_eq!(event, Event::Violation(violation));
}

#[test]
fn a_200_with_length_is_the_whole_content() {
    let nomination = Some(Nomination {
        offset: 0,
        total: Some(10),
    });
    let wanted = Head {
        interim: false,
        body: Body::Length(10),
        nomination,
    };

    assert_eq!(
        response("HTTP/1.1 200 OK\r\ncontent-LENGTH:  10 "),
        Event::Head(wanted)
    );
    assert_eq!(
        response("HTTP/1.0 200\r\nContent-Length: 10\r\nContent-Length: 10"),
        Event::Head(wanted)
    );
}

#[test]
fn a_206_lies_at_its_content_range() {
    let nomination = Some(Nomination {
        offset: 5,
        total: Some(100),
    });
    let wanted = Head {
        interim: false,
        body: Body::Length(4),
        nomination,
    };

    assert_eq!(
        response("HTTP/1.1 206 P\r\nContent-Range: bytes 5-8/100\r\nContent-Length: 4"),
        Event::Head(wanted)
    );
    assert_eq!(
        response("HTTP/1.1 206 P\r\nContent-Range: bytes 5-8/100"),
        Event::Head(wanted)
    );
}

#[test]
fn a_range_without_total_has_no_total() {
    let event = response("HTTP/1.1 206 P\r\nContent-Range: bytes 5-8/*\r\nContent-Length: 4");

    let nomination = Some(Nomination {
        offset: 5,
        total: None,
    });
    assert_eq!(
        event,
        Event::Head(Head {
            interim: false,
            body: Body::Length(4),
            nomination
        })
    );
}

#[test]
fn other_statuses_nominate_nothing() {
    for status in [
        "404 Not Found",
        "302 Found",
        "416 No\r\nContent-Range: bytes */9",
        "500 E",
    ] {
        let event = response(&format!("HTTP/1.1 {status}\r\nContent-Length: 4"));

        let head = Head {
            interim: false,
            body: Body::Length(4),
            nomination: None,
        };
        assert_eq!(event, Event::Head(head), "{status}");
    }
}

#[test]
fn head_204_304_and_1xx_have_no_body() {
    let bare = |interim| {
        Event::Head(Head {
            interim,
            body: Body::None,
            nomination: None,
        })
    };
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";

    assert_eq!(
        read(Side::Response, &[RequestKind::Head], head).0,
        [bare(false)]
    );
    assert_eq!(
        response("HTTP/1.1 304 N\r\nContent-Length: 10"),
        bare(false)
    );
    assert_eq!(response("HTTP/1.1 204 N"), bare(false));
    let both = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 N\r\n\r\n";
    assert_eq!(
        read(Side::Response, &[RequestKind::Other], both).0,
        [bare(true), bare(false)]
    );
}

#[test]
fn chunks_are_announced_one_by_one() {
    let stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
        4;x=y\r\nabcd\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n000\r\nTrailer: 1\r\n\r\n";

    let (events, at) = read(Side::Response, &[RequestKind::Other], stream);

    let nomination = Some(Nomination {
        offset: 0,
        total: None,
    });
    let head = Head {
        interim: false,
        body: Body::Chunked,
        nomination,
    };
    assert_eq!(
        events,
        [
            Event::Head(head),
            Event::Chunk(4),
            Event::Chunk(26),
            Event::End
        ]
    );
    assert_eq!(at, stream.len() as u64);
}

#[test]
fn what_two_parsers_could_read_in_two_ways_is_refused() {
    use Violation as V;
    let cases = [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            V::LengthAndEncoding,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            V::LengthAndEncoding,
        ),
        ("Content-Length: 5\r\nContent-Length: 6", V::ContentLength),
        ("Content-Length: 5, 5", V::ContentLength),
        ("Content-Length: +5", V::ContentLength),
        ("Content-Length: 0x5", V::ContentLength),
        ("Content-Length:", V::ContentLength),
        ("Content-Length: 99999999999999999999", V::ContentLength),
        ("Transfer-Encoding: gzip, chunked", V::TransferEncoding),
        ("Transfer-Encoding: identity", V::TransferEncoding),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            V::TransferEncoding,
        ),
        ("Content-Encoding: gzip", V::ContentEncoding),
        ("Content-Encoding: identity, br", V::ContentEncoding),
        ("Upgrade: h2c", V::Upgrade),
        ("X: 1\r\n folded: 2", V::ObsFold),
        ("X: 1\r\n\tfolded", V::ObsFold),
        ("Content-Length : 5", V::Syntax),
        (": 5", V::Syntax),
        ("no colon", V::Syntax),
        ("X: a\nContent-Length: 5", V::LineEnd),
        ("X: a\rContent-Length: 5", V::LineEnd),
        ("X: a\0", V::LineEnd),
        ("Connection: close", V::Unsized),
    ];
    for (fields, violation) in cases {
        refused(response(&format!("HTTP/1.1 200 OK\r\n{fields}")), violation);
    }
    let long = format!("Content-Length:{}5", " ".repeat(200));
    refused(
        response(&format!("HTTP/1.1 200 OK\r\n{long}")),
        V::LineTooLong,
    );
}

#[test]
fn odd_start_lines_are_refused() {
    use Violation as V;
    for line in [
        "HTTP/2 200",
        "HTTP/1.1  200 OK",
        "HTTP/1.2 200 OK",
        "ICY 200 OK",
        "http/1.1 200 OK",
    ] {
        assert!(
            matches!(response(line), Event::Violation(V::Version | V::Syntax)),
            "{line}"
        );
    }
    refused(response("HTTP/1.1 2000 OK\r\nContent-Length: 5"), V::Syntax);
    refused(response("HTTP/1.1 101 Switching Protocols"), V::Upgrade);
    refused(request("CONNECT a:443 HTTP/1.1"), V::Upgrade);
    refused(request("GET / HTTP/2.0"), V::Version);
    refused(request("GET /a bHTTP/1.1"), V::Version);
    refused(request("GET /a b HTTP/1.1"), V::Syntax);
    refused(request("GET /"), V::Syntax);
    refused(request("get / HTTP/1.1"), V::NoMethod);
    refused(request("\x16\x03\x01"), V::LineEnd);
    refused(request("SSH-2.0-x"), V::NoMethod);
    refused(request(""), V::NoMethod);
}

#[test]
fn malformed_ranges_are_refused() {
    for range in [
        "bytes 8-5/100",
        "bytes 5-8/8",
        "bytes 5-/100",
        "items 5-8/100",
        "bytes */100",
        "5-8/9",
    ] {
        let event = response(&format!("HTTP/1.1 206 P\r\nContent-Range: {range}"));

        refused(event, Violation::ContentRange);
    }
    let both = "Content-Range: bytes 5-8/100\r\nContent-Length: 5";
    refused(
        response(&format!("HTTP/1.1 206 P\r\n{both}")),
        Violation::ContentRange,
    );
    let multi = "Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 5";
    refused(
        response(&format!("HTTP/1.1 206 P\r\n{multi}")),
        Violation::Multipart,
    );
}

#[test]
fn chunk_framing_that_does_not_follow_the_chunk_is_refused() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for rest in [
        "5\r\nabcdeX",
        "g\r\n",
        "\r\n",
        "-1\r\n",
        " 5\r\n",
        "fffffffffffffff\r\n",
        "1\nx",
    ] {
        let stream = format!("{head}{rest}");

        let (events, _) = read(Side::Response, &[RequestKind::Other], stream.as_bytes());

        assert!(
            matches!(events.last(), Some(Event::Violation(_))),
            "{rest:?} {events:?}"
        );
    }
}

#[test]
fn a_response_without_a_request_is_refused() {
    let stream = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    let (events, at) = read(Side::Response, &[], stream);

    assert_eq!(events, [Event::Violation(Violation::Unsolicited)]);
    assert_eq!(at, stream.len() as u64 - 1);
}

#[test]
fn the_17th_outstanding_request_is_refused() {
    let stream = b"GET / HTTP/1.1\r\n\r\n".repeat(17);

    let (events, _) = read(Side::Request, &[], &stream);

    assert_eq!(events.len(), 17);
    assert_eq!(
        events.last(),
        Some(&Event::Violation(Violation::Pipelining))
    );
}

#[test]
fn request_bodies_are_framed() {
    let event = request("POST /x HTTP/1.1\r\nContent-Length: 7");

    let head = Head {
        interim: false,
        body: Body::Length(7),
        nomination: None,
    };
    assert_eq!(event, Event::Head(head));
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just("HTTP/1.1 200 OK\r\n"),
        Just("GET / HTTP/1.1\r\n"),
        Just("\r\n"),
        Just("\r"),
        Just("Content-Length: 3\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("abc"),
        Just("Content-Range: bytes 0-2/9\r\n"),
        Just("HTTP/1.1 206 P\r\n"),
        Just("3\r\n"),
        Just("0\r\n\r\n"),
        Just("X: y\r\n"),
        Just("\n"),
        Just(" "),
        Just("HEAD /a HTTP/1.0\r\n"),
    ];
    proptest::collection::vec(token, 0..14).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    /// Splitting the stream anywhere, and storing and reading the state there, changes nothing.
    #[test]
    fn any_cut_of_the_stream_gives_the_same_events(
        stream in pieces(), cuts in proptest::collection::vec(1_usize..9, 1..40), request: bool,
    ) {
        let side = if request { Side::Request } else { Side::Response };
        let whole = read(side, &[RequestKind::Other], &stream);
        let mut queue = Queue::new();
        prop_assert!(queue.push(RequestKind::Other));
        let mut parser = Parser::new(side);
        let mut events = Vec::new();
        let mut at = 0_usize;
        let mut cut = cuts.iter().cycle();
        while at < stream.len() {
            let end = (at + cut.next().unwrap()).min(stream.len());
            let fed = parser.feed(&mut queue, &stream[at..end]);
            at += fed.consumed;
            match fed.event {
                Event::More => {}
                Event::Head(Head { body: Body::Length(skip), .. }) | Event::Chunk(skip) => {
                    at += skip as usize;
                    events.push(fed.event);
                }
                event => events.push(event),
            }
            if matches!(fed.event, Event::Violation(_)) { break; }
            let mut words = [0; Parser::WORDS];
            let used = fill(&mut words, |put| parser.encode(put)).unwrap();
            parser = Parser::decode(&mut WordSource::new(&words[..used]), side).unwrap();
            let mut word = [0; 1];
            fill(&mut word, |put| queue.encode(put)).unwrap();
            queue = Queue::decode(&mut WordSource::new(&word)).unwrap();
        }
        prop_assert_eq!((events, at as u64), whole);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), request: bool,
    ) {
        let side = if request { Side::Request } else { Side::Response };
        let mut queue = Queue::new();
        let mut parser = Parser::new(side);
        let fed = parser.feed(&mut queue, &bytes);
        prop_assert!(fed.consumed <= bytes.len());
    }
}
