//! `kill -9` around the end of a session: its last usage is told, wherever it hits.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Child;
use std::time::Duration;

use qlink_meter::ArenaSet;
use qlink_pfcp::model::{NodeId, Seid, Time, UsageReport};
use qlink_pfcp::node::Timers;
use qlink_pfcp::sim::{Happened, Smf, SmfConfig};
use qlink_pfcp::wire::{CsidNode, ENTERPRISE_ID, FqCsid, SessionSets};
use qlink_types::ids::Teid;
use qlink_wire::gpdu_header;

use crate::network::{Network, SERVER, UE, datagram, receive, volume};
use crate::sessions::spawn;

/// A network whose control plane is patient.
fn network(net: u8) -> Network {
    let mut network = Network::new(net);
    let address = IpAddr::from([127, 9, net, 4]);
    let upf = SocketAddr::new(IpAddr::from([127, 9, net, 1]), 8805);
    network.smf = Smf::new(SmfConfig {
        node: NodeId::Fqdn("smf.example".to_owned()),
        address,
        recovery: Time::new(1_700_000_000),
        peer: upf,
        timers: Timers {
            t1: Duration::from_millis(100),
            n1: 100,
            ..Timers::default()
        },
        enterprise: ENTERPRISE_ID,
    });
    network
}

fn kills() -> u64 {
    if std::env::var_os("QLINK_LONG").is_some() {
        200
    } else {
        16
    }
}

/// Carries an uplink packet and waits until it is counted: one that left when it was not is
/// uncertain. Its length.
fn carry(network: &Network, teid: Teid, payload: usize) -> u64 {
    let counted = || {
        ArenaSet::open(&network.config.arena)
            .unwrap()
            .totals()
            .network_bytes
    };
    let before = counted();
    let inner = datagram((UE, 40_000).into(), SERVER.parse().unwrap(), payload);
    let length = u16::try_from(inner.len()).unwrap();
    let mut message = gpdu_header(teid.get(), length).to_vec();
    message.extend(&inner);
    network.gnb.send_to(&message, network.config.n3).unwrap();
    assert_eq!(receive(&network.origin), inner);
    while counted() == before {
        std::thread::yield_now();
    }
    length.into()
}

/// A process that ends with its test, also with one that fails.
struct Plane(Child);

impl Drop for Plane {
    fn drop(&mut self) {
        let killed = self.0.kill().and_then(|()| self.0.wait());
        if !std::thread::panicking() {
            killed.unwrap();
        }
    }
}

/// Sends what waits, and kills the data plane a little later; another one begins.
fn kill_within(network: &mut Network, plane: Plane, round: u64) -> Plane {
    network.flush();
    std::thread::sleep(Duration::from_micros(round * 1_237 % 3_000));
    drop(plane);
    Plane(spawn(network))
}

#[test]
fn the_last_usage_is_in_the_answer_to_a_deletion_wherever_a_kill_hits() {
    let mut network = network(59);
    let mut plane = Plane(spawn(&network));
    network.associate();

    for round in 0..kills() {
        let (session, fteid) = network.establish(&network.plan());
        let sent = carry(&network, fteid.teid, 100 + usize::try_from(round).unwrap());
        let now = network.now();
        network.smf.delete(now, session);
        plane = kill_within(&mut network, plane, round);

        // The control plane asks again, with the same number.
        let reports = network.until(|happened| match happened {
            Happened::Deleted { reports, .. } => Some(reports.clone()),
            Happened::Refused { .. } => panic!("round {round}: {happened:?}"),
            _ => None,
        });

        assert_eq!(volume(&reports), (sent, 0), "round {round}");
    }
    drop(plane);
}

#[test]
fn the_last_words_of_a_set_are_said_wherever_a_kill_hits() {
    let mut network = network(60);
    let mut plane = Plane(spawn(&network));
    network.associate();
    let part = FqCsid {
        node: CsidNode::V4([192, 0, 2, 7].into()),
        csids: vec![1],
        kind: None,
    };

    for round in 0..kills() {
        let (session, teid) = establish_in(&mut network, &part);
        let sent = carry(&network, teid, 100 + usize::try_from(round).unwrap());
        let now = network.now();
        network.smf.delete_sets(now, vec![part.clone()]);
        plane = kill_within(&mut network, plane, round);

        let mut told: BTreeMap<u32, UsageReport> = BTreeMap::new();
        network.until(|happened| {
            if let Happened::Reported {
                session: of,
                report,
            } = happened
                && *of == session
            {
                let reports = report.reports.iter();
                told.extend(reports.map(|report| (report.sequence, report.clone())));
            }
            let told: Vec<UsageReport> = told.values().cloned().collect();
            (volume(&told) == (sent, 0)).then_some(())
        });
    }
    drop(plane);
}

fn establish_in(network: &mut Network, part: &FqCsid) -> (Seid, Teid) {
    let plan = network.plan();
    let sets = SessionSets {
        csids: vec![part.clone()],
        group: None,
    };
    let now = network.now();
    network.smf.establish_in(now, plan.rules(), sets);
    network.until(|happened| match happened {
        Happened::Established {
            session, created, ..
        } => {
            let fteid = created.iter().find_map(|pdr| pdr.local_fteid);
            Some((*session, fteid.unwrap().teid))
        }
        Happened::Refused { .. } => panic!("{happened:?}"),
        _ => None,
    })
}
