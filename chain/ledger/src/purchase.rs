//! Purchase and top-up of packages.

use std::collections::BTreeSet;
use std::sync::Arc;

use qlink_types::codec::List;
use qlink_types::ids::{AccountId, PackageId};
use qlink_types::outcome::{ClosingReason, Event, Status};
use qlink_types::package::{Audience, PackageState, PackageTerms, Scope};
use qlink_types::transaction::Party;
use qlink_types::units::{Nonce, PackageEpoch, SUPPLY_UNITS, TimeMs, Units};

use crate::close;
use crate::due::Due;
use crate::package::{EpochTotals, Package, PackageTotals, PendingTopUp, TermsRow};
use crate::working::{Defect, Stop, WorkingSet};

/// Buys a package: checks its terms and takes the deposit.
pub(crate) fn buy(
    set: &mut WorkingSet<'_>,
    owner: &AccountId,
    nonce: Nonce,
    terms: &PackageTerms,
) -> Result<Vec<Event>, Stop> {
    check_audience(&terms.audience)?;
    check_terms(terms, set.context.time_ms)?;
    check_scope(set, terms)?;
    for gateway in &terms.gateways {
        let party = Party::Gateway { gateway: *gateway };
        let handle = set.parties.load(set.state, &party)?;
        if set.parties.get(handle).is_none() {
            return Err(Status::UnknownGateway.into());
        }
    }
    let deposit = terms.deposit().map_err(|_| Status::AmountTooLarge)?;
    take_deposit(set, owner, deposit)?;

    let id = PackageId::derive(owner, nonce);
    let package = Package {
        owner: *owner,
        state: PackageState::Open,
        package_epoch: PackageEpoch::ZERO,
        valid_until: terms.valid_until,
        viewer_cap: terms.viewer_cap,
        current: EpochTotals {
            bytes: terms.bytes,
            reward: terms.reward,
            carriage: terms.carriage,
            ..EpochTotals::default()
        },
        totals: PackageTotals {
            deposit,
            escrow: deposit,
            ..PackageTotals::default()
        },
        closing: None,
        top_up: None,
        roots: List::new(),
    };
    let row = TermsRow(Arc::new(terms.clone()));
    set.terms.write(set.state, &id, row)?;
    set.packages.write(set.state, &id, package)?;
    set.due.write(set.state, &(terms.valid_until, id), Due)?;
    Ok(vec![Event::PackageBought {
        package: id,
        owner: *owner,
        bytes: terms.bytes,
        reward_units: terms.reward,
        carriage_units: deposit.sub(terms.reward)?,
    }])
}

fn take_deposit(set: &mut WorkingSet<'_>, owner: &AccountId, deposit: Units) -> Result<(), Stop> {
    if deposit > SUPPLY_UNITS {
        return Err(Status::AmountTooLarge.into());
    }
    set.debit(owner, deposit)
}

fn check_audience(audience: &Audience) -> Result<(), Status> {
    match audience {
        Audience::Open => Ok(()),
        Audience::Keys { keys } if keys.is_empty() => Err(Status::TermsInvalid),
        Audience::Keys { .. } => Ok(()),
        Audience::InviteCodes { .. } | Audience::Operators { .. } | Audience::Regions { .. } => {
            Err(Status::AudienceNotSupported)
        }
    }
}

/// Rules that need no state but the time.
fn check_terms(terms: &PackageTerms, now: TimeMs) -> Result<(), Status> {
    let distinct: BTreeSet<_> = terms.gateways.iter().collect();
    let valid = !terms.bytes.is_zero()
        && !terms.viewer_cap.is_zero()
        && terms.valid_from < terms.valid_until
        && !terms.gateways.is_empty()
        && distinct.len() == terms.gateways.len();
    if !valid {
        return Err(Status::TermsInvalid);
    }
    if terms.valid_until <= now {
        return Err(Status::PackageExpired);
    }
    Ok(())
}

fn check_scope(set: &mut WorkingSet<'_>, terms: &PackageTerms) -> Result<(), Stop> {
    match &terms.scope {
        Scope::Any => {
            let valid = terms.reward.is_zero()
                && matches!(terms.audience, Audience::Keys { .. })
                && terms.viewer_cap == terms.bytes;
            if valid {
                Ok(())
            } else {
                Err(Status::TermsInvalid.into())
            }
        }
        Scope::Contents { contents } => {
            let distinct: BTreeSet<_> = contents.iter().collect();
            if contents.is_empty() || distinct.len() != contents.len() {
                return Err(Status::TermsInvalid.into());
            }
            let mut sizes: u128 = 0;
            for content in contents {
                let handle = set.contents.load(set.state, content)?;
                let row = set.contents.get(handle).ok_or(Status::UnknownContent)?;
                sizes = sizes.saturating_add(u128::from(row.registration.size.get()));
            }
            if u128::from(terms.viewer_cap.get()) > sizes {
                return Err(Status::TermsInvalid.into());
            }
            Ok(())
        }
    }
}

/// Tops a package up: takes the deposit and ends the running terms; the next package_epoch opens
/// once they are settled.
pub(crate) fn top_up(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    id: &PackageId,
    top_up: PendingTopUp,
) -> Result<Vec<Event>, Stop> {
    let (handle, mut package) = close::load_owned_open(set, sender, id)?;
    if set.context.time_ms >= package.valid_until {
        return Err(Status::PackageExpired.into());
    }
    if top_up.bytes.is_zero() {
        return Err(Status::AmountZero.into());
    }
    check_top_up_terms(set, id, &package, &top_up)?;
    let deposit = top_up
        .carriage
        .total()
        .and_then(|carriage| carriage.add(top_up.reward))
        .map_err(|_| Status::AmountTooLarge)?;
    take_deposit(set, sender, deposit)?;
    // The same units may come back through claims and be deposited again, so this sum of all
    // deposits, unlike the escrow, is not bounded by the supply.
    package.totals.deposit = package
        .totals
        .deposit
        .add(deposit)
        .map_err(|_| Status::AmountTooLarge)?;
    package.totals.escrow = package.totals.escrow.add(deposit)?;
    package.top_up = Some(top_up);
    let events = close::begin(set, id, &mut package, ClosingReason::TopUp)?;
    set.packages.set(handle, package);
    Ok(events)
}

fn check_top_up_terms(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package: &Package,
    top_up: &PendingTopUp,
) -> Result<(), Stop> {
    if top_up.valid_until < package.valid_until {
        return Err(Status::TermsInvalid.into());
    }
    // All bytes that can ever be used under this package stay within 64 bits.
    let unused = package.current.bytes.sub(package.current.used)?;
    unused
        .add(package.totals.used)
        .and_then(|bytes| bytes.add(top_up.bytes))
        .map_err(|_| Status::AmountTooLarge)?;
    let terms = set.terms.load(set.state, id)?;
    let terms = set.terms.get(terms).ok_or(Defect::Missing {
        what: "package terms",
    })?;
    if terms.0.scope == Scope::Any {
        package
            .viewer_cap
            .add(top_up.bytes)
            .map_err(|_| Status::AmountTooLarge)?;
        if !top_up.reward.is_zero() {
            return Err(Status::TermsInvalid.into());
        }
    }
    Ok(())
}
