use qlink_pfcp::model::{
    MeasurementMethod, Resolution, SessionModel, Split, SplitSide, Time, Trigger, Triggers, Urr,
    UrrChanges, UrrId, UsageReport, VolumeKind, VolumeLimit,
};

use super::*;
use crate::arena::CounterArena;
use crate::direction::Direction;
use crate::inflight::BurstDelta;
use crate::layout::ArenaLayout;
use crate::rules::UrrList;
use crate::session::{SessionKind, SessionSlot};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const START: u64 = 1_000_000 * SECOND;
pub(super) const SLOT: SessionSlot = SessionSlot::new(1);

pub(super) const LAYOUT: ArenaLayout = ArenaLayout {
    sessions: 2,
    views: 1,
    flows: 1,
    view_words: 1,
    flow_words: 1,
    head_words: 1,
    urrs: 6,
};

pub(super) fn urr(id: u32) -> Urr {
    Urr {
        id: UrrId::new(id),
        method: MeasurementMethod {
            volume: true,
            duration: true,
            event: true,
        },
        volume_kind: VolumeKind::Network,
        triggers: Trigger::ALL
            .iter()
            .filter(|trigger| !matches!(trigger, Trigger::Start | Trigger::Stop))
            .fold(Triggers::NONE, |set, trigger| set.with(*trigger)),
        ..Urr::silent(UrrId::new(id))
    }
}

pub(super) fn total(bytes: u64) -> Option<VolumeLimit> {
    Some(VolumeLimit {
        total: Some(bytes),
        ..VolumeLimit::default()
    })
}

fn model(urrs: &[Urr]) -> SessionModel {
    SessionModel {
        urrs: urrs.iter().map(|urr| (urr.id, urr.clone())).collect(),
        ..SessionModel::default()
    }
}

/// A session with its usage rules, all of them on every packet.
pub(super) struct Bench {
    pub(super) arena: CounterArena,
    pub(super) urrs: SessionUrrs,
    pub(super) model: SessionModel,
    pub(super) now_ns: u64,
    pub(super) revision: u64,
    pub(super) reports: Vec<UsageReport>,
}

impl Bench {
    pub(super) fn on(mut arena: CounterArena, urrs: &[Urr]) -> Self {
        let model = model(urrs);
        let urrs = SessionUrrs::establish(&model, SLOT, &mut arena, START).unwrap();
        Self {
            arena,
            urrs,
            model,
            now_ns: START,
            revision: 0,
            reports: Vec::new(),
        }
    }

    fn new(urrs: &[Urr]) -> Self {
        Self::on(CounterArena::in_memory(LAYOUT), urrs)
    }

    fn list(&self) -> UrrList {
        let mut list = UrrList::EMPTY;
        for index in 0..self.urrs.len() {
            assert!(list.push(u8::try_from(index).unwrap()));
        }
        list
    }

    /// How many of `packets` pass; they are sent as one burst.
    pub(super) fn burst(&mut self, packets: &[(Direction, u64)]) -> usize {
        let list = self.list();
        let mut delta = BurstDelta::default();
        let mut passed = 0;
        for (direction, bytes) in packets {
            if self.urrs.judge(&list, &packet(*direction, *bytes)).is_ok() {
                passed += 1;
                match direction {
                    Direction::Uplink => delta.uplink_bytes += bytes,
                    Direction::Downlink => delta.downlink_bytes += bytes,
                }
            }
        }
        let (urrs, now_ns) = (&mut self.urrs, self.now_ns);
        self.arena.commit_burst_with(
            &[(SLOT, delta)],
            |_| SessionKind::Ruled,
            |_, update| urrs.settle(update, now_ns),
        );
        self.urrs.take_reports(|report| self.reports.push(report));
        passed
    }

    fn down(&mut self, bytes: u64) -> bool {
        self.burst(&[(Direction::Downlink, bytes)]) == 1
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now_ns += seconds * SECOND;
        self.urrs.tick(&mut self.arena, self.now_ns);
        self.urrs.take_reports(|report| self.reports.push(report));
    }

    pub(super) fn query(&mut self) {
        self.urrs.query(&[], &mut self.arena, self.now_ns);
        self.urrs.take_reports(|report| self.reports.push(report));
    }

    pub(super) fn acknowledge(&mut self) {
        let last: Vec<(UrrId, u32)> = self
            .urrs
            .waiting()
            .map(|report| (report.urr, report.sequence))
            .collect();
        for report in last {
            self.urrs.acknowledge(report, &mut self.arena, self.now_ns);
        }
        self.urrs.take_reports(|report| self.reports.push(report));
    }

    pub(super) fn change(&mut self, changes: UrrChanges, apply: impl FnOnce(&mut Urr)) {
        apply(self.model.urrs.get_mut(&changes.id).unwrap());
        self.revision += 1;
        let resolution = Resolution {
            changed_urrs: vec![changes],
            ..Resolution::default()
        };
        self.modify(&resolution);
    }

    fn modify(&mut self, resolution: &Resolution) {
        let when = (self.revision, self.now_ns);
        let (urrs, arena) = (&mut self.urrs, &mut self.arena);
        urrs.modify(&self.model, resolution, SLOT, arena, when)
            .unwrap();
        self.urrs.take_reports(|report| self.reports.push(report));
    }

    /// The reports since the last call: number, triggers, bytes, seconds.
    fn take(&mut self) -> Vec<(u32, Vec<Trigger>, u64, u32)> {
        let reports = std::mem::take(&mut self.reports).into_iter();
        reports
            .map(|report| {
                let volume = report.volume.unwrap_or_default();
                (
                    report.sequence,
                    report.triggers.iter().collect(),
                    volume.uplink + volume.downlink,
                    report.duration.unwrap_or(0),
                )
            })
            .collect()
    }
}

fn packet(direction: Direction, bytes: u64) -> PacketCount {
    PacketCount {
        direction,
        bytes,
        charged: bytes / 2,
    }
}

#[test]
fn a_volume_threshold_reports_all_usage_and_counts_anew() {
    let mut bench = Bench::new(&[Urr {
        volume_threshold: total(1000),
        ..urr(1)
    }]);

    bench.down(999);
    assert!(bench.take().is_empty());
    bench.down(500);
    assert_eq!(bench.take(), [(0, vec![Trigger::VolumeThreshold], 1499, 0)]);
    bench.down(999);
    assert!(bench.take().is_empty());
    bench.down(1);
    assert_eq!(bench.take(), [(1, vec![Trigger::VolumeThreshold], 1000, 0)]);
}

#[test]
fn a_query_resets_the_usage_but_not_the_way_to_the_threshold() {
    let mut bench = Bench::new(&[Urr {
        volume_threshold: total(1000),
        ..urr(1)
    }]);

    bench.down(600);
    bench.query();
    bench.down(400);

    assert_eq!(
        bench.take(),
        [
            (0, vec![Trigger::Immediate], 600, 0),
            (1, vec![Trigger::VolumeThreshold], 400, 0)
        ]
    );
}

#[test]
fn each_direction_has_its_own_threshold() {
    let mut bench = Bench::new(&[Urr {
        volume_threshold: Some(VolumeLimit {
            uplink: Some(100),
            downlink: Some(1000),
            total: None,
        }),
        ..urr(1)
    }]);

    bench.burst(&[(Direction::Downlink, 999), (Direction::Uplink, 99)]);
    assert!(bench.take().is_empty());
    bench.burst(&[(Direction::Uplink, 1)]);

    assert_eq!(bench.take(), [(0, vec![Trigger::VolumeThreshold], 1099, 0)]);
}

#[test]
fn a_quota_is_never_passed_not_even_inside_a_burst_and_a_grant_opens_again() {
    let mut bench = Bench::new(&[Urr {
        volume_quota: total(3000),
        ..urr(1)
    }]);

    let passed = bench.burst(&[(Direction::Downlink, 1000); 8]);
    assert_eq!(passed, 3);
    assert_eq!(bench.take(), [(0, vec![Trigger::VolumeQuota], 3000, 0)]);
    assert!(!bench.down(1));
    assert!(bench.take().is_empty(), "said once");

    let grant = UrrChanges {
        id: UrrId::new(1),
        volume_quota: total(500),
        ..UrrChanges::default()
    };
    bench.change(grant, |rule| rule.volume_quota = total(500));
    assert!(bench.down(400));
    assert!(!bench.down(101));
    assert_eq!(bench.take(), [(1, vec![Trigger::VolumeQuota], 400, 0)]);
}

#[test]
fn an_unsent_packet_uses_no_quota() {
    let mut bench = Bench::new(&[Urr {
        volume_quota: total(1000),
        ..urr(1)
    }]);
    let list = bench.list();
    let packet = packet(Direction::Downlink, 1000);

    assert_eq!(bench.urrs.judge(&list, &packet), Ok(()));
    bench.urrs.retract(&list, &packet);

    assert!(bench.down(1000));
}

#[test]
fn a_packet_that_one_rule_stops_is_counted_by_none() {
    let mut bench = Bench::new(&[
        urr(1),
        Urr {
            volume_quota: total(10),
            ..urr(2)
        },
    ]);
    let list = bench.list();

    assert_eq!(
        bench.urrs.judge(&list, &packet(Direction::Uplink, 11)),
        Err(1)
    );
    bench.burst(&[]);

    assert_eq!(bench.urrs.counters(0).unwrap().1.uplink_bytes, 0);
}

#[test]
fn time_counts_from_the_first_packet_and_rests_in_inactivity() {
    let mut bench = Bench::new(&[Urr {
        inactivity: Some(10),
        time_threshold: Some(30),
        ..urr(1)
    }]);

    bench.wait(100);
    bench.down(1);
    bench.wait(5);
    bench.down(1);
    // 10 seconds behind the last packet still count, the other 85 do not.
    bench.wait(95);
    assert!(bench.take().is_empty());
    bench.down(1);
    bench.wait(9);
    bench.down(1);
    bench.wait(6);

    assert_eq!(bench.take(), [(0, vec![Trigger::TimeThreshold], 4, 30)]);
}

#[test]
fn a_time_quota_stops_to_the_second_however_late_the_tick() {
    let mut bench = Bench::new(&[Urr {
        time_quota: Some(20),
        ..urr(1)
    }]);

    bench.down(7);
    assert_eq!(bench.urrs.next_deadline(), Some(START + 20 * SECOND));
    bench.wait(3600);

    assert_eq!(bench.take(), [(0, vec![Trigger::TimeQuota], 7, 20)]);
    assert!(!bench.down(1));
}

#[test]
fn starts_of_traffic_are_events_with_threshold_and_quota() {
    let mut bench = Bench::new(&[Urr {
        inactivity: Some(10),
        event_threshold: Some(2),
        event_quota: Some(3),
        ..urr(1)
    }]);

    let mut passed = Vec::new();
    for _ in 0..4 {
        passed.push(bench.down(1) && bench.down(1));
        bench.wait(11);
    }

    assert_eq!(passed, [true, true, true, false]);
    let triggers: Vec<Trigger> = bench
        .take()
        .into_iter()
        .flat_map(|report| report.1)
        .collect();
    assert_eq!(triggers, [Trigger::EventThreshold, Trigger::EventQuota]);
}

#[test]
fn periods_go_on_without_traffic_and_a_late_tick_reports_once() {
    let mut bench = Bench::new(&[Urr {
        period: Some(60),
        ..urr(1)
    }]);

    bench.down(5);
    bench.wait(60);
    assert_eq!(bench.take(), [(0, vec![Trigger::Periodic], 5, 60)]);
    bench.acknowledge();
    bench.wait(190);
    assert_eq!(bench.take().len(), 1);
    assert_eq!(bench.urrs.next_deadline(), Some(START + 300 * SECOND));
}

#[test]
fn an_unused_quota_ends_by_holding_time_and_by_validity() {
    let quota = Urr {
        volume_quota: total(1000),
        ..urr(1)
    };
    let mut held = Bench::new(&[Urr {
        quota_holding: Some(30),
        ..quota.clone()
    }]);
    let mut valid = Bench::new(&[Urr {
        quota_validity: Some(30),
        ..quota
    }]);

    for bench in [&mut held, &mut valid] {
        bench.wait(20);
        assert!(bench.down(1));
        bench.wait(15);
    }

    assert!(held.take().is_empty());
    assert_eq!(valid.take(), [(0, vec![Trigger::QuotaValidity], 1, 10)]);
    assert!(!valid.down(1));
    held.wait(15);
    assert_eq!(held.take(), [(0, vec![Trigger::QuotaHolding], 1, 30)]);
    assert!(!held.down(1));
}

#[test]
fn monitoring_times_split_the_usage_and_bring_their_own_limits() {
    let at = |seconds| Time::new(START / SECOND + seconds);
    let split = |seconds, quota| Split {
        at: at(seconds),
        volume_threshold: None,
        time_threshold: None,
        volume_quota: quota,
        time_quota: None,
    };
    let mut bench = Bench::new(&[Urr {
        volume_quota: total(1000),
        monitoring: vec![split(100, total(50)), split(200, None)],
        ..urr(1)
    }]);

    bench.down(10);
    bench.wait(150);
    assert!(bench.reports.is_empty(), "usage before waits");
    bench.down(7);
    bench.query();

    let sides: Vec<_> = bench.reports.iter().map(|report| report.split).collect();
    assert_eq!(sides, [Some(SplitSide::Before), Some(SplitSide::After)]);
    assert_eq!(bench.reports[0].end, Some(at(100)));
    assert_eq!(bench.reports[1].start, Some(at(100)));
    assert_eq!(
        bench.take(),
        [
            (0, vec![Trigger::MonitoringTime], 10, 100),
            (1, vec![Trigger::Immediate], 7, 50)
        ]
    );
    assert!(bench.down(43));
    assert!(!bench.down(1));
    bench.take();
    bench.acknowledge();
    bench.wait(100);
    bench.query();
    assert_eq!(bench.take().len(), 2);
}

#[test]
fn a_rule_linked_to_a_reporting_one_reports_too_and_sets_off_no_third() {
    let linked = |id, to: u32| Urr {
        linked: vec![UrrId::new(to)],
        ..urr(id)
    };
    let mut bench = Bench::new(&[
        Urr {
            volume_threshold: total(100),
            ..urr(1)
        },
        linked(2, 1),
        linked(3, 2),
    ]);

    bench.down(100);

    let found: Vec<u32> = bench
        .reports
        .iter()
        .map(|report| report.urr.get())
        .collect();
    assert_eq!(found, [1, 2]);
    assert!(bench.reports[1].triggers.has(Trigger::Linked));
}

#[test]
fn start_and_stop_of_traffic_are_reported() {
    let rule = urr(1);
    let mut bench = Bench::new(&[Urr {
        triggers: rule.triggers.with(Trigger::Start).with(Trigger::Stop),
        inactivity: Some(10),
        ..rule
    }]);

    bench.down(5);
    bench.down(5);
    bench.wait(10);

    assert_eq!(
        bench.take(),
        [
            (0, vec![Trigger::Start], 0, 0),
            (1, vec![Trigger::Stop], 10, 10)
        ]
    );
}

#[test]
fn dropped_downlink_packets_have_a_threshold_of_their_own() {
    let mut bench = Bench::new(&[Urr {
        dropped_threshold: Some((Some(2), None)),
        ..urr(1)
    }]);
    let list = bench.list();

    for direction in [Direction::Uplink, Direction::Downlink, Direction::Downlink] {
        bench.urrs.dropped(&list, &packet(direction, 100));
        bench.burst(&[]);
    }

    assert_eq!(bench.take(), [(0, vec![Trigger::DroppedThreshold], 0, 0)]);
}

#[test]
fn a_policed_packet_is_counted_before_enforcement_only() {
    let mut bench = Bench::new(&[
        urr(1),
        Urr {
            before_enforcement: true,
            ..urr(2)
        },
    ]);
    let list = bench.list();
    let packet = packet(Direction::Downlink, 100);

    bench.urrs.judge(&list, &packet).unwrap();
    bench.urrs.enforced(&list, &packet);
    bench.burst(&[]);

    let bytes = |index| bench.urrs.counters(index).unwrap().1.downlink_bytes;
    assert_eq!((bytes(0), bytes(1)), (0, 100));
}

#[test]
fn an_inactive_measurement_counts_nothing_until_it_is_resumed() {
    let mut bench = Bench::new(&[Urr {
        inactive: true,
        volume_quota: total(10),
        ..urr(1)
    }]);

    assert!(bench.down(100));
    let changes = UrrChanges {
        id: UrrId::new(1),
        ..UrrChanges::default()
    };
    bench.change(changes, |rule| rule.inactive = false);
    assert!(bench.down(8));
    bench.query();

    assert_eq!(bench.take(), [(0, vec![Trigger::Immediate], 8, 0)]);
}

#[test]
fn proven_and_charged_bytes_have_their_own_rules() {
    let mut bench = Bench::new(&[
        Urr {
            volume_kind: VolumeKind::Proven,
            volume_threshold: total(900),
            ..urr(1)
        },
        Urr {
            volume_kind: VolumeKind::Charged,
            ..urr(2)
        },
    ]);

    let mut update = bench.arena.update();
    let proven = (Direction::Downlink, 900);
    for index in 0..2 {
        let urrs = &mut bench.urrs;
        urrs.account(index, VolumeKind::Proven, proven, &mut update);
    }
    update.commit();
    bench.down(100);
    bench.query();

    let volumes: Vec<(u32, u64)> = bench
        .reports
        .iter()
        .map(|report| (report.urr.get(), report.volume.unwrap().downlink))
        .collect();
    assert_eq!(volumes, [(1, 900), (1, 0), (2, 50)]);
}

#[test]
fn what_no_place_is_free_for_is_reported_after_an_acknowledgement() {
    let mut bench = Bench::new(&[Urr {
        volume_threshold: total(100),
        ..urr(1)
    }]);
    for _ in 0..10 {
        bench.down(100);
    }
    assert_eq!(bench.take().len(), PENDING_MAX - 1);

    bench.acknowledge();

    assert_eq!(bench.take(), [(3, vec![Trigger::VolumeThreshold], 700, 0)]);
}

#[test]
fn a_removed_rule_reports_last_and_gives_its_row_back_when_that_is_acknowledged() {
    let mut bench = Bench::new(&[urr(1), urr(2)]);
    let free = bench.arena.free_urrs();
    bench.down(100);

    bench.model.urrs.remove(&UrrId::new(1));
    bench.revision = 1;
    bench.modify(&Resolution {
        ended_urrs: vec![UrrId::new(1)],
        ..Resolution::default()
    });

    assert_eq!(bench.take(), [(0, vec![Trigger::Termination], 100, 0)]);
    assert_eq!((bench.urrs.len(), bench.arena.free_urrs()), (1, free));
    bench.acknowledge();
    assert_eq!(bench.arena.free_urrs(), free + 1);
}

#[test]
fn a_rule_that_ends_and_comes_again_starts_at_zero_beside_its_last_report() {
    let mut bench = Bench::new(&[urr(1)]);
    bench.down(100);
    bench.query();

    bench.revision = 1;
    bench.modify(&Resolution {
        ended_urrs: vec![UrrId::new(1)],
        ..Resolution::default()
    });
    bench.down(7);
    bench.query();

    assert_eq!(
        bench.take(),
        [
            (0, vec![Trigger::Immediate], 100, 0),
            (1, vec![Trigger::Termination], 0, 0),
            (0, vec![Trigger::Immediate], 7, 0)
        ]
    );
    let old = (UrrId::new(1), 1);
    assert!(bench.urrs.acknowledge(old, &mut bench.arena, START));
    let waiting: Vec<u32> = bench.urrs.waiting().map(|report| report.sequence).collect();
    assert_eq!(waiting, [0], "the new rule's report still waits");
}

#[test]
fn more_rules_than_rows_are_refused_and_nothing_changes() {
    let mut bench = Bench::new(&[urr(1)]);
    let seven: Vec<Urr> = (1..8).map(urr).collect();
    let (before, free) = (bench.urrs.clone(), bench.arena.free_urrs());

    let refused = bench.urrs.modify(
        &model(&seven),
        &Resolution::default(),
        SLOT,
        &mut bench.arena,
        (1, START),
    );

    assert_eq!(refused, Err(UrrError::TableFull));
    assert_eq!((bench.urrs, bench.arena.free_urrs()), (before, free));
}

#[test]
fn a_modification_that_was_seen_changes_nothing_again() {
    let mut bench = Bench::new(&[Urr {
        volume_quota: total(100),
        ..urr(1)
    }]);
    let grant = UrrChanges {
        id: UrrId::new(1),
        volume_quota: total(100),
        ..UrrChanges::default()
    };
    bench.change(grant.clone(), |_| {});
    bench.down(60);

    bench.modify(&Resolution {
        changed_urrs: vec![grant],
        ..Resolution::default()
    });

    assert!(!bench.down(60));
}

#[test]
fn marks_come_back_from_their_words() {
    let mut bench = Bench::new(&[Urr {
        volume_quota: total(500),
        time_threshold: Some(9),
        monitoring: vec![Split {
            at: Time::new(START / SECOND + 5),
            volume_threshold: total(7),
            time_threshold: None,
            volume_quota: None,
            time_quota: Some(0),
        }],
        ..urr(1)
    }]);
    bench.burst(&[(Direction::Uplink, 300), (Direction::Downlink, 300)]);
    bench.wait(6);
    bench.query();

    for row in bench.arena.recovered_urrs() {
        assert_ne!(row.marks, UrrMarks::default());
        assert_eq!(UrrMarks::from_words(row.marks.to_words()), row.marks);
        let words = row.counters.to_words();
        assert_eq!(UrrCounters::from_words(words), row.counters);
    }
}
