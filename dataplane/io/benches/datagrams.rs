//! Datagrams of 1400 bytes over loopback, bursts of 32, sender and receiver on one thread: what a
//! packet costs with and without trains, by system calls and by io_uring.
#![expect(clippy::unwrap_used, reason = "bench code")]

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qlink_io::udp::{Checksum, Offload, UdpOptions, UdpPort};
use qlink_io::{BURST_MAX, Burst, Outgoing, PacketSink, PacketSource};
use qlink_wire::LinkType;

const BODY: [u8; 1392] = [7; 1392];
const HEAD: [u8; 8] = [1; 8];

/// Sends one burst and receives all of it.
fn pass<P: PacketSource + PacketSink>(from: &mut P, to: &mut P, there: SocketAddr) {
    let item = Outgoing {
        head: &HEAD,
        body: &BODY,
        to: there,
    };
    let mut burst = Burst::new();
    let mut received = 0;
    let sent = from.send_burst(&[item; BURST_MAX]).unwrap();
    while received < sent {
        received += to.recv_burst(&mut burst).unwrap();
        for descriptor in &burst {
            black_box(to.frame(descriptor));
        }
    }
}

fn datagrams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("io::datagrams");
    group.throughput(Throughput::Elements(BURST_MAX as u64));
    let here = "127.0.0.1:0".parse().unwrap();
    for (name, offload) in [("none", Offload::None), ("gso", Offload::Segmentation)] {
        let options = UdpOptions {
            offload,
            checksum: Checksum::Present,
        };
        let key = format!("offload={name} bytes=1400 burst=32");
        let bind = || UdpPort::bind_with(here, LinkType::RawIp, options).unwrap();
        let (mut from, mut to) = (bind(), bind());
        let there = to.local_addr();
        group.bench_function(BenchmarkId::new("udp", &key), |bencher| {
            bencher.iter(|| pass(&mut from, &mut to, there));
        });
        #[cfg(feature = "uring")]
        if qlink_io::uring::available().is_ok() {
            let bind =
                || qlink_io::uring::UringPort::bind_with(here, LinkType::RawIp, options).unwrap();
            let (mut from, mut to) = (bind(), bind());
            let there = to.local_addr();
            group.bench_function(BenchmarkId::new("uring", &key), |bencher| {
                bencher.iter(|| pass(&mut from, &mut to, there));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, datagrams);
criterion_main!(benches);
