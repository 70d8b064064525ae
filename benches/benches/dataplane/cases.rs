//! The cases, from a header to a whole download.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::film::{SEGMENT, Sponsored, Stage, bytes_of};
use crate::traffic::{PASS_PACKETS, PAYLOAD, Plain, own_teid, plain_rules, plain_uplinks};
use criterion::{BenchmarkId, Criterion, Throughput};
use qlink_benches::Random;
use qlink_meter::{HotSession, SessionSlot, SessionTable};
use qlink_types::ids::Teid;
use qlink_wire::{LinkType, parse_gtpu, parse_ip, parse_tcp, parse_udp, strip_link};

const BURST: usize = 32;

/// Every header of an uplink frame, outermost to innermost.
pub(crate) fn parse(criterion: &mut Criterion) {
    let frames = plain_uplinks(1000);
    let mut group = criterion.benchmark_group("wire::parse");
    group.throughput(Throughput::Elements(BURST as u64));
    let name = format!("layers=eth,ipv4,udp,gtpu,psc,ipv4,tcp payload={PAYLOAD}");
    group.bench_function(name, |bencher| {
        let mut bursts = frames.chunks_exact(BURST).cycle();
        bencher.iter(|| {
            let burst = bursts.next().unwrap();
            burst.iter().fold(0_u32, |sum, frame| {
                let outer = parse_ip(strip_link(LinkType::Ethernet, frame).unwrap()).unwrap();
                let gtpu = parse_gtpu(parse_udp(outer.payload).unwrap().payload).unwrap();
                let inner = parse_ip(gtpu.payload).unwrap();
                let tcp = parse_tcp(inner.payload).unwrap();
                let qfi = gtpu.pdu_session.map_or(0, |info| info.qfi);
                sum ^ gtpu.teid ^ tcp.seq ^ inner.total_len ^ u32::from(qfi)
            })
        });
    });
    group.finish();
}

/// TEIDs of ours name their slot; those of others go through the hash index.
#[derive(Clone, Copy)]
enum Teids {
    Own,
    Foreign,
}

impl Teids {
    const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Foreign => "foreign",
        }
    }

    /// The TEID of session `number`, unlike all others.
    const fn of(self, number: u32) -> Teid {
        let odd = 0x9e37_79b1_u32;
        match self {
            Self::Own => own_teid(number),
            // Spread over all 32 bits: the slot that such a TEID seems to name is another's.
            Self::Foreign => Teid::new(number.wrapping_add(1).wrapping_mul(odd)),
        }
    }
}

pub(crate) fn session_lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("meter::session_lookup");
    group.throughput(Throughput::Elements(BURST as u64));
    for teids in [Teids::Own, Teids::Foreign] {
        for sessions in [1, 1_000, 60_000, 1_000_000_u32] {
            let mut rig = None;
            let name = format!("sessions={sessions} teids={}", teids.name());
            group.bench_function(name, |bencher| {
                let (table, wanted) = rig.get_or_insert_with(|| sessions_of(teids, sessions));
                let mut bursts = wanted.chunks_exact(BURST).cycle();
                bencher.iter(|| look_up(table, bursts.next().unwrap()));
            });
        }
    }
    group.finish();
}

/// A table, and the TEIDs in it in random order, at least a burst of them.
fn sessions_of(teids: Teids, sessions: u32) -> (SessionTable, Vec<Teid>) {
    let mut table = SessionTable::new(sessions, 1);
    let mut list = Vec::new();
    for number in 0..sessions {
        let teid = teids.of(number);
        let mut hot = HotSession::from_rules(&plain_rules(number)).unwrap();
        hot.teid = teid;
        assert!(table.insert(SessionSlot::new(number), hot));
        list.push(teid);
    }
    Random::new(1).shuffle(&mut list);
    while list.len() < BURST {
        list.extend_from_within(..);
    }
    (table, list)
}

/// As the pipeline does it: all prefetches, then all lookups; the session itself is read too.
fn look_up(table: &SessionTable, burst: &[Teid]) -> u32 {
    for teid in burst {
        table.prefetch(*teid);
    }
    burst.iter().fold(0, |sum, teid| {
        let (slot, hot) = table.by_teid(*teid).unwrap();
        sum ^ slot.get() ^ hot.downlink_teid.get()
    })
}

/// Plain traffic from frame to transmit, all counters on.
pub(crate) fn pipeline_uplink(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline::uplink");
    group.throughput(Throughput::Elements(PASS_PACKETS.into()));
    for sessions in [1, 1_000, 60_000, 1_000_000_u32] {
        let mut rig = None;
        let name = format!("sessions={sessions} burst={BURST} payload={PAYLOAD}");
        group.bench_function(name, |bencher| {
            let rig = rig.get_or_insert_with(|| Plain::new(sessions));
            bencher.iter(|| rig.pass());
        });
        if let Some(rig) = rig {
            rig.assert_all_passed();
        }
    }
    group.finish();
}

/// The compare kernel on equal bytes: in the first-level cache, and walking through a film.
pub(crate) fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernel::equal_prefix");
    group.throughput(Throughput::Bytes(SEGMENT as u64));
    for length in [SEGMENT, 10_000_000] {
        let film = bytes_of(length);
        let copy = film.clone();
        let name = format!("bytes={SEGMENT} film={length}");
        group.bench_function(name, |bencher| {
            let pairs = film.chunks_exact(SEGMENT).zip(copy.chunks_exact(SEGMENT));
            let mut pairs = pairs.cycle();
            bencher.iter(|| {
                let (a, b) = pairs.next().unwrap();
                qlink_kernel::equal_prefix(black_box(a), black_box(b))
            });
        });
    }
    group.finish();
}

/// A whole download through the content stage alone; elements are its 1400-byte packets, and the
/// acknowledgements between them are part of the time.
pub(crate) fn content_stage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("content::stage");
    for length in [1_000_000, 10_000_000] {
        let mut stage = None;
        group.throughput(packets_of(length));
        let id = BenchmarkId::from_parameter(format!("bytes={SEGMENT} film={length}"));
        group.bench_function(id, |bencher| {
            let stage = stage.get_or_insert_with(|| Stage::new(length));
            bencher.iter(|| stage.judge());
        });
    }
    group.finish();
}

/// The same download through the whole pipeline, both directions, proof state in the arena.
pub(crate) fn pipeline_download(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline::download");
    for length in [1_000_000, 10_000_000] {
        let mut sponsored = None;
        group.throughput(packets_of(length));
        let id = BenchmarkId::from_parameter(format!("bytes={SEGMENT} film={length}"));
        group.bench_function(id, |bencher| {
            let sponsored = sponsored.get_or_insert_with(|| Sponsored::new(length));
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    sponsored.restart();
                    let start = Instant::now();
                    sponsored.play();
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

const fn packets_of(film: usize) -> Throughput {
    Throughput::Elements(film.div_ceil(SEGMENT) as u64)
}
