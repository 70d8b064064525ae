//! Path MTU and address translation between real kernels: what the origin sees, what the kernels
//! learn, and that what is reported is what the subscriber's kernel carried.

use std::net::IpAddr;

use qlink_dataplane::{DataplaneConfig, MssPolicy, MtuConfig};

use crate::rig::{Carried, Lab, ORIGIN_V4, ORIGIN_V6, Opened, Subscriber, scenario_with};

/// The pool; routed to the data plane by the gateway's kernel.
const POOL: &str = "203.0.113.7";

fn translate(config: &mut DataplaneConfig) {
    let nat = serde_json::json!({
        "pool": [POOL], "block_ports": 64, "blocks_per_subscriber": 8, "log": "none",
        "nat64_prefix": "64:ff9b::",
    });
    config.nat = Some(serde_json::from_value(nat).unwrap());
}

/// Paths of 1,300 bytes of inner packets, and TCP is not told of it.
fn narrow(config: &mut DataplaneConfig) {
    config.mtu = Some(MtuConfig {
        n3: 1336,
        n6: 1300,
        mss: MssPolicy::Leave,
        icmp_per_second: 1000,
        gateway_v4: Some("10.60.255.1".parse().unwrap()),
        gateway_v6: Some("2001:db8:60:ffff::1".parse().unwrap()),
    });
}

fn two_workers(config: &mut DataplaneConfig) {
    translate(config);
    config.workers = 2;
}

fn open(lab: &mut Lab) -> (Subscriber, Opened) {
    let one = Subscriber::new(9);
    let opened = lab.open(&one, one.rules());
    (one, opened)
}

/// Ends the session; what was reported is what the subscriber's kernel carried since `before`,
/// under his own addresses.
fn end_as_the_subscriber_saw_it(lab: &mut Lab, opened: &Opened, before: Carried) {
    lab.settled();
    let now = lab.ue0();
    lab.smf.delete(opened.session);
    let reported = lab
        .smf
        .volume(opened.session, qlink_pfcp::model::UrrId::new(1));
    assert_eq!(
        reported,
        (now.tx - before.tx, now.rx - before.rx),
        "reported and carried, uplink and downlink"
    );
}

#[test]
fn http_and_datagrams_through_nat44_show_the_public_address_alone_and_count_exactly() {
    scenario_with(translate, |lab| {
        lab.hide_subscribers(POOL);
        let (one, opened) = open(lab);
        let before = lab.n6();

        lab.fetch(&one, ORIGIN_V4[0], 3_000_017);
        lab.post(&one, ORIGIN_V4[1], 300_000);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 20, 700), 20);
        let own = one.like(ORIGIN_V4[0]).to_string();
        let said = lab.ue(&[
            "ping",
            "-c",
            "5",
            "-i",
            "0.02",
            "-W",
            "2",
            "-I",
            &own,
            "198.18.0.1",
        ]);
        assert!(said.contains(" 5 received"), "{said}");

        assert_eq!(lab.drops("nat_no_mapping"), 0);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn datagrams_of_8000_bytes_pass_nat_and_narrow_paths_in_fragments_both_ways() {
    scenario_with(
        |config| {
            translate(config);
            narrow(config);
        },
        |lab| {
            lab.hide_subscribers(POOL);
            lab.let_subscribers_fragment();
            let (one, opened) = open(lab);

            assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 8000), 10);

            assert!(lab.totals().worker["packets_fragmented"] >= 20);
            lab.smf.delete(opened.session);
        },
    );
}

/// TCP starts with segments that fit no path here.
#[test]
fn an_origin_learns_from_the_gateway_what_fits_the_tunnel() {
    scenario_with(narrow, |lab| {
        let (one, opened) = open(lab);
        let before = lab.ue0();

        for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
            lab.fetch(&one, origin, 300_000);
        }

        assert!(lab.totals().worker["too_big_answers"] >= 2);
        assert!(lab.drops("too_big_answered") >= 2);
        end_as_the_subscriber_saw_it(lab, &opened, before);
    });
}

#[test]
fn a_subscriber_learns_from_the_gateway_what_fits_behind_it() {
    scenario_with(narrow, |lab| {
        let (one, opened) = open(lab);
        let before = lab.n6();

        for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
            lab.post(&one, origin, 300_000);
        }

        assert!(lab.totals().worker["too_big_answers"] >= 2);
        assert!(lab.drops("too_big_answered") >= 2);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn both_kernels_announce_segments_that_fit_and_nothing_is_dropped() {
    scenario_with(
        |config| {
            narrow(config);
            config.mtu.as_mut().unwrap().mss = MssPolicy::Lower;
        },
        |lab| {
            let (one, opened) = open(lab);
            let before = lab.n6();

            for origin in [ORIGIN_V4[0], ORIGIN_V6[0]] {
                lab.fetch(&one, origin, 300_000);
                lab.post(&one, origin, 300_000);
            }

            assert_eq!(lab.drops("too_big_answered"), 0);
            assert_eq!(lab.totals().worker["segments_lowered"], 8);
            lab.end_exactly(opened.session, before);
        },
    );
}

#[test]
fn an_ipv6_subscriber_fetches_from_an_ipv4_origin_through_nat64() {
    scenario_with(translate, |lab| {
        lab.hide_subscribers(POOL);
        let (one, opened) = open(lab);
        let before = lab.ue0();
        // 198.18.0.1 under the well-known prefix.
        let origin: IpAddr = "64:ff9b::c612:1".parse().unwrap();

        lab.fetch(&one, origin, 400_000);
        lab.post(&one, origin, 300_000);
        assert_eq!(lab.echo((&one, origin), 20, 700), 20);

        end_as_the_subscriber_saw_it(lab, &opened, before);
    });
}

#[test]
fn connections_through_nat_reach_the_worker_that_has_their_ports() {
    scenario_with(two_workers, |lab| {
        lab.hide_subscribers(POOL);
        let (_, opened) = open(lab);
        let before = lab.n6();

        let got = lab.agent(&["flood", "198.18.0.1", "60", "20000"]);

        assert_eq!(got.parse(), Ok(60 * 20_000));
        assert!(lab.totals().worker["handed_over"] > 0);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn after_a_kill_connections_begin_anew_on_ports_that_nobody_had() {
    scenario_with(translate, |lab| {
        lab.hide_subscribers(POOL);
        let (one, _) = open(lab);
        lab.fetch(&one, ORIGIN_V4[0], 100_000);

        lab.kill_plane();
        lab.start_plane();

        lab.fetch(&one, ORIGIN_V4[0], 100_000);
        let worker = lab.totals().worker;
        // The blocks of the killed process were released, and others were given.
        assert!(worker["port_blocks_released"] >= 1, "{worker:?}");
        assert_eq!(
            worker["port_blocks_assigned"],
            worker["port_blocks_released"] + 1
        );
    });
}
