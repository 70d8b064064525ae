//! The law of usage reports under everything that can happen to a session.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use qlink_pfcp::model::{SessionModel, Split, Time, Urr, UrrChanges, UrrId, UsageReport};
use qlink_types::units::Incarnation;

use super::urr_tests::{Bench, LAYOUT, SECOND, SLOT, START, total, urr};
use super::*;
use crate::arena::{ArenaSetup, CounterArena};
use crate::direction::Direction;
use crate::inflight::BurstDelta;
use crate::layout::ArenaLayout;
use crate::record::death;
use crate::rules::UrrList;
use crate::session::SessionKind;

/// A session with `count` usage rules, each of which reports at 100 bytes; counted as one burst of
/// one packet for every eight of them. The writer dies after `stores` stores.
fn one_burst(path: &Path, count: u32, stores: u64) {
    let layout = ArenaLayout { urrs: 64, ..LAYOUT };
    let setup = ArenaSetup { layout, ..setup() };
    let (mut arena, _) = CounterArena::open(path, setup).unwrap();
    let rules = (1..=count).map(|id| Urr {
        volume_threshold: total(100),
        ..urr(id)
    });
    let model = SessionModel {
        urrs: rules.map(|rule| (rule.id, rule)).collect(),
        ..SessionModel::default()
    };
    let mut urrs = SessionUrrs::establish(&model, SLOT, &mut arena, START).unwrap();
    let packet = PacketCount {
        direction: Direction::Uplink,
        bytes: 100,
        charged: 0,
    };
    let delta = BurstDelta {
        uplink_bytes: 100,
        ..BurstDelta::default()
    };
    for first in (0..count).step_by(8) {
        let mut list = UrrList::EMPTY;
        for index in first..count.min(first + 8) {
            assert!(list.push(u8::try_from(index).unwrap()));
        }
        urrs.judge(&list, &packet).unwrap();
    }
    death::after(stores);
    arena.commit_burst_with(
        &[(SLOT, delta)],
        |_| SessionKind::Ruled,
        |_, update| urrs.settle(update, START),
    );
    drop(arena);
    death::after(u64::MAX);

    let (arena, recovered) = CounterArena::open(path, setup).unwrap();

    let bytes = arena.usage(SLOT).uplink_bytes;
    assert!(bytes == 0 || bytes == 100, "{stores}");
    assert_eq!(recovered.urrs.len(), count as usize);
    for row in recovered.urrs {
        assert_eq!(row.counters.uplink_bytes, bytes, "{stores}");
        let reports: Vec<_> = row.marks.waiting(row.urr).collect();
        assert_eq!(reports.len() as u64, bytes / 100, "{stores}");
        assert_eq!(row.marks.unreported(&row.counters), (0, 0));
    }
}

#[test]
fn a_kill_between_any_two_stores_leaves_a_session_and_its_usage_rules_in_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    // Two rules take 15 + 2 * (11 + 62) stores to prepare and 17 to change.
    for stores in 0..190 {
        let _ = std::fs::remove_file(&path);
        one_burst(&path, 2, stores);
    }
}

#[test]
fn a_change_too_long_for_the_first_redo_list_is_whole_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arena");
    // 81 rows: 2,935 stores to prepare, 245 to change.
    for stores in (0..2900).step_by(290).chain((2900..3200).step_by(7)) {
        let _ = std::fs::remove_file(&path);
        one_burst(&path, 40, stores);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Burst(Vec<(bool, u64)>),
    Wait(u64),
    Query,
    Acknowledge,
    Grant(u64),
    Threshold(u64),
    /// A burst whose writer dies after this many stores.
    Kill(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec((any::<bool>(), 1..200u64), 0..6).prop_map(Step::Burst),
        2 => (0..40u64).prop_map(Step::Wait),
        1 => Just(Step::Query),
        1 => Just(Step::Acknowledge),
        1 => (0..1500u64).prop_map(Step::Grant),
        1 => (0..500u64).prop_map(Step::Threshold),
        2 => (0..260u64).prop_map(Step::Kill),
    ];
    prop::collection::vec(step, 0..40)
}

fn setup() -> ArenaSetup {
    ArenaSetup {
        layout: LAYOUT,
        incarnation: Incarnation::new(1),
        shards: 1,
    }
}

impl Bench {
    /// Ends the process and starts another one on the same file.
    fn restart(self, path: &Path) -> Self {
        let Self {
            model,
            now_ns,
            revision,
            arena,
            ..
        } = self;
        drop(arena);
        let (mut arena, recovered) = CounterArena::open(path, setup()).unwrap();
        let rows = &recovered.urrs;
        let urrs = SessionUrrs::resume(&model, SLOT, rows, &mut arena, (revision, now_ns)).unwrap();
        Self {
            arena,
            urrs,
            model,
            now_ns,
            revision,
            reports: Vec::new(),
        }
    }

    fn step(mut self, step: Step, path: &Path) -> Self {
        let way = |up| {
            if up {
                Direction::Uplink
            } else {
                Direction::Downlink
            }
        };
        let id = UrrId::new(1);
        match step {
            Step::Burst(packets) => {
                let packets: Vec<_> = packets
                    .iter()
                    .map(|(up, bytes)| (way(*up), *bytes))
                    .collect();
                self.burst(&packets);
            }
            Step::Wait(seconds) => self.wait(seconds),
            Step::Query => self.query(),
            Step::Acknowledge => self.acknowledge(),
            Step::Grant(bytes) => {
                let volume_quota = total(bytes);
                let changes = UrrChanges {
                    id,
                    volume_quota,
                    ..UrrChanges::default()
                };
                self.change(changes, |rule| rule.volume_quota = volume_quota);
            }
            Step::Threshold(bytes) => {
                let volume_threshold = total(bytes);
                let changes = UrrChanges {
                    id,
                    volume_threshold,
                    ..UrrChanges::default()
                };
                self.change(changes, |rule| rule.volume_threshold = volume_threshold);
            }
            Step::Kill(stores) => {
                death::after(stores);
                // What the dead process says from here on, nobody hears.
                let heard = self.reports.len();
                self.burst(&[(Direction::Uplink, 90), (Direction::Downlink, 70)]);
                self.reports.truncate(heard);
                let heard = self.reports.clone();
                let mut next = self.restart_after_death(path);
                next.reports.splice(0..0, heard);
                return next;
            }
        }
        self
    }

    fn restart_after_death(self, path: &Path) -> Self {
        let arena = self.arena;
        let rest = Self {
            arena: CounterArena::in_memory(LAYOUT),
            ..self
        };
        drop(arena);
        death::after(u64::MAX);
        let mut next = rest.restart(path);
        next.urrs.take_reports(|report| next.reports.push(report));
        next
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reports_and_the_unreported_rest_sum_up_to_the_counters(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arena");
        let (arena, _) = CounterArena::open(&path, setup()).unwrap();
        let first = Urr {
            volume_threshold: total(300),
            volume_quota: total(2000),
            time_threshold: Some(25),
            inactivity: Some(30),
            period: Some(60),
            monitoring: (1..4).map(|hour| Split {
                at: Time::new(START / SECOND + hour * 90),
                volume_threshold: total(200 * hour),
                time_threshold: None,
                volume_quota: None,
                time_quota: None,
            }).collect(),
            ..urr(1)
        };
        let mut bench = Bench::on(arena, &[first, Urr { linked: vec![UrrId::new(1)], ..urr(2) }]);
        let mut said: BTreeMap<(u32, u32), UsageReport> = BTreeMap::new();
        let mut before = [UrrCounters::default(); 2];
        for step in steps {
            bench = bench.step(step, &path);
            for report in std::mem::take(&mut bench.reports) {
                let known = said.insert((report.urr.get(), report.sequence), report.clone());
                prop_assert!(known.is_none_or(|known| known == report), "said twice, otherwise");
            }
            for row in bench.arena.recovered_urrs() {
                // What was made but not given out yet waits in the row.
                for held in row.marks.pending.iter().flatten() {
                    said.insert((row.urr.get(), held.sequence), held.to_report(row.urr));
                }
                let reports = said.iter().filter(|((urr, _), _)| *urr == row.urr.get());
                let volumes: Vec<_> = reports.filter_map(|(_, report)| report.volume).collect();
                let (up, down) = row.marks.unreported(&row.counters);
                prop_assert_eq!(volumes.iter().map(|v| v.uplink).sum::<u64>() + up, row.counters.uplink_bytes);
                prop_assert_eq!(volumes.iter().map(|v| v.downlink).sum::<u64>() + down, row.counters.downlink_bytes);
                let seconds: u64 = said.iter().filter(|((urr, _), _)| *urr == row.urr.get())
                    .filter_map(|(_, report)| report.duration).map(u64::from).sum();
                prop_assert!(seconds * SECOND <= row.counters.active_ns);
                let index = row.urr.get() as usize - 1;
                prop_assert!(before[index].uplink_bytes <= row.counters.uplink_bytes);
                prop_assert!(before[index].active_ns <= row.counters.active_ns);
                before[index] = row.counters;
                let usage = bench.arena.usage(SLOT);
                prop_assert_eq!(usage.uplink_bytes, row.counters.uplink_bytes, "in step with the session");
                prop_assert_eq!(usage.downlink_bytes, row.counters.downlink_bytes);
                let quota = row.marks.limits.volume_quota.and_then(|quota| quota.total);
                let used = row.counters.uplink_bytes + row.counters.downlink_bytes
                    - row.marks.quota_from.uplink - row.marks.quota_from.downlink;
                prop_assert!(quota.is_none_or(|quota| used <= quota), "the quota was passed");
            }
        }
    }
}
