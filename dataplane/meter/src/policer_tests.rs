use proptest::prelude::*;

use super::*;

fn qer(id: u32, correlation: Option<u32>, kbps: u64) -> Qer {
    Qer {
        id: QerId::new(id),
        correlation,
        uplink: Gate::Open,
        downlink: Gate::Open,
        mbr: Some(BitRate {
            uplink_kbps: kbps,
            downlink_kbps: kbps,
        }),
        gbr: None,
        qfi: None,
    }
}

fn model(qers: &[Qer]) -> SessionModel {
    SessionModel {
        qers: qers.iter().map(|qer| (qer.id, *qer)).collect(),
        ..SessionModel::default()
    }
}

fn list(indexes: &[u8]) -> QerList {
    let mut list = QerList::EMPTY;
    for index in indexes {
        assert!(list.push(*index));
    }
    list
}

/// Bytes that pass when packets of `bytes` are offered every `gap_ns`, `count` times.
fn offer(policer: &mut Policer, qers: &QerList, bytes: u64, gap_ns: u64, count: u64) -> u64 {
    (0..count)
        .filter(|number| {
            let now_ns = 1_000_000_000 + number * gap_ns;
            policer
                .judge(qers, Direction::Uplink, bytes, now_ns)
                .is_ok()
        })
        .count() as u64
        * bytes
}

proptest! {
    #[test]
    fn no_interval_passes_more_than_its_rate_and_one_bucket(
        kbps in 1..2_000_000u64,
        packets in prop::collection::vec((0..3_000_000u64, 20..9000u64), 1..200),
    ) {
        let mut policer = Policer::new(&model(&[qer(1, None, kbps)]));
        let one = list(&[0]);
        let depth = (kbps * 1000 * DEPTH_NS / BYTE).max(DEPTH_BYTES_MIN);
        let mut now_ns = 5;
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (gap, bytes) in packets {
            now_ns += gap;
            if policer.judge(&one, Direction::Uplink, bytes, now_ns).is_ok() {
                passed.push((now_ns, bytes));
            }
            for (from, (start, _)) in passed.iter().enumerate() {
                let sum: u64 = passed[from..].iter().map(|(_, bytes)| bytes).sum();
                let largest = passed[from..].iter().map(|(_, bytes)| *bytes).max().unwrap();
                let rate = u128::from(kbps) * 1000 * u128::from(now_ns - start) / u128::from(BYTE);
                let bound = rate + u128::from(depth.max(largest)) + 1;
                // A packet that found the bucket empty may be larger than the bucket.
                prop_assert!(u128::from(sum) <= bound + u128::from(largest.saturating_sub(depth)));
            }
        }
    }

    #[test]
    fn traffic_at_the_rate_always_passes(kbps in 64..2_000_000u64, bytes in 20..9000u64) {
        let mut policer = Policer::new(&model(&[qer(1, None, kbps)]));
        let gap_ns = (bytes * BYTE).div_ceil(kbps * 1000);

        prop_assert_eq!(offer(&mut policer, &list(&[0]), bytes, gap_ns, 500), 500 * bytes);
    }
}

#[test]
fn rules_of_one_correlation_share_one_bucket_and_a_packet_of_both_pays_once() {
    let qers = [
        qer(1, Some(7), 1000),
        qer(2, Some(7), 1000),
        qer(3, None, 1000),
    ];
    let mut policer = Policer::new(&model(&qers));
    let (first, second, third, both) = (list(&[0]), list(&[1]), list(&[2]), list(&[0, 1]));
    let mut pass = |qers: &QerList| policer.judge(qers, Direction::Downlink, 1500, 9).is_ok();

    assert!(pass(&both));
    assert!(pass(&second));
    assert!(!pass(&first));
    assert!(pass(&third));
}

#[test]
fn a_packet_refused_by_one_bucket_takes_from_none() {
    let mut policer = Policer::new(&model(&[qer(1, None, 1000), qer(2, None, 0)]));
    let before = policer.buckets[0].level;

    let refused = policer.judge(&list(&[0, 1]), Direction::Uplink, 100, 9);

    assert_eq!(refused, Err(DropReason::RateExceeded));
    assert_eq!(policer.buckets[0].level, before);
}

#[test]
fn a_closed_gate_stops_its_direction_only() {
    let closed = Qer {
        downlink: Gate::Closed,
        mbr: None,
        ..qer(1, None, 0)
    };
    let mut policer = Policer::new(&model(&[closed]));
    let one = list(&[0]);

    assert_eq!(policer.judge(&one, Direction::Uplink, 100, 9), Ok(()));
    assert_eq!(
        policer.judge(&one, Direction::Downlink, 100, 9),
        Err(DropReason::GateClosed)
    );
}

#[test]
fn a_modification_empties_no_bucket() {
    let mut policer = Policer::new(&model(&[qer(1, None, 1000)]));
    let one = list(&[0]);
    assert_eq!(offer(&mut policer, &one, 1500, 0, 10), 3000);

    let mut changed = policer.updated(&model(&[qer(1, None, 1200)]));

    assert_eq!(offer(&mut changed, &one, 1500, 0, 10), 0);
}

#[test]
fn a_jumbo_packet_passes_an_empty_bucket_and_blocks_the_next() {
    let mut policer = Policer::new(&model(&[qer(1, None, 1000)]));

    assert_eq!(offer(&mut policer, &list(&[0]), 10_000, 1000, 100), 10_000);
}
