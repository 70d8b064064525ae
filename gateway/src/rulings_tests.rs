use qlink_store::MemoryStore;

use super::*;

const GATEWAY: GatewayId = GatewayId::new([9; 16]);
const NOW: TimeMs = TimeMs::new(1_000_000);

fn station(number: u8) -> Subject {
    Subject::BaseStation {
        basestation: BaseStationId::new([number; 16]),
    }
}

fn ruling(subject: Subject, denied: Option<DenyReason>, signed_at: u64) -> TunnelRuling {
    TunnelRuling {
        gateway: GATEWAY,
        subject,
        denied,
        signed_at: TimeMs::new(signed_at),
    }
}

fn open(store: &Arc<dyn KvStore>) -> Rulings {
    Rulings::open(Arc::clone(store)).unwrap()
}

fn store() -> Arc<dyn KvStore> {
    Arc::new(MemoryStore::new())
}

#[test]
fn a_denial_stands_after_a_restart_and_is_pending_until_it_is_in_effect() {
    let store = store();
    let mut rulings = open(&store);
    let lost = ruling(station(1), Some(DenyReason::Lost), 10);
    rulings.keep(&lost, NOW).unwrap().unwrap();

    let mut again = open(&store);

    let denial = again.denial(station(1)).unwrap();
    assert_eq!(
        (denial.reason, denial.since),
        (DenyReason::Lost, TimeMs::new(10))
    );
    assert_eq!(again.pending().len(), 1);
    again.settled(&station(1));
    assert!(again.pending().is_empty());
    again.renew();
    assert_eq!(again.pending().len(), 1);
}

#[test]
fn a_later_ruling_takes_the_place_of_an_earlier_one_and_never_the_other_way_round() {
    let store = store();
    let mut rulings = open(&store);
    let denied = ruling(station(1), Some(DenyReason::Misuse), 10);
    rulings.keep(&denied, NOW).unwrap().unwrap();
    rulings
        .keep(&ruling(station(1), None, 20), NOW)
        .unwrap()
        .unwrap();

    // Somebody repeats the denial, also after a restart.
    for mut rulings in [rulings, open(&store)] {
        let refused = rulings.keep(&denied, NOW).unwrap();

        assert!(matches!(refused, Err(RulingRefusal::Outdated { .. })));
        assert_eq!(rulings.denial(station(1)), None);
        assert!(rulings.pending().is_empty());
    }
}

#[test]
fn a_basestation_is_denied_by_its_id_or_by_its_key_and_others_are_not() {
    let mut rulings = open(&store());
    let key = |number| Hash32::new([number; 32]);
    let by_key = Subject::TunnelKey { key: key(7) };
    for (subject, reason) in [
        (station(1), DenyReason::Lost),
        (by_key, DenyReason::Compromised),
    ] {
        rulings
            .keep(&ruling(subject, Some(reason), 10), NOW)
            .unwrap()
            .unwrap();
    }
    let id = |number| BaseStationId::new([number; 16]);
    let why = |denial: Option<Denial>| denial.map(|denial| denial.reason);

    assert_eq!(
        why(rulings.denial_of(id(1), key(1))),
        Some(DenyReason::Lost)
    );
    assert_eq!(
        why(rulings.denial_of(id(2), key(7))),
        Some(DenyReason::Compromised)
    );
    assert_eq!(why(rulings.denial_of(id(2), key(1))), None);
    assert_eq!(rulings.denials(Some(station(1))).count(), 1);
}

#[test]
fn the_list_is_bounded_and_forgets_only_what_cannot_be_repeated() {
    let mut rulings = open(&store());
    let subject = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Subject::BaseStation {
            basestation: BaseStationId::new(id),
        }
    };
    for number in 0..SUBJECTS_MAX {
        let row = Ruling {
            denied: (number > 1).then_some(DenyReason::Retired),
            signed_at: TimeMs::new(if number == 0 { NOW.get() } else { 1 }),
        };
        rulings.rows.insert(subject(number), row);
    }
    let next = |number, time| ruling(subject(number), Some(DenyReason::Lost), time);

    // Number 1 may come again, and a denial from before is too old to be believed.
    let taken = rulings.keep(&next(SUBJECTS_MAX, NOW.get()), NOW).unwrap();
    let refused = rulings
        .keep(&next(SUBJECTS_MAX + 1, NOW.get()), NOW)
        .unwrap();

    assert_eq!(taken, Ok(()));
    assert_eq!(refused, Err(RulingRefusal::Full));
    assert!(!rulings.rows.contains_key(&subject(1)));
    assert!(rulings.rows.contains_key(&subject(0)));
}

#[test]
fn a_ruling_for_another_gateway_or_of_another_time_is_refused() {
    let at = |time| check_ruling(&ruling(station(1), None, time), GATEWAY, NOW);

    assert_eq!(at(NOW.get() - CLOCKS_APART_MS), Ok(()));
    assert!(matches!(
        at(NOW.get() - CLOCKS_APART_MS - 1),
        Err(RulingRefusal::ClocksApart { .. })
    ));
    assert!(matches!(
        at(NOW.get() + CLOCKS_APART_MS + 1),
        Err(RulingRefusal::ClocksApart { .. })
    ));
    let elsewhere = check_ruling(
        &ruling(station(1), None, NOW.get()),
        GatewayId::new([8; 16]),
        NOW,
    );
    assert!(matches!(elsewhere, Err(RulingRefusal::WrongGateway { .. })));
}
