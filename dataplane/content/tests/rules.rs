//! Each rule of the flow proof, segment by segment.
#![expect(clippy::cast_possible_truncation, reason = "test code")]

mod rig;

use qlink_content::{
    ChargeReason, CloseReason, Direction, DropReason, LimitReason, Policy, Segment, View,
};
use qlink_types::units::Bytes;
use rig::{CLIENT_ISN, REQUEST, REQUEST_LEN, Rig, SERVER_ISN, fetching, film, head, range_head};

// --- a: positions -------------------------------------------------------------------------------

#[test]
fn a_flow_whose_start_was_not_seen_is_charged() {
    let film = film(1, 1_000);
    let mut rig = Rig::new(&[&film]);

    rig.up(0, REQUEST);
    rig.down(0, &head(1_000));
    rig.down(50, &film);

    assert_eq!(rig.total.user_charged, rig.total.wire_payload);
    assert!(rig.charged(ChargeReason::MidStream) > 1_000);
}

#[test]
fn sequence_numbers_wrap_within_the_film() {
    let film = film(1, 20_000);
    let (mut rig, body) = fetching(&film);

    for (i, piece) in film.chunks(1_000).enumerate() {
        rig.down(body + i as u64 * 1_000, piece);
    }
    rig.ack(body + 20_000);

    assert_eq!(rig.total.verified_unique, 20_000);
    assert_eq!(rig.total.user_charged, 0);
}

#[test]
fn a_syn_with_another_number_starts_another_flow() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..400]);

    let deltas = rig.raw(Direction::Uplink, 77, 0, Segment::SYN, b"", 0);

    assert_eq!(deltas.undelivered, 400);
    assert_eq!(rig.pending(), 0);
    assert_eq!(rig.flow.closed(), None);
    let after = rig.down(body + 400, &film[400..500]);
    assert_eq!(after.charged[ChargeReason::MidStream as usize], 100);
}

#[test]
fn a_repeated_syn_changes_nothing() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..400]);

    rig.raw(Direction::Uplink, CLIENT_ISN, 0, Segment::SYN, b"", 0);
    rig.ack(body + 400);

    assert_eq!(rig.total.verified_unique, 400);
}

#[test]
fn a_downlink_syn_inside_the_stream_changes_nothing() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..400]);

    let both = Segment::SYN | Segment::ACK;
    let right = CLIENT_ISN.wrapping_add(1);
    for (ack, flags) in [(0, Segment::SYN), (right, both), (right + 40, both)] {
        rig.raw(Direction::Downlink, 4_711, ack, flags, b"", 0);
    }
    rig.down(body + 400, &film[400..]);
    rig.ack(body + 1_000);

    assert_eq!(rig.total.verified_unique, 1_000);
    assert_eq!(rig.total.undelivered, 0);
}

#[test]
fn a_downlink_syn_that_does_not_answer_the_subscribers_starts_nothing() {
    let film = film(1, 1_000);
    let mut rig = Rig::new(&[&film]);
    let right = CLIENT_ISN.wrapping_add(1);
    let both = Segment::SYN | Segment::ACK;

    rig.raw(Direction::Uplink, CLIENT_ISN, 0, Segment::SYN, b"", 0);
    rig.raw(Direction::Downlink, 4_711, 0, Segment::SYN, b"", 0);
    rig.raw(Direction::Downlink, 4_711, right + 1, both, b"", 0);
    rig.raw(Direction::Downlink, 4_711, right - 1, both, b"", 0);
    rig.raw(Direction::Downlink, SERVER_ISN, right, both, b"", 0);
    rig.raw(Direction::Downlink, 4_711, right + 1, both, b"", 0);
    rig.up(0, REQUEST);
    let head = head(1_000);
    rig.down(0, &head);
    rig.down(head.len() as u64, &film);
    rig.ack(head.len() as u64 + 1_000);

    assert_eq!(rig.total.verified_unique, 1_000);
}

#[test]
fn a_fin_outside_the_window_is_no_end() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..400]);
    rig.ack(body + 400);

    let fin = |at: u64| SERVER_ISN.wrapping_add(1).wrapping_add(at as u32);
    let flags = Segment::FIN | Segment::ACK;
    for at in [body, body + 400 + 65_536] {
        rig.raw(Direction::Downlink, fin(at), 0, flags, b"", 0);
        // Had the end been believed, this would acknowledge it.
        let up = CLIENT_ISN.wrapping_add(1 + REQUEST_LEN as u32);
        let end = SERVER_ISN.wrapping_add(1).wrapping_add((body + 400) as u32);
        rig.raw(Direction::Uplink, up, end, flags, b"", 0);
        let ack = CLIENT_ISN.wrapping_add(2 + REQUEST_LEN as u32);
        rig.raw(
            Direction::Downlink,
            fin(body + 400),
            ack,
            Segment::ACK,
            b"",
            0,
        );
        assert_eq!(rig.flow.closed(), None, "{at}");
    }
}

#[test]
fn a_keep_alive_probe_is_a_copy() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..400]);
    rig.ack(body + 400);

    let genuine = rig.down(body + 399, &film[399..400]);
    let garbage = rig.down(body + 399, &[!film[399]]);

    assert_eq!(genuine.retransmit, 1);
    assert_eq!(garbage.user_charged, 1);
}

#[test]
fn a_byte_before_the_stream_is_charged() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);

    let deltas = rig.raw(Direction::Uplink, CLIENT_ISN, 0, Segment::ACK, b"\0", 1);

    assert_eq!(deltas.charged[ChargeReason::ForgottenCopy as usize], 1);
}

// --- b: new bytes -------------------------------------------------------------------------------

#[test]
fn heads_wait_until_a_content_byte_is_acknowledged() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    assert_eq!(rig.pending(), REQUEST_LEN + body);

    rig.down(body, &film[..10]);
    assert_eq!(rig.total.overhead_allowed, 0);
    rig.ack(body + 1);

    assert_eq!(rig.total.overhead_allowed, REQUEST_LEN + body);
    assert_eq!(rig.total.verified_unique, 1);
    assert_eq!(rig.pending(), 9);
}

#[test]
fn later_heads_are_allowed_at_once() {
    let film = film(1, 100);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film);
    rig.ack(body + 100);

    let deltas = rig.up(REQUEST_LEN, REQUEST);

    assert_eq!(deltas.overhead_allowed, REQUEST_LEN);
    assert_eq!(rig.pending(), 0);
}

#[test]
fn a_head_above_8192_bytes_is_charged_from_there_on() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    let long = format!("GET /film HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9_000));

    rig.up(0, &long.as_bytes()[..5_000]);
    rig.up(5_000, &long.as_bytes()[5_000..]);

    let over = long.len() as u64 - 8_192;
    assert_eq!(rig.charged(ChargeReason::BeyondAllowance), over);
    assert_eq!(rig.pending(), 8_192);
    let head = head(1_000);
    rig.down(0, &head);
    assert_eq!(rig.pending(), 8_192 + head.len() as u64);
}

#[test]
fn an_interim_response_shares_the_allowance_of_the_final_one() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    rig.up(0, REQUEST);
    let mut at = 0;

    for _ in 0..10 {
        let hint = format!("HTTP/1.1 103 Hints\r\nX: {}\r\n\r\n", "x".repeat(1_000));
        rig.down(at, hint.as_bytes());
        at += hint.len() as u64;
    }

    assert_eq!(rig.charged(ChargeReason::BeyondAllowance), at - 8_192);
}

#[test]
fn a_request_body_is_charged() {
    let mut rig = Rig::opened(&[&film(1, 9)]);

    rig.up(0, b"POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
    rig.up(
        44,
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );

    assert_eq!(rig.charged(ChargeReason::RequestBody), 5 + 15);
}

#[test]
fn the_segment_is_charged_from_its_first_different_byte() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    let mut piece = film[..100].to_vec();
    piece[40] ^= 1;

    let deltas = rig.down(body, &piece);

    assert_eq!(deltas.pending_in, 40);
    assert_eq!(deltas.charged[ChargeReason::Mismatch as usize], 60);
    rig.ack(body + 100);
    assert_eq!(rig.total.verified_unique, 40);
}

#[test]
fn the_third_mismatching_segment_demotes_the_flow() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    for i in 0..3 {
        let mut piece = film[i * 100..][..100].to_vec();
        piece[50] ^= 1;
        rig.down(body + i as u64 * 100, &piece);
    }

    let deltas = rig.down(body + 300, &film[300..400]);
    let copy = rig.down(body, &film[..10]);
    let request = rig.up(REQUEST_LEN, REQUEST);

    assert_eq!(deltas.charged[ChargeReason::Demoted as usize], 100);
    assert_eq!(copy.charged[ChargeReason::Demoted as usize], 10);
    assert_eq!(request.charged[ChargeReason::Demoted as usize], REQUEST_LEN);
    let settled = rig.ack(body + 400);
    assert_eq!(settled.verified_unique, 150);
}

#[test]
fn a_body_of_no_content_is_charged() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    rig.up(0, REQUEST);

    let page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found";
    rig.down(0, page);
    rig.up(REQUEST_LEN, REQUEST);
    let at = page.len() as u64;
    let foreign = [head(999), vec![7; 999]].concat();
    rig.down(at, &foreign);

    assert_eq!(rig.charged(ChargeReason::NotContent), 9 + 999);
    let at = at + foreign.len() as u64;
    rig.up(2 * REQUEST_LEN, REQUEST);
    let whole = [head(1_000), film].concat();
    rig.down(at, &whole);
    rig.ack(at + whole.len() as u64);
    assert_eq!(rig.total.verified_unique, 1_000);
}

#[test]
fn foreign_bytes_under_the_films_range_are_charged() {
    let film = film(1, 10_000);
    let mut rig = Rig::opened(&[&film]);
    rig.up(0, REQUEST);
    let head = range_head(5_000, 1_000, 10_000);
    rig.down(0, &head);

    rig.down(head.len() as u64, &[0; 1_000]);

    assert_eq!(rig.charged(ChargeReason::Mismatch), 1_000);
    rig.ack(head.len() as u64 + 1_000);
    rig.close();
    assert_eq!(rig.total.user_charged, rig.total.wire_payload);
}

// --- e: acknowledgements ------------------------------------------------------------------------

#[test]
fn the_same_content_again_is_a_repeat() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film);
    rig.ack(body + 1_000);
    rig.up(REQUEST_LEN, REQUEST);
    let again = [range_head(500, 500, 1_000), film[500..].to_vec()].concat();
    rig.down(body + 1_000, &again);

    rig.ack(body + 1_000 + again.len() as u64);

    assert_eq!(rig.total.verified_unique, 1_000);
    assert_eq!(rig.total.verified_repeat, 500);
}

#[test]
fn an_acknowledgement_ahead_counts_only_what_was_forwarded() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..100]);

    rig.ack(body + 1_000);
    assert_eq!(rig.total.verified_unique, 100);
    rig.down(body + 100, &film[100..200]);

    assert_eq!(rig.total.verified_unique, 100);
    rig.ack(body + 200);
    assert_eq!(rig.total.verified_unique, 200);
}

#[test]
fn bytes_above_the_limit_are_charged_with_the_limits_reason() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.views[0] = View::new(Bytes::new(300), LimitReason::Cap);
    rig.flow = Rig::opened(&[&film]).flow;
    rig.total = Default::default();
    rig.up(0, REQUEST);
    rig.down(0, &head(1_000));
    rig.down(body, &film);

    rig.ack(body + 1_000);

    assert_eq!(rig.total.verified_unique, 300);
    assert_eq!(rig.charged(ChargeReason::Cap), 700);
}

// --- f, h: close --------------------------------------------------------------------------------

#[test]
fn heads_of_a_flow_without_verified_bytes_are_charged_at_close() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..100]);

    let deltas = rig.close();

    assert_eq!(deltas.undelivered, 100);
    assert_eq!(
        deltas.charged[ChargeReason::NoVerifiedByte as usize],
        REQUEST_LEN + body
    );
    assert_eq!(
        rig.close(),
        Default::default(),
        "closing twice adds nothing"
    );
}

#[test]
fn a_fin_acknowledged_both_ways_closes() {
    let film = film(1, 100);
    let (mut rig, body) = fetching(&film);
    let fin = Segment::FIN | Segment::ACK;
    let (client, server) = (CLIENT_ISN.wrapping_add(1), SERVER_ISN.wrapping_add(1));
    let up = client.wrapping_add(REQUEST_LEN as u32);
    let down = server.wrapping_add(body as u32);
    rig.raw(Direction::Downlink, down, up, fin, &film, 100);
    rig.raw(Direction::Uplink, up, down.wrapping_add(101), fin, b"", 0);
    assert_eq!(rig.flow.closed(), None);

    let last = down.wrapping_add(101);
    rig.raw(
        Direction::Downlink,
        last,
        up.wrapping_add(1),
        Segment::ACK,
        b"",
        0,
    );

    assert_eq!(rig.flow.closed(), Some(CloseReason::Finished));
    assert_eq!(rig.total.verified_unique, 100);
    assert_eq!(rig.pending(), 0);
    let late = rig.down(body, &film);
    assert_eq!(late.charged[ChargeReason::Closed as usize], 100);
}

#[test]
fn a_fin_is_not_acknowledged_by_what_came_before_it() {
    let film = film(1, 100);
    let (mut rig, body) = fetching(&film);
    let fin = Segment::FIN | Segment::ACK;
    let (client, server) = (CLIENT_ISN.wrapping_add(1), SERVER_ISN.wrapping_add(1));
    let up = client.wrapping_add(REQUEST_LEN as u32);
    let down = server.wrapping_add(body as u32);
    // The client claims to have received what was never sent, and closes.
    rig.raw(Direction::Uplink, up, down.wrapping_add(5_000), fin, b"", 0);

    rig.raw(
        Direction::Downlink,
        down,
        up.wrapping_add(1),
        fin,
        &film,
        100,
    );
    assert_eq!(rig.flow.closed(), None);
    assert_eq!(rig.pending(), REQUEST_LEN + body + 100);

    let last = up.wrapping_add(1);
    rig.raw(
        Direction::Uplink,
        last,
        down.wrapping_add(101),
        Segment::ACK,
        b"",
        0,
    );
    assert_eq!(rig.flow.closed(), Some(CloseReason::Finished));
    assert_eq!(rig.total.verified_unique, 100);
}

#[test]
fn an_old_acknowledgement_takes_nothing_back() {
    let film = film(1, 100);
    let (mut rig, body) = fetching(&film);
    let fin = Segment::FIN | Segment::ACK;
    let up = CLIENT_ISN.wrapping_add(1).wrapping_add(REQUEST_LEN as u32);
    let down = SERVER_ISN.wrapping_add(1).wrapping_add(body as u32);
    rig.raw(Direction::Downlink, down, up, fin, &film, 100);
    rig.raw(Direction::Uplink, up, down.wrapping_add(101), fin, b"", 0);

    rig.raw(Direction::Uplink, up, down, Segment::ACK, b"", 0);
    let last = down.wrapping_add(101);
    rig.raw(
        Direction::Downlink,
        last,
        up.wrapping_add(1),
        Segment::ACK,
        b"",
        0,
    );

    assert_eq!(rig.flow.closed(), Some(CloseReason::Finished));
}

#[test]
fn a_refused_connection_closes() {
    let mut rig = Rig::new(&[&film(1, 9)]);
    rig.raw(Direction::Uplink, CLIENT_ISN, 0, Segment::SYN, b"", 0);

    let flags = Segment::RST | Segment::ACK;
    rig.raw(
        Direction::Downlink,
        0,
        CLIENT_ISN.wrapping_add(1),
        flags,
        b"",
        0,
    );

    assert_eq!(rig.flow.closed(), Some(CloseReason::Reset));
}

#[test]
fn the_flow_knows_when_it_was_last_seen() {
    let (rig, _) = fetching(&film(1, 10));

    assert_eq!(rig.flow.idle_since(), rig.now_ns);
}

// --- g: ahead of the framing --------------------------------------------------------------------

#[test]
fn body_bytes_out_of_order_need_no_reassembly() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);

    rig.down(body + 500, &film[500..]);
    rig.down(body, &film[..500]);
    rig.ack(body + 1_000);

    assert_eq!(rig.total.verified_unique, 1_000);
}

#[test]
fn what_lies_ahead_of_unknown_framing_is_dropped_live() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    rig.up(0, REQUEST);
    let head = head(1_000);
    let body = head.len() as u64;
    let before = rig.flow.pending_bytes();

    assert_eq!(
        rig.try_down(body, &film[..100]),
        Err(DropReason::FramingUnknown)
    );

    assert_eq!(rig.flow.pending_bytes(), before);
    rig.down(0, &head);
    rig.down(body, &film[..100]);
    rig.ack(body + 100);
    assert_eq!(rig.total.verified_unique, 100);
}

#[test]
fn what_lies_ahead_of_unknown_framing_is_charged_in_a_replay() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    rig.policy = Policy::Replay;
    rig.up(0, REQUEST);
    let head = head(1_000);
    let body = head.len() as u64;

    let ahead = rig.down(body, &film[..100]);
    rig.down(0, &head);
    rig.down(body + 100, &film[100..]);
    let copy = rig.down(body, &film[..100]);
    rig.ack(body + 1_000);

    assert_eq!(ahead.charged[ChargeReason::FramingUnknown as usize], 100);
    assert_eq!(copy.charged[ChargeReason::ChargedCopy as usize], 100);
    assert_eq!(rig.total.verified_unique, 900);
}

#[test]
fn a_segment_that_needs_a_33rd_range_is_dropped_live_and_charged_in_a_replay() {
    for policy in [Policy::Live, Policy::Replay] {
        let film = film(1, 1_000);
        let (mut rig, body) = fetching(&film);
        rig.policy = policy;
        // The head is the first range.
        for island in 1..32 {
            rig.down(body + island * 10, &film[island as usize * 10..][..5]);
        }

        let verdict = rig.try_down(body + 320, &film[320..325]);

        if policy == Policy::Live {
            assert_eq!(verdict, Err(DropReason::CoverageFull));
            rig.down(body, &film[..10]);
            rig.down(body + 320, &film[320..325]);
        } else {
            let charged = verdict.unwrap().charged;
            assert_eq!(charged[ChargeReason::CoverageFull as usize], 5);
        }
    }
}

// --- i: nomination ------------------------------------------------------------------------------

#[test]
fn contents_of_the_same_size_are_told_apart_by_their_first_bytes() {
    let (a, b) = (film(1, 1_000), film(2, 1_000));
    for genuine in [0, 1] {
        let body = [&a, &b][genuine].clone();
        let mut rig = Rig::opened(&[&a, &b]);
        rig.up(0, REQUEST);
        let whole = [head(1_000), body].concat();

        rig.down(0, &whole);
        rig.ack(whole.len() as u64);

        assert_eq!(rig.total.verified_unique, 1_000);
        let unique: Vec<_> = rig
            .views
            .iter()
            .map(|v| v.classes().verified_unique.get())
            .collect();
        assert_eq!(unique[genuine], 1_000);
        assert_eq!(unique[1 - genuine], 0);
    }
}

#[test]
fn contents_that_begin_alike_are_told_apart_by_the_whole_first_piece() {
    let (a, mut b) = (film(1, 1_000), film(2, 1_000));
    b[..700].copy_from_slice(&a[..700]);
    for genuine in [0, 1] {
        let body = [&a, &b][genuine].clone();
        let mut rig = Rig::opened(&[&a, &b]);
        rig.up(0, REQUEST);
        let whole = [head(1_000), body].concat();

        rig.down(0, &whole);
        rig.ack(whole.len() as u64);

        let proven = rig.views[genuine].classes().verified_unique.get();
        assert_eq!(proven, 1_000);
        assert_eq!(rig.total.user_charged, 0);
    }
}

#[test]
fn chunked_films_are_found_by_their_first_bytes() {
    let (a, b) = (film(1, 5_000), film(2, 3_000));
    let mut rig = Rig::opened(&[&a, &b]);
    rig.up(0, REQUEST);
    let mut stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in b.chunks(100) {
        stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        stream.extend_from_slice(chunk);
        stream.extend_from_slice(b"\r\n");
    }
    stream.extend_from_slice(b"0\r\n\r\n");

    for (i, piece) in stream.chunks(777).enumerate() {
        rig.down(i as u64 * 777, piece);
        rig.ack(i as u64 * 777);
    }
    rig.ack(stream.len() as u64);

    assert_eq!(rig.views[1].classes().verified_unique.get(), 3_000);
    assert_eq!(rig.total.user_charged, 0);
    assert_eq!(
        rig.total.overhead_allowed,
        REQUEST_LEN + stream.len() as u64 - 3_000
    );
    let copy = rig.down(1_000, &stream[1_000..2_000]);
    assert_eq!(copy.retransmit, 1_000);
}

#[test]
fn a_chunked_body_of_no_content_is_charged() {
    let mut rig = Rig::opened(&[&film(1, 5_000)]);
    rig.up(0, REQUEST);

    rig.down(
        0,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    );

    assert_eq!(rig.charged(ChargeReason::NotContent), 3);
}

// --- j, k ---------------------------------------------------------------------------------------

#[test]
fn bytes_that_were_not_captured_are_charged() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.policy = Policy::Replay;
    let seq = SERVER_ISN.wrapping_add(1).wrapping_add(body as u32);

    for _ in 0..4 {
        rig.raw(Direction::Downlink, seq, 0, Segment::ACK, &film[..60], 500);
    }

    assert_eq!(rig.charged(ChargeReason::CaptureCut), 4 * 440);
    assert_eq!(rig.total.retransmit, 180, "no mismatch, no demotion");
    let whole = rig.down(body, &film[..500]);
    assert_eq!(whole.charged[ChargeReason::ChargedCopy as usize], 440);
    rig.ack(body + 500);
    assert_eq!(rig.total.verified_unique, 60);
}

#[test]
fn a_flow_that_is_no_http_is_charged_from_its_first_byte() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);

    rig.up(0, b"\x16\x03\x01\x02\x00");
    rig.down(0, &film);

    assert_eq!(rig.charged(ChargeReason::Unframed), 1_005);
    assert!(rig.flow.violation().is_some());
}

#[test]
fn doubtful_framing_charges_everything_after_it() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    rig.up(0, REQUEST);
    let mut response = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n".to_vec();
    let known = response.len() as u64 - 1;
    response.extend_from_slice(b"Content-Length: 1000\r\n\r\n");
    response.extend_from_slice(&film);

    rig.down(0, &response);

    assert_eq!(
        rig.charged(ChargeReason::Unframed),
        response.len() as u64 - known
    );
    rig.ack(response.len() as u64);
    rig.close();
    assert_eq!(rig.total.user_charged, rig.total.wire_payload);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    let head_request = b"HEAD /film HTTP/1.1\r\n\r\n";
    let both = [head_request.as_slice(), REQUEST].concat();
    rig.up(0, &both);
    let answers = [head(1_000), head(1_000), film].concat();

    rig.down(0, &answers);
    rig.ack(answers.len() as u64);

    assert_eq!(rig.total.verified_unique, 1_000);
    let again = rig.up(0, &both);
    assert_eq!(again.retransmit, both.len() as u64);
}
