//! A counting allocator proves that a packet allocates nothing, the content stage included.
#![expect(
    unsafe_code,
    reason = "a global allocator can only be stated with unsafe; it counts and passes on"
)]
#![expect(
    clippy::unwrap_used,
    dead_code,
    reason = "test code; the film's other builders serve other tests"
)]

mod film;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use film::{ORIGIN, SLOT, UE, address, download, film as bytes_of, in_memory, rules, uplink};
use qlink_content::Direction;
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, PacketSource as _};
use qlink_pfcp::Payer;
use qlink_wire::LinkType;
use qlink_wire::build::udp_packet;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed unchanged to the system's allocator, which keeps the contract; the
// counter is a plain cell of this thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations while `work` runs on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    let mut kept = Vec::new();

    let count = allocations(|| kept.push(1_u8));

    assert_eq!((count, kept.len()), (1, 1));
}

#[test]
fn plain_packets_of_both_directions_allocate_nothing() {
    let film = bytes_of(10);
    let mut plane = in_memory(&rules(&film, Payer::Operator), &film);
    let up = uplink(&udp_packet(address(UE), address(ORIGIN), &[1; 500]).unwrap());
    let down = udp_packet(address(ORIGIN), address(UE), &[1; 500]).unwrap();
    let mut uplinks = MemSource::new(vec![up; 64], LinkType::RawIp, 10);
    let mut downlinks = MemSource::new(vec![down; 64], LinkType::RawIp, 10);
    let mut ports = Ports {
        n3: MemSink::new(),
        n6: MemSink::new(),
    };
    let mut burst = Burst::new();

    let count = allocations(|| {
        while uplinks.recv_burst(&mut burst).is_ok() {
            process_burst(&mut plane, Side::N3, &uplinks, &burst, &mut ports, 0);
        }
        while downlinks.recv_burst(&mut burst).is_ok() {
            process_burst(&mut plane, Side::N6, &downlinks, &burst, &mut ports, 0);
        }
    });

    assert_eq!(ports.n3.packets() + ports.n6.packets(), 1280);
    assert_eq!(count, 0);
}

#[test]
fn a_whole_proven_download_allocates_nothing() {
    let film = bytes_of(500_000);
    let mut plane = in_memory(&rules(&film, Payer::Block), &film);
    let mut sources: Vec<(Side, MemSource)> = download(&film)
        .into_iter()
        .map(|(direction, packet)| {
            let (side, frame) = match direction {
                Direction::Uplink => (Side::N3, uplink(&packet)),
                Direction::Downlink => (Side::N6, packet),
            };
            (side, MemSource::new(vec![frame], LinkType::RawIp, 1))
        })
        .collect();
    let mut ports = Ports {
        n3: MemSink::new(),
        n6: MemSink::new(),
    };
    let mut burst = Burst::new();

    let count = allocations(|| {
        for (side, source) in &mut sources {
            source.recv_burst(&mut burst).unwrap();
            process_burst(&mut plane, *side, source, &burst, &mut ports, 1);
        }
    });

    assert_eq!(
        plane.usage(SLOT).classes.verified_unique.get(),
        film.len() as u64
    );
    assert_eq!(count, 0);
}
