//! The figures of the acceptance example, and of packages that divide badly.

use std::time::{Duration, Instant};

use crate::rates::{Settled, rate_again};
use crate::report::{Count, Report};
use crate::run::{Demo, Running, film};

/// What holds in every undisturbed run, and the figures of the blocks rated again.
pub(crate) fn assert_exact(demo: &Demo) -> Settled {
    let Report {
        package,
        viewers,
        cheaters,
        totals,
        carriage,
        chain,
        settlement,
        ..
    } = &demo.report;
    let settled = rate_again(&demo.path("network/node"))[&package.id].closed();
    assert!(settled.records > 0);
    assert_named(&demo.report);

    for viewer in viewers.iter().filter(|viewer| viewer.session.is_some()) {
        let (bytes, units) = settled.viewers[&viewer.viewer_key];
        assert_eq!(viewer.content_bytes, package.size);
        assert_eq!(viewer.content_bytes.0, bytes);
        assert_eq!(viewer.reward_units.0, units);
        assert_eq!(viewer.user_charged_bytes, Count(0));
    }
    assert_eq!(totals.content_bytes.0, settled.bytes);
    assert_eq!(totals.reward_units.0, settled.reward);
    assert_eq!(totals.dust_units.0, settled.dust);
    assert_eq!(totals.unclaimed_units, Count(0));
    assert_eq!(totals.conservation_violations, Count(0));
    let reward = totals.reward_units.0 + totals.unclaimed_units.0 + totals.refund_units.0;
    assert_eq!(reward, package.reward_units.0);
    let shares = [
        carriage.operator_units.0,
        carriage.basestation_units.0,
        carriage.gateway_units.0,
    ];
    assert_eq!(shares, settled.carriage);
    let carried: u64 = shares.iter().sum();
    assert_eq!(carried + carriage.refund_units.0, carriage.deposit_units.0);
    for cheater in cheaters {
        assert!(cheater.user_charged_bytes <= cheater.foreign_bytes);
        let missing = cheater.foreign_bytes.0 - cheater.user_charged_bytes.0;
        assert!(missing <= totals.uncertain_bytes.0, "{cheater:?}");
    }
    assert_eq!(settlement.state, "settled");
    assert_eq!(settlement.units.0, settled.carriage[0]);
    assert_eq!(chain.supply_units, Count(60_000_000_000_000_000));
    assert_eq!(chain.height, chain.final_height);
    settled
}

/// Ids and names are of their kind.
fn assert_named(report: &Report) {
    assert!(report.package.id.starts_with("pkg_"));
    assert!(report.package.content.starts_with("b3:"));
    assert!(report.package.bytes >= report.totals.content_bytes);
    for viewer in &report.viewers {
        assert!(viewer.viewer_key.starts_with("vwr_"));
        assert!(viewer.account.starts_with("acc_"));
    }
    for cheater in &report.cheaters {
        assert!(cheater.session.starts_with("ses_"));
        assert!(cheater.peer.starts_with("127.") && cheater.teid > Count(0));
    }
    assert_eq!(report.chain.orderer, "solo");
    assert_eq!(report.chain.validators, Count(1));
    assert!(report.chain.state_root.starts_with("0x"));
    assert_eq!(report.settlement.operator, "opsim");
    assert!(report.settlement.statement_root.is_some());
    assert!(report.dataplane.packets > Count(0));
    assert!(report.asset.token.starts_with("0x"));
    assert!(report.asset.registry.contains("not NEO"));
    assert!(report.asset.basestation.starts_with("bst_"));
}

#[test]
fn ten_viewers_of_a_10mb_film_share_one_qlc() {
    let demo = Demo::play(None, &[]);

    assert_exact(&demo);
    let Report {
        viewers,
        totals,
        cheaters,
        ..
    } = &demo.report;
    assert_eq!(viewers.len(), 10);
    for viewer in viewers {
        assert_eq!(viewer.content_bytes, Count(10_000_000));
        assert_eq!(viewer.reward_units, Count(10_000_000));
    }
    assert_eq!(totals.content_bytes, Count(100_000_000));
    assert_eq!(totals.reward_units, Count(100_000_000));
    assert_eq!(totals.refund_units, Count(0));
    assert_eq!(totals.uncertain_bytes, Count(0));
    assert_eq!(cheaters.len(), 1);
    assert_eq!(cheaters[0].user_charged_bytes, cheaters[0].foreign_bytes);
    assert!(cheaters[0].foreign_bytes > Count(10_000_000));
}

#[test]
fn seven_viewers_move_70_mb_and_seven_tenths_of_a_qlc() {
    let demo = Demo::play(None, &["--viewers", "7", "--cheaters", "0"]);

    assert_exact(&demo);
    let totals = demo.report.totals;
    assert_eq!(totals.content_bytes, Count(70_000_000));
    assert_eq!(totals.reward_units, Count(70_000_000));
    assert_eq!(totals.refund_units, Count(30_000_000));
}

/// A film of a tenth of the size, a package of a tenth of the volume.
#[test]
fn the_eleventh_viewer_finds_the_package_exhausted() {
    let film = film(1_000_000, "eleven");

    let demo = Demo::play(
        Some(&film),
        &[
            "--viewers",
            "11",
            "--cheaters",
            "0",
            "--package-bytes",
            "10000000",
        ],
    );

    assert_exact(&demo);
    let refused: Vec<_> = demo
        .report
        .viewers
        .iter()
        .filter(|viewer| viewer.session.is_none())
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].refused.as_deref(), Some("package_exhausted"));
    assert_eq!(refused[0].content_bytes, Count(0));
    assert_eq!(demo.report.totals.content_bytes, Count(10_000_000));
    assert_eq!(demo.report.totals.reward_units, Count(100_000_000));
}

/// Film size, volume and reward share no factor, so nearly every division leaves a remainder.
#[test]
fn packages_that_divide_badly_are_exact_to_the_unit() {
    let film = film(1_234_567, "odd");
    let runs: [(&[&str], u64); 4] = [
        (
            &[
                "--viewers",
                "3",
                "--package-bytes",
                "4999999",
                "--reward-units",
                "1000003",
            ],
            0,
        ),
        (
            &[
                "--viewers",
                "5",
                "--package-bytes",
                "5000000",
                "--reward-units",
                "7",
                "--loss",
                "0",
            ],
            2,
        ),
        (
            &[
                "--viewers",
                "4",
                "--package-bytes",
                "6172835",
                "--reward-units",
                "33333333",
            ],
            2,
        ),
        (
            &[
                "--viewers",
                "2",
                "--package-bytes",
                "2469134",
                "--reward-units",
                "0",
            ],
            0,
        ),
    ];
    for (arguments, dust) in runs {
        let demo = Demo::play(Some(&film), &[arguments, &["--cheaters", "0"]].concat());

        let settled = assert_exact(&demo);
        assert_eq!(settled.dust, dust, "{arguments:?}");
        assert_eq!(demo.report.totals.uncertain_bytes, Count(0));
    }
}

#[test]
fn a_loss_of_ten_per_cent_changes_no_figure() {
    let film = film(1_234_567, "lossy");

    let demo = Demo::play(
        Some(&film),
        &[
            "--viewers",
            "3",
            "--loss",
            "10",
            "--package-bytes",
            "3703701",
        ],
    );

    let settled = assert_exact(&demo);
    assert_eq!(settled.bytes, 3 * 1_234_567);
    assert_eq!(settled.reward, 100_000_000);
    for viewer in &demo.report.viewers {
        assert!(viewer.retransmit_bytes.0 > 50_000, "{viewer:?}");
    }
}

#[test]
fn a_held_demo_prints_its_object_first_and_ends_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("film"), film(200_000, "held")).unwrap();
    let arguments = ["--viewers", "1", "--cheaters", "0", "--content", "film"];
    let mut running = Running::start(
        folder.path(),
        &[&["demo", "--json", "--hold"], &arguments[..]].concat(),
    );

    let started = Instant::now();
    let mut out = String::new();
    while !out.ends_with('\n') {
        assert!(started.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
        out = std::fs::read_to_string(folder.path().join("out")).unwrap();
    }

    serde_json::from_str::<Report>(&out).unwrap();
    assert_eq!(running.stop(), 0);
    let all = std::fs::read_to_string(folder.path().join("out")).unwrap();
    assert_eq!(all, out, "exactly one object");
}
