use std::net::{IpAddr, Ipv4Addr};

use qlink_wire::TcpFlags;

use super::*;

pub(super) const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const REMOTE: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 1), 443);
const OTHER: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 2), 443);

pub(super) fn pool(count: u8) -> Vec<Ipv4Addr> {
    (1..=count)
        .map(|last| Ipv4Addr::new(203, 0, 113, last))
        .collect()
}

/// Blocks of 4096 ports, one per subscriber, few addresses; the standards' times.
fn config(addresses: u8) -> NatConfig {
    NatConfig {
        block_ports: 4096,
        blocks_per_subscriber: 1,
        ..NatConfig::for_subscribers(pool(addresses), 40, 5)
    }
}

fn nat(config: &NatConfig) -> (Nat, BlockQueue) {
    let mut nat = Nat::try_new(config).unwrap();
    for subscriber in 0..config.subscribers {
        assert!(nat.open(subscriber, 1000 + u128::from(subscriber)));
    }
    (nat, BlockQueue::new(64))
}

fn out(protocol: NatProtocol, subscriber: u32, port: u16, signal: Signal) -> Outbound {
    Outbound {
        subscriber,
        protocol,
        internal: (IpAddr::from([10, 45, 0, 2]), port),
        remote: REMOTE,
        signal,
    }
}

fn back(
    protocol: NatProtocol,
    external: (Ipv4Addr, u16),
    remote: (Ipv4Addr, u16),
    signal: Signal,
) -> Inbound {
    Inbound {
        protocol,
        external,
        remote,
        signal,
    }
}

const SYN: Signal = Signal::Segment(TcpFlags::SYN);
const SYN_ACK: Signal = Signal::Segment(TcpFlags::SYN.union(TcpFlags::ACK));
const ACK: Signal = Signal::Segment(TcpFlags::ACK);
const RST: Signal = Signal::Segment(TcpFlags::RST);

#[test]
fn one_mapping_serves_every_remote_end_and_leads_back() {
    let (mut nat, mut log) = nat(&config(2));
    let mut packet = out(NatProtocol::Udp, 3, 4000, Signal::Datagram);
    let first = nat.outbound(&packet, 0, &mut log).unwrap();
    packet.remote = OTHER;

    assert_eq!(nat.outbound(&packet, 0, &mut log), Ok(first));
    let inside = Internal {
        subscriber: 3,
        address: packet.internal.0,
        port: 4000,
    };
    for remote in [REMOTE, (Ipv4Addr::new(9, 9, 9, 9), 9)] {
        let inbound = back(NatProtocol::Udp, first, remote, Signal::Datagram);
        assert_eq!(nat.inbound(&inbound, 0), Ok(inside));
    }
    assert_eq!(nat.internal_of(NatProtocol::Udp, first, 0), Some(inside));
    assert_eq!(nat.internal_of(NatProtocol::Tcp, first, 0), None);
    let external = nat.external_of(3, NatProtocol::Udp, packet.internal, 0);
    assert_eq!(external, Some(first));
    assert_eq!(
        nat.external_of(4, NatProtocol::Udp, packet.internal, 0),
        None
    );
}

#[test]
fn all_blocks_of_a_subscriber_are_on_one_address_and_are_logged_once() {
    let config = NatConfig {
        block_ports: 64,
        blocks_per_subscriber: 3,
        ..config(4)
    };
    let (mut nat, mut log) = nat(&config);

    let mut externals = Vec::new();
    for port in 0..192 {
        let packet = out(NatProtocol::Udp, 7, port, Signal::Datagram);
        externals.push(nat.outbound(&packet, 9, &mut log).unwrap());
    }

    assert!(
        externals
            .iter()
            .all(|(address, _)| *address == externals[0].0)
    );
    externals.sort_unstable();
    externals.dedup();
    assert_eq!(externals.len(), 192);
    let over = out(NatProtocol::Udp, 7, 192, Signal::Datagram);
    assert_eq!(
        nat.outbound(&over, 9, &mut log),
        Err(NatRefusal::SubscriberPortsFull)
    );
    // The ports of other protocols are others.
    let tcp = out(NatProtocol::Tcp, 7, 192, SYN);
    assert!(nat.outbound(&tcp, 9, &mut log).is_ok());
    let mut events: Vec<BlockEvent> = std::iter::from_fn(|| log.pop()).collect();
    assert_eq!(events.len(), 3);
    for event in &events {
        assert_eq!(event.change, BlockChange::Assigned);
        assert_eq!((event.identity, event.time_ns), (1007, 9));
        assert_eq!(event.last_port - event.first_port, 63);
        let inside = |port: u16| (event.first_port..=event.last_port).contains(&port);
        assert_eq!(
            externals.iter().filter(|(_, port)| inside(*port)).count(),
            64
        );
    }
    events.dedup_by_key(|event| event.first_port);
    assert_eq!(events.len(), 3);
}

#[test]
fn subscribers_spread_over_the_addresses() {
    let (mut nat, mut log) = nat(&config(4));

    let mut addresses: Vec<Ipv4Addr> = (0..4)
        .map(|subscriber| {
            let packet = out(NatProtocol::Udp, subscriber, 1, Signal::Datagram);
            nat.outbound(&packet, 0, &mut log).unwrap().0
        })
        .collect();

    addresses.sort_unstable();
    assert_eq!(addresses, pool(4));
}

#[test]
fn a_pool_without_a_free_block_refuses_and_blocks_rest_before_they_move() {
    // One address of 15 usable blocks.
    let (mut nat, mut log) = nat(&config(1));
    for subscriber in 0..15 {
        let packet = out(NatProtocol::Udp, subscriber, 1, Signal::Datagram);
        nat.outbound(&packet, 0, &mut log).unwrap();
    }
    let late = out(NatProtocol::Udp, 20, 1, Signal::Datagram);

    assert_eq!(nat.outbound(&late, 0, &mut log), Err(NatRefusal::NoBlock));
    nat.close(4, SECOND, &mut log);
    assert_eq!(
        nat.outbound(&late, 120 * SECOND, &mut log),
        Err(NatRefusal::NoBlock)
    );
    assert!(nat.outbound(&late, 121 * SECOND, &mut log).is_ok());
    assert_eq!(nat.gauges().blocks_used, 15);
}

#[test]
fn a_log_without_room_assigns_nothing_and_forgets_no_release() {
    let (mut nat, _) = nat(&config(1));
    let mut log = BlockQueue::new(1);
    let packet = |subscriber| out(NatProtocol::Udp, subscriber, 1, Signal::Datagram);
    nat.outbound(&packet(0), 0, &mut log).unwrap();

    let second = nat.outbound(&packet(1), 0, &mut log);
    assert_eq!(second, Err(NatRefusal::LogFull));
    nat.close(0, 5, &mut log);
    assert_eq!(nat.gauges().blocks_used, 1);
    assert_eq!(log.pop().unwrap().change, BlockChange::Assigned);

    // The number may be somebody else's by then; the release names who had the block.
    assert!(nat.open(0, 77));
    nat.sweep(u32::MAX, 6, &mut log);
    let release = log.pop().unwrap();
    assert_eq!(release.change, BlockChange::Released);
    assert_eq!((release.identity, release.time_ns), (1000, 6));
    assert_eq!(nat.gauges().blocks_used, 0);
}

#[test]
fn udp_lives_five_minutes_from_the_last_packet_that_went_out() {
    let (mut nat, mut log) = nat(&config(1));
    let packet = out(NatProtocol::Udp, 0, 1, Signal::Datagram);
    let external = nat.outbound(&packet, 0, &mut log).unwrap();
    let inbound = back(NatProtocol::Udp, external, REMOTE, Signal::Datagram);

    nat.outbound(&packet, MINUTE, &mut log).unwrap();
    assert!(nat.inbound(&inbound, 6 * MINUTE - 1).is_ok());
    assert_eq!(
        nat.inbound(&inbound, 6 * MINUTE),
        Err(NatRefusal::NoMapping)
    );
    assert_eq!(nat.gauges().mappings, 0);
}

#[test]
fn an_icmp_query_lives_a_minute_and_a_reply_opens_nothing() {
    let (mut nat, mut log) = nat(&config(1));
    let reply = out(NatProtocol::Icmp, 0, 9, Signal::Reply);
    assert_eq!(
        nat.outbound(&reply, 0, &mut log),
        Err(NatRefusal::IcmpWithoutQuery)
    );
    let query = out(NatProtocol::Icmp, 0, 9, Signal::Datagram);
    let external = nat.outbound(&query, 0, &mut log).unwrap();
    let inbound = back(NatProtocol::Icmp, external, (REMOTE.0, 0), Signal::Reply);

    assert!(nat.inbound(&inbound, MINUTE - 1).is_ok());
    assert_eq!(nat.inbound(&inbound, MINUTE), Err(NatRefusal::NoMapping));
}

#[test]
fn tcp_needs_a_syn_and_lives_by_its_state() {
    let (mut nat, mut log) = nat(&config(1));
    let packet = |signal| out(NatProtocol::Tcp, 0, 1, signal);
    assert_eq!(
        nat.outbound(&packet(ACK), 0, &mut log),
        Err(NatRefusal::TcpWithoutSyn)
    );
    let external = nat.outbound(&packet(SYN), 0, &mut log).unwrap();
    let inbound = |signal| back(NatProtocol::Tcp, external, REMOTE, signal);

    // Half open: 4 minutes.
    let mut half_open = nat.clone();
    assert_eq!(
        half_open.inbound(&inbound(SYN_ACK), 4 * MINUTE),
        Err(NatRefusal::NoMapping)
    );
    // Established: 2 hours and 4 minutes.
    nat.inbound(&inbound(SYN_ACK), MINUTE).unwrap();
    nat.outbound(&packet(ACK), MINUTE, &mut log).unwrap();
    assert!(nat.inbound(&inbound(ACK), 120 * MINUTE).is_ok());
    let mut idle = nat.clone();
    assert_eq!(
        idle.inbound(&inbound(ACK), (120 + 124) * MINUTE),
        Err(NatRefusal::NoMapping)
    );
    // Reset: 4 minutes, then the sweep ends it.
    nat.inbound(&inbound(RST), 130 * MINUTE).unwrap();
    nat.sweep(u32::MAX, 134 * MINUTE - 1, &mut log);
    assert_eq!(nat.gauges().mappings, 1);
    nat.sweep(u32::MAX, 134 * MINUTE, &mut log);
    assert_eq!((nat.gauges().mappings, nat.gauges().sessions), (0, 0));
}

#[test]
fn only_the_end_that_opens_keeps_a_half_open_connection_and_nobody_a_closed_one() {
    const FIN: Signal = Signal::Segment(TcpFlags::FIN.union(TcpFlags::ACK));
    let (mut nat, mut log) = nat(&config(1));
    let packet = |signal| out(NatProtocol::Tcp, 0, 1, signal);
    let external = nat.outbound(&packet(SYN), 0, &mut log).unwrap();
    let inbound = |signal| back(NatProtocol::Tcp, external, REMOTE, signal);

    nat.inbound(&inbound(ACK), 3 * MINUTE).unwrap();
    let mut probed = nat.clone();
    let late = probed.inbound(&inbound(SYN_ACK), 4 * MINUTE);
    assert_eq!(late, Err(NatRefusal::NoMapping));

    nat.outbound(&packet(SYN), 3 * MINUTE, &mut log).unwrap();
    nat.inbound(&inbound(SYN_ACK), 5 * MINUTE).unwrap();
    nat.outbound(&packet(FIN), 5 * MINUTE, &mut log).unwrap();
    nat.inbound(&inbound(FIN), 5 * MINUTE).unwrap();
    nat.outbound(&packet(ACK), 8 * MINUTE, &mut log).unwrap();
    nat.sweep(u32::MAX, 9 * MINUTE - 1, &mut log);
    assert_eq!(nat.gauges().sessions, 1);
    nat.sweep(u32::MAX, 9 * MINUTE, &mut log);
    assert_eq!((nat.gauges().sessions, nat.gauges().mappings), (0, 0));
}

#[test]
fn a_filter_lets_only_known_remotes_in() {
    let config = NatConfig {
        filtering: Filtering::AddressDependent,
        ..config(1)
    };
    let (mut nat, mut log) = nat(&config);
    let udp = out(NatProtocol::Udp, 0, 1, Signal::Datagram);
    let tcp = out(NatProtocol::Tcp, 0, 1, SYN);
    let udp_at = nat.outbound(&udp, 0, &mut log).unwrap();
    let tcp_at = nat.outbound(&tcp, 0, &mut log).unwrap();

    for (protocol, external, remote, signal, passes) in [
        (NatProtocol::Udp, udp_at, REMOTE, Signal::Datagram, true),
        (
            NatProtocol::Udp,
            udp_at,
            (REMOTE.0, 9),
            Signal::Datagram,
            true,
        ),
        (NatProtocol::Udp, udp_at, OTHER, Signal::Datagram, false),
        (NatProtocol::Tcp, tcp_at, REMOTE, SYN_ACK, true),
        (NatProtocol::Tcp, tcp_at, OTHER, SYN, false),
        (NatProtocol::Tcp, tcp_at, (REMOTE.0, 9), SYN, false),
        (
            NatProtocol::Tcp,
            tcp_at,
            OTHER,
            Signal::LaterFragment,
            false,
        ),
    ] {
        let result = nat.inbound(&back(protocol, external, remote, signal), 1);
        let expected = if passes {
            None
        } else {
            Some(NatRefusal::Filtered)
        };
        assert_eq!(result.err(), expected, "{protocol:?} {remote:?}");
    }
    assert_eq!(nat.gauges().sessions, 2);
}

#[test]
fn full_tables_refuse_and_leave_nothing_behind() {
    let small = NatConfig {
        mappings: 4,
        sessions: 3,
        sessions_per_subscriber: 2,
        ..config(1)
    };
    let (mut nat, mut log) = nat(&small);
    let mut syn = |subscriber, port| {
        let packet = out(NatProtocol::Tcp, subscriber, port, SYN);
        nat.outbound(&packet, 0, &mut log)
    };

    assert!(syn(0, 1).is_ok() && syn(0, 2).is_ok());
    assert_eq!(syn(0, 3), Err(NatRefusal::SubscriberSessionsFull));
    assert!(syn(1, 1).is_ok());
    assert_eq!(syn(2, 1), Err(NatRefusal::SessionTableFull));
    assert_eq!((nat.gauges().mappings, nat.gauges().sessions), (3, 3));
    let udp = |port| out(NatProtocol::Udp, 2, port, Signal::Datagram);
    assert!(nat.outbound(&udp(1), 0, &mut log).is_ok());
    assert_eq!(
        nat.outbound(&udp(2), 0, &mut log),
        Err(NatRefusal::MappingTableFull)
    );
    let stranger = out(NatProtocol::Udp, 40, 1, Signal::Datagram);
    nat.close(0, 0, &mut log);
    assert_eq!(
        nat.outbound(&stranger, 0, &mut log),
        Err(NatRefusal::SubscriberUnknown)
    );
    assert_eq!((nat.gauges().mappings, nat.gauges().sessions), (2, 1));
}

#[test]
fn an_idle_block_is_released_after_its_time_and_not_before() {
    let (mut nat, mut log) = nat(&config(1));
    let packet = out(NatProtocol::Udp, 0, 1, Signal::Datagram);
    nat.outbound(&packet, 0, &mut log).unwrap();

    nat.sweep(u32::MAX, 5 * MINUTE, &mut log);
    nat.sweep(u32::MAX, 6 * MINUTE - 1, &mut log);
    assert_eq!((nat.gauges().mappings, nat.gauges().blocks_used), (0, 1));
    nat.sweep(u32::MAX, 6 * MINUTE, &mut log);
    assert_eq!(nat.gauges().blocks_used, 0);
    assert_eq!(log.len(), 2);
    // And the subscriber gets another one when it needs it.
    assert!(nat.outbound(&packet, 7 * MINUTE, &mut log).is_ok());
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    type Change = fn(&mut NatConfig);
    let cases: [(Change, NatConfigError); 5] = [
        (|config| config.pool.clear(), NatConfigError::PoolSize(0)),
        (
            |config| config.pool = [pool(1), pool(1)].concat(),
            NatConfigError::PoolAddressTwice(pool(1)[0]),
        ),
        (
            |config| config.block_ports = 500,
            NatConfigError::BlockPorts(500),
        ),
        (
            |config| config.blocks_per_subscriber = 9,
            NatConfigError::BlocksPerSubscriber(9),
        ),
        (|config| config.mappings = 0, NatConfigError::TableSize(0)),
    ];
    for (change, expected) in cases {
        let mut config = config(2);
        change(&mut config);
        assert_eq!(Nat::try_new(&config).unwrap_err(), expected);
    }
}

#[test]
fn shares_of_a_pool_never_meet_and_the_port_names_the_owner() {
    for (of, block_ports) in [(1, 4096), (3, 512), (15, 4096), (16, 64)] {
        let mut seen = std::collections::BTreeSet::new();
        let mut blocks = 0;
        for index in 0..of {
            let config = NatConfig {
                share: PoolShare { index, of },
                block_ports,
                blocks_per_subscriber: 1,
                ..config(2)
            };
            let (mut nat, mut log) = nat(&config);
            blocks += nat.gauges().blocks;
            for subscriber in 0..3 {
                let packet = out(NatProtocol::Udp, subscriber, 7, Signal::Datagram);
                let Ok(external) = nat.outbound(&packet, 0, &mut log) else {
                    continue;
                };
                assert_eq!(nat.owner_of(external.1), index);
                assert!(external.1 >= 1024);
                assert!(seen.insert(external), "{external:?}");
                let inbound = back(NatProtocol::Udp, external, REMOTE, Signal::Datagram);
                assert_eq!(nat.inbound(&inbound, 0).unwrap().subscriber, subscriber);
                let event = log.pop().unwrap();
                assert!((event.first_port..=event.last_port).contains(&external.1));
                assert_eq!(u32::from(event.first_port) % u32::from(block_ports), 0);
            }
        }
        let usable =
            (65_536 - 1024_u32.next_multiple_of(block_ports.into())) / u32::from(block_ports);
        assert_eq!(blocks, usable * 2);
    }
    let none = NatConfig {
        share: PoolShare { index: 0, of: 16 },
        ..config(1)
    };
    assert!(matches!(
        Nat::try_new(&none),
        Err(NatConfigError::Share { .. })
    ));
}

#[test]
fn blocks_of_a_translator_that_died_rest_and_are_released_in_the_log() {
    let config = NatConfig {
        share: PoolShare { index: 1, of: 15 },
        ..config(1)
    };
    let (mut nat, mut log) = nat(&config);
    let [address] = pool(1)[..] else { panic!() };
    let inside = IpAddr::from([10, 45, 0, 9]);
    let held = Inherited {
        address,
        first_port: 4096,
        past: Past::Held {
            identity: 9,
            inside,
        },
    };
    let foreign = Inherited {
        first_port: 8192,
        ..held
    };

    assert!(nat.inherit(&held, 5, &mut log));
    assert!(!nat.inherit(&held, 5, &mut log), "once is enough");
    assert!(!nat.inherit(&foreign, 5, &mut log), "another share's");

    let event = log.pop().unwrap();
    assert_eq!(
        (event.change, event.identity, event.inside, event.first_port),
        (BlockChange::Released, 9, inside, 4096)
    );
    // The only block of this share.
    let packet = out(NatProtocol::Udp, 0, 7, Signal::Datagram);
    assert_eq!(nat.outbound(&packet, 6, &mut log), Err(NatRefusal::NoBlock));
    let rested = 120 * SECOND + 5;
    assert!(nat.outbound(&packet, rested, &mut log).is_ok());
}

#[test]
fn a_block_released_before_a_death_rests_for_what_is_left_of_its_time() {
    let config = NatConfig {
        share: PoolShare { index: 1, of: 15 },
        ..config(1)
    };
    let (mut nat, mut log) = nat(&config);
    let past = Past::Released { at_ns: 60 * SECOND };
    let block = Inherited {
        address: pool(1)[0],
        first_port: 4096,
        past,
    };

    assert!(nat.inherit(&block, 100 * SECOND, &mut log));

    assert!(log.is_empty());
    let packet = out(NatProtocol::Udp, 0, 7, Signal::Datagram);
    let early = nat.outbound(&packet, 179 * SECOND, &mut log);
    assert_eq!(early, Err(NatRefusal::NoBlock));
    assert!(nat.outbound(&packet, 180 * SECOND, &mut log).is_ok());
}
