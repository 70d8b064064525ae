//! Candidates: registration, what they state, and resignation.

use qlink_types::ids::AccountId;
use qlink_types::outcome::{Event, Status};
use qlink_types::signature::{PublicKey, Signature};
use qlink_types::stake::{CandidateInfo, Commission, Ppm};
use qlink_types::units::{SeatEpoch, Units};

use super::rows::{Candidate, SeatKeyRow, SeatsRow, Standing};
use crate::account::ModuleAccount;
use crate::register::check_proof;
use crate::table::Handle;
use crate::working::{Defect, Stop, WorkingSet};

/// Most candidates at a time (chosen: an election reads each of them in one block; to fill the
/// list takes as many times the least self-stake).
const MAX_CANDIDATES: u32 = 1_000;

/// A registration as sent.
pub(crate) struct Registration<'a> {
    pub(crate) seat_key: PublicKey,
    pub(crate) key_proof: &'a Signature,
    pub(crate) stake: Units,
    pub(crate) commission: Commission,
    pub(crate) info: &'a CandidateInfo,
}

/// The candidate `id` with its place.
pub(super) fn load(set: &mut WorkingSet<'_>, id: &AccountId) -> Result<(Handle, Candidate), Stop> {
    let handle = set.candidates.load(set.state, id)?;
    let row = set.candidates.get(handle).cloned();
    Ok((handle, row.ok_or(Status::UnknownCandidate)?))
}

/// The elections' row with its place; made with the first candidate.
pub(super) fn seats(set: &mut WorkingSet<'_>) -> Result<(Handle, SeatsRow), Stop> {
    let handle = set.seats.load(set.state, &())?;
    let row = match set.seats.get(handle) {
        Some(row) => row.clone(),
        None => {
            let pool = set
                .accounts
                .read(set.state, &ModuleAccount::Community.id())?;
            SeatsRow {
                seat_epoch: seat_epoch(set),
                set_aside: pool.unwrap_or_default().balance,
                ..SeatsRow::default()
            }
        }
    };
    Ok((handle, row))
}

/// The seat_epoch of the block that is applied.
pub(super) fn seat_epoch(set: &WorkingSet<'_>) -> SeatEpoch {
    epoch_of(set, set.context.height.get())
}

/// The seat_epoch of a height.
pub(super) fn epoch_of(set: &WorkingSet<'_>, height: u64) -> SeatEpoch {
    let blocks = u64::from(set.params.stake.seat_epoch_blocks);
    SeatEpoch::new(height.checked_div(blocks).unwrap_or(0))
}

/// Registers the sender, or lets it stand again.
pub(crate) fn register(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    wanted: &Registration<'_>,
) -> Result<Vec<Event>, Stop> {
    let handle = set.candidates.load(set.state, sender)?;
    let found = set.candidates.get(handle).cloned();
    match found.as_ref().map(|row| row.standing) {
        Some(Standing::Active) => return Err(Status::CandidateExists.into()),
        Some(Standing::Banned) => return Err(Status::AlreadyBanned.into()),
        Some(Standing::Resigned) | None => {}
    }
    take_key(set, sender, wanted.seat_key, wanted.key_proof)?;
    let commission = wanted.commission;
    let since = seat_epoch(set);
    let row = match found {
        Some(row) => {
            // Resigning is no way around the promise.
            check_change(&row, commission.rate, since)?;
            if commission.max_change > row.commission.max_change {
                return Err(Status::CommissionInvalid.into());
            }
            row
        }
        None => {
            enter(set)?;
            new_candidate(wanted, since)
        }
    };
    let own = row
        .own
        .add(wanted.stake)
        .map_err(|_| Status::AmountTooLarge)?;
    if own < set.params.stake.min_self_stake {
        return Err(Status::StakeTooSmall.into());
    }
    set.debit(sender, wanted.stake)?;
    let rate_since = if row.commission.rate == commission.rate {
        row.rate_since
    } else {
        since
    };
    let row = Candidate {
        seat_key: wanted.seat_key,
        info: wanted.info.clone(),
        commission,
        rate_since,
        standing: Standing::Active,
        own,
        ..row
    };
    set.candidates.set(handle, row);
    let mut events = vec![Event::CandidateRegistered {
        candidate: *sender,
        seat_key: wanted.seat_key,
    }];
    if !wanted.stake.is_zero() {
        events.push(Event::Voted {
            voter: *sender,
            candidate: *sender,
            units: wanted.stake,
        });
    }
    Ok(events)
}

fn new_candidate(wanted: &Registration<'_>, since: SeatEpoch) -> Candidate {
    Candidate {
        seat_key: wanted.seat_key,
        info: wanted.info.clone(),
        commission: wanted.commission,
        rate_since: since,
        standing: Standing::Active,
        offence: None,
        own: Units::ZERO,
        votes: Units::ZERO,
        shares: 0,
        reward_index: 0,
        rewards: Units::ZERO,
        waiting: Units::ZERO,
    }
}

/// Counts a candidate that comes.
fn enter(set: &mut WorkingSet<'_>) -> Result<(), Stop> {
    let (handle, mut row) = seats(set)?;
    row.candidates = row.candidates.saturating_add(1);
    if row.candidates > MAX_CANDIDATES {
        return Err(Status::LimitReached.into());
    }
    set.seats.set(handle, row);
    Ok(())
}

/// Counts a candidate that is gone for good.
pub(super) fn leave(set: &mut WorkingSet<'_>) -> Result<(), Stop> {
    let (handle, mut row) = seats(set)?;
    row.candidates = row.candidates.checked_sub(1).ok_or(Defect::Missing {
        what: "a counted candidate",
    })?;
    set.seats.set(handle, row);
    Ok(())
}

/// Notes whose `key` is, once it has signed for its owner and is nobody else's.
fn take_key(
    set: &mut WorkingSet<'_>,
    owner: &AccountId,
    key: PublicKey,
    proof: &Signature,
) -> Result<(), Stop> {
    check_proof(set, owner, key, proof)?;
    let handle = set.seat_keys.load(set.state, &key)?;
    match set.seat_keys.get(handle) {
        Some(row) if row.candidate == *owner => {}
        Some(_) => return Err(Status::SeatKeyTaken.into()),
        None => set.seat_keys.set(handle, SeatKeyRow { candidate: *owner }),
    }
    Ok(())
}

/// Whether a candidate's rate may become `rate` in this seat_epoch.
fn check_change(row: &Candidate, rate: Ppm, now: SeatEpoch) -> Result<(), Status> {
    let old = row.commission.rate;
    let change = old.get().abs_diff(rate.get());
    let allowed =
        change == 0 || (change <= row.commission.max_change.get() && row.rate_since < now);
    if allowed {
        Ok(())
    } else {
        Err(Status::CommissionInvalid)
    }
}

fn updated(candidate: &AccountId, row: &Candidate) -> Vec<Event> {
    vec![Event::CandidateUpdated {
        candidate: *candidate,
        rate: row.commission.rate,
        seat_key: row.seat_key,
    }]
}

/// Changes what the sender states.
pub(crate) fn update(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    rate: Ppm,
    info: &CandidateInfo,
) -> Result<Vec<Event>, Stop> {
    let (handle, mut row) = load(set, sender)?;
    let now = seat_epoch(set);
    check_change(&row, rate, now)?;
    if row.commission.rate != rate {
        row.commission.rate = rate;
        row.rate_since = now;
    }
    row.info = info.clone();
    let events = updated(sender, &row);
    set.candidates.set(handle, row);
    Ok(events)
}

/// Gives the sender another seat key.
pub(crate) fn rotate(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    key: PublicKey,
    proof: &Signature,
) -> Result<Vec<Event>, Stop> {
    let (handle, mut row) = load(set, sender)?;
    if row.standing == Standing::Banned {
        return Err(Status::CandidateInactive.into());
    }
    take_key(set, sender, key, proof)?;
    row.seat_key = key;
    let events = updated(sender, &row);
    set.candidates.set(handle, row);
    Ok(events)
}

/// Lets the sender stand no more.
pub(crate) fn resign(set: &mut WorkingSet<'_>, sender: &AccountId) -> Result<Vec<Event>, Stop> {
    let (handle, mut row) = load(set, sender)?;
    if row.standing != Standing::Active {
        return Err(Status::CandidateInactive.into());
    }
    row.standing = Standing::Resigned;
    set.candidates.set(handle, row);
    Ok(vec![Event::CandidateResigned { candidate: *sender }])
}
