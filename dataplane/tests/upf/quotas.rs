//! Thresholds and quotas under load that does not wait.

use qlink_io::BURST_MAX;
use qlink_pfcp::model::{
    FarId, LocalFTeid, MeasurementMethod, PdrId, SessionChange, Trigger, Triggers, Urr, UrrChanges,
    UrrId,
};

use crate::rig::{Lab, ORIGIN_V4, Opened, Subscriber, scenario, scenario_with, volume};

const URR: UrrId = UrrId::new(1);

/// Bytes of a datagram's IP packet.
const PACKET: u64 = 1000 + 28;

/// The most by which a quota may be overrun.
const BURST: u64 = BURST_MAX as u64 * PACKET;

/// Sends `count` datagrams at once from the subscriber to the origin.
fn blast_up(lab: &mut Lab, one: &Subscriber, count: u64) {
    let own = one.like(ORIGIN_V4[0]).to_string();
    let origin = ORIGIN_V4[0].to_string();
    lab.agent(&["blast", &own, &origin, &count.to_string(), "1000"]);
}

/// The other way; the subscriber has no socket for them, and his kernel keeps that to itself.
fn blast_down(lab: &mut Lab, one: &Subscriber, count: u64) {
    let own = one.like(ORIGIN_V4[0]).to_string();
    let origin = ORIGIN_V4[0].to_string();
    lab.origin_agent(&["blast", &origin, &own, &count.to_string(), "1000"]);
}

fn exhaust(lab: &mut Lab, blast: fn(&mut Lab, &Subscriber, u64)) {
    let one = Subscriber::new(9);
    let mut plan = one.plan();
    plan.quota = Some(500_000);
    let opened = lab.open(&one, one.rules_of(&plan));
    let sides = |lab: &Lab| (lab.n6().rx, lab.ue0().rx);
    let before = sides(lab);

    blast(lab, &one, 1500);
    lab.smf.reported(opened.session, URR, Trigger::VolumeQuota);
    lab.settled();
    let passed = |lab: &Lab| {
        let now = sides(lab);
        now.0 - before.0 + now.1 - before.1
    };
    let first = passed(lab);
    assert!(first <= 500_000 + BURST, "{} too many", first - 500_000);
    assert!(first > 500_000 - PACKET, "stopped early at {first}");
    assert!(lab.drops("urr_quota_exhausted") > 0);

    // Nothing passes until there is a new quota, and then as much as it says.
    blast(lab, &one, 50);
    lab.settled();
    assert_eq!(passed(lab), first);
    lab.smf.regrant(
        opened.session,
        UrrChanges {
            id: URR,
            volume_quota: volume(300_000),
            ..UrrChanges::default()
        },
    );
    blast(lab, &one, 1000);
    lab.settled();
    let second = passed(lab) - first;
    assert!(second <= 300_000 + BURST, "{} too many", second - 300_000);
    assert!(second > 300_000 - PACKET, "stopped early at {second}");
    println!("{first} of 500000 bytes passed, then {second} of 300000");

    lab.smf.delete(opened.session);
    let (up, down) = lab.smf.volume(opened.session, URR);
    assert_eq!(up + down, passed(lab), "reported and carried");
}

#[test]
fn an_uplink_quota_stops_within_a_burst_and_a_new_one_goes_on() {
    scenario(|lab| exhaust(lab, blast_up));
}

#[test]
fn a_downlink_quota_stops_within_a_burst_and_a_new_one_goes_on() {
    scenario(|lab| exhaust(lab, blast_down));
}

#[test]
fn a_quota_stops_within_a_burst_with_two_workers() {
    scenario_with(|config| config.workers = 2, |lab| exhaust(lab, blast_up));
}

#[test]
fn thresholds_report_volume_while_it_flows_and_the_sum_is_exact() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let mut plan = one.plan();
        plan.threshold = Some(100_000);
        let opened = lab.open(&one, one.rules_of(&plan));
        let before = lab.n6();

        lab.fetch(&one, ORIGIN_V4[0], 1_000_000);

        lab.settled();
        let reached: Vec<u64> = lab
            .smf
            .reports_of(opened.session, URR)
            .filter(|report| report.triggers.has(Trigger::VolumeThreshold))
            .map(|report| report.volume.unwrap())
            .map(|volume| volume.uplink + volume.downlink)
            .collect();
        // A report may wait for another that is under way, and is the larger then.
        assert!(reached.len() >= 3, "{reached:?}");
        assert!(reached.iter().all(|bytes| *bytes >= 100_000), "{reached:?}");
        lab.end_exactly(opened.session, before);
    });
}

/// The usual rules with a usage rule that measures time as well.
fn timed(one: &Subscriber, change: impl FnOnce(&mut Urr)) -> SessionChange {
    let mut rules = one.rules();
    let urr = &mut rules.create_urrs[0];
    urr.method = MeasurementMethod {
        volume: true,
        duration: true,
        event: false,
    };
    change(urr);
    rules
}

#[test]
fn a_time_threshold_is_reported_when_it_has_passed() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let rules = timed(&one, |urr| {
            urr.time_threshold = Some(1);
            urr.triggers = Triggers::NONE.with(Trigger::TimeThreshold);
        });
        let opened = lab.open(&one, rules);
        let before = lab.n6();

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 100), 10);
        let report = lab
            .smf
            .reported(opened.session, URR, Trigger::TimeThreshold);

        assert_eq!(report.duration, Some(1));
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_time_quota_stops_traffic_when_it_has_passed() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let rules = timed(&one, |urr| {
            urr.time_quota = Some(1);
            urr.triggers = Triggers::NONE.with(Trigger::TimeQuota);
        });
        let opened = lab.open(&one, rules);
        let before = lab.n6();

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 100), 10);
        lab.smf.reported(opened.session, URR, Trigger::TimeQuota);
        lab.send((&one, ORIGIN_V4[0]), 5);

        lab.until_dropped("urr_quota_exhausted", 5);
        lab.end_exactly(opened.session, before);
    });
}

#[test]
fn a_quota_that_is_no_longer_valid_is_reported_with_what_was_used_of_it() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let mut plan = one.plan();
        plan.quota = Some(1_000_000);
        let mut rules = one.rules_of(&plan);
        let urr = &mut rules.create_urrs[0];
        urr.quota_validity = Some(1);
        urr.triggers = urr.triggers.with(Trigger::QuotaValidity);
        let opened = lab.open(&one, rules);
        let before = lab.n6();

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 10, 100), 10);
        let report = lab
            .smf
            .reported(opened.session, URR, Trigger::QuotaValidity);

        let used = report.volume.unwrap();
        assert_eq!((used.uplink, used.downlink), (1280, 1280));
        lab.end_exactly(opened.session, before);
    });
}

/// As in a network that offers its subscriber to buy more: his rules are replaced when his quota is
/// used up.
#[test]
fn rules_without_a_quota_take_over_from_those_whose_quota_is_used_up() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let mut plan = one.plan();
        plan.quota = Some(10_000);
        let rules = one.rules_of(&plan);
        let opened = lab.open(&one, rules.clone());
        let before = lab.n6();
        blast_up(lab, &one, 20);
        lab.smf.reported(opened.session, URR, Trigger::VolumeQuota);
        let used = lab.settled();

        replace_rules(lab, &opened, &rules);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 20, 1000), 20);

        let reported = lab.smf.volume(opened.session, URR);
        assert_eq!(reported, (used.rx - before.rx, used.tx - before.tx));
        assert_eq!(lab.n6().rx - used.rx, 20 * PACKET);
        assert!(lab.smf.delete(opened.session).is_empty());
    });
}

/// Takes every rule away and states them anew without measurement.
fn replace_rules(lab: &mut Lab, opened: &Opened, rules: &SessionChange) {
    let other = |far: FarId| FarId::new(far.get() + 10);
    let (mut pdrs, mut fars) = (rules.create_pdrs.clone(), rules.create_fars.clone());
    for far in &mut fars {
        far.id = other(far.id);
    }
    for pdr in &mut pdrs {
        pdr.id = PdrId::new(pdr.id.get() + 10);
        pdr.far = pdr.far.map(other);
        pdr.urrs.clear();
        if let Some(local) = &mut pdr.pdi.local_fteid {
            *local = LocalFTeid::Fixed(opened.uplink());
        }
    }
    lab.smf.modify(
        opened.session,
        SessionChange {
            remove_pdrs: rules.create_pdrs.iter().map(|pdr| pdr.id).collect(),
            remove_fars: rules.create_fars.iter().map(|far| far.id).collect(),
            remove_urrs: vec![URR],
            create_pdrs: pdrs,
            create_fars: fars,
            ..SessionChange::default()
        },
    );
}
