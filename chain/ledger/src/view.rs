//! Typed read access for RPC and tools.

use std::sync::Arc;

use qlink_types::ids::{AccountId, ContentId, PackageId, ViewerKey};
use qlink_types::package::PackageTerms;
use qlink_types::transaction::Party;
use qlink_types::units::PackageEpoch;

use crate::account::Account;
use crate::chain::{ChainRow, SupplyRow};
use crate::content::Content;
use crate::package::{EpochTotals, Package, TermsRow};
use crate::party::PartyRow;
use crate::row::{Row, decode_row, join};
use crate::state::{Space, StateError, StateView};
use crate::viewer::{self, ViewerRow};

/// Reads rows of a state. Every function fails with [`StateError`] only when the storage fails or
/// holds what the ledger cannot have written.
#[derive(Clone, Copy)]
pub struct View<'a> {
    state: &'a dyn StateView,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

#[expect(clippy::missing_errors_doc, reason = "said once, on the type")]
impl<'a> View<'a> {
    /// Reads from `state`.
    #[must_use]
    pub const fn new(state: &'a dyn StateView) -> Self {
        Self { state }
    }

    /// What the chain is; `None` before genesis.
    pub fn chain(&self) -> Result<Option<ChainRow>, StateError> {
        self.row(&())
    }

    /// An account; one that nobody has paid into is empty.
    pub fn account(&self, id: &AccountId) -> Result<Account, StateError> {
        Ok(self.row(id)?.unwrap_or_default())
    }

    /// A content.
    pub fn content(&self, id: &ContentId) -> Result<Option<Content>, StateError> {
        self.row(id)
    }

    /// A gateway, BaseStation or operator.
    pub fn party(&self, id: &Party) -> Result<Option<PartyRow>, StateError> {
        self.row(id)
    }

    /// A package with its running package_epoch and its totals.
    pub fn package(&self, id: &PackageId) -> Result<Option<Package>, StateError> {
        self.row(id)
    }

    /// The terms of a package as bought.
    pub fn terms(&self, id: &PackageId) -> Result<Option<PackageTerms>, StateError> {
        let row: Option<TermsRow> = self.row(id)?;
        Ok(row.map(|row| Arc::unwrap_or_clone(row.0)))
    }

    /// The totals of a package_epoch, running or settled.
    pub fn package_epoch(
        &self,
        id: &PackageId,
        package_epoch: PackageEpoch,
    ) -> Result<Option<EpochTotals>, StateError> {
        match self.package(id)? {
            Some(package) if package.package_epoch == package_epoch => Ok(Some(package.current)),
            Some(_) => self.row(&(*id, package_epoch)),
            None => Ok(None),
        }
    }

    /// Packages in ascending order of their ids: at most `limit`, behind `after`.
    pub fn packages(
        &self,
        limit: usize,
        after: Option<&PackageId>,
    ) -> Result<Vec<PackageId>, StateError> {
        let after = after.map(|id| join(b'P', &[id.as_bytes()]));
        let rows = self
            .state
            .scan(Space::Rows, b"P", limit, after.as_deref())?;
        rows.iter().map(|(key, _)| tail(key, 1)).collect()
    }

    /// Accounts that have ever held units, in ascending order: at most `limit`, behind `after`.
    pub fn accounts(
        &self,
        limit: usize,
        after: Option<&AccountId>,
    ) -> Result<Vec<AccountId>, StateError> {
        let after = after.map(|id| join(b'A', &[id.as_bytes()]));
        let rows = self
            .state
            .scan(Space::Rows, b"A", limit, after.as_deref())?;
        rows.iter().map(|(key, _)| tail(key, 1)).collect()
    }

    /// One viewer of a package.
    pub fn viewer(
        &self,
        package: &PackageId,
        viewer: &ViewerKey,
    ) -> Result<Option<ViewerRow>, StateError> {
        self.row(&(*package, *viewer))
    }

    /// Viewers of a package in ascending order of their keys: at most `limit`, behind `after`.
    /// The zero key is the package's `unclaimed` line.
    pub fn viewers(
        &self,
        package: &PackageId,
        limit: usize,
        after: Option<&ViewerKey>,
    ) -> Result<Vec<(ViewerKey, ViewerRow)>, StateError> {
        let prefix = viewer::prefix(package);
        let after = after.map(|key| ViewerRow::key(&(*package, *key)));
        let rows = self
            .state
            .scan(Space::Rows, &prefix, limit, after.as_deref())?;
        rows.iter()
            .map(|(key, value)| Ok((tail(key, prefix.len())?, decode_row(key, value)?)))
            .collect()
    }

    /// Where all units are.
    pub fn supply(&self) -> Result<SupplyRow, StateError> {
        let row: Option<SupplyRow> = self.row(&())?;
        Ok(row.unwrap_or_default())
    }

    fn row<R: Row>(&self, key: &R::Key) -> Result<Option<R>, StateError> {
        let key = R::key(key);
        match self.state.get(R::SPACE, &key)? {
            Some(value) => decode_row(&key, &value).map(Some),
            None => Ok(None),
        }
    }
}

/// The id behind the first `skip` bytes of a key.
pub(crate) fn tail<T: qlink_types::codec::Decode>(
    key: &[u8],
    skip: usize,
) -> Result<T, StateError> {
    T::from_bytes(key.get(skip..).unwrap_or_default()).map_err(|cause| {
        StateError::new(crate::row::CorruptRow {
            key: key.to_vec(),
            cause,
        })
    })
}
