//! Random histories of stake: after every block the audit is clean, shares are worth what stands
//! behind them, no voter is owed more than was set apart, and nobody loses but by evidence.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use qlink_ledger::{SignatureCheck, Standing};
use qlink_types::outcome::{Event, Status, TxReceipt};
use qlink_types::transaction::TxBody;
use qlink_types::units::Units;

use crate::stake_world::*;
use crate::world::*;

/// Holders that stand for seats.
const CANDIDATES: u8 = 6;
/// All holders.
const HOLDERS: u8 = 10;

#[derive(Debug, Clone)]
enum Step {
    Vote(u8, u8, u64),
    Unvote(u8, u8, u64),
    Redelegate(u8, u8, u8, u64),
    Collect(u8, u8),
    Resign(u8),
    StandAgain(u8),
    Report(u8),
    Fees(u8),
    Turn,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let holder = || 0..HOLDERS;
    let candidate = || 0..CANDIDATES;
    // Part of a million, often odd, sometimes all of a stake.
    let units = || prop_oneof![1u64..50_000, 1u64..10, Just(u64::MAX)];
    prop_oneof![
        8 => (holder(), candidate(), 1u64..200_000).prop_map(|(v, c, u)| Step::Vote(v, c, u)),
        6 => (holder(), candidate(), units()).prop_map(|(v, c, u)| Step::Unvote(v, c, u)),
        5 => (holder(), candidate(), candidate(), units())
            .prop_map(|(v, a, b, u)| Step::Redelegate(v, a, b, u)),
        3 => (holder(), candidate()).prop_map(|(v, c)| Step::Collect(v, c)),
        1 => candidate().prop_map(Step::Resign),
        1 => candidate().prop_map(Step::StandAgain),
        1 => candidate().prop_map(Step::Report),
        3 => (1u8..5).prop_map(Step::Fees),
        4 => Just(Step::Turn),
        3 => (0..2 * UNBONDING_MS).prop_map(Step::Wait),
    ]
}

/// What each holder has in all: spendable, behind candidates, waiting and earned.
fn wealth(world: &World) -> BTreeMap<u8, u64> {
    let waiting = world.view().releases(10_000).unwrap();
    (0..HOLDERS)
        .map(|n| {
            let behind: u64 = (0..CANDIDATES)
                .map(|c| world.stake_of(n, c))
                .map(|stake| stake.units.get() + stake.rewards.get())
                .sum();
            let queued: u64 = waiting
                .iter()
                .filter(|stake| stake.voter == id(n))
                .map(|stake| stake.release.units.get())
                .sum();
            (n, world.held(n) + behind + queued)
        })
        .collect()
}

fn check_candidates(world: &World) {
    for c in 0..CANDIDATES {
        let Some(row) = world.view().candidate(&id(c)).unwrap() else {
            continue;
        };
        let stakes: Vec<_> = (0..HOLDERS)
            .filter(|n| *n != c)
            .map(|n| world.stake_of(n, c))
            .collect();
        let worth: u64 = stakes.iter().map(|stake| stake.units.get()).sum();
        let earned: u64 = stakes.iter().map(|stake| stake.rewards.get()).sum();
        let votes = row.votes.get();
        assert!(worth <= votes && votes <= worth + u64::from(HOLDERS));
        assert!(earned <= row.rewards.get());
        if row.standing != Standing::Banned {
            assert_eq!(worth, votes, "nothing is cut without evidence");
        }
    }
}

/// Runs one step; says whether it may make somebody poorer.
fn run(world: &mut World, step: &Step) -> Vec<TxReceipt> {
    let all = |world: &World, voter, candidate, units| match units {
        u64::MAX => world.worth(voter, candidate),
        units => units,
    };
    let (sender, body) = match step {
        Step::Vote(voter, candidate, units) => (*voter, vote(id(*candidate), *units)),
        Step::Unvote(voter, candidate, units) => {
            let units = all(world, *voter, *candidate, *units);
            (*voter, unvote(id(*candidate), units))
        }
        Step::Redelegate(voter, from, to, units) => {
            let units = Units::new(all(world, *voter, *from, *units));
            let (from, to) = (id(*from), id(*to));
            (*voter, TxBody::Redelegate { from, to, units })
        }
        Step::Collect(voter, candidate) => {
            let candidate = id(*candidate);
            (*voter, TxBody::CollectRewards { candidate })
        }
        Step::Resign(candidate) => (*candidate, TxBody::ResignCandidate),
        Step::StandAgain(candidate) => {
            let rate = world.view().candidate(&id(*candidate)).unwrap();
            let rate = rate.map_or_else(|| commission(100_000, 0), |row| row.commission);
            (*candidate, world.candidacy(*candidate, 1_000, rate))
        }
        Step::Report(candidate) => (9, world.evidence(*candidate, world.height)),
        Step::Fees(count) => {
            let fee = |_| {
                let body = TxBody::Transfer {
                    to: wallet(),
                    amount: Units::new(1),
                };
                world.accept(&provider(), body)
            };
            return (0..*count).map(fee).collect();
        }
        Step::Turn => {
            world.turn();
            return Vec::new();
        }
        Step::Wait(millis) => return world.wait(*millis),
    };
    vec![world.run(&holder(sender), body)]
}

fn cuts(receipts: &[TxReceipt]) -> bool {
    let events = receipts.iter().flat_map(|receipt| receipt.events.to_vec());
    events.into_iter().any(|event| match event {
        Event::CandidateBanned { .. } => true,
        Event::StakeReleased { cut, .. } => !cut.is_zero(),
        _ => false,
    })
}

#[test]
fn random_histories_of_stake_keep_every_law() {
    let histories: u32 = std::env::var("QLINK_PROPERTY_STAKES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(60);
    let config = ProptestConfig {
        cases: histories,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut base = World::of_holders(stake_params());
    base.check = SignatureCheck::AlreadyVerified;
    for n in 0..CANDIDATES {
        let body = base.candidacy(n, 10_000, commission(100_000, 0));
        base.accept(&holder(n), body);
    }
    let steps = prop::collection::vec(step(), 1..60);

    let mut runner = TestRunner::new(config);
    let result = runner.run(&steps, |steps| {
        let mut world = base.clone();
        for step in steps {
            let (before, banned) = (wealth(&world), any_banned(&world));
            let receipts = run(&mut world, &step);
            check_candidates(&world);
            if banned || any_banned(&world) || cuts(&receipts) {
                continue;
            }
            for (n, units) in wealth(&world) {
                // Rounding of rewards may be a unit off per candidate and step.
                let least = before[&n].saturating_sub(CANDIDATES.into());
                prop_assert!(
                    units >= least,
                    "{step:?}: {n} had {} has {units}",
                    before[&n]
                );
            }
            let refused_without_trace = receipts
                .iter()
                .all(|receipt| receipt.status == Status::Accepted || receipt.events.is_empty());
            prop_assert!(refused_without_trace);
        }
        Ok(())
    });
    result.unwrap();
}

fn any_banned(world: &World) -> bool {
    (0..CANDIDATES).any(|c| {
        let row = world.view().candidate(&id(c)).unwrap();
        row.is_some_and(|row| row.standing == Standing::Banned)
    })
}
