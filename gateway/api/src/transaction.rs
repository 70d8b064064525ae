//! Quotes and signed transactions: how money is moved through the API.
//!
//! A quote returns the unsigned transaction, the caller signs it where its key is, and posts it
//! back. The gateway never holds an account's key.

use qlink_types::ids::{AccountId, ContentId, PackageId, TxId, ViewerKey};
use qlink_types::package::PackageTerms;
use qlink_types::units::{BlockHeight, Bytes, TimeMs, Units};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::money::Money;

/// An unsigned transaction with what it will cost and create.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Quote {
    /// The unsigned transaction's canonical bytes in hexadecimal: the input of `qlink tx sign`.
    pub unsigned_transaction: String,
    /// Its id, also after signing.
    #[schema(value_type = String)]
    pub transaction: TxId,
    /// What the ledger will charge.
    pub fee: Money,
    /// What goes into escrow besides the fee.
    pub deposit: Money,
    /// The package that a purchase creates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub package: Option<PackageId>,
    /// Things worth knowing before signing, in plain words.
    pub notes: Vec<String>,
}

/// A signed transaction.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// Its canonical bytes in hexadecimal: the output of `qlink tx sign`.
    pub transaction: String,
}

/// The answer to a submitted transaction: it is on its way, not yet final.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// Its id; ask `GET /v1/transactions/{id}`.
    #[schema(value_type = String)]
    pub transaction: TxId,
    /// `pending` until final.
    pub state: TransactionState,
    /// The package that a purchase creates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub package: Option<PackageId>,
    /// The content that a registration creates.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub content: Option<ContentId>,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// Known, not final.
    Pending,
    /// In a final block.
    Final,
    /// Not known.
    Unknown,
}

/// A transaction's state.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TransactionView {
    /// Its id.
    #[schema(value_type = String)]
    pub transaction: TxId,
    /// Where it is.
    pub state: TransactionState,
    /// Its block, once final.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub height: Option<BlockHeight>,
    /// `accepted` or the reason it had no effect, once final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Asks for a transfer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferQuoteRequest {
    /// Payer.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// Receiver.
    #[schema(value_type = String)]
    pub to: AccountId,
    /// How much.
    #[schema(value_type = String)]
    pub units: Units,
}

/// Asks for a content registration; the bytes must be at the gateway already.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentQuoteRequest {
    /// Registrant.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// The content.
    #[schema(value_type = String)]
    pub content: ContentId,
    /// Media type for people.
    #[serde(default)]
    pub media_type: String,
}

/// Asks for a package.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageQuoteRequest {
    /// Buyer.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// Terms; see the chain's package terms.
    #[schema(value_type = Object)]
    pub terms: PackageTerms,
}

/// Asks for a top-up.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TopUpQuoteRequest {
    /// Owner.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// Added volume.
    #[schema(value_type = String)]
    pub bytes: Bytes,
    /// Added reward.
    #[schema(value_type = String)]
    pub reward_units: Units,
    /// Added carriage of the operator.
    #[schema(value_type = String)]
    pub operator_units: Units,
    /// Added carriage of the BaseStation's owner.
    #[schema(value_type = String)]
    pub basestation_units: Units,
    /// Added carriage of the gateway.
    #[schema(value_type = String)]
    pub gateway_units: Units,
    /// New end of validity in milliseconds since 1970.
    #[schema(value_type = String)]
    pub valid_until: TimeMs,
}

/// Asks for a close.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseQuoteRequest {
    /// Owner.
    #[schema(value_type = String)]
    pub account: AccountId,
}

/// Asks for a claim of everything a viewer has earned.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimQuoteRequest {
    /// Package.
    #[schema(value_type = String)]
    pub package: PackageId,
    /// Viewer; its key signs.
    #[schema(value_type = String)]
    pub viewer: ViewerKey,
    /// Receiver.
    #[schema(value_type = String)]
    pub to: AccountId,
}
