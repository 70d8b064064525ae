//! A chain with short seat_epochs, four seats, one standby and small stakes.

use qlink_ledger::{Candidate, Params, StakeParams, StakeView};
use qlink_types::block::Header;
use qlink_types::codec::{Blob, Text};
use qlink_types::ids::{AccountId, BlockId, Hash32};
use qlink_types::outcome::{Event, TxReceipt};
use qlink_types::signature::SecretKey;
use qlink_types::stake::{CandidateInfo, Commission, Equivocation, Ppm, SignedHeader};
use qlink_types::transaction::{TxBody, prove_key};
use qlink_types::units::{BlockHeight, SeatEpoch, TimeMs, Units};

use crate::world::*;

/// Blocks of a seat_epoch.
pub(crate) const EPOCH: u64 = 50;
/// How long votes wait.
pub(crate) const UNBONDING_MS: u64 = 100_000;
/// How long self-stake waits.
pub(crate) const SELF_UNBONDING_MS: u64 = 300_000;

pub(crate) fn ppm(parts: u32) -> Ppm {
    Ppm::try_new(parts).unwrap()
}

pub(crate) fn stake_params() -> Params {
    Params {
        register_candidate_fee: Units::ZERO,
        stake_fee: Units::ZERO,
        transfer_fee: Units::new(1_000),
        stake: StakeParams {
            seat_epoch_blocks: u32::try_from(EPOCH).unwrap(),
            seats: 4,
            standby: 1,
            activation: ppm(0),
            min_self_stake: Units::new(1_000),
            unbonding_ms: UNBONDING_MS,
            self_unbonding_ms: SELF_UNBONDING_MS,
            reward_per_seat_epoch: Units::ZERO,
            ..StakeParams::default()
        },
        ..Params::default()
    }
}

/// The key of candidate or voter `n`; its account is made of it.
pub(crate) fn holder(n: u8) -> SecretKey {
    key(150 + n)
}

pub(crate) fn id(n: u8) -> AccountId {
    account(&holder(n))
}

/// The seat key of candidate `n`.
pub(crate) fn seat_key(n: u8) -> SecretKey {
    key(200 + n)
}

pub(crate) fn commission(rate: u32, max_change: u32) -> Commission {
    Commission {
        rate: ppm(rate),
        max_change: ppm(max_change),
    }
}

pub(crate) fn info(name: &str) -> CandidateInfo {
    CandidateInfo {
        name: Text::try_from(name).unwrap(),
        url: Text::try_from("https://seat.example").unwrap(),
        version: Text::try_from("0.1.0").unwrap(),
    }
}

pub(crate) const fn vote(candidate: AccountId, units: u64) -> TxBody {
    TxBody::Vote {
        candidate,
        units: Units::new(units),
    }
}

pub(crate) const fn unvote(candidate: AccountId, units: u64) -> TxBody {
    TxBody::Unvote {
        candidate,
        units: Units::new(units),
    }
}

impl World {
    /// Holders 0 to 9 with a million units each, and no candidate.
    pub(crate) fn of_holders(params: Params) -> Self {
        let mut world = Self::with(params);
        for n in 0..10 {
            let body = TxBody::Transfer {
                to: id(n),
                amount: Units::new(1_000_000),
            };
            world.accept(&provider(), body);
        }
        world
    }

    /// What makes holder `n` a candidate.
    pub(crate) fn candidacy(&self, n: u8, stake: u64, commission: Commission) -> TxBody {
        TxBody::RegisterCandidate {
            seat_key: seat_key(n).public(),
            key_proof: prove_key(&seat_key(n), &self.chain, &id(n)),
            stake: Units::new(stake),
            commission,
            info: info("seat"),
        }
    }

    pub(crate) fn stand(&mut self, n: u8, stake: u64) {
        let body = self.candidacy(n, stake, commission(0, 0));
        self.accept(&holder(n), body);
    }

    pub(crate) fn candidate(&self, n: u8) -> Candidate {
        self.view().candidate(&id(n)).unwrap().unwrap()
    }

    pub(crate) fn stake_of(&self, voter: u8, candidate: u8) -> StakeView {
        self.view().stake(&id(voter), &id(candidate)).unwrap()
    }

    pub(crate) fn worth(&self, voter: u8, candidate: u8) -> u64 {
        self.stake_of(voter, candidate).units.get()
    }

    pub(crate) fn held(&self, n: u8) -> u64 {
        self.balance(&id(n))
    }

    pub(crate) fn sitting(&self) -> Vec<AccountId> {
        let row = self.view().seats().unwrap().unwrap();
        row.sitting
            .seats
            .iter()
            .map(|seat| seat.candidate)
            .collect()
    }

    pub(crate) fn next(&self) -> Vec<AccountId> {
        let row = self.view().seats().unwrap().unwrap();
        row.next.seats.iter().map(|seat| seat.candidate).collect()
    }

    pub(crate) fn seat_epoch(&self) -> SeatEpoch {
        SeatEpoch::new(self.height / EPOCH)
    }

    /// Empty blocks up to and with the first one of the next seat_epoch; its events.
    pub(crate) fn turn(&mut self) -> Vec<Event> {
        let first = (self.height / EPOCH + 1) * EPOCH;
        let mut receipts: Vec<TxReceipt> = Vec::new();
        while self.height < first {
            receipts = self.block(&[]);
        }
        receipts
            .iter()
            .flat_map(|receipt| receipt.events.to_vec())
            .collect()
    }

    /// Proof that candidate `n` signed two blocks of `height` just now.
    pub(crate) fn equivocation(&self, n: u8, height: u64) -> Equivocation {
        let header = |root| Header {
            chain: self.chain,
            height: BlockHeight::new(height),
            parent: BlockId::ZERO,
            time_ms: TimeMs::new(self.time_ms),
            seat_epoch: SeatEpoch::ZERO,
            proposer: seat_key(n).public(),
            engine_context: Blob::default(),
            state_root_prev: Hash32::new([root; 32]),
            tx_root: Hash32::ZERO,
            receipts_root: Hash32::ZERO,
            next_seats_hash: Hash32::ZERO,
        };
        Equivocation {
            first: SignedHeader::sign(header(1), &seat_key(n)),
            second: SignedHeader::sign(header(2), &seat_key(n)),
        }
    }

    pub(crate) fn evidence(&self, n: u8, height: u64) -> TxBody {
        TxBody::ReportEquivocation {
            proof: Box::new(self.equivocation(n, height)),
        }
    }
}
