//! The first state of a chain.

use std::collections::BTreeSet;

use qlink_types::codec::{Encode as _, List, Text};
use qlink_types::ids::AccountId;
use qlink_types::signature::ChainId;
use qlink_types::struct_codec;
use qlink_types::units::{SUPPLY_UNITS, TimeMs, Units};
use serde::{Deserialize, Serialize};

use crate::account::{Account, ModuleAccount};
use crate::chain::{ChainRow, SupplyRow};
use crate::params::Params;
use crate::row::{Row as _, encode_row, listing_value};
use crate::state::{Changes, Space};

/// Version of the canonical bytes of a genesis.
pub const GENESIS_VERSION: u16 = 1;

/// Most development accounts of a genesis.
pub const MAX_GENESIS_ACCOUNTS: usize = 65_536;

/// What a chain starts from.
///
/// All units that no development account holds belong to the module account `bridge`. A genesis
/// with development accounts makes an *unbacked* chain: its units stand for no deposit on NEO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct Genesis {
    chain: Text<64>,
    time_ms: TimeMs,
    accounts: List<(AccountId, Units), MAX_GENESIS_ACCOUNTS>,
    params: Params,
}

/// The JSON form, not yet checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    chain: Text<64>,
    time_ms: TimeMs,
    #[serde(default)]
    accounts: Vec<(AccountId, Units)>,
    #[serde(default)]
    params: Params,
}

struct_codec!(Genesis {
    chain,
    time_ms,
    accounts,
    params
});

/// Why a genesis is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The chain has no name, or one above 64 bytes.
    #[error("chain name must have 1 to 64 bytes")]
    Name,
    /// Too many development accounts.
    #[error("{count} development accounts exceed the limit of {limit}", limit = MAX_GENESIS_ACCOUNTS)]
    TooManyAccounts {
        /// How many there are.
        count: usize,
    },
    /// An account is listed twice, or is a module account.
    #[error("development account {account} is listed twice or belongs to a module")]
    Account {
        /// Which.
        account: AccountId,
    },
    /// The accounts hold more than there is.
    #[error("development accounts hold more than the supply of {supply} units", supply = SUPPLY_UNITS)]
    AboveSupply,
    /// A record costs more than 1/200 of a transfer.
    #[error("record_fee {record} exceeds 1/200 of transfer_fee {transfer}")]
    RecordFee {
        /// Units per record.
        record: Units,
        /// Units per transfer.
        transfer: Units,
    },
    /// The rules of staking could not work.
    #[error("stake parameters: {rule}")]
    Stake {
        /// The rule that is broken.
        rule: &'static str,
    },
}

impl TryFrom<Document> for Genesis {
    type Error = GenesisError;
    fn try_from(document: Document) -> Result<Self, GenesisError> {
        Self::try_new(
            document.chain.as_str(),
            document.time_ms,
            document.accounts,
            document.params,
        )
    }
}

impl From<Genesis> for Document {
    fn from(genesis: Genesis) -> Self {
        Self {
            chain: genesis.chain,
            time_ms: genesis.time_ms,
            accounts: genesis.accounts.into_vec(),
            params: genesis.params,
        }
    }
}

impl Genesis {
    /// A checked genesis.
    ///
    /// # Errors
    ///
    /// [`GenesisError`] names the first rule that is broken.
    pub fn try_new(
        chain: &str,
        time_ms: TimeMs,
        accounts: Vec<(AccountId, Units)>,
        params: Params,
    ) -> Result<Self, GenesisError> {
        let chain = Text::try_from(chain).map_err(|_| GenesisError::Name)?;
        if chain.as_str().is_empty() {
            return Err(GenesisError::Name);
        }
        if params.record_fee.get() > params.transfer_fee.get() / 200 {
            return Err(GenesisError::RecordFee {
                record: params.record_fee,
                transfer: params.transfer_fee,
            });
        }
        if let Some(rule) = params.stake.broken_rule() {
            return Err(GenesisError::Stake { rule });
        }
        check_accounts(&accounts)?;
        let count = accounts.len();
        let accounts =
            List::try_from(accounts).map_err(|_| GenesisError::TooManyAccounts { count })?;
        Ok(Self {
            chain,
            time_ms,
            accounts,
            params,
        })
    }

    /// The chain's name for people.
    #[must_use]
    pub fn chain(&self) -> &str {
        self.chain.as_str()
    }

    /// Ledger time of block 0.
    #[must_use]
    pub const fn time_ms(&self) -> TimeMs {
        self.time_ms
    }

    /// Development accounts with what they hold.
    #[must_use]
    pub fn accounts(&self) -> &[(AccountId, Units)] {
        &self.accounts
    }

    /// Fee schedule and limits.
    #[must_use]
    pub const fn params(&self) -> &Params {
        &self.params
    }

    /// Whether units exist that stand for no deposit on NEO.
    #[must_use]
    pub fn is_unbacked(&self) -> bool {
        !self.accounts.is_empty()
    }

    /// The chain's id: BLAKE3 of version and canonical bytes.
    #[must_use]
    pub fn chain_id(&self) -> ChainId {
        let mut bytes = GENESIS_VERSION.to_bytes();
        self.encode(&mut bytes);
        ChainId::new(*blake3::hash(&bytes).as_bytes())
    }
}

fn check_accounts(accounts: &[(AccountId, Units)]) -> Result<(), GenesisError> {
    let mut seen = BTreeSet::new();
    let mut sum = Units::ZERO;
    for (account, units) in accounts {
        if ModuleAccount::is_reserved(account) || !seen.insert(*account) {
            return Err(GenesisError::Account { account: *account });
        }
        sum = sum.add(*units).map_err(|_| GenesisError::AboveSupply)?;
    }
    if sum > SUPPLY_UNITS {
        return Err(GenesisError::AboveSupply);
    }
    Ok(())
}

/// The rows that a chain starts with.
#[must_use]
pub fn genesis_changes(genesis: &Genesis) -> Changes {
    let mut held = Units::ZERO;
    let mut balances = Vec::with_capacity(genesis.accounts.len().saturating_add(2));
    for (account, units) in &genesis.accounts {
        held = Units::new(held.get().saturating_add(units.get()));
        balances.push((*account, *units));
    }
    // `try_new` checked that `held` is at most the supply.
    let bridge = SUPPLY_UNITS.saturating_sub(held);
    balances.push((ModuleAccount::Bridge.id(), bridge));
    balances.push((ModuleAccount::Community.id(), Units::ZERO));

    let mut changes = Changes::new();
    for (account, balance) in balances {
        let row = Account {
            balance,
            ..Account::default()
        };
        changes.insert(
            (Space::Tree, Account::key(&account)),
            Some(encode_row(&row)),
        );
        if let Some(listing) = Account::listing_key(&account) {
            changes.insert((Space::Rows, listing), Some(listing_value()));
        }
    }
    let chain = ChainRow {
        name: genesis.chain.clone(),
        chain: genesis.chain_id(),
        unbacked: genesis.is_unbacked(),
        params: genesis.params.clone(),
    };
    let supply = SupplyRow {
        accounts: held,
        bridge,
        ..SupplyRow::default()
    };
    changes.insert((Space::Tree, ChainRow::key(&())), Some(encode_row(&chain)));
    changes.insert(
        (Space::Tree, SupplyRow::key(&())),
        Some(encode_row(&supply)),
    );
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: u8) -> AccountId {
        AccountId::new([n; 32])
    }

    fn genesis(accounts: Vec<(AccountId, Units)>) -> Result<Genesis, GenesisError> {
        Genesis::try_new("test", TimeMs::new(7), accounts, Params::default())
    }

    #[test]
    fn a_genesis_above_the_supply_or_with_a_reserved_account_is_refused() {
        let above = vec![(account(1), SUPPLY_UNITS), (account(2), Units::new(1))];
        let twice = vec![(account(1), Units::ZERO), (account(1), Units::ZERO)];
        let module = vec![(ModuleAccount::Bridge.id(), Units::ZERO)];

        assert_eq!(genesis(above), Err(GenesisError::AboveSupply));
        assert!(matches!(genesis(twice), Err(GenesisError::Account { .. })));
        assert!(matches!(genesis(module), Err(GenesisError::Account { .. })));
    }

    #[test]
    fn a_record_fee_above_a_two_hundredth_of_a_transfer_is_refused() {
        let params = Params {
            record_fee: Units::new(6),
            ..Params::default()
        };

        let genesis = Genesis::try_new("test", TimeMs::ZERO, Vec::new(), params);

        assert!(matches!(genesis, Err(GenesisError::RecordFee { .. })));
    }

    #[test]
    fn json_round_trips_and_unknown_keys_are_refused() {
        let genesis = genesis(vec![(account(1), Units::new(5))]).unwrap();
        let json = serde_json::to_string(&genesis).unwrap();

        assert_eq!(serde_json::from_str::<Genesis>(&json).unwrap(), genesis);
        let wrong = json.replacen("\"chain\"", "\"x\":1,\"chain\"", 1);
        assert!(serde_json::from_str::<Genesis>(&wrong).is_err());
    }

    #[test]
    fn every_field_of_a_genesis_changes_the_chain_id() {
        let base = genesis(vec![(account(1), Units::new(5))]).unwrap();
        let others = [
            genesis(vec![(account(1), Units::new(6))]).unwrap(),
            Genesis::try_new("test", TimeMs::new(8), Vec::new(), Params::default()).unwrap(),
            Genesis::try_new("tests", TimeMs::new(7), Vec::new(), Params::default()).unwrap(),
        ];

        for other in others {
            assert_ne!(other.chain_id(), base.chain_id());
        }
    }
}
