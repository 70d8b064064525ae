//! What a translated packet costs: load, NAT44, both tables; addresses and ports at random.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "bench code on numbers that fit"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qlink_forward::Rewrite;
use qlink_forward::fragments::FragmentLimits;
use qlink_forward::nat::{BlockQueue, Nat, NatConfig};
use qlink_forward::translate::Translator;
use qlink_wire::build;

const PORTS: u32 = 50;
const SAMPLE: usize = 4096;

fn translator(subscribers: u32) -> (Translator, BlockQueue) {
    let pool = (1..=64).map(|last| Ipv4Addr::new(203, 0, 113, last));
    let config = NatConfig {
        block_ports: 64,
        ..NatConfig::for_subscribers(pool.collect(), subscribers, 7)
    };
    let mut nat = Nat::try_new(&config).unwrap();
    for subscriber in 0..subscribers {
        assert!(nat.open(subscriber, subscriber.into()));
    }
    let fragments = FragmentLimits::for_owners(subscribers, 7);
    let log = BlockQueue::new(1 << 20);
    (Translator::new(nat, fragments, None), log)
}

fn packet(subscriber: u32, port: u16) -> Vec<u8> {
    let source = IpAddr::from(Ipv4Addr::from(0x0a2d_0000 + subscriber));
    let host = "198.51.100.1:443".parse().unwrap();
    build::udp_packet(SocketAddr::new(source, port), host, &[7; 1200]).unwrap()
}

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward::nat44");
    for mappings in [1_000_u32, 100_000] {
        let subscribers = mappings / PORTS;
        let (mut translator, mut log) = translator(subscribers);
        let mut rewrite = Rewrite::new();
        let (mut uplink, mut downlink) = (Vec::new(), Vec::new());
        for number in 0..mappings {
            // A permutation: neighbours in the sample are strangers in the tables.
            let number = (u64::from(number) * 61_487 % u64::from(mappings)) as u32;
            let (subscriber, port) = (number / PORTS, (number % PORTS) as u16 + 4000);
            let sent = packet(subscriber, port);
            rewrite.load(&sent).unwrap();
            translator
                .uplink(subscriber, &mut rewrite, &sent, 0, &mut log)
                .unwrap();
            if uplink.len() < SAMPLE {
                let head = rewrite.head();
                let external = IpAddr::from([head[12], head[13], head[14], head[15]]);
                let port = u16::from_be_bytes([head[20], head[21]]);
                let host = "198.51.100.1:443".parse().unwrap();
                let external = SocketAddr::new(external, port);
                downlink.push(build::udp_packet(host, external, &[7; 1200]).unwrap());
                uplink.push((subscriber, sent));
            }
        }
        group.throughput(Throughput::Elements(uplink.len() as u64));
        group.bench_function(
            BenchmarkId::new("uplink", format!("mappings={mappings}")),
            |bench| {
                bench.iter(|| {
                    for (subscriber, sent) in &uplink {
                        rewrite.load(sent).unwrap();
                        let to = translator.uplink(*subscriber, &mut rewrite, sent, 1, &mut log);
                        black_box(to.unwrap());
                    }
                });
            },
        );
        group.bench_function(
            BenchmarkId::new("downlink", format!("mappings={mappings}")),
            |bench| {
                bench.iter(|| {
                    for sent in &downlink {
                        rewrite.load(sent).unwrap();
                        black_box(translator.downlink(&mut rewrite, sent, 1).unwrap());
                    }
                });
            },
        );
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
