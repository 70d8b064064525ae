use proptest::prelude::*;

use super::*;

const URL: &str = "https://pay.example/?q=1";

fn ends() -> (SocketAddr, SocketAddr) {
    (
        "10.60.0.9:40000".parse().unwrap(),
        "192.0.2.9:80".parse().unwrap(),
    )
}

fn segment(seq: u32, ack: u32, flags: TcpFlags, payload: &[u8]) -> TcpSegment<'_> {
    TcpSegment {
        src_port: 40_000,
        dst_port: HTTP_PORT,
        seq,
        ack,
        flags,
        window: 65_535,
        header_len: 20,
        payload,
    }
}

/// Our first number for a connection that `seq` opens.
fn opened(cookies: &Cookies, seq: u32, now_s: u64) -> u32 {
    let syn = segment(seq, 0, TcpFlags::SYN, b"");
    match cookies.turn(ends(), &syn, 100, now_s) {
        Turn::Say {
            seq: first,
            ack,
            flags,
        } => {
            assert_eq!(ack, seq.wrapping_add(1));
            assert!(flags.syn() && flags.ack());
            first
        }
        other => panic!("{other:?}"),
    }
}

fn text(response: &Response<'_>) -> String {
    let mut out = Vec::new();
    response.copy(0..response.len(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_is_answered_with_a_redirection_and_the_end() {
    let cookies = Cookies::default();
    let first = opened(&cookies, 7, 1000).wrapping_add(1);
    let ack = TcpFlags::ACK;
    let request = b"GET / HTTP/1.1\r\nHost: film.example\r\n\r\n";

    let handshake = cookies.turn(ends(), &segment(8, first, ack, b""), 100, 1000);
    let answer = cookies.turn(ends(), &segment(8, first, ack, request), 100, 1001);
    let behind = 8 + u32::try_from(request.len()).unwrap();
    let last = first.wrapping_add(101);
    let heard = cookies.turn(ends(), &segment(behind, last, ack, b""), 100, 1001);
    let fin = ack.union(TcpFlags::FIN);
    let end = cookies.turn(ends(), &segment(behind, last, fin, b""), 100, 1001);

    assert_eq!(handshake, Turn::Nothing);
    let from_start = Turn::Respond {
        seq: first,
        ack: behind,
        from: 0,
    };
    assert_eq!(answer, from_start);
    assert_eq!(heard, Turn::Nothing);
    let acknowledged = Turn::Say {
        seq: last,
        ack: behind + 1,
        flags: ack,
    };
    assert_eq!(end, acknowledged);
}

#[test]
fn the_response_says_where_to_and_that_it_is_not_to_be_kept() {
    let response = text(&Response::to(URL));

    assert!(response.starts_with("HTTP/1.1 302 Found\r\n"));
    assert!(response.contains("\r\nLocation: https://pay.example/?q=1\r\n"));
    assert!(response.contains("\r\nCache-Control: no-store\r\n"));
    assert!(response.ends_with("\r\n\r\n"));
}

#[test]
fn an_address_cannot_bring_fields_of_its_own() {
    assert!(is_location(URL));
    for url in [
        "",
        "https://a/\r\nSet-Cookie: x=1",
        "https://a/ b",
        "https://ä/",
    ] {
        assert!(!is_location(url), "{url:?}");
    }
}

#[test]
fn a_connection_of_before_the_rule_is_reset() {
    let cookies = Cookies::default();
    let data = segment(5, 77, TcpFlags::ACK, b"GET / HTTP/1.1\r\n\r\n");

    let reset = Turn::Say {
        seq: 77,
        ack: 0,
        flags: TcpFlags::RST,
    };
    assert_eq!(cookies.turn(ends(), &data, 100, 0), reset);
}

#[test]
fn what_is_no_http_is_not_answered() {
    let cookies = Cookies::default();
    let first = opened(&cookies, 7, 0).wrapping_add(1);
    let hello = segment(8, first, TcpFlags::ACK, &[0x16, 3, 1, 0, 5]);

    assert_eq!(cookies.turn(ends(), &hello, 100, 0), Turn::NotHttp);
}

#[test]
fn a_cookie_is_taken_for_its_time_and_no_longer() {
    let cookies = Cookies::default();
    let first = opened(&cookies, 7, 1000).wrapping_add(1);
    let request = segment(8, first, TcpFlags::ACK, b"GET / HTTP/1.1\r\n\r\n");
    let responds = |now_s| {
        let turn = cookies.turn(ends(), &request, 100, now_s);
        matches!(turn, Turn::Respond { .. })
    };

    assert!(responds(1000 + COOKIE_SECONDS));
    assert!(!responds(1000 + 2 * COOKIE_SECONDS));
}

proptest! {
    /// However a response is cut, the parts are the whole.
    #[test]
    fn parts_of_a_response_make_the_whole(cuts in proptest::collection::vec(0_usize..200, 0..6)) {
        let response = Response::to(URL);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(response.len())).collect();
        cuts.extend([0, response.len()]);
        cuts.sort_unstable();

        let mut out = Vec::new();
        for pair in cuts.windows(2) {
            response.copy(pair[0]..pair[1], &mut out);
        }

        prop_assert_eq!(String::from_utf8(out).unwrap(), text(&response));
    }

    /// Whatever comes: nothing of the response is said to somebody who did not answer our number,
    /// and never more than is left of it.
    #[test]
    fn only_who_answers_our_number_gets_a_response(
        seq: u32, ack: u32, bits: u8, payload in "(GET / )?[a-z]{0,9}", now_s in 0_u64..10_000,
    ) {
        let cookies = Cookies::default();
        let first = opened(&cookies, seq, now_s).wrapping_add(1);
        let wild = segment(seq, ack, TcpFlags::from_bits(bits), payload.as_bytes());

        // By chance 1 of 2^32 times two numbers for each octet of the response.
        let near = |turn| !matches!(turn, Turn::Respond { .. }) || ack.wrapping_sub(first) <= 100;
        prop_assert!(near(cookies.turn(ends(), &wild, 100, now_s)) || now_s < COOKIE_SECONDS);
        let right = segment(seq, first.wrapping_add(u32::from(bits)), TcpFlags::ACK, b"");
        match cookies.turn(ends(), &right, 100, now_s) {
            Turn::Respond { seq: at, from, .. } => {
                prop_assert_eq!(from, usize::from(bits));
                prop_assert!((1..=100).contains(&from));
                prop_assert_eq!(at, right.ack);
            }
            Turn::Nothing => prop_assert!(bits == 0 || bits == 101),
            other => prop_assert!(bits > 101, "{:?}", other),
        }
    }
}
