//! A film over bad networks and against cheats, counted to the byte.
#![expect(clippy::cast_possible_truncation, reason = "test code")]

mod rig;

use qlink_content::{ChargeReason, FlowProof};
use rig::{Random, Rig, film};

const FILM: usize = 1_000_000;
const PART: usize = 50_000;

/// The film in parts, one flow each; segments of 1 to 1,448 bytes shuffled in windows of 32, 3 %
/// genuine copies, and foreign "copies", two per flow so that none is demoted.
#[test]
fn foreign_retransmissions_are_charged_exactly_and_the_film_counts_once() {
    let film = film(7, FILM);
    let mut random = Random(7);
    let mut rig = Rig::new(&[&film]);
    let (mut copies, mut foreign) = (0_u64, 0_u64);

    for part in 0..FILM / PART {
        rig.flow = FlowProof::new(0);
        rig.handshake();
        rig.up(0, b"GET /film HTTP/1.1\r\n\r\n");
        let (first, last) = (part * PART, (part + 1) * PART - 1);
        let head = format!("HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/{FILM}\r\n\r\n");
        rig.down(0, head.as_bytes());
        let base = head.len() as u64;
        let mut segments = cut(&mut random);
        shuffle(&mut random, &mut segments);
        let foreign_at = [segments.len() / 3, segments.len() / 2];
        for (i, (at, len)) in segments.iter().copied().enumerate() {
            rig.down(base + at as u64, &film[first + at..][..len]);
            if random.chance(3) {
                rig.down(base + at as u64, &film[first + at..][..len]);
                copies += len as u64;
            }
            if foreign_at.contains(&i) {
                let mut fake = film[first + at..][..len].to_vec();
                fake[0] ^= 0xff;
                rig.down(base + at as u64, &fake);
                foreign += len as u64;
            }
        }
        rig.ack(base + PART as u64);
        rig.close();
    }

    assert_eq!(rig.total.verified_unique, FILM as u64);
    assert_eq!(rig.total.retransmit, copies);
    assert_eq!(rig.charged(ChargeReason::Mismatch), foreign);
    assert_eq!(rig.total.user_charged, foreign);
    assert_eq!(rig.views[0].coverage().as_slice().len(), 1);
    assert_eq!(
        rig.views[0].classes().wire_payload.get(),
        rig.total.wire_payload
    );
}

fn cut(random: &mut Random) -> Vec<(usize, usize)> {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < PART {
        let len = (1 + random.below(1_448) as usize).min(PART - at);
        segments.push((at, len));
        at += len;
    }
    segments
}

fn shuffle(random: &mut Random, segments: &mut [(usize, usize)]) {
    for window in segments.chunks_mut(32) {
        for i in (1..window.len()).rev() {
            window.swap(i, random.below(i as u64 + 1) as usize);
        }
    }
}

/// Uplink payload in heads and bodies, under any URL, is never free beyond the allowance.
#[test]
fn an_uplink_tunnel_in_heads_is_free_for_at_most_the_allowance_of_a_verified_response() {
    let film = film(9, 5_000);
    let mut rig = Rig::opened(&[&film]);
    let mut at = 0;
    let stuffed = format!("GET /film HTTP/1.1\r\nX: {}\r\n\r\n", "t".repeat(60_000));
    for piece in stuffed.as_bytes().chunks(1_400) {
        at += rig.up(at, piece).wire_payload;
    }
    let response = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n".as_slice(),
        &film,
    ]
    .concat();
    rig.down(0, &response);
    rig.ack(response.len() as u64);

    assert_eq!(rig.charged(ChargeReason::BeyondAllowance), at - 8_192);
    assert_eq!(rig.total.user_charged, at - 8_192);
    assert_eq!(rig.total.verified_unique, 5_000);
}

/// Chunks of the smallest size need an extent each; nothing may stall for ever.
#[test]
fn tiny_unequal_chunks_never_stall_a_flow() {
    let film = film(11, 3_000);
    let mut rig = Rig::opened(&[&film]);
    rig.up(0, b"GET /film HTTP/1.1\r\n\r\n");
    let mut stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut rest = film.as_slice();
    let mut random = Random(3);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at((1 + random.below(9) as usize).min(rest.len()));
        stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        stream.extend_from_slice(chunk);
        stream.extend_from_slice(b"\r\n");
        rest = behind;
    }
    stream.extend_from_slice(b"0\r\n\r\n");

    let mut at = 0;
    let mut tries = 0;
    while at < stream.len() {
        let len = 1_400.min(stream.len() - at);
        match rig.try_down(at as u64, &stream[at..][..len]) {
            Ok(_) => at += len,
            // The sender waits for the acknowledgement and sends again.
            Err(_) => {
                tries += 1;
                rig.ack(at as u64);
            }
        }
        assert!(tries < 20, "stalled at {at}");
    }
    rig.ack(stream.len() as u64);

    assert_eq!(rig.total.wire_payload, 22 + stream.len() as u64);
    assert!(rig.total.verified_unique > 0);
    assert!(tries > 0, "some segment had to wait");
    rig.close();
    let unmapped = rig.charged(ChargeReason::CoverageFull);
    assert_eq!(rig.total.verified_unique + unmapped, 3_000);
}
