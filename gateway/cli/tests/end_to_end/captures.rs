//! With `--capture`, tshark alone reproduces what the report states.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::figures::assert_exact;
use crate::run::{Demo, film, output};
use crate::tshark::{self, Connection, Packet, Stream, connections, packets, tunnels};

const ORIGIN: &str = "198.18.0.1";
const FILM_BYTES: usize = 1_500_001;

/// Head bytes that are allowed per message. Source: the design, law 3.
const HEAD_ALLOWED: usize = 8_192;

/// The end of the head that starts a stream.
fn head_end(bytes: &[u8]) -> usize {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    end.expect("a head") + 4
}

#[test]
fn tshark_reproduces_content_retransmit_and_foreign_bytes() {
    if !tshark::is_there() {
        return;
    }
    let film = film(FILM_BYTES, "captured");

    let demo = Demo::play(
        Some(&film),
        &["--viewers", "3", "--cheaters", "4", "--capture", "captures"],
    );

    assert_exact(&demo);
    let n3 = packets(&demo.path("captures/n3.pcapng"));
    let n6 = packets(&demo.path("captures/n6.pcapng"));
    let replayed = replay(&demo);
    assert_network_bytes_match(&demo, &n3, &n6, &replayed);
    let (at_station, at_origin) = (connections(&n3, ORIGIN), connections(&n6, ORIGIN));
    assert_viewers_match(&demo, &film, &at_station, &replayed);
    assert_cheaters_match(&demo, &film, &at_station, &at_origin);
}

fn replay(demo: &Demo) -> Value {
    let out = output(&[
        "replay",
        demo.path("captures/n3.pcapng").to_str().unwrap(),
        "--contents",
        demo.path("films").to_str().unwrap(),
    ]);
    assert!(out.status.success());
    serde_json::from_slice(&out.stdout).unwrap()
}

fn integer(value: &Value) -> u64 {
    value.as_str().unwrap().parse().unwrap()
}

/// Three counts of the same packets: tshark's, the replay's, the live data plane's.
fn assert_network_bytes_match(demo: &Demo, n3: &[Packet], n6: &[Packet], replayed: &Value) {
    let counted = tunnels(n3);
    let rows: BTreeMap<(String, u64), (u64, u64)> = replayed["tunnels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let tunnel = (
                row["peer"].as_str().unwrap().to_owned(),
                integer(&row["teid"]),
            );
            (
                tunnel,
                (integer(&row["packets"]), integer(&row["network_bytes"])),
            )
        })
        .collect();
    assert_eq!(rows, counted);
    // What has passed the data plane: downlink is on N3, uplink is on N6.
    let downlink = n3.iter().filter(|packet| packet.source == ORIGIN);
    let uplink = n6.iter().filter(|packet| packet.destination == ORIGIN);
    let passed: u64 = downlink.chain(uplink).map(|packet| packet.length).sum();
    let plane = &demo.report.dataplane;
    assert_eq!(plane.network_bytes.0, passed);
    let dropped: u64 = plane.drops.values().map(|count| count.0).sum();
    let packets: u64 = counted.values().map(|(packets, _)| packets).sum();
    assert_eq!(plane.packets.0 + dropped, packets);
    for viewer in &demo.report.viewers {
        let tunnel = (viewer.peer.clone().unwrap(), viewer.teid.unwrap().0);
        assert!(counted.contains_key(&tunnel), "{tunnel:?} in {counted:?}");
    }
}

fn assert_viewers_match(
    demo: &Demo,
    film: &[u8],
    at_station: &BTreeMap<String, Connection>,
    replayed: &Value,
) {
    let rows = replayed["contents"].as_array().unwrap();
    for viewer in &demo.report.viewers {
        let Connection { up, down } = &at_station[viewer.address.as_ref().unwrap()];
        assert!(up.is_whole() && down.is_whole());
        let body = &down.bytes[head_end(&down.bytes)..];
        assert_eq!(body, film);
        assert_eq!(body.len() as u64, viewer.content_bytes.0);
        let copies = up.repeated() + down.repeated();
        let heads = (up.bytes.len() as u64, head_end(&down.bytes) as u64);
        assert!(
            is_all_but_early_heads(viewer.retransmit_bytes.0, copies, heads),
            "{} of {copies} copied bytes, heads of {heads:?}",
            viewer.retransmit_bytes.0
        );

        let session = format!(
            "{}/{}",
            viewer.peer.as_ref().unwrap(),
            viewer.teid.unwrap().0
        );
        let row = rows.iter().find(|row| row["session"] == session).unwrap();
        assert_eq!(integer(&row["content_bytes"]), viewer.content_bytes.0);
        assert_eq!(integer(&row["retransmit_bytes"]), viewer.retransmit_bytes.0);
        assert_eq!(integer(&row["user_charged_bytes"]), 0);
    }
}

/// Whether `retransmit` is all of `copies` but whole heads: a head that is copied before the flow
/// has a proven byte counts as overhead, like its first sending.
fn is_all_but_early_heads(retransmit: u64, copies: u64, (request, response): (u64, u64)) -> bool {
    let early = |requests: u64, responses: u64| requests * request + responses * response;
    (0..8).any(|requests| (0..8).any(|responses| retransmit + early(requests, responses) == copies))
}

/// Foreign bytes: downlink as the BaseStation received it, uplink as the origin received it.
fn assert_cheaters_match(
    demo: &Demo,
    film: &[u8],
    at_station: &BTreeMap<String, Connection>,
    at_origin: &BTreeMap<String, Connection>,
) {
    for cheater in &demo.report.cheaters {
        let down = &at_station[&cheater.address].down;
        let up = &at_origin[&cheater.address].up;
        let foreign = match cheater.mode.as_str() {
            // Not one genuine byte, so nothing is allowed either.
            "foreign_body" => up.payload + down.payload,
            "fake_retransmit" => foreign_copies(down, film),
            "foreign_tail" => foreign_tail(down, film),
            "uplink_payload" => foreign_requests(up),
            other => panic!("{other}"),
        };
        assert_eq!(cheater.foreign_bytes.0, foreign, "{}", cheater.mode);
    }
}

/// Bytes of copies from the first one that is not the film's.
fn foreign_copies(down: &Stream, film: &[u8]) -> u64 {
    let head = head_end(&down.bytes);
    let mut foreign = 0;
    for (offset, copy) in &down.copies {
        let genuine = copy.iter().zip(*offset..).take_while(|(byte, place)| {
            let expected = match place.checked_sub(head) {
                None => down.bytes[*place],
                Some(position) => film[position],
            };
            **byte == expected
        });
        foreign += (copy.len() - genuine.count()) as u64;
    }
    foreign
}

/// After the third segment with a foreign byte everything is foreign; before it, all from the first
/// foreign byte of a segment on.
fn foreign_tail(down: &Stream, film: &[u8]) -> u64 {
    let head = head_end(&down.bytes);
    let body = &down.bytes[head..];
    let genuine = body.iter().zip(film).take_while(|(a, b)| a == b).count();
    let border = head + genuine;
    let mut mismatches = BTreeSet::new();
    let mut foreign = 0;
    for (offset, copy) in &down.copies {
        let end = offset + copy.len();
        // Film that is sent once more now, for the link lost it, is foreign like the rest.
        let demoted = mismatches.len() >= 3;
        let from = if demoted {
            *offset
        } else {
            border.max(*offset)
        };
        foreign += end.saturating_sub(from) as u64;
        if end > border {
            mismatches.insert(*offset);
        }
    }
    foreign
}

/// Request bodies, and what exceeds the allowance of a head, every copy.
fn foreign_requests(up: &Stream) -> u64 {
    assert!(up.is_whole());
    let mut allowed = vec![false; up.bytes.len()];
    let mut at = 0;
    while at < up.bytes.len() {
        let end = at + head_end(&up.bytes[at..]);
        let text = String::from_utf8_lossy(&up.bytes[at..end]).to_lowercase();
        let body = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name == "content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        allowed[at..end.min(at + HEAD_ALLOWED)].fill(true);
        at = end + body.unwrap_or(0);
    }
    up.copies
        .iter()
        .map(|(offset, copy)| {
            let places = &allowed[*offset..offset + copy.len()];
            places.iter().filter(|allowed| !**allowed).count() as u64
        })
        .sum()
}
