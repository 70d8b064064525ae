//! Sessions from their opening to their end: packets, quotas, rules, kills.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use qlink_dataplane::{DataplaneConfig, run};
use qlink_io::seqpacket::SeqConn;
use qlink_meter::ArenaSet;
use qlink_pfcp::model::{
    ApplyAction, FarChanges, OuterHeaderCreation, SdfFilter, SessionChange, Trigger,
};
use qlink_pfcp::sim::{Happened, SessionPlan};
use qlink_pfcp::wire::parse_flow;
use qlink_types::ids::Teid;
use qlink_wire::build::fragment_packet;
use qlink_wire::{gpdu_header, message_type, parse_gtpu};

use crate::network::{GNB_TEID, Network, SERVER, UE, WITHIN, datagram, receive, volume};

#[test]
fn a_session_of_an_smf_carries_packets_both_ways_and_reports_their_bytes_at_its_end() {
    let mut network = Network::new(10);
    let running = network.start();
    network.associate();

    let (session, fteid) = network.establish(&network.plan());
    assert_eq!(
        Some(IpAddr::from(fteid.v4.unwrap())),
        Some(running.info.n3.ip())
    );
    network.uplink(&running, fteid.teid, 100);
    network.downlink(&running, 200);
    let reports = network.delete(session);

    assert_eq!(volume(&reports), (128, 228));
    assert!(
        reports
            .iter()
            .all(|report| report.triggers.has(Trigger::Termination))
    );
    network.send_up(&running, fteid.teid, 10);
    network.until_dropped("teid_unknown");
    running.stop();
}

#[test]
fn a_threshold_is_reported_when_it_is_reached_and_a_quota_stops_without_a_byte_too_many() {
    let mut network = Network::new(11);
    let running = network.start();
    network.associate();
    let plan = SessionPlan {
        threshold: Some(300),
        quota: Some(500),
        ..network.plan()
    };
    let (session, fteid) = network.establish(&plan);

    for _ in 0..3 {
        network.uplink(&running, fteid.teid, 100);
    }
    let report = network.until(|happened| match happened {
        Happened::Reported { report, .. } => report.reports.first().cloned(),
        _ => None,
    });
    assert!(report.triggers.has(Trigger::VolumeThreshold), "{report:?}");
    assert_eq!(report.volume.unwrap().uplink, 384);
    // 384 + 128 would pass 500.
    network.send_up(&running, fteid.teid, 100);
    network.until_dropped("urr_quota_exhausted");
    let reports = network.delete(session);

    assert_eq!(volume(&reports), (0, 0), "{reports:?}");
    running.stop();
}

#[test]
fn a_session_and_what_it_counted_outlive_the_process() {
    let mut network = Network::new(12);
    let running = network.start();
    network.associate();
    let (session, fteid) = network.establish(&network.plan());
    network.uplink(&running, fteid.teid, 100);
    running.stop();

    let running = network.start();
    network.uplink(&running, fteid.teid, 100);
    network.downlink(&running, 100);
    let reports = network.delete(session);

    assert_eq!(volume(&reports), (256, 128));
    running.stop();
}

#[test]
fn packets_wait_while_the_subscriber_is_away_and_go_to_the_new_tunnel_in_order() {
    let mut network = Network::new(13);
    let running = network.start();
    network.associate();
    let (session, _) = network.establish(&network.plan());
    let [_, down] = SessionPlan::FARS;
    let far = |changes: FarChanges| SessionChange {
        update_fars: vec![FarChanges {
            id: down,
            ..changes
        }],
        ..SessionChange::default()
    };

    network.modify(
        session,
        far(FarChanges {
            action: Some(ApplyAction::Buffer {
                notify: true,
                duplicate: false,
            }),
            ..FarChanges::default()
        }),
    );
    let first = network.send_down(&running, 10);
    let told = network.until(|happened| match happened {
        Happened::Reported { report, .. } => report.downlink_data.clone(),
        _ => None,
    });
    assert_eq!(told.pdrs, [SessionPlan::PDRS[1]]);
    let second = network.send_down(&running, 20);
    let counters = || {
        ArenaSet::open(&network.config.arena)
            .unwrap()
            .totals()
            .worker
    };
    let deadline = Instant::now() + WITHIN;
    while counters().get("buffered_packets") != Some(&2) {
        assert!(Instant::now() < deadline, "{:?}", counters());
        std::thread::sleep(Duration::from_millis(2));
    }
    let moved = OuterHeaderCreation::Gtpu {
        teid: Teid::new(0x99),
        v4: Some(network.plan().gnb),
        v6: None,
    };
    network.modify(
        session,
        far(FarChanges {
            action: Some(ApplyAction::Forward { duplicate: false }),
            outer: Some(moved),
            send_end_marker: true,
            ..FarChanges::default()
        }),
    );

    let marker = receive(&network.gnb);
    let marker = parse_gtpu(&marker).unwrap();
    assert_eq!(
        (marker.message_type, marker.teid),
        (message_type::END_MARKER, GNB_TEID.get())
    );
    for expected in [first, second] {
        let message = receive(&network.gnb);
        let gtpu = parse_gtpu(&message).unwrap();
        assert_eq!((gtpu.teid, gtpu.payload), (0x99, &*expected));
    }
    assert_eq!(volume(&network.delete(session)), (0, 38 + 48));
    running.stop();
}

#[test]
fn an_error_indication_of_the_tunnels_peer_reaches_the_smf_and_one_of_a_stranger_does_not() {
    let mut network = Network::new(14);
    let running = network.start();
    network.associate();
    network.establish(&network.plan());
    let IpAddr::V4(own) = running.info.n3.ip() else {
        panic!("an IPv4 endpoint");
    };
    let indication = qlink_wire::error_indication(GNB_TEID.get(), own.into());

    let stranger = UdpSocket::bind((IpAddr::from([127, 9, 14, 9]), 0)).unwrap();
    stranger.send_to(&indication, running.info.n3).unwrap();
    network.until_dropped("gtpu_signalling");
    network.gnb.send_to(&indication, running.info.n3).unwrap();
    let endpoints = network.until(|happened| match happened {
        Happened::Reported { report, .. } => Some(report.error_indication.clone()),
        _ => None,
    });

    assert_eq!(
        endpoints.first().map(|endpoint| endpoint.teid),
        Some(GNB_TEID)
    );
    running.stop();
}

#[test]
fn subscribers_cannot_borrow_addresses_and_strangers_cannot_use_tunnels() {
    let mut network = Network::new(15);
    let running = network.start();
    network.associate();
    let (_, fteid) = network.establish(&network.plan());
    let forged = datagram("10.60.0.8:1".parse().unwrap(), SERVER.parse().unwrap(), 5);
    let mut message = gpdu_header(fteid.teid.get(), 33).to_vec();
    message.extend(&forged);

    network.gnb.send_to(&message, running.info.n3).unwrap();
    network.until_dropped("source_spoofed");
    let inner = datagram((UE, 1).into(), SERVER.parse().unwrap(), 5);
    let mut message = gpdu_header(fteid.teid.get(), 33).to_vec();
    message.extend(&inner);
    let stranger = UdpSocket::bind((IpAddr::from([127, 9, 15, 9]), 0)).unwrap();
    stranger.send_to(&message, running.info.n3).unwrap();
    network.until_dropped("peer_mismatch");

    let totals = ArenaSet::open(&network.config.arena).unwrap().totals();
    assert_eq!(totals.network_bytes, 0);
    assert!(network.folder.path().exists());
    running.stop();
}

/// A rule that lets port 53 pass alone: fragments behind the first one state no port.
#[test]
fn all_fragments_of_a_datagram_are_of_the_rule_that_its_first_one_matches() {
    let mut network = Network::new(25);
    let running = network.start();
    network.associate();
    let mut rules = network.plan().rules();
    let text = "permit out udp from any 53 to assigned";
    rules.create_pdrs[0].pdi.filters.push(SdfFilter {
        rule: Some(parse_flow(text).unwrap()),
        text: text.to_owned(),
        ..SdfFilter::default()
    });
    let (session, fteid) = network.establish_rules(rules);
    let send = |inner: &[u8]| {
        let length = u16::try_from(inner.len()).unwrap();
        let mut message = gpdu_header(fteid.teid.get(), length).to_vec();
        message.extend(inner);
        network.gnb.send_to(&message, running.info.n3).unwrap();
    };
    let pieces = |to: &str, id| {
        let whole = datagram((UE, 40_000).into(), to.parse().unwrap(), 3000);
        fragment_packet(&whole, 1200, id).unwrap()
    };

    let (passing, other) = (pieces(SERVER, 1), pieces("192.0.2.9:54", 2));
    for piece in &passing {
        send(piece);
        assert_eq!(receive(&network.origin), *piece);
    }
    for piece in other.iter().chain(&pieces(SERVER, 3)[1..]) {
        send(piece);
    }
    network.until_dropped("inner_fragment_unmatched");
    send(&datagram((UE, 1).into(), SERVER.parse().unwrap(), 5));
    receive(&network.origin);

    assert_eq!(network.drops("no_pdr"), other.len() as u64);
    assert_eq!(network.drops("inner_fragment_unmatched"), 2);
    let bytes: usize = passing.iter().map(Vec::len).sum();
    let reports = network.delete(session);
    assert_eq!(volume(&reports), (bytes as u64 + 33, 0));
    running.stop();
}

#[test]
fn sessions_of_several_workers_are_reached_whoever_received_the_packet() {
    let mut network = Network::new(17);
    network.config.workers = 2;
    let running = network.start();
    network.associate();
    let other = SessionPlan {
        ue: Some(Ipv4Addr::new(10, 60, 0, 8)),
        ..network.plan()
    };
    let (_, first) = network.establish(&other);
    let (session, second) = network.establish(&network.plan());
    assert_eq!([first, second].map(|fteid| fteid.teid.get() >> 28), [0, 1]);

    for _ in 0..2 {
        network.uplink(&running, second.teid, 100);
        network.downlink(&running, 100);
    }

    assert_eq!(volume(&network.delete(session)), (256, 256));
    running.stop();
}

/// Not a test of its own: the data plane of `usage_is_exact_through_kill_9`, until it is killed.
#[test]
fn child_runs_a_data_plane() {
    let Ok(config) = std::env::var("QLINK_N4_CHILD") else {
        return;
    };
    let config: DataplaneConfig = serde_json::from_str(&config).unwrap();
    run(&config, |_| {}, &AtomicBool::new(false)).unwrap();
}

/// The data plane as a process, once it answers.
pub(crate) fn spawn(network: &Network) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["sessions::child_runs_a_data_plane", "--exact"])
        .env(
            "QLINK_N4_CHILD",
            serde_json::to_string(&network.config).unwrap(),
        )
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + WITHIN;
    while SeqConn::connect(&network.config.control_socket).is_err() {
        assert!(Instant::now() < deadline, "the data plane does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn usage_is_exact_through_kill_9() {
    let kills = if std::env::var_os("QLINK_LONG").is_some() {
        200
    } else {
        20
    };
    let mut network = Network::new(18);
    network.origin.set_nonblocking(true).unwrap();
    let n3 = network.config.n3;
    let mut child = spawn(&network);
    network.associate();
    let plan = SessionPlan {
        threshold: Some(5_000),
        ..network.plan()
    };
    let (session, fteid) = network.establish(&plan);
    let inner = datagram((UE, 40_000).into(), SERVER.parse().unwrap(), 100);
    let length = u16::try_from(inner.len()).unwrap();
    let mut message = gpdu_header(fteid.teid.get(), length).to_vec();
    message.extend(&inner);

    let (mut left, mut usage) = (0_u64, BTreeMap::new());
    let mut buffer = [0; 2048];
    for round in 0..kills {
        // Killed somewhere among the packets, at another place each time.
        for number in 0..100 {
            network.gnb.send_to(&message, n3).unwrap();
            if number == round % 100 {
                // Every other time when all of them have passed.
                std::thread::sleep(Duration::from_millis(2 * (round % 2)));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        child = spawn(&network);
        while network.origin.recv(&mut buffer).is_ok() {
            left += u64::from(length);
        }
    }
    let now = network.now();
    network.smf.delete(now, session);
    network.until(|happened| {
        let (reports, end) = match happened {
            Happened::Reported { report, .. } => (&report.reports, None),
            Happened::Deleted { reports, .. } => (reports, Some(())),
            _ => return None,
        };
        for report in reports {
            usage.insert((report.urr, report.sequence), report.volume.unwrap().uplink);
        }
        end
    });
    child.kill().unwrap();
    child.wait().unwrap();

    let reported: u64 = usage.values().sum();
    let uncertain = ArenaSet::open(&network.config.arena)
        .unwrap()
        .totals()
        .uncertain_bytes;
    assert!(left > 0);
    assert!(reported <= left, "{reported} bytes reported, {left} left");
    assert!(
        left <= reported + uncertain,
        "{left} bytes left, {reported} reported, {uncertain} uncertain"
    );
    // At most one burst for each kill.
    assert!(uncertain <= kills * 32 * u64::from(length), "{uncertain}");
}
