//! What the rules of staking are, fixed at genesis.

use qlink_types::outcome::MAX_ELECTED;
use qlink_types::stake::Ppm;
use qlink_types::struct_codec;
use qlink_types::units::{UNITS_PER_QLC, Units};
use serde::{Deserialize, Serialize};

/// Seats, stakes in units, times in milliseconds of ledger time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StakeParams {
    /// Blocks of a seat_epoch, at least 1.
    #[serde(with = "qlink_types::text")]
    pub seat_epoch_blocks: u32,
    /// Seats of a set, 4 to 101.
    #[serde(with = "qlink_types::text")]
    pub seats: u16,
    /// Candidates behind them that are paid for being ready, at most 101.
    #[serde(with = "qlink_types::text")]
    pub standby: u16,
    /// What a standby earns of what a seat earns.
    pub standby_share: Ppm,
    /// Fewest candidates that make an election, at least 4.
    #[serde(with = "qlink_types::text")]
    pub min_candidates: u16,
    /// Least stake behind all candidates together that makes an election, as a share of all units
    /// outside the bridge and the community pool.
    pub activation: Ppm,
    /// Least self-stake of a candidate that can be elected.
    pub min_self_stake: Units,
    /// A candidate's weight is at most this many times its self-stake.
    #[serde(with = "qlink_types::text")]
    pub self_stake_factor: u16,
    /// How long a vote that was taken back waits.
    #[serde(with = "qlink_types::text")]
    pub unbonding_ms: u64,
    /// How long self-stake that was taken back waits; not below `unbonding_ms`.
    #[serde(with = "qlink_types::text")]
    pub self_unbonding_ms: u64,
    /// What evidence costs of the self-stake.
    pub slash_self: Ppm,
    /// What evidence costs of the votes.
    pub slash_votes: Ppm,
    /// The reporter's part of what evidence costs.
    pub reporter_share: Ppm,
    /// Paid to a set per seat_epoch out of the community pool, as far as it reaches, beside the
    /// fees of that seat_epoch.
    pub reward_per_seat_epoch: Units,
}

struct_codec!(StakeParams {
    seat_epoch_blocks,
    seats,
    standby,
    standby_share,
    min_candidates,
    activation,
    min_self_stake,
    self_stake_factor,
    unbonding_ms,
    self_unbonding_ms,
    slash_self,
    slash_votes,
    reporter_share,
    reward_per_seat_epoch,
});

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A share known here to be one.
const fn share(parts: u32) -> Ppm {
    match Ppm::try_new(parts) {
        Ok(share) => share,
        Err(_) => Ppm::WHOLE,
    }
}

impl Default for StakeParams {
    /// The chain reference's defaults (section 4), and 50 QLC per seat_epoch.
    fn default() -> Self {
        Self {
            seat_epoch_blocks: 3_600,
            seats: 21,
            standby: 5,
            standby_share: share(200_000),
            min_candidates: 4,
            activation: share(150_000),
            min_self_stake: Units::new(10_000 * UNITS_PER_QLC),
            self_stake_factor: 10,
            unbonding_ms: 7 * DAY_MS,
            self_unbonding_ms: 21 * DAY_MS,
            slash_self: share(50_000),
            slash_votes: share(10_000),
            reporter_share: share(100_000),
            reward_per_seat_epoch: Units::new(50 * UNITS_PER_QLC),
        }
    }
}

impl StakeParams {
    /// The first rule that the numbers break, in words.
    pub(crate) fn broken_rule(&self) -> Option<&'static str> {
        let seats = usize::from(self.seats);
        let rules = [
            (
                self.seat_epoch_blocks >= 1,
                "seat_epoch_blocks is at least 1",
            ),
            ((4..=MAX_ELECTED).contains(&seats), "seats are 4 to 101"),
            (
                usize::from(self.standby) <= MAX_ELECTED,
                "standby is at most 101",
            ),
            (self.min_candidates >= 4, "min_candidates is at least 4"),
            (
                self.self_stake_factor >= 1,
                "self_stake_factor is at least 1",
            ),
            (self.unbonding_ms >= 1, "unbonding_ms is at least 1"),
            (
                self.self_unbonding_ms >= self.unbonding_ms,
                "self_unbonding_ms is not below unbonding_ms",
            ),
        ];
        let broken = rules.into_iter().find(|(kept, _)| !kept);
        broken.map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_what_could_not_work_is_not() {
        let good = StakeParams::default();
        assert_eq!(good.broken_rule(), None);
        let bad = [
            StakeParams {
                seat_epoch_blocks: 0,
                ..good.clone()
            },
            StakeParams {
                seats: 3,
                ..good.clone()
            },
            StakeParams {
                seats: 102,
                ..good.clone()
            },
            StakeParams {
                standby: 102,
                ..good.clone()
            },
            StakeParams {
                min_candidates: 3,
                ..good.clone()
            },
            StakeParams {
                self_stake_factor: 0,
                ..good.clone()
            },
            StakeParams {
                unbonding_ms: 0,
                ..good.clone()
            },
            StakeParams {
                self_unbonding_ms: 1,
                ..good
            },
        ];
        for params in bad {
            assert!(params.broken_rule().is_some(), "{params:?}");
        }
    }
}
