//! Answers of a node's RPC: one definition for the node that writes them and the clients that read
//! them. Every integer is a string.

use qlink_ledger::{Package, SupplyRow, ViewerRow};
use qlink_types::block::{Certificate, Header};
use qlink_types::ids::{AccountId, BlockId, ContentId, Hash32, PackageId, TxId, ViewerKey};
use qlink_types::outcome::{Event, TxReceipt};
use qlink_types::package::PackageTerms;
use qlink_types::signature::{ChainId, PublicKey};
use qlink_types::transaction::{Party, SignedTransaction};
use qlink_types::units::{BlockHeight, Bytes, Nonce, TimeMs, Units};
use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The chain.
    pub chain_id: ChainId,
    /// Its name.
    pub name: String,
    /// Whether development accounts were funded without a deposit on NEO.
    pub unbacked: bool,
    /// The engine: `solo`.
    pub orderer: String,
    /// Number of seats.
    #[serde(with = "qlink_types::text")]
    pub validators: u32,
    /// Height of the newest block.
    pub height: BlockHeight,
    /// Height of the newest final block.
    pub final_height: BlockHeight,
    /// Root of the state tree after the newest final block.
    pub state_root: Hash32,
    /// Ledger time of the newest final block.
    pub time_ms: TimeMs,
    /// The same as RFC 3339.
    pub time: String,
    /// All units over all accounts, escrows and pools.
    pub supply_units: Units,
}

/// `GET /v1/accounts/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountAnswer {
    /// Its id.
    pub account: AccountId,
    /// What it holds.
    pub balance_units: Units,
    /// Its next transaction's number.
    pub nonce: Nonce,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// `GET /v1/contents/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentAnswer {
    /// Its id.
    pub content: ContentId,
    /// First registrant.
    pub owner: AccountId,
    /// Length.
    pub size: Bytes,
    /// SHA-256 of its bytes.
    pub sha256: Hash32,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// `GET /v1/packages/{id}`, and a row of `GET /v1/packages`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageAnswer {
    /// Its id.
    pub package: PackageId,
    /// Terms as bought.
    pub terms: PackageTerms,
    /// State and totals.
    pub ledger: Package,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// A row of `GET /v1/packages/{id}/viewers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerAnswer {
    /// Its key; zero: the package's `unclaimed` line.
    pub viewer: ViewerKey,
    /// Bytes under all terms.
    pub bytes: Bytes,
    /// Reward earned under all terms.
    pub earned_units: Units,
    /// Reward claimed.
    pub claimed_units: Units,
}

impl ViewerAnswer {
    /// A viewer's row as the RPC shows it.
    #[must_use]
    pub fn new(viewer: ViewerKey, row: &ViewerRow) -> Self {
        Self {
            viewer,
            bytes: row.bytes_total(),
            earned_units: row.earned(),
            claimed_units: row.earned().saturating_sub(row.claimable()),
        }
    }
}

/// `GET /v1/parties/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyAnswer {
    /// Which.
    pub party: Party,
    /// Whose.
    pub owner: AccountId,
    /// Its current key.
    pub key: PublicKey,
    /// The asset on NEO behind it; zero: none.
    pub asset: Hash32,
    /// Name for people.
    pub name: String,
    /// Sequence of a gateway's last batch; zero before the first.
    #[serde(with = "qlink_types::text")]
    pub batch_sequence: u64,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// `POST /v1/transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// Canonical bytes of the signed transaction in hexadecimal.
    pub transaction: String,
}

/// Answer to `POST /v1/transactions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitAnswer {
    /// Its id.
    pub id: TxId,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// Admitted, not final.
    Pending,
    /// In a final block.
    Final,
    /// Not known.
    Unknown,
}

/// `GET /v1/transactions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionAnswer {
    /// Its id.
    pub id: TxId,
    /// Where it is.
    pub state: TransactionState,
    /// Its block, once final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<BlockHeight>,
    /// What it did, once final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<TxReceipt>,
}

/// `GET /v1/blocks/{height}`, a row of `GET /v1/blocks`, and a line of `qlink chain export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockAnswer {
    /// Its id.
    pub id: BlockId,
    /// Its header.
    pub header: Header,
    /// Proof of finality.
    pub certificate: Certificate,
    /// Its transactions.
    pub transactions: Vec<SignedTransaction>,
    /// What they did; a leading receipt with transaction zero is the ledger's own work.
    pub receipts: Vec<TxReceipt>,
}

/// A finalized event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventAnswer {
    /// Its place: opaque, and sorted as text in the order of events.
    pub cursor: String,
    /// Its block.
    pub height: BlockHeight,
    /// Ledger time of its block.
    pub time_ms: TimeMs,
    /// The transaction that caused it; zero: the ledger itself.
    pub transaction: TxId,
    /// What happened.
    pub event: Event,
}

/// `GET /v1/supply`; `?audit=true` counts every row again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplyAnswer {
    /// All units that exist.
    pub supply_units: Units,
    /// Where they are.
    pub lines: SupplyRow,
    /// Whether a recount of every row found the same, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_is_clean: Option<bool>,
    /// The final block this was read at.
    pub as_of_height: BlockHeight,
}

/// `GET /v1/proofs/account/{id}?height=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofAnswer {
    /// Whose row.
    pub account: AccountId,
    /// The state after this block.
    pub height: BlockHeight,
    /// Its root; the header of the next block carries it as `state_root_prev`.
    pub root: Hash32,
    /// The state key in hexadecimal.
    pub key: String,
    /// The row in hexadecimal; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The path from row to root (jmt, borsh) in hexadecimal.
    pub proof: String,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageAnswer<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Whether more follow at present.
    pub has_more: bool,
    /// The next request's `after`; absent when there is no row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
