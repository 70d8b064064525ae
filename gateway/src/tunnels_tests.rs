use qlink_store::MemoryStore;

use super::*;

const CONFIG: TunnelConfig = TunnelConfig {
    endpoint: std::net::SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 51_820),
    base: IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2)),
    count: 2,
};

const GATEWAY: GatewayId = GatewayId::new([9; 16]);

fn id(number: u8) -> BaseStationId {
    BaseStationId::new([number; 16])
}

fn says(number: u8, key: u8, signed_at: u64) -> TunnelKey {
    TunnelKey {
        basestation: id(number),
        gateway: GATEWAY,
        key: Hash32::new([key; 32]),
        signed_at: TimeMs::new(signed_at),
    }
}

fn tunnels() -> Tunnels {
    Tunnels::open(Arc::new(MemoryStore::new())).unwrap()
}

/// Keeps what a statement leads to.
fn enrol(tunnels: &mut Tunnels, statement: &TunnelKey) -> Enrolled {
    let row = tunnels.judge(&CONFIG, statement).unwrap();
    tunnels
        .keep(statement.basestation, Some(row.clone()))
        .unwrap();
    row
}

#[test]
fn each_basestation_gets_an_address_of_its_own_until_none_is_left() {
    let mut tunnels = tunnels();
    let first = enrol(&mut tunnels, &says(1, 1, 10));
    let second = enrol(&mut tunnels, &says(2, 2, 10));

    let refused = tunnels.judge(&CONFIG, &says(3, 3, 10));

    assert_eq!(first.address, IpAddr::from([10, 99, 0, 2]));
    assert_eq!(second.address, IpAddr::from([10, 99, 0, 3]));
    assert_eq!(refused, Err(EnrolRefusal::NoAddress(2)));
}

#[test]
fn an_older_statement_is_refused_and_the_same_one_is_not() {
    let mut tunnels = tunnels();
    let row = enrol(&mut tunnels, &says(1, 1, 10));
    let outdated = |signed_at| {
        Err(EnrolRefusal::Outdated {
            signed_at: TimeMs::new(signed_at),
            newest: TimeMs::new(10),
        })
    };

    assert_eq!(tunnels.judge(&CONFIG, &says(1, 1, 10)), Ok(row));
    assert_eq!(tunnels.judge(&CONFIG, &says(1, 1, 9)), outdated(9));
    assert_eq!(tunnels.judge(&CONFIG, &says(1, 2, 10)), outdated(10));
}

#[test]
fn a_new_key_keeps_the_address_and_names_the_old_one_until_it_is_gone() {
    let mut tunnels = tunnels();
    enrol(&mut tunnels, &says(1, 1, 10));
    let second = enrol(&mut tunnels, &says(1, 2, 11));
    let third = enrol(&mut tunnels, &says(1, 3, 12));
    let back = tunnels.judge(&CONFIG, &says(1, 1, 13)).unwrap();

    let key = |number| Hash32::new([number; 32]);
    assert_eq!(third.address, IpAddr::from([10, 99, 0, 2]));
    assert_eq!(second.retired.to_vec(), [key(1)]);
    assert_eq!(third.retired.to_vec(), [key(1), key(2)]);
    assert_eq!(back.retired.to_vec(), [key(2), key(3)]);
    assert!(third.settled().retired.is_empty());
}

#[test]
fn a_replaced_key_comes_through_until_the_overlap_ends_and_is_overdue_then() {
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let mut tunnels = Tunnels::open(Arc::clone(&store)).unwrap();
    enrol(&mut tunnels, &says(1, 1, 10));
    let row = enrol(&mut tunnels, &says(1, 2, 20));
    let at = |time| TimeMs::new(20 + time);

    // Also after a restart.
    for tunnels in [&tunnels, &Tunnels::open(store).unwrap()] {
        assert_eq!(
            row.overlapping(at(OVERLAP_MS - 1)),
            Some(Hash32::new([1; 32]))
        );
        assert!(tunnels.overdue(at(OVERLAP_MS - 1)).is_empty());
        assert_eq!(row.overlapping(at(OVERLAP_MS)), None);
        assert_eq!(tunnels.overdue(at(OVERLAP_MS)), [(id(1), row.clone())]);
    }

    tunnels.keep(id(1), Some(row.settled())).unwrap();
    assert!(tunnels.overdue(at(OVERLAP_MS)).is_empty());
}

#[test]
fn only_the_key_that_was_replaced_last_overlaps() {
    let mut tunnels = tunnels();
    for number in 1..4 {
        enrol(&mut tunnels, &says(1, number, 10 + u64::from(number)));
    }
    let row = tunnels.of(&id(1)).unwrap();

    assert_eq!(row.retired.len(), 2);
    assert_eq!(row.renewed().retired.to_vec(), [Hash32::new([2; 32])]);
}

#[test]
fn a_key_of_another_basestation_is_refused_also_while_it_is_removed() {
    let mut tunnels = tunnels();
    enrol(&mut tunnels, &says(1, 1, 10));
    enrol(&mut tunnels, &says(1, 2, 11));

    for key in [1, 2] {
        let refused = tunnels.judge(&CONFIG, &says(2, key, 10));

        assert_eq!(refused, Err(EnrolRefusal::KeyTaken));
    }
}

#[test]
fn keys_that_nobody_removes_are_bounded() {
    let mut tunnels = tunnels();
    let most = u8::try_from(RETIRED_MAX).unwrap();
    for number in 0..=most {
        enrol(&mut tunnels, &says(1, number, 10 + u64::from(number)));
    }

    let refused = tunnels.judge(&CONFIG, &says(1, 100, 100));

    assert_eq!(refused, Err(EnrolRefusal::TooManyKeys));
}

#[test]
fn rows_are_there_again_after_a_restart() {
    let store: Arc<dyn KvStore> = Arc::new(MemoryStore::new());
    let mut tunnels = Tunnels::open(Arc::clone(&store)).unwrap();
    enrol(&mut tunnels, &says(1, 1, 10));
    enrol(&mut tunnels, &says(2, 2, 10));
    tunnels.keep(id(1), None).unwrap();

    let again = Tunnels::open(store).unwrap();

    assert_eq!(again.of(&id(1)), None);
    assert_eq!(again.of(&id(2)), tunnels.of(&id(2)));
    assert_eq!(again.rows().count(), 1);
}

#[test]
fn a_statement_for_another_gateway_or_of_another_time_is_refused() {
    let now = TimeMs::new(1_000_000);
    let at = |signed_at| check_statement(&says(1, 1, signed_at), GATEWAY, now);

    assert_eq!(at(1_000_000 - CLOCKS_APART_MS), Ok(()));
    assert_eq!(at(1_000_000 + CLOCKS_APART_MS), Ok(()));
    assert!(matches!(
        at(1_000_000 - CLOCKS_APART_MS - 1),
        Err(EnrolRefusal::ClocksApart { .. })
    ));
    assert!(matches!(
        at(1_000_000 + CLOCKS_APART_MS + 1),
        Err(EnrolRefusal::ClocksApart { .. })
    ));
    let elsewhere = check_statement(&says(1, 1, 1_000_000), GatewayId::new([8; 16]), now);
    assert!(matches!(elsewhere, Err(EnrolRefusal::WrongGateway { .. })));
}

#[test]
fn only_addresses_of_the_range_are_the_enrolled_ones() {
    for (address, inside) in [
        ("10.99.0.1", false),
        ("10.99.0.2", true),
        ("10.99.0.3", true),
        ("10.99.0.4", false),
        ("::ffff:10.99.0.2", false),
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(CONFIG.contains(address), inside, "{address}");
    }
}
