//! Copies of a subscriber's packets for others.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use qlink_meter::ArenaSet;
use qlink_pfcp::model::{
    ApplyAction, Duplication, DuplicationChanges, FailedRule, FarChanges, Interface,
    OuterHeaderCreation, SessionChange,
};
use qlink_pfcp::sim::SessionPlan;
use qlink_pfcp::wire::{CauseCode, IeType};
use qlink_types::ids::Teid;
use qlink_wire::parse_gtpu;

use super::network::{Network, WITHIN, receive, volume};

/// Somebody who gets copies, in tunnel `teid`.
struct Listener {
    socket: UdpSocket,
    teid: Teid,
}

impl Listener {
    fn new(net: u8, host: u8, teid: u32) -> Self {
        let socket = UdpSocket::bind((IpAddr::from([127, 9, net, host]), 2152)).unwrap();
        socket.set_read_timeout(Some(WITHIN)).unwrap();
        let teid = Teid::new(teid);
        Self { socket, teid }
    }

    fn outer(&self) -> OuterHeaderCreation {
        let IpAddr::V4(v4) = self.socket.local_addr().unwrap().ip() else {
            panic!("an IPv4 listener");
        };
        OuterHeaderCreation::Gtpu {
            teid: self.teid,
            v4: Some(v4),
            v6: None,
        }
    }

    fn duplication(&self) -> Duplication {
        Duplication {
            destination: Interface::LiFunction,
            outer: Some(self.outer()),
            transport_marking: None,
        }
    }

    /// The next copy is of `packet`.
    fn hears(&self, packet: &[u8]) {
        let message = receive(&self.socket);
        let gtpu = parse_gtpu(&message).unwrap();
        assert_eq!((gtpu.teid, gtpu.payload), (self.teid.get(), packet));
    }

    /// Nothing came.
    fn hears_nothing(&self) {
        self.socket.set_nonblocking(true).unwrap();
        assert!(self.socket.recv(&mut [0; 64]).is_err(), "a copy too many");
    }
}

fn counted(network: &Network, name: &str) -> u64 {
    let totals = ArenaSet::open(&network.config.arena).unwrap().totals();
    totals.worker.get(name).copied().unwrap_or(0)
}

/// The plan's rules; packets of both directions are copied to these.
fn copied(network: &Network, to: &[&Listener]) -> SessionChange {
    let mut rules = network.plan().rules();
    for far in &mut rules.create_fars {
        far.action = ApplyAction::Forward { duplicate: true };
        far.duplicating = to.iter().map(|to| to.duplication()).collect();
    }
    rules
}

#[test]
fn every_packet_is_copied_to_each_listener_and_is_usage_once() {
    let mut network = Network::new(67);
    let running = network.start();
    network.associate();
    let listeners = [Listener::new(67, 5, 0x501), Listener::new(67, 6, 0x601)];
    let rules = copied(&network, &[&listeners[0], &listeners[1]]);
    let (session, fteid) = network.establish_rules(rules);

    let up = network.send_up(&running, fteid.teid, 100);
    assert_eq!(receive(&network.origin), up);
    let down = network.send_down(&running, 300);
    receive(&network.gnb);

    for listener in &listeners {
        listener.hears(&up);
        listener.hears(&down);
    }
    assert_eq!(volume(&network.delete(session)), (128, 328));
    assert_eq!(counted(&network, "copies_sent"), 4);
    assert_eq!(counted(&network, "copies_shed"), 0);
    let totals = ArenaSet::open(&network.config.arena).unwrap().totals();
    assert_eq!(totals.network_bytes, 128 + 328);
    running.stop();
}

/// Whether packets of the uplink are copied, and what changes in where to.
fn uplink(duplicate: bool, duplicating: Vec<DuplicationChanges>) -> SessionChange {
    SessionChange {
        update_fars: vec![FarChanges {
            id: SessionPlan::FARS[0],
            action: Some(ApplyAction::Forward { duplicate }),
            duplicating,
            ..FarChanges::default()
        }],
        ..SessionChange::default()
    }
}

#[test]
fn copies_come_and_go_with_the_flag_and_follow_their_parameters() {
    let mut network = Network::new(68);
    let running = network.start();
    network.associate();
    let (one, other) = (Listener::new(68, 5, 0x501), Listener::new(68, 6, 0x601));
    let (session, fteid) = network.establish(&network.plan());
    network.uplink(&running, fteid.teid, 10);
    let to = |listener: &Listener| DuplicationChanges {
        destination: Some(Interface::LiFunction),
        outer: Some(listener.outer()),
        transport_marking: None,
    };

    network.modify(session, uplink(true, vec![to(&one)]));
    let first = network.send_up(&running, fteid.teid, 20);
    one.hears(&first);
    network.modify(session, uplink(true, vec![to(&other)]));
    let second = network.send_up(&running, fteid.teid, 30);
    other.hears(&second);
    network.modify(session, uplink(false, Vec::new()));
    network.send_up(&running, fteid.teid, 40);
    for payload in [20, 30, 40] {
        assert_eq!(receive(&network.origin).len(), 28 + payload);
    }

    // What a restart finds is what stands.
    running.stop();
    let running = network.start();
    network.uplink(&running, fteid.teid, 50);
    one.hears_nothing();
    other.hears_nothing();
    running.stop();
}

#[test]
fn a_dropped_packet_is_copied_too() {
    let mut network = Network::new(69);
    let running = network.start();
    network.associate();
    let listener = Listener::new(69, 5, 0x501);
    let mut rules = copied(&network, &[&listener]);
    rules.create_fars[0].action = ApplyAction::Drop { duplicate: true };
    let (session, fteid) = network.establish_rules(rules);

    let up = network.send_up(&running, fteid.teid, 100);

    listener.hears(&up);
    network.until_dropped("far_drop");
    assert_eq!(volume(&network.delete(session)), (0, 0));
    running.stop();
}

#[test]
fn what_cannot_be_copied_to_is_refused_with_the_element_at_fault() {
    let mut network = Network::new(70);
    let running = network.start();
    network.associate();
    let listener = Listener::new(70, 5, 0x501);
    let [up, _] = SessionPlan::FARS;
    let with = |network: &Network, outer| {
        let mut rules = copied(network, &[&listener]);
        rules.create_fars[0].duplicating[0].outer = outer;
        rules
    };
    let at_fault = (
        CauseCode::RULE_FAILURE,
        Some(IeType::OUTER_HEADER_CREATION),
        Some(FailedRule::Far(up)),
    );

    // Without a tunnel a copy would be taken for the packet.
    let rules = with(&network, None);
    assert_eq!(network.refusal(rules), at_fault);
    let udp = OuterHeaderCreation::Udp {
        to: [127, 9, 70, 5].into(),
        port: 4000,
    };
    let rules = with(&network, Some(udp));
    assert_eq!(network.refusal(rules), at_fault);
    let ours = OuterHeaderCreation::Gtpu {
        teid: Teid::new(1),
        v4: Some(Ipv4Addr::new(127, 9, 70, 1)),
        v6: None,
    };
    let rules = with(&network, Some(ours));
    assert_eq!(network.refusal(rules), at_fault);
    let rules = copied(&network, &[&listener; 5]);
    let (cause, _, failed) = network.refusal(rules);
    let expected = (CauseCode::NO_RESOURCES_AVAILABLE, Some(FailedRule::Far(up)));
    assert_eq!((cause, failed), expected);
    running.stop();
}
