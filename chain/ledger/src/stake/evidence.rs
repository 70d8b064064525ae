//! Evidence against a seat: a ban, and the cut of all stake that answers for it.

use qlink_types::ids::AccountId;
use qlink_types::outcome::{Event, Status};
use qlink_types::stake::Equivocation;

use super::candidate::{epoch_of, leave, load};
use super::release::set_aside;
use super::rows::{Candidate, Standing};
use crate::working::{Stop, WorkingSet};

/// Judges a proof that a seat declared two blocks of one height final.
pub(crate) fn report(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    proof: &Equivocation,
) -> Result<Vec<Event>, Stop> {
    let key = proof
        .prove(&set.context.chain)
        .map_err(|_| Status::EvidenceInvalid)?;
    let owner = set.seat_keys.read(set.state, &key)?;
    let candidate = owner.ok_or(Status::UnknownCandidate)?.candidate;
    let (handle, row) = load(set, &candidate)?;
    if row.standing == Standing::Banned {
        return Err(Status::AlreadyBanned.into());
    }
    let (first, second) = (&proof.first.header, &proof.second.header);
    let signed = first.time_ms.max(second.time_ms);
    let age = set.context.time_ms.get().saturating_sub(signed.get());
    if age > set.params.stake.self_unbonding_ms {
        return Err(Status::EvidenceTooOld.into());
    }
    let own_cut = set.params.stake.slash_self.of(row.own);
    let votes_cut = set.params.stake.slash_votes.of(row.votes);
    let cut = own_cut.add(votes_cut)?;
    let reward = set.params.stake.reporter_share.of(cut);
    let row = Candidate {
        standing: Standing::Banned,
        offence: Some(epoch_of(set, first.height.get())),
        own: row.own.sub(own_cut)?,
        votes: row.votes.sub(votes_cut)?,
        ..row
    };
    set.candidates.set(handle, row);
    leave(set)?;
    set.credit(sender, reward)?;
    set_aside(set, cut.sub(reward)?)?;
    Ok(vec![Event::CandidateBanned {
        candidate,
        cut,
        reporter: *sender,
        reporter_units: reward,
    }])
}
