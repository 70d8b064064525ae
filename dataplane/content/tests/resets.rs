//! What a RST ends, and what a subscriber's RST leaves under way.
#![expect(clippy::cast_possible_truncation, reason = "test code")]

mod rig;

use qlink_content::{ChargeReason, CloseReason, Direction, Segment};
use rig::{CLIENT_ISN, REQUEST_LEN, SERVER_ISN, fetching, film};

#[test]
fn a_reset_is_believed_only_within_the_window() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..100]);
    let seq = SERVER_ISN
        .wrapping_add(1)
        .wrapping_add(body as u32)
        .wrapping_add(100);

    rig.raw(
        Direction::Downlink,
        seq.wrapping_add(500_000),
        0,
        Segment::RST,
        b"",
        0,
    );
    assert_eq!(rig.flow.closed(), None);
    let deltas = rig.raw(Direction::Downlink, seq, 0, Segment::RST, b"", 0);

    assert_eq!(rig.flow.closed(), Some(CloseReason::Reset));
    assert_eq!(deltas.undelivered, 100);
}

/// Sequence numbers of the subscriber's next byte and of the film's byte `at`.
fn numbers(body: u64, at: u64) -> (u32, u32) {
    let up = CLIENT_ISN.wrapping_add(1).wrapping_add(REQUEST_LEN as u32);
    let down = SERVER_ISN.wrapping_add(1).wrapping_add((body + at) as u32);
    (up, down)
}

#[test]
fn what_is_under_way_when_the_subscriber_resets_is_undelivered_and_foreign_bytes_are_charged() {
    let film = film(1, 5_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..1_000]);
    rig.ack(body + 1_000);
    rig.down(body + 1_000, &film[1_000..2_000]);
    let (up, _) = numbers(body, 0);

    let reset = rig.raw(Direction::Uplink, up, 0, Segment::RST, b"", 0);
    assert_eq!([reset.undelivered, rig.pending()], [1_000, 0]);
    let late = rig.down(body + 2_000, &film[2_000..3_000]);
    let again = rig.down(body + 2_500, &film[2_500..3_500]);
    rig.ack(body + 3_500);
    let foreign = rig.down(body + 3_500, &[0x55; 500]);

    assert!(rig.flow.is_ebbing());
    assert_eq!([late.undelivered, late.user_charged], [1_000, 0]);
    assert_eq!([again.retransmit, again.undelivered], [500, 500]);
    assert_eq!(foreign.charged[ChargeReason::Mismatch as usize], 500);
    assert_eq!(rig.total.verified_unique, 1_000);
    assert_eq!(rig.total.user_charged, 500);
}

#[test]
fn a_connection_that_was_reset_gives_way_to_the_next_and_to_the_servers_reset() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    let (up, down) = numbers(body, 0);
    rig.raw(Direction::Uplink, up, 0, Segment::RST, b"", 0);
    let mut other = rig.clone();

    rig.raw(Direction::Downlink, down, 0, Segment::RST, b"", 0);
    let isn = CLIENT_ISN.wrapping_add(70_000);
    other.raw(Direction::Uplink, isn, 0, Segment::SYN, b"", 0);

    assert_eq!(rig.flow.closed(), Some(CloseReason::Reset));
    assert!(!other.flow.is_ebbing());
    assert_eq!(other.flow.charge(), None);
}

#[test]
fn a_reset_from_before_the_window_is_not_believed() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..500]);
    rig.ack(body + 500);

    let old = SERVER_ISN.wrapping_add(1).wrapping_add(body as u32);
    rig.raw(Direction::Downlink, old, 0, Segment::RST, b"", 0);

    assert_eq!(rig.flow.closed(), None);
}
