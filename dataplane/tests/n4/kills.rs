//! `kill -9` around the end of a session: its last usage is told, wherever it hits.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Child;
use std::time::Duration;

use qlink_meter::ArenaSet;
use qlink_pfcp::model::{NodeId, Seid, Time, UsageReport};
use qlink_pfcp::node::Timers;
use qlink_pfcp::sim::{Happened, Smf, SmfConfig};
use qlink_pfcp::wire::{CsidNode, ENTERPRISE_ID, FqCsid, MessageType, SessionSets};
use qlink_types::ids::Teid;
use qlink_wire::gpdu_header;

use crate::network::{Network, SERVER, UE, datagram, receive};
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

/// Reports by number and bytes: one that comes again is the same.
fn volumes(reports: &[UsageReport]) -> impl Iterator<Item = (u32, u64)> + '_ {
    reports.iter().map(|report| {
        let volume = report.volume.unwrap();
        (report.sequence, volume.uplink + volume.downlink)
    })
}

fn total(told: &BTreeSet<(u32, u64)>) -> u64 {
    told.iter().map(|(_, bytes)| bytes).sum()
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
fn the_last_usage_is_told_with_a_deletion_wherever_a_kill_hits() {
    let mut network = network(59);
    let mut plane = Plane(spawn(&network));
    network.associate();

    for round in 0..kills() {
        let (session, fteid) = network.establish(&network.plan());
        let sent = carry(&network, fteid.teid, 100 + usize::try_from(round).unwrap());
        let now = network.now();
        network.smf.delete(now, session);
        plane = kill_within(&mut network, plane, round);

        // The control plane asks again, with the same number. What was reported when the kill hit
        // comes by itself, before the answer.
        let mut told = BTreeSet::new();
        network.until(|happened| {
            let (reports, ended) = match happened {
                Happened::Reported {
                    session: of,
                    report,
                } if *of == session => (&report.reports, false),
                Happened::Deleted { reports, .. } => (reports, true),
                Happened::Refused { .. } => panic!("round {round}: {happened:?}"),
                _ => return None,
            };
            told.extend(volumes(reports));
            ended.then_some(())
        });

        assert_eq!(total(&told), sent, "round {round}: {told:?}");
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

        let (mut told, mut done) = (BTreeSet::new(), false);
        network.until(|happened| {
            match happened {
                Happened::Reported {
                    session: of,
                    report,
                } if *of == session => told.extend(volumes(&report.reports)),
                Happened::Done(MessageType::SESSION_SET_DELETION_REQUEST) => done = true,
                _ => {}
            }
            (done && total(&told) == sent).then_some(())
        });
    }
    drop(plane);
}

fn establish_in(network: &mut Network, part: &FqCsid) -> (Seid, Teid) {
    let sets = SessionSets {
        csids: vec![part.clone()],
        group: None,
    };
    let (session, fteid) = network.establish_in(network.plan().rules(), sets);
    (session, fteid.teid)
}
