//! Why each byte of a real session is where it is.
#![expect(clippy::unwrap_used, reason = "test code")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod film;

use film::{ORIGIN, SLOT, UE, address, download, film as bytes_of, open, pass, rules};
use qlink_content::Direction;
use qlink_dataplane::explain::Explanation;
use qlink_dataplane::plane::Plane;
use qlink_meter::ArenaReader;
use qlink_pfcp::Payer;
use qlink_types::ids::SessionId;
use qlink_wire::build::udp_packet;

fn play(plane: &mut Plane, packets: &[(Direction, Vec<u8>)]) {
    for (direction, packet) in packets {
        pass(plane, *direction, std::slice::from_ref(packet), 1);
    }
}

fn explain(arena: &std::path::Path, plane: &Plane) -> Explanation {
    let reader = ArenaReader::open(arena).unwrap();
    let snapshot = reader.session(&SessionId::new([1; 16])).unwrap();
    let flows = reader.flows_of(SLOT);
    let charges = plane.charges(SLOT);
    Explanation::new(&snapshot, &reader.views(), &flows, charges.as_ref())
}

fn reasons(explanation: &Explanation) -> Vec<(&str, u64)> {
    let rows = explanation.user_charged.iter();
    rows.map(|row| (row.reason, row.bytes.get())).collect()
}

fn bucket(explanation: &Explanation, name: &str) -> u64 {
    let mut rows = explanation.buckets.iter();
    rows.find(|row| row.bucket == name).unwrap().bytes.get()
}

#[test]
fn a_film_with_three_lies_and_a_datagram_is_explained_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let arena = folder.path().join("arena");
    let film = bytes_of(14_000);
    let (mut plane, _) = open(&arena, &rules(&film, Payer::Operator), &film);
    // Of ten segments the 3rd, 5th and 7th differ in their last byte: the third one demotes.
    let mut lies = film;
    for segment in [2, 4, 6] {
        lies[segment * 1_400 + 1_399] ^= 1;
    }
    play(&mut plane, &download(&lies));
    let datagram = udp_packet(address(UE), address(ORIGIN), &[7; 333]).unwrap();
    pass(&mut plane, Direction::Uplink, &[datagram], 2);

    let explanation = explain(&arena, &plane);

    let charged = bucket(&explanation, "user_charged");
    let rows = reasons(&explanation);
    assert_eq!(rows.iter().map(|(_, bytes)| bytes).sum::<u64>(), charged);
    // One different byte in each of three segments, then the rest of the film.
    assert!(rows.contains(&("mismatch", 3)), "{rows:?}");
    assert!(rows.contains(&("demoted", 3 * 1_400)), "{rows:?}");
    assert!(rows.contains(&("no_content_flow", 333)), "{rows:?}");
    assert!(explanation.conserved);
    assert_eq!(explanation.contents.len(), 1);
    let proven = 7 * 1_400 - 3;
    assert_eq!(bucket(&explanation, "verified_unique"), proven);
}

#[test]
fn after_a_restart_the_bytes_stand_and_their_reasons_are_said_to_be_lost() {
    let folder = tempfile::tempdir().unwrap();
    let arena = folder.path().join("arena");
    let film = bytes_of(5_000);
    let rules = rules(&film, Payer::Operator);
    let (mut plane, _) = open(&arena, &rules, &film);
    let datagram = udp_packet(address(UE), address(ORIGIN), &[7; 333]).unwrap();
    pass(
        &mut plane,
        Direction::Uplink,
        std::slice::from_ref(&datagram),
        1,
    );
    drop(plane);

    let (mut plane, _) = open(&arena, &rules, &film);
    pass(&mut plane, Direction::Uplink, &[datagram], 2);

    let explanation = explain(&arena, &plane);
    assert_eq!(
        reasons(&explanation),
        [("not_recorded", 333), ("no_content_flow", 333)]
    );
}
