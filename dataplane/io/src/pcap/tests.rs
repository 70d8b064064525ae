//! The readers against files built here, the writers against the readers.

use std::io::{Cursor, Read};

use proptest::prelude::*;
use qlink_wire::LinkType;

use super::*;
use crate::{Burst, IoError, PacketSource};

/// What a test looks at of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    at: u64,
    bytes: Vec<u8>,
    orig_len: u32,
    link: LinkType,
}

/// Every packet, and how the reading ended.
fn read_all(reader: impl Read) -> (Vec<Seen>, IoError) {
    let mut source = match PcapSource::new(reader) {
        Ok(source) => source,
        Err(error) => return (Vec::new(), error.into()),
    };
    let mut burst = Burst::new();
    let mut packets = Vec::new();
    loop {
        match source.recv_burst(&mut burst) {
            Ok(count) => {
                assert!(count > 0, "a file never says 'nothing now'");
                packets.extend(burst.iter().map(|d| Seen {
                    at: d.timestamp_ns,
                    bytes: source.frame(d).to_vec(),
                    orig_len: d.orig_len,
                    link: d.link,
                }));
            }
            Err(error) => {
                assert!(matches!(source.recv_burst(&mut burst), Err(IoError::End)));
                assert_eq!(source.stats().packets, packets.len() as u64);
                return (packets, error);
            }
        }
    }
}

fn packets(bytes: &[u8]) -> Vec<Seen> {
    let (packets, end) = read_all(bytes);
    assert!(matches!(end, IoError::End), "{end}");
    packets
}

fn defect(bytes: &[u8]) -> (usize, CaptureError) {
    match read_all(bytes) {
        (packets, IoError::Capture(error)) => (packets.len(), error),
        (_, error) => panic!("{error}"),
    }
}

/// Gives one byte per call, as the worst pipe would.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(&mut buffer[..1])
    }
}

/// Codes and values of options.
type Options<'a> = &'a [(u16, &'a [u8])];

/// Builds files in either byte order.
#[derive(Clone)]
struct Builder {
    big: bool,
    bytes: Vec<u8>,
}

impl Builder {
    fn new(big: bool) -> Self {
        Self {
            big,
            bytes: Vec::new(),
        }
    }

    fn u16(mut self, value: u16) -> Self {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        let bytes = if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes.extend(bytes);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Bytes padded to a multiple of four.
    fn padded(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn block(self, block_type: u32, body: impl FnOnce(Self) -> Self) -> Self {
        let body = body(Self::new(self.big)).bytes;
        let total = body.len() as u32 + 12;
        self.u32(block_type).u32(total).raw(&body).u32(total)
    }

    fn section(self) -> Self {
        self.block(0x0a0d_0d0a, |b| {
            b.u32(0x1a2b_3c4d).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX)
        })
    }

    fn interface(self, link: u16, options: Options<'_>) -> Self {
        self.block(1, |b| {
            let b = b.u16(link).u16(0).u32(0);
            options.iter().fold(b, |b, (code, value)| {
                b.u16(*code).u16(value.len() as u16).padded(value)
            })
        })
    }

    fn enhanced(self, interface: u32, ticks: u64, bytes: &[u8], orig_len: u32) -> Self {
        self.block(6, |b| {
            b.u32(interface)
                .u32((ticks >> 32) as u32)
                .u32(ticks as u32)
                .u32(bytes.len() as u32)
                .u32(orig_len)
                .padded(bytes)
        })
    }

    fn classic(self, magic: u32, link: u32) -> Self {
        self.u32(magic)
            .u16(2)
            .u16(4)
            .u32(0)
            .u32(0)
            .u32(65535)
            .u32(link)
    }

    fn record(self, seconds: u32, fraction: u32, bytes: &[u8], orig_len: u32) -> Self {
        self.u32(seconds)
            .u32(fraction)
            .u32(bytes.len() as u32)
            .u32(orig_len)
            .raw(bytes)
    }
}

#[test]
fn classic_files_of_both_byte_orders_and_units_agree() {
    for big in [false, true] {
        for (magic, fraction) in [(0xa1b2_c3d4, 123_456), (0xa1b2_3c4d, 123_456_000)] {
            // The upper bits of the link field state a frame check sequence.
            let file = Builder::new(big)
                .classic(magic, 0x5000_0001)
                .record(1_700_000_000, fraction, b"abc", 3)
                .record(1_700_000_001, 0, b"", 60);

            let seen = packets(&file.bytes);

            assert_eq!(seen[0].at, 1_700_000_000_123_456_000);
            assert_eq!(
                (seen[0].bytes.as_slice(), seen[0].orig_len),
                (b"abc".as_slice(), 3)
            );
            assert_eq!((seen[1].bytes.len(), seen[1].orig_len), (0, 60));
            assert!(seen.iter().all(|packet| packet.link == LinkType::Ethernet));
        }
    }
}

#[test]
fn every_packet_block_of_both_byte_orders_is_read() {
    for big in [false, true] {
        let file = Builder::new(big)
            .section()
            .interface(101, &[])
            .enhanced(0, 1_000_001, b"enhanced", 100)
            .block(3, |b| b.u32(6).padded(b"simple"))
            .block(2, |b| {
                b.u16(0).u16(7).u32(0).u32(5).u32(3).u32(3).padded(b"old")
            })
            .block(5, |b| b.u32(0).u32(0).u32(0)) // statistics
            .block(0x0bad, |b| b.raw(&[0; 400]));

        let seen = packets(&file.bytes);

        let bytes: Vec<&[u8]> = seen.iter().map(|packet| packet.bytes.as_slice()).collect();
        assert_eq!(bytes, [b"enhanced".as_slice(), b"simple", b"old"]);
        let stamps: Vec<u64> = seen.iter().map(|packet| packet.at).collect();
        assert_eq!(stamps, [1_000_001_000, 0, 5000]);
        assert_eq!(seen[0].orig_len, 100);
    }
}

#[test]
fn a_simple_packet_ends_at_the_snapshot_length() {
    let file = Builder::new(false)
        .section()
        .block(1, |b| b.u16(101).u16(0).u32(4))
        .block(3, |b| b.u32(1000).padded(b"cut!"));

    let seen = packets(&file.bytes);

    assert_eq!(
        (seen[0].bytes.as_slice(), seen[0].orig_len),
        (b"cut!".as_slice(), 1000)
    );
}

#[test]
fn sections_have_their_own_byte_order_and_interfaces() {
    let little = Builder::new(false)
        .section()
        .interface(1, &[])
        .interface(113, &[(9, &[9])])
        .enhanced(1, 7, b"a", 1);
    let big = Builder::new(true)
        .section()
        .interface(276, &[(9, &[3])])
        .enhanced(0, 7, b"b", 1);
    let file = [little.bytes, big.bytes].concat();

    let seen = packets(&file);

    assert_eq!((seen[0].link, seen[0].at), (LinkType::LinuxSll, 7));
    assert_eq!((seen[1].link, seen[1].at), (LinkType::LinuxSll2, 7_000_000));
}

#[test]
fn an_interface_of_the_previous_section_is_unknown() {
    let file = Builder::new(false)
        .section()
        .interface(1, &[])
        .section()
        .enhanced(0, 0, b"x", 1);

    let (before, error) = defect(&file.bytes);

    assert_eq!(before, 0);
    let CaptureError::UnknownInterface {
        offset: 76,
        interface: 0,
        known: 0,
    } = error
    else {
        panic!("{error}");
    };
}

#[test]
fn every_resolution_becomes_nanoseconds() {
    let cases: [(Options<'_>, u64, u64); 8] = [
        (&[], 5, 5000),
        (&[(9, &[0])], 5, 5_000_000_000),
        (&[(9, &[9])], 5, 5),
        (&[(9, &[12])], 5999, 5),
        (&[(9, &[127])], u64::MAX, 0),
        (&[(9, &[0x80 | 20])], 3 << 19, 1_500_000_000),
        (&[(9, &[0xff])], u64::MAX, 0),
        (
            &[(2, b"eth0"), (14, &[100, 0, 0, 0, 0, 0, 0, 0]), (0, &[])],
            5,
            100_000_005_000,
        ),
    ];
    for (options, ticks, wanted) in cases {
        let file = Builder::new(false)
            .section()
            .interface(1, options)
            .enhanced(0, ticks, b"", 0);

        assert_eq!(packets(&file.bytes)[0].at, wanted, "{options:?}");
    }
}

#[test]
fn packets_of_an_unsupported_link_are_left_out_and_counted() {
    let file = Builder::new(false)
        .section()
        .interface(147, &[])
        .interface(1, &[])
        .enhanced(0, 0, b"left out", 8)
        .enhanced(1, 0, b"seen", 4);
    let mut source = PcapSource::new(file.bytes.as_slice()).unwrap();
    let mut burst = Burst::new();

    let count = source.recv_burst(&mut burst).unwrap();

    assert_eq!(count, 1);
    assert_eq!(
        source.stats(),
        CaptureStats {
            packets: 1,
            unsupported_link: 1
        }
    );
}

#[test]
fn a_block_longer_than_the_window_is_skipped() {
    let file = Builder::new(false)
        .section()
        .interface(1, &[])
        .enhanced(0, 1, b"before", 6)
        .block(10, |b| b.raw(&vec![0xaa; 5 << 20]))
        .enhanced(0, 2, b"behind", 6);

    assert_eq!(packets(&file.bytes).len(), 2);
}

#[test]
fn a_file_cut_anywhere_gives_the_packets_before_the_cut() {
    let le = || Builder::new(false);
    let be = || Builder::new(true);
    let classic = [
        le().classic(0xa1b2_c3d4, 1),
        le().record(1, 0, b"one", 3),
        le().record(2, 0, b"two", 3),
    ];
    let ng = [
        be().section(),
        be().interface(1, &[(9, &[9])]),
        be().enhanced(0, 1, b"one", 3),
        be().block(77, |b| b.raw(&[0; 64])),
        be().enhanced(0, 2, b"two", 3),
    ];
    for records in [classic.as_slice(), &ng] {
        let file: Vec<u8> = records
            .iter()
            .flat_map(|record| record.bytes.clone())
            .collect();
        let whole = packets(&file);
        assert_eq!(whole.len(), 2);
        let mut borders = vec![0];
        borders.extend(records.iter().scan(0, |at, record| {
            *at += record.bytes.len();
            Some(*at)
        }));
        for cut in 0..file.len() {
            let (seen, end) = read_all(Trickle(&file[..cut]));

            assert_eq!(seen, whole[..seen.len()], "cut at {cut}");
            let before = *borders.iter().rfind(|border| **border <= cut).unwrap();
            match end {
                IoError::End => assert!(cut > 0 && cut == before, "cut at {cut}"),
                IoError::Capture(CaptureError::Truncated {
                    wanted, present, ..
                }) => {
                    assert!(cut == 0 || cut > before, "cut at {cut}");
                    assert!(present < wanted, "cut at {cut}");
                }
                other => panic!("cut at {cut}: {other}"),
            }
        }
    }
}

#[test]
fn a_file_that_is_no_capture_is_named_by_its_first_bytes() {
    let (_, error) = defect(b"PK\x03\x04 is a zip file");

    assert!(
        matches!(error, CaptureError::UnknownMagic { found: 0x504b_0304 }),
        "{error}"
    );
}

#[test]
fn a_classic_file_of_an_unsupported_link_is_refused_at_once() {
    let (_, error) = defect(&Builder::new(true).classic(0xa1b2_c3d4, 147).bytes);

    assert!(
        matches!(
            error,
            CaptureError::UnsupportedLink {
                offset: 20,
                link: 147
            }
        ),
        "{error}"
    );
}

#[test]
fn a_packet_above_the_limit_is_refused() {
    let classic = Builder::new(false)
        .classic(0xa1b2_c3d4, 1)
        .u32(0)
        .u32(0)
        .u32(262_145)
        .u32(0);
    let fields = |b: Builder| b.u32(0).u32(0).u32(0).u32(300_000).u32(5).u32(0);

    let (_, error) = defect(&classic.bytes);

    assert!(
        matches!(
            error,
            CaptureError::PacketTooLong {
                offset: 24,
                len: 262_145
            }
        ),
        "{error}"
    );
    let error = defect_behind_interface(&Builder::new(false).block(6, fields).bytes);
    assert!(
        matches!(
            error,
            CaptureError::PacketTooLong {
                offset: 48,
                len: 300_000
            }
        ),
        "{error}"
    );
}

#[test]
fn a_section_of_another_version_or_without_byte_order_is_refused() {
    let version = Builder::new(false).block(0x0a0d_0d0a, |b| {
        b.u32(0x1a2b_3c4d).u16(2).u16(0).raw(&[255; 8])
    });
    let mark = Builder::new(false).block(0x0a0d_0d0a, |b| b.raw(&[0; 16]));

    let (_, version) = defect(&version.bytes);
    let (_, mark) = defect(&mark.bytes);

    assert!(
        matches!(version, CaptureError::UnsupportedVersion { major: 2, .. }),
        "{version}"
    );
    assert!(
        matches!(
            mark,
            CaptureError::ByteOrder {
                offset: 0,
                found: 0
            }
        ),
        "{mark}"
    );
}

/// The error that `bytes` give behind a section and an interface of 48 bytes.
fn defect_behind_interface(bytes: &[u8]) -> CaptureError {
    let head = Builder::new(false).section().interface(1, &[]);
    defect(&head.raw(bytes).bytes).1
}

#[test]
fn an_impossible_block_length_is_refused() {
    for wrong in [0, 8, 13, u32::MAX - 3] {
        let block = Builder::new(false).u32(6).u32(wrong).raw(&[0; 64]);

        let error = defect_behind_interface(&block.bytes);

        let CaptureError::BlockLength {
            offset: 48,
            block_type: 6,
            len,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(len, wrong);
    }
}

#[test]
fn two_different_lengths_of_one_block_are_refused() {
    let mut block = Builder::new(false).enhanced(0, 0, b"", 0).bytes;
    *block.last_mut().unwrap() = 9;

    let error = defect_behind_interface(&block);

    assert!(
        matches!(
            error,
            CaptureError::BlockTail {
                offset: 48,
                head: 32,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_does_not_fit_its_block_is_refused() {
    let blocks = [
        (6, Builder::new(false).block(6, |b| b.u32(0))),
        (
            1,
            Builder::new(false).block(1, |b| b.u32(1).u32(0).u16(9).u16(1)),
        ),
        (
            6,
            Builder::new(false).block(6, |b| b.u32(0).u32(0).u32(0).u32(5).u32(5).u32(0)),
        ),
    ];
    for (wrong, block) in blocks {
        let error = defect_behind_interface(&block.bytes);

        let CaptureError::BlockContent {
            offset: 48,
            block_type,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(block_type, wrong);
    }
}

#[test]
fn interfaces_are_bounded() {
    let section = Builder::new(false).section();
    let file = (0..4097).fold(section, |file, _| file.interface(1, &[]));

    let (_, error) = defect(&file.bytes);

    assert!(
        matches!(error, CaptureError::TooManyInterfaces { max: 4096, .. }),
        "{error}"
    );
}

#[test]
fn a_reader_that_fails_is_reported_with_the_offset() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::PermissionDenied.into())
        }
    }
    let file = Builder::new(false)
        .classic(0xa1b2_c3d4, 1)
        .record(0, 0, b"seen", 4)
        .bytes;

    let (seen, end) = read_all(Cursor::new(&file).chain(Broken));

    assert_eq!(seen.len(), 1);
    let IoError::Capture(CaptureError::Read { offset, .. }) = end else {
        panic!("{end}")
    };
    assert_eq!(offset, file.len() as u64);
}

#[test]
fn writers_refuse_what_no_reader_accepts() {
    let too_long = vec![0; PACKET_MAX as usize + 1];
    let mut classic = PcapWriter::new(Vec::new(), LinkType::RawIp).unwrap();
    let mut ng = PcapngWriter::new(Vec::new()).unwrap();
    let mut other = PcapngWriter::new(Vec::new()).unwrap();
    let id = other.add_interface(LinkType::RawIp, "").unwrap();

    assert!(classic.write(0, &too_long, 0).is_err());
    assert!(ng.write(id, 0, b"x", 1).is_err());
    assert!(other.write(id, 0, &too_long, 0).is_err());
}

#[test]
fn a_long_interface_name_is_cut_between_two_letters() {
    let mut writer = PcapngWriter::new(Vec::new()).unwrap();

    let id = writer
        .add_interface(LinkType::RawIp, &"ä".repeat(200))
        .unwrap();
    writer.write(id, 1, b"x", 1).unwrap();

    assert_eq!(packets(&writer.finish().unwrap()).len(), 1);
}

const LINKS: [LinkType; 6] = [
    LinkType::Ethernet,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::RawIp,
    LinkType::Null,
    LinkType::Loop,
];

/// Stamps below 2^32 seconds, frames of every remainder by four, cut or whole.
fn any_packets() -> impl Strategy<Value = Vec<Seen>> {
    let packet = (
        0..4_294_967_296_000_000_000_u64,
        prop::collection::vec(any::<u8>(), 0..200),
        0..2000_u32,
        prop::sample::select(LINKS.to_vec()),
    );
    let packet = packet.prop_map(|(at, bytes, missing, link)| {
        let orig_len = bytes.len() as u32 + missing;
        Seen {
            at,
            bytes,
            orig_len,
            link,
        }
    });
    prop::collection::vec(packet, 0..80)
}

fn write_ng(packets: &[Seen]) -> Vec<u8> {
    let mut writer = PcapngWriter::new(Vec::new()).unwrap();
    let ids = LINKS.map(|link| (link, writer.add_interface(link, "any").unwrap()));
    for packet in packets {
        let (_, id) = ids.iter().find(|(link, _)| *link == packet.link).unwrap();
        writer
            .write(*id, packet.at, &packet.bytes, packet.orig_len)
            .unwrap();
    }
    writer.finish().unwrap()
}

fn write_classic(packets: &[Seen]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new(), LinkType::RawIp).unwrap();
    for packet in packets {
        writer
            .write(packet.at, &packet.bytes, packet.orig_len)
            .unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_whatever_the_reads_return(mut wanted in any_packets()) {
        let ng = write_ng(&wanted);
        prop_assert_eq!(&packets(&ng), &wanted);
        prop_assert_eq!(&read_all(Trickle(&ng)).0, &wanted);
        for packet in &mut wanted {
            packet.link = LinkType::RawIp;
        }
        let classic = write_classic(&wanted);
        prop_assert_eq!(&packets(&classic), &wanted);
        prop_assert_eq!(&read_all(Trickle(&classic)).0, &wanted);
    }

    #[test]
    fn damaged_files_end_with_an_error_and_never_with_a_panic(
        wanted in any_packets(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for mut file in [write_ng(&wanted), write_classic(&wanted)] {
            for (at, value) in &damage {
                let at = at.index(file.len());
                file[at] = *value;
            }
            let (seen, _) = read_all(file.as_slice());
            prop_assert!(seen.iter().map(|packet| packet.bytes.len()).sum::<usize>() <= file.len());
        }
    }

    #[test]
    fn arbitrary_bytes_behind_each_magic_are_survived(
        magic in prop::sample::select(vec![
            [0xa1, 0xb2, 0xc3, 0xd4], [0x4d, 0x3c, 0xb2, 0xa1], [0x0a, 0x0d, 0x0d, 0x0a],
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let _ = read_all([magic.as_slice(), &rest].concat().as_slice());
    }
}

#[test]
fn a_file_of_many_windows_keeps_every_packet() {
    let frame: Vec<u8> = (0..=u8::MAX).cycle().take(1471).collect();
    let mut writer = PcapngWriter::new(Vec::new()).unwrap();
    let id = writer.add_interface(LinkType::Ethernet, "").unwrap();
    for at in 0..3000 {
        writer
            .write(id, at, &frame[..1000 + at as usize % 471], 1471)
            .unwrap();
    }

    let seen = packets(&writer.finish().unwrap());

    assert_eq!(seen.len(), 3000);
    for (at, packet) in seen.iter().enumerate() {
        assert_eq!(packet.at, at as u64);
        assert_eq!(packet.bytes, &frame[..1000 + at % 471]);
    }
}
