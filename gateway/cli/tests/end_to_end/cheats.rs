//! Whoever dresses other traffic as the film pays for exactly those bytes.

use crate::figures::assert_exact;
use crate::rates::rate_again;
use crate::report::Count;
use crate::run::{Demo, film};

const MODES: [&str; 4] = [
    "foreign_body",
    "fake_retransmit",
    "uplink_payload",
    "foreign_tail",
];

fn every_cheat_pays_for_its_foreign_bytes(seed: &str) {
    let size = 3_000_001;
    let film = film(size, seed);

    let demo = Demo::play(
        Some(&film),
        &["--viewers", "2", "--cheaters", "4", "--seed", seed],
    );

    assert_exact(&demo);
    let modes: Vec<&str> = demo
        .report
        .cheaters
        .iter()
        .map(|cheater| cheater.mode.as_str())
        .collect();
    assert_eq!(modes, MODES);
    for cheater in &demo.report.cheaters {
        assert_eq!(cheater.user_charged_bytes, cheater.foreign_bytes);
        assert!(cheater.foreign_bytes.0 > 100_000, "{cheater:?}");
        let sponsored = match cheater.mode.as_str() {
            "foreign_body" => 0,
            "foreign_tail" => 1_000_000,
            _ => size as u64,
        };
        assert_eq!(cheater.sponsored_bytes, Count(sponsored), "{cheater:?}");
    }
    // The chain bills the cheaters' own packages for the same bytes, and nobody else's.
    let packages = rate_again(&demo.path("network/node"));
    let mut billed: Vec<(u64, u64)> = packages
        .iter()
        .filter(|(id, _)| **id != demo.report.package.id)
        .map(|(_, package)| package.open())
        .filter(|(_, units)| *units > 0)
        .collect();
    let mut reported: Vec<(u64, u64)> = demo
        .report
        .cheaters
        .iter()
        .map(|cheater| (cheater.foreign_bytes.0, cheater.charged_units.0))
        .collect();
    billed.sort_unstable();
    reported.sort_unstable();
    assert_eq!(billed, reported);
}

#[test]
fn every_cheat_pays_for_its_foreign_bytes_at_seed_1() {
    every_cheat_pays_for_its_foreign_bytes("1");
}

#[test]
fn every_cheat_pays_for_its_foreign_bytes_at_seed_2() {
    every_cheat_pays_for_its_foreign_bytes("2");
}

#[test]
fn every_cheat_pays_for_its_foreign_bytes_at_seed_3() {
    every_cheat_pays_for_its_foreign_bytes("3");
}
