//! The working set of a block: every table, the block's context, and how a transaction stops.

use qlink_types::ids::AccountId;
use qlink_types::outcome::{Event, RefusedRecord, Status};
use qlink_types::rating::RatingError;
use qlink_types::units::{ArithmeticError, SUPPLY_UNITS, Units};

use crate::account::{Account, ModuleAccount};
use crate::apply::BlockContext;
use crate::carriage::{CarriageSum, PathBytes, PayeeRow};
use crate::chain::{ChainRow, SupplyRow};
use crate::content::Content;
use crate::due::Due;
use crate::package::{EpochTotals, Package, TermsRow};
use crate::params::Params;
use crate::party::PartyRow;
use crate::row::{Row as _, encode_row};
use crate::stake::{Candidate, Release, SeatKeyRow, SeatsRow, Vote, VoterRow};
use crate::state::{Changes, Space, StateError, StateView};
use crate::table::Table;
use crate::view::View;
use crate::viewer::ViewerRow;

/// Why a transaction goes no further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It is refused.
    Refused(Status),
    /// It is refused as a duplicate; the event names what was there first.
    Duplicate(Box<Event>),
    /// The whole block cannot go on.
    State(StateError),
}

impl Stop {
    /// What it means for a step that the ledger takes by itself, which nothing may refuse.
    pub(crate) fn of_own_step(self) -> StateError {
        match self {
            Self::State(error) => error,
            Self::Refused(_) | Self::Duplicate(_) => Defect::Missing {
                what: "a reason to refuse the ledger's own step",
            }
            .into(),
        }
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Sums over what the ledger itself has written cannot fail; if one does, the block stops.
impl From<ArithmeticError> for Stop {
    fn from(error: ArithmeticError) -> Self {
        Self::State(StateError::new(error))
    }
}

/// As for [`ArithmeticError`].
impl From<RatingError> for Stop {
    fn from(error: RatingError) -> Self {
        Self::State(StateError::new(error))
    }
}

/// What an accepted transaction did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// What it paid.
    pub(crate) fee: Units,
    /// Records of a batch that were refused.
    pub(crate) refused: Vec<RefusedRecord>,
    /// What happened.
    pub(crate) events: Vec<Event>,
}

/// The ledger found itself in a state that its own rules exclude.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Defect {
    /// The state has no genesis.
    #[error("the state has no genesis")]
    NoGenesis,
    /// The supply would change.
    #[error("the supply would change from {expected} to {found} units")]
    Supply {
        /// What it must be.
        expected: Units,
        /// What it would be.
        found: u128,
    },
    /// A line of the supply would leave its range.
    #[error("a line of the supply would leave its range")]
    SupplyLine,
    /// More dust than payees.
    #[error("{dust} units of dust for {payees} payees")]
    Dust {
        /// Leftover units.
        dust: u64,
        /// How many could receive one.
        payees: usize,
    },
    /// A row that must exist does not.
    #[error("{what} is missing")]
    Missing {
        /// Which.
        what: &'static str,
    },
}

impl From<Defect> for StateError {
    fn from(defect: Defect) -> Self {
        Self::new(defect)
    }
}

impl From<Defect> for Stop {
    fn from(defect: Defect) -> Self {
        Self::State(defect.into())
    }
}

/// All tables of a block.
pub(crate) struct WorkingSet<'a> {
    pub(crate) state: &'a dyn StateView,
    pub(crate) context: BlockContext,
    pub(crate) params: Params,
    supply: SupplyRow,
    pub(crate) accounts: Table<Account>,
    pub(crate) contents: Table<Content>,
    pub(crate) parties: Table<PartyRow>,
    pub(crate) terms: Table<TermsRow>,
    pub(crate) packages: Table<Package>,
    pub(crate) epochs: Table<EpochTotals>,
    pub(crate) viewers: Table<ViewerRow>,
    pub(crate) paths: Table<PathBytes>,
    pub(crate) sums: Table<CarriageSum>,
    pub(crate) payees: Table<PayeeRow>,
    pub(crate) due: Table<Due>,
    pub(crate) candidates: Table<Candidate>,
    pub(crate) votes: Table<Vote>,
    pub(crate) voters: Table<VoterRow>,
    pub(crate) seat_keys: Table<SeatKeyRow>,
    pub(crate) releases: Table<Release>,
    pub(crate) seats: Table<SeatsRow>,
}

/// A point of every table to return to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark([usize; 17]);

impl<'a> WorkingSet<'a> {
    /// An empty working set over `state`.
    pub(crate) fn new(
        state: &'a dyn StateView,
        context: &BlockContext,
    ) -> Result<Self, StateError> {
        let view = View::new(state);
        let chain: ChainRow = view.chain()?.ok_or(Defect::NoGenesis)?;
        Ok(Self {
            state,
            context: *context,
            params: chain.params,
            supply: view.supply()?,
            accounts: Table::default(),
            contents: Table::default(),
            parties: Table::default(),
            terms: Table::default(),
            packages: Table::default(),
            epochs: Table::default(),
            viewers: Table::default(),
            paths: Table::default(),
            sums: Table::default(),
            payees: Table::default(),
            due: Table::default(),
            candidates: Table::default(),
            votes: Table::default(),
            voters: Table::default(),
            seat_keys: Table::default(),
            releases: Table::default(),
            seats: Table::default(),
        })
    }

    /// Adds `units` to an account.
    pub(crate) fn credit(&mut self, account: &AccountId, units: Units) -> Result<(), Stop> {
        if units.is_zero() {
            return Ok(());
        }
        let handle = self.accounts.load(self.state, account)?;
        let mut row = self.accounts.get(handle).copied().unwrap_or_default();
        row.balance = row.balance.add(units)?;
        self.accounts.set(handle, row);
        Ok(())
    }

    /// Takes `units` from an account; refused when it holds less.
    pub(crate) fn debit(&mut self, account: &AccountId, units: Units) -> Result<(), Stop> {
        if units.is_zero() {
            return Ok(());
        }
        let handle = self.accounts.load(self.state, account)?;
        let mut row = self.accounts.get(handle).copied().unwrap_or_default();
        row.balance = row
            .balance
            .sub(units)
            .map_err(|_| Status::InsufficientFunds)?;
        self.accounts.set(handle, row);
        Ok(())
    }

    /// Moves a fee from an account to the community pool.
    pub(crate) fn charge(&mut self, account: &AccountId, fee: Units) -> Result<(), Stop> {
        self.debit(account, fee)?;
        self.credit(&ModuleAccount::Community.id(), fee)
    }

    /// Units outside the bridge and the community pool, before this block.
    pub(crate) fn circulating(&self) -> Units {
        let held = self
            .supply
            .bridge
            .get()
            .saturating_add(self.supply.community.get());
        SUPPLY_UNITS.saturating_sub(Units::new(held))
    }

    /// A point to return to.
    pub(crate) fn mark(&self) -> Mark {
        Mark([
            self.accounts.mark(),
            self.contents.mark(),
            self.parties.mark(),
            self.terms.mark(),
            self.packages.mark(),
            self.epochs.mark(),
            self.viewers.mark(),
            self.paths.mark(),
            self.sums.mark(),
            self.payees.mark(),
            self.due.mark(),
            self.candidates.mark(),
            self.votes.mark(),
            self.voters.mark(),
            self.seat_keys.mark(),
            self.releases.mark(),
            self.seats.mark(),
        ])
    }

    /// Takes back every change since the last commit.
    pub(crate) fn rollback_all(&mut self) {
        self.rollback(Mark::default());
    }

    /// Takes back every change since `mark`.
    pub(crate) fn rollback(&mut self, mark: Mark) {
        let Mark([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]) = mark;
        self.accounts.rollback(a);
        self.contents.rollback(b);
        self.parties.rollback(c);
        self.terms.rollback(d);
        self.packages.rollback(e);
        self.epochs.rollback(f);
        self.viewers.rollback(g);
        self.paths.rollback(h);
        self.sums.rollback(i);
        self.payees.rollback(j);
        self.due.rollback(k);
        self.candidates.rollback(l);
        self.votes.rollback(m);
        self.voters.rollback(n);
        self.seat_keys.rollback(o);
        self.releases.rollback(p);
        self.seats.rollback(q);
    }

    /// Makes every change so far final for this block.
    pub(crate) fn commit(&mut self) {
        self.accounts.commit();
        self.contents.commit();
        self.parties.commit();
        self.terms.commit();
        self.packages.commit();
        self.epochs.commit();
        self.viewers.commit();
        self.paths.commit();
        self.sums.commit();
        self.payees.commit();
        self.due.commit();
        self.candidates.commit();
        self.votes.commit();
        self.voters.commit();
        self.seat_keys.commit();
        self.releases.commit();
        self.seats.commit();
    }

    /// The rows to store, once the supply is found unchanged (law 7).
    pub(crate) fn finish(&self) -> Result<Changes, StateError> {
        let mut changes = Changes::new();
        let supply = self.write_tables(&mut changes).ok_or(Defect::SupplyLine)?;
        if supply.total() != u128::from(SUPPLY_UNITS.get()) {
            return Err(Defect::Supply {
                expected: SUPPLY_UNITS,
                found: supply.total(),
            }
            .into());
        }
        if supply != self.supply {
            changes.insert(
                (Space::Tree, SupplyRow::key(&())),
                Some(encode_row(&supply)),
            );
        }
        Ok(changes)
    }

    fn write_tables(&self, changes: &mut Changes) -> Option<SupplyRow> {
        let mut supply = self.supply;
        supply = self.accounts.write_changes(changes, supply)?;
        supply = self.contents.write_changes(changes, supply)?;
        supply = self.parties.write_changes(changes, supply)?;
        supply = self.terms.write_changes(changes, supply)?;
        supply = self.packages.write_changes(changes, supply)?;
        supply = self.epochs.write_changes(changes, supply)?;
        supply = self.viewers.write_changes(changes, supply)?;
        supply = self.paths.write_changes(changes, supply)?;
        supply = self.sums.write_changes(changes, supply)?;
        supply = self.payees.write_changes(changes, supply)?;
        supply = self.due.write_changes(changes, supply)?;
        supply = self.candidates.write_changes(changes, supply)?;
        supply = self.votes.write_changes(changes, supply)?;
        supply = self.voters.write_changes(changes, supply)?;
        supply = self.seat_keys.write_changes(changes, supply)?;
        supply = self.releases.write_changes(changes, supply)?;
        self.seats.write_changes(changes, supply)
    }
}
