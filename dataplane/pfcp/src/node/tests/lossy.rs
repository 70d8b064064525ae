//! A pipe that loses, doubles and reorders datagrams, and a control plane that works through it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::rig::*;
use crate::model::*;
use crate::node::*;
use crate::sim::{Happened, Smf};
use crate::testing::{open_qer, uplink};

/// A small generator with one sequence for each seed.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToNode,
    ToPeer,
}

struct Pipe {
    dice: Dice,
    flying: BTreeMap<(Duration, u64), (Way, Vec<u8>)>,
    count: u64,
}

impl Pipe {
    /// Of ten datagrams two are lost and two are doubled; each takes up to 2 s.
    fn put(&mut self, now: Duration, way: Way, bytes: &[u8]) {
        let copies = match self.dice.roll(10) {
            0 | 1 => 0,
            2 | 3 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let at = now + Duration::from_millis(self.dice.roll(2000));
            self.count += 1;
            self.flying.insert((at, self.count), (way, bytes.to_vec()));
        }
    }
}

struct World {
    rig: Rig,
    smf: Smf,
    pipe: Pipe,
    heard: Vec<Happened>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut config = config();
        // Enough attempts that none of a few thousand requests stays without an answer.
        config.timers.n1 = 40;
        config.timers.remember = Duration::from_secs(300);
        config.timers.heartbeat = Duration::from_secs(1000);
        let smf = Smf::new(crate::sim::SmfConfig {
            node: NodeId::Fqdn("smf".to_owned()),
            address: SMF.ip(),
            recovery: Time::new(1),
            peer: UPF,
            timers: config.timers,
            enterprise: config.enterprise,
        });
        Self {
            rig: Rig::new(config),
            smf,
            pipe: Pipe {
                dice: Dice(seed),
                flying: BTreeMap::new(),
                count: 0,
            },
            heard: Vec::new(),
        }
    }

    fn collect(&mut self) {
        let now = self.rig.now;
        for bytes in self.smf.take_datagrams() {
            self.pipe.put(now, Way::ToNode, &bytes);
        }
        for (_, bytes) in std::mem::take(&mut self.rig.sent) {
            self.pipe.put(now, Way::ToPeer, &bytes);
        }
    }

    /// Until nothing is due within two minutes.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            self.collect();
            let arrival = self.pipe.flying.keys().next().map(|(at, _)| *at);
            let timers = [
                arrival,
                self.rig.node.next_deadline(),
                self.smf.next_deadline(),
            ];
            let next = timers.into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at < self.rig.now + Duration::from_secs(120)) else {
                return;
            };
            self.rig.now = self.rig.now.max(next);
            let now = self.rig.now;
            while let Some(entry) = self.pipe.flying.first_entry()
                && entry.key().0 <= now
            {
                let (way, bytes) = entry.remove();
                match way {
                    Way::ToNode => self.rig.event(Event::Datagram {
                        from: SMF,
                        bytes: &bytes,
                    }),
                    Way::ToPeer => self.heard.extend(self.smf.datagram(now, &bytes)),
                }
            }
            self.rig.event(Event::Timer);
            self.heard.extend(self.smf.timer(now));
        }
        panic!("it does not settle");
    }
}

#[test]
fn every_request_is_done_once_whatever_the_pipe_does() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.smf.associate(world.rig.now);
        world.settle();
        let cps: Vec<Seid> = (1..=20)
            .map(|number| world.smf.establish(world.rig.now, plan(number).rules()))
            .collect();
        world.settle();
        for (cp, id) in cps.iter().flat_map(|cp| (10..13).map(move |id| (cp, id))) {
            let add = change(SessionChange {
                create_qers: vec![open_qer(id)],
                ..SessionChange::default()
            });
            world.smf.modify(world.rig.now, *cp, add);
        }
        world.settle();
        for cp in &cps[..10] {
            world.smf.delete(world.rig.now, *cp);
        }
        world.settle();

        // A second creation of a rule would have been refused, a second deletion too.
        let refused = world
            .heard
            .iter()
            .filter(|event| matches!(event, Happened::Refused { .. } | Happened::Unanswered(_)));
        assert_eq!(refused.count(), 0, "seed {seed}");
        assert_eq!(world.rig.done, 20 + 60 + 10, "seed {seed}");
        assert_eq!(world.heard.len(), 1 + 20 + 60 + 10, "seed {seed}");
        assert_eq!(world.smf.sessions().count(), 10, "seed {seed}");
        assert!(
            world.rig.noted("repeated") > 10,
            "the pipe doubles, seed {seed}"
        );
        world.rig.assert_sound();
    }
}

#[test]
fn every_report_is_taken_once_whatever_the_pipe_does() {
    for seed in 100..110 {
        let mut world = World::new(seed);
        world.smf.associate(world.rig.now);
        world.settle();
        world.smf.establish(world.rig.now, plan(1).rules());
        world.settle();
        let (up, _) = world.rig.node.sessions().next().unwrap();

        for number in 0..100 {
            world.rig.event(Event::Usage {
                session: up,
                reports: vec![report(UrrId::new(1), number)],
            });
            if number % 7 == 0 {
                world.settle();
            }
        }
        world.settle();

        let reports = world.heard.iter().filter_map(|event| match event {
            Happened::Reported { report, .. } => Some(&report.reports),
            _ => None,
        });
        let numbers: Vec<u32> = reports.flatten().map(|report| report.sequence).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// A change of rules out of few ids: some fit, some do not.
fn any_change(dice: &mut Dice) -> SessionChange {
    let id = u16::try_from(dice.roll(6)).unwrap();
    match dice.roll(4) {
        0 => SessionChange {
            remove_qers: vec![QerId::new(id.into())],
            ..SessionChange::default()
        },
        1 => SessionChange {
            create_pdrs: vec![uplink(id, 1, None)],
            ..SessionChange::default()
        },
        2 => SessionChange {
            remove_pdrs: vec![PdrId::new(id)],
            ..SessionChange::default()
        },
        _ => SessionChange {
            create_qers: vec![open_qer(id.into())],
            ..SessionChange::default()
        },
    }
}

/// One of the sessions that stand.
fn any_session(smf: &Smf, dice: &mut Dice) -> Option<Seid> {
    let standing: Vec<Seid> = smf.sessions().collect();
    let count = u64::try_from(standing.len()).unwrap();
    let index = (count > 0).then(|| usize::try_from(dice.roll(count)).unwrap());
    index.map(|index| standing[index])
}

fn any_operation(rig: &mut Rig, smf: &mut Smf, dice: &mut Dice, step: u64) {
    match (dice.roll(100), any_session(smf, dice)) {
        (0..25, _) => {
            let number = u8::try_from(dice.roll(200)).unwrap();
            smf.establish(rig.now, plan(number).rules());
        }
        (25..75, Some(cp)) => smf.modify(rig.now, cp, change(any_change(dice))),
        (75..97, Some(cp)) => smf.delete(rig.now, cp),
        (97, _) => {
            *smf = smf_at(SMF, 1000 + step);
            smf.associate(rig.now);
        }
        _ => {
            rig.now += Duration::from_secs(1);
            rig.event(Event::Timer);
        }
    }
}

#[test]
fn ten_thousand_random_operations_leave_node_plane_and_pool_in_agreement() {
    let mut dice = Dice(42);
    let (mut rig, mut smf) = associated();
    let mut refused = 0;
    for step in 0..10_000 {
        rig.mood = match dice.roll(20) {
            0 => Mood::Broken,
            _ => Mood::Willing,
        };
        any_operation(&mut rig, &mut smf, &mut dice, step);
        let happened = rig.talk(&mut smf, SMF);
        let refusals = happened
            .iter()
            .filter(|event| matches!(event, Happened::Refused { .. }));
        refused += refusals.count();
        if step % 50 == 0 {
            rig.mood = Mood::Willing;
            rig.now += Duration::from_secs(3);
            rig.event(Event::Timer);
            rig.talk(&mut smf, SMF);
            rig.assert_sound();
        }
    }

    assert!(refused > 500, "{refused}");
    assert!(rig.done > 2000, "{}", rig.done);
}

proptest! {
    #[test]
    fn no_datagram_upsets_a_node(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (mut rig, ..) = established();

        rig.event(Event::Datagram { from: SMF, bytes: &bytes });

        rig.assert_sound();
    }

    #[test]
    fn no_damaged_request_upsets_a_node(at in 4..200_usize, value in any::<u8>()) {
        let (mut rig, mut smf) = associated();
        smf.establish(rig.now, plan(1).rules());
        let mut bytes = smf.take_datagrams().remove(0);
        let at = at.min(bytes.len() - 1);
        bytes[at] = value;

        rig.event(Event::Datagram { from: SMF, bytes: &bytes });

        rig.assert_sound();
    }
}
