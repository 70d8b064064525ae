//! The rules for stream positions that were seen before.

mod rig;

use qlink_content::ChargeReason;
use rig::{REQUEST, REQUEST_LEN, Rig, fetching, film, range_head};

#[test]
fn a_genuine_copy_costs_nobody() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film);

    let deltas = rig.down(body + 100, &film[100..300]);

    assert_eq!(deltas.retransmit, 200);
    assert_eq!(deltas.pending_in, 0);
}

#[test]
fn a_segment_part_old_part_new_is_split() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..100]);
    rig.down(body + 200, &film[200..300]);

    let deltas = rig.down(body + 50, &film[50..400]);

    assert_eq!(
        (deltas.retransmit, deltas.pending_in),
        (50 + 100, 100 + 100)
    );
}

#[test]
fn a_foreign_copy_is_charged_and_counts_as_mismatch() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..500]);
    let mut fake = film[..100].to_vec();
    fake[10..].fill(0);

    for _ in 0..3 {
        let deltas = rig.down(body, &fake);
        assert_eq!((deltas.retransmit, deltas.user_charged), (10, 90));
    }

    let deltas = rig.down(body + 500, &film[500..600]);
    assert_eq!(deltas.charged[ChargeReason::Demoted as usize], 100);
}

#[test]
fn a_copy_of_charged_bytes_is_charged_again() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    let mut piece = film[..100].to_vec();
    piece[40] ^= 1;
    rig.down(body, &piece);

    let deltas = rig.down(body, &film[..100]);

    assert_eq!(deltas.retransmit, 40);
    assert_eq!(deltas.charged[ChargeReason::ChargedCopy as usize], 60);
}

#[test]
fn a_copy_of_a_head_is_compared_with_the_head() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    let early = rig.up(0, REQUEST);
    assert_eq!(early.pending_in, REQUEST_LEN, "no verified byte yet");
    rig.down(body, &film);
    rig.ack(body + 1);

    let genuine = rig.up(0, REQUEST);
    let mut fake = REQUEST.to_vec();
    fake[10] ^= 1;
    let foreign = rig.up(0, &fake);

    assert_eq!(rig.total.overhead_allowed, 2 * REQUEST_LEN + body);
    assert_eq!(genuine.retransmit, REQUEST_LEN);
    assert_eq!(
        (foreign.retransmit, foreign.user_charged),
        (10, REQUEST_LEN - 10)
    );
}

#[test]
fn a_copy_of_the_ninth_last_response_is_charged() {
    let film = film(1, 1_000);
    let mut rig = Rig::opened(&[&film]);
    let mut starts = Vec::new();
    let (mut up, mut down) = (0, 0);
    for i in 0..9 {
        up += rig.up(up, REQUEST).wire_payload;
        let response = [
            range_head(i * 100, 100, 1_000),
            film[i * 100..][..100].to_vec(),
        ]
        .concat();
        starts.push((down, response.clone()));
        down += rig.down(down, &response).wire_payload;
    }
    rig.ack(down);
    assert_eq!(rig.total.verified_unique, 900);

    let kept = rig.down(starts[1].0, &starts[1].1);
    let forgotten = rig.down(starts[0].0, &starts[0].1);

    assert_eq!(kept.retransmit, kept.wire_payload);
    assert_eq!(forgotten.user_charged, forgotten.wire_payload);
}

#[test]
fn responses_of_the_same_shape_age_one_by_one() {
    let film = film(1, 9_000);
    let mut rig = Rig::opened(&[&film]);
    let (mut up, mut down) = (0, 0);
    let mut last = (0, Vec::new());
    for i in 10..30 {
        up += rig.up(up, REQUEST).wire_payload;
        let response = [
            range_head(i * 100, 100, 9_000),
            film[i * 100..][..100].to_vec(),
        ]
        .concat();
        last = (down, response.clone());
        down += rig.down(down, &response).wire_payload;
        rig.ack(down);
    }

    let copy = rig.down(last.0, &last.1);

    assert_eq!(copy.retransmit, copy.wire_payload);
}

#[test]
fn a_copy_of_a_head_that_was_charged_is_charged() {
    let film = film(1, 1_000);
    let (mut rig, body) = fetching(&film);
    rig.down(body, &film[..900]);
    rig.ack(body + 900);
    rig.up(REQUEST_LEN, REQUEST);
    let next = range_head(0, 100, 1_000);
    let mut piece = [film[900..].to_vec(), next.clone(), film[..100].to_vec()].concat();
    piece[0] ^= 1;
    let poisoned = rig.down(body + 900, &piece);
    assert_eq!(poisoned.user_charged, piece.len() as u64);

    let copy = rig.down(body + 1_000, &next);
    let body_copy = rig.down(body + 1_000 + next.len() as u64, &film[..100]);

    assert_eq!(
        copy.charged[ChargeReason::ChargedCopy as usize],
        next.len() as u64
    );
    assert_eq!(body_copy.charged[ChargeReason::ChargedCopy as usize], 100);
}

#[test]
fn heads_are_kept_for_8192_bytes() {
    let mut rig = Rig::opened(&[&film(1, 9)]);
    let long = format!("GET /film HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(4_000));
    let length = long.len() as u64;
    for i in 0..3 {
        rig.up(i * length, long.as_bytes());
    }

    let copy = rig.up(0, long.as_bytes());
    let kept = rig.up(2 * length, long.as_bytes());

    // The newest 8,192 bytes reach only the end of the first head.
    let gone = 3 * length - 8_192;
    assert_eq!(copy.charged[ChargeReason::ForgottenCopy as usize], gone);
    assert_eq!(copy.pending_in, length - gone);
    assert_eq!(kept.pending_in, length);
}
