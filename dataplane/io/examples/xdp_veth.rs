//! Measures an XDP forwarder between two veth pairs in copy mode: a generator on one core sends
//! GTP-U, a forwarder on another takes the tunnel off and sends the inner packet on.
//!
//! ```text
//! cargo run --release -p qlink-io --example xdp_veth -- [seconds per run] [runs] [fifo]
//! ```
//!
//! Needs root and two cores. Prints one line per frame length and mode: packets per second of the
//! forwarder, per second of its own processor time, and what was lost before it. With veth the
//! receiver's softirq runs on the sender's core, so the forwarder's core also pays for delivery
//! behind it. On a machine that does other work, the figure per processor second is the one to
//! compare; with `fifo` both threads run before everything else for the length of a run.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring tool")]
#![allow(
    unsafe_code,
    reason = "pinning and processor time have no safe wrapper"
)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use qlink_io::xdp::frame::{Envelope, Ipv4Checksum, MacAddress};
use qlink_io::xdp::{
    AttachChoice, AttachMode, NeighbourKeeper, Steering, SteeringRule, XdpConfig, XdpPort,
};
use qlink_io::{BURST_MAX, Burst, Outgoing, PacketSource as _};
use qlink_wire::build;
use qlink_wire::{GTPU_PORT, LinkType, gpdu_header, parse_gtpu, parse_ip, parse_udp, strip_link};
use rig::{Namespace, veth};

const STATION: &str = "10.0.3.7";
const ENDPOINT: &str = "10.0.3.1";
const ORIGIN: &str = "10.0.6.9";
const SUBSCRIBER: &str = "10.45.0.2";

/// Which way the packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The tunnel comes off.
    Uplink,
    /// The tunnel goes on, with a UDP checksum or without.
    Downlink(Ipv4Checksum),
}

/// How the threads compete with the rest of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Fair,
    First,
}

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), port)
}

fn main() {
    let mut words = std::env::args().skip(1);
    let seconds: f64 = words.next().map_or(1.0, |word| word.parse().unwrap());
    let runs: usize = words.next().map_or(5, |word| word.parse().unwrap());
    let order = if words.next().as_deref() == Some("fifo") {
        Order::First
    } else {
        Order::Fair
    };
    for mode in [AttachMode::Native, AttachMode::Generic] {
        for way in [
            Way::Uplink,
            Way::Downlink(Ipv4Checksum::Computed),
            Way::Downlink(Ipv4Checksum::Zero),
        ] {
            for length in [64, 1450] {
                let mut results: Vec<Outcome> = (0..runs)
                    .filter_map(|_| run(mode, way, length, seconds, order))
                    .collect();
                results.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
                let Some(median) = results.get(results.len() / 2) else {
                    return;
                };
                println!(
                    "{mode:?} {way:?} {length} B: {:.3} Mpps forwarded ({:.3} offered), \
                     {:.3} Mpps per CPU-s, user {:.0} %, kernel {:.0} %, {} sleeps, \
                     ring full {}, seen behind {} of {}",
                    median.per_second / 1e6,
                    median.offered / 1e6,
                    median.per_cpu_second / 1e6,
                    median.user * 100.0,
                    median.kernel * 100.0,
                    median.sleeps,
                    median.lost_before,
                    median.behind,
                    median.forwarded,
                );
            }
        }
    }
}

struct Outcome {
    per_second: f64,
    offered: f64,
    per_cpu_second: f64,
    user: f64,
    kernel: f64,
    forwarded: u64,
    behind: u64,
    lost_before: u64,
    sleeps: u64,
}

/// The sender's side and the receiver's side of the forwarder.
struct Bed {
    from: Namespace,
    plane: Namespace,
    to: Namespace,
}

impl Bed {
    fn new() -> Option<Self> {
        let (from, plane, to) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        veth((&from, "gen0"), (&plane, "in0"), "");
        veth((&to, "end0"), (&plane, "out0"), "");
        for (namespace, name) in [
            (&from, "gen0"),
            (&plane, "in0"),
            (&plane, "out0"),
            (&to, "end0"),
        ] {
            namespace.up(name, &[]);
        }
        Some(Self { from, plane, to })
    }
}

fn open(
    namespace: &Namespace,
    interface: &str,
    rule: &SteeringRule,
    mode: AttachMode,
    envelope: Envelope,
    next: (&str, MacAddress),
) -> XdpPort {
    namespace.run(|| {
        let steering = Steering::attach(interface, rule, AttachChoice::Only(mode)).unwrap();
        let fixed = vec![(next.0.parse::<IpAddr>().unwrap(), next.1)];
        let keeper = NeighbourKeeper::new(steering.interface().index, fixed).unwrap();
        let config = XdpConfig {
            frames: 4096,
            ..XdpConfig::new(envelope)
        };
        XdpPort::open(&steering, 0, &config, keeper.reader()).unwrap()
    })
}

fn run(mode: AttachMode, way: Way, length: usize, seconds: f64, order: Order) -> Option<Outcome> {
    let bed = Bed::new()?;
    let n3_rule = SteeringRule::N3 {
        endpoints: vec![ENDPOINT.parse().unwrap()],
    };
    let n6_rule = SteeringRule::N6 {
        prefixes: vec![("10.45.0.0".parse().unwrap(), 16)],
    };
    // Nobody's address, so that the kernel behind drops what it gets at once.
    let nobody = MacAddress::new([2, 9, 9, 9, 9, 9]);
    let plane_mac = bed.plane.interface("in0").mac;
    let quiet = SteeringRule::N6 { prefixes: vec![] };
    let (rule, envelope, next) = match way {
        Way::Uplink => (&n3_rule, Envelope::Ethernet, ORIGIN),
        Way::Downlink(checksum) => {
            let local = at(ENDPOINT, GTPU_PORT);
            (&n6_rule, Envelope::Udp { local, checksum }, STATION)
        }
    };
    let input = open(
        &bed.plane,
        "in0",
        rule,
        mode,
        Envelope::Ethernet,
        (ORIGIN, nobody),
    );
    let output = open(&bed.plane, "out0", &quiet, mode, envelope, (next, nobody));
    let generator = open(
        &bed.from,
        "gen0",
        &quiet,
        mode,
        Envelope::Ethernet,
        (ENDPOINT, plane_mac),
    );
    let packet = packet(way, length);
    let before = bed.to.received("end0");
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = std::thread::scope(|scope| {
        let (stop, sent, packet) = (&stop, &sent, &packet);
        scope.spawn(move || {
            pin(0, order);
            generate(&generator, packet, stop, sent);
        });
        let time = Duration::from_secs_f64(seconds);
        let forwarder = scope.spawn(move || {
            pin(1, order);
            forward(input, &output, way, time, sent)
        });
        let outcome = forwarder.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    Some(Outcome {
        behind: bed.to.received("end0") - before,
        ..outcome
    })
}

/// An IP packet that makes a frame of `length` bytes.
fn packet(way: Way, length: usize) -> Vec<u8> {
    match way {
        Way::Uplink => {
            let inner_len = length - 14 - 28 - 8;
            // 14 bytes are less than any inner packet: then the tunnel carries bytes alone.
            let inner = if inner_len < 28 {
                vec![0x45; inner_len]
            } else {
                let payload = vec![7; inner_len - 28];
                build::udp_packet(at(SUBSCRIBER, 5000), at(ORIGIN, 80), &payload).unwrap()
            };
            build::gpdu_packet(at(STATION, GTPU_PORT), at(ENDPOINT, GTPU_PORT), 77, &inner).unwrap()
        }
        Way::Downlink(_) => {
            let payload = vec![7; length - 14 - 28];
            build::udp_packet(at(ORIGIN, 80), at(SUBSCRIBER, 5000), &payload).unwrap()
        }
    }
}

fn generate(port: &XdpPort, packet: &[u8], stop: &AtomicBool, sent: &AtomicU64) {
    let item = Outgoing {
        head: &[],
        body: packet,
        to: at(ENDPOINT, 0),
    };
    while !stop.load(Ordering::Relaxed) {
        let count = port.send(&[item; BURST_MAX]).unwrap();
        sent.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// What a worker does, without the meter.
fn forward(
    mut input: XdpPort,
    output: &XdpPort,
    way: Way,
    time: Duration,
    sent: &AtomicU64,
) -> Outcome {
    let mut burst = Burst::new();
    while !input.poll(Some(Duration::from_secs(1))).unwrap() {}
    let (mut forwarded, mut sleeps, offered_before) = (0_u64, 0_u64, sent.load(Ordering::Relaxed));
    let (started, cpu_before) = (Instant::now(), processor_time());
    while started.elapsed() < time {
        for _ in 0..64 {
            if input.recv_burst(&mut burst).unwrap() == 0 {
                sleeps += 1;
                input.poll(Some(Duration::from_millis(10))).unwrap();
                continue;
            }
            forwarded += pass_on(&input, output, way, &burst);
        }
    }
    let elapsed = started.elapsed().as_secs_f64();
    let stats = input.stats().unwrap();
    let cpu = processor_time();
    let (user, kernel) = (cpu.0 - cpu_before.0, cpu.1 - cpu_before.1);
    let offered = sent.load(Ordering::Relaxed) - offered_before;
    Outcome {
        per_second: forwarded as f64 / elapsed,
        offered: offered as f64 / elapsed,
        per_cpu_second: forwarded as f64 / (user + kernel),
        user: user / elapsed,
        kernel: kernel / elapsed,
        forwarded,
        behind: 0,
        lost_before: stats.receive_dropped + stats.receive_ring_full,
        sleeps,
    }
}

fn pass_on(input: &XdpPort, output: &XdpPort, way: Way, burst: &Burst) -> u64 {
    let mut items = [Outgoing::EMPTY; BURST_MAX];
    let mut heads = [[0; 8]; BURST_MAX];
    for (head, descriptor) in heads.iter_mut().zip(burst) {
        *head = gpdu_header(77, u16::try_from(descriptor.len - 14).unwrap());
    }
    for ((item, head), descriptor) in items.iter_mut().zip(&heads).zip(burst) {
        let packet = strip_link(LinkType::Ethernet, input.frame(descriptor)).unwrap();
        *item = match way {
            Way::Uplink => {
                let udp = parse_udp(parse_ip(packet).unwrap().payload).unwrap();
                Outgoing {
                    head: &[],
                    body: parse_gtpu(udp.payload).unwrap().payload,
                    to: at(ORIGIN, 0),
                }
            }
            Way::Downlink(_) => Outgoing {
                head,
                body: packet,
                to: at(STATION, GTPU_PORT),
            },
        };
    }
    let items = items.get(..burst.len()).unwrap_or_default();
    output.send(items).unwrap() as u64
}

/// Keeps this thread on one core, and before the others there if asked to.
fn pin(core: usize, order: Order) {
    // SAFETY: an all-zero set is the empty one; every bit pattern is valid.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is far below the size of the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is a live structure of the stated size.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if order == Order::First {
        let priority = libc::sched_param { sched_priority: 10 };
        // SAFETY: `priority` is a live structure of the type that the call reads.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    }
}

/// Seconds that this thread has spent in user mode and in the kernel.
fn processor_time() -> (f64, f64) {
    // SAFETY: all zero is a valid value of this structure of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is writable.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    (seconds(usage.ru_utime), seconds(usage.ru_stime))
}
