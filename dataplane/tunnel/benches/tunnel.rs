//! What a packet costs in the tunnel: `cargo bench -p qlink-tunnel`.
#![expect(clippy::unwrap_used, reason = "a bench states its result by running")]

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qlink_io::udp::{Offload, UdpOptions, UdpPort};
use qlink_io::{Burst, Outgoing, PacketPort as _, PacketSource as _, clock};
use qlink_tunnel::{Limits, PeerSetup, PrivateKey, Received, TunnelPort, Tunnels};
use qlink_wire::LinkType;

const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 1));
const STATION: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 99, 0, 2));

fn end(
    own: (PrivateKey, IpAddr),
    peer: (&PrivateKey, IpAddr),
    call: Option<SocketAddr>,
) -> Tunnels {
    let mut tunnels = Tunnels::new(own.0, own.1, Limits::default());
    let setup = PeerSetup {
        key: peer.0.public(),
        address: peer.1,
        endpoint: call,
        keepalive_s: call.map(|_| 25),
    };
    tunnels.add(setup).unwrap();
    tunnels
}

fn reply(tunnels: &mut Tunnels, from: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut out = [0; 2048];
    match tunnels.receive(0, from, message, &mut out) {
        Ok(Received::Reply(message)) => message.to_vec(),
        _ => Vec::new(),
    }
}

/// A gateway and a BaseStation with keys.
fn joined() -> (Tunnels, Tunnels, SocketAddr) {
    let at: SocketAddr = "192.0.2.1:51820".parse().unwrap();
    let keys = [1, 2].map(|seed| PrivateKey::from_bytes([seed; 32]));
    let mut gateway = end((keys[0].clone(), GATEWAY), (&keys[1], STATION), None);
    let mut station = end((keys[1].clone(), STATION), (&keys[0], GATEWAY), Some(at));
    let mut call = Vec::new();
    station.tick(&mut [0; 256], |_, message| call = message.to_vec());
    let answer = reply(&mut gateway, at, &call);
    let confirmation = reply(&mut station, at, &answer);
    reply(&mut gateway, at, &confirmation);
    (gateway, station, at)
}

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("tunnel");
    for payload in [64, 1400] {
        let (mut gateway, mut station, at) = joined();
        let [from, to] = [STATION, GATEWAY].map(|ip| SocketAddr::new(ip, 2152));
        let packet = qlink_wire::build::udp_packet(from, to, &vec![7; payload - 28]).unwrap();
        let (mut message, mut out) = ([0; 2048], [0; 2048]);
        group.throughput(Throughput::Bytes(packet.len() as u64));
        group.bench_function(format!("seal/bytes={payload}"), |b| {
            b.iter(|| {
                let sending = station.send(GATEWAY, black_box(&packet), &mut message);
                black_box(sending.unwrap().message.len())
            });
        });
        group.bench_function(format!("seal_open/bytes={payload}"), |b| {
            b.iter(|| {
                let sending = station.send(GATEWAY, black_box(&packet), &mut message);
                let length = sending.unwrap().message.len();
                let datagram = message.get(..length).unwrap();
                let received = gateway.receive(0, at, datagram, &mut out).unwrap();
                black_box(matches!(received, Received::Packet(_)))
            });
        });
    }
    group.finish();
}

/// Packets of a burst.
const BURST: usize = 32;

/// Both ends on sockets of the loopback interface, with keys.
fn sockets(offload: Offload) -> (TunnelPort<UdpPort>, TunnelPort<UdpPort>) {
    let options = UdpOptions {
        offload,
        ..UdpOptions::default()
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let bind = || UdpPort::bind_with(any, LinkType::RawIp, options).unwrap();
    let (socket, other) = (bind(), bind());
    let keys = [1, 2].map(|seed| PrivateKey::from_bytes([seed; 32]));
    let at = socket.local_addr();
    let gateway = end((keys[0].clone(), GATEWAY), (&keys[1], STATION), None);
    let station = end((keys[1].clone(), STATION), (&keys[0], GATEWAY), Some(at));
    let mut gateway = TunnelPort::new(socket, gateway, 2152);
    let mut station = TunnelPort::new(other, station, 2152);
    station.tick();
    let mut burst = Burst::new();
    while gateway.tunnels().standing().1 == 0 {
        gateway.recv_burst(&mut burst).unwrap();
        station.recv_burst(&mut burst).unwrap();
    }
    (gateway, station)
}

/// Receives a whole burst.
fn drain(port: &mut TunnelPort<UdpPort>, burst: &mut Burst) {
    let mut received = 0;
    while received < BURST {
        received += port.recv_burst(burst).unwrap();
    }
}

/// What a packet costs with its socket: processor time of this thread, so that others on the machine
/// hardly show.
fn sockets_and_crypto(c: &mut Criterion) {
    let mut group = c.benchmark_group("tunnel_port");
    group.throughput(Throughput::Elements(BURST as u64));
    for (name, offload) in [
        ("none", Offload::None),
        ("segmentation", Offload::Segmentation),
    ] {
        for payload in [64, 1400] {
            let (mut gateway, station) = sockets(offload);
            let body = vec![7; payload - 28];
            let to = SocketAddr::new(GATEWAY, 2152);
            let items = [Outgoing {
                head: &[],
                body: &body,
                to,
            }; BURST];
            let mut burst = Burst::new();
            for direction in ["send", "receive"] {
                let id = format!("{direction}/offload={name} bytes={payload} burst={BURST}");
                group.bench_function(id, |b| {
                    b.iter_custom(|rounds| {
                        let mut spent = 0;
                        for _ in 0..rounds {
                            let start = clock::thread_cpu_ns();
                            assert_eq!(station.send(&items).unwrap(), BURST);
                            let sent = clock::thread_cpu_ns();
                            drain(&mut gateway, &mut burst);
                            spent += match direction {
                                "send" => sent - start,
                                _ => clock::thread_cpu_ns() - sent,
                            };
                        }
                        Duration::from_nanos(spent)
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, packets, sockets_and_crypto);
criterion_main!(benches);
