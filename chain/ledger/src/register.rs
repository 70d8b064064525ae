//! Transfers, parties and contents.

use qlink_types::codec::Text;
use qlink_types::content::{ContentRegistration, GROUP_LOG};
use qlink_types::ids::{AccountId, Hash32};
use qlink_types::outcome::{Event, Status};
use qlink_types::signature::{Domain, PublicKey, Signature};
use qlink_types::transaction::Party;
use qlink_types::units::{SUPPLY_UNITS, Units};

use crate::content::Content;
use crate::party::{PartyRow, unknown};
use crate::working::{Stop, WorkingSet};

/// Moves units between accounts.
pub(crate) fn transfer(
    set: &mut WorkingSet<'_>,
    from: &AccountId,
    to: &AccountId,
    amount: Units,
) -> Result<Vec<Event>, Stop> {
    if amount.is_zero() {
        return Err(Status::AmountZero.into());
    }
    if amount > SUPPLY_UNITS {
        return Err(Status::AmountTooLarge.into());
    }
    set.debit(from, amount)?;
    set.credit(to, amount)?;
    Ok(vec![Event::Transferred {
        from: *from,
        to: *to,
        units: amount,
    }])
}

/// A party that has not sent a batch yet.
pub(crate) fn new_party(
    owner: &AccountId,
    key: PublicKey,
    asset: Hash32,
    name: &Text<100>,
) -> PartyRow {
    PartyRow {
        owner: *owner,
        key,
        asset,
        name: name.clone(),
        batch_sequence: 0,
        batch_root: Hash32::ZERO,
    }
}

/// Registers a party once its key has signed for its owner.
pub(crate) fn register_party(
    set: &mut WorkingSet<'_>,
    party: Party,
    row: PartyRow,
    proof: &Signature,
) -> Result<Vec<Event>, Stop> {
    check_proof(set, &row.owner, row.key, proof)?;
    let owner = row.owner;
    set.parties.write(set.state, &party, row)?;
    Ok(vec![Event::PartyRegistered { party, owner }])
}

/// Replaces a party's key.
pub(crate) fn rotate_key(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    party: &Party,
    key: PublicKey,
    proof: &Signature,
) -> Result<Vec<Event>, Stop> {
    let handle = set.parties.load(set.state, party)?;
    let mut row = set
        .parties
        .get(handle)
        .cloned()
        .ok_or_else(|| unknown(party))?;
    if row.owner != *sender {
        return Err(Status::NotOwner.into());
    }
    check_proof(set, sender, key, proof)?;
    row.key = key;
    set.parties.set(handle, row);
    Ok(vec![Event::KeyRotated { party: *party }])
}

/// Whether `key` has signed for `owner`.
pub(crate) fn check_proof(
    set: &WorkingSet<'_>,
    owner: &AccountId,
    key: PublicKey,
    proof: &Signature,
) -> Result<(), Status> {
    key.verify_on_chain(
        Domain::KeyProof,
        &set.context.chain,
        owner.as_bytes(),
        proof,
    )
    .map_err(|_| Status::KeyProofInvalid)
}

/// Registers a content, or names who registered it first.
pub(crate) fn register_content(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    registration: &ContentRegistration,
) -> Result<Vec<Event>, Stop> {
    let valid = !registration.size.is_zero()
        && registration.group_log == GROUP_LOG
        && registration.royalty_units.is_zero();
    if !valid {
        return Err(Status::ContentInvalid.into());
    }
    let content = registration.content;
    let handle = set.contents.load(set.state, &content)?;
    if let Some(first) = set.contents.get(handle) {
        return Err(Stop::Duplicate(Box::new(Event::ContentRegistered {
            content,
            owner: first.owner,
            size: first.registration.size,
        })));
    }
    let row = Content {
        registration: registration.clone(),
        owner: *sender,
        height: set.context.height,
    };
    set.contents.set(handle, row);
    Ok(vec![Event::ContentRegistered {
        content,
        owner: *sender,
        size: registration.size,
    }])
}
