//! Batches: a gateway's records of usage, judged one by one and paid at once.

use std::collections::BTreeMap;

use qlink_types::batch::Batch;
use qlink_types::codec::{Encode as _, List};
use qlink_types::ids::{BaseStationId, GatewayId, Hash32, OperatorId, PackageId};
use qlink_types::merkle;
use qlink_types::outcome::{Event, RefusedRecord, Share, Status};
use qlink_types::package::{PackageState, PackageTerms};
use qlink_types::record::{CarriageKey, Leaf};
use qlink_types::transaction::Party;
use qlink_types::units::{TimeMs, Units};

use crate::close;
use crate::package::{BatchRoot, Package};
use crate::party::PartyRow;
use crate::ratio::Merge;
use crate::working::{Defect, Done, Stop, WorkingSet};

/// A payee of a carriage record: share, id, and the party to pay unless the id is zero.
pub(crate) type Payee = (Share, [u8; 16], Option<Party>);

/// Who is paid the three shares of a path.
pub(crate) fn payees_of(key: &CarriageKey) -> [Payee; 3] {
    [
        (Share::Operator, *key.operator.as_bytes()),
        (Share::BaseStation, *key.basestation.as_bytes()),
        (Share::Gateway, *key.gateway.as_bytes()),
    ]
    .map(|(share, id)| (share, id, payee_party(share, id)))
}

/// The party behind a payee's id; `None` for zero: nobody is paid.
pub(crate) fn payee_party(share: Share, id: [u8; 16]) -> Option<Party> {
    if id == [0; 16] {
        return None;
    }
    match share {
        Share::Operator => Some(Party::Operator {
            operator: OperatorId::new(id),
        }),
        Share::BaseStation => Some(Party::BaseStation {
            basestation: BaseStationId::new(id),
        }),
        Share::Gateway => Some(Party::Gateway {
            gateway: GatewayId::new(id),
        }),
        Share::Reward => None,
    }
}

/// Takes a batch. As a whole it is refused for its sequence, its root or its fee; otherwise every
/// record is judged by itself, and the records of one package together for their carriage.
pub(crate) fn settle_batch(
    set: &mut WorkingSet<'_>,
    mut gateway: PartyRow,
    batch: &Batch,
    max_fee: Units,
) -> Result<Done, Stop> {
    let records = batch.ratio.len().saturating_add(batch.carriage.len());
    let fee = set
        .params
        .batch_fee_for(records)
        .ok_or(Status::AmountTooLarge)?;
    if fee > max_fee {
        return Err(Status::FeeTooLow.into());
    }
    if batch.sequence <= gateway.batch_sequence {
        return Err(Status::BatchSequence.into());
    }
    if batch_root(batch) != batch.root {
        return Err(Status::BatchRootMismatch.into());
    }
    let owner = gateway.owner;
    let accounts = set.accounts.load(set.state, &owner)?;
    let balance = set
        .accounts
        .get(accounts)
        .map_or(Units::ZERO, |row| row.balance);

    let mut progress = Progress::default();
    for (id, group) in group(batch) {
        settle_group(set, batch, id, &group, &mut progress)?;
    }
    // Only the gateway's own share of this batch may help its account out, never Q.
    if balance.add(progress.gateway_paid)? < fee {
        return Err(Status::InsufficientFunds.into());
    }
    set.charge(&owner, fee)?;

    gateway.batch_sequence = batch.sequence;
    gateway.batch_root = batch.root;
    let party = Party::Gateway {
        gateway: batch.gateway,
    };
    set.parties.write(set.state, &party, gateway)?;
    progress
        .refused
        .sort_unstable_by_key(|refused| refused.index);
    let refused = progress.refused.len();
    let mut events = progress.events;
    events.push(Event::BatchSettled {
        gateway: batch.gateway,
        sequence: batch.sequence,
        root: batch.root,
        accepted: count(records.saturating_sub(refused)),
        refused: count(refused),
    });
    for last in &batch.finals {
        close::take_final(
            set,
            &last.package,
            last.package_epoch,
            batch.gateway,
            &mut events,
        )?;
    }
    Ok(Done {
        fee,
        refused: progress.refused,
        events,
    })
}

/// Merkle root over the batch's leaves, through one buffer instead of one vector per leaf.
fn batch_root(batch: &Batch) -> Hash32 {
    let mut buffer = Vec::new();
    let mut ends = Vec::with_capacity(batch.ratio.len().saturating_add(batch.carriage.len()));
    for record in &batch.ratio {
        Leaf::Ratio(record.clone()).encode(&mut buffer);
        ends.push(buffer.len());
    }
    for record in &batch.carriage {
        Leaf::Carriage(record.clone()).encode(&mut buffer);
        ends.push(buffer.len());
    }
    let mut start = 0;
    let leaves = ends.iter().map(|end| {
        let leaf = buffer.get(start..*end).unwrap_or_default();
        start = *end;
        leaf
    });
    merkle::root(leaves)
}

/// Leaf indices of one package's records.
#[derive(Default)]
struct Group {
    ratio: Vec<usize>,
    carriage: Vec<usize>,
}

fn group(batch: &Batch) -> BTreeMap<PackageId, Group> {
    let mut groups: BTreeMap<PackageId, Group> = BTreeMap::new();
    for (index, record) in batch.ratio.iter().enumerate() {
        let group = groups.entry(record.key.package).or_default();
        group.ratio.push(index);
    }
    for (index, record) in batch.carriage.iter().enumerate() {
        let group = groups.entry(record.key.package).or_default();
        group.carriage.push(index);
    }
    groups
}

/// What a batch has done so far.
#[derive(Default)]
struct Progress {
    refused: Vec<RefusedRecord>,
    events: Vec<Event>,
    gateway_paid: Units,
}

/// Indices never exceed two lists of [`qlink_types::batch::MAX_RECORDS`].
fn count(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Settles a batch's records for one package.
fn settle_group(
    set: &mut WorkingSet<'_>,
    batch: &Batch,
    id: PackageId,
    group: &Group,
    progress: &mut Progress,
) -> Result<(), Stop> {
    let leaf_of_carriage = |index: usize| batch.ratio.len().saturating_add(index);
    let all = || {
        let carriage = group.carriage.iter().map(|index| leaf_of_carriage(*index));
        group.ratio.iter().copied().chain(carriage)
    };
    let handle = set.packages.load(set.state, &id)?;
    let terms = set.terms.read(set.state, &id)?;
    let (package, terms) = match (set.packages.get(handle), terms) {
        (Some(package), Some(row)) => (package.clone(), row.0),
        _ => return refuse(progress, all(), Status::UnknownPackage),
    };
    let now = set.context.time_ms;
    if let Err(status) = check_package(&package, &terms, batch.gateway, now) {
        return refuse(progress, all(), status);
    }

    let mark = set.mark();
    let used_before = package.current.used;
    let mut merge = Merge::new(id, batch, package)?;
    let mut refused: BTreeMap<usize, Status> = BTreeMap::new();
    for index in &group.ratio {
        let Some(record) = batch.ratio.get(*index) else {
            continue;
        };
        if let Some(status) = status_of(merge.ratio_record(set, &terms, record))? {
            refused.insert(*index, status);
        }
    }
    for index in &group.carriage {
        let Some(record) = batch.carriage.get(*index) else {
            continue;
        };
        if let Some(status) = status_of(merge.carriage_record(set, record))? {
            refused.insert(leaf_of_carriage(*index), status);
        }
    }
    let is_carried = merge.is_carried(&set.sums);
    for (leaf, status) in &refused {
        refuse(progress, [*leaf], *status)?;
    }
    if !is_carried {
        set.rollback(mark);
        let others = all().filter(|leaf| !refused.contains_key(leaf));
        return refuse(progress, others, Status::CarriageMismatch);
    }
    let package = pay_carriage(set, id, batch, merge, progress)?;
    if package.current.used != used_before {
        let package = record_root(package, batch)?;
        progress.events.push(Event::PackageSettled {
            package: id,
            package_epoch: package.package_epoch,
            gateway: batch.gateway,
            used_bytes: package.current.used,
            moved_units: package.current.moved(),
        });
        set.packages.set(handle, package);
    }
    Ok(())
}

fn refuse(
    progress: &mut Progress,
    leaves: impl IntoIterator<Item = usize>,
    status: Status,
) -> Result<(), Stop> {
    progress
        .refused
        .extend(leaves.into_iter().map(|leaf| RefusedRecord {
            index: count(leaf),
            status,
        }));
    Ok(())
}

fn status_of(result: Result<(), Stop>) -> Result<Option<Status>, Stop> {
    match result {
        Ok(()) => Ok(None),
        Err(Stop::Refused(status)) => Ok(Some(status)),
        Err(other) => Err(other),
    }
}

/// Whether `gateway` may deliver records of `package` now.
fn check_package(
    package: &Package,
    terms: &PackageTerms,
    gateway: GatewayId,
    now: TimeMs,
) -> Result<(), Status> {
    if !terms.gateways.contains(&gateway) {
        return Err(Status::GatewayNotListed);
    }
    if now < terms.valid_from {
        return Err(Status::PackageNotYetValid);
    }
    let over = package
        .closing
        .as_ref()
        .is_some_and(|closing| closing.deadline <= now);
    match package.state {
        PackageState::Open => Ok(()),
        PackageState::RollingOver if over => Err(Status::WrongPackageEpoch),
        PackageState::Closing if over => Err(Status::PackageClosed),
        PackageState::RollingOver | PackageState::Closing => Ok(()),
        PackageState::Closed => Err(Status::PackageClosed),
    }
}

/// Pays every payee whose bytes grew; returns the package.
fn pay_carriage(
    set: &mut WorkingSet<'_>,
    id: PackageId,
    batch: &Batch,
    merge: Merge<'_>,
    progress: &mut Progress,
) -> Result<Package, Stop> {
    let mut due = Vec::with_capacity(merge.touched.len());
    for (share, payee) in &merge.touched {
        let units = merge.rate_payee(set, *share, *payee)?;
        if let (Some(party), false) = (payee_party(*share, *payee), units.is_zero()) {
            due.push((*share, party, units));
        }
    }
    let mut package = merge.into_package();
    for (share, party, units) in due {
        let event = close::pay_party(set, &id, &mut package, share, party, units)?;
        progress.events.push(event);
        let own = Party::Gateway {
            gateway: batch.gateway,
        };
        if party == own {
            progress.gateway_paid = progress.gateway_paid.add(units)?;
        }
    }
    Ok(package)
}

/// Notes the batch as the gateway's last one for this package.
fn record_root(mut package: Package, batch: &Batch) -> Result<Package, Stop> {
    let mut roots = std::mem::take(&mut package.roots).into_vec();
    let root = BatchRoot {
        gateway: batch.gateway,
        sequence: batch.sequence,
        root: batch.root,
    };
    match roots.binary_search_by_key(&batch.gateway, |root| root.gateway) {
        Ok(place) => {
            if let Some(last) = roots.get_mut(place) {
                *last = root;
            }
        }
        Err(place) => roots.insert(place, root),
    }
    package.roots = List::try_from(roots).map_err(|_| Defect::Missing {
        what: "room for a batch root",
    })?;
    Ok(package)
}
