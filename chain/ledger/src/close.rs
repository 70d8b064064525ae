//! The end of terms: two-step close, expiry and roll-over, and the settlement of a package_epoch
//! by largest remainder.
//!
//! ```text
//! Open --top-up--> RollingOver --settled--> Open (next package_epoch)
//!   \--owner, expiry--> Closing --settled--> Closed
//! settled: every listed gateway is final, or the deadline has passed
//! ```
//!
//! Whenever a package is not closed, the due queue holds an entry for its next step: the end of
//! validity while `Open`, the deadline otherwise. Entries that no longer apply are dropped when
//! their time comes.

use qlink_types::codec::List;
use qlink_types::ids::{AccountId, GatewayId, PackageId, ViewerKey};
use qlink_types::outcome::{ClosingReason, Event, Share, Status};
use qlink_types::package::{CarriageShares, PackageState, Scope};
use qlink_types::rating::Ratio;
use qlink_types::transaction::Party;
use qlink_types::units::{PackageEpoch, Units};

use crate::carriage::{MAX_PAYEES, payee_prefix};
use crate::due::{self, Due, MAX_DUE_PER_BLOCK};
use crate::package::{Closing, EpochTotals, Package, PendingTopUp, RewardLine};
use crate::row::CorruptRow;
use crate::settle::payee_party;
use crate::state::{Space, StateError};
use crate::table::Handle;
use crate::view::tail;
use crate::viewer;
use crate::working::{Defect, Stop, WorkingSet};

/// Most events of one receipt that may stand before another package is settled under it, so that
/// the settlement's own events (one per payee and share, and two more) still fit.
const EVENTS_BEFORE_SETTLEMENT: usize = 65_536 - 3 * (MAX_PAYEES as usize) - 2;

/// Whether the terms of `package` run and have not been ended.
const fn check_open(package: &Package) -> Result<(), Status> {
    match package.state {
        PackageState::Open => Ok(()),
        PackageState::Closed => Err(Status::PackageClosed),
        PackageState::RollingOver => Err(Status::PackageClosing),
        PackageState::Closing => match &package.closing {
            Some(Closing {
                reason: ClosingReason::Expired,
                ..
            }) => Err(Status::PackageExpired),
            _ => Err(Status::PackageClosing),
        },
    }
}

/// The package `id` with its place, if its terms run and `sender` owns it.
pub(crate) fn load_owned_open(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    id: &PackageId,
) -> Result<(Handle, Package), Stop> {
    let handle = set.packages.load(set.state, id)?;
    let package = set
        .packages
        .get(handle)
        .cloned()
        .ok_or(Status::UnknownPackage)?;
    if package.owner != *sender {
        return Err(Status::NotOwner.into());
    }
    check_open(&package)?;
    Ok((handle, package))
}

/// Begins the close that an owner asks for.
pub(crate) fn close_package(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    id: &PackageId,
) -> Result<Vec<Event>, Stop> {
    let (handle, mut package) = load_owned_open(set, sender, id)?;
    let events = begin(set, id, &mut package, ClosingReason::Owner)?;
    set.packages.set(handle, package);
    Ok(events)
}

/// Ends the running terms of `package`, which the caller stores.
pub(crate) fn begin(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package: &mut Package,
    reason: ClosingReason,
) -> Result<Vec<Event>, Stop> {
    let deadline = set.context.time_ms.plus_millis(set.params.closing_ms);
    package.state = match reason {
        ClosingReason::TopUp => PackageState::RollingOver,
        ClosingReason::Owner | ClosingReason::Expired => PackageState::Closing,
    };
    package.closing = Some(Closing {
        reason,
        deadline,
        finals: List::new(),
    });
    set.due.write(set.state, &(deadline, *id), Due)?;
    Ok(vec![Event::PackageClosing {
        package: *id,
        package_epoch: package.package_epoch,
        reason,
        deadline,
    }])
}

/// Takes a gateway's word that it is done with terms that end; settles them once all are. A word
/// about other terms, or of a gateway that is not listed, changes nothing.
pub(crate) fn take_final(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package_epoch: PackageEpoch,
    gateway: GatewayId,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    let handle = set.packages.load(set.state, id)?;
    let Some(mut package) = set.packages.get(handle).cloned() else {
        return Ok(());
    };
    let terms = set.terms.load(set.state, id)?;
    let listed = set.terms.get(terms).map_or(&[][..], |row| &*row.0.gateways);
    let listed_count = listed.len();
    let Some(closing) = &mut package.closing else {
        return Ok(());
    };
    if package.package_epoch != package_epoch || !listed.contains(&gateway) {
        return Ok(());
    }
    let mut finals = closing.finals.to_vec();
    let Err(place) = finals.binary_search(&gateway) else {
        return Ok(());
    };
    finals.insert(place, gateway);
    let all = finals.len() == listed_count;
    closing.finals = List::try_from(finals).map_err(|_| Defect::Missing {
        what: "room for a final",
    })?;
    let room = events.len() <= EVENTS_BEFORE_SETTLEMENT;
    if all && !room {
        // The next block settles it.
        closing.deadline = set.context.time_ms;
        set.due.write(set.state, &(closing.deadline, *id), Due)?;
    }
    set.packages.set(handle, package);
    if all && room {
        settle(set, id, events)?;
    }
    Ok(())
}

/// What the ledger does by itself at the start of a block: packages whose time has come. Adds to
/// the `events` of the same receipt.
pub(crate) fn run_due(set: &mut WorkingSet<'_>, events: &mut Vec<Event>) -> Result<(), StateError> {
    let now = set.context.time_ms;
    let rows = set
        .state
        .scan(Space::Rows, due::PREFIX, MAX_DUE_PER_BLOCK, None)?;
    for (name, _) in rows {
        let key = due::parse_key(&name)
            .map_err(|cause| StateError::new(CorruptRow { key: name, cause }))?;
        if key.0 > now || events.len() > EVENTS_BEFORE_SETTLEMENT {
            break;
        }
        let handle = set.due.load(set.state, &key)?;
        set.due.remove(handle);
        step_due(set, &key.1, events).map_err(Stop::of_own_step)?;
    }
    set.commit();
    Ok(())
}

fn step_due(set: &mut WorkingSet<'_>, id: &PackageId, events: &mut Vec<Event>) -> Result<(), Stop> {
    let now = set.context.time_ms;
    let handle = set.packages.load(set.state, id)?;
    let Some(mut package) = set.packages.get(handle).cloned() else {
        return Ok(());
    };
    match (&package.closing, package.state) {
        (Some(closing), PackageState::RollingOver | PackageState::Closing)
            if closing.deadline <= now =>
        {
            settle(set, id, events)?;
        }
        (_, PackageState::Open) if package.valid_until <= now => {
            events.extend(begin(set, id, &mut package, ClosingReason::Expired)?);
            set.packages.set(handle, package);
        }
        _ => {}
    }
    Ok(())
}

/// Settles the running terms of a package and either opens the next or closes it.
fn settle(set: &mut WorkingSet<'_>, id: &PackageId, events: &mut Vec<Event>) -> Result<(), Stop> {
    let handle = set.packages.load(set.state, id)?;
    let mut package = set
        .packages
        .get(handle)
        .cloned()
        .ok_or(Defect::Missing { what: "a package" })?;
    pay_reward_dust(set, id, &mut package)?;
    for share in [Share::Operator, Share::BaseStation, Share::Gateway] {
        pay_carriage_dust(set, id, &mut package, share, events)?;
    }
    package.closing = None;
    match package.top_up.take() {
        Some(top_up) => open_next(set, id, &mut package, &top_up, events)?,
        None => finish(set, id, &mut package, events)?,
    }
    set.packages.set(handle, package);
    Ok(())
}

/// `owed(X)` minus what the payees were rated at, as one unit each to the payees with the largest
/// remainders, ties to the smaller key.
fn winners<K: Ord + Copy>(
    ratio: &Ratio,
    used: qlink_types::units::Bytes,
    rated: Units,
    mut remainders: Vec<(u64, K)>,
) -> Result<Vec<K>, Stop> {
    let dust = ratio.owed(used)?.sub(rated)?.get();
    remainders.sort_unstable_by(|left, right| right.0.cmp(&left.0).then(left.1.cmp(&right.1)));
    let payees = remainders.len();
    let count = usize::try_from(dust).unwrap_or(usize::MAX);
    if count > payees {
        return Err(Defect::Dust { dust, payees }.into());
    }
    Ok(remainders
        .into_iter()
        .take(count)
        .map(|(_, key)| key)
        .collect())
}

fn pay_reward_dust(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package: &mut Package,
) -> Result<(), Stop> {
    let ratio = package.current.ratio(Share::Reward)?;
    let epoch = package.package_epoch;
    let prefix = viewer::prefix(id);
    let range = (*id, ViewerKey::ZERO)..=(*id, ViewerKey::new([0xff; 32]));
    let mut remainders = Vec::new();
    set.viewers.visit(
        set.state,
        &prefix,
        range,
        |name| Ok((*id, tail(name, prefix.len())?)),
        |key, row| {
            if row.package_epoch == epoch && !row.bytes.is_zero() {
                let remainder = ratio.remainder(row.bytes).map_err(StateError::new)?;
                remainders.push((remainder, key.1));
            }
            Ok(())
        },
    )?;
    let one = Units::new(1);
    let rated = package.current.moved();
    for key in winners(&ratio, package.current.used, rated, remainders)? {
        let handle = set.viewers.load(set.state, &(*id, key))?;
        let mut row = set.viewers.get(handle).cloned().unwrap_or_default();
        row.settled_units = row.settled_units.add(one)?;
        set.viewers.set(handle, row);
        package.pay_reward(one, RewardLine::of(&key))?;
        package.current.dust = package.current.dust.add(one)?;
        package.totals.dust = package.totals.dust.add(one)?;
    }
    Ok(())
}

fn pay_carriage_dust(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package: &mut Package,
    share: Share,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    let ratio = package.current.ratio(share)?;
    let epoch = package.package_epoch;
    let prefix = payee_prefix(id, epoch, share);
    let range = (*id, epoch, share, [0; 16])..=(*id, epoch, share, [0xff; 16]);
    let mut remainders = Vec::new();
    let mut rated: u64 = 0;
    set.payees.visit(
        set.state,
        &prefix,
        range,
        |name| Ok((*id, epoch, share, tail(name, prefix.len())?)),
        |key, row| {
            let remainder = ratio.remainder(row.bytes).map_err(StateError::new)?;
            remainders.push((remainder, key.3));
            rated = rated.saturating_add(row.units.get());
            Ok(())
        },
    )?;
    let one = Units::new(1);
    for payee in winners(&ratio, package.current.used, Units::new(rated), remainders)? {
        let handle = set.payees.load(set.state, &(*id, epoch, share, payee))?;
        let mut row = set.payees.get(handle).copied().unwrap_or_default();
        row.units = row.units.add(one)?;
        set.payees.set(handle, row);
        if let Some(party) = payee_party(share, payee) {
            events.push(pay_party(set, id, package, share, party, one)?);
        }
    }
    Ok(())
}

/// Pays `units` of a carriage share to the account of `party`'s owner.
pub(crate) fn pay_party(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package: &mut Package,
    share: Share,
    party: Party,
    units: Units,
) -> Result<Event, Stop> {
    package.pay_carriage(share, units)?;
    let handle = set.parties.load(set.state, &party)?;
    let account = set
        .parties
        .get(handle)
        .ok_or(Defect::Missing { what: "a payee" })?
        .owner;
    set.credit(&account, units)?;
    Ok(Event::CarriagePaid {
        package: *id,
        share,
        party,
        account,
        units,
    })
}

/// Opens the next package_epoch with what the last one left and what the top-up adds.
fn open_next(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package: &mut Package,
    top_up: &PendingTopUp,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    let last = package.current;
    let left = |share| -> Result<Units, Stop> {
        let ratio = last.ratio(share)?;
        Ok(ratio.total().sub(ratio.owed(last.used)?)?)
    };
    let next = EpochTotals {
        bytes: last.bytes.sub(last.used)?.add(top_up.bytes)?,
        reward: left(Share::Reward)?.add(top_up.reward)?,
        carriage: CarriageShares {
            operator: left(Share::Operator)?.add(top_up.carriage.operator)?,
            basestation: left(Share::BaseStation)?.add(top_up.carriage.basestation)?,
            gateway: left(Share::Gateway)?.add(top_up.carriage.gateway)?,
        },
        ..EpochTotals::default()
    };
    set.epochs
        .write(set.state, &(*id, package.package_epoch), last)?;
    package.package_epoch = package.package_epoch.next();
    package.current = next;
    package.state = PackageState::Open;
    package.valid_until = top_up.valid_until;
    let terms = set.terms.load(set.state, id)?;
    if set
        .terms
        .get(terms)
        .is_some_and(|row| row.0.scope == Scope::Any)
    {
        package.viewer_cap = package.viewer_cap.add(top_up.bytes)?;
    }
    set.due.write(set.state, &(package.valid_until, *id), Due)?;
    events.push(Event::PackageEpochOpened {
        package: *id,
        package_epoch: package.package_epoch,
        bytes: next.bytes,
        reward_units: next.reward,
    });
    Ok(())
}

/// Returns what is left to the owner and closes the package.
fn finish(
    set: &mut WorkingSet<'_>,
    id: &PackageId,
    package: &mut Package,
    events: &mut Vec<Event>,
) -> Result<(), Stop> {
    let totals = &mut package.totals;
    let refund = totals.escrow.add(totals.unclaimed_held())?;
    totals.escrow = Units::ZERO;
    totals.unclaimed_returned = totals.unclaimed;
    totals.refund = totals.refund.add(refund)?;
    package.state = PackageState::Closed;
    set.credit(&package.owner, refund)?;
    events.push(Event::PackageClosed {
        package: *id,
        used_bytes: package.totals.used,
        reward_units: package.totals.reward_paid,
        unclaimed_units: package.totals.unclaimed,
        dust_units: package.totals.dust,
        carriage_units: package.totals.carriage_paid.total()?,
        refund_units: package.totals.refund,
    });
    Ok(())
}
