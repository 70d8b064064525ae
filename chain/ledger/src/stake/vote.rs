//! Votes: given, taken back, moved, and their rewards.

use qlink_types::ids::AccountId;
use qlink_types::outcome::{Event, Status};
use qlink_types::units::{SUPPLY_UNITS, TimeMs, Units};

use super::candidate::{load, seat_epoch};
use super::rows::{Candidate, Release, Standing, Vote, Waiting};
use crate::account::ModuleAccount;
use crate::table::Handle;
use crate::working::{Defect, Stop, WorkingSet};

/// Most candidates that one account votes for.
///
/// Source: chain reference, section 4 (split votes instead of approval).
const MAX_VOTES: u8 = 10;

/// Locks `amount` of the sender's units behind `candidate`.
pub(crate) fn vote(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    candidate: &AccountId,
    amount: Units,
) -> Result<Vec<Event>, Stop> {
    check_amount(amount)?;
    let (handle, mut row) = load(set, candidate)?;
    let mut events = Vec::new();
    put(set, sender, candidate, &mut row, amount, &mut events)?;
    set.debit(sender, amount)?;
    set.candidates.set(handle, row);
    events.push(voted(sender, candidate, amount));
    Ok(events)
}

/// Takes `amount` back from `candidate`; it waits in the release queue.
pub(crate) fn unvote(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    candidate: &AccountId,
    amount: Units,
) -> Result<Vec<Event>, Stop> {
    check_amount(amount)?;
    let (handle, mut row) = load(set, candidate)?;
    let mut events = Vec::new();
    let params = &set.params.stake;
    let (waiting, millis) = if sender == candidate {
        (Waiting::Own, params.self_unbonding_ms)
    } else {
        (Waiting::Vote, params.unbonding_ms)
    };
    take(set, sender, candidate, &mut row, amount, &mut events)?;
    let waiting = match row.standing {
        Standing::Banned => Waiting::Free,
        Standing::Active | Standing::Resigned => waiting,
    };
    let release = release_time(set, millis);
    wait(
        set,
        (release, *sender, *candidate, waiting),
        &mut row,
        amount,
    )?;
    set.candidates.set(handle, row);
    events.push(Event::Unvoted {
        voter: *sender,
        candidate: *candidate,
        units: amount,
        release,
    });
    Ok(events)
}

/// Moves `amount` of the sender's votes; a surety stays behind with an honest candidate.
pub(crate) fn redelegate(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    from: &AccountId,
    to: &AccountId,
    amount: Units,
) -> Result<Vec<Event>, Stop> {
    check_amount(amount)?;
    if from == to || from == sender {
        // Self-stake answers for its candidate for longer than votes do: it is taken back instead.
        return Err(Status::WrongSender.into());
    }
    let (handle, mut row) = load(set, from)?;
    let mut events = Vec::new();
    take(set, sender, from, &mut row, amount, &mut events)?;
    let surety = match row.standing {
        Standing::Banned => Units::ZERO,
        Standing::Active | Standing::Resigned => set.params.stake.slash_votes.of_rounded_up(amount),
    };
    let release = release_time(set, set.params.stake.unbonding_ms);
    if !surety.is_zero() {
        let key = (release, *sender, *from, Waiting::Surety);
        wait(set, key, &mut row, surety)?;
    }
    set.candidates.set(handle, row);
    events.push(Event::Unvoted {
        voter: *sender,
        candidate: *from,
        units: amount,
        release,
    });
    let moved = amount.sub(surety)?;
    check_amount(moved)?;
    let (handle, mut row) = load(set, to)?;
    put(set, sender, to, &mut row, moved, &mut events)?;
    set.candidates.set(handle, row);
    events.push(voted(sender, to, moved));
    Ok(events)
}

/// Pays the sender what its vote for `candidate` has earned.
pub(crate) fn collect(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    candidate: &AccountId,
) -> Result<Vec<Event>, Stop> {
    let (handle, mut row) = load(set, candidate)?;
    let place = set.votes.load(set.state, &(*sender, *candidate))?;
    let mut vote = set.votes.get(place).copied().unwrap_or_default();
    let mut events = Vec::new();
    pay(set, sender, candidate, &mut row, &mut vote, &mut events)?;
    if events.is_empty() {
        return Err(Status::NothingToClaim.into());
    }
    set.votes.set(place, vote);
    set.candidates.set(handle, row);
    Ok(events)
}

fn check_amount(amount: Units) -> Result<(), Status> {
    if amount.is_zero() {
        return Err(Status::AmountZero);
    }
    if amount > SUPPLY_UNITS {
        return Err(Status::AmountTooLarge);
    }
    Ok(())
}

const fn voted(voter: &AccountId, candidate: &AccountId, units: Units) -> Event {
    Event::Voted {
        voter: *voter,
        candidate: *candidate,
        units,
    }
}

fn release_time(set: &WorkingSet<'_>, millis: u64) -> TimeMs {
    TimeMs::new(set.context.time_ms.get().saturating_add(millis))
}

/// Puts `amount`, which the caller takes from somewhere, behind a candidate.
fn put(
    set: &mut WorkingSet<'_>,
    voter: &AccountId,
    candidate: &AccountId,
    row: &mut Candidate,
    amount: Units,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    if row.standing != Standing::Active {
        return Err(Status::CandidateInactive.into());
    }
    if voter == candidate {
        row.own = row.own.add(amount)?;
        return Ok(());
    }
    let place = set.votes.load(set.state, &(*voter, *candidate))?;
    let mut vote = match set.votes.get(place) {
        Some(vote) => *vote,
        None => {
            count_vote(set, voter)?;
            Vote::default()
        }
    };
    pay(set, voter, candidate, row, &mut vote, events)?;
    let shares = row.bought_by(amount)?;
    row.votes = row.votes.add(amount)?;
    row.shares = added(row.shares, shares)?;
    vote.shares = added(vote.shares, shares)?;
    set.votes.set(place, vote);
    Ok(())
}

/// Takes `amount` from behind a candidate; the caller puts it somewhere.
fn take(
    set: &mut WorkingSet<'_>,
    voter: &AccountId,
    candidate: &AccountId,
    row: &mut Candidate,
    amount: Units,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    if voter == candidate {
        row.own = row.own.sub(amount).map_err(|_| Status::StakeExceeded)?;
        return Ok(());
    }
    let place = set.votes.load(set.state, &(*voter, *candidate))?;
    let mut vote = *set.votes.get(place).ok_or(Status::StakeExceeded)?;
    let worth = row.worth(vote.shares)?;
    if amount > worth {
        return Err(Status::StakeExceeded.into());
    }
    pay(set, voter, candidate, row, &mut vote, events)?;
    let shares = if amount == worth {
        vote.shares
    } else {
        row.cost_of(amount)?.min(vote.shares)
    };
    row.votes = row.votes.sub(amount)?;
    row.shares = removed(row.shares, shares)?;
    vote.shares = removed(vote.shares, shares)?;
    if vote.shares == 0 {
        set.votes.remove(place);
        uncount_vote(set, voter)?;
    } else {
        set.votes.set(place, vote);
    }
    if row.shares == 0 {
        sweep(set, row)?;
    }
    Ok(())
}

/// Pays a voter what it has earned up to now.
fn pay(
    set: &mut WorkingSet<'_>,
    voter: &AccountId,
    candidate: &AccountId,
    row: &mut Candidate,
    vote: &mut Vote,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    let earned = row.earned_by(vote)?;
    vote.reward_index = row.reward_index;
    if earned.is_zero() {
        return Ok(());
    }
    row.rewards = row.rewards.sub(earned)?;
    set.credit(voter, earned)?;
    events.push(Event::RewardPaid {
        account: *voter,
        candidate: *candidate,
        units: earned,
    });
    Ok(())
}

/// Gives what rounding has left with a candidate without voters to the community pool.
fn sweep(set: &mut WorkingSet<'_>, row: &mut Candidate) -> Result<(), Stop> {
    let left = row.votes.add(row.rewards)?;
    row.votes = Units::ZERO;
    row.rewards = Units::ZERO;
    set.credit(&ModuleAccount::Community.id(), left)
}

/// Puts stake into the release queue.
fn wait(
    set: &mut WorkingSet<'_>,
    key: (TimeMs, AccountId, AccountId, Waiting),
    row: &mut Candidate,
    amount: Units,
) -> Result<(), Stop> {
    let since = seat_epoch(set);
    let place: Handle = set.releases.load(set.state, &key)?;
    let before = set.releases.get(place).copied().unwrap_or_default();
    let release = Release {
        units: before.units.add(amount)?,
        since,
    };
    set.releases.set(place, release);
    row.waiting = row.waiting.add(amount)?;
    Ok(())
}

fn count_vote(set: &mut WorkingSet<'_>, voter: &AccountId) -> Result<(), Stop> {
    let place = set.voters.load(set.state, voter)?;
    let mut row = set.voters.get(place).copied().unwrap_or_default();
    if row.candidates >= MAX_VOTES {
        return Err(Status::TooManyVotes.into());
    }
    row.candidates = row.candidates.saturating_add(1);
    set.voters.set(place, row);
    Ok(())
}

fn uncount_vote(set: &mut WorkingSet<'_>, voter: &AccountId) -> Result<(), Stop> {
    let place = set.voters.load(set.state, voter)?;
    let mut row = set.voters.get(place).copied().unwrap_or_default();
    row.candidates = row.candidates.checked_sub(1).ok_or(Defect::Missing {
        what: "a counted vote",
    })?;
    if row.candidates == 0 {
        set.voters.remove(place);
    } else {
        set.voters.set(place, row);
    }
    Ok(())
}

fn added(shares: u128, more: u128) -> Result<u128, Defect> {
    shares.checked_add(more).ok_or(Defect::Missing {
        what: "room for shares",
    })
}

fn removed(shares: u128, less: u128) -> Result<u128, Defect> {
    shares.checked_sub(less).ok_or(Defect::Missing {
        what: "shares to remove",
    })
}
