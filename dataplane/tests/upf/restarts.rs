//! What ends, and what outlives an end: sessions, associations, SMFs, this gateway.

use std::time::{Duration, Instant};

use qlink_pfcp::model::UrrId;
use qlink_pfcp::wire::CauseCode;

use crate::rig::{Control, Lab, ORIGIN_V4, SMFS, Subscriber, full_counts, scenario};

const URR: UrrId = UrrId::new(1);

#[test]
fn a_session_that_ends_under_traffic_has_reported_what_was_carried() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let (before, delivered) = (lab.n6(), lab.ue0());
        let own = one.like(ORIGIN_V4[0]).to_string();
        let mut up = lab.start_agent(&["push", &own, "198.18.0.1", "100000", "500", "100"]);
        let mut down = {
            let words = ["push", "198.18.0.1", own.as_str(), "100000", "500", "100"];
            lab.start_origin_agent(&words)
        };
        while lab.n6().rx_packets < 500 {
            lab.smf.pump(Duration::from_millis(5));
        }

        lab.smf.delete(opened.session);
        lab.until_dropped("teid_unknown", 10);
        lab.until_dropped("ue_unknown", 10);

        for child in [&mut up, &mut down] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        lab.settled();
        let reported = lab.smf.volume(opened.session, URR);
        let carried = (lab.n6().rx - before.rx, lab.ue0().rx - delivered.rx);
        assert_eq!(reported, carried);
        assert!(carried.0 > 0 && carried.1 > 0, "{carried:?}");
    });
}

#[test]
fn a_release_of_the_association_ends_its_sessions_and_the_next_one_starts_from_nothing() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        lab.smf.release();
        lab.send((&one, ORIGIN_V4[0]), 5);
        lab.until_dropped("teid_unknown", 5);
        assert_eq!(lab.sessions(), 0);
        let refused = lab.smf.try_establish(one.rules()).err();
        assert_eq!(refused, Some(CauseCode::NO_ESTABLISHED_ASSOCIATION));
        let gone = lab.smf.try_delete(opened.session).err();
        assert_eq!(gone, Some(CauseCode::NO_ESTABLISHED_ASSOCIATION));

        lab.smf.associate();
        works_anew(lab, &one);
    });
}

/// The same subscriber opens a session that is measured from zero.
fn works_anew(lab: &mut Lab, one: &Subscriber) {
    let opened = lab.open(one, one.rules());
    let before = lab.n6();
    assert_eq!(lab.echo((one, ORIGIN_V4[0]), 10, 100), 10);
    lab.end_exactly(opened.session, before);
}

#[test]
fn an_smf_that_started_again_finds_none_of_its_sessions() {
    scenario(|lab| {
        let (one, other) = (Subscriber::new(9), Subscriber::new(10));
        lab.open(&one, one.rules());
        // Another SMF's session stays.
        let mut neighbour = Control::new(SMFS[1], 1_700_000_000);
        neighbour.associate();
        let stays = neighbour.establish(other.rules());
        lab.attach(&other, &stays);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        lab.restart_smf(1_700_000_100);
        lab.smf.associate();
        lab.send((&one, ORIGIN_V4[0]), 5);
        lab.until_dropped("teid_unknown", 5);
        assert_eq!(lab.sessions(), 1);

        assert_eq!(lab.echo((&other, ORIGIN_V4[0]), 5, 100), 5);
        works_anew(lab, &one);
        neighbour.delete(stays.session);
        assert_eq!(neighbour.volume(stays.session, URR), (5 * 128, 5 * 128));
    });
}

#[test]
fn an_smf_hands_its_sessions_over_before_it_ends_and_usage_goes_on_at_the_other() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let mut plan = one.plan();
        plan.threshold = Some(20_000);
        let opened = lab.open(&one, one.rules_of(&plan));
        let session = opened.session;
        let before = lab.n6();
        lab.fetch(&one, ORIGIN_V4[0], 100_000);
        lab.settled();
        let mut other = Control::new(SMFS[1], 1_700_000_001);
        other.associate();

        lab.smf.hand_over(&mut other, SMFS[1]);
        let first = lab.smf.volume(session, URR);
        lab.smf = other;
        lab.fetch(&one, ORIGIN_V4[0], 100_000);
        // The gateway has kept who its sessions' function is.
        lab.settled();
        lab.kill_plane();
        lab.start_plane();
        lab.fetch(&one, ORIGIN_V4[0], 100_000);

        let carried = lab.settled();
        lab.smf.delete(session);
        let second = lab.smf.volume(session, URR);
        assert!(lab.smf.reports_of(session, URR).count() > 3);
        assert_eq!(first.0 + second.0, carried.rx - before.rx);
        assert_eq!(first.1 + second.1, carried.tx - before.tx);
    });
}

/// The gateway asks every ten seconds who is there.
#[test]
fn an_smf_that_started_again_and_says_nothing_is_found_out_by_its_heartbeat() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        lab.open(&one, one.rules());
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        lab.restart_smf(1_700_000_100);
        let deadline = Instant::now() + Duration::from_secs(30);
        while lab.sessions() > 0 {
            assert!(Instant::now() < deadline, "the session stays");
            lab.smf.pump(Duration::from_millis(50));
        }

        lab.send((&one, ORIGIN_V4[0]), 5);
        lab.until_dropped("teid_unknown", 5);
        lab.smf.associate();
        works_anew(lab, &one);
    });
}

#[test]
fn a_download_goes_on_through_kills_of_the_gateway_and_is_reported_exactly() {
    scenario(|lab| {
        let kills: u64 = if full_counts() { 20 } else { 3 };
        let one = Subscriber::new(9);
        let mut plan = one.plan();
        plan.threshold = Some(200_000);
        let opened = lab.open(&one, one.rules_of(&plan));
        let before = lab.n6();

        let amount = (kills * 1_000_000).to_string();
        let words = ["drip", "198.18.0.1", amount.as_str(), "50000", "20"];
        let upload = lab.start_agent(&words);
        for _ in 0..kills {
            lab.smf.pump(Duration::from_millis(150));
            lab.kill_plane();
            lab.start_plane();
        }
        let got = lab.end_agent(upload);

        assert_eq!(got, amount, "the origin has all of it");
        let after = lab.settled();
        lab.smf.delete(opened.session);
        let (up, down) = lab.smf.volume(opened.session, URR);
        let uncertain = lab.totals().uncertain_bytes;
        let carried = (after.rx - before.rx, after.tx - before.tx);
        println!("{carried:?} carried, {up} and {down} reported, {uncertain} uncertain");
        assert!(up <= carried.0, "{up} reported, {} carried", carried.0);
        let certain = carried.0.saturating_sub(uncertain);
        assert!(
            certain <= up,
            "{up} reported, {carried:?}, {uncertain} uncertain"
        );
        // Downlink packets may have been read by a process that was killed before it counted them.
        assert!(down <= carried.1, "{down} reported, {} carried", carried.1);
        // At most one burst for each kill.
        assert!(uncertain <= kills * 32 * 9000, "{uncertain}");
    });
}

#[test]
fn a_gateway_that_started_again_has_its_rules_tunnels_and_counts() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let mut plan = one.plan();
        plan.quota = Some(4_000);
        let opened = lab.open(&one, one.rules_of(&plan));
        let before = lab.n6();
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        lab.settled();
        lab.kill_plane();
        lab.start_plane();

        // 4,000 less what was used before: ten pairs of 256 bytes and an uplink packet.
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 100), 10);
        lab.send((&one, ORIGIN_V4[0]), 5);
        lab.until_dropped("urr_quota_exhausted", 4);
        let after = lab.settled();
        lab.smf.delete(opened.session);
        let (up, down) = lab.smf.volume(opened.session, URR);
        assert_eq!(up, after.rx - before.rx);
        assert!(up + down <= 4_000, "{up} and {down}");
    });
}
