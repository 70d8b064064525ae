//! Typed read access for RPC and tools.

use std::sync::Arc;

use qlink_types::ids::{AccountId, ContentId, PackageId, ViewerKey};
use qlink_types::package::PackageTerms;
use qlink_types::transaction::Party;
use qlink_types::units::{PackageEpoch, TimeMs, Units};

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::chain::{ChainRow, SupplyRow};
use crate::content::Content;
use crate::package::{EpochTotals, Package, TermsRow};
use crate::party::PartyRow;
use crate::row::{Row, decode_row, join};
use crate::stake::{
    Candidate, Ranked, Release, SeatsRow, StakeParams, Vote, Waiting, parse_release_key, rank,
};
use crate::state::{Space, StateError, StateView};
use crate::viewer::{self, ViewerRow};

/// What one account has behind one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StakeView {
    /// What its stake is worth now.
    pub units: Units,
    /// What it has earned and not taken.
    pub rewards: Units,
}

/// Stake on its way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingStake {
    /// When it is released.
    pub time: TimeMs,
    /// Whose it is.
    pub voter: AccountId,
    /// Which candidate it was behind.
    pub candidate: AccountId,
    /// What it answers for until then.
    pub kind: Waiting,
    /// How much, and since when.
    pub release: Release,
}

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

    /// A candidate for a seat.
    pub fn candidate(&self, id: &AccountId) -> Result<Option<Candidate>, StateError> {
        self.row(id)
    }

    /// Candidates in ascending order of their ids: at most `limit`, behind `after`.
    pub fn candidates(
        &self,
        limit: usize,
        after: Option<&AccountId>,
    ) -> Result<Vec<AccountId>, StateError> {
        let after = after.map(|id| join(b'N', &[id.as_bytes()]));
        let rows = self
            .state
            .scan(Space::Rows, b"N", limit, after.as_deref())?;
        rows.iter().map(|(key, _)| tail(key, 1)).collect()
    }

    /// Who could be elected now, the heaviest first.
    pub fn ranking(&self, params: &StakeParams) -> Result<Vec<Ranked>, StateError> {
        rank(self.state, params)
    }

    /// Who sits and who comes next; `None` before the first candidate.
    pub fn seats(&self) -> Result<Option<SeatsRow>, StateError> {
        self.row(&())
    }

    /// What an account has behind a candidate, and what it has earned with it.
    pub fn stake(&self, voter: &AccountId, candidate: &AccountId) -> Result<StakeView, StateError> {
        let Some(row) = self.candidate(candidate)? else {
            return Ok(StakeView::default());
        };
        if voter == candidate {
            return Ok(StakeView {
                units: row.own,
                rewards: Units::ZERO,
            });
        }
        let vote: Option<Vote> = self.row(&(*voter, *candidate))?;
        let vote = vote.unwrap_or_default();
        Ok(StakeView {
            units: row.worth(vote.shares)?,
            rewards: row.earned_by(&vote)?,
        })
    }

    /// The candidates that an account votes for, in ascending order; there are at most ten.
    pub fn votes(&self, voter: &AccountId) -> Result<Vec<AccountId>, StateError> {
        let prefix = join(b'W', &[voter.as_bytes()]);
        let rows = self.state.scan(Space::Rows, &prefix, 16, None)?;
        rows.iter()
            .map(|(key, _)| tail(key, prefix.len()))
            .collect()
    }

    /// Stake on its way back to its owners, the next to be released first: at most `limit`.
    pub fn releases(&self, limit: usize) -> Result<Vec<WaitingStake>, StateError> {
        let rows = self.state.scan(Space::Rows, b"r", limit, None)?;
        rows.iter()
            .map(|(key, value)| {
                let (time, voter, candidate, kind) = parse_release_key(key)?;
                let release: Release = decode_row(key, value)?;
                Ok(WaitingStake {
                    time,
                    voter,
                    candidate,
                    kind,
                    release,
                })
            })
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
