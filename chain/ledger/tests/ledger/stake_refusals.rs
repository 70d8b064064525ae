//! What the rules of staking refuse; part of the table of all statuses.

use qlink_types::outcome::Status;
use qlink_types::transaction::{SignedTransaction, TxBody, prove_key};
use qlink_types::units::Units;

use crate::stake_world::*;
use crate::statuses::Make;
use crate::world::*;

/// A world of holders with candidates 0 to 3, in place of the one given.
fn staked(world: &mut World) {
    *world = World::of_holders(stake_params());
    for n in 0..4 {
        world.stand(n, 10_000);
    }
}

fn sent(world: &mut World, n: u8, body: impl Fn(&World) -> TxBody) -> SignedTransaction {
    staked(world);
    world.sign(&holder(n), body(world))
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
pub(crate) fn stake_refusals() -> Vec<(Status, Make)> {
    vec![
        (Status::CandidateExists, |world| {
            sent(world, 0, |world| world.candidacy(0, 1, commission(0, 0)))
        }),
        (Status::SeatKeyTaken, |world| {
            staked(world);
            world.stand(4, 10_000);
            let body = TxBody::RotateSeatKey {
                seat_key: seat_key(0).public(),
                key_proof: prove_key(&seat_key(0), &world.chain, &id(4)),
            };
            world.sign(&holder(4), body)
        }),
        (Status::KeyProofInvalid, |world| {
            sent(world, 4, |world| TxBody::RegisterCandidate {
                seat_key: seat_key(4).public(),
                key_proof: prove_key(&seat_key(5), &world.chain, &id(4)),
                stake: Units::new(10_000),
                commission: commission(0, 0),
                info: info("seat"),
            })
        }),
        (Status::StakeTooSmall, |world| {
            sent(world, 4, |world| world.candidacy(4, 999, commission(0, 0)))
        }),
        (Status::UnknownCandidate, |world| {
            sent(world, 4, |_| vote(id(5), 1))
        }),
        (Status::CandidateInactive, |world| {
            staked(world);
            world.accept(&holder(0), TxBody::ResignCandidate);
            world.sign(&holder(0), TxBody::ResignCandidate)
        }),
        (Status::StakeExceeded, |world| {
            sent(world, 0, |_| unvote(id(0), 10_001))
        }),
        (Status::StakeExceeded, |world| {
            staked(world);
            world.accept(&holder(5), vote(id(0), 10));
            world.sign(&holder(5), unvote(id(0), 11))
        }),
        (Status::StakeExceeded, |world| {
            sent(world, 5, |_| unvote(id(0), 1))
        }),
        (Status::InsufficientFunds, |world| {
            sent(world, 5, |_| vote(id(0), 1_000_001))
        }),
        (Status::AmountZero, |world| {
            sent(world, 5, |_| vote(id(0), 0))
        }),
        (Status::AmountTooLarge, |world| {
            sent(world, 5, |_| vote(id(0), u64::MAX))
        }),
        (Status::TooManyVotes, |world| {
            staked(world);
            for n in 4..10 {
                world.stand(n, 10_000);
            }
            let funds = TxBody::Transfer {
                to: id(10),
                amount: Units::new(1_000_000),
            };
            world.accept(&provider(), funds);
            world.stand(10, 10_000);
            for n in 0..10 {
                world.accept(&provider(), vote(id(n), 10));
            }
            world.sign(&provider(), vote(id(10), 10))
        }),
        (Status::CommissionInvalid, |world| {
            sent(world, 0, |_| TxBody::UpdateCandidate {
                rate: ppm(1),
                info: info("seat"),
            })
        }),
        (Status::NothingToClaim, |world| {
            sent(world, 5, |_| TxBody::CollectRewards { candidate: id(0) })
        }),
        (Status::EvidenceInvalid, |world| {
            sent(world, 5, |world| {
                let mut proof = world.equivocation(0, 3);
                proof.second = proof.first.clone();
                TxBody::ReportEquivocation {
                    proof: Box::new(proof),
                }
            })
        }),
        (Status::EvidenceTooOld, |world| {
            staked(world);
            let body = world.evidence(0, 3);
            world.wait(SELF_UNBONDING_MS);
            world.sign(&holder(5), body)
        }),
        (Status::AlreadyBanned, |world| {
            staked(world);
            let body = world.evidence(0, 3);
            world.accept(&holder(5), body.clone());
            world.sign(&holder(6), body)
        }),
    ]
}
