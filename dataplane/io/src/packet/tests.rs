//! Claims about the tap, held by the real kernel over a veth pair in a namespace.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use qlink_wire::LinkType;

use super::socket::open_socket;
use super::{OutgoingFrames, PacketTap, Promiscuous, TapConfig, TapFilter, TapStats};
use crate::netns::{in_namespace, ip};
use crate::sys::{family, length_of};
use crate::{Burst, IoError, PacketSource, clock};

const SECOND: Option<Duration> = Some(Duration::from_secs(5));

/// Everything that `interface` receives.
fn everything(interface: &str) -> TapConfig {
    TapConfig {
        filter: TapFilter::Everything,
        promiscuous: Promiscuous::On,
        ..TapConfig::new(interface)
    }
}

/// Runs `work` where `qa` and `qb` are the ends of one wire, over which the kernel says nothing.
fn on_a_wire<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    in_namespace(|| {
        for scope in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            // Without IPv6 there is nothing to silence.
            let _ = fs::write(path, "1");
        }
        ip("link add qa type veth peer name qb");
        ip("link set qa arp off up");
        ip("link set qb arp off up");
        for (from, to) in [("qa", "qb"), ("qb", "qa")] {
            until_frames_pass(
                &Wire::end(from),
                &mut PacketTap::open(&everything(to)).unwrap(),
            );
        }
        work()
    })
}

/// Sends frames until one comes: an interface that was just set up drops some.
fn until_frames_pass(from: &Wire, to: &mut PacketTap) {
    let came = (0..100).any(|_| {
        from.send(&ethernet(&[], 0x88b6, &[1; 100]));
        to.poll(Some(Duration::from_millis(50))).unwrap()
            && to.recv_burst(&mut Burst::new()).unwrap() > 0
    });
    assert!(came, "no frame passes");
}

/// Sends frames as they are.
struct Wire {
    socket: OwnedFd,
    index: libc::c_int,
}

impl Wire {
    fn end(interface: &str) -> Self {
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: the name is a live C string.
        let found = unsafe { libc::if_nametoindex(name.as_ptr()) };
        assert!(found > 0, "{interface}");
        Self {
            socket: open_socket(libc::SOCK_RAW).unwrap(),
            index: found.try_into().unwrap(),
        }
    }

    fn send(&self, frame: &[u8]) {
        let to = libc::sockaddr_ll {
            sll_family: family(libc::AF_PACKET),
            sll_protocol: 0,
            sll_ifindex: self.index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: [0; 8],
        };
        // SAFETY: frame and address are live objects of the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                length_of::<libc::sockaddr_ll>(),
            )
        };
        assert_eq!(
            sent,
            frame.len().cast_signed(),
            "{}",
            io::Error::last_os_error()
        );
    }
}

/// Bursts until `count` frames have come.
fn receive(tap: &mut PacketTap, count: usize) -> Vec<Vec<u8>> {
    let mut burst = Burst::new();
    let mut frames = Vec::new();
    while frames.len() < count {
        let came = frames.len();
        assert!(tap.poll(SECOND).unwrap(), "{came} of {count} frames came");
        tap.recv_burst(&mut burst).unwrap();
        frames.extend(burst.iter().map(|d| tap.frame(d).to_vec()));
    }
    frames
}

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

fn ethernet(tags: &[u16], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let tags = tags
        .iter()
        .flat_map(|id| [0x8100_u16, 0x2000 | id])
        .flat_map(u16::to_be_bytes);
    let mut frame: Vec<u8> = MACS.into_iter().chain(tags).collect();
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 packet with `options` behind the fixed head.
fn ip4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let total = u16::try_from(20 + options.len() + payload.len()).unwrap();
    let mut packet = vec![0x40 | words, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 7]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn ip6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0x20; 32]);
    packet.extend(payload);
    packet
}

fn udp(from: u16, to: u16) -> Vec<u8> {
    let ports = [from.to_be_bytes(), to.to_be_bytes(), [0, 12], [0, 0]];
    [ports.concat().as_slice(), b"body"].concat()
}

/// An IPv6 fragment header and what follows it.
fn fragment6(next: u8, offset: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (offset << 3).to_be_bytes();
    [&[next, 0, high, low, 0, 0, 0, 9], payload].concat()
}

#[test]
fn every_frame_sent_is_seen_exactly_once_and_in_order() {
    on_a_wire(|| {
        let mut tap = PacketTap::open(&everything("qb")).unwrap();
        let wire = Wire::end("qa");
        let before_ns = clock::now_ns();
        let frame = |number: usize| {
            let length = 46 + number * 37 % 1455;
            let body: Vec<u8> = number
                .to_be_bytes()
                .into_iter()
                .cycle()
                .take(length)
                .collect();
            ethernet(&[], 0x88b5, &body)
        };
        let frames: Vec<Vec<u8>> = (0..5000).map(frame).collect();

        let mut burst = Burst::new();
        let mut seen = 0;
        for sent in frames.chunks(500) {
            sent.iter().for_each(|frame| wire.send(frame));
            while seen < 500 {
                assert!(tap.poll(SECOND).unwrap(), "{seen} frames");
                tap.recv_burst(&mut burst).unwrap();
                for (descriptor, frame) in burst.iter().zip(&sent[seen..]) {
                    assert_eq!(tap.frame(descriptor), frame);
                    assert_eq!(descriptor.orig_len, descriptor.len);
                    assert_eq!(descriptor.link, LinkType::Ethernet);
                    assert!((before_ns..=clock::now_ns()).contains(&descriptor.timestamp_ns));
                }
                seen += burst.len();
            }
            assert_eq!(seen, 500);
            seen = 0;
        }

        let expected = TapStats {
            frames: 5000,
            ..TapStats::default()
        };
        assert_eq!(tap.stats().unwrap(), expected);
        assert_eq!(tap.recv_burst(&mut burst).unwrap(), 0);
    });
}

#[test]
fn what_does_not_fit_into_the_ring_is_counted_as_dropped() {
    on_a_wire(|| {
        let small = TapConfig {
            blocks: 2,
            block_bytes: super::BLOCK_BYTES_MIN,
            ..everything("qb")
        };
        let mut tap = PacketTap::open(&small).unwrap();
        let wire = Wire::end("qa");
        let frame = ethernet(&[], 0x88b5, &[9; 1400]);

        let mut stats = TapStats::default();
        for sent in 1..=1000 {
            wire.send(&frame);
            // The kernel hands frames over later when it is busy, and then drops of its own accord.
            for _ in 0..1_000_000 {
                stats = tap.stats().unwrap();
                if stats.frames == sent {
                    break;
                }
                thread::yield_now();
            }
        }
        let delivered = stats.frames - stats.dropped;

        assert_eq!(stats.frames, 1000);
        assert!(stats.dropped > 0 && stats.full > 0, "{stats:?}");
        let seen = receive(&mut tap, delivered.try_into().unwrap());
        assert!(seen.iter().all(|bytes| *bytes == frame));
        assert_eq!(tap.recv_burst(&mut Burst::new()).unwrap(), 0);
        // The ring works on.
        wire.send(&frame);
        assert_eq!(receive(&mut tap, 1), [frame]);
    });
}

#[test]
fn the_filter_lets_gtp_u_through_and_nothing_else() {
    on_a_wire(|| {
        let v4 = |payload: &[u8]| ethernet(&[], 0x0800, &ip4(17, 0, &[], payload));
        let v6 = |next, payload: &[u8]| ethernet(&[], 0x86dd, &ip6(next, payload));
        let (to, from, other) = (udp(4000, 2152), udp(2152, 4000), udp(4000, 2153));
        let accepted = [
            v4(&to),
            v4(&from),
            ethernet(&[], 0x0800, &ip4(17, 0, &[1; 8], &to)),
            // First fragment, and a later one, whose bytes are no ports.
            ethernet(&[], 0x0800, &ip4(17, 0x2000, &[], &to)),
            ethernet(&[], 0x0800, &ip4(17, 0x2003, &[], &other)),
            ethernet(&[5], 0x0800, &ip4(17, 0, &[], &to)),
            ethernet(&[6, 5], 0x0800, &ip4(17, 0, &[], &to)),
            v6(17, &to),
            v6(17, &from),
            v6(44, &fragment6(17, 0, &to)),
            v6(44, &fragment6(17, 5, &other)),
            v6(0, &[17, 0, 1, 4, 0, 0, 0, 0]),
            ethernet(&[6, 5], 0x86dd, &ip6(17, &to)),
        ];
        let refused = [
            v4(&other),
            v6(17, &other),
            ethernet(&[], 0x0800, &ip4(6, 0, &[], &to)),
            ethernet(&[], 0x0800, &ip4(6, 3, &[], &to)),
            // Options that look like the ports of a head without options.
            ethernet(&[], 0x0800, &ip4(17, 0, &to[..4], &other)),
            ethernet(&[5], 0x0800, &ip4(17, 0, &[], &other)),
            v6(44, &fragment6(17, 0, &other)),
            v6(44, &fragment6(6, 5, &to)),
            v6(6, &to),
            ethernet(&[], 0x0806, &ip4(17, 0, &[], &to)),
            ethernet(&[], 0x0800, &ip4(17, 0, &[], &to)[..21]),
        ];
        let mut tap = PacketTap::open(&TapConfig {
            promiscuous: Promiscuous::On,
            ..TapConfig::new("qb")
        })
        .unwrap();
        let wire = Wire::end("qa");

        refused.iter().for_each(|frame| wire.send(frame));
        accepted.iter().for_each(|frame| wire.send(frame));

        let seen = receive(&mut tap, accepted.len());
        for (seen, accepted) in seen.iter().zip(&accepted) {
            assert_eq!(seen, accepted);
        }
        assert_eq!(tap.stats().unwrap().frames, accepted.len() as u64);
    });
}

#[test]
fn a_vlan_tag_that_the_kernel_took_out_is_back() {
    on_a_wire(|| {
        let mut tap = PacketTap::open(&everything("qb")).unwrap();
        let wire = Wire::end("qa");
        let frames = [&[0x123][..], &[0xabc, 0x123]].map(|tags| ethernet(tags, 0x88b5, &[3; 100]));

        frames.iter().for_each(|frame| wire.send(frame));

        assert_eq!(receive(&mut tap, 2), frames);
    });
}

#[test]
fn frames_of_this_machine_are_seen_or_left_out_as_configured() {
    on_a_wire(|| {
        let mut skipping = PacketTap::open(&everything("qa")).unwrap();
        let mut seeing = PacketTap::open(&TapConfig {
            outgoing: OutgoingFrames::Seen,
            ..everything("qa")
        })
        .unwrap();
        let sent = ethernet(&[], 0x88b5, &[1; 100]);
        let received = ethernet(&[], 0x88b5, &[2; 100]);

        Wire::end("qa").send(&sent);
        Wire::end("qb").send(&received);

        assert_eq!(receive(&mut seeing, 2), [sent, received.clone()]);
        assert_eq!(receive(&mut skipping, 1), [received]);
        assert_eq!(skipping.recv_burst(&mut Burst::new()).unwrap(), 0);
    });
}

#[test]
fn a_datagram_over_loopback_is_seen_once() {
    in_namespace(|| {
        let mut tap = PacketTap::open(&TapConfig::new("lo")).unwrap();
        let to = UdpSocket::bind("127.0.0.1:2152").unwrap();

        for number in 0..10_u8 {
            to.send_to(&[number; 50], "127.0.0.1:2152").unwrap();
        }

        let frames = receive(&mut tap, 10);
        for (number, frame) in (0..10_u8).zip(&frames) {
            assert_eq!(frame.len(), 14 + 28 + 50);
            assert!(frame.ends_with(&[number; 50]));
        }
        assert_eq!(tap.stats().unwrap().frames, 10);
    });
}

/// A TUN interface, there while the file is open.
fn tun(name: &str) -> fs::File {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .unwrap();
    // SAFETY: all zero is valid for integers, arrays and pointers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI).try_into().unwrap();
    // SAFETY: the file is open and the request a live `ifreq`.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
    file
}

#[test]
fn an_interface_without_link_header_gives_ip_packets() {
    in_namespace(|| {
        let _tun = tun("qt");
        ip("link set qt up");
        ip("addr add 10.9.0.1/24 dev qt");
        let mut tap = PacketTap::open(&TapConfig {
            outgoing: OutgoingFrames::Seen,
            ..TapConfig::new("qt")
        })
        .unwrap();
        let from = UdpSocket::bind("10.9.0.1:0").unwrap();

        from.send_to(b"body", "10.9.0.2:2153").unwrap();
        from.send_to(b"body", "10.9.0.2:2152").unwrap();

        let frame = receive(&mut tap, 1).remove(0);
        assert_eq!(tap.link(), LinkType::RawIp);
        assert_eq!((frame[0], frame.len()), (0x45, 20 + 8 + 4));
        assert_eq!(frame[22..24], 2152_u16.to_be_bytes());
    });
}

#[test]
fn a_long_frame_is_whole_in_the_smallest_block() {
    in_namespace(|| {
        let mut tap = PacketTap::open(&TapConfig {
            blocks: 2,
            block_bytes: super::BLOCK_BYTES_MIN,
            ..TapConfig::new("lo")
        })
        .unwrap();
        let to = UdpSocket::bind("127.0.0.1:2152").unwrap();
        let body = vec![7; 65_000];

        to.send_to(&body, "127.0.0.1:2152").unwrap();

        let frame = receive(&mut tap, 1).remove(0);
        assert_eq!(frame.len(), 14 + 28 + body.len());
        assert!(frame.ends_with(&body));
    });
}

#[test]
fn a_descriptor_of_an_earlier_burst_shows_nothing() {
    on_a_wire(|| {
        let mut tap = PacketTap::open(&everything("qb")).unwrap();
        Wire::end("qa").send(&ethernet(&[], 0x88b5, &[1; 100]));
        let mut burst = Burst::new();
        while burst.is_empty() {
            assert!(tap.poll(SECOND).unwrap());
            tap.recv_burst(&mut burst).unwrap();
        }
        let old = burst.as_slice()[0];
        assert!(!tap.frame(&old).is_empty());

        tap.recv_burst(&mut burst).unwrap();

        assert!(tap.frame(&old).is_empty());
    });
}

#[test]
fn an_interface_that_goes_down_is_counted_and_one_that_is_gone_is_an_error() {
    on_a_wire(|| {
        let mut tap = PacketTap::open(&everything("qb")).unwrap();
        let mut burst = Burst::new();

        ip("link set qb down");
        assert_eq!(tap.recv_burst(&mut burst).unwrap(), 0);
        assert_eq!(tap.stats().unwrap().interface_down, 1);
        assert!(!tap.poll(Some(Duration::ZERO)).unwrap());
        ip("link set qb up");
        until_frames_pass(&Wire::end("qa"), &mut tap);
        ip("link del qb");
        let gone = loop {
            match tap.recv_burst(&mut burst) {
                Ok(_) => assert!(tap.poll(SECOND).unwrap()),
                Err(error) => break error,
            }
        };

        assert!(matches!(gone, IoError::Device { .. }), "{gone}");
    });
}

#[test]
fn impossible_configurations_are_refused_with_the_interface() {
    in_namespace(|| {
        let sound = TapConfig::new("lo");
        let unsound = [
            TapConfig::new("nonesuch"),
            TapConfig::new("a-name-of-more-than-15-bytes"),
            TapConfig::new(""),
            TapConfig {
                block_bytes: 100_000,
                ..sound.clone()
            },
            TapConfig {
                blocks: 1,
                ..sound.clone()
            },
            TapConfig {
                retire: Duration::ZERO,
                ..sound.clone()
            },
        ];

        assert!(PacketTap::open(&sound).is_ok());
        for config in unsound {
            let error = PacketTap::open(&config).unwrap_err();
            assert!(error.to_string().contains(&config.interface), "{error}");
        }
    });
}
