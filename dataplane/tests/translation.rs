//! Subscribers behind public addresses: what leaves, what comes back, what is counted, what is
//! refused, and what the log of port blocks says.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod film;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use film::{
    GATEWAY, ORIGIN, SLOT, UE, address, download, film as bytes_of, in_memory, pass, rules,
};
use qlink_content::Direction;
use qlink_dataplane::MtuConfig;
use qlink_dataplane::export::ipfix::PortBlockRecord;
use qlink_dataplane::forwarding::{ForwardingSetup, NatSetup, NatTable, WorkerShare};
use qlink_dataplane::plane::Plane;
use qlink_meter::{DropReason, WorkerCounter};
use qlink_pfcp::{Payer, SessionRules};
use qlink_types::units::Bytes;
use qlink_wire::build::{TcpFields, fragment_packet, tcp_packet, udp_packet};
use qlink_wire::checksum::transport_checksum;
use qlink_wire::{
    Reassembler, ReassemblyLimits, TcpFlags, parse_gtpu, parse_ip, parse_tcp, parse_udp,
};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const UE6: &str = "[2001:db8:45::2]:40000";
/// [`ORIGIN`] under the well-known prefix.
const ORIGIN64: &str = "[64:ff9b::c000:209]:80";

/// Translation as configured by `keys`, of one worker.
fn setup(keys: &serde_json::Value) -> ForwardingSetup {
    let mut value = serde_json::json!({ "pool": ["198.51.100.7"], "log": "none" });
    for (key, of) in keys.as_object().unwrap() {
        value[key] = of.clone();
    }
    let table: NatTable = serde_json::from_value(value).unwrap();
    ForwardingSetup {
        mtu: MtuConfig::default(),
        n3: address(GATEWAY).ip(),
        nat: Some(NatSetup {
            table,
            share: WorkerShare {
                worker: 0,
                workers: 1,
                sessions: 8,
                secret: 5,
            },
            blocks: None,
            log: None,
        }),
    }
}

fn plane_of(rules: &SessionRules, film: &[u8], setup: &ForwardingSetup) -> Plane {
    let mut plane = in_memory(rules, film);
    plane.set_forwarding(setup).unwrap();
    plane
}

fn plane(setup: &ForwardingSetup) -> Plane {
    plane_of(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10), setup)
}

fn plane_v6(setup: &ForwardingSetup) -> Plane {
    let rules = SessionRules {
        ue: address(UE6).ip(),
        ..rules(&bytes_of(10), Payer::Operator)
    };
    plane_of(&rules, &bytes_of(10), setup)
}

fn drops(plane: &Plane) -> Vec<(&'static str, u64)> {
    DropReason::all()
        .map(|reason| (reason.name(), plane.arena().drops(reason)))
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

fn datagram(from: SocketAddr, to: SocketAddr, payload: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..payload).map(|at| at.to_be_bytes()[7]).collect();
    udp_packet(from, to, &bytes).unwrap()
}

/// Source, destination and payload of a UDP or TCP packet whose checksums hold.
fn ends(packet: &[u8]) -> (SocketAddr, SocketAddr) {
    let ip = parse_ip(packet).unwrap();
    assert_eq!(ip.total_len as usize, packet.len());
    assert_eq!(
        transport_checksum(ip.src, ip.dst, ip.protocol, ip.payload),
        0
    );
    let (from, to) = match parse_udp(ip.payload) {
        Ok(udp) if ip.protocol == 17 => (udp.src_port, udp.dst_port),
        _ => {
            let tcp = parse_tcp(ip.payload).unwrap();
            (tcp.src_port, tcp.dst_port)
        }
    };
    (SocketAddr::new(ip.src, from), SocketAddr::new(ip.dst, to))
}

fn up(plane: &mut Plane, packet: Vec<u8>, now_ns: u64) -> Vec<Vec<u8>> {
    let sent = pass(plane, Direction::Uplink, &[packet], now_ns);
    sent.n6
        .kept()
        .iter()
        .map(|packet| packet.bytes.clone())
        .collect()
}

fn down(plane: &mut Plane, packets: &[Vec<u8>], now_ns: u64) -> Vec<Vec<u8>> {
    let sent = pass(plane, Direction::Downlink, packets, now_ns);
    let kept = sent.n3.kept().iter();
    kept.map(|packet| parse_gtpu(&packet.bytes).unwrap().payload.to_vec())
        .collect()
}

fn together(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut reassembler = Reassembler::new(ReassemblyLimits::default());
    let mut payload = None;
    for fragment in fragments {
        let ip = parse_ip(fragment).unwrap();
        let whole = reassembler.push(&ip, 0).unwrap();
        payload = whole.map(|whole| whole.payload.to_vec());
    }
    payload.unwrap()
}

#[test]
fn an_origin_sees_the_public_address_and_its_answer_finds_the_subscriber() {
    let mut plane = plane(&setup(&serde_json::json!({})));
    let (ue, origin) = (address(UE), address(ORIGIN));

    let out = up(&mut plane, datagram(ue, origin, 100), 0);
    let (public, to) = ends(&out[0]);
    let back = down(&mut plane, &[datagram(origin, public, 200)], 0);

    assert_eq!((public.ip(), to), (IpAddr::from(PUBLIC), origin));
    assert!(public.port() >= 1024 && public.port() != ue.port());
    assert_eq!(ends(&back[0]), (origin, ue));
    let usage = plane.usage(SLOT);
    assert_eq!(usage.uplink.network_bytes, Bytes::new(128));
    assert_eq!(usage.downlink.network_bytes, Bytes::new(228));
    assert_eq!(plane.arena().counter(WorkerCounter::Translated), 2);
    assert_eq!(plane.arena().counter(WorkerCounter::ReceivedPackets), 2);
    assert_eq!(plane.arena().counter(WorkerCounter::PortBlocksAssigned), 1);
    assert!(drops(&plane).is_empty());
}

/// The download as the origin's side sees it: destination and source are the public address.
#[test]
fn a_film_through_nat_is_proven_to_the_byte() {
    let film = bytes_of(300_000);
    let mut plane = plane_of(
        &rules(&film, Payer::Block),
        &film,
        &setup(&serde_json::json!({})),
    );
    let mut public = None;

    for (direction, packet) in download(&film) {
        match direction {
            Direction::Uplink => {
                let out = up(&mut plane, packet, 1);
                public = Some(ends(&out[0]).0);
            }
            Direction::Downlink => {
                let ip = parse_ip(&packet).unwrap();
                let tcp = parse_tcp(ip.payload).unwrap();
                let fields = TcpFields::new(tcp.seq, tcp.ack, tcp.flags);
                let outside =
                    tcp_packet(address(ORIGIN), public.unwrap(), &fields, tcp.payload).unwrap();
                assert_eq!(down(&mut plane, &[outside], 1), [packet]);
            }
        }
    }

    let usage = plane.usage(SLOT);
    assert_eq!(usage.classes.verified_unique, Bytes::new(300_000));
    assert_eq!(usage.classes.user_charged, Bytes::ZERO);
    assert!(usage.classes.is_conserved());
    assert!(drops(&plane).is_empty(), "{:?}", drops(&plane));
}

#[test]
fn datagrams_of_8000_bytes_pass_translated_in_fragments_both_ways() {
    let mut plane = plane(&setup(&serde_json::json!({})));
    let (ue, origin) = (address(UE), address(ORIGIN));
    let sent = fragment_packet(&datagram(ue, origin, 8000), 1480, 9).unwrap();

    let out: Vec<Vec<u8>> = sent
        .into_iter()
        .flat_map(|fragment| up(&mut plane, fragment, 1))
        .collect();
    let joined = together(&out);
    let port = u16::from_be_bytes([joined[0], joined[1]]);
    let public = SocketAddr::new(PUBLIC.into(), port);
    let answer = fragment_packet(&datagram(origin, public, 8000), 1480, 5).unwrap();
    let back = down(&mut plane, &answer, 1);

    for packet in &out {
        let ip = parse_ip(packet).unwrap();
        assert_eq!((ip.src, ip.dst), (PUBLIC.into(), origin.ip()));
    }
    let joined = together(&back);
    assert_eq!(joined.len(), 8008);
    assert_eq!(u16::from_be_bytes([joined[2], joined[3]]), ue.port());
    assert_eq!(transport_checksum(origin.ip(), ue.ip(), 17, &joined), 0);
    // Fragments of 1,500 bytes are cut again for the tunnel, and each counts with its own length.
    assert_eq!(plane.arena().counter(WorkerCounter::PacketsFragmented), 5);
    assert_eq!(plane.usage(SLOT).downlink.packets, 6);
    assert!(drops(&plane).is_empty(), "{:?}", drops(&plane));
}

#[test]
fn what_has_no_mapping_what_is_filtered_and_what_meets_itself_is_refused_for_its_reason() {
    let strict = serde_json::json!({ "filtering": "address_dependent" });
    let mut plane = plane(&setup(&strict));
    let (ue, origin) = (address(UE), address(ORIGIN));
    let out = up(&mut plane, datagram(ue, origin, 1), 0);
    let public = ends(&out[0]).0;
    let stranger = "203.0.113.200:80".parse().unwrap();
    let nobody = SocketAddr::new(PUBLIC.into(), public.port() ^ 1);

    assert!(down(&mut plane, &[datagram(stranger, public, 1)], 0).is_empty());
    assert!(down(&mut plane, &[datagram(origin, nobody, 1)], 0).is_empty());
    assert!(up(&mut plane, datagram(ue, public, 1), 0).is_empty());
    let fields = TcpFields::new(1, 1, TcpFlags::ACK);
    assert!(
        up(
            &mut plane,
            tcp_packet(ue, origin, &fields, b"x").unwrap(),
            0
        )
        .is_empty()
    );

    let expected = [
        ("translate_hairpin_refused", 1),
        ("nat_tcp_without_syn", 1),
        ("nat_no_mapping", 1),
        ("nat_filtered", 1),
    ];
    assert_eq!(drops(&plane), expected);
    let usage = plane.usage(SLOT);
    assert_eq!((usage.uplink.packets, usage.downlink.packets), (1, 0));
    assert_eq!(usage.classes.user_charged, Bytes::new(1));
    assert_eq!(plane.arena().counter(WorkerCounter::ReceivedPackets), 5);
}

#[test]
fn an_origin_is_told_of_a_packet_that_it_sent_to_the_public_address() {
    let mut plane = plane(&setup(&serde_json::json!({})));
    let (ue, origin) = (address(UE), address(ORIGIN));
    let out = up(&mut plane, datagram(ue, origin, 1), 0);
    let public = ends(&out[0]).0;
    let mut long = datagram(origin, public, 1472);
    long[6] |= 0x40;
    long[10..12].fill(0);
    let sum = qlink_wire::checksum::Checksum::default().with(&long[..20]);
    long[10..12].copy_from_slice(&sum.finish().to_be_bytes());

    let sent = pass(
        &mut plane,
        Direction::Downlink,
        std::slice::from_ref(&long),
        1,
    );

    assert!(sent.n3.kept().is_empty());
    let answer = &sent.n6.kept()[0].bytes;
    let ip = parse_ip(answer).unwrap();
    assert_eq!((ip.src, ip.dst), (PUBLIC.into(), origin.ip()));
    assert_eq!(ip.payload[..2], [3, 4]);
    assert_eq!(u16::from_be_bytes([ip.payload[6], ip.payload[7]]), 1464);
    // Quoted as the origin sent it, addresses, ports and checksums.
    assert_eq!(ip.payload[8..], long[..ip.payload.len() - 8]);
    assert_eq!(drops(&plane), [("too_big_answered", 1)]);
}

#[test]
fn an_ipv6_subscriber_reaches_an_ipv4_origin_and_no_infrastructure() {
    let nat64 = serde_json::json!({ "nat64_prefix": "64:ff9b::" });
    let mut plane = plane_v6(&setup(&nat64));
    let (ue, origin) = (address(UE6), address(ORIGIN));

    let out = up(&mut plane, datagram(ue, address(ORIGIN64), 100), 0);
    let (public, to) = ends(&out[0]);
    let back = down(&mut plane, &[datagram(origin, public, 200)], 0);
    // 8,000 bytes that may be fragmented become IPv6 fragments.
    let long = down(&mut plane, &[datagram(origin, public, 8000)], 0);
    let native = up(
        &mut plane,
        datagram(ue, "[2001:db8:9::9]:53".parse().unwrap(), 5),
        0,
    );
    let own = "[64:ff9b::7f00:1]:80".parse().unwrap();
    assert!(up(&mut plane, datagram(ue, own, 5), 0).is_empty());

    assert_eq!((public.ip(), to), (IpAddr::from(PUBLIC), origin));
    assert_eq!(ends(&back[0]), (address(ORIGIN64), ue));
    assert!(long.len() > 5 && long.iter().all(|packet| packet.len() <= 1464));
    assert_eq!(together(&long).len(), 8008);
    assert_eq!(ends(&native[0]).0, ue);
    assert_eq!(drops(&plane), [("translate_destination_forbidden", 1)]);
    let usage = plane.usage(SLOT);
    assert_eq!(usage.uplink.network_bytes, Bytes::new(148 + 53));
}

#[test]
fn with_nat64_alone_ipv4_packets_keep_their_addresses_both_ways() {
    let keys = serde_json::json!({ "nat64_prefix": "64:ff9b::", "ipv4": "leave" });
    let (ue, origin) = (address(UE), address(ORIGIN));
    let mut plane = plane(&setup(&keys));

    let out = up(&mut plane, datagram(ue, origin, 100), 0);
    let back = down(&mut plane, &[datagram(origin, ue, 200)], 0);

    assert_eq!(ends(&out[0]), (ue, origin));
    assert_eq!(ends(&back[0]), (origin, ue));
    let mut plane = plane_v6(&setup(&keys));
    let out = up(&mut plane, datagram(address(UE6), address(ORIGIN64), 1), 0);
    assert_eq!(ends(&out[0]).0.ip(), IpAddr::from(PUBLIC));
}

#[test]
fn nat64_leads_nobody_into_our_own_network() {
    let nat64 = serde_json::json!({ "nat64_prefix": "2001:db8:64::" });
    let mut plane = plane_v6(&setup(&nat64));
    let gateway = "[2001:db8:64::7f00:1]:80".parse().unwrap();
    let tunnels = "[2001:db8:64::c000:209]:2152".parse().unwrap();

    assert!(up(&mut plane, datagram(address(UE6), gateway, 5), 0).is_empty());
    assert!(up(&mut plane, datagram(address(UE6), tunnels, 5), 0).is_empty());

    let refused: Vec<&str> = drops(&plane).into_iter().map(|(name, _)| name).collect();
    assert!(refused.contains(&"gtpu_nested"), "{refused:?}");
    assert_eq!(plane.usage(SLOT).uplink.packets, 0);
}

/// A worker whose blocks stand in `path`, and what it logs.
fn logged(path: &Path, session: u8) -> (Plane, crossbeam::channel::Receiver<PortBlockRecord>) {
    let (sender, receiver) = crossbeam::channel::bounded(64);
    let mut setup = setup(&serde_json::json!({ "block_ports": 4096, "blocks_per_subscriber": 1 }));
    let nat = setup.nat.as_mut().unwrap();
    nat.blocks = Some(path.to_owned());
    nat.log = Some(sender);
    // One block is left to this worker.
    (nat.share.worker, nat.share.workers) = (1, 15);
    let rules = SessionRules {
        session: qlink_types::ids::SessionId::new([session; 16]),
        ..rules(&bytes_of(10), Payer::Operator)
    };
    (plane_of(&rules, &bytes_of(10), &setup), receiver)
}

#[test]
fn after_a_kill_nobody_gets_the_ports_of_another_before_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks");
    let packet = datagram(address(UE), address(ORIGIN), 1);
    let (mut first, log) = logged(&path, 1);
    assert_eq!(up(&mut first, packet.clone(), 1).len(), 1);
    let assigned = log.try_recv().unwrap();
    assert_eq!((assigned.event as u8, assigned.ports), (16, (4096, 8191)));
    assert_eq!(assigned.ue, address(UE).ip());
    assert_eq!(assigned.session.as_bytes(), &[1; 16]);
    // As a killed process: nothing is closed.
    std::mem::forget(first);

    let (mut second, log) = logged(&path, 2);
    let released = log.try_recv().unwrap();
    let now_ns = qlink_io::clock::now_ns();
    let early = up(&mut second, packet.clone(), now_ns);
    let late = up(&mut second, packet, now_ns + 121_000_000_000);

    assert_eq!((released.event as u8, released.ports), (17, (4096, 8191)));
    assert_eq!(released.session, assigned.session);
    assert!(early.is_empty());
    assert_eq!(drops(&second), [("nat_no_block", 1)]);
    assert_eq!(late.len(), 1);
    assert_eq!(log.try_recv().unwrap().session.as_bytes(), &[2; 16]);
}

#[test]
fn a_session_that_ends_gives_its_block_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut plane, log) = logged(&dir.path().join("blocks"), 1);
    up(&mut plane, datagram(address(UE), address(ORIGIN), 1), 1);

    plane.delete(SLOT);
    plane.sweep(2);

    let events: Vec<u8> = log.try_iter().map(|record| record.event as u8).collect();
    assert_eq!(events, [16, 17]);
    assert_eq!(plane.arena().counter(WorkerCounter::PortBlocksReleased), 1);
}
