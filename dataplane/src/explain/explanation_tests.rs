use qlink_pfcp::{ChargeRow, DownlinkPath, SessionUsage};
use qlink_types::codec::{List, Text};
use qlink_types::ids::Teid;
use qlink_types::units::PackageEpoch;

use super::*;

fn snapshot(sponsored: bool, user_charged: u64) -> SessionSnapshot {
    let sponsor = (
        PackageId::new([2; 16]),
        PackageEpoch::ZERO,
        ViewerKey::new([3; 32]),
        Bytes::new(100),
        RepeatPolicy::Free,
    );
    SessionSnapshot {
        slot: qlink_meter::SessionSlot::new(1),
        identity: qlink_meter::SessionIdentity {
            state: SessionState::Live,
            session: SessionId::new([1; 16]),
            teid: Teid::new(1),
            ue: "10.45.0.2".parse().unwrap(),
            path: DownlinkPath {
                peer: "127.0.0.1:2152".parse().unwrap(),
                downlink_teid: Teid::new(2),
            },
            basestation: None,
            sponsor: sponsored.then_some(sponsor),
            payer: Payer::Operator,
        },
        usage: SessionUsage {
            classes: ByteClasses {
                wire_payload: Bytes::new(user_charged),
                user_charged: Bytes::new(user_charged),
                ..ByteClasses::default()
            },
            ..SessionUsage::default()
        },
    }
}

fn charges(before: u64, rows: &[(&str, u64)]) -> SessionCharges {
    let rows = rows.iter().map(|(reason, bytes)| ChargeRow {
        reason: Text::try_from(*reason).unwrap(),
        bytes: Bytes::new(*bytes),
    });
    SessionCharges {
        session: SessionId::new([1; 16]),
        before: Bytes::new(before),
        rows: rows.collect::<Vec<_>>().try_into().unwrap(),
        redirects: List::default(),
    }
}

fn reasons(snapshot: &SessionSnapshot, charges: Option<&SessionCharges>) -> Vec<(String, u64)> {
    let explanation = Explanation::new(snapshot, &[], &[], charges);
    let rows = explanation.user_charged.iter();
    rows.map(|row| (row.reason.to_owned(), row.bytes.get()))
        .collect()
}

#[test]
fn every_charged_byte_has_one_reason_and_the_rest_was_on_no_content_flow() {
    let counted = charges(10, &[("mismatch", 20), ("demoted", 5)]);

    let rows = reasons(&snapshot(true, 100), Some(&counted));

    let expected = [
        ("mismatch", 20),
        ("demoted", 5),
        ("not_recorded", 10),
        ("no_content_flow", 65),
    ];
    let expected = expected.map(|(reason, bytes)| (reason.to_owned(), bytes));
    assert_eq!(rows, expected);
}

#[test]
fn without_a_sponsor_or_a_process_to_ask_the_reason_says_so() {
    let counted = charges(0, &[("mismatch", 20)]);

    assert_eq!(
        reasons(&snapshot(false, 7), None),
        [("no_sponsor".to_owned(), 7)]
    );
    assert_eq!(
        reasons(&snapshot(true, 7), None),
        [("not_recorded".to_owned(), 7)]
    );
    // Nothing is made up beyond the bucket.
    assert_eq!(
        reasons(&snapshot(true, 7), Some(&counted)),
        [("mismatch".to_owned(), 7)]
    );
}

#[test]
fn a_free_repeat_is_paid_by_nobody_and_the_limit_shows_what_is_left() {
    let mut snapshot = snapshot(true, 0);
    snapshot.usage.classes.verified_unique = Bytes::new(60);

    let explanation = Explanation::new(&snapshot, &[], &[], None);

    let repeat = explanation.buckets.iter();
    let mut repeat = repeat.filter(|row| row.bucket == "verified_repeat");
    assert_eq!(repeat.next().unwrap().paid_by, Some("nobody"));
    assert_eq!(explanation.sponsor.unwrap().left, Bytes::new(40));
    assert!(!explanation.conserved);
}
