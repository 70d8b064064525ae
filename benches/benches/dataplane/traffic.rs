//! Sessions and packets: subscribers in 10.0.0.0/8, their TEIDs, and what their packets look like
//! on the wire.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use qlink_benches::Random;
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::plane::{Neighbours, Plane, PlaneLimits};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, PacketSource as _};
use qlink_meter::{CounterArena, SessionSlot, WorkerCounter};
use qlink_pfcp::{DownlinkPath, Payer, SessionRules};
use qlink_types::ids::{SessionId, Teid};
use qlink_wire::build::{GtpuMessage, LinkFrame, TcpFields, tcp_packet, udp_packet};
use qlink_wire::{LinkType, PduSessionInfo, TcpFlags};

/// Inner TCP payload of a plain packet, bytes.
pub(crate) const PAYLOAD: usize = 512;
/// Packets of one [`Plain::pass`].
pub(crate) const PASS_PACKETS: u32 = 64;
/// Content flows that a plane has room for: the default of the configuration.
pub(crate) const FLOWS: u32 = 256;

pub(crate) const ORIGIN: SocketAddr = v4([192, 0, 2, 9], 80);
pub(crate) const BASESTATION: SocketAddr = v4([127, 0, 0, 2], 2152);
const GATEWAY: SocketAddr = v4([127, 0, 0, 1], 2152);
const N6_PEER: SocketAddr = v4([127, 0, 0, 3], 5000);

const fn v4([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// The subscriber of session `number`.
pub(crate) fn subscriber(number: u32) -> SocketAddr {
    let address = Ipv4Addr::from(0x0a00_0001_u32.saturating_add(number));
    SocketAddr::new(IpAddr::V4(address), 40_000)
}

/// A TEID of ours for session `number`: shard 0, its slot, a generation.
pub(crate) const fn own_teid(number: u32) -> Teid {
    Teid::new(number << 8 | 0x55)
}

pub(crate) fn neighbours() -> Neighbours {
    Neighbours {
        own: vec![GATEWAY.ip()],
        n6_peer: N6_PEER,
        n3: Vec::new(),
        access: Vec::new(),
    }
}

/// Session `number` without sponsor, charged by its operator.
pub(crate) fn plain_rules(number: u32) -> SessionRules {
    SessionRules {
        session: SessionId::new(u128::from(number).to_be_bytes()),
        teid: Some(own_teid(number)),
        ue: subscriber(number).ip(),
        path: DownlinkPath {
            peer: BASESTATION,
            downlink_teid: Teid::new(number.saturating_add(1)),
        },
        basestation: None,
        sponsor: None,
        payer: Payer::Operator,
    }
}

/// Bounds of a plane for `sessions` sessions.
pub(crate) const fn limits(sessions: u32) -> PlaneLimits {
    PlaneLimits {
        sessions,
        flows: FLOWS,
        views: 1,
        urrs: 0,
    }
}

/// A plane for `sessions` sessions and `spare` more, on `arena`, with `sessions` plain ones.
fn plain_plane(sessions: u32, spare: u32, arena: CounterArena) -> Plane {
    let limits = limits(sessions.saturating_add(spare));
    let mut plane = Plane::new(limits, arena, neighbours());
    for number in 0..sessions {
        plane
            .establish(SessionSlot::new(number), &plain_rules(number), Vec::new())
            .unwrap();
    }
    plane
}

/// An inner packet of session `number` as it comes from a 5G BaseStation:
/// Ethernet, IPv4, UDP, GTP-U with PDU session container.
pub(crate) fn uplink_frame(number: u32, inner: &[u8]) -> Vec<u8> {
    let container = PduSessionInfo {
        qfi: 9,
        downlink: false,
    };
    let message = GtpuMessage::gpdu(own_teid(number).get())
        .with_pdu_session(container)
        .encode(inner)
        .unwrap();
    let packet = udp_packet(BASESTATION, GATEWAY, &message).unwrap();
    LinkFrame::new(LinkType::Ethernet).wrap(&packet).unwrap()
}

/// A plain TCP segment of session `number` in its tunnel.
pub(crate) fn plain_uplink(number: u32) -> Vec<u8> {
    let fields = TcpFields::new(1, 1, TcpFlags::ACK);
    let inner = tcp_packet(subscriber(number), ORIGIN, &fields, &[0x5a; PAYLOAD]).unwrap();
    uplink_frame(number, &inner)
}

/// Frames of randomly chosen sessions: as many as there are sessions, at least 4096, so that a
/// round meets most sessions and none is met twice in a burst more often than by chance.
pub(crate) fn plain_uplinks(sessions: u32) -> Vec<Vec<u8>> {
    let mut random = Random::new(u64::from(sessions));
    let frames = sessions.next_multiple_of(32).max(4096);
    (0..frames)
        .map(|_| plain_uplink(random.below(sessions)))
        .collect()
}

/// The pipeline with plain sessions and endless uplink traffic of theirs.
pub(crate) struct Plain {
    plane: Plane,
    source: MemSource,
    ports: Ports<MemSink, MemSink>,
    burst: Burst,
}

impl Plain {
    pub(crate) fn new(sessions: u32) -> Self {
        let arena = CounterArena::in_memory(limits(sessions).layout());
        Self::on(arena, sessions, 0)
    }

    /// As [`Self::new`], on an arena with room for `spare` sessions more.
    pub(crate) fn on(arena: CounterArena, sessions: u32, spare: u32) -> Self {
        Self {
            plane: plain_plane(sessions, spare, arena),
            source: MemSource::new(plain_uplinks(sessions), LinkType::Ethernet, u64::MAX),
            ports: Ports {
                n3: MemSink::new(),
                n6: MemSink::new(),
            },
            burst: Burst::new(),
        }
    }

    /// The plane under traffic.
    #[allow(dead_code, reason = "not every bench changes sessions")]
    pub(crate) const fn plane_mut(&mut self) -> &mut Plane {
        &mut self.plane
    }

    /// Two bursts from frame to transmit. The source brings the next one's headers into the cache
    /// meanwhile, as a network card puts frames there before it tells of them.
    pub(crate) fn pass(&mut self) {
        self.half();
        self.half();
    }

    fn half(&mut self) {
        self.source.recv_burst(&mut self.burst).unwrap();
        let now_ns = self
            .burst
            .iter()
            .next()
            .map_or(0, |first| first.timestamp_ns);
        process_burst(
            &mut self.plane,
            Side::N3,
            &self.source,
            &self.burst,
            &mut self.ports,
            now_ns,
        );
    }

    /// A figure counts only if nothing was dropped.
    pub(crate) fn assert_all_passed(&self) {
        let received = self.plane.arena().counter(WorkerCounter::ReceivedPackets);
        assert_eq!(self.ports.n6.packets(), received);
    }
}
