//! The release queue: stake that returns to its owner when its time has come.

use qlink_types::codec::{Decode as _, DecodeError, Reader};
use qlink_types::ids::AccountId;
use qlink_types::outcome::Event;
use qlink_types::units::{TimeMs, Units};

use super::candidate::{leave, load, seats};
use super::rows::{Candidate, Release, Standing, Waiting};
use crate::account::ModuleAccount;
use crate::params::Params;
use crate::row::CorruptRow;
use crate::state::{Space, StateError};
use crate::working::{Defect, Stop, WorkingSet};

/// Most rows that one block releases (chosen: bounds the work before a block's first transaction;
/// the rest waits for the next block).
const MAX_PER_BLOCK: usize = 256;

/// Prefix of all rows.
const PREFIX: &[u8] = b"r";

/// What names one row.
type Key = (TimeMs, AccountId, AccountId, Waiting);

/// What names the row with this storage key.
pub(crate) fn parse_key(key: &[u8]) -> Result<(TimeMs, AccountId, AccountId, Waiting), StateError> {
    let parse = || -> Result<_, DecodeError> {
        let mut reader = Reader::new(key);
        reader.take(PREFIX.len())?;
        let time = TimeMs::decode(&mut reader)?;
        let voter = AccountId::decode(&mut reader)?;
        let candidate = AccountId::decode(&mut reader)?;
        let waiting = Waiting::decode(&mut reader)?;
        reader.finish()?;
        Ok((time, voter, candidate, waiting))
    };
    parse().map_err(|cause| {
        StateError::new(CorruptRow {
            key: key.to_vec(),
            cause,
        })
    })
}

/// Releases what is due, before the block's transactions.
pub(crate) fn run_due(set: &mut WorkingSet<'_>, events: &mut Vec<Event>) -> Result<(), Stop> {
    let rows = set.state.scan(Space::Rows, PREFIX, MAX_PER_BLOCK, None)?;
    for (name, _) in rows {
        let key = parse_key(&name)?;
        if key.0 > set.context.time_ms {
            break;
        }
        release(set, key, events)?;
    }
    Ok(())
}

fn release(set: &mut WorkingSet<'_>, key: Key, events: &mut Vec<Event>) -> Result<(), Stop> {
    let (_, voter, candidate, waiting) = key;
    let place = set.releases.load(set.state, &key)?;
    let due = *set.releases.get(place).ok_or(Defect::Missing {
        what: "stake that waits",
    })?;
    set.releases.remove(place);
    let (handle, mut row) = load(set, &candidate)?;
    let cut = cut_of(&set.params, &row, waiting, due);
    let units = due.units.sub(cut)?;
    row.waiting = row.waiting.sub(due.units)?;
    set.credit(&voter, units)?;
    if !cut.is_zero() {
        set_aside(set, cut)?;
    }
    if row.standing == Standing::Resigned && row.is_empty() {
        set.candidates.remove(handle);
        leave(set)?;
    } else {
        set.candidates.set(handle, row);
    }
    events.push(Event::StakeReleased {
        voter,
        candidate,
        units,
        cut,
    });
    Ok(())
}

/// What `due` pays for what its candidate did while it answered for it.
fn cut_of(params: &Params, row: &Candidate, waiting: Waiting, due: Release) -> Units {
    let answers = row.offence.is_some_and(|offence| offence <= due.since);
    match waiting {
        Waiting::Vote if answers => params.stake.slash_votes.of(due.units),
        Waiting::Own if answers => params.stake.slash_self.of(due.units),
        Waiting::Surety if answers => due.units,
        _ => Units::ZERO,
    }
}

/// Adds units that are no fee to the community pool.
pub(super) fn set_aside(set: &mut WorkingSet<'_>, units: Units) -> Result<(), Stop> {
    set.credit(&ModuleAccount::Community.id(), units)?;
    let (handle, mut row) = seats(set)?;
    row.set_aside = row.set_aside.add(units)?;
    set.seats.set(handle, row);
    Ok(())
}
