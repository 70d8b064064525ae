use super::*;

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use qlink_wire::LinkType;
use qlink_wire::build::{self, IpEnvelope, Ipv6Extension, LinkFrame};

use crate::xdp::bpf::{self, BpfMap, MapKind};

const STEERED: u32 = Unserved::Drop as u32;
const PASSED: u32 = PASS as u32;

/// A loaded program with its maps.
struct Loaded {
    program: OwnedFd,
    _maps: [BpfMap; 2],
}

impl Loaded {
    fn verdict(&self, frame: &[u8]) -> u32 {
        bpf::test_run(self.program.as_fd(), frame).unwrap()
    }
}

/// `None`, with a word, where this process may not load programs.
fn load(write: impl Fn(ProgramMaps) -> Vec<u64>, prefixes: &[(&str, u8)]) -> Option<Loaded> {
    let sockets = match BpfMap::new(MapKind::Sockets, 4, 4) {
        Ok(map) => map,
        Err(error) => {
            println!("skipped: {error}");
            return None;
        }
    };
    let table = BpfMap::new(MapKind::Prefixes, 20, 16).unwrap();
    for (network, len) in prefixes {
        table
            .insert(&prefix_key(network.parse().unwrap(), *len), 1)
            .unwrap();
    }
    let code = write(ProgramMaps {
        sockets: sockets.as_immediate(),
        prefixes: table.as_immediate(),
    });
    let program = bpf::load_program("qlink_test", &code).unwrap_or_else(|error| {
        panic!("{}\n{}", error.source, error.log);
    });
    Some(Loaded {
        program,
        _maps: [sockets, table],
    })
}

fn n3_program() -> Option<Loaded> {
    let endpoints: [IpAddr; 3] = [
        "10.0.0.1".parse().unwrap(),
        "200.0.0.1".parse().unwrap(),
        "fd00::1".parse().unwrap(),
    ];
    load(|maps| n3(&endpoints, maps, Unserved::Drop), &[])
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    LinkFrame::new(LinkType::Ethernet).wrap(packet).unwrap()
}

fn tagged(packet: &[u8], tags: &[u16]) -> Vec<u8> {
    LinkFrame::new(LinkType::Ethernet)
        .with_vlan_tags(tags)
        .wrap(packet)
        .unwrap()
}

fn udp(to: &str) -> Vec<u8> {
    let to: SocketAddr = to.parse().unwrap();
    let from = if to.is_ipv4() {
        "10.0.0.7:9"
    } else {
        "[fd00::7]:9"
    };
    build::udp_packet(from.parse().unwrap(), to, &[0; 100]).unwrap()
}

#[test]
fn n3_steers_tunnel_packets_to_our_endpoints() {
    let Some(program) = n3_program() else { return };
    let with_options = {
        let datagram = build::udp_datagram(
            "10.0.0.7:9".parse().unwrap(),
            "10.0.0.1:2152".parse().unwrap(),
            b"x",
        );
        IpEnvelope::new("10.0.0.7".parse().unwrap(), "10.0.0.1".parse().unwrap())
            .with_options(&[1; 40])
            .wrap(protocol::UDP, &datagram.unwrap())
            .unwrap()
    };

    for frame in [
        ethernet(&udp("10.0.0.1:2152")),
        ethernet(&udp("200.0.0.1:2152")),
        ethernet(&udp("[fd00::1]:2152")),
        tagged(&udp("10.0.0.1:2152"), &[5]),
        tagged(&udp("[fd00::1]:2152"), &[5]),
        ethernet(&with_options),
    ] {
        assert_eq!(program.verdict(&frame), STEERED, "{frame:02x?}");
    }
}

#[test]
fn n3_passes_everything_else_to_the_kernel() {
    let Some(program) = n3_program() else { return };
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let ping = build::icmp_packet(
        address("10.0.0.7"),
        address("10.0.0.1"),
        (8, 0, 1),
        &[0; 56],
    );
    let extended = IpEnvelope::new(address("fd00::7"), address("fd00::1"))
        .with_extensions(&[Ipv6Extension {
            kind: protocol::HOP_BY_HOP,
            content: &[1, 4, 0, 0, 0, 0],
        }])
        .wrap(protocol::UDP, &udp("[fd00::1]:2152")[40..])
        .unwrap();
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut short_header = ethernet(&udp("10.0.0.1:2152"));
    short_header[14] = 0x44;

    for frame in [
        ethernet(&udp("10.0.0.1:2153")),
        ethernet(&udp("10.0.0.2:2152")),
        ethernet(&udp("[fd00::2]:2152")),
        tagged(&udp("10.0.0.1:2152"), &[5, 6]),
        ethernet(&ping.unwrap()),
        ethernet(&extended),
        arp,
        short_header,
    ] {
        assert_eq!(program.verdict(&frame), PASSED, "{frame:02x?}");
    }
}

#[test]
fn an_endpoint_of_one_family_alone_loads_and_steers_that_family() {
    for (endpoint, other) in [("10.0.0.1", "[fd00::1]"), ("fd00::1", "10.0.0.1")] {
        let endpoints = [endpoint.parse().unwrap()];
        let Some(program) = load(|maps| n3(&endpoints, maps, Unserved::Drop), &[]) else {
            return;
        };

        let own = SocketAddr::new(endpoints[0], 2152).to_string();
        assert_eq!(program.verdict(&ethernet(&udp(&own))), STEERED);
        let other = format!("{other}:2152");
        assert_eq!(program.verdict(&ethernet(&udp(&other))), PASSED);
    }
}

#[test]
fn the_largest_program_is_accepted() {
    let endpoints: Vec<IpAddr> = (0..16_u8)
        .flat_map(|last| [IpAddr::from([10, 0, 0, last]), IpAddr::from([last; 16])])
        .collect();
    let Some(program) = load(|maps| n3(&endpoints, maps, Unserved::Drop), &[]) else {
        return;
    };

    let last = SocketAddr::new(endpoints[31], 2152).to_string();
    assert_eq!(program.verdict(&ethernet(&udp(&last))), STEERED);
}

#[test]
fn n3_passes_every_fragment_the_first_one_too() {
    let Some(program) = n3_program() else { return };

    for to in ["10.0.0.1:2152", "[fd00::1]:2152"] {
        let pieces = build::fragment_packet(&udp(to), 64, 7).unwrap();
        assert!(pieces.len() > 1);
        for piece in pieces {
            assert_eq!(program.verdict(&ethernet(&piece)), PASSED);
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_passed_and_never_read_behind_its_end() {
    let Some(program) = n3_program() else { return };

    for to in ["10.0.0.1:2152", "[fd00::1]:2152"] {
        let frame = ethernet(&udp(to));
        let ports_end = frame.len() - 100;
        for end in 14..frame.len() {
            let verdict = program.verdict(&frame[..end]);
            assert_eq!(verdict == STEERED, end >= ports_end, "cut at {end}");
        }
    }
}

#[test]
fn n6_steers_what_goes_to_a_subscriber() {
    let prefixes = [("10.45.0.0", 16), ("2001:db8:45::", 48)];
    let Some(program) = load(|maps| n6(maps, Unserved::Drop), &prefixes) else {
        return;
    };

    for (to, verdict) in [
        ("10.45.0.1:80", STEERED),
        ("10.45.255.255:1", STEERED),
        ("10.46.0.0:80", PASSED),
        ("10.0.0.1:2152", PASSED),
        ("[2001:db8:45::9]:80", STEERED),
        ("[2001:db8:46::9]:80", PASSED),
        ("[fe80::1]:80", PASSED),
    ] {
        assert_eq!(program.verdict(&ethernet(&udp(to))), verdict, "{to}");
        assert_eq!(program.verdict(&tagged(&udp(to), &[9])), verdict, "{to}");
    }
    let pieces = build::fragment_packet(&udp("10.45.0.1:80"), 64, 7).unwrap();
    assert!(
        pieces
            .iter()
            .all(|piece| program.verdict(&ethernet(piece)) == STEERED)
    );
}

#[test]
fn an_ipv6_prefix_never_matches_ipv4() {
    // "::/0" would cover the mapped form of every IPv4 address, so `prefix_key` must be given
    // ::/0 only with that meaning; 2000::/3 is the whole unicast internet.
    let Some(program) = load(|maps| n6(maps, Unserved::Drop), &[("2000::", 3)]) else {
        return;
    };

    assert_eq!(program.verdict(&ethernet(&udp("32.0.0.1:80"))), PASSED);
    assert_eq!(program.verdict(&ethernet(&udp("[2001::1]:80"))), STEERED);
}

#[test]
fn the_verifier_says_why_it_refuses() {
    if load(|_| pass_all(), &[]).is_none() {
        return;
    }
    let mut code = Assembler::default();
    code.load(Size::Word, Reg::R0, Reg::R6, 0);
    code.exit();

    let refused = bpf::load_program("qlink_bad", &code.finish()).unwrap_err();

    assert!(refused.log.contains("R6 !read_ok"), "{}", refused.log);
}
