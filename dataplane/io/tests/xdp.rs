//! XDP ports between namespaces: exact counts, every byte, and what stays with the kernel.
#![expect(clippy::unwrap_used, reason = "test code")]

mod rig;

use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use qlink_io::udp::UdpPort;
use qlink_io::wait::wait;
use qlink_io::xdp::frame::{Envelope, Ipv4Checksum};
use qlink_io::xdp::{
    AttachChoice, AttachMode, CopyMode, FrameUse, HEADROOM, NeighbourKeeper, Steering, XdpConfig,
    XdpPort, XdpStats,
};
use qlink_io::{Burst, IoError, Outgoing, PacketSource as _};
use qlink_wire::build;
use qlink_wire::{
    GTPU_PORT, LinkType, gpdu_header, parse_gtpu, parse_ip, parse_udp, protocol, strip_link,
};
use rig::RawSocket;
use rig::site::{
    ENDPOINT, ENDPOINT_V6, ORIGIN, STATION, SUBSCRIBER, Site, addressed, at, ip, port, tunnel,
};

/// Packets that a forwarder took and passed on.
#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
struct Metered {
    uplink: u64,
    downlink: u64,
}

/// What a worker does, without the meter.
struct Forwarder {
    n3: XdpPort,
    n6: XdpPort,
    burst: Burst,
    metered: Metered,
}

impl Forwarder {
    fn new(site: &Site, choice: AttachChoice) -> Self {
        let envelope = tunnel(Ipv4Checksum::Computed);
        Self {
            n3: port(&site.plane, "n3", &Site::n3_rule(), envelope, choice),
            n6: port(
                &site.plane,
                "n6",
                &Site::n6_rule(),
                Envelope::Ethernet,
                choice,
            ),
            burst: Burst::new(),
            metered: Metered::default(),
        }
    }

    /// One burst of each side; `false` when there was none.
    fn step(&mut self) -> bool {
        let up = self.n3.recv_burst(&mut self.burst).unwrap();
        let mut items = Vec::new();
        for descriptor in &self.burst {
            let packet = strip_link(LinkType::Ethernet, self.n3.frame(descriptor)).unwrap();
            let udp = parse_udp(parse_ip(packet).unwrap().payload).unwrap();
            let gtpu = parse_gtpu(udp.payload).unwrap();
            items.push(Outgoing {
                head: &[],
                body: gtpu.payload,
                to: at(ORIGIN, 0),
            });
        }
        assert_eq!(self.n6.send(&items).unwrap(), items.len());
        self.metered.uplink += items.len() as u64;
        let down = self.n6.recv_burst(&mut self.burst).unwrap();
        let mut items = Vec::new();
        let heads: Vec<[u8; 8]> = self
            .burst
            .iter()
            .map(|descriptor| {
                let packet = strip_link(LinkType::Ethernet, self.n6.frame(descriptor)).unwrap();
                let length = parse_ip(packet).unwrap().total_len;
                gpdu_header(77, u16::try_from(length).unwrap())
            })
            .collect();
        for (descriptor, head) in self.burst.iter().zip(&heads) {
            let packet = strip_link(LinkType::Ethernet, self.n6.frame(descriptor)).unwrap();
            let length = parse_ip(packet).unwrap().total_len;
            items.push(Outgoing {
                head,
                body: &packet[..usize::try_from(length).unwrap()],
                to: at(STATION, GTPU_PORT),
            });
        }
        assert_eq!(self.n3.send(&items).unwrap(), items.len());
        self.metered.downlink += items.len() as u64;
        up + down > 0
    }

    /// Works until so many packets have gone each way, ten seconds at most: on a busy machine the
    /// kernel may deliver late.
    fn work_until(&mut self, metered: Metered) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.metered != metered && Instant::now() < deadline {
            if !self.step() {
                self.sleep(Duration::from_millis(20));
            }
        }
        assert_eq!(self.metered, metered);
    }

    /// Sleeps until a packet is there; `false` when none came.
    fn sleep(&self, timeout: Duration) -> bool {
        let ports = [self.n3.as_fd(), self.n6.as_fd()];
        wait(&ports, Some(timeout)).unwrap().any()
    }
}

/// Waits until `look` gives what is expected, ten seconds at most.
fn eventually<T: PartialEq + std::fmt::Debug>(expected: &T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = look();
    while seen != *expected && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
        seen = look();
    }
    assert_eq!(seen, *expected);
}

/// Where every frame of a port is while nothing moves.
const AT_REST: FrameUse = FrameUse {
    waiting: 1024,
    in_burst: 0,
    spare: 0,
    free: 1024,
    in_flight: 0,
};

fn forwards_with_exact_counts(choice: AttachChoice, rounds: u64) {
    // Fewer than the 256 packets that a veth holds while the kernel delivers late.
    const ROUND: u64 = 200;
    let Some(site) = Site::new() else { return };
    let mut forwarder = Forwarder::new(&site, choice);
    let station = RawSocket::open(&site.station, "s3");
    let origin = RawSocket::open(&site.origin, "o6");
    let (uplink, downlink) = (site.uplink(77, 1300), site.downlink(1300));
    let before = (site.station.received("s3"), site.origin.received("o6"));

    for round in 1..=rounds {
        for _ in 0..ROUND {
            station.send(&uplink);
            origin.send(&downlink);
        }
        let sent = round * ROUND;
        forwarder.work_until(Metered {
            uplink: sent,
            downlink: sent,
        });
    }

    let sent = rounds * ROUND;
    eventually(&(sent, sent), || {
        (
            site.station.received("s3") - before.0,
            site.origin.received("o6") - before.1,
        )
    });
    assert!(!forwarder.sleep(Duration::from_millis(20)) && !forwarder.step());
    for port in [&mut forwarder.n3, &mut forwarder.n6] {
        eventually(&AT_REST, || port.frame_use());
        assert_eq!(port.stats().unwrap(), XdpStats::default());
        assert_eq!(port.copy_mode(), CopyMode::Copy);
    }
}

// 2 x 100 000 packets through 1024 frames each way: one lost frame per thousand would show.
#[test]
fn packets_metered_are_packets_seen_behind_and_no_frame_is_lost() {
    forwards_with_exact_counts(AttachChoice::Only(AttachMode::Native), 500);
}

#[test]
fn the_generic_mode_forwards_the_same() {
    forwards_with_exact_counts(AttachChoice::Only(AttachMode::Generic), 50);
}

#[test]
fn every_byte_of_the_inner_packet_arrives_in_both_directions() {
    let Some(site) = Site::new() else { return };
    let mut forwarder = Forwarder::new(&site, AttachChoice::Best);
    let station = RawSocket::open(&site.station, "s3");
    let origin = RawSocket::open(&site.origin, "o6");

    for (round, length) in (1..).zip([0, 1, 17, 18, 19, 700, 1422]) {
        station.send(&site.uplink(77, length));
        origin.send(&site.downlink(length));
        forwarder.work_until(Metered {
            uplink: round,
            downlink: round,
        });

        let up = build::udp_packet(at(SUBSCRIBER, 5000), at(ORIGIN, 80), &vec![7; length]);
        let seen = origin
            .receive_where(|frame| frame[12..14] == [8, 0])
            .unwrap();
        assert_eq!(seen[14..14 + length + 28], up.unwrap());
        let down = build::udp_packet(at(ORIGIN, 80), at(SUBSCRIBER, 5000), &vec![9; length]);
        let seen = station
            .receive_where(|frame| frame[12..14] == [8, 0])
            .unwrap();
        let outer = parse_ip(&seen[14..]).unwrap();
        assert_eq!((outer.src, outer.dst), (ip(ENDPOINT), ip(STATION)));
        let udp = parse_udp(outer.payload).unwrap();
        assert_eq!((udp.src_port, udp.dst_port), (GTPU_PORT, GTPU_PORT));
        let gtpu = parse_gtpu(udp.payload).unwrap();
        assert_eq!((gtpu.teid, gtpu.payload), (77, down.unwrap().as_slice()));
    }
}

#[test]
fn tshark_agrees_with_every_header_that_leaves() {
    if Command::new("tshark")
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_err()
    {
        println!("skipped: no tshark");
        return;
    }
    let Some(site) = Site::new() else { return };
    let mut forwarder = Forwarder::new(&site, AttachChoice::Best);
    let station = RawSocket::open(&site.station, "s3");
    let origin = RawSocket::open(&site.origin, "o6");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n3.pcap");
    let file = std::fs::File::create(&path).unwrap();
    let mut capture = qlink_io::pcap::PcapWriter::new(file, LinkType::Ethernet).unwrap();
    for (downlink, length) in (1..).zip([0, 11, 1400]) {
        origin.send(&site.downlink(length));
        forwarder.work_until(Metered {
            uplink: 0,
            downlink,
        });
        let seen = station
            .receive_where(|frame| frame[12..14] == [8, 0])
            .unwrap();
        capture
            .write(0, &seen, u32::try_from(seen.len()).unwrap())
            .unwrap();
    }
    capture.finish().unwrap();

    let output = Command::new("tshark")
        .args(["-r", path.to_str().unwrap(), "-T", "fields"])
        .args([
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "udp.check_checksum:TRUE",
        ])
        .args(["-e", "ip.checksum.status", "-e", "udp.checksum.status"])
        .args(["-e", "gtp.teid", "-e", "udp.length", "-e", "ip.flags.df"])
        .output()
        .unwrap();

    // Status 1 is "good"; outer and inner headers are listed together.
    let text = String::from_utf8_lossy(&output.stdout).replace("True", "1");
    let lines: Vec<&str> = text.lines().collect();
    let expected = [(44, 8), (55, 19), (1444, 1408)]
        .map(|(outer, inner)| format!("1,1\t1,1\t0x0000004d\t{outer},{inner}\t1,0"));
    let plain: Vec<String> = lines
        .iter()
        .map(|line| line.replace("False", "0"))
        .collect();
    assert_eq!(plain, expected);
}

#[test]
fn what_is_not_metered_still_reaches_the_kernel() {
    let Some(site) = Site::new() else { return };
    let _forwarder = Forwarder::new(&site, AttachChoice::Best);
    let station = RawSocket::open(&site.station, "s3");
    let own = site.station.interface("s3").mac;

    let ping = build::icmp_packet(ip(STATION), ip(ENDPOINT), (8, 0, 0x0001_0001), &[5; 56]);
    let mut frame = addressed(&ping.unwrap(), site.plane.interface("n3").mac);
    frame[6..12].copy_from_slice(&own.octets());
    station.send(&frame);
    let answer = station.receive_where(|frame| {
        frame[12..14] == [8, 0] && frame[23] == protocol::ICMP && frame[34] == 0
    });

    assert!(answer.is_some(), "no answer to a ping");
    let other_port = site
        .plane
        .run(|| UdpSocket::bind((ENDPOINT, 2153)).unwrap());
    other_port
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let client = site.station.run(|| UdpSocket::bind((STATION, 0)).unwrap());
    client.send_to(b"to the kernel", (ENDPOINT, 2153)).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(other_port.recv(&mut buffer).unwrap(), 13);
}

#[test]
fn a_fragmented_tunnel_packet_reaches_the_udp_port_beside() {
    let Some(site) = Site::new() else { return };
    let forwarder = Forwarder::new(&site, AttachChoice::Best);
    let mut beside = site
        .plane
        .run(|| UdpPort::bind(at(ENDPOINT, GTPU_PORT), LinkType::RawIp).unwrap());
    let client = site
        .station
        .run(|| UdpSocket::bind((STATION, GTPU_PORT)).unwrap());

    client.send_to(&[3; 4000], (ENDPOINT, GTPU_PORT)).unwrap();
    client.send_to(&[4; 40], (ENDPOINT, GTPU_PORT)).unwrap();

    let mut burst = Burst::new();
    assert!(beside.poll(Some(Duration::from_secs(2))).unwrap());
    assert_eq!(beside.recv_burst(&mut burst).unwrap(), 1);
    assert_eq!(beside.frame(&burst.as_slice()[0]), [3; 4000]);
    // And the whole one went to the XDP port alone.
    assert!(forwarder.n3.poll(Some(Duration::from_secs(2))).unwrap());
    assert!(!beside.poll(Some(Duration::from_millis(20))).unwrap());
}

#[test]
fn ipv6_tunnels_are_steered_and_answered() {
    let Some(site) = Site::new() else { return };
    site.plane.ipv6("n3", "0");
    site.plane.up("n3", &["fd00:3::1/64"]);
    let plane_mac = site.plane.interface("n3").mac;
    let station_mac = site.station.interface("s3").mac;
    site.plane.neighbour("n3", ip("fd00:3::7"), station_mac);
    let envelope = Envelope::Udp {
        local: at(ENDPOINT_V6, GTPU_PORT),
        checksum: Ipv4Checksum::Zero,
    };
    let mut n3 = port(
        &site.plane,
        "n3",
        &Site::n3_rule(),
        envelope,
        AttachChoice::Best,
    );
    let station = RawSocket::open(&site.station, "s3");
    let (from, to) = (at("fd00:3::7", GTPU_PORT), at(ENDPOINT_V6, GTPU_PORT));
    let outer = build::gpdu_packet(from, to, 5, &[0x45; 40]).unwrap();
    station.send(&addressed(&outer, plane_mac));
    assert!(n3.poll(Some(Duration::from_secs(2))).unwrap());
    let mut burst = Burst::new();
    assert_eq!(n3.recv_burst(&mut burst).unwrap(), 1);

    let body = &n3.frame(&burst.as_slice()[0])[14 + 40 + 8..];
    let item = Outgoing {
        head: &[],
        body,
        to: from,
    };
    assert_eq!(n3.send(&[item]).unwrap(), 1);

    let seen = station
        .receive_where(|frame| frame[12..14] == [0x86, 0xdd])
        .unwrap();
    let answer = parse_ip(&seen[14..]).unwrap();
    let sum = qlink_wire::checksum::transport_checksum(
        answer.src,
        answer.dst,
        protocol::UDP,
        answer.payload,
    );
    assert_eq!((answer.src, answer.dst, sum), (to.ip(), from.ip(), 0));
}

#[test]
fn a_next_hop_is_refused_until_the_kernel_has_found_it() {
    let Some(site) = Site::new() else { return };
    let steering = site
        .plane
        .run(|| Steering::attach("n6", &Site::n6_rule(), AttachChoice::Best).unwrap());
    site.plane.ip("neigh flush dev n6 nud permanent");
    site.plane.ip("route add default via 10.0.6.9");
    let mut keeper = site
        .plane
        .run(|| NeighbourKeeper::new(steering.interface().index, vec![]).unwrap());
    let config = XdpConfig::new(Envelope::Ethernet);
    let reader = keeper.reader();
    let n6 = site
        .plane
        .run(|| XdpPort::open(&steering, 0, &config, reader).unwrap());
    let packet = build::udp_packet(at(SUBSCRIBER, 1), at("8.8.8.8", 53), b"query").unwrap();
    let item = Outgoing {
        head: &[],
        body: &packet,
        to: at("8.8.8.8", 0),
    };

    let unknown = n6.send(&[item]).unwrap_err();
    let started = Instant::now();
    while keeper
        .refresh(&[])
        .unwrap()
        .next_hop(item.to.ip())
        .is_none()
    {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "never resolved"
        );
        std::thread::sleep(Duration::from_millis(20));
    }

    assert!(matches!(unknown, IoError::Refused { .. }), "{unknown}");
    assert_eq!(n6.stats().unwrap().transmit.no_next_hop, 1);
    assert_eq!(n6.send(&[item]).unwrap(), 1);
}

#[test]
fn what_cannot_be_sent_is_refused_alone() {
    let Some(site) = Site::new() else { return };
    let forwarder = Forwarder::new(&site, AttachChoice::Best);
    let long = vec![0x45; 1473];
    let item = |body, to| Outgoing {
        head: &[],
        body,
        to,
    };
    let good = item(b"fits".as_slice(), at(STATION, GTPU_PORT));
    let items = [
        good,
        item(&long, at(STATION, GTPU_PORT)),
        item(b"x", at("fd00:3::7", 1)),
        good,
    ];

    let sent: Vec<Result<usize, IoError>> = [&items[..], &items[1..], &items[2..], &items[3..]]
        .into_iter()
        .map(|rest| forwarder.n3.send(rest))
        .collect();

    assert!(
        matches!(
            sent.as_slice(),
            [
                Ok(1),
                Err(IoError::Refused { len: 1473, .. }),
                Err(IoError::Refused { len: 1, .. }),
                Ok(1)
            ]
        ),
        "{sent:?}"
    );
    assert_eq!(forwarder.n3.stats().unwrap().transmit.too_long, 1);
}

#[test]
fn a_stale_or_made_up_descriptor_has_no_bytes() {
    let Some(site) = Site::new() else { return };
    let mut forwarder = Forwarder::new(&site, AttachChoice::Best);
    let station = RawSocket::open(&site.station, "s3");
    station.send(&site.uplink(1, 100));
    assert!(forwarder.n3.poll(Some(Duration::from_secs(2))).unwrap());
    let mut burst = Burst::new();
    forwarder.n3.recv_burst(&mut burst).unwrap();
    let real = burst.as_slice()[0];
    assert_eq!(forwarder.n3.frame(&real), site.uplink(1, 100));
    assert_eq!(real.offset % 2048, HEADROOM);

    for change in [
        |d: &mut qlink_io::Descriptor| d.offset += 1,
        |d: &mut qlink_io::Descriptor| d.len += 1,
        |d: &mut qlink_io::Descriptor| d.offset = usize::MAX,
        |d: &mut qlink_io::Descriptor| d.offset += 1 << 20,
        |d: &mut qlink_io::Descriptor| d.offset += 2048,
    ] {
        let mut wrong = real;
        change(&mut wrong);
        assert!(forwarder.n3.frame(&wrong).is_empty(), "{wrong:?}");
    }
    forwarder.n3.recv_burst(&mut burst).unwrap();
    assert!(forwarder.n3.frame(&real).is_empty());
}

// In copy mode the kernel sends 32 packets per system call, and there are 1024 frames to send with.
#[test]
fn one_call_sends_as_many_packets_as_there_are_frames() {
    let Some(site) = Site::new() else { return };
    let forwarder = Forwarder::new(&site, AttachChoice::Best);
    let before = site.station.received("s3");
    let item = Outgoing {
        head: b"head",
        body: b"body",
        to: at(STATION, GTPU_PORT),
    };

    let mut sent = forwarder.n3.send(&[item; 100]).unwrap();
    sent += forwarder.n3.send(&[item; 2000]).unwrap();

    assert!((200..=1124).contains(&sent), "{sent}");
    let mut n3 = forwarder.n3;
    let mut nothing = Burst::new();
    eventually(&(sent as u64), || {
        n3.recv_burst(&mut nothing).unwrap();
        site.station.received("s3") - before
    });
    eventually(&AT_REST, || n3.frame_use());
}
