//! Long random histories: no two subscribers ever share a place, and the log accounts for every
//! port at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use qlink_wire::TcpFlags;

use super::tests::{SECOND, pool};
use super::*;

const SUBSCRIBERS: u32 = 20;
const REST: u64 = 120 * SECOND;

#[derive(Debug, Clone)]
enum Step {
    Out {
        subscriber: u32,
        protocol: usize,
        port: u16,
        remote: u8,
        flags: u8,
    },
    In {
        nth: usize,
        remote: u8,
        flags: u8,
    },
    Reopen(u32),
    Sweep,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flags = prop::sample::select(vec![2_u8, 2, 2, 0x10, 0x12, 0x11, 4]);
    let out = (
        0..SUBSCRIBERS,
        0..3_usize,
        0..90_u16,
        0..4_u8,
        flags.clone(),
    )
        .prop_map(|(subscriber, protocol, port, remote, flags)| Step::Out {
            subscriber,
            protocol,
            port,
            remote,
            flags,
        });
    let back = (any::<usize>(), 0..5_u8, flags).prop_map(|(nth, remote, flags)| Step::In {
        nth,
        remote,
        flags,
    });
    let step = prop_oneof![
        20 => out,
        8 => back,
        1 => (0..SUBSCRIBERS).prop_map(Step::Reopen),
        2 => Just(Step::Sweep),
        3 => (0..90 * SECOND).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..600)
}

type Place = (Ipv4Addr, usize, u16);

/// What an outside observer knows.
#[derive(Default)]
struct Model {
    now_ns: u64,
    /// Who used a place last, and when.
    places: BTreeMap<Place, ((u128, u16), u64)>,
    /// Blocks by the log: first port of an address -> identity, last port.
    logged: BTreeMap<(Ipv4Addr, u16), (u128, u16)>,
    released: BTreeMap<(Ipv4Addr, u16), u64>,
    identities: [u128; SUBSCRIBERS as usize],
    next_identity: u128,
}

impl Model {
    /// Reads the log as an auditor does.
    fn audit(&mut self, log: &mut BlockQueue) {
        while let Some(event) = log.pop() {
            let block = (event.address, event.first_port);
            match event.change {
                BlockChange::Assigned => {
                    assert!(event.first_port >= 1024);
                    let before = self.logged.insert(block, (event.identity, event.last_port));
                    assert_eq!(before, None, "a block was assigned twice");
                    let rested = self.released.get(&block).copied();
                    assert!(rested.is_none_or(|at| event.time_ns - at >= REST));
                }
                BlockChange::Released => {
                    let before = self.logged.remove(&block);
                    assert_eq!(before, Some((event.identity, event.last_port)));
                    self.released.insert(block, event.time_ns);
                }
            }
        }
    }

    /// A packet of an identity left from this place.
    fn used(&mut self, place: Place, who: (u128, u16)) {
        let (address, _, port) = place;
        let block = self.logged.range(..=(address, port)).next_back();
        let ((held_on, _), (identity, last)) = block.expect("a block of this address");
        assert_eq!((*held_on, *identity), (address, who.0));
        assert!(port <= *last);
        if let Some((before, at)) = self.places.insert(place, (who, self.now_ns)) {
            // Another owner, or another port of the same one, only after the rest.
            assert!(
                before == who || self.now_ns - at >= REST,
                "{before:?} {who:?}"
            );
        }
    }
}

fn run(config: &NatConfig, history: Vec<Step>) {
    let mut nat = Nat::try_new(config).unwrap();
    let mut log = BlockQueue::new(4);
    let mut model = Model::default();
    for subscriber in 0..SUBSCRIBERS {
        model.next_identity += 1;
        model.identities[subscriber as usize] = model.next_identity;
        nat.open(subscriber, model.next_identity);
    }
    let mut seen: Vec<Place> = Vec::new();
    let protocols = [NatProtocol::Tcp, NatProtocol::Udp, NatProtocol::Icmp];
    let signal = |protocol: usize, flags: u8| match protocol {
        0 => Signal::Segment(TcpFlags::from_bits(flags)),
        _ => Signal::Datagram,
    };
    for step in history {
        match step {
            Step::Out {
                subscriber,
                protocol,
                port,
                remote,
                flags,
            } => {
                let packet = Outbound {
                    subscriber,
                    protocol: protocols[protocol],
                    internal: (IpAddr::from([10, 0, 0, 1]), port),
                    remote: (Ipv4Addr::new(198, 51, 100, remote), 80),
                    signal: signal(protocol, flags),
                };
                let result = nat.outbound(&packet, model.now_ns, &mut log);
                model.audit(&mut log);
                if let Ok((address, external)) = result {
                    let who = (model.identities[subscriber as usize], port);
                    model.used((address, protocol, external), who);
                    seen.push((address, protocol, external));
                }
            }
            Step::In { nth, remote, flags } if !seen.is_empty() => {
                let place = seen[nth % seen.len()];
                let packet = Inbound {
                    protocol: protocols[place.1],
                    external: (place.0, place.2),
                    remote: (Ipv4Addr::new(198, 51, 100, remote), 80),
                    signal: signal(place.1, flags),
                };
                if let Ok(internal) = nat.inbound(&packet, model.now_ns) {
                    let identity = model.identities[internal.subscriber as usize];
                    // It reaches whoever used the place last, nobody else.
                    assert_eq!(model.places[&place].0, (identity, internal.port));
                }
            }
            Step::In { .. } => {}
            Step::Reopen(subscriber) => {
                nat.close(subscriber, model.now_ns, &mut log);
                model.next_identity += 1;
                model.identities[subscriber as usize] = model.next_identity;
                assert!(nat.open(subscriber, model.next_identity));
            }
            Step::Sweep => nat.sweep(200, model.now_ns, &mut log),
            Step::Wait(ns) => model.now_ns += ns,
        }
        let gauges = nat.gauges();
        assert!(gauges.mappings <= config.mappings as usize);
        assert!(gauges.sessions <= config.sessions as usize);
    }
    end(&mut nat, &mut model, &mut log);
}

/// Closes everybody: tables and blocks are empty, and the log is balanced.
fn end(nat: &mut Nat, model: &mut Model, log: &mut BlockQueue) {
    for subscriber in 0..SUBSCRIBERS {
        nat.close(subscriber, model.now_ns, log);
        model.audit(log);
    }
    let mut rounds = BTreeSet::new();
    while nat.gauges().blocks_used > 0 {
        assert!(rounds.insert(nat.gauges().blocks_used), "no progress");
        nat.sweep(u32::MAX, model.now_ns, log);
        model.audit(log);
    }
    model.audit(log);
    assert!(model.logged.is_empty());
    assert_eq!((nat.gauges().mappings, nat.gauges().sessions), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_two_subscribers_ever_share_a_place(
        history in steps(), strict: bool, blocks in 1..4_u8, mappings in 30..400_u32,
    ) {
        let filtering = if strict {
            Filtering::AddressDependent
        } else {
            Filtering::EndpointIndependent
        };
        // 15 blocks for 20 subscribers, then 1008 blocks that are too small for one.
        let config = NatConfig {
            block_ports: 4096,
            blocks_per_subscriber: blocks,
            mappings,
            sessions: 150,
            sessions_per_subscriber: 20,
            filtering,
            ..NatConfig::for_subscribers(pool(1), SUBSCRIBERS, 3)
        };
        run(&config, history.clone());
        let narrow = NatConfig { block_ports: 64, ..config };
        run(&narrow, history);
    }
}
