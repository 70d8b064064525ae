//! Bytes from an enemy: no panic, no broken law.
#![expect(
    clippy::unwrap_used,
    dead_code,
    reason = "test code; the film's other builders serve other tests"
)]

mod film;

use film::{SLOT, download, film as bytes_of, in_memory, personal, rules, uplink};
use proptest::prelude::*;
use qlink_content::Direction;
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::replay::{ReplayOptions, replay};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, PacketSource as _};
use qlink_wire::LinkType;

/// A change of one frame of a download.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip { place: usize, bits: u8 },
    Cut { length: usize },
    Drop,
    Twice,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        4 => (0..2000_usize, 1..=255_u8).prop_map(|(place, bits)| Harm::Flip { place, bits }),
        1 => (0..200_usize).prop_map(|length| Harm::Cut { length }),
        1 => Just(Harm::Drop),
        1 => Just(Harm::Twice),
    ]
}

fn apply(frame: &mut Vec<u8>, harm: Harm) -> usize {
    match harm {
        Harm::Flip { place, bits } => {
            let place = place.checked_rem(frame.len()).unwrap_or(0);
            if let Some(byte) = frame.get_mut(place) {
                *byte ^= bits;
            }
            1
        }
        Harm::Cut { length } => {
            frame.truncate(length);
            1
        }
        Harm::Drop => 0,
        Harm::Twice => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The classes sum up after every packet, nobody pays above a limit, and no byte of the
    /// content is paid twice, whatever happens to the packets and whenever the viewer pauses.
    #[test]
    fn harmed_downloads_break_no_law(
        harms in prop::collection::vec((0..60_usize, harm()), 0..12), limit in 0..40_000_u64,
        pause in 0..60_usize,
    ) {
        let film = bytes_of(30_000);
        let mut plane = in_memory(&rules(&film, personal(limit)), &film);
        let mut frames: Vec<(Side, Vec<u8>, usize)> = download(&film)
            .into_iter()
            .map(|(direction, packet)| match direction {
                Direction::Uplink => (Side::N3, uplink(&packet), 1),
                Direction::Downlink => (Side::N6, packet, 1),
            })
            .collect();
        for (number, harm) in harms {
            let number = number % frames.len();
            let (_, frame, times) = &mut frames[number];
            *times = apply(frame, harm);
        }

        for (number, (side, frame, times)) in frames.into_iter().enumerate() {
            if number == pause {
                plane.sweep(qlink_content::IDLE_NS + 2);
                prop_assert_eq!(plane.usage(SLOT).classes.pending.get(), 0);
            }
            let mut source = MemSource::new(vec![frame], LinkType::RawIp, times as u64);
            let mut ports = Ports { n3: MemSink::new(), n6: MemSink::new() };
            let mut burst = Burst::new();
            while source.recv_burst(&mut burst).is_ok() {
                process_burst(&mut plane, side, &source, &burst, &mut ports, 1);
                let usage = plane.usage(SLOT);
                prop_assert!(usage.classes.is_conserved(), "{usage:?}");
                prop_assert!(usage.personal_bytes.get() <= limit);
                prop_assert!(usage.classes.verified_unique.get() <= 30_000);
            }
        }
        let usage = plane.delete(SLOT);
        prop_assert!(usage.classes.is_conserved());
        prop_assert_eq!(usage.classes.pending.get(), 0);
        prop_assert_eq!(usage.conservation_violations, 0);
        prop_assert_eq!(usage.contents[0].verified_unique, usage.classes.verified_unique);
    }

    #[test]
    fn arbitrary_frames_are_dropped_without_a_panic(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..120), 0..40),
    ) {
        let film = bytes_of(100);
        let mut plane = in_memory(&rules(&film, personal(0)), &film);
        for side in [Side::N3, Side::N6] {
            let mut source = MemSource::new(frames.clone(), LinkType::Ethernet, 1);
            let mut ports = Ports { n3: MemSink::new(), n6: MemSink::new() };
            let mut burst = Burst::new();
            while source.recv_burst(&mut burst).is_ok() {
                process_burst(&mut plane, side, &source, &burst, &mut ports, 1);
            }
            prop_assert_eq!(ports.n3.packets() + ports.n6.packets(), 0);
        }
    }

    #[test]
    fn an_arbitrary_file_is_replayed_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400), magic: bool,
    ) {
        if magic {
            let start = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
            bytes.splice(..start.len().min(bytes.len()), start);
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pcap");
        std::fs::write(&file, bytes).unwrap();

        let _ = replay(&[file], &ReplayOptions::default());
    }
}
