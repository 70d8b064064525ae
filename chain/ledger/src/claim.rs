//! Claims: a viewer moves its reward to an account.

use qlink_types::ids::{AccountId, PackageId, ViewerKey};
use qlink_types::outcome::{Event, Status};
use qlink_types::units::Units;

use crate::working::{Done, Stop, WorkingSet};

/// Moves everything up to `total` that has not been claimed before; free, and possible for ever.
pub(crate) fn claim(
    set: &mut WorkingSet<'_>,
    viewer: ViewerKey,
    package: PackageId,
    to: &AccountId,
    total: Units,
) -> Result<Done, Stop> {
    let package_handle = set.packages.load(set.state, &package)?;
    let mut package_row = set
        .packages
        .get(package_handle)
        .cloned()
        .ok_or(Status::UnknownPackage)?;
    let handle = set.viewers.load(set.state, &(package, viewer))?;
    let mut row = set.viewers.get(handle).cloned().unwrap_or_default();
    if total <= row.claimed {
        return Err(Status::NothingToClaim.into());
    }
    if total > row.earned() {
        return Err(Status::ClaimExceedsReward.into());
    }
    let units = total.sub(row.claimed)?;
    row.claimed = total;
    package_row.totals.claimed = package_row.totals.claimed.add(units)?;
    set.viewers.set(handle, row);
    set.packages.set(package_handle, package_row);
    set.credit(to, units)?;
    Ok(Done {
        events: vec![Event::Claimed {
            package,
            viewer,
            account: *to,
            units,
        }],
        ..Done::default()
    })
}
