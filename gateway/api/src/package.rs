//! Packages, contents and accounts as the API shows them.

use qlink_types::ids::{AccountId, ContentId, PackageId};
use qlink_types::package::{PackageState, PackageTerms};
use qlink_types::units::{BlockHeight, Bytes, Nonce, PackageEpoch};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::money::Money;

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// What it holds.
    pub balance: Money,
    /// Its next transaction's number.
    #[schema(value_type = String)]
    pub nonce: Nonce,
    /// The final block this was read at.
    #[schema(value_type = String)]
    pub as_of_height: BlockHeight,
}

/// A content.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ContentView {
    /// BLAKE3 root, `b3:<hex>`.
    #[schema(value_type = String)]
    pub content: ContentId,
    /// Short id, `cnt_` and the root's first 128 bits.
    pub id: String,
    /// Length.
    #[schema(value_type = String)]
    pub size: Bytes,
    /// First registrant; absent while only the bytes are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub owner: Option<AccountId>,
    /// `stored` (bytes here, not registered) or `registered`.
    pub state: ContentState,
    /// Whether this gateway holds a verified copy.
    pub copy_here: bool,
    /// The final block this was read at.
    #[schema(value_type = String)]
    pub as_of_height: BlockHeight,
}

/// Where a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentState {
    /// The bytes are at this gateway; the chain does not know them.
    Stored,
    /// The chain knows it.
    Registered,
}

/// A package.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PackageView {
    /// Its id.
    #[schema(value_type = String)]
    pub package: PackageId,
    /// Who bought it.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// `open`, `rolling_over`, `closing` or `closed`.
    #[schema(value_type = String)]
    pub state: PackageState,
    /// Running terms.
    #[schema(value_type = String)]
    pub package_epoch: PackageEpoch,
    /// Terms as bought.
    #[schema(value_type = Object)]
    pub terms: PackageTerms,
    /// Bytes used under the running terms, as settled on the chain.
    #[schema(value_type = String)]
    pub used_bytes: Bytes,
    /// Bytes that open sessions at this gateway have reserved and not yet settled.
    #[schema(value_type = String)]
    pub reserved_bytes: Bytes,
    /// Reward moved under the running terms.
    pub moved: Money,
    /// Where the rest went, once closed.
    pub refund: Money,
    /// The final block this was read at.
    #[schema(value_type = String)]
    pub as_of_height: BlockHeight,
}

/// The ratio equation of a package's running terms: used / volume = moved / reward.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RatioView {
    /// Which package.
    #[schema(value_type = String)]
    pub package: PackageId,
    /// Which terms.
    #[schema(value_type = String)]
    pub package_epoch: PackageEpoch,
    /// Bytes used.
    #[schema(value_type = String)]
    pub used_bytes: Bytes,
    /// Bytes bought.
    #[schema(value_type = String)]
    pub volume_bytes: Bytes,
    /// Reward moved.
    pub moved: Money,
    /// Reward put in.
    pub reward: Money,
    /// Rounded down over all viewers together; `moved` may be less by leftover units until close.
    pub owed: Money,
    /// In words, for people.
    pub equation: String,
    /// The final block this was read at.
    #[schema(value_type = String)]
    pub as_of_height: BlockHeight,
}
