//! Candidates, votes, elections, rewards and bans, with numbers worked out by hand.

use qlink_ledger::{ModuleAccount, StakeParams};
use qlink_ledger::{Params, Standing, Waiting};
use qlink_types::ids::AccountId;
use qlink_types::outcome::{Event, Status};
use qlink_types::transaction::{TxBody, prove_key};
use qlink_types::units::{SeatEpoch, TimeMs, Units};

use crate::stake_world::*;
use crate::world::*;

/// Candidates 0 to 3 with 10,000 units of their own each.
fn four() -> World {
    let mut world = World::of_holders(stake_params());
    for n in 0..4 {
        world.stand(n, 10_000);
    }
    world
}

fn rewarded(stream: u64) -> Params {
    let params = stake_params();
    Params {
        stake: StakeParams {
            reward_per_seat_epoch: Units::new(stream),
            ..params.stake
        },
        ..params
    }
}

#[test]
fn who_is_elected_sits_one_seat_epoch_later_by_weight_and_the_next_is_standby() {
    let mut world = four();
    world.stand(4, 5_000);
    world.stand(5, 1_000);
    // 0 rises to 30,000. 5 has 501,000 behind it, of which ten times its own 1,000 count.
    world.accept(&holder(6), vote(id(0), 20_000));
    world.accept(&holder(7), vote(id(5), 500_000));
    assert_eq!(world.next(), []);

    let events = world.turn();

    // Equal weights of 10,000: the smaller id first. One of them is left over: the standby.
    let mut equal = [id(1), id(2), id(3), id(5)];
    equal.sort();
    let expected: Vec<AccountId> = [id(0)].into_iter().chain(equal).take(4).collect();
    assert_eq!(world.next(), expected);
    assert_eq!(world.sitting(), []);
    let elected = Event::SeatsElected {
        seat_epoch: world.seat_epoch(),
        next: expected.clone().try_into().unwrap(),
    };
    assert!(events.contains(&elected), "{events:?}");
    let row = world.view().seats().unwrap().unwrap();
    let standby: Vec<_> = row.next.standby.iter().map(|seat| seat.candidate).collect();
    assert_eq!(standby, [equal[3]]);
    assert_eq!(row.next.seats[0].weight, Units::new(30_000));
    assert_eq!(row.next.seats[1].weight, Units::new(10_000));
    // What happens meanwhile changes only the set behind it.
    world.accept(&holder(0), TxBody::ResignCandidate);
    world.turn();
    assert_eq!(world.sitting(), expected);
    assert!(!world.next().contains(&id(0)));
}

#[test]
fn too_few_candidates_or_too_little_stake_elect_nobody() {
    let mut world = four();
    world.accept(&holder(3), TxBody::ResignCandidate);
    world.turn();
    assert_eq!(world.next(), []);
    world.stand_again(3);
    world.turn();
    assert_eq!(world.next().len(), 4);
    // Self-stake below the least one: not electable, though it stands.
    world.accept(&holder(3), unvote(id(3), 9_001));
    world.turn();
    assert_eq!(world.next(), []);

    let params = stake_params();
    let params = Params {
        stake: StakeParams {
            // 40,000 units are less than a millionth of 30,000,003,000,000,000 units.
            activation: ppm(1),
            ..params.stake
        },
        ..params
    };
    let mut world = World::of_holders(params);
    for n in 0..4 {
        world.stand(n, 10_000);
    }
    world.turn();
    assert_eq!(world.next(), []);
    let missing = 30_000_003_000 + 1_000 - 40_000;
    let body = TxBody::Transfer {
        to: id(9),
        amount: Units::new(missing),
    };
    world.accept(&provider(), body);
    world.accept(&holder(9), vote(id(0), missing));
    world.turn();
    assert_eq!(world.next().len(), 4);
}

impl World {
    fn stand_again(&mut self, n: u8) {
        let body = self.candidacy(n, 0, commission(0, 0));
        self.accept(&holder(n), body);
    }
}

#[test]
fn fees_and_the_stream_are_paid_to_who_sat_behind_commission_by_stake() {
    let mut world = World::of_holders(rewarded(7_000));
    for n in 0..4 {
        let body = world.candidacy(n, 10_000, commission(100_000, 0));
        world.accept(&holder(n), body);
    }
    world.stand(4, 5_000);
    world.accept(&holder(6), vote(id(0), 20_000));
    world.accept(&holder(7), vote(id(0), 10_000));
    // Fees of the ten transfers before the first candidate are nobody's.
    let pool = |world: &World| world.balance(&ModuleAccount::Community.id());
    assert_eq!(pool(&world), 10_000);
    world.turn();
    world.turn();
    assert_eq!(pool(&world), 10_000, "nobody sat yet");
    let before: Vec<u64> = (0..5).map(|n| world.held(n)).collect();
    // 14,000 of fees in this seat_epoch.
    for _ in 0..14 {
        let body = TxBody::Transfer {
            to: wallet(),
            amount: Units::new(1),
        };
        world.accept(&provider(), body);
    }

    world.turn();

    // 21,000 over four seats and a standby of a fifth: 5,000 each and 1,000.
    assert_eq!(pool(&world), 10_000 + 14_000 - 21_000);
    // Candidate 0: 500 commission, 4,500 by stake: a quarter is its own, the rest its voters'.
    assert_eq!(world.held(0) - before[0], 500 + 1_125);
    assert_eq!(
        world.held(1) - before[1],
        5_000,
        "no voters, all is its own"
    );
    assert_eq!(world.held(4) - before[4], 1_000);
    // Two thirds and a third of 3,375, rounded down: what a share earned is no whole unit.
    assert_eq!(world.stake_of(6, 0).rewards, Units::new(2_249));
    assert_eq!(world.stake_of(7, 0).rewards, Units::new(1_124));
    assert_eq!(world.candidate(0).rewards, Units::new(3_375));
    // Who comes later has no part in it; who votes more is paid first.
    world.accept(&holder(8), vote(id(0), 100_000));
    assert_eq!(world.stake_of(8, 0).rewards, Units::ZERO);
    let held = world.held(6);
    world.accept(&holder(6), vote(id(0), 1));
    assert_eq!(world.held(6), held - 1 + 2_249);
    let collect = TxBody::CollectRewards { candidate: id(0) };
    let held = world.held(7);
    world.accept(&holder(7), collect.clone());
    assert_eq!(world.held(7), held + 1_124);
    let again = world.run(&holder(7), collect);
    assert_eq!(again.status, Status::NothingToClaim);
    // What rounding left is the community pool's when nobody votes for the candidate any more.
    assert_eq!(world.candidate(0).rewards, Units::new(2));
    for (n, units) in [(6, 20_001), (7, 10_000), (8, 100_000)] {
        world.accept(&holder(n), unvote(id(0), units));
    }
    assert_eq!(world.candidate(0).rewards, Units::ZERO);
    assert_eq!(pool(&world), 3_000 + 2);
}

#[test]
fn the_stream_ends_with_the_pool_and_what_is_set_aside_is_no_fee() {
    let mut world = World::of_holders(rewarded(6_000));
    for n in 0..4 {
        world.stand(n, 10_000);
    }
    world.turn();
    let pool = |world: &World| world.balance(&ModuleAccount::Community.id());
    world.turn();
    assert_eq!(pool(&world), 10_000);
    world.turn();
    assert_eq!(pool(&world), 4_000);
    world.turn();
    assert_eq!(pool(&world), 0);
    world.turn();
    assert_eq!(pool(&world), 0);
    assert_eq!(world.held(0), 1_000_000 - 10_000 + 10_000 / 4);
}

#[test]
fn a_vote_taken_back_waits_its_time_and_comes_back_whole() {
    let mut world = four();
    world.accept(&holder(6), vote(id(0), 20_000));
    let held = world.held(6);
    world.accept(&holder(6), unvote(id(0), 5_000));
    let release = TimeMs::new(world.time_ms + UNBONDING_MS);
    assert_eq!(world.worth(6, 0), 15_000);
    assert_eq!(world.candidate(0).votes, Units::new(15_000));
    assert_eq!(world.candidate(0).waiting, Units::new(5_000));
    let waiting = world.view().releases(10).unwrap();
    assert_eq!(
        (waiting.len(), waiting[0].time, waiting[0].kind),
        (1, release, Waiting::Vote)
    );

    world.wait(UNBONDING_MS - 2_000);
    assert_eq!(world.held(6), held);
    let receipts = world.wait(0);

    assert_eq!(world.held(6), held + 5_000);
    assert_eq!(
        receipts[0].events.to_vec(),
        [Event::StakeReleased {
            voter: id(6),
            candidate: id(0),
            units: Units::new(5_000),
            cut: Units::ZERO,
        }]
    );
    // Self-stake waits longer.
    world.accept(&holder(0), unvote(id(0), 1_000));
    let held = world.held(0);
    world.wait(UNBONDING_MS + 1_000);
    assert_eq!(world.held(0), held);
    world.wait(SELF_UNBONDING_MS - UNBONDING_MS);
    assert_eq!(world.held(0), held + 1_000);
}

#[test]
fn a_candidate_without_anything_left_is_forgotten_and_may_come_back() {
    let mut world = four();
    world.accept(&holder(6), vote(id(0), 20_000));
    world.accept(&holder(0), TxBody::ResignCandidate);
    let refused = world.run(&holder(6), vote(id(0), 1));
    assert_eq!(refused.status, Status::CandidateInactive);
    world.accept(&holder(0), unvote(id(0), 10_000));
    world.accept(&holder(6), unvote(id(0), 20_000));
    assert_eq!(world.view().votes(&id(6)).unwrap(), []);
    world.wait(SELF_UNBONDING_MS);
    assert_eq!(world.view().candidate(&id(0)).unwrap(), None);
    assert_eq!(world.view().candidates(10, None).unwrap().len(), 3);
    assert_eq!(world.view().seats().unwrap().unwrap().candidates, 3);
    assert_eq!((world.held(0), world.held(6)), (1_000_000, 1_000_000));

    // The seat key is still its own.
    let theft = TxBody::RegisterCandidate {
        seat_key: seat_key(0).public(),
        key_proof: prove_key(&seat_key(0), &world.chain, &id(5)),
        stake: Units::new(1_000),
        commission: commission(0, 0),
        info: info("thief"),
    };
    assert_eq!(world.run(&holder(5), theft).status, Status::SeatKeyTaken);
    world.stand(0, 1_000);
    assert_eq!(world.candidate(0).standing, Standing::Active);
}

#[test]
fn a_vote_moves_at_once_and_leaves_a_surety_behind() {
    let mut world = four();
    world.accept(&holder(6), vote(id(0), 20_001));
    let body = TxBody::Redelegate {
        from: id(0),
        to: id(1),
        units: Units::new(10_001),
    };

    world.accept(&holder(6), body);

    // One per cent, rounded up.
    assert_eq!((world.worth(6, 0), world.worth(6, 1)), (10_000, 9_900));
    let waiting = world.view().releases(10).unwrap();
    assert_eq!(
        (waiting[0].kind, waiting[0].release.units),
        (Waiting::Surety, Units::new(101))
    );
    let held = world.held(6);
    world.wait(UNBONDING_MS);
    assert_eq!(world.held(6), held + 101);
    // Neither to itself nor from self-stake.
    for (sender, from, to) in [(6, 1, 1), (1, 1, 0)] {
        let body = TxBody::Redelegate {
            from: id(from),
            to: id(to),
            units: Units::new(1_000),
        };
        assert_eq!(world.run(&holder(sender), body).status, Status::WrongSender);
    }
}

#[test]
fn evidence_bans_for_ever_and_cuts_all_stake_that_answers_for_it() {
    let mut world = four();
    world.accept(&holder(6), vote(id(0), 20_000));
    world.accept(&holder(7), vote(id(0), 30_000));
    world.accept(&holder(7), unvote(id(0), 2_000));
    // Waits since seat_epoch 0; the offence is of seat_epoch 1.
    world.turn();
    let offence = world.height;
    world.turn();
    world.accept(&holder(6), unvote(id(0), 10_000));
    world.accept(&holder(0), unvote(id(0), 2_000));
    let body = TxBody::Redelegate {
        from: id(0),
        to: id(1),
        units: Units::new(8_000),
    };
    world.accept(&holder(7), body);
    let (pool, held) = (world.balance(&ModuleAccount::Community.id()), world.held(9));

    let receipt = world.accept(&holder(9), world.evidence(0, offence));

    // 5 % of 8,000 and 1 % of 30,000; a tenth of it is the reporter's.
    let cut = 400 + 300;
    assert_eq!(
        receipt.events.to_vec(),
        [Event::CandidateBanned {
            candidate: id(0),
            cut: Units::new(cut),
            reporter: id(9),
            reporter_units: Units::new(cut / 10),
        }]
    );
    assert_eq!(world.held(9), held + cut / 10);
    assert_eq!(
        world.balance(&ModuleAccount::Community.id()),
        pool + cut - cut / 10
    );
    let row = world.candidate(0);
    assert_eq!(row.standing, Standing::Banned);
    assert_eq!(row.offence, Some(SeatEpoch::new(1)));
    assert_eq!(
        (row.own, row.votes),
        (Units::new(7_600), Units::new(29_700))
    );
    assert_eq!((world.worth(6, 0), world.worth(7, 0)), (9_900, 19_800));
    // What is taken back now was cut already.
    world.accept(&holder(6), unvote(id(0), 9_900));
    let held: Vec<u64> = [0, 6, 7].map(|n| world.held(n)).to_vec();
    world.wait(SELF_UNBONDING_MS);
    assert_eq!(world.held(0) - held[0], 1_900, "5 % of what waited");
    assert_eq!(world.held(6) - held[1], 9_900 + 9_900, "1 % of what waited");
    assert_eq!(
        world.held(7) - held[2],
        2_000,
        "and the surety of 80 is gone"
    );
    // No second ban, and no way back.
    let again = world.run(&holder(9), world.evidence(0, offence + 1));
    assert_eq!(again.status, Status::AlreadyBanned);
    let back = world.candidacy(0, 10_000, commission(0, 0));
    assert_eq!(world.run(&holder(0), back).status, Status::AlreadyBanned);
    // It sat: its part of the fees stays with the pool, and cuts are no fees.
    assert!(world.sitting().contains(&id(0)));
    let (pool, held) = (world.balance(&ModuleAccount::Community.id()), world.held(0));
    for _ in 0..4 {
        let body = TxBody::Transfer {
            to: wallet(),
            amount: Units::new(1),
        };
        world.accept(&provider(), body);
    }
    world.turn();
    assert_eq!(world.balance(&ModuleAccount::Community.id()), pool + 1_000);
    assert_eq!(world.held(0), held);
    assert_eq!(world.next(), []);
    assert_eq!(world.view().seats().unwrap().unwrap().candidates, 3);
}

#[test]
fn an_offence_is_proven_under_any_key_the_candidate_ever_had() {
    let mut world = four();
    let rotation = TxBody::RotateSeatKey {
        seat_key: seat_key(8).public(),
        key_proof: prove_key(&seat_key(8), &world.chain, &id(0)),
    };
    world.accept(&holder(0), rotation);
    assert_eq!(world.candidate(0).seat_key, seat_key(8).public());

    world.accept(&holder(9), world.evidence(0, world.height));

    assert_eq!(world.candidate(0).standing, Standing::Banned);
}

#[test]
fn evidence_ages_and_strangers_cannot_be_accused() {
    let mut world = four();
    let old = world.evidence(0, world.height);
    world.wait(SELF_UNBONDING_MS);
    assert_eq!(world.run(&holder(9), old).status, Status::EvidenceTooOld);
    let stranger = world.evidence(5, world.height);
    assert_eq!(
        world.run(&holder(9), stranger).status,
        Status::UnknownCandidate
    );
    let mut forged = world.equivocation(1, world.height);
    forged.second = forged.first.clone();
    let body = TxBody::ReportEquivocation {
        proof: Box::new(forged),
    };
    assert_eq!(world.run(&holder(9), body).status, Status::EvidenceInvalid);
}

#[test]
fn a_rate_changes_as_far_and_as_often_as_was_promised() {
    let mut world = World::of_holders(stake_params());
    let body = world.candidacy(0, 10_000, commission(50_000, 10_000));
    world.accept(&holder(0), body);
    let rate = |world: &mut World, rate| {
        let body = TxBody::UpdateCandidate {
            rate: ppm(rate),
            info: info("other name"),
        };
        world.run(&holder(0), body).status
    };
    assert_eq!(rate(&mut world, 55_000), Status::CommissionInvalid);
    world.turn();
    assert_eq!(rate(&mut world, 60_001), Status::CommissionInvalid);
    assert_eq!(rate(&mut world, 60_000), Status::Accepted);
    assert_eq!(rate(&mut world, 65_000), Status::CommissionInvalid);
    assert_eq!(rate(&mut world, 60_000), Status::Accepted, "no change");
    assert_eq!(world.candidate(0).info, info("other name"));
    // Resigning and standing again is no way around it.
    world.accept(&holder(0), TxBody::ResignCandidate);
    for promise in [commission(70_000, 10_000), commission(60_000, 20_000)] {
        let body = world.candidacy(0, 0, promise);
        assert_eq!(
            world.run(&holder(0), body).status,
            Status::CommissionInvalid
        );
    }
    world.turn();
    let body = world.candidacy(0, 0, commission(70_000, 10_000));
    world.accept(&holder(0), body);
    assert_eq!(rate(&mut world, 80_000), Status::CommissionInvalid);
}
