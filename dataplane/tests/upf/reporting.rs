//! Reports that time and other rules make.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qlink_pfcp::model::{
    Split, SplitSide, Time, Trigger, Triggers, Urr, UrrChanges, UrrId, UsageReport,
};

use crate::applications::with_detection;
use crate::rig::{Lab, ORIGIN_V4, Opened, Subscriber, scenario};

const URR: UrrId = UrrId::new(1);

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// The first whole second that is at least `ahead` away.
fn second_in(ahead: Duration) -> Time {
    Time::new((now() + ahead).as_secs() + 1)
}

const fn split(at: Time) -> Split {
    Split {
        at,
        volume_threshold: None,
        time_threshold: None,
        volume_quota: None,
        time_quota: None,
    }
}

fn open_with(lab: &mut Lab, one: &Subscriber, change: impl FnOnce(&mut Urr)) -> Opened {
    let mut rules = one.rules();
    change(&mut rules.create_urrs[0]);
    lab.open(one, rules)
}

/// Datagrams that come back, until the clock shows `time` and a bit more.
fn echo_past(lab: &mut Lab, one: &Subscriber, time: Time) {
    let until = Duration::from_secs(time.get()) + Duration::from_millis(150);
    while now() < until {
        assert_eq!(lab.echo((one, ORIGIN_V4[0]), 5, 200), 5);
        lab.smf.pump(Duration::from_millis(20));
    }
}

fn total(report: &UsageReport) -> u64 {
    let volume = report.volume.unwrap();
    volume.uplink + volume.downlink
}

#[test]
fn usage_is_split_at_the_monitoring_time() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let at = second_in(Duration::from_millis(300));
        let opened = open_with(lab, &one, |urr| urr.monitoring = vec![split(at)]);
        let before = lab.n6();

        echo_past(lab, &one, at);

        lab.end_exactly(opened.session, before);
        let reports: Vec<&UsageReport> = lab.smf.reports_of(opened.session, URR).collect();
        let [first, second] = reports[..] else {
            panic!("{reports:?}");
        };
        assert_eq!(first.split, Some(SplitSide::Before));
        assert_eq!(second.split, Some(SplitSide::After));
        assert_eq!((first.end, second.start), (Some(at), Some(at)));
        assert!(total(first) > 0 && total(second) > 0);
    });
}

#[test]
fn a_monitoring_time_that_is_changed_keeps_the_split_that_waits() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let first = second_in(Duration::from_millis(300));
        let opened = open_with(lab, &one, |urr| urr.monitoring = vec![split(first)]);
        let before = lab.n6();

        echo_past(lab, &one, first);
        let second = second_in(Duration::from_millis(300));
        lab.smf.regrant(
            opened.session,
            UrrChanges {
                id: URR,
                monitoring: Some(vec![split(second)]),
                ..UrrChanges::default()
            },
        );
        echo_past(lab, &one, second);

        lab.end_exactly(opened.session, before);
        let reports: Vec<&UsageReport> = lab.smf.reports_of(opened.session, URR).collect();
        let ends: Vec<Option<Time>> = reports.iter().map(|report| report.end).collect();
        assert!(ends.starts_with(&[Some(first), Some(second)]), "{ends:?}");
        assert!(
            reports.iter().all(|report| total(report) > 0),
            "{reports:?}"
        );
    });
}

#[test]
fn periodic_reports_add_up_with_a_split_between_them() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let at = second_in(Duration::from_millis(1200));
        let opened = open_with(lab, &one, |urr| {
            urr.period = Some(1);
            urr.triggers = Triggers::NONE.with(Trigger::Periodic);
            urr.monitoring = vec![split(at)];
        });
        let before = lab.n6();

        echo_past(lab, &one, Time::new(at.get() + 1));

        lab.end_exactly(opened.session, before);
        let reports = lab.smf.reports_of(opened.session, URR);
        let periodic = reports.filter(|report| report.triggers.has(Trigger::Periodic));
        assert!(periodic.count() >= 2);
        let mut reports = lab.smf.reports_of(opened.session, URR);
        assert!(reports.any(|report| report.split == Some(SplitSide::Before)));
    });
}

#[test]
fn a_rule_reports_when_the_rule_that_it_is_linked_to_does() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let linked = UrrId::new(2);
        let mut plan = one.plan();
        plan.threshold = Some(5_000);
        let mut rules = with_detection(one.rules_of(&plan), (100, linked), |pdi| {
            pdi.filters = vec![crate::rig::filter(
                "permit out 17 from any 7000 to assigned",
            )];
        });
        let urr = &mut rules.create_urrs[1];
        urr.volume_threshold = None;
        urr.triggers = Triggers::NONE.with(Trigger::Linked);
        urr.linked = vec![URR];
        let opened = lab.open(&one, rules);

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 4, 100), 4);
        lab.fetch(&one, ORIGIN_V4[0], 20_000);
        let report = lab.smf.reported(opened.session, linked, Trigger::Linked);

        assert_eq!(total(&report), 2 * 4 * 128);
        lab.smf
            .reported(opened.session, URR, Trigger::VolumeThreshold);
    });
}

#[test]
fn the_first_packet_is_reported_and_is_measured_with_the_rest() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = open_with(lab, &one, |urr| {
            urr.triggers = Triggers::NONE.with(Trigger::Start);
        });
        let before = lab.n6();
        lab.smf.pump(Duration::from_millis(100));
        assert!(lab.smf.reports_of(opened.session, URR).next().is_none());

        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);
        lab.smf.reported(opened.session, URR, Trigger::Start);
        assert_eq!(lab.echo((&one, ORIGIN_V4[0]), 5, 100), 5);

        lab.end_exactly(opened.session, before);
        let reports = lab.smf.reports_of(opened.session, URR);
        let started = reports.filter(|report| report.triggers.has(Trigger::Start));
        assert_eq!(started.count(), 1);
    });
}

#[test]
fn usage_that_is_asked_for_again_and_again_adds_up() {
    scenario(|lab| {
        let one = Subscriber::new(9);
        let opened = lab.open(&one, one.rules());
        let before = lab.n6();

        let mut traffic = lab.start_agent(&["drip", "198.18.0.1", "300000", "10000", "10"]);
        let mut asked = 0;
        while traffic.try_wait().unwrap().is_none() {
            lab.smf.query(opened.session);
            asked += 1;
        }
        lab.end(traffic);

        lab.end_exactly(opened.session, before);
        let reports = lab.smf.reports_of(opened.session, URR);
        assert_eq!(reports.count(), asked + 1);
    });
}
