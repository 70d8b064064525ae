//! Processes killed during the traffic: the chain ends where the undisturbed run's does.

use crate::figures::assert_exact;
use crate::run::{Demo, film, is_long};

/// Most bytes of one burst: 32 packets of the simulated network's MTU.
const BURST_BYTES: u64 = 32 * 1400;

fn kills_change_nothing_on_the_chain(option: &str) {
    let (kills, size) = if is_long() {
        (200, 60_000_000)
    } else {
        (20, 6_000_001)
    };
    let film = film(size, option);
    let volume = (size * 10 + 7).to_string();
    let arguments = ["--package-bytes", volume.as_str(), "--seed", "5"];
    let calm = Demo::play(Some(&film), &arguments);
    let count = kills.to_string();

    let fire = Demo::play(Some(&film), &[&arguments[..], &[option, &count]].concat());

    assert_eq!(fire.kills(), kills, "kills during the traffic");
    // Every record rated again, so a byte billed twice would show as a byte too many.
    let (before, after) = (assert_exact(&calm), assert_exact(&fire));
    assert_eq!(after.viewers, before.viewers);
    assert_eq!(
        (after.bytes, after.reward, after.dust, after.carriage),
        (before.bytes, before.reward, before.dust, before.carriage)
    );
    assert_eq!(fire.report.package.id, calm.report.package.id);
    assert_eq!(fire.report.carriage, calm.report.carriage);
    assert_eq!(
        fire.report.totals.refund_units,
        calm.report.totals.refund_units
    );
    assert_eq!(fire.report.settlement.units, calm.report.settlement.units);
    let uncertain = fire.report.totals.uncertain_bytes.0;
    let bursts = if option == "--kill-dataplane" {
        kills as u64
    } else {
        0
    };
    assert!(uncertain <= bursts * BURST_BYTES, "{uncertain}");
}

#[test]
fn killing_the_gateway_changes_nothing_on_the_chain() {
    kills_change_nothing_on_the_chain("--kill-gateway");
}

#[test]
fn killing_the_data_plane_changes_nothing_on_the_chain() {
    kills_change_nothing_on_the_chain("--kill-dataplane");
}
