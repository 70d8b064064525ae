//! The packet path on packets from memory: what passes, what is dropped and why, what is counted,
//! and what stands after a death at any packet.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod film;

use film::{
    BASESTATION, GATEWAY, N6_PEER, ORIGIN, SLOT, UE, address, download, film as bytes_of,
    in_memory, open, pass, personal, rules, uplink,
};
use qlink_content::Direction;
use qlink_dataplane::pipeline::{Ports, Side, process_burst};
use qlink_dataplane::plane::{Plane, PlaneLimits};
use qlink_io::mem::{MemSink, MemSource};
use qlink_io::{Burst, IoError, Outgoing, PacketSink, PacketSource as _};
use qlink_meter::{ArenaReader, DropReason, WorkerCounter};
use qlink_pfcp::{Payer, SessionUsage};
use qlink_types::units::Bytes;
use qlink_wire::build::{TcpFields, gpdu_packet, tcp_packet, udp_packet};
use qlink_wire::{LinkType, TcpFlags, gpdu_header};

fn datagram(from: &str, to: &str, payload: usize) -> Vec<u8> {
    udp_packet(address(from), address(to), &vec![7; payload]).unwrap()
}

fn drops(plane: &Plane) -> Vec<(&'static str, u64)> {
    DropReason::all()
        .map(|reason| (reason.name(), plane.arena().drops(reason)))
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

fn raw_uplink(plane: &mut Plane, frames: Vec<Vec<u8>>) -> MemSink {
    let mut source = MemSource::new(frames, LinkType::RawIp, 1);
    let mut ports = Ports {
        n3: MemSink::keeping(),
        n6: MemSink::keeping(),
    };
    let mut burst = Burst::new();
    while source.recv_burst(&mut burst).is_ok() {
        process_burst(plane, Side::N3, &source, &burst, &mut ports, 0);
    }
    ports.n6
}

fn play(plane: &mut Plane, packets: &[(Direction, Vec<u8>)]) -> SessionUsage {
    for (direction, packet) in packets {
        pass(plane, *direction, std::slice::from_ref(packet), 1);
    }
    plane.usage(SLOT)
}

#[test]
fn an_uplink_packet_leaves_without_its_tunnel_and_is_counted_by_its_own_length() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10));
    let inner = datagram(UE, ORIGIN, 100);

    let sent = pass(
        &mut plane,
        Direction::Uplink,
        std::slice::from_ref(&inner),
        0,
    );

    let out = &sent.n6.kept()[0];
    assert_eq!((&out.bytes, out.to), (&inner, address(N6_PEER)));
    let usage = plane.usage(SLOT);
    assert_eq!(usage.uplink.network_bytes, Bytes::new(128));
    assert_eq!(usage.uplink.packets, 1);
    assert_eq!(usage.classes.user_charged, Bytes::new(100));
    assert!(usage.classes.is_conserved());
}

#[test]
fn a_downlink_packet_leaves_in_the_sessions_tunnel() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10));
    let inner = datagram(ORIGIN, UE, 100);

    let sent = pass(
        &mut plane,
        Direction::Downlink,
        std::slice::from_ref(&inner),
        0,
    );

    let out = &sent.n3.kept()[0];
    let mut expected = gpdu_header(77, 128).to_vec();
    expected.extend(inner);
    assert_eq!((&out.bytes, out.to), (&expected, address(BASESTATION)));
    assert_eq!(plane.usage(SLOT).downlink.network_bytes, Bytes::new(128));
}

#[test]
fn every_forgery_is_dropped_for_its_own_reason_and_nothing_is_counted() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10));
    let good = datagram(UE, ORIGIN, 10);
    let teid = SLOT.get() << 8 | 0x55;
    let from = |peer: &str, teid, inner: &[u8]| {
        gpdu_packet(address(peer), address(GATEWAY), teid, inner).unwrap()
    };
    let frames = vec![
        from("127.0.0.9:2152", teid, &good),
        from(BASESTATION, teid ^ 1, &good),
        uplink(&datagram("10.45.0.3:1", ORIGIN, 10)),
        uplink(&datagram(UE, "192.0.2.9:2152", 10)),
        uplink(&datagram(UE, "192.0.2.9:8805", 10)),
        uplink(&datagram(UE, "192.0.2.9:2123", 10)),
        uplink(&datagram(UE, "127.0.0.1:80", 10)),
        uplink(&good[..good.len() - 1]),
        datagram(UE, ORIGIN, 10),
    ];

    let sent = raw_uplink(&mut plane, frames);

    assert_eq!(sent.packets(), 0);
    assert_eq!(
        drops(&plane),
        [
            ("not_gtpu", 1),
            ("inner_malformed", 1),
            ("teid_unknown", 1),
            ("peer_mismatch", 1),
            ("source_spoofed", 1),
            ("gtpu_nested", 1),
            ("to_infrastructure", 1),
            ("core_signalling", 2),
        ]
    );
    assert_eq!(plane.usage(SLOT).uplink.packets, 0);
}

#[test]
fn a_packet_to_an_unknown_subscriber_is_dropped() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10));

    pass(
        &mut plane,
        Direction::Downlink,
        &[datagram(ORIGIN, "10.45.0.99:1", 5)],
        0,
    );

    assert_eq!(drops(&plane), [("ue_unknown", 1)]);
}

#[test]
fn an_echo_request_is_answered_with_its_sequence_number() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10));
    let request = udp_packet(
        address(BASESTATION),
        address(GATEWAY),
        &qlink_wire::echo_request(513),
    );
    let mut source = MemSource::new(vec![request.unwrap()], LinkType::RawIp, 1);
    let mut ports = Ports {
        n3: MemSink::keeping(),
        n6: MemSink::new(),
    };
    let mut burst = Burst::new();
    source.recv_burst(&mut burst).unwrap();

    process_burst(&mut plane, Side::N3, &source, &burst, &mut ports, 0);

    let answer = &ports.n3.kept()[0];
    assert_eq!(answer.bytes, qlink_wire::echo_response(513));
    assert_eq!(answer.to, address(BASESTATION));
    assert!(drops(&plane).is_empty());
}

#[test]
fn echo_requests_are_answered_once_per_burst_and_only_to_peers_of_sessions() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Operator), &bytes_of(10));
    let echo = |from: &str, number| {
        let request = qlink_wire::echo_request(number);
        udp_packet(address(from), address(GATEWAY), &request).unwrap()
    };
    let frames = vec![
        echo(BASESTATION, 1),
        echo(BASESTATION, 2),
        echo("127.0.0.9:2152", 3),
    ];
    let mut source = MemSource::new(frames, LinkType::RawIp, 1);
    let mut ports = Ports {
        n3: MemSink::keeping(),
        n6: MemSink::new(),
    };
    let mut burst = Burst::new();
    source.recv_burst(&mut burst).unwrap();

    process_burst(&mut plane, Side::N3, &source, &burst, &mut ports, 0);

    assert_eq!(ports.n3.packets(), 1);
    assert_eq!(ports.n3.kept()[0].bytes, qlink_wire::echo_response(1));
    assert_eq!(drops(&plane), [("gtpu_signalling", 1), ("peer_unknown", 1)]);
}

#[test]
fn a_personal_limit_stops_plain_traffic_to_the_byte_even_inside_a_burst() {
    let mut plane = in_memory(&rules(&bytes_of(10), personal(250)), &bytes_of(10));
    let packets = vec![datagram(UE, ORIGIN, 100); 4];

    let sent = pass(&mut plane, Direction::Uplink, &packets, 0);

    assert_eq!(sent.n6.packets(), 2);
    assert_eq!(plane.usage(SLOT).personal_bytes, Bytes::new(200));
    assert_eq!(drops(&plane), [("quota_exhausted", 2)]);
}

#[test]
fn plain_payload_of_a_blocked_session_is_dropped() {
    let mut plane = in_memory(&rules(&bytes_of(10), Payer::Block), &bytes_of(10));

    let sent = pass(&mut plane, Direction::Uplink, &[datagram(UE, ORIGIN, 1)], 0);

    assert_eq!(sent.n6.packets(), 0);
    assert_eq!(drops(&plane), [("not_sponsored", 1)]);
}

/// Takes every second packet and refuses the others.
struct Choosy {
    calls: usize,
    taken: u64,
}

impl PacketSink for Choosy {
    fn send_burst(&mut self, items: &[Outgoing<'_>]) -> Result<usize, IoError> {
        self.calls += 1;
        if self.calls.is_multiple_of(2) {
            return Err(IoError::Refused {
                len: items[0].len(),
                to: items[0].to,
                source: std::io::Error::other("too long"),
            });
        }
        self.taken += 1;
        Ok(1)
    }
}

#[test]
fn only_packets_accepted_for_transmit_are_counted() {
    let mut plane = in_memory(&rules(&bytes_of(10), personal(10_000)), &bytes_of(10));
    let frames = (0..5).map(|_| uplink(&datagram(UE, ORIGIN, 100))).collect();
    let mut source = MemSource::new(frames, LinkType::RawIp, 1);
    let mut ports = Ports {
        n3: MemSink::new(),
        n6: Choosy { calls: 0, taken: 0 },
    };
    let mut burst = Burst::new();
    source.recv_burst(&mut burst).unwrap();

    process_burst(&mut plane, Side::N3, &source, &burst, &mut ports, 0);

    let usage = plane.usage(SLOT);
    assert_eq!(ports.n6.taken, 3);
    assert_eq!(usage.uplink.packets, 3);
    assert_eq!(usage.personal_bytes, Bytes::new(300));
    assert_eq!(drops(&plane), [("transmit_refused", 2)]);
    assert_eq!(plane.arena().counter(WorkerCounter::SentPackets), 3);
}

#[test]
fn a_download_is_proven_to_the_byte_and_costs_the_viewer_nothing() {
    let film = bytes_of(300_000);
    let mut plane = in_memory(&rules(&film, Payer::Block), &film);

    let usage = play(&mut plane, &download(&film));

    assert_eq!(usage.classes.verified_unique, Bytes::new(300_000));
    assert_eq!(usage.classes.user_charged, Bytes::ZERO);
    assert_eq!(usage.classes.pending, Bytes::ZERO);
    assert_eq!(usage.contents[0].verified_unique, Bytes::new(300_000));
    assert_eq!(usage.conservation_violations, 0);
    assert!(usage.classes.is_conserved());
    assert!(drops(&plane).is_empty(), "{:?}", drops(&plane));
    assert_eq!(plane.open_flows(), 0);
}

#[test]
fn a_second_download_is_a_repeat_and_the_payer_pays_it() {
    let film = bytes_of(50_000);
    let mut plane = in_memory(&rules(&film, personal(1 << 20)), &film);
    play(&mut plane, &download(&film));

    let usage = play(&mut plane, &download(&film));

    assert_eq!(usage.classes.verified_unique, Bytes::new(50_000));
    assert_eq!(usage.classes.verified_repeat, Bytes::new(50_000));
    assert_eq!(usage.personal_bytes, Bytes::new(50_000));
}

#[test]
fn foreign_bytes_under_the_films_url_are_charged_or_stopped() {
    let film = bytes_of(50_000);
    let mut foreign = film.clone();
    foreign[20_000..].fill(0);

    let mut paying = in_memory(&rules(&film, personal(1 << 20)), &film);
    let usage = play(&mut paying, &download(&foreign));
    assert!(usage.classes.verified_unique <= Bytes::new(20_000));
    assert_eq!(usage.personal_bytes, usage.classes.user_charged);
    assert!(usage.personal_bytes >= Bytes::new(30_000));
    assert!(usage.classes.is_conserved());

    let mut blocked = in_memory(&rules(&film, Payer::Block), &film);
    let usage = play(&mut blocked, &download(&foreign));
    assert!(usage.classes.verified_unique <= Bytes::new(20_000));
    assert_eq!(usage.classes.user_charged, Bytes::ZERO);
    assert!(
        drops(&blocked)
            .iter()
            .any(|(name, _)| *name == "not_sponsored")
    );
}

/// Plays a download that is never acknowledged behind the handshake, and closes it by an
/// acknowledgement of everything.
fn unacknowledged(plane: &mut Plane, film: &[u8]) -> (u64, SessionUsage) {
    let is_ack = |(direction, packet): &&(Direction, Vec<u8>)| {
        *direction == Direction::Downlink || packet.len() != 40
    };
    let packets = download(film);
    let (open, rest) = packets.split_at(4);
    play(plane, open);
    let body: Vec<_> = rest.iter().filter(is_ack).cloned().collect();
    play(plane, &body);
    let pending = plane.usage(SLOT).classes.pending.get();
    play(plane, &packets[packets.len() - 1..]);
    (pending, plane.usage(SLOT))
}

#[test]
fn film_above_the_sponsors_limit_does_not_leave_when_nobody_can_pay() {
    let film = bytes_of(100_000);
    for (payer, reason) in [
        (Payer::Block, "not_sponsored"),
        (personal(0), "quota_exhausted"),
    ] {
        let mut rules = rules(&film, payer);
        rules.sponsor.as_mut().unwrap().limit = Bytes::new(30_000);
        let mut plane = in_memory(&rules, &film);

        let (_, usage) = unacknowledged(&mut plane, &film);

        assert!(drops(&plane).iter().any(|(name, _)| *name == reason));
        assert!(
            usage.classes.wire_payload <= Bytes::new(30_200),
            "{usage:?}"
        );
        assert_eq!(usage.classes.user_charged, Bytes::ZERO);
    }
}

#[test]
fn a_personal_payer_is_charged_no_more_pending_bytes_than_it_can_pay() {
    let film = bytes_of(100_000);
    let mut rules = rules(&film, personal(20_000));
    rules.sponsor.as_mut().unwrap().limit = Bytes::new(30_000);
    let mut plane = in_memory(&rules, &film);

    let usage = play(&mut plane, &download(&film));

    assert_eq!(usage.personal_bytes, usage.classes.user_charged);
    assert!(usage.personal_bytes <= Bytes::new(20_000));
    assert!(usage.personal_bytes >= Bytes::new(18_000), "{usage:?}");
}

#[test]
fn a_free_repeat_passes_although_the_limit_is_used_up() {
    let film = bytes_of(50_000);
    let mut rules = rules(&film, Payer::Block);
    rules.sponsor.as_mut().unwrap().repeat = qlink_types::package::RepeatPolicy::Free;
    let mut plane = in_memory(&rules, &film);
    play(&mut plane, &download(&film));

    let usage = play(&mut plane, &download(&film));

    assert_eq!(usage.classes.verified_repeat, Bytes::new(50_000));
    assert!(drops(&plane).is_empty(), "{:?}", drops(&plane));
}

#[test]
fn heads_without_a_film_stop_at_16_kib_when_nobody_can_pay() {
    let film = bytes_of(1_000);
    let mut plane = in_memory(&rules(&film, Payer::Block), &film);
    pass(
        &mut plane,
        Direction::Uplink,
        &[segment(1, 0, TcpFlags::SYN, &[])],
        0,
    );
    let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1_000));

    let (mut seq, mut passed) = (1_u32, 0);
    for _ in 0..7 {
        let packet = segment(1, seq, TcpFlags::ACK, request.as_bytes());
        let sent = pass(&mut plane, Direction::Uplink, &[packet.clone(), packet], 0);
        passed += sent.n6.packets();
        seq += u32::try_from(request.len()).unwrap();
    }
    for _ in 0..20 {
        let copy = segment(1, 1, TcpFlags::ACK, request.as_bytes());
        passed += pass(&mut plane, Direction::Uplink, &[copy], 0).n6.packets();
    }

    let usage = plane.usage(SLOT);
    assert!(usage.classes.pending <= Bytes::new(16_384), "{usage:?}");
    assert!(passed >= 14);
    assert!(
        drops(&plane)
            .iter()
            .all(|(name, _)| *name == "not_sponsored"),
        "{:?}",
        drops(&plane)
    );
}

#[test]
fn a_paused_download_goes_on_to_be_proven_and_nothing_stays_pending_meanwhile() {
    let film = bytes_of(50_000);
    let mut plane = in_memory(&rules(&film, Payer::Operator), &film);
    let packets = download(&film);
    // 14 packets: the last one is a film segment without its acknowledgement.
    play(&mut plane, &packets[..14]);
    let pending = plane.usage(SLOT).classes.pending;
    assert!(pending > Bytes::ZERO);

    plane.sweep(qlink_content::IDLE_NS + 2);

    assert_eq!(plane.open_flows(), 1);
    let usage = plane.usage(SLOT);
    assert_eq!(usage.classes.pending, Bytes::ZERO);
    assert_eq!(usage.classes.undelivered, pending);
    let usage = play(&mut plane, &packets[14..]);
    assert_eq!(usage.classes.user_charged, Bytes::ZERO);
    assert_eq!(
        usage.classes.verified_unique.get() + pending.get(),
        film.len() as u64
    );
    assert!(usage.classes.is_conserved());
}

#[test]
fn a_flow_is_forgotten_after_two_hours() {
    let film = bytes_of(50_000);
    let mut plane = in_memory(&rules(&film, Payer::Operator), &film);
    play(&mut plane, &download(&film)[..20]);

    plane.sweep(qlink_content::FORGET_NS);
    assert_eq!(plane.open_flows(), 1);
    plane.sweep(qlink_content::FORGET_NS + 1);

    assert_eq!(plane.open_flows(), 0);
    assert!(plane.usage(SLOT).classes.is_conserved());
}

#[test]
fn the_flow_that_rested_longest_makes_room_for_another() {
    let film = bytes_of(1_000);
    let mut plane = in_memory(&rules(&film, Payer::Operator), &film);
    let open = |plane: &mut Plane, port: u16, at: u64| {
        let packet = segment(port, 0, TcpFlags::SYN, &[]);
        let sent = pass(plane, Direction::Uplink, &[packet], at);
        sent.n6.packets()
    };
    for port in 1..=4 {
        assert_eq!(open(&mut plane, port, u64::from(port)), 1);
    }

    assert_eq!(open(&mut plane, 5, 100), 0);
    assert_eq!(open(&mut plane, 5, qlink_content::IDLE_NS + 1), 1);
    assert_eq!(open(&mut plane, 6, qlink_content::IDLE_NS + 1), 0);

    assert_eq!(plane.open_flows(), 4);
    assert_eq!(drops(&plane), [("flow_table_full", 2)]);
}

#[test]
fn a_connection_that_the_subscriber_reset_keeps_its_place_while_nobody_needs_it() {
    let film = bytes_of(1_000);
    let mut plane = in_memory(&rules(&film, Payer::Operator), &film);
    let send = |plane: &mut Plane, port: u16, flags: TcpFlags, at: u64| {
        let packet = segment(port, u32::from(!flags.syn()), flags, &[]);
        pass(plane, Direction::Uplink, &[packet], at).n6.packets()
    };
    for port in 1..=4 {
        send(&mut plane, port, TcpFlags::SYN, 0);
    }
    send(&mut plane, 2, TcpFlags::RST, 1);
    send(&mut plane, 3, TcpFlags::RST, 2);

    assert_eq!(send(&mut plane, 5, TcpFlags::SYN, 3), 1);
    assert_eq!(plane.open_flows(), 4);
    plane.sweep(qlink_content::EBB_NS + 1);
    assert_eq!(plane.open_flows(), 4);
    plane.sweep(qlink_content::EBB_NS + 2);
    assert_eq!(plane.open_flows(), 3);
}

/// A TCP segment of the subscriber from `port`.
fn segment(port: u16, seq: u32, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let mut ue = address(UE);
    ue.set_port(port);
    let fields = TcpFields::new(seq, 1, flags);
    tcp_packet(ue, address(ORIGIN), &fields, payload).unwrap()
}

#[test]
fn one_session_cannot_take_every_flow() {
    let film = bytes_of(1_000);
    let limits = PlaneLimits {
        flows: 32,
        ..film::LIMITS
    };
    let arena = qlink_meter::CounterArena::in_memory(limits.layout());
    let mut plane = Plane::new(limits, arena, film::neighbours());
    plane
        .establish(
            SLOT,
            &rules(&film, Payer::Operator),
            vec![film::content_of(&film)],
        )
        .unwrap();

    let opening: Vec<Vec<u8>> = (1..=12)
        .map(|port| segment(port, 0, TcpFlags::SYN, &[]))
        .collect();
    pass(&mut plane, Direction::Uplink, &opening, 0);

    assert_eq!(plane.open_flows(), 8);
    assert_eq!(drops(&plane), [("session_flows_full", 4)]);
}

#[test]
fn a_flow_that_is_no_http_gives_its_place_back_and_stays_charged() {
    let film = bytes_of(1_000);
    let mut plane = in_memory(&rules(&film, Payer::Operator), &film);

    pass(
        &mut plane,
        Direction::Uplink,
        &[
            segment(1, 0, TcpFlags::SYN, &[]),
            segment(1, 1, TcpFlags::ACK, b"\x16\x03\x01 no request\r\n\r\n"),
            segment(1, 18, TcpFlags::ACK, &[0; 100]),
        ],
        0,
    );

    assert_eq!(plane.open_flows(), 0);
    let usage = plane.usage(SLOT);
    assert_eq!(usage.classes.user_charged, usage.classes.wire_payload);
    assert_eq!(usage.classes.user_charged, Bytes::new(118));
    assert!(drops(&plane).is_empty());
}

#[test]
fn delete_gives_final_counters_and_ends_forwarding() {
    let film = bytes_of(50_000);
    let mut plane = in_memory(&rules(&film, Payer::Operator), &film);
    play(&mut plane, &download(&film)[..20]);

    let usage = plane.delete(SLOT);

    assert_eq!(usage.classes.pending, Bytes::ZERO);
    assert!(!usage.contents.is_empty());
    let sent = pass(&mut plane, Direction::Uplink, &[datagram(UE, ORIGIN, 1)], 0);
    assert_eq!(sent.n6.packets(), 0);
    assert_eq!(drops(&plane), [("teid_unknown", 1)]);
}

/// A process that dies after any packet of a download, without any clean-up, and another one that
/// goes on with the arena: together they count what an undisturbed process counts.
#[test]
fn death_after_any_packet_changes_no_counter() {
    let film = bytes_of(20_000);
    let rules = rules(&film, personal(1 << 20));
    let packets = download(&film);
    let undisturbed = play(&mut in_memory(&rules, &film), &packets);
    let folder = tempfile::tempdir().unwrap();

    for death in 1..packets.len() {
        let path = folder.path().join(format!("arena{death}"));
        let (mut first, _) = open(&path, &rules, &film);
        play(&mut first, &packets[..death]);
        drop(first);

        let (mut second, recovered) = open(&path, &rules, &film);
        let usage = play(&mut second, &packets[death..]);

        assert_eq!(usage, undisturbed, "death after packet {death}");
        assert_eq!(recovered.uncertain_bytes, 0);
        let reader = ArenaReader::open(&path).unwrap();
        assert_eq!(reader.sessions()[0].usage, undisturbed);
        std::fs::remove_file(&path).unwrap();
    }
}

/// Dies in the middle of sending: the packets may have left, their count never came.
struct Deadly;

impl PacketSink for Deadly {
    fn send_burst(&mut self, _: &[Outgoing<'_>]) -> Result<usize, IoError> {
        std::panic::resume_unwind(Box::new("killed"));
    }
}

#[test]
fn a_kill_while_sending_leaves_network_bytes_uncertain_and_content_exact() {
    let film = bytes_of(30_000);
    let rules = rules(&film, personal(1 << 20));
    let packets = download(&film);
    let undisturbed = play(&mut in_memory(&rules, &film), &packets);
    let folder = tempfile::tempdir().unwrap();

    for death in 0..packets.len() {
        let path = folder.path().join(format!("arena{death}"));
        let (mut first, _) = open(&path, &rules, &film);
        play(&mut first, &packets[..death]);
        let (direction, packet) = &packets[death];
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (side, frame) = match direction {
                Direction::Uplink => (Side::N3, uplink(packet)),
                Direction::Downlink => (Side::N6, packet.clone()),
            };
            let mut source = MemSource::new(vec![frame], LinkType::RawIp, 1);
            let mut burst = Burst::new();
            source.recv_burst(&mut burst).unwrap();
            let mut ports = Ports {
                n3: Deadly,
                n6: Deadly,
            };
            process_burst(&mut first, side, &source, &burst, &mut ports, 1);
        }));
        assert!(killed.is_err());
        drop(first);

        let (mut second, recovered) = open(&path, &rules, &film);
        // The packet had left; what follows is the rest.
        let usage = play(&mut second, &packets[death + 1..]);

        assert_eq!(recovered.uncertain_bytes, packet.len() as u64, "{death}");
        assert_eq!(usage.uncertain_bytes, Bytes::new(packet.len() as u64));
        let counted = |usage: &SessionUsage| {
            usage.uplink.network_bytes.get() + usage.downlink.network_bytes.get()
        };
        let missing = counted(&undisturbed) - counted(&usage);
        assert_eq!(missing, usage.uncertain_bytes.get());
        assert_eq!(
            usage.classes.verified_unique,
            undisturbed.classes.verified_unique
        );
        assert_eq!(usage.contents, undisturbed.contents);
        assert!(usage.classes.is_conserved());
        assert!(usage.personal_bytes <= undisturbed.personal_bytes);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_limit_over_two_contents_is_kept_to_the_byte() {
    let (one, two) = (bytes_of(20_000), bytes_of(40_000)[20_000..].to_vec());
    let mut rules = rules(&one, Payer::Operator);
    let sponsor = rules.sponsor.as_mut().unwrap();
    let second = film::content_of(&two);
    sponsor.contents = vec![film::content_of(&one).0, second.0].try_into().unwrap();
    sponsor.limit = Bytes::new(27_001);
    let arena = qlink_meter::CounterArena::in_memory(film::LIMITS.layout());
    let mut plane = Plane::new(film::LIMITS, arena, film::neighbours());
    plane
        .establish(SLOT, &rules, vec![film::content_of(&one), second])
        .unwrap();

    play(&mut plane, &download(&one));
    let usage = play(&mut plane, &download(&two));

    assert_eq!(usage.classes.verified_unique, Bytes::new(27_001));
    assert_eq!(usage.contents[0].verified_unique, Bytes::new(20_000));
    assert_eq!(usage.contents[1].verified_unique, Bytes::new(7_001));
    assert!(usage.classes.is_conserved());
}
