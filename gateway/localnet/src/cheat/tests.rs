//! Hand-made packet lists: each rule of the account, one by one.
use std::net::SocketAddr;

use qlink_wire::TcpFlags;
use qlink_wire::build::{TcpFields, tcp_packet};

use super::*;
use crate::catalog::{Film, foreign_byte};

const VIEWER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const HEAD: &[u8] = b"GET /film HTTP/1.1\r\nHost: h\r\n\r\n";

/// Both observers around a gateway that forwards everything.
struct Pair {
    basestation: CheatMeter,
    origin: CheatMeter,
    film: Vec<u8>,
    viewer_isn: u32,
    server_isn: u32,
}

impl Pair {
    fn new(film_size: u32) -> Self {
        let film: Vec<u8> = (0..film_size)
            .map(|at| at.wrapping_mul(97).to_be_bytes()[2])
            .collect();
        let catalog = Catalog::new([("/film".to_owned(), Film::new(film.clone()))]);
        let mut pair = Self {
            basestation: CheatMeter::new(catalog.clone()),
            origin: CheatMeter::new(catalog),
            film,
            viewer_isn: 1_000,
            server_isn: u32::MAX - 500,
        };
        pair.basestation.watch(VIEWER);
        pair.origin.watch(VIEWER);
        pair.packet(Direction::Uplink, pair.viewer_isn, 0, TcpFlags::SYN, &[]);
        let ack = pair.viewer_isn + 1;
        let flags = TcpFlags::SYN.union(TcpFlags::ACK);
        pair.packet(Direction::Downlink, pair.server_isn, ack, flags, &[]);
        pair
    }

    fn encode(
        &self,
        direction: Direction,
        seq: u32,
        ack: u32,
        flags: TcpFlags,
        payload: &[u8],
    ) -> Vec<u8> {
        let (viewer, server) = (
            SocketAddr::from((VIEWER, 50_000)),
            SocketAddr::from((SERVER, 80)),
        );
        let fields = TcpFields::new(seq, ack, flags);
        match direction {
            Direction::Uplink => tcp_packet(viewer, server, &fields, payload).unwrap(),
            Direction::Downlink => tcp_packet(server, viewer, &fields, payload).unwrap(),
        }
    }

    fn packet(
        &mut self,
        direction: Direction,
        seq: u32,
        ack: u32,
        flags: TcpFlags,
        payload: &[u8],
    ) {
        let packet = self.encode(direction, seq, ack, flags, payload);
        self.basestation.observe(direction, &packet);
        self.origin.observe(direction, &packet);
    }

    fn up(&mut self, offset: u32, payload: &[u8]) {
        let seq = self.viewer_isn + 1 + offset;
        self.packet(
            Direction::Uplink,
            seq,
            self.server_isn.wrapping_add(1),
            TcpFlags::ACK,
            payload,
        );
    }

    fn down(&mut self, offset: u32, payload: &[u8]) {
        let seq = self.server_isn.wrapping_add(1).wrapping_add(offset);
        self.packet(
            Direction::Downlink,
            seq,
            self.viewer_isn + 1,
            TcpFlags::ACK,
            payload,
        );
    }

    /// The viewer acknowledges the stream up to `offset`.
    fn ack(&mut self, offset: u32) {
        let ack = self.server_isn.wrapping_add(1).wrapping_add(offset);
        self.packet(
            Direction::Uplink,
            self.viewer_isn + 1,
            ack,
            TcpFlags::ACK,
            &[],
        );
    }

    fn answer_head(&self) -> Vec<u8> {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            self.film.len()
        )
        .into_bytes()
    }

    /// Request, answer head, film up to `until`, all acknowledged; returns the head's length.
    fn play(&mut self, until: usize) -> u32 {
        self.up(0, HEAD);
        let head = self.answer_head();
        let head_len = u32::try_from(head.len()).unwrap();
        self.down(0, &head);
        let film = self.film.clone();
        for (at, piece) in (0..).step_by(1000).zip(film[..until].chunks(1000)) {
            self.down(head_len + at, piece);
        }
        self.ack(head_len + u32::try_from(until).unwrap());
        head_len
    }

    fn foreign(&self, from: usize, to: usize) -> Vec<u8> {
        (from..to)
            .map(|at| foreign_byte(self.film[at], at as u64))
            .collect()
    }

    fn count(&self) -> ForeignCount {
        let count = foreign_bytes(&self.basestation.report(), &self.origin.report(), VIEWER);
        assert_eq!((count.undecided_bytes, count.gateway_dropped_bytes), (0, 0));
        assert_eq!(
            count.payload_bytes,
            count.genuine_bytes + count.allowed_bytes + count.foreign_bytes
        );
        count
    }
}

#[test]
fn honest_film_has_no_foreign_byte() {
    let mut pair = Pair::new(10_000);

    let head_len = pair.play(10_000);

    let count = pair.count();
    assert_eq!(count.foreign_bytes, 0);
    assert_eq!(count.genuine_bytes, 10_000);
    assert_eq!(count.allowed_bytes, HEAD.len() as u64 + u64::from(head_len));
}

#[test]
fn equal_copies_of_film_and_heads_stay_fine() {
    let mut pair = Pair::new(10_000);
    let head_len = pair.play(10_000);
    let (head, piece) = (pair.answer_head(), pair.film[500..1700].to_vec());

    pair.up(0, HEAD);
    pair.down(0, &head);
    pair.down(head_len + 500, &piece);

    let count = pair.count();
    assert_eq!((count.foreign_bytes, count.genuine_bytes), (0, 11_200));
    assert_eq!(
        count.allowed_bytes,
        2 * (HEAD.len() as u64 + u64::from(head_len))
    );
}

#[test]
fn nothing_is_allowed_until_a_genuine_byte_is_acknowledged() {
    let mut pair = Pair::new(10_000);
    pair.up(0, HEAD);
    let head = pair.answer_head();
    let head_len = u32::try_from(head.len()).unwrap();
    pair.down(0, &head);
    let piece = pair.film[..1000].to_vec();
    pair.down(head_len, &piece);

    pair.ack(head_len);
    assert_eq!(pair.count().allowed_bytes, 0);
    pair.ack(head_len + 1);

    assert_eq!(pair.count().foreign_bytes, 0);
}

#[test]
fn foreign_body_makes_the_whole_flow_foreign() {
    let mut pair = Pair::new(10_000);
    pair.up(0, HEAD);
    let head = pair.answer_head();
    let head_len = u32::try_from(head.len()).unwrap();
    pair.down(0, &head);
    for from in (0..10_000_usize).step_by(1000) {
        let piece = pair.foreign(from, from + 1000);
        pair.down(head_len + u32::try_from(from).unwrap(), &piece);
    }
    pair.ack(head_len + 10_000);

    let count = pair.count();

    assert_eq!(count.foreign_bytes, count.payload_bytes);
    assert_eq!(
        count.payload_bytes,
        HEAD.len() as u64 + u64::from(head_len) + 10_000
    );
}

#[test]
fn segment_is_foreign_from_its_first_foreign_byte_on() {
    let mut pair = Pair::new(10_000);
    let head_len = pair.play(2_000);
    let mut piece = pair.film[2_000..3_000].to_vec();
    piece[400] ^= 1;

    pair.down(head_len + 2_000, &piece);

    let count = pair.count();
    assert_eq!((count.genuine_bytes, count.foreign_bytes), (2_400, 600));
}

#[test]
fn third_mismatching_segment_demotes_both_directions_for_good() {
    let mut pair = Pair::new(10_000);
    let head_len = pair.play(5_000);
    for from in [0_usize, 1_000, 2_000] {
        let fake = pair.foreign(from, from + 1_000);
        pair.down(head_len + u32::try_from(from).unwrap(), &fake);
    }
    assert_eq!(pair.count().foreign_bytes, 3_000);
    let genuine = pair.film[5_000..6_000].to_vec();

    pair.down(head_len + 5_000, &genuine);
    pair.up(0, HEAD);

    let count = pair.count();
    assert_eq!(count.foreign_bytes, 4_000 + HEAD.len() as u64);
    assert_eq!(count.genuine_bytes, 5_000);
}

#[test]
fn copies_of_a_mismatching_segment_are_no_further_mismatch() {
    let mut pair = Pair::new(10_000);
    let head_len = pair.play(2_000);
    let foreign = pair.foreign(2_000, 3_000);
    let genuine = pair.film[1_000..2_000].to_vec();

    (0..5).for_each(|_| pair.down(head_len + 2_000, &foreign));
    pair.down(head_len + 1_000, &genuine);

    let count = pair.count();
    assert_eq!((count.genuine_bytes, count.foreign_bytes), (3_000, 5_000));
}

#[test]
fn position_that_came_foreign_first_stays_foreign() {
    let mut pair = Pair::new(10_000);
    let head_len = pair.play(2_000);
    let (foreign, genuine) = (pair.foreign(2_000, 3_000), pair.film[2_000..4_000].to_vec());

    pair.down(head_len + 2_000, &foreign);
    pair.down(head_len + 2_000, &genuine);

    let count = pair.count();
    assert_eq!((count.genuine_bytes, count.foreign_bytes), (3_000, 2_000));
}

#[test]
fn framing_of_a_request_body_is_foreign() {
    let mut pair = Pair::new(1_000);
    pair.play(1_000);
    let head = b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = b"5\r\nhello\r\n0\r\n\r\n";
    let at = u32::try_from(HEAD.len()).unwrap();

    pair.up(at, &[&head[..], body].concat());

    assert_eq!(pair.count().foreign_bytes, body.len() as u64);
}

#[test]
fn interim_answer_shares_the_allowance_of_the_final_one() {
    let mut pair = Pair::new(1_000);
    pair.up(0, HEAD);
    let interim = format!("HTTP/1.1 103 Hints\r\nX: {}\r\n\r\n", "x".repeat(5_000));
    let head = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 1000\r\n\r\n",
        "x".repeat(5_000)
    );
    let overhead = (interim.len() + head.len()) as u64;
    let wire = [interim.as_bytes(), head.as_bytes(), &pair.film].concat();
    pair.down(0, &wire);
    pair.ack(u32::try_from(wire.len()).unwrap());

    let count = pair.count();

    assert_eq!(count.foreign_bytes, overhead - 8_192);
    assert_eq!(count.genuine_bytes, 1_000);
}

#[test]
fn flow_that_leaves_http_is_foreign_both_ways_from_then_on() {
    let mut pair = Pair::new(1_000);
    let head_len = pair.play(500);
    let genuine = pair.film[500..].to_vec();

    pair.up(u32::try_from(HEAD.len()).unwrap(), b"\x16\x03\x01\x02\x00");
    pair.down(head_len + 500, &genuine);

    assert_eq!(
        (pair.count().genuine_bytes, pair.count().foreign_bytes),
        (500, 505)
    );
}

#[test]
fn head_is_allowed_up_to_its_first_8192_bytes() {
    let mut pair = Pair::new(1_000);
    pair.play(1_000);
    let long = format!("GET /film HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9_000));
    let long_len = long.len() as u64;
    let allowed_before = pair.count().allowed_bytes;
    let mut at = u32::try_from(HEAD.len()).unwrap();
    for piece in long.as_bytes().chunks(1_000) {
        pair.up(at, piece);
        at += u32::try_from(piece.len()).unwrap();
    }

    let count = pair.count();

    assert_eq!(count.allowed_bytes, allowed_before + 8_192);
    assert_eq!(count.foreign_bytes, long_len - 8_192);
}

#[test]
fn request_body_is_foreign_and_the_next_head_is_not() {
    let mut pair = Pair::new(1_000);
    pair.play(1_000);
    let post = b"POST /up HTTP/1.1\r\nContent-Length: 500\r\n\r\n";
    let mut at = u32::try_from(HEAD.len()).unwrap();

    for piece in [&post[..], &[b'G'; 500], HEAD] {
        pair.up(at, piece);
        at += u32::try_from(piece.len()).unwrap();
    }

    assert_eq!(pair.count().foreign_bytes, 500);
}

#[test]
fn uplink_ahead_of_a_gap_is_judged_when_the_gap_closes() {
    let mut pair = Pair::new(1_000);
    pair.play(1_000);
    let start = u32::try_from(HEAD.len()).unwrap();

    pair.up(start + 10, &HEAD[10..]);
    assert_eq!(pair.count().foreign_bytes, HEAD.len() as u64 - 10);
    pair.up(start, &HEAD[..10]);

    assert_eq!(pair.count().foreign_bytes, 0);
}

#[test]
fn downlink_ahead_of_a_gap_in_a_known_body_is_judged_at_once() {
    let mut pair = Pair::new(10_000);
    let head_len = pair.play(1_000);
    let piece = pair.film[7_000..8_000].to_vec();

    pair.down(head_len + 7_000, &piece);

    assert_eq!(pair.count().genuine_bytes, 2_000);
}

#[test]
fn chunk_framing_shares_the_allowance_of_its_answer() {
    let mut pair = Pair::new(12_000);
    pair.up(0, HEAD);
    let mut wire = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in pair.film.chunks(4) {
        wire.extend_from_slice(b"4\r\n");
        wire.extend_from_slice(piece);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    for (at, piece) in (0..).step_by(1_360).zip(wire.chunks(1_360)) {
        pair.down(at, piece);
    }
    pair.ack(u32::try_from(wire.len()).unwrap());

    let count = pair.count();

    assert_eq!(count.genuine_bytes, 12_000);
    assert_eq!(count.allowed_bytes, 8_192 + HEAD.len() as u64);
    assert_eq!(count.foreign_bytes, wire.len() as u64 - 12_000 - 8_192);
}

#[test]
fn answer_to_part_is_compared_at_its_content_range() {
    let mut pair = Pair::new(5_000);
    pair.up(0, b"GET /film HTTP/1.1\r\nRange: bytes=3000-3999\r\n\r\n");
    let head =
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3000-3999/5000\r\nContent-Length: 1000\r\n\r\n";
    let mut wire = head.to_vec();
    wire.extend_from_slice(&pair.film[3_000..4_000]);
    pair.down(0, &wire);
    pair.ack(u32::try_from(wire.len()).unwrap());

    assert_eq!(
        (pair.count().genuine_bytes, pair.count().foreign_bytes),
        (1_000, 0)
    );
}

#[test]
fn other_resources_and_non_http_are_foreign() {
    let mut pair = Pair::new(1_000);
    pair.up(0, b"\x16\x03\x01\x02\x00 not http at all");
    let piece = pair.film.clone();

    pair.down(0, &piece);
    pair.ack(1_000);

    let count = pair.count();
    assert_eq!(count.foreign_bytes, count.payload_bytes);
}

#[test]
fn new_connection_on_the_same_port_is_another_flow() {
    let mut pair = Pair::new(1_000);
    pair.play(1_000);
    pair.viewer_isn += 77_777;
    pair.server_isn = 42;
    pair.packet(Direction::Uplink, pair.viewer_isn, 0, TcpFlags::SYN, &[]);
    pair.packet(
        Direction::Downlink,
        42,
        0,
        TcpFlags::SYN.union(TcpFlags::ACK),
        &[],
    );

    pair.play(1_000);

    let count = pair.count();
    assert_eq!(
        (count.flows, count.genuine_bytes, count.foreign_bytes),
        (2, 2_000, 0)
    );
}

#[test]
fn what_the_gateway_drops_is_told_and_not_counted() {
    let mut pair = Pair::new(1_000);
    pair.play(1_000);
    let packet = pair.encode(
        Direction::Uplink,
        pair.viewer_isn + 1,
        0,
        TcpFlags::ACK,
        HEAD,
    );

    pair.basestation.observe(Direction::Uplink, &packet);

    let count = foreign_bytes(&pair.basestation.report(), &pair.origin.report(), VIEWER);
    assert_eq!(count.gateway_dropped_bytes, HEAD.len() as u64);
    assert_eq!(count.foreign_bytes, 0);
}

#[test]
fn unwatched_viewers_are_not_counted() {
    let mut pair = Pair::new(1_000);
    pair.basestation = CheatMeter::new(Catalog::default());

    pair.up(0, HEAD);

    assert!(pair.basestation.report().flows.is_empty());
}
