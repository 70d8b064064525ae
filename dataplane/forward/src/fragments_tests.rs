use std::collections::BTreeMap;

use proptest::prelude::*;
use qlink_wire::build::{IpEnvelope, Ipv6Extension, udp_datagram};
use qlink_wire::parse_ip;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn limits() -> FragmentLimits {
    FragmentLimits {
        datagrams: 4,
        owners: 3,
        datagrams_per_owner: 2,
        timeout_ns: SECOND,
        secret: 7,
    }
}

/// A fragment of a UDP datagram between fixed hosts.
fn fragment(v6: bool, id: u16, src_port: u16, offset: u16, more: bool) -> Vec<u8> {
    let (src, dst) = if v6 {
        (format!("[2001:db8::2]:{src_port}"), "[2001:db8::9]:53")
    } else {
        (format!("10.45.0.2:{src_port}"), "192.0.2.9:53")
    };
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    let datagram = udp_datagram(src, dst, &[0; 56]).unwrap();
    let payload = &datagram[usize::from(offset)..usize::from(offset) + 8];
    if v6 {
        let [a, b] = (offset | u16::from(more)).to_be_bytes();
        let [c, d] = id.to_be_bytes();
        let content = [0, a, b, 0, 0, c, d];
        let extensions = [Ipv6Extension {
            kind: protocol::FRAGMENT,
            content: &content[1..],
        }];
        return IpEnvelope::new(src.ip(), dst.ip())
            .with_extensions(&extensions)
            .wrap(protocol::UDP, payload)
            .unwrap();
    }
    let envelope = IpEnvelope {
        id,
        ..IpEnvelope::new(src.ip(), dst.ip())
    };
    let mut packet = envelope.wrap(protocol::UDP, payload).unwrap();
    let word = offset >> 3 | if more { 0x2000 } else { 0 };
    packet[6..8].copy_from_slice(&word.to_be_bytes());
    packet
}

fn classify(
    map: &mut FragmentMap,
    packet: &[u8],
    now_ns: u64,
) -> Result<Classified, FragmentRefusal> {
    map.classify(0, 1, &parse_ip(packet).unwrap(), now_ns)
}

#[test]
fn later_fragments_have_the_ports_of_their_first() {
    for v6 in [false, true] {
        let mut map = FragmentMap::new(limits());
        let ports = Ports { src: 4000, dst: 53 };

        let first = classify(&mut map, &fragment(v6, 1, 4000, 0, true), 0);
        assert_eq!(first, Ok(Classified::First(ports)));
        for (offset, more) in [(16, true), (8, true), (24, false)] {
            let later = classify(&mut map, &fragment(v6, 1, 4000, offset, more), SECOND);
            assert_eq!(later, Ok(Classified::Later(ports)));
        }
        let other = classify(&mut map, &fragment(v6, 2, 4000, 8, true), 0);
        assert_eq!(other, Err(FragmentRefusal::Unmatched));
    }
}

#[test]
fn a_later_fragment_before_its_first_or_after_its_time_is_unmatched() {
    let mut map = FragmentMap::new(limits());
    let (first, later) = (
        fragment(false, 1, 4000, 0, true),
        fragment(false, 1, 4000, 8, false),
    );

    assert_eq!(
        classify(&mut map, &later, 0),
        Err(FragmentRefusal::Unmatched)
    );
    classify(&mut map, &first, 0).unwrap();
    assert!(classify(&mut map, &later, SECOND).is_ok());
    assert_eq!(
        classify(&mut map, &later, SECOND + 1),
        Err(FragmentRefusal::Unmatched)
    );
    assert!(map.is_empty());
}

#[test]
fn a_second_first_fragment_cannot_change_the_flow_of_a_datagram() {
    let mut map = FragmentMap::new(limits());
    let ports = Ports { src: 4000, dst: 53 };
    classify(&mut map, &fragment(false, 1, 4000, 0, true), 0).unwrap();

    let same = classify(&mut map, &fragment(false, 1, 4000, 0, true), 1);
    let other = classify(&mut map, &fragment(false, 1, 4001, 0, true), 1);

    assert_eq!(same, Ok(Classified::First(ports)));
    assert_eq!(other, Err(FragmentRefusal::Conflict));
    let later = classify(&mut map, &fragment(false, 1, 4001, 8, true), 1);
    assert_eq!(later, Ok(Classified::Later(ports)));
}

#[test]
fn realms_do_not_see_each_other() {
    let mut map = FragmentMap::new(limits());
    let (first, later) = (
        fragment(false, 1, 4000, 0, true),
        fragment(false, 1, 4000, 8, false),
    );
    classify(&mut map, &first, 0).unwrap();

    let elsewhere = map.classify(9, 1, &parse_ip(&later).unwrap(), 0);

    assert_eq!(elsewhere, Err(FragmentRefusal::Unmatched));
}

#[test]
fn one_owner_never_takes_more_than_its_share() {
    let mut map = FragmentMap::new(limits());
    for id in 0..2 {
        classify(&mut map, &fragment(false, id, 4000, 0, true), 0).unwrap();
    }

    let third = classify(&mut map, &fragment(false, 2, 4000, 0, true), 0);
    let stranger = map.classify(0, 3, &parse_ip(&fragment(false, 3, 1, 0, true)).unwrap(), 0);

    assert_eq!(third, Err(FragmentRefusal::OwnerFull));
    assert_eq!(stranger, Err(FragmentRefusal::OwnerFull));
    for id in 2..4 {
        let packet = fragment(false, id, 4000, 0, true);
        map.classify(0, 2, &parse_ip(&packet).unwrap(), 0).unwrap();
    }
    let packet = fragment(false, 4, 4000, 0, true);
    let full = map.classify(0, 0, &parse_ip(&packet).unwrap(), 0);
    assert_eq!(full, Err(FragmentRefusal::TableFull));
}

#[test]
fn a_first_fragment_without_its_transport_header_is_refused() {
    for (number, len, expected) in [
        (protocol::TCP, 16, Err(FragmentRefusal::Tiny)),
        (protocol::TCP, 24, Ok(Ports { src: 0, dst: 0 })),
        (protocol::UDP, 0, Err(FragmentRefusal::Tiny)),
        (132, 64, Err(FragmentRefusal::Portless)),
    ] {
        assert_eq!(ports_of(number, &[0; 64][..len]), expected);
    }
    let mut map = FragmentMap::new(limits());
    let fragment = Fragment {
        id: 1,
        offset: 8,
        more: true,
    };
    let address = IpAddr::from([10, 0, 0, 1]);
    let key = DatagramKey::new(0, address, address, fragment, protocol::TCP);
    assert_eq!(
        map.later(&key, fragment, protocol::TCP, 0),
        Err(FragmentRefusal::Tiny)
    );
}

proptest! {
    // The model: a map from id to (owner, ports, time), walked in full for every count.
    #[test]
    fn a_map_equals_its_model(
        steps in prop::collection::vec((any::<bool>(), 0..6_u32, 0..4_u32, 0..3_u16, 0..SECOND / 2), 0..120),
    ) {
        let mut map = FragmentMap::new(limits());
        let mut model: BTreeMap<u32, (u32, u16, u64)> = BTreeMap::new();
        let (mut now, address) = (0, IpAddr::from([10, 0, 0, 1]));
        for (is_first, id, owner, port, wait) in steps {
            now += wait;
            model.retain(|_, (_, _, at)| now - *at <= SECOND);
            let fragment = Fragment { id, offset: if is_first { 0 } else { 8 }, more: true };
            let key = DatagramKey::new(0, address, address, fragment, protocol::UDP);
            let ports = Ports { src: port, dst: port };
            if is_first {
                let held = model.values().filter(|(of, _, _)| *of == owner).count();
                let expected = match model.get(&id) {
                    Some((_, known, _)) if *known == port => Ok(()),
                    Some(_) => Err(FragmentRefusal::Conflict),
                    None if owner >= 3 || held >= 2 => Err(FragmentRefusal::OwnerFull),
                    None if model.len() >= 4 => Err(FragmentRefusal::TableFull),
                    None => { model.insert(id, (owner, port, now)); Ok(()) }
                };
                prop_assert_eq!(map.first(&key, owner, ports, now), expected);
            } else {
                let expected = model.get(&id).map(|(_, port, _)| Ports { src: *port, dst: *port });
                prop_assert_eq!(map.later(&key, fragment, protocol::UDP, now).ok(), expected);
            }
            prop_assert_eq!(map.len(), model.len());
        }
    }
}
