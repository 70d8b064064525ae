//! No back end allocates per packet or per burst.
#![allow(
    unsafe_code,
    reason = "a global allocator that counts can only be written so"
)]
#![expect(clippy::unwrap_used, reason = "test code")]

mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use qlink_io::mem::{MemSink, MemSource};
use qlink_io::packet::{PacketTap, TapConfig};
use qlink_io::pcap::{PcapSource, PcapngWriter};
use qlink_io::udp::{Offload, UdpOptions, UdpPort};
use qlink_io::xdp::AttachChoice;
use qlink_io::xdp::frame::Ipv4Checksum;
use qlink_io::{BURST_MAX, Burst, Outgoing, PacketSink, PacketSource};
use qlink_wire::LinkType;
use rig::RawSocket;
use rig::site::{STATION, Site, at, port, tunnel};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; the counter is a plain cell
// without a destructor and never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's guarantees for `layout` are those required.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` runs.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const NOBODY: Outgoing<'_> = Outgoing::EMPTY;

/// Sends every frame of the burst to `to`.
fn forward(source: &impl PacketSource, burst: &Burst, to: SocketAddr, sink: &mut impl PacketSink) {
    let mut items = [NOBODY; BURST_MAX];
    for (item, descriptor) in items.iter_mut().zip(burst) {
        *item = Outgoing {
            head: b"head",
            body: source.frame(descriptor),
            to,
        };
    }
    let count = burst.len();
    assert_eq!(sink.send_burst(items.get(..count).unwrap()).unwrap(), count);
}

#[test]
fn the_counter_counts() {
    assert_eq!(
        allocations(|| drop(std::hint::black_box(Box::new(1_u64)))),
        1
    );
}

#[test]
fn memory_back_ends_allocate_nothing() {
    let mut source = MemSource::new(vec![vec![1; 1400]; 100], LinkType::RawIp, 10);
    let (mut sink, mut burst) = (MemSink::new(), Burst::new());
    let to = "127.0.0.1:9".parse().unwrap();

    let count = allocations(|| {
        while source.recv_burst(&mut burst).is_ok() {
            forward(&source, &burst, to, &mut sink);
        }
    });

    assert_eq!((count, sink.packets()), (0, 1000));
}

#[test]
fn reading_a_capture_allocates_nothing_once_it_is_open() {
    let mut writer = PcapngWriter::new(Vec::new()).unwrap();
    let id = writer.add_interface(LinkType::RawIp, "n6").unwrap();
    for at in 0..5000 {
        writer.write(id, at, &[7; 1400], 1400).unwrap();
    }
    let file = writer.finish().unwrap();
    let mut source = PcapSource::new(file.as_slice()).unwrap();
    let mut burst = Burst::new();
    source.recv_burst(&mut burst).unwrap(); // describes the interface

    let count = allocations(|| while source.recv_burst(&mut burst).is_ok() {});

    assert_eq!((count, source.stats().packets), (0, 5000));
}

#[test]
fn a_udp_port_allocates_nothing_once_it_is_bound() {
    for offload in [Offload::None, Offload::Segmentation] {
        let options = UdpOptions {
            offload,
            ..UdpOptions::default()
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let bind = || UdpPort::bind_with(address, LinkType::RawIp, options).unwrap();
        let (mut from, mut to) = (bind(), bind());
        let there = to.local_addr();
        let mut frames = MemSource::new(vec![vec![1; 1400]; 32], LinkType::RawIp, 20);
        let (mut burst, mut received) = (Burst::new(), 0);

        let count = allocations(|| {
            while frames.recv_burst(&mut burst).is_ok() {
                forward(&frames, &burst, there, &mut from);
                while to.poll(Some(Duration::from_millis(10))).unwrap() {
                    received += to.recv_burst(&mut burst).unwrap();
                }
            }
        });

        assert_eq!((count, received), (0, 640), "{offload:?}");
    }
}

#[cfg(feature = "uring")]
#[test]
fn a_port_over_io_uring_allocates_nothing_once_it_is_used() {
    if let Err(error) = qlink_io::uring::available() {
        println!("skipped: no io_uring: {error}");
        return;
    }
    let address = "127.0.0.1:0".parse().unwrap();
    let options = UdpOptions::default();
    let bind = || qlink_io::uring::UringPort::bind_with(address, LinkType::RawIp, options).unwrap();
    let (mut from, mut to) = (bind(), bind());
    let there = to.local_addr();
    let mut frames = MemSource::new(vec![vec![1; 1400]; 32], LinkType::RawIp, 20);
    let (mut burst, mut received) = (Burst::new(), 0);

    let count = allocations(|| {
        while frames.recv_burst(&mut burst).is_ok() {
            forward(&frames, &burst, there, &mut from);
            while to.poll(Some(Duration::from_millis(10))).unwrap() {
                received += to.recv_burst(&mut burst).unwrap();
            }
        }
    });

    assert_eq!((count, received), (0, 640));
}

#[test]
fn a_tap_allocates_nothing_once_it_is_open() {
    let mut tap = match PacketTap::open(&TapConfig::new("lo")) {
        Ok(tap) => tap,
        Err(error) => {
            println!("skipped: no tap: {error}");
            return;
        }
    };
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to: SocketAddr = "127.0.0.1:2152".parse().unwrap();
    let (mut burst, mut seen, mut bytes) = (Burst::new(), 0, 0);

    let count = allocations(|| {
        for round in 1..=20 {
            for _ in 0..50 {
                // Nobody listens there; what the network says about that is of no interest.
                let _ = from.send_to(&[7; 1400], to);
            }
            while seen < round * 50 {
                assert!(tap.poll(Some(Duration::from_secs(5))).unwrap());
                seen += tap.recv_burst(&mut burst).unwrap();
                bytes += burst.iter().map(|d| tap.frame(d).len()).sum::<usize>();
            }
        }
    });

    assert_eq!(count, 0);
    assert!(seen >= 1000 && bytes >= 1000 * 1442, "{seen} frames");
}

#[test]
fn an_xdp_port_allocates_nothing_once_open() {
    let Some(site) = Site::new() else { return };
    let envelope = tunnel(Ipv4Checksum::Computed);
    let rule = Site::n3_rule();
    let mut n3 = port(&site.plane, "n3", &rule, envelope, AttachChoice::Best);
    let station = RawSocket::open(&site.station, "s3");
    let frame = site.uplink(1, 1000);
    let mut burst = Burst::new();
    let mut seen = 0;
    for _ in 0..100 {
        (0..40).for_each(|_| station.send(&frame));
        let count = allocations(|| {
            while n3.recv_burst(&mut burst).unwrap() > 0 {
                seen += burst.len();
                let mut items = [NOBODY; BURST_MAX];
                for (item, descriptor) in items.iter_mut().zip(&burst) {
                    *item = Outgoing {
                        head: b"head",
                        body: n3.frame(descriptor),
                        to: at(STATION, 2152),
                    };
                }
                // Nobody knows the way there: refusals allocate nothing either.
                let lost = Outgoing {
                    to: at("10.9.9.9", 2152),
                    ..items[0]
                };
                n3.send(&items[..burst.len()]).unwrap();
                n3.send(&[lost]).unwrap_err();
            }
        });
        assert_eq!(count, 0);
    }
    assert!(seen > 0);
}
