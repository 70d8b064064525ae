//! Counts every unit again: the proof that the ledger's running sums are true.

use qlink_types::ids::{AccountId, PackageId, ViewerKey};
use qlink_types::package::PackageState;
use qlink_types::units::{SUPPLY_UNITS, Units};
use serde::Serialize;

use crate::account::ModuleAccount;
use crate::chain::SupplyRow;
use crate::package::Package;
use crate::row::decode_row;
use crate::stake::Release;
use crate::state::{Space, StateError, StateView};
use crate::view::View;
use crate::working::Defect;

/// Rows per read.
const PAGE: usize = 1024;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Lines counted from the rows themselves.
    pub counted: SupplyRow,
    /// Lines that the ledger keeps as it goes.
    pub stated: SupplyRow,
    /// Whether the counted lines sum to the supply and equal the stated ones (law 7).
    pub supply_is_exact: bool,
    /// Packages whose equation does not hold (law 5).
    pub broken_packages: Vec<PackageId>,
    /// Packages looked at.
    #[serde(with = "qlink_types::text")]
    pub packages: u64,
}

impl Audit {
    /// Whether every law holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.supply_is_exact && self.broken_packages.is_empty()
    }
}

/// What the rows of one package's viewers sum to, beside its totals.
#[derive(Default)]
struct PackageAudit {
    earned: Units,
    claimed: Units,
    unclaimed: Units,
}

/// Audits the whole state; its cost grows with the number of accounts and viewers.
///
/// # Errors
///
/// [`StateError`] when the storage fails.
pub fn audit(state: &dyn StateView) -> Result<Audit, StateError> {
    let view = View::new(state);
    let mut counted = SupplyRow::default();
    count_accounts(&view, &mut counted)?;
    count_stakes(state, &mut counted)?;
    let mut packages: u64 = 0;
    let mut broken_packages = Vec::new();
    let mut after: Option<PackageId> = None;
    loop {
        let page = view.packages(PAGE, after.as_ref())?;
        for id in &page {
            packages = packages.saturating_add(1);
            let package = view.package(id)?.ok_or(Defect::Missing {
                what: "a listed package",
            })?;
            let totals = &package.totals;
            add(&mut counted.escrow, totals.escrow)?;
            add(&mut counted.claimable, totals.claimable())?;
            add(&mut counted.unclaimed, totals.unclaimed_held())?;
            if !is_balanced(&view, id, &package)? {
                broken_packages.push(*id);
            }
        }
        match page.last() {
            Some(last) => after = Some(*last),
            None => break,
        }
    }
    let stated = view.supply()?;
    Ok(Audit {
        counted,
        stated,
        supply_is_exact: counted == stated && counted.total() == u128::from(SUPPLY_UNITS.get()),
        broken_packages,
        packages,
    })
}

fn count_accounts(view: &View<'_>, counted: &mut SupplyRow) -> Result<(), StateError> {
    let mut after: Option<AccountId> = None;
    loop {
        let page = view.accounts(PAGE, after.as_ref())?;
        for id in &page {
            let balance = view.account(id)?.balance;
            let line = if *id == ModuleAccount::Bridge.id() {
                &mut counted.bridge
            } else if *id == ModuleAccount::Community.id() {
                &mut counted.community
            } else {
                &mut counted.accounts
            };
            add(line, balance)?;
        }
        match page.last() {
            Some(last) => after = Some(*last),
            None => return Ok(()),
        }
    }
}

/// Counts what stands behind candidates, what their voters have not taken, and what waits.
fn count_stakes(state: &dyn StateView, counted: &mut SupplyRow) -> Result<(), StateError> {
    let view = View::new(state);
    let mut after: Option<AccountId> = None;
    loop {
        let page = view.candidates(PAGE, after.as_ref())?;
        for id in &page {
            let row = view.candidate(id)?.ok_or(Defect::Missing {
                what: "a listed candidate",
            })?;
            add(&mut counted.staked, row.own)?;
            add(&mut counted.staked, row.votes)?;
            add(&mut counted.rewards, row.rewards)?;
        }
        match page.last() {
            Some(last) => after = Some(*last),
            None => break,
        }
    }
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(Space::Rows, b"r", PAGE, after.as_deref())?;
        for (key, value) in &page {
            let release: Release = decode_row(key, value)?;
            add(&mut counted.staked, release.units)?;
        }
        match page.into_iter().next_back() {
            Some((key, _)) => after = Some(key),
            None => return Ok(()),
        }
    }
}

/// Whether the viewers' rows sum to the package's totals and its equation holds.
fn is_balanced(view: &View<'_>, id: &PackageId, package: &Package) -> Result<bool, StateError> {
    let mut audit = PackageAudit::default();
    let mut after: Option<ViewerKey> = None;
    loop {
        let page = view.viewers(id, PAGE, after.as_ref())?;
        for (key, row) in &page {
            if key.is_zero() {
                add(&mut audit.unclaimed, row.earned())?;
            } else {
                add(&mut audit.earned, row.earned())?;
                add(&mut audit.claimed, row.claimed)?;
            }
        }
        match page.last() {
            Some((last, _)) => after = Some(*last),
            None => break,
        }
    }
    let totals = &package.totals;
    let is_settled = package.state != PackageState::Closed || totals.escrow.is_zero();
    Ok(is_settled
        && totals.is_balanced()
        && audit.earned == totals.reward_paid
        && audit.claimed == totals.claimed
        && audit.unclaimed == totals.unclaimed)
}

fn add(line: &mut Units, units: Units) -> Result<(), StateError> {
    *line = line.add(units).map_err(StateError::new)?;
    Ok(())
}
