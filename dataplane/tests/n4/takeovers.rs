//! A set of SMFs of which one ends without a word: another one has its sessions, over sockets, with an
//! association of its own (MPAS) or with that of the set (SSET).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use qlink_pfcp::model::{NodeId, Seid, SessionChange, SmfSetId, Time, Trigger};
use qlink_pfcp::node::Timers;
use qlink_pfcp::sim::{Happened, SessionPlan, Smf, SmfConfig};
use qlink_pfcp::wire::{CauseCode, ENTERPRISE_ID, UpFeatures};
use qlink_types::ids::Teid;

use super::network::{Network, Running, volume};

/// The set that shares its sessions.
fn set() -> SmfSetId {
    SmfSetId("set-1.smf.example".to_owned())
}

/// Functions 4 and 5 of the network are of one set.
fn function(net: u8, host: u8, node: NodeId) -> Smf {
    Smf::new(SmfConfig {
        node,
        address: IpAddr::from([127, 9, net, host]),
        recovery: Time::new(1_700_000_000),
        peer: SocketAddr::new(IpAddr::from([127, 9, net, 1]), 8805),
        timers: Timers {
            t1: Duration::from_millis(300),
            ..Timers::default()
        },
        enterprise: ENTERPRISE_ID,
    })
    .in_set(set())
}

/// Reports go to port 8805 of a session's address; requests come from there too.
fn listen(net: u8, host: u8) -> UdpSocket {
    let socket = UdpSocket::bind((IpAddr::from([127, 9, net, host]), 8805)).unwrap();
    let pause = Some(Duration::from_millis(100));
    socket.set_read_timeout(pause).unwrap();
    socket
}

/// The network with a function of a set, and the second function of it.
fn network(net: u8, name: impl Fn(u8) -> NodeId, together: bool) -> (Network, Smf) {
    let mut network = Network::new(net);
    let mut config = serde_json::to_value(&network.config).unwrap();
    config["pfcp"]["requests_to"] = "standard".into();
    network.config = serde_json::from_value(config).unwrap();
    network.smf_socket = listen(net, 4);
    let [one, other] = [4, 5].map(|host| {
        let smf = function(net, host, name(host));
        match together {
            true => smf.together_with(vec![IpAddr::from([127, 9, net, 9 - host])]),
            false => smf,
        }
    });
    network.smf = one;
    (network, other)
}

fn by_address(net: u8) -> impl Fn(u8) -> NodeId {
    move |host| NodeId::V4(Ipv4Addr::new(127, 9, net, host))
}

fn of_the_set(_: u8) -> NodeId {
    NodeId::Fqdn(set().0)
}

fn features(network: &mut Network) -> UpFeatures {
    let now = network.now();
    network.smf.associate(now);
    network.until(|happened| match happened {
        Happened::Associated { features, .. } => Some(*features),
        _ => None,
    })
}

/// Carries a datagram up, which reaches the threshold, until it is reported; bytes in the report.
fn reported(network: &mut Network, running: &Running, teid: Teid, session: Seid) -> u64 {
    network.uplink(running, teid, 400);
    network.until(|happened| match happened {
        Happened::Reported {
            session: of,
            report,
        } if *of == session => {
            let due = |usage: &&qlink_pfcp::model::UsageReport| {
                usage.triggers.has(Trigger::VolumeThreshold)
            };
            let usage = report.reports.iter().find(due)?;
            Some(usage.volume.unwrap().uplink)
        }
        _ => None,
    })
}

/// The first function ends; the second one, which knows its sessions, goes on.
fn end_the_first(network: &mut Network, mut second: Smf, net: u8) {
    second.learn_from(&network.smf);
    network.smf = second;
    // Nobody listens where the first one was.
    network.smf_socket = listen(net, 5);
    network.heard.clear();
}

/// What happened to a session that one function opened and the other ended.
fn taken_over(mut network: Network, second: Smf, net: u8, together: bool) {
    let running = network.start();
    let features = features(&mut network);
    assert!(features.has(UpFeatures::MPAS) && features.has(UpFeatures::SSET));
    let plan = SessionPlan {
        threshold: Some(300),
        ..network.plan()
    };
    let (session, fteid) = network.establish(&plan);
    assert_eq!(reported(&mut network, &running, fteid.teid, session), 428);

    end_the_first(&mut network, second, net);
    if !together {
        network.associate();
    }
    let now = network.now();
    network
        .smf
        .take_over(now, session, SessionChange::default());
    network.until(|happened| match happened {
        Happened::Modified { .. } => Some(()),
        Happened::Refused { .. } => panic!("{happened:?}"),
        _ => None,
    });

    assert_eq!(reported(&mut network, &running, fteid.teid, session), 428);
    // A restart of the gateway knows whose it is.
    running.stop();
    let running = network.start();
    assert_eq!(reported(&mut network, &running, fteid.teid, session), 428);
    network.uplink(&running, fteid.teid, 100);
    assert_eq!(volume(&network.delete(session)), (128, 0));
    running.stop();
}

#[test]
fn a_function_of_a_set_takes_over_with_an_association_of_its_own() {
    let (network, second) = network(71, by_address(71), false);

    taken_over(network, second, 71, false);
}

#[test]
fn a_function_of_a_set_takes_over_with_the_association_of_the_set() {
    let (network, second) = network(72, of_the_set, true);

    taken_over(network, second, 72, true);
}

#[test]
fn who_is_not_of_the_set_gets_nothing() {
    let (mut network, _) = network(73, of_the_set, true);
    let running = network.start();
    network.associate();
    let (session, fteid) = network.establish(&network.plan());
    let mut stranger = function(73, 6, of_the_set(6));
    stranger.learn_from(&network.smf);
    let own = std::mem::replace(&mut network.smf, stranger);
    let socket = std::mem::replace(&mut network.smf_socket, listen(73, 6));

    let now = network.now();
    network.smf.delete(now, session);
    let refused = network.until(|happened| match happened {
        Happened::Refused { cause, .. } => Some(*cause),
        Happened::Deleted { .. } => panic!("{happened:?}"),
        _ => None,
    });

    assert_eq!(refused, CauseCode::NO_ESTABLISHED_ASSOCIATION);
    (network.smf, network.smf_socket) = (own, socket);
    network.uplink(&running, fteid.teid, 100);
    assert_eq!(volume(&network.delete(session)), (128, 0));
    running.stop();
}
