use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, IoError, PacketSource as _};
use qlink_meter::{CounterArena, DropReason, WorkerCounter};
use qlink_pfcp::{DownlinkPath, Payer, SessionRules};
use qlink_types::ids::{PackageId, SessionId, ViewerKey};
use qlink_types::units::{Bytes, PackageEpoch};
use qlink_wire::build::{GtpuMessage, LinkFrame, TcpFields, tcp_packet, udp_packet};
use qlink_wire::{LinkType, PduSessionInfo, TcpFlags};

use super::*;
use crate::pipeline::{Ports, process_burst};
use crate::plane::{Neighbours, PlaneLimits};
use crate::trace::{Ring, Tap};

const GATEWAY: [u8; 4] = [127, 0, 0, 1];
const BASESTATION: [u8; 4] = [127, 0, 0, 2];
const ORIGIN: [u8; 4] = [192, 0, 2, 9];
/// Sessions; one more TEID belongs to none.
const SESSIONS: u32 = 6;
/// A slot without a session.
const NOBODY: SessionSlot = SessionSlot::new(7);

/// Of a trace that sees nothing.
static RING: LazyLock<Arc<Ring>> = LazyLock::new(|| Arc::new(Ring::new()));

fn at(address: [u8; 4], port: u16) -> SocketAddr {
    (address, port).into()
}

fn subscriber(number: u32) -> [u8; 4] {
    [10, 0, 0, u8::try_from(number).unwrap()]
}

/// The last session has a TEID that is not of our making.
fn teid(number: u32) -> u32 {
    if number == SESSIONS - 1 {
        0xdead_beef
    } else {
        number << 8 | 0x55
    }
}

/// Two plain sessions; one with a limit, one that nobody pays for, one whose flows may be proven,
/// and one that is found elsewhere.
fn plane(urrs: u32) -> Plane {
    let limits = PlaneLimits {
        sessions: 8,
        flows: 8,
        views: 2,
        urrs,
    };
    let neighbours = Neighbours {
        own: vec![GATEWAY.into()],
        n6_peer: at([127, 0, 0, 3], 5000),
        n3: Vec::new(),
        access: Vec::new(),
    };
    let arena = CounterArena::in_memory(limits.layout());
    let mut plane = Plane::new(limits, arena, neighbours);
    for number in 0..SESSIONS {
        let payer = match number {
            2 => Payer::Personal {
                package: PackageId::new([4; 16]),
                package_epoch: PackageEpoch::ZERO,
                viewer: ViewerKey::new([5; 32]),
                limit: Bytes::new(700),
            },
            3 => Payer::Block,
            _ => Payer::Operator,
        };
        let rules = SessionRules {
            session: SessionId::new(u128::from(number).to_be_bytes()),
            teid: Some(Teid::new(teid(number))),
            ue: subscriber(number).into(),
            path: DownlinkPath {
                peer: at(BASESTATION, 2152),
                downlink_teid: Teid::new(number + 1),
            },
            basestation: None,
            sponsor: None,
            payer,
        };
        let slot = SessionSlot::new(number);
        plane.establish(slot, &rules, Vec::new()).unwrap();
    }
    plane.sessions.sponsor(SessionSlot::new(4));
    plane
}

/// A packet of a session as its BaseStation sends it, if nothing is changed.
#[derive(Debug, Clone)]
struct Frame {
    session: u32,
    is_tcp: bool,
    container: bool,
    payload: usize,
    dst: ([u8; 4], u16),
    peer: [u8; 4],
    spoofed: bool,
    change: Option<(usize, u8)>,
    cut: usize,
}

impl Frame {
    const fn of(session: u32) -> Self {
        Self {
            session,
            is_tcp: true,
            container: true,
            payload: 100,
            dst: (ORIGIN, 80),
            peer: BASESTATION,
            spoofed: false,
            change: None,
            cut: 0,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let number = if self.spoofed { 77 } else { self.session };
        let (from, to) = (at(subscriber(number), 40_000), at(self.dst.0, self.dst.1));
        let payload = vec![7; self.payload];
        let inner = if self.is_tcp {
            let fields = TcpFields::new(1, 1, TcpFlags::ACK);
            tcp_packet(from, to, &fields, &payload).unwrap()
        } else {
            udp_packet(from, to, &payload).unwrap()
        };
        let mut message = GtpuMessage::gpdu(teid(self.session));
        if self.container {
            message = message.with_pdu_session(PduSessionInfo {
                qfi: 9,
                downlink: false,
            });
        }
        let message = message.encode(&inner).unwrap();
        let packet = udp_packet(at(self.peer, 2152), at(GATEWAY, 2152), &message).unwrap();
        let mut frame = LinkFrame::new(LinkType::Ethernet).wrap(&packet).unwrap();
        if let Some((place, value)) = self.change {
            let length = frame.len();
            frame[place % length] = value;
        }
        frame.truncate(frame.len() - self.cut.min(frame.len()));
        frame
    }
}

/// Mostly sound packets, and every way of being none that the plain way has to leave alone.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let dst_port = prop::sample::select(vec![80, 443, 2152, 8805, 2123]);
    let dst = prop::sample::select(vec![ORIGIN, ORIGIN, ORIGIN, GATEWAY]);
    let peer = prop_oneof![9 => Just(BASESTATION), 1 => Just([127, 0, 0, 9])];
    let change = prop_oneof![
        6 => Just(None),
        1 => (0_usize..100, any::<u8>()).prop_map(Some),
    ];
    let cut = prop_oneof![9 => Just(0_usize), 1 => 0_usize..120];
    let frame = (
        prop_oneof![3 => 0_u32..2, 2 => 0..=SESSIONS],
        (any::<bool>(), prop::bool::weighted(0.8)),
        0_usize..200,
        (dst, dst_port),
        peer,
        prop::bool::weighted(0.05),
        (change, cut),
    );
    let frame = frame.prop_map(
        |(session, (is_tcp, container), payload, dst, peer, spoofed, (change, cut))| Frame {
            session,
            is_tcp,
            container,
            payload,
            dst,
            peer,
            spoofed,
            change,
            cut,
        },
    );
    // Runs of sound packets of plain sessions, so that whole bursts are taken too.
    let sound = (0_u32..2).prop_map(Frame::of);
    let either = prop_oneof![
        prop::collection::vec(frame, 0..40),
        prop::collection::vec(sound, 0..40),
    ];
    prop::collection::vec(either, 1..4).prop_map(|runs| runs.concat())
}

/// A port that takes, call by call, as many packets as a list says; none: it refuses the first.
#[derive(Debug)]
struct Choosy {
    takes: Vec<usize>,
    calls: usize,
    sink: MemSink,
}

impl Choosy {
    fn new(takes: &[usize]) -> Self {
        Self {
            takes: takes.to_vec(),
            calls: 0,
            sink: MemSink::keeping(),
        }
    }
}

impl PacketSink for Choosy {
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        let take = self.takes[self.calls % self.takes.len()];
        self.calls += 1;
        if take == 0 {
            return Err(IoError::Refused {
                len: items[0].len(),
                to: items[0].to,
                source: std::io::Error::other("too long"),
            });
        }
        self.sink.send_burst(&items[..take.min(items.len())])
    }
}

/// Everything that can be seen of a plane after some frames.
fn play(mut plane: Plane, frames: &[Frame], takes: &[usize]) -> (MemSink, String) {
    let frames = frames.iter().map(Frame::bytes).collect();
    let mut source = MemSource::new(frames, LinkType::Ethernet, 1);
    let mut ports = Ports {
        n3: MemSink::keeping(),
        n6: Choosy::new(takes),
    };
    let mut burst = Burst::new();
    while source.recv_burst(&mut burst).is_ok() {
        process_burst(&mut plane, Side::N3, &source, &burst, &mut ports, 1);
    }
    let usage = (0..SESSIONS).map(|number| plane.usage(SessionSlot::new(number)));
    let drops = DropReason::all().map(|reason| plane.arena.drops(reason));
    let counters = WorkerCounter::ALL
        .iter()
        .map(|counter| plane.arena.counter(*counter));
    let seen = (
        usage.collect::<Vec<_>>(),
        drops.collect::<Vec<_>>(),
        counters.collect::<Vec<_>>(),
        ports.n3.packets(),
    );
    (ports.n6.sink, format!("{seen:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_plain_way_does_what_the_general_way_does(
        frames in frames(),
        takes in prop::collection::vec(prop_oneof![3 => Just(32_usize), 1 => 0_usize..32], 1..4),
    ) {
        for urrs in [0, 8] {
            let (plain, mut general) = (plane(urrs), plane(urrs));
            // While anything is traced, every burst goes the general way.
            let ring = Arc::clone(&RING);
            let traced = general.tracer.begin(Tap { slot: NOBODY, ring });
            prop_assert!(traced);

            let (plain_sent, plain_seen) = play(plain, &frames, &takes);
            let (general_sent, general_seen) = play(general, &frames, &takes);

            prop_assert_eq!(plain_sent.kept(), general_sent.kept());
            prop_assert_eq!(plain_seen, general_seen);
        }
    }
}

/// How many of these packets the plain way takes.
fn taken(frames: &[Frame]) -> usize {
    let mut plane = plane(0);
    let frames: Vec<Vec<u8>> = frames.iter().map(Frame::bytes).collect();
    let mut source = MemSource::new(frames, LinkType::Ethernet, 1);
    let mut burst = Burst::new();
    source.recv_burst(&mut burst).unwrap();
    let mut parsed = [Parsed::Empty; BURST_MAX];
    for (place, descriptor) in parsed.iter_mut().zip(&burst) {
        let frame = source.frame(descriptor);
        plane.parse(Side::N3, descriptor, frame, place);
    }
    let parsed = &parsed[..burst.len()];
    assert_eq!(
        plane.is_plain(Side::N3, parsed),
        matches!(parsed[0], Parsed::Usual { .. })
    );
    let mut items = plane.plain_items();
    plane.take_plain(parsed, &mut items).count
}

#[test]
fn packets_of_plain_sessions_are_taken_up_to_the_first_other_one() {
    let plain = [Frame::of(0), Frame::of(1)];
    let bare = Frame {
        container: false,
        ..Frame::of(0)
    };
    let udp = Frame {
        is_tcp: false,
        ..Frame::of(1)
    };
    let sound = [plain.to_vec(), vec![bare, udp]].concat();
    assert_eq!(taken(&sound), 4);

    for session in 2..=SESSIONS {
        let mixed = [plain.to_vec(), vec![Frame::of(session)], plain.to_vec()].concat();
        assert_eq!(taken(&mixed), 2, "session {session}");
    }
    let to_us = Frame {
        dst: (GATEWAY, 80),
        ..Frame::of(0)
    };
    let spoofed = Frame {
        spoofed: true,
        ..Frame::of(0)
    };
    let peer = Frame {
        peer: [127, 0, 0, 9],
        ..Frame::of(0)
    };
    for other in [to_us, spoofed, peer] {
        assert_eq!(taken(&[Frame::of(1), other.clone()]), 1, "{other:?}");
    }
}
