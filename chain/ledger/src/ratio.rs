//! Merges records into a package: the hot path of the ledger.
//!
//! Records are cumulative: per counter the larger value wins, a viewer's bytes are the sum over
//! its counters, and it is paid what those bytes are rated at minus what it was paid before. So a
//! record that is replayed, late or doubled changes nothing (law 4).

use std::collections::{BTreeMap, BTreeSet};

use qlink_types::batch::Batch;
use qlink_types::codec::List;
use qlink_types::ids::{GatewayId, PackageId, ViewerKey};
use qlink_types::outcome::{Share, Status};
use qlink_types::package::PackageTerms;
use qlink_types::rating::{RatingError, Ratio};
use qlink_types::record::{CarriageRecord, GradedBytes, RatioRecord};
use qlink_types::units::{Bytes, Incarnation, PackageEpoch, Units};

use crate::carriage::{CarriageSum, MAX_PAYEES, PathBytes, PayeeRow};
use crate::package::{Package, RewardLine};
use crate::party::unknown;
use crate::settle::payees_of;
use crate::state::StateView;
use crate::table::{Handle, Table};
use crate::viewer::{Component, MAX_COMPONENTS, ViewerRow};
use crate::working::{Stop, WorkingSet};

/// The records of one batch for one package, being merged.
pub(crate) struct Merge<'a> {
    id: PackageId,
    batch: &'a Batch,
    package: Package,
    ratio: Ratio,
    sums: BTreeMap<Incarnation, Handle>,
    /// Payees whose bytes grew.
    pub(crate) touched: BTreeSet<(Share, [u8; 16])>,
}

impl<'a> Merge<'a> {
    /// Begins with the package as it stands.
    pub(crate) fn new(id: PackageId, batch: &'a Batch, package: Package) -> Result<Self, Stop> {
        let ratio = package.current.ratio(Share::Reward)?;
        Ok(Self {
            id,
            batch,
            package,
            ratio,
            sums: BTreeMap::new(),
            touched: BTreeSet::new(),
        })
    }

    /// Gives the package back.
    pub(crate) fn into_package(self) -> Package {
        self.package
    }

    /// Refuses a record of a counter that is not the batch's own, or of terms that do not run.
    #[inline]
    fn check_counter(
        &self,
        gateway: GatewayId,
        incarnation: Incarnation,
        package_epoch: PackageEpoch,
    ) -> Result<(), Status> {
        if gateway != self.batch.gateway || incarnation > self.batch.incarnation {
            return Err(Status::RecordForeign);
        }
        if package_epoch != self.package.package_epoch {
            return Err(Status::WrongPackageEpoch);
        }
        Ok(())
    }

    /// Merges one ratio record.
    pub(crate) fn ratio_record(
        &mut self,
        set: &mut WorkingSet<'_>,
        terms: &PackageTerms,
        record: &RatioRecord,
    ) -> Result<(), Stop> {
        let key = &record.key;
        self.check_counter(key.gateway, key.incarnation, key.package_epoch)?;
        if !record.bytes.edge.is_zero() || !record.bytes.receipt.is_zero() {
            return Err(Status::GradeNotAccepted.into());
        }
        let own = record.bytes.total().map_err(|_| Status::AmountTooLarge)?;
        match self.ratio.owed(own) {
            Ok(units) if units == record.units => {}
            Ok(_) => return Err(Status::UnitsMismatch.into()),
            Err(RatingError::VolumeExceeded { .. } | RatingError::NoVolume) => {
                return Err(Status::PackageExhausted.into());
            }
        }
        let grown = self.viewer(set.state, &mut set.viewers, terms, record)?;
        if let Some(delta) = grown {
            let sum = self.sum(set, key.incarnation)?;
            let mut row = set.sums.get(sum).copied().unwrap_or_default();
            row.ratio = row.ratio.add(delta)?;
            set.sums.set(sum, row);
        }
        Ok(())
    }

    /// Merges into the viewer's row and pays; returns by how many bytes it grew, if it did.
    fn viewer(
        &mut self,
        state: &dyn StateView,
        viewers: &mut Table<ViewerRow>,
        terms: &PackageTerms,
        record: &RatioRecord,
    ) -> Result<Option<Bytes>, Stop> {
        let viewer = record.key.viewer;
        let handle = viewers.load(state, &(self.id, viewer))?;
        // Terms never change, so a viewer that has a row was admitted when it got it.
        let mut row = match viewers.get(handle) {
            Some(row) => row.clone(),
            None if viewer.is_zero() || terms.admits(&viewer) => ViewerRow::default(),
            None => return Err(Status::ViewerNotInAudience.into()),
        };
        row.enter(self.package.package_epoch);
        let Some((components, delta)) = merge_component(&row.components, record)? else {
            return Ok(None);
        };
        let bytes = row.bytes.add(delta).map_err(|_| exceeded(&viewer))?;
        let all = row
            .settled_bytes
            .add(bytes)
            .map_err(|_| exceeded(&viewer))?;
        if !viewer.is_zero() && all > self.package.viewer_cap {
            return Err(Status::ViewerCapExceeded.into());
        }
        let current = &mut self.package.current;
        let used = current
            .used
            .add(delta)
            .map_err(|_| Status::PackageExhausted)?;
        if used > current.bytes {
            return Err(Status::PackageExhausted.into());
        }
        current.used = used;
        self.package.totals.used = self.package.totals.used.add(delta)?;
        let units = self.ratio.owed(bytes)?;
        let pay = units.sub(row.units)?;
        self.package.pay_reward(pay, RewardLine::of(&viewer))?;
        row.bytes = bytes;
        row.units = units;
        row.components = components;
        viewers.set(handle, row);
        Ok(Some(delta))
    }

    /// Merges one carriage record.
    pub(crate) fn carriage_record(
        &mut self,
        set: &mut WorkingSet<'_>,
        record: &CarriageRecord,
    ) -> Result<(), Stop> {
        let key = &record.key;
        self.check_counter(key.gateway, key.incarnation, key.package_epoch)?;
        let payees = payees_of(key);
        for party in payees.iter().filter_map(|(_, _, party)| *party) {
            let handle = set.parties.load(set.state, &party)?;
            if set.parties.get(handle).is_none() {
                return Err(unknown(&party).into());
            }
        }
        let path = set.paths.load(set.state, key)?;
        let before = set.paths.get(path).copied().unwrap_or_default().bytes;
        if record.bytes <= before {
            return Ok(());
        }
        let delta = record.bytes.sub(before)?;
        let sum = self.sum(set, key.incarnation)?;
        let mut sums = set.sums.get(sum).copied().unwrap_or_default();
        sums.carriage = sums
            .carriage
            .add(delta)
            .map_err(|_| Status::AmountTooLarge)?;
        let counts = (
            self.package.current.operators,
            self.package.current.basestations,
        );
        let rows = payees.map(|(share, payee, _)| self.payee(set, share, payee, delta));
        if rows.iter().any(Result::is_err) {
            (
                self.package.current.operators,
                self.package.current.basestations,
            ) = counts;
        }
        for (handle, row) in rows.into_iter().collect::<Result<Vec<_>, _>>()? {
            set.payees.set(handle, row);
        }
        set.paths.set(
            path,
            PathBytes {
                bytes: record.bytes,
            },
        );
        set.sums.set(sum, sums);
        self.touched
            .extend(payees.map(|(share, payee, _)| (share, payee)));
        Ok(())
    }

    /// The payee's row with `delta` more bytes.
    fn payee(
        &mut self,
        set: &mut WorkingSet<'_>,
        share: Share,
        payee: [u8; 16],
        delta: Bytes,
    ) -> Result<(Handle, PayeeRow), Stop> {
        let epoch = self.package.package_epoch;
        let handle = set
            .payees
            .load(set.state, &(self.id, epoch, share, payee))?;
        let known = set.payees.get(handle).copied();
        if known.is_none() {
            let current = &mut self.package.current;
            let count = match share {
                Share::Operator => Some(&mut current.operators),
                Share::BaseStation => Some(&mut current.basestations),
                // Bounded by the gateways that the terms list.
                Share::Gateway | Share::Reward => None,
            };
            if let Some(count) = count {
                if *count >= MAX_PAYEES {
                    return Err(Status::LimitReached.into());
                }
                *count = count.saturating_add(1);
            }
        }
        let mut row = known.unwrap_or_default();
        row.bytes = row.bytes.add(delta).map_err(|_| Status::AmountTooLarge)?;
        Ok((handle, row))
    }

    /// Whether ratio and carriage bytes agree for every counter start that grew.
    pub(crate) fn is_carried(&self, sums: &Table<CarriageSum>) -> bool {
        self.sums.values().all(|handle| {
            sums.get(*handle)
                .is_none_or(|row| row.ratio == row.carriage)
        })
    }

    /// The sums of one counter start of the batch's gateway.
    fn sum(&mut self, set: &mut WorkingSet<'_>, incarnation: Incarnation) -> Result<Handle, Stop> {
        if let Some(handle) = self.sums.get(&incarnation) {
            return Ok(*handle);
        }
        let epoch: PackageEpoch = self.package.package_epoch;
        let key = (self.id, epoch, self.batch.gateway, incarnation);
        let handle = set.sums.load(set.state, &key)?;
        self.sums.insert(incarnation, handle);
        Ok(handle)
    }

    /// Rates what a payee has carried and returns what it is owed on top of what it was paid.
    pub(crate) fn rate_payee(
        &self,
        set: &mut WorkingSet<'_>,
        share: Share,
        payee: [u8; 16],
    ) -> Result<Units, Stop> {
        let key = (self.id, self.package.package_epoch, share, payee);
        let handle = set.payees.load(set.state, &key)?;
        let mut row = set.payees.get(handle).copied().unwrap_or_default();
        let owed = self.package.current.ratio(share)?.owed(row.bytes)?;
        let pay = owed.sub(row.units)?;
        if !pay.is_zero() {
            row.units = owed;
            set.payees.set(handle, row);
        }
        Ok(pay)
    }
}

fn exceeded(viewer: &ViewerKey) -> Status {
    if viewer.is_zero() {
        Status::PackageExhausted
    } else {
        Status::ViewerCapExceeded
    }
}

/// The counters after `record` and by how many bytes they grew; `None` when they did not.
fn merge_component(
    components: &List<Component, MAX_COMPONENTS>,
    record: &RatioRecord,
) -> Result<Option<(List<Component, MAX_COMPONENTS>, Bytes)>, Stop> {
    let key = &record.key;
    let place = components.iter().position(|component| {
        component.gateway == key.gateway && component.incarnation == key.incarnation
    });
    let before = place
        .and_then(|place| components.get(place))
        .map_or_else(GradedBytes::default, |component| component.bytes);
    let merged = before.merge(&record.bytes);
    let delta = merged.total()?.sub(before.total()?)?;
    if delta.is_zero() {
        return Ok(None);
    }
    let mut list = components.to_vec();
    match place.and_then(|place| list.get_mut(place)) {
        Some(component) => component.bytes = merged,
        None => list.push(Component {
            gateway: key.gateway,
            incarnation: key.incarnation,
            bytes: merged,
        }),
    }
    let list = List::try_from(list).map_err(|_| Status::LimitReached)?;
    Ok(Some((list, delta)))
}
