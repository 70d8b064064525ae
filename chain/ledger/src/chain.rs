//! Two single rows: what the chain is, and where its units are.

use qlink_types::codec::Text;
use qlink_types::signature::ChainId;
use qlink_types::struct_codec;
use qlink_types::units::Units;
use serde::{Deserialize, Serialize};

use crate::params::Params;
use crate::row::{Held, Row};
use crate::state::Space;

/// What the chain is, fixed at genesis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRow {
    /// Name for people.
    pub name: Text<64>,
    /// Its id.
    pub chain: ChainId,
    /// Whether units exist that stand for no deposit on NEO.
    pub unbacked: bool,
    /// Fee schedule and limits.
    pub params: Params,
}

struct_codec!(ChainRow {
    name,
    chain,
    unbacked,
    params
});

impl Row for ChainRow {
    type Key = ();
    const SPACE: Space = Space::Tree;

    fn key((): &()) -> Vec<u8> {
        vec![b'm']
    }
}

/// Where all units are; the lines sum to the supply after every block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SupplyRow {
    /// Accounts of people.
    pub accounts: Units,
    /// The bridge's module account.
    pub bridge: Units,
    /// The community pool's module account.
    pub community: Units,
    /// Escrows of packages.
    pub escrow: Units,
    /// Earned by viewers and not yet claimed.
    pub claimable: Units,
    /// Earned by nobody's key in packages that are not closed.
    pub unclaimed: Units,
    /// Locked behind candidates, or waiting to be released.
    pub staked: Units,
    /// Rewards set apart for voters and not yet taken.
    pub rewards: Units,
}

struct_codec!(SupplyRow {
    accounts,
    bridge,
    community,
    escrow,
    claimable,
    unclaimed,
    staked,
    rewards
});

impl Row for SupplyRow {
    type Key = ();
    const SPACE: Space = Space::Tree;

    fn key((): &()) -> Vec<u8> {
        vec![b's']
    }
}

impl SupplyRow {
    /// The sum of all lines; it cannot overflow 128 bits.
    #[must_use]
    pub fn total(&self) -> u128 {
        self.lines().iter().fold(0, |sum: u128, line| {
            sum.saturating_add(u128::from(line.get()))
        })
    }

    fn lines(&self) -> [Units; 8] {
        [
            self.accounts,
            self.bridge,
            self.community,
            self.escrow,
            self.claimable,
            self.unclaimed,
            self.staked,
            self.rewards,
        ]
    }

    /// Replaces what a row held before by what it holds now; `None` when a line would leave
    /// its range, which only a defect of the ledger can cause.
    pub(crate) fn moved(self, before: &Held, after: &Held) -> Option<Self> {
        let step = |line: Units, before: Units, after: Units| {
            let raised = line.get().checked_add(after.get())?;
            raised.checked_sub(before.get()).map(Units::new)
        };
        Some(Self {
            accounts: step(self.accounts, before.accounts, after.accounts)?,
            bridge: step(self.bridge, before.bridge, after.bridge)?,
            community: step(self.community, before.community, after.community)?,
            escrow: step(self.escrow, before.escrow, after.escrow)?,
            claimable: step(self.claimable, before.claimable, after.claimable)?,
            unclaimed: step(self.unclaimed, before.unclaimed, after.unclaimed)?,
            staked: step(self.staked, before.staked, after.staked)?,
            rewards: step(self.rewards, before.rewards, after.rewards)?,
        })
    }
}
