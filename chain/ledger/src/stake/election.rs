//! The turn of a seat_epoch: who sat is paid, who was elected sits, and the next set is elected.

use std::cmp::Reverse;

use qlink_types::codec::List;
use qlink_types::ids::AccountId;
use qlink_types::outcome::Event;
use qlink_types::stake::Ppm;
use qlink_types::units::Units;

use super::candidate::{seat_epoch, seats};
use super::params::StakeParams;
use super::rows::{Candidate, Elected, Ranked, Seat, SeatsRow, Standing};
use crate::account::ModuleAccount;
use crate::state::{StateError, StateView};
use crate::view::View;
use crate::working::{Defect, Stop, WorkingSet};

/// Candidates read at a time.
const PAGE: usize = 256;

/// Turns to the seat_epoch of this block if it is not the one that runs. Before the first candidate
/// there is nothing to turn.
pub(crate) fn turn(set: &mut WorkingSet<'_>) -> Result<Vec<Event>, Stop> {
    let handle = set.seats.load(set.state, &())?;
    let now = seat_epoch(set);
    if set
        .seats
        .get(handle)
        .is_none_or(|row| row.seat_epoch >= now)
    {
        return Ok(Vec::new());
    }
    let mut events = Vec::new();
    pay_sitting(set, &mut events)?;
    let next = elect(set)?;
    let (handle, row) = seats(set)?;
    let elected = next.seats.iter().map(|seat| seat.candidate).collect();
    set.seats.set(
        handle,
        SeatsRow {
            seat_epoch: now,
            sitting: row.next.clone(),
            next,
            ..row
        },
    );
    events.push(Event::SeatsElected {
        seat_epoch: now,
        next: list(elected)?,
    });
    Ok(events)
}

fn list<T, const MAX: usize>(items: Vec<T>) -> Result<List<T, MAX>, Defect> {
    List::try_from(items).map_err(|_| Defect::Missing {
        what: "room for those elected",
    })
}

/// Pays those who sat: the fees since the last turn, and the stream of the community pool.
fn pay_sitting(set: &mut WorkingSet<'_>, events: &mut Vec<Event>) -> Result<(), Stop> {
    let (_, row) = seats(set)?;
    let pool = ModuleAccount::Community.id();
    let balance = set
        .accounts
        .read(set.state, &pool)?
        .unwrap_or_default()
        .balance;
    let fees = balance.saturating_sub(row.set_aside);
    let stream = set.params.stake.reward_per_seat_epoch;
    let reward = fees.add(stream.min(balance.saturating_sub(fees)))?;
    let standby_share = set.params.stake.standby_share;
    let sat: Vec<(AccountId, Ppm)> = (row.sitting.seats.iter())
        .map(|seat| (seat.candidate, Ppm::WHOLE))
        .chain((row.sitting.standby.iter()).map(|seat| (seat.candidate, standby_share)))
        .collect();
    let parts: u128 = sat.iter().map(|(_, share)| u128::from(share.get())).sum();
    for (candidate, share) in sat {
        let part = u128::from(reward.get()).saturating_mul(share.get().into());
        // At most the reward, since the share is one of the parts.
        let part = part
            .checked_div(parts)
            .and_then(|part| u64::try_from(part).ok());
        pay(set, &candidate, Units::new(part.unwrap_or(0)), events)?;
    }
    let left = set
        .accounts
        .read(set.state, &pool)?
        .unwrap_or_default()
        .balance;
    let (handle, row) = seats(set)?;
    set.seats.set(
        handle,
        SeatsRow {
            set_aside: left,
            ..row
        },
    );
    Ok(())
}

/// Pays one who sat, and sets its voters' part apart. One who was banned or is gone has no part.
fn pay(
    set: &mut WorkingSet<'_>,
    candidate: &AccountId,
    reward: Units,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    let handle = set.candidates.load(set.state, candidate)?;
    let Some(mut row) = set.candidates.get(handle).cloned() else {
        return Ok(());
    };
    if row.standing == Standing::Banned || reward.is_zero() {
        return Ok(());
    }
    set.debit(&ModuleAccount::Community.id(), reward)?;
    let voters = voters_part(&row, reward)?;
    if !voters.is_zero() {
        row.reward_voters(voters)?;
        set.candidates.set(handle, row);
    }
    let own = reward.sub(voters)?;
    set.credit(candidate, own)?;
    if !own.is_zero() {
        events.push(Event::RewardPaid {
            account: *candidate,
            candidate: *candidate,
            units: own,
        });
    }
    Ok(())
}

/// What of a reward belongs to the voters: behind the commission, by stake, rounded down.
fn voters_part(row: &Candidate, reward: Units) -> Result<Units, Stop> {
    if row.shares == 0 {
        return Ok(Units::ZERO);
    }
    let shared = reward.sub(row.commission.rate.of(reward))?;
    let product = u128::from(shared.get()).saturating_mul(row.votes.get().into());
    let part = product.checked_div(row.stake().get().into()).unwrap_or(0);
    // At most `shared`, since votes are at most all stake.
    Ok(Units::new(u64::try_from(part).unwrap_or(0)))
}

/// Elects the set after the next turn from the stakes before the block, which the turn's own payments
/// do not change.
fn elect(set: &WorkingSet<'_>) -> Result<Elected, Stop> {
    let params = &set.params.stake;
    let ranking = rank(set.state, params)?;
    let staked: u128 = ranking
        .iter()
        .map(|ranked| u128::from(ranked.stake.get()))
        .sum();
    let needed = params.activation.of(set.circulating());
    if ranking.len() < params.min_candidates.into() || staked < needed.get().into() {
        return Ok(Elected::default());
    }
    let mut seats: Vec<Seat> = ranking.into_iter().map(|ranked| ranked.seat).collect();
    let behind = seats.split_off(seats.len().min(params.seats.into()));
    let standby = behind.into_iter().take(params.standby.into()).collect();
    Ok(Elected {
        seats: list(seats)?,
        standby: list(standby)?,
    })
}

/// Who could be elected on `state`, the heaviest first; of equal weights the smaller id, so that
/// every node ranks alike.
pub(crate) fn rank(state: &dyn StateView, params: &StakeParams) -> Result<Vec<Ranked>, StateError> {
    let view = View::new(state);
    let mut ranking: Vec<Ranked> = Vec::new();
    let mut after: Option<AccountId> = None;
    loop {
        let page = view.candidates(PAGE, after.as_ref())?;
        for id in &page {
            let row = view.candidate(id)?.ok_or(Defect::Missing {
                what: "a listed candidate",
            })?;
            if row.standing == Standing::Active && row.own >= params.min_self_stake {
                ranking.push(Ranked {
                    seat: Seat {
                        candidate: *id,
                        key: row.seat_key,
                        weight: row.weight(params.self_stake_factor),
                    },
                    stake: row.stake(),
                });
            }
        }
        match page.last() {
            Some(last) => after = Some(*last),
            None => break,
        }
    }
    ranking.sort_by_key(|ranked| (Reverse(ranked.seat.weight), ranked.seat.candidate));
    Ok(ranking)
}
