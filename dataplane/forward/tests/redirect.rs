//! Redirected flows: what leaves, what comes back, and who gets which port.
#![expect(clippy::unwrap_used, reason = "test code")]

mod rig;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use qlink_forward::Rewrite;
use qlink_forward::nat::Timeouts;
use qlink_forward::redirect::{
    FLOW_WORDS, FlowState, Keep, Message, Readdress, RedirectLimits, RedirectRefusal, Redirects,
};
use qlink_wire::{TcpFlags, build, parse_ip, parse_tcp};

use rig::{Kind, answer, packet, whole};

const OWNER: u32 = 3;
const SECOND: u64 = 1_000_000_000;

/// The two families: subscriber, two servers that it asks, the one that it gets, a router.
const ENDS: [[&str; 5]; 2] = [
    [
        "10.45.0.2",
        "198.51.100.7",
        "198.51.100.8",
        "192.0.2.77",
        "203.0.113.9",
    ],
    [
        "2001:db8:45::2",
        "2001:db8:7::1",
        "2001:db8:7::2",
        "2001:db8:77::1",
        "2001:db8:9::9",
    ],
];

fn end(family: usize, which: usize, port: u16) -> SocketAddr {
    SocketAddr::new(ENDS[family][which].parse().unwrap(), port)
}

const UE: usize = 0;
const ASKED: usize = 1;
const OTHER: usize = 2;
const PORTAL: usize = 3;
const ROUTER: usize = 4;

/// What a restart would find.
#[derive(Default)]
struct Kept(Vec<Option<[u64; FLOW_WORDS]>>);

impl Keep for Kept {
    fn keep(&mut self, place: u32, flow: Option<&FlowState>) {
        let place = place as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = flow.map(FlowState::to_words);
    }
}

struct Lab {
    table: Redirects,
    kept: Kept,
    now_ns: u64,
}

fn limits() -> RedirectLimits {
    RedirectLimits {
        flows: 16,
        owners: 8,
        flows_per_owner: 4,
        timeouts: Timeouts::default(),
        secret: rig::SECRET,
    }
}

impl Lab {
    fn new() -> Self {
        Self {
            table: Redirects::new(limits()),
            kept: Kept::default(),
            now_ns: SECOND,
        }
    }

    /// A subscriber's packet as it leaves towards `to`.
    fn up(&mut self, packet: &[u8], to: SocketAddr) -> Result<Vec<u8>, RedirectRefusal> {
        let message = Message::from_subscriber(&parse_ip(packet).unwrap(), Some((5000, 80)));
        let to = (to.ip(), to.port());
        let edit = match message.unwrap() {
            Message::Flow(flow, signal) => {
                let (now_ns, kept) = (self.now_ns, &mut self.kept);
                self.table.away(OWNER, (&flow, signal), to, now_ns, kept)?
            }
            Message::Error(flow) => self.table.error_away(OWNER, &flow).unwrap(),
        };
        Ok(edited(edit, packet))
    }

    /// A packet from the network as its subscriber gets it; `None`: it is of no redirected flow.
    fn down(&mut self, packet: &[u8], ports: (u16, u16)) -> Option<Vec<u8>> {
        let message = Message::to_subscriber(&parse_ip(packet).unwrap(), Some(ports))?;
        let edit = match message {
            Message::Flow(flow, signal) => self.table.back(OWNER, (&flow, signal), self.now_ns)?,
            Message::Error(flow) => self.table.error_back(OWNER, &flow)?,
        };
        Some(edited(edit, packet))
    }
}

fn edited(edit: Readdress, packet: &[u8]) -> Vec<u8> {
    let mut rewrite = Rewrite::new();
    rewrite.load(packet).unwrap();
    edit.apply(&mut rewrite).unwrap();
    let left = whole(&rewrite, packet);
    rig::assert_sound(&left);
    left
}

/// The subscriber's port in a packet of its own; of an echo, its identifier.
fn own_port(kind: Kind, packet: &[u8]) -> u16 {
    rig::external_of(kind, packet).port()
}

proptest! {
    #[test]
    fn a_flow_leaves_for_its_destination_and_comes_back_as_if_it_had_not(
        family in 0..2_usize, which in 0..3_usize, payload in rig::payload(), port in 1..60_000_u16,
    ) {
        let (kind, mut lab) = (Kind::ALL[which], Lab::new());
        let (ue, asked) = (end(family, UE, port), end(family, ASKED, 80));
        let portal = end(family, PORTAL, 8080);

        let left = lab.up(&packet(kind, ue, asked, &payload), portal).unwrap();
        prop_assert_eq!(left, packet(kind, ue, portal, &payload));

        let back = lab.down(&answer(kind, portal, ue, &payload), (0, 0)).unwrap();
        prop_assert_eq!(back, answer(kind, asked, ue, &payload));
    }

    #[test]
    fn an_error_quotes_what_its_receiver_sent(
        family in 0..2_usize, which in 0..3_usize, quoted in 48..600_usize, from_router: bool,
    ) {
        let (kind, mut lab) = (Kind::ALL[which], Lab::new());
        let (ue, asked) = (end(family, UE, 5000), end(family, ASKED, 80));
        let portal = end(family, PORTAL, 80);
        let header = [20, 40][family];
        let (too_big, unreachable) = [((3, 4, 1400), (3, 3, 0)), ((2, 0, 1400), (1, 4, 0))][family];
        let sent = packet(kind, ue, asked, &[7; 500]);
        let left = lab.up(&sent, portal).unwrap();

        let cut = rig::quoted_len(kind, quoted.max(header + 8), &left, header);
        let (from, shown) = match from_router {
            true => (end(family, ROUTER, 0), end(family, ROUTER, 0)),
            false => (portal, asked),
        };
        let error = build::icmp_packet(from.ip(), ue.ip(), too_big, &left[..cut]).unwrap();
        let expected = build::icmp_packet(shown.ip(), ue.ip(), too_big, &sent[..cut]).unwrap();
        prop_assert_eq!(lab.down(&error, (0, 0)).unwrap(), expected);

        let reply = answer(kind, portal, ue, &[9; 500]);
        let shown = lab.down(&reply, (0, 0)).unwrap();
        let error = build::icmp_packet(ue.ip(), asked.ip(), unreachable, &shown[..cut]).unwrap();
        let expected = build::icmp_packet(ue.ip(), portal.ip(), unreachable, &reply[..cut]).unwrap();
        prop_assert_eq!(lab.up(&error, portal).unwrap(), expected);
    }

    #[test]
    fn fragments_go_where_their_datagram_goes(
        which in 0..2_usize, len in 1000..6000_usize, unit in 4..100_usize, id: u16,
    ) {
        let (kind, mut lab) = (Kind::ALL[which], Lab::new());
        let (ue, asked, portal) = (end(0, UE, 5000), end(0, ASKED, 80), end(0, PORTAL, 80));
        let body = vec![3; len];

        let pieces: Vec<Vec<u8>> = rig::fragments_v4(&packet(kind, ue, asked, &body), id, unit * 8)
            .iter()
            .map(|piece| lab.up(piece, portal).unwrap())
            .collect();
        let expected = packet(kind, ue, portal, &body);
        prop_assert_eq!(rig::joined(&pieces, id).unwrap(), parse_ip(&expected).unwrap().payload);

        let pieces: Vec<Vec<u8>> = rig::fragments_v4(&answer(kind, portal, ue, &body), id, unit * 8)
            .iter()
            .map(|piece| lab.down(piece, (80, 5000)).unwrap())
            .collect();
        let expected = answer(kind, asked, ue, &body);
        prop_assert_eq!(rig::joined(&pieces, id).unwrap(), parse_ip(&expected).unwrap().payload);
    }

    // Whatever flows come, each answer comes back to the one that asked.
    #[test]
    fn no_two_flows_of_a_subscriber_are_one_to_the_server(
        asks in prop::collection::vec((0..2_usize, 0..3_u16, 0..3_usize), 1..12),
    ) {
        let mut lab = Lab::new();
        lab.table = Redirects::new(RedirectLimits { flows_per_owner: 16, ..limits() });
        let mut outside = BTreeSet::new();
        let mut flows = BTreeSet::new();
        for (server, port, which) in asks {
            let (kind, ue) = (Kind::ALL[which], end(0, UE, 5000 + port));
            // The last one asks the portal itself.
            let asked = end(0, [ASKED, PORTAL][server], 80);
            let portal = end(0, PORTAL, 80);
            let left = lab.up(&packet(kind, ue, asked, b"?"), portal).unwrap();
            let own = own_port(kind, &left);
            if flows.insert((asked, ue.port(), which)) {
                prop_assert!(outside.insert((own, which)), "{own} has another flow");
            }
            let reply = answer(kind, portal, SocketAddr::new(ue.ip(), own), b"!");
            prop_assert_eq!(lab.down(&reply, (0, 0)).unwrap(), answer(kind, asked, ue, b"!"));
        }
    }

    #[test]
    fn a_kept_flow_is_read_back_as_it_was_and_anything_else_is_no_flow(
        words: [u64; FLOW_WORDS], protocol in 0..5_u64,
    ) {
        let mut words = words;
        words[0] = protocol;
        if let Some(flow) = FlowState::from_words(&words) {
            prop_assert_eq!(FlowState::from_words(&flow.to_words()), Some(flow));
        }
    }
}

#[test]
fn flows_go_on_over_a_restart_with_the_ports_that_they_had() {
    let mut lab = Lab::new();
    let (ue, portal) = (end(0, UE, 5000), end(0, PORTAL, 80));
    let asked = [end(0, ASKED, 80), end(0, OTHER, 80)];
    let left = asked.map(|asked| lab.up(&packet(Kind::Tcp, ue, asked, b""), portal).unwrap());
    let own = left.map(|left| own_port(Kind::Tcp, &left));
    assert_ne!(own[0], own[1]);

    let mut next = Lab::new();
    for (place, words) in (0..).zip(lab.kept.0.iter().flatten()) {
        let flow = FlowState::from_words(words).unwrap();
        assert!(next.table.restore(place, &flow, next.now_ns));
        assert!(!next.table.restore(place + 4, &flow, next.now_ns), "twice");
    }

    for (asked, own) in asked.into_iter().zip(own) {
        let reply = answer(Kind::Tcp, portal, SocketAddr::new(ue.ip(), own), b"");
        let back = next.down(&reply, (0, 0)).unwrap();
        assert_eq!(back, answer(Kind::Tcp, asked, ue, b""));
    }
}

#[test]
fn a_share_gives_up_its_quietest_flow_and_never_an_open_connection() {
    let mut lab = Lab::new();
    let (asked, portal) = (end(0, ASKED, 53), end(0, PORTAL, 53));
    let datagram = |port| packet(Kind::Udp, end(0, UE, port), asked, b"?");
    for port in 0..4 {
        lab.up(&datagram(5000 + port), portal).unwrap();
    }
    lab.up(&datagram(5000), portal).unwrap();

    lab.up(&datagram(6000), portal).unwrap();

    let reply = |port| answer(Kind::Udp, portal, end(0, UE, port), b"!");
    assert_eq!(lab.table.len(), 4);
    assert!(lab.down(&reply(5000), (0, 0)).is_some(), "it was used");
    assert!(lab.down(&reply(5001), (0, 0)).is_none(), "the quietest");

    lab.table.close(OWNER, &mut lab.kept);
    assert!(lab.table.is_empty() && lab.kept.0.iter().all(Option::is_none));
    for port in 0..4 {
        let ue = end(0, UE, 5000 + port);
        let left = lab.up(&packet(Kind::Tcp, ue, asked, b""), portal).unwrap();
        assert!(
            parse_tcp(parse_ip(&left).unwrap().payload)
                .unwrap()
                .flags
                .syn()
        );
        let flags = TcpFlags::SYN.union(TcpFlags::ACK);
        let fields = build::TcpFields::new(1, 8, flags);
        let opened = build::tcp_packet(portal, ue, &fields, b"").unwrap();
        lab.down(&opened, (0, 0)).unwrap();
    }
    assert_eq!(lab.up(&datagram(6000), portal), Err(RedirectRefusal::Full));
}

#[test]
fn a_flow_ends_when_its_time_is_over_and_another_owner_never_has_it() {
    let mut lab = Lab::new();
    let (ue, asked, portal) = (end(0, UE, 5000), end(0, ASKED, 53), end(0, PORTAL, 53));
    lab.up(&packet(Kind::Udp, ue, asked, b"?"), portal).unwrap();
    let reply = answer(Kind::Udp, portal, ue, b"!");
    let Some(Message::Flow(flow, signal)) =
        Message::to_subscriber(&parse_ip(&reply).unwrap(), None)
    else {
        panic!("a datagram is of a flow");
    };
    assert!(
        lab.table
            .back(OWNER + 1, (&flow, signal), lab.now_ns)
            .is_none()
    );
    assert!(lab.table.has(OWNER) && !lab.table.has(OWNER + 1));

    lab.now_ns += Timeouts::default().udp_ns;
    assert!(lab.down(&reply, (0, 0)).is_none());
    lab.table.sweep(16, lab.now_ns, &mut lab.kept);
    assert!(lab.table.is_empty() && lab.kept.0.iter().all(Option::is_none));
}

#[test]
fn another_destination_of_the_rule_is_that_of_its_flows_too() {
    let mut lab = Lab::new();
    let (ue, asked) = (end(0, UE, 5000), end(0, ASKED, 53));
    let question = packet(Kind::Udp, ue, asked, b"?");
    lab.up(&question, end(0, PORTAL, 53)).unwrap();

    let left = lab.up(&question, end(0, OTHER, 53)).unwrap();

    assert_eq!(left, packet(Kind::Udp, ue, end(0, OTHER, 53), b"?"));
    assert_eq!(lab.table.len(), 1);
}

#[test]
fn what_opens_nothing_is_not_redirected() {
    let mut lab = Lab::new();
    let (ue, asked, portal) = (end(0, UE, 5000), end(0, ASKED, 80), end(0, PORTAL, 80));
    let reset = build::TcpFields::new(1, 1, TcpFlags::RST);
    let reset = build::tcp_packet(ue, asked, &reset, b"").unwrap();

    assert_eq!(lab.up(&reset, portal), Err(RedirectRefusal::NoFlow));
    // A pong without a ping.
    let pong = answer(Kind::Echo, ue, asked, b"");
    assert_eq!(lab.up(&pong, portal), Err(RedirectRefusal::NoFlow));
    assert!(lab.table.is_empty());
}
