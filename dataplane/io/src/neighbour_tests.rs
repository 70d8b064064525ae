use super::*;

const fn mac(last: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, last])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(network: &str, prefix_len: u8, gateway: Option<&str>, metric: u32) -> Route {
    Route {
        network: ip(network),
        prefix_len,
        gateway: gateway.map(ip),
        metric,
    }
}

fn table() -> NeighbourTable {
    NeighbourTable::new(
        vec![
            route("0.0.0.0", 0, Some("10.0.0.254"), 100),
            route("0.0.0.0", 0, Some("10.0.0.253"), 50),
            route("10.0.0.0", 24, None, 0),
            route("10.9.0.0", 16, Some("10.0.0.7"), 0),
            route("::", 0, Some("fe80::1"), 0),
        ],
        vec![
            (ip("10.0.0.253"), mac(53)),
            (ip("10.0.0.7"), mac(7)),
            (ip("10.0.0.254"), mac(54)),
            (ip("fe80::1"), mac(61)),
        ],
    )
}

#[test]
fn the_longest_prefix_then_the_smallest_metric_wins() {
    for (address, expected) in [
        ("10.0.0.7", Some(mac(7))),
        ("10.9.1.1", Some(mac(7))),
        ("8.8.8.8", Some(mac(53))),
        ("2001:db8::1", Some(mac(61))),
        // On the link, but nobody answered: never sent to the router instead.
        ("10.0.0.8", None),
    ] {
        assert_eq!(table().next_hop(ip(address)), expected, "{address}");
    }
}

#[test]
fn no_route_of_one_family_serves_the_other() {
    let only_v6 = NeighbourTable::new(
        vec![route("::", 0, Some("fe80::1"), 0)],
        vec![(ip("fe80::1"), mac(1))],
    );

    assert_eq!(only_v6.next_hop(ip("8.8.8.8")), None);
    assert_eq!(NeighbourTable::default().next_hop(ip("::1")), None);
}

#[test]
fn a_table_keeps_its_bounds_and_the_first_entry_of_an_address() {
    let routes = (0..=255)
        .map(|last| route(&format!("10.{last}.0.0"), 16, None, 0))
        .collect();
    let neighbours = (0..9000_u32)
        .map(|number| (IpAddr::from((number % 8000).to_be_bytes()), mac(0)))
        .collect();

    let full = NeighbourTable::new(routes, neighbours);
    let twice = NeighbourTable::new(
        vec![],
        vec![(ip("1.1.1.1"), mac(1)), (ip("1.1.1.1"), mac(2))],
    );

    assert_eq!(full.routes.len(), ROUTES_MAX);
    assert_eq!(full.neighbours(), NEIGHBOURS_MAX);
    assert_eq!(full.left_out(), 256 - ROUTES_MAX + 9000 - NEIGHBOURS_MAX);
    assert_eq!(twice.next_hop(ip("1.1.1.1")), Some(mac(1)));
}

#[test]
fn a_reader_sees_a_new_table_at_its_next_update_only() {
    let keeper = NeighbourKeeper::new(1, vec![(ip("10.0.0.1"), mac(1))]).unwrap();
    let mut reader = keeper.reader();
    assert_eq!(reader.table().next_hop(ip("10.0.0.1")), None);
    reader.update();
    assert_eq!(reader.table().next_hop(ip("10.0.0.1")), Some(mac(1)));

    keeper.publish(NeighbourTable::default());

    assert_eq!(reader.table().next_hop(ip("10.0.0.1")), Some(mac(1)));
    reader.update();
    assert_eq!(reader.table().next_hop(ip("10.0.0.1")), None);
}

#[test]
fn reports_beyond_the_bound_are_forgotten() {
    let keeper = NeighbourKeeper::new(1, vec![]).unwrap();
    let reader = keeper.reader();

    for number in 0..1000_u32 {
        reader.report(IpAddr::from(number.to_be_bytes()));
    }

    assert_eq!(keeper.reports.try_iter().count(), REPORTS_MAX);
}

// The layout as `rtmsg` and `ndmsg` have it, written by hand.
#[test]
fn the_kernels_messages_are_read() {
    let mut payload = vec![2, 16, 0, 0, libc::RT_TABLE_MAIN, 3, 0, 1, 0, 0, 0, 0];
    push_attribute(&mut payload, libc::RTA_DST, &[10, 9, 0, 0]);
    push_attribute(&mut payload, libc::RTA_OIF, &5_u32.to_ne_bytes());
    push_attribute(&mut payload, libc::RTA_GATEWAY, &[10, 0, 0, 7]);
    let mut entry = vec![2, 0, 0, 0];
    entry.extend_from_slice(&5_u32.to_ne_bytes());
    entry.extend_from_slice(&0x02_u16.to_ne_bytes());
    entry.extend_from_slice(&[0, 1]);
    push_attribute(&mut entry, libc::NDA_DST, &[10, 0, 0, 7]);
    push_attribute(&mut entry, libc::NDA_LLADDR, &mac(7).octets());

    let expected = route("10.9.0.0", 16, Some("10.0.0.7"), 0);
    assert_eq!(parse_route(&payload, 5), Some(expected));
    assert_eq!(parse_route(&payload, 6), None);
    assert_eq!(parse_neighbour(&entry, 5), Some((ip("10.0.0.7"), mac(7))));
    assert_eq!(parse_neighbour(&entry, 6), None);
    for cut in 0..payload.len().min(entry.len()) {
        parse_route(&payload[..cut], 5);
        parse_neighbour(&entry[..cut], 5);
    }
}

#[test]
fn a_fixed_table_is_there_at_once_and_takes_reports_without_a_keeper() {
    let mut reader = NeighbourReader::fixed(table());

    reader.update();
    reader.report(ip("10.0.0.9"));

    assert_eq!(reader.table(), &table());
}
