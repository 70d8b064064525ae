//! Answers about candidates, seats and stake.

use qlink_ledger::{Candidate, SeatsRow, StakeView, WaitingStake};
use qlink_types::ids::AccountId;
use qlink_types::units::{BlockHeight, Units};
use serde::{Deserialize, Serialize};

/// `GET /v1/candidates/{id}`, and a row of `GET /v1/candidates`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateAnswer {
    /// Its account.
    pub candidate: AccountId,
    /// Its place if there were an election now, from 1; absent when it cannot be elected.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_text"
    )]
    pub rank: Option<u32>,
    /// What it would weigh.
    pub weight_units: Units,
    /// What the ledger holds about it.
    pub ledger: Candidate,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// `GET /v1/seats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatsAnswer {
    /// Who sits and who comes next; nobody means the seats of the genesis.
    pub ledger: SeatsRow,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// What an account has behind one candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StakeRow {
    /// Which candidate; the account itself for self-stake.
    pub candidate: AccountId,
    /// What the stake is worth, and what it has earned.
    #[serde(flatten)]
    pub stake: StakeView,
}

/// `GET /v1/accounts/{id}/stakes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StakesAnswer {
    /// Whose.
    pub account: AccountId,
    /// Self-stake and votes.
    pub stakes: Vec<StakeRow>,
    /// Stake on its way back, the next first; the first 1,000 rows of the account.
    pub waiting: Vec<WaitingStake>,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// An optional integer as text.
mod optional_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the shape that serde's `with` calls")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u32>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}
