//! The rows of staking, and the arithmetic of shares and rewards.

use qlink_types::codec::List;
use qlink_types::ids::AccountId;
use qlink_types::outcome::MAX_ELECTED;
use qlink_types::signature::PublicKey;
use qlink_types::stake::{CandidateInfo, Commission};
use qlink_types::struct_codec;
use qlink_types::units::{SeatEpoch, TimeMs, Units};
use serde::{Deserialize, Serialize};

use crate::row::{Held, Row, join};
use crate::state::Space;
use crate::working::Defect;

/// Whether a candidate can be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It stands for a seat.
    Active,
    /// It stands no more, and may stand again.
    Resigned,
    /// Proven guilty: it never stands again.
    Banned,
}

qlink_types::tag_codec!(Standing, "standing", { Active = 1, Resigned = 2, Banned = 3 });

/// A candidate for a seat; its key is its owner's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The key that signs blocks.
    pub seat_key: PublicKey,
    /// What it says of itself.
    pub info: CandidateInfo,
    /// What it keeps of its voters' rewards.
    pub commission: Commission,
    /// When the rate was set.
    pub rate_since: SeatEpoch,
    /// Whether it can be elected.
    pub standing: Standing,
    /// The seat_epoch of the offence that it is banned for.
    pub offence: Option<SeatEpoch>,
    /// Self-stake.
    pub own: Units,
    /// Stake of all voters.
    pub votes: Units,
    /// Shares that they have in it. After a cut a share is worth less than a unit, never more.
    #[serde(with = "qlink_types::text")]
    pub shares: u128,
    /// Rewards of one share since the beginning, in 2^-64 units.
    #[serde(with = "qlink_types::text")]
    pub reward_index: u128,
    /// Rewards that voters have not taken yet.
    pub rewards: Units,
    /// Stake that was taken back and still waits, in rows of its own.
    pub waiting: Units,
}

struct_codec!(Candidate {
    seat_key,
    info,
    commission,
    rate_since,
    standing,
    offence,
    own,
    votes,
    shares,
    reward_index,
    rewards,
    waiting,
});

impl Row for Candidate {
    type Key = AccountId;
    const SPACE: Space = Space::Tree;

    fn key(key: &AccountId) -> Vec<u8> {
        join(b'n', &[key.as_bytes()])
    }

    fn listing_key(key: &AccountId) -> Option<Vec<u8>> {
        Some(join(b'N', &[key.as_bytes()]))
    }

    fn held(&self, _key: &AccountId) -> Held {
        Held {
            // Both are parts of the supply.
            staked: Units::new(self.own.get().saturating_add(self.votes.get())),
            rewards: self.rewards,
            ..Held::default()
        }
    }
}

/// `a * b / c`, rounded down or up; an overflow or a zero divisor is a defect of the ledger.
fn ratio(a: u128, b: u128, c: u128, up: u128) -> Result<u128, Defect> {
    let product = a.checked_mul(b).and_then(|product| product.checked_add(up));
    let quotient = product.and_then(|product| product.checked_div(c));
    quotient.ok_or(Defect::Missing {
        what: "room for a share",
    })
}

fn units(value: u128) -> Result<Units, Defect> {
    let value = u64::try_from(value).map_err(|_| Defect::Missing {
        what: "room for units of a share",
    })?;
    Ok(Units::new(value))
}

impl Candidate {
    /// All stake behind it.
    #[must_use]
    pub const fn stake(&self) -> Units {
        Units::new(self.own.get().saturating_add(self.votes.get()))
    }

    /// What it weighs in an election: its stake, at most `factor` times its self-stake.
    #[must_use]
    pub fn weight(&self, factor: u16) -> Units {
        let most = self.own.get().saturating_mul(factor.into());
        Units::new(self.stake().get().min(most))
    }

    /// Whether nothing of anybody's is left with it.
    pub(crate) const fn is_empty(&self) -> bool {
        self.own.is_zero() && self.shares == 0 && self.waiting.is_zero()
    }

    /// What `shares` are worth, rounded down.
    pub(crate) fn worth(&self, shares: u128) -> Result<Units, Defect> {
        match self.shares {
            0 => Ok(Units::ZERO),
            all => units(ratio(shares, self.votes.get().into(), all, 0)?),
        }
    }

    /// Shares that `units` buy, rounded down. At least as many as units: a share is never worth
    /// more than one.
    pub(crate) fn bought_by(&self, units: Units) -> Result<u128, Defect> {
        match self.votes.get() {
            0 => Ok(units.get().into()),
            votes => ratio(units.get().into(), self.shares, votes.into(), 0),
        }
    }

    /// Shares that `units` cost, rounded up, so that those who stay lose nothing.
    pub(crate) fn cost_of(&self, units: Units) -> Result<u128, Defect> {
        let votes = u128::from(self.votes.get());
        ratio(
            units.get().into(),
            self.shares,
            votes,
            votes.saturating_sub(1),
        )
    }

    /// What `vote` has earned and not taken, rounded down.
    pub(crate) fn earned_by(&self, vote: &Vote) -> Result<Units, Defect> {
        let risen = self.reward_index.saturating_sub(vote.reward_index);
        // At most all rewards ever, 2^56 units, times 2^64: who earns held its shares meanwhile.
        units(ratio(risen, vote.shares, INDEX_ONE, 0)?)
    }

    /// Sets `reward` apart for the voters, of whom there are some.
    pub(crate) fn reward_voters(&mut self, reward: Units) -> Result<(), Defect> {
        let rise = ratio(reward.get().into(), INDEX_ONE, self.shares, 0)?;
        let room = || Defect::Missing {
            what: "room for rewards",
        };
        self.reward_index = self.reward_index.checked_add(rise).ok_or_else(room)?;
        self.rewards = self.rewards.add(reward).map_err(|_| room())?;
        Ok(())
    }
}

/// One unit in a reward index.
const INDEX_ONE: u128 = 1 << 64;

/// One account's votes for one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Vote {
    /// Shares of the candidate's votes.
    #[serde(with = "qlink_types::text")]
    pub shares: u128,
    /// The candidate's reward index when the voter's rewards were last paid.
    #[serde(with = "qlink_types::text")]
    pub reward_index: u128,
}

struct_codec!(Vote {
    shares,
    reward_index
});

impl Row for Vote {
    /// Voter and candidate.
    type Key = (AccountId, AccountId);
    const SPACE: Space = Space::Tree;

    fn key((voter, candidate): &Self::Key) -> Vec<u8> {
        join(b'w', &[voter.as_bytes(), candidate.as_bytes()])
    }

    fn listing_key((voter, candidate): &Self::Key) -> Option<Vec<u8>> {
        Some(join(b'W', &[voter.as_bytes(), candidate.as_bytes()]))
    }
}

/// For how many candidates an account votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VoterRow {
    pub(crate) candidates: u8,
}

struct_codec!(VoterRow { candidates });

impl Row for VoterRow {
    type Key = AccountId;
    const SPACE: Space = Space::Tree;

    fn key(key: &AccountId) -> Vec<u8> {
        join(b'l', &[key.as_bytes()])
    }
}

/// Whose a seat key is, or was: it stays for good, so that its signatures keep their author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeatKeyRow {
    pub(crate) candidate: AccountId,
}

struct_codec!(SeatKeyRow { candidate });

impl Row for SeatKeyRow {
    type Key = PublicKey;
    const SPACE: Space = Space::Tree;

    fn key(key: &PublicKey) -> Vec<u8> {
        join(b'x', &[key.as_bytes()])
    }
}

/// What units that wait still answer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// A vote: evidence cuts the voters' share.
    Vote,
    /// Self-stake: evidence cuts the candidate's share.
    Own,
    /// Left behind by a vote that moved: evidence takes all of it.
    Surety,
    /// Taken back from a banned candidate, and cut before.
    Free,
}

qlink_types::tag_codec!(Waiting, "kind of waiting stake", {
    Vote = 1, Own = 2, Surety = 3, Free = 4,
});

impl Waiting {
    /// Its byte in a key.
    const fn tag(self) -> u8 {
        match self {
            Self::Vote => 1,
            Self::Own => 2,
            Self::Surety => 3,
            Self::Free => 4,
        }
    }
}

/// Stake on its way back to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Release {
    /// How much.
    pub units: Units,
    /// When it was taken back: it answers for offences of this seat_epoch and those before.
    pub since: SeatEpoch,
}

struct_codec!(Release { units, since });

impl Row for Release {
    /// When, whose, from which candidate, and what it answers for.
    type Key = (TimeMs, AccountId, AccountId, Waiting);
    const SPACE: Space = Space::Rows;

    fn key((time, voter, candidate, waiting): &Self::Key) -> Vec<u8> {
        join(
            b'r',
            &[
                &time.get().to_be_bytes(),
                voter.as_bytes(),
                candidate.as_bytes(),
                &[waiting.tag()],
            ],
        )
    }

    fn held(&self, _key: &Self::Key) -> Held {
        Held {
            staked: self.units,
            ..Held::default()
        }
    }
}

/// One who was elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Who.
    pub candidate: AccountId,
    /// Its seat key when it was elected.
    pub key: PublicKey,
    /// Its weight when it was elected.
    pub weight: Units,
}

struct_codec!(Seat {
    candidate,
    key,
    weight
});

/// One who could be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranked {
    /// What it would get.
    pub seat: Seat,
    /// All stake behind it, of which its weight may be a part.
    pub stake: Units,
}

/// Who was elected, by rank. Nobody: the seats of the genesis go on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Elected {
    /// For a seat.
    pub seats: List<Seat, MAX_ELECTED>,
    /// To be ready.
    pub standby: List<Seat, MAX_ELECTED>,
}

struct_codec!(Elected { seats, standby });

/// The elections' own row; it exists from the first candidate on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SeatsRow {
    /// The seat_epoch that runs.
    pub seat_epoch: SeatEpoch,
    /// Who sits in it.
    pub sitting: Elected,
    /// Who will sit in the one behind it.
    pub next: Elected,
    /// What of the community pool is no fee of this seat_epoch.
    pub set_aside: Units,
    /// Candidates that there are, without banned ones.
    #[serde(with = "qlink_types::text")]
    pub candidates: u32,
}

struct_codec!(SeatsRow {
    seat_epoch,
    sitting,
    next,
    set_aside,
    candidates,
});

impl Row for SeatsRow {
    type Key = ();
    const SPACE: Space = Space::Tree;

    fn key((): &()) -> Vec<u8> {
        vec![b'j']
    }
}

#[cfg(test)]
mod tests {
    use qlink_types::codec::Text;
    use qlink_types::stake::Ppm;

    use super::*;

    /// A candidate whose voters were cut: a share is worth a little less than a unit.
    fn cut(votes: u64, shares: u128) -> Candidate {
        Candidate {
            seat_key: PublicKey::new([1; 32]),
            info: CandidateInfo {
                name: Text::default(),
                url: Text::default(),
                version: Text::default(),
            },
            commission: Commission {
                rate: Ppm::default(),
                max_change: Ppm::default(),
            },
            rate_since: SeatEpoch::ZERO,
            standing: Standing::Banned,
            offence: Some(SeatEpoch::ZERO),
            own: Units::ZERO,
            votes: Units::new(votes),
            shares,
            reward_index: 0,
            rewards: Units::ZERO,
            waiting: Units::ZERO,
        }
    }

    #[test]
    fn taking_units_costs_those_who_stay_nothing() {
        let row = cut(29_701, 30_000);
        for units in (1..29_700).map(Units::new) {
            let cost = row.cost_of(units).unwrap();
            let left = cut(29_701 - units.get(), 30_000 - cost);
            // What is left per share has not fallen.
            assert!(
                u128::from(left.votes.get()) * row.shares
                    >= u128::from(row.votes.get()) * left.shares,
                "{units}"
            );
        }
    }

    #[test]
    fn the_whole_supply_and_all_its_rewards_fit() {
        let all = 60_000_000_000_000_000_u64;
        let mut row = cut(all, u128::from(all) * 100 / 99);
        row.reward_voters(Units::new(all)).unwrap();
        let vote = Vote {
            shares: row.shares,
            reward_index: 0,
        };
        assert_eq!(row.worth(row.shares).unwrap(), Units::new(all));
        assert!(row.earned_by(&vote).unwrap() <= Units::new(all));
        assert!(row.earned_by(&vote).unwrap() >= Units::new(all - 1));
        assert!(row.bought_by(Units::new(all)).unwrap() >= all.into());
    }
}
