//! A viewer fetching a film over HTTP/1.1, packet by packet, and a plane to send them through.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use qlink_content::Direction;
use qlink_dataplane::contents::Copy;
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::plane::{Neighbours, Plane, PlaneLimits};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, PacketSource as _};
use qlink_meter::{ArenaSetup, CounterArena, Recovered, SessionSlot};
use qlink_pfcp::{DownlinkPath, Payer, SessionRules, Sponsor};
use qlink_types::ids::{ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::package::RepeatPolicy;
use qlink_types::units::{Bytes, Incarnation, PackageEpoch};
use qlink_wire::build::{TcpFields, gpdu_packet, tcp_packet};
use qlink_wire::{LinkType, TcpFlags};

pub(crate) const SLOT: SessionSlot = SessionSlot::new(3);
pub(crate) const UE: &str = "10.45.0.2:40000";
pub(crate) const ORIGIN: &str = "192.0.2.9:80";
pub(crate) const BASESTATION: &str = "127.0.0.2:2152";
pub(crate) const GATEWAY: &str = "127.0.0.1:2152";
pub(crate) const N6_PEER: &str = "127.0.0.3:5000";
pub(crate) const SEGMENT: usize = 1400;

pub(crate) const LIMITS: PlaneLimits = PlaneLimits {
    sessions: 8,
    flows: 4,
    views: 8,

    urrs: 0,
};

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Bytes that do not compress and differ from place to place.
pub(crate) fn film(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) fn content_of(film: &[u8]) -> (ContentId, Copy) {
    let id = ContentId::new(*blake3::hash(film).as_bytes());
    (id, Copy::Owned(Arc::from(film)))
}

/// A sponsored session whose uplink endpoint lies in [`SLOT`].
pub(crate) fn rules(film: &[u8], payer: Payer) -> SessionRules {
    SessionRules {
        session: SessionId::new([1; 16]),
        teid: Some(Teid::new(SLOT.get() << 8 | 0x55)),
        ue: address(UE).ip(),
        path: DownlinkPath {
            peer: address(BASESTATION),
            downlink_teid: Teid::new(77),
        },
        basestation: None,
        sponsor: Some(Sponsor {
            package: PackageId::new([2; 16]),
            package_epoch: PackageEpoch::ZERO,
            viewer: ViewerKey::new([3; 32]),
            contents: vec![content_of(film).0].try_into().unwrap(),
            origins: Vec::new().try_into().unwrap(),
            limit: Bytes::new(film.len() as u64),
            repeat: RepeatPolicy::ChargeUser,
        }),
        payer,
    }
}

pub(crate) const fn personal(limit: u64) -> Payer {
    Payer::Personal {
        package: PackageId::new([4; 16]),
        package_epoch: PackageEpoch::ZERO,
        viewer: ViewerKey::new([5; 32]),
        limit: Bytes::new(limit),
    }
}

pub(crate) fn neighbours() -> Neighbours {
    Neighbours {
        own: vec![IpAddr::from([127, 0, 0, 1])],
        n6_peer: address(N6_PEER),
        n3: Vec::new(),
        access: Vec::new(),
    }
}

/// Opens the plane on `arena` as a starting process does.
pub(crate) fn open(arena: &Path, rules: &SessionRules, film: &[u8]) -> (Plane, Recovered) {
    let setup = ArenaSetup {
        layout: LIMITS.layout(),
        incarnation: Incarnation::new(1),
        shards: 1,
    };
    let (arena, recovered) = CounterArena::open(arena, setup).unwrap();
    let mut plane = Plane::new(LIMITS, arena, neighbours());
    let copies = vec![content_of(film)];
    if recovered.sessions.is_empty() {
        plane.establish(SLOT, rules, copies).unwrap();
    } else {
        plane.resume(SLOT, rules, copies, &recovered).unwrap();
    }
    (plane, recovered)
}

/// A plane whose counters live in memory.
pub(crate) fn in_memory(rules: &SessionRules, film: &[u8]) -> Plane {
    let arena = CounterArena::in_memory(LIMITS.layout());
    let mut plane = Plane::new(LIMITS, arena, neighbours());
    plane
        .establish(SLOT, rules, vec![content_of(film)])
        .unwrap();
    plane
}

/// What left a plane.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) n3: MemSink,
    pub(crate) n6: MemSink,
}

/// Sends inner packets of one direction through the plane as one source.
pub(crate) fn pass(
    plane: &mut Plane,
    direction: Direction,
    packets: &[Vec<u8>],
    now_ns: u64,
) -> Sent {
    let side = match direction {
        Direction::Uplink => Side::N3,
        Direction::Downlink => Side::N6,
    };
    let frames = match direction {
        Direction::Uplink => packets.iter().map(|inner| uplink(inner)).collect(),
        Direction::Downlink => packets.to_vec(),
    };
    let mut source = MemSource::new(frames, LinkType::RawIp, 1);
    let mut ports = Ports {
        n3: MemSink::keeping(),
        n6: MemSink::keeping(),
    };
    let mut burst = Burst::new();
    while source.recv_burst(&mut burst).is_ok() {
        process_burst(plane, side, &source, &burst, &mut ports, now_ns);
    }
    Sent {
        n3: ports.n3,
        n6: ports.n6,
    }
}

/// An inner packet in the session's uplink tunnel, outer headers included.
pub(crate) fn uplink(inner: &[u8]) -> Vec<u8> {
    let teid = SLOT.get() << 8 | 0x55;
    gpdu_packet(address(BASESTATION), address(GATEWAY), teid, inner).unwrap()
}

/// The packets of one download in order: handshake, request, body with one acknowledgement per
/// two segments, close.
pub(crate) fn download(film: &[u8]) -> Vec<(Direction, Vec<u8>)> {
    download_to(address(UE), film)
}

/// [`download`] of another viewer.
pub(crate) fn download_to(ue: SocketAddr, film: &[u8]) -> Vec<(Direction, Vec<u8>)> {
    let origin = address(ORIGIN);
    let (mut up, mut down) = (1_000_u32, 9_000_u32);
    let mut packets = Vec::new();
    let mut send = |direction, seq: u32, ack: u32, flags: TcpFlags, payload: &[u8]| {
        let (from, to) = match direction {
            Direction::Uplink => (ue, origin),
            Direction::Downlink => (origin, ue),
        };
        let fields = TcpFields::new(seq, ack, flags);
        packets.push((direction, tcp_packet(from, to, &fields, payload).unwrap()));
    };
    let syn_ack = TcpFlags::SYN.union(TcpFlags::ACK);
    let fin_ack = TcpFlags::FIN.union(TcpFlags::ACK);
    send(Direction::Uplink, up, 0, TcpFlags::SYN, &[]);
    up = up.wrapping_add(1);
    send(Direction::Downlink, down, up, syn_ack, &[]);
    down = down.wrapping_add(1);
    send(Direction::Uplink, up, down, TcpFlags::ACK, &[]);
    let request = b"GET /film HTTP/1.1\r\nHost: films.example\r\n\r\n";
    send(Direction::Uplink, up, down, TcpFlags::ACK, request);
    up = up.wrapping_add(u32::try_from(request.len()).unwrap());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", film.len());
    send(
        Direction::Downlink,
        down,
        up,
        TcpFlags::ACK,
        head.as_bytes(),
    );
    down = down.wrapping_add(u32::try_from(head.len()).unwrap());
    send(Direction::Uplink, up, down, TcpFlags::ACK, &[]);
    for (number, segment) in film.chunks(SEGMENT).enumerate() {
        send(Direction::Downlink, down, up, TcpFlags::ACK, segment);
        down = down.wrapping_add(u32::try_from(segment.len()).unwrap());
        if number % 2 == 1 {
            send(Direction::Uplink, up, down, TcpFlags::ACK, &[]);
        }
    }
    send(Direction::Uplink, up, down, fin_ack, &[]);
    up = up.wrapping_add(1);
    send(Direction::Downlink, down, up, fin_ack, &[]);
    down = down.wrapping_add(1);
    send(Direction::Uplink, up, down, TcpFlags::ACK, &[]);
    packets
}
