//! Port: the registry of telecom assets. The bridge to NEO implements it; so does the local
//! registry of demo and dev networks.

use qlink_types::ids::{AccountId, Hash32};
use serde::{Deserialize, Serialize};

/// Kinds of telecom assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssetKind {
    /// A shared Wi-Fi access point.
    Hotspot,
    /// A BaseStation.
    Basestation,
    /// A mobile operator's base station.
    OperatorBasestation,
    /// A data package as an asset.
    DataPackage,
    /// An SMS package.
    SmsPackage,
    /// A VPN service.
    Vpn,
    /// A voice service.
    Voice,
    /// A quality-of-service class.
    Qos,
}

/// Whether an asset is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssetState {
    /// Registered, not yet confirmed; it earns nothing.
    Pending,
    /// Confirmed.
    Active,
    /// Out of use; its id is never used again.
    Revoked,
}

/// What is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetRegistration {
    /// Its kind.
    pub kind: AssetKind,
    /// Immutable identity: a hash over what makes it this asset and no other.
    pub identity: Hash32,
    /// Its owner's account.
    pub owner: AccountId,
    /// Salted commitment to its configuration.
    pub configuration: Hash32,
}

/// A registered asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asset {
    /// The registry's id for it.
    pub token: Hash32,
    /// Number of its registration in the registry, from 0.
    #[serde(with = "qlink_types::text")]
    pub registration_index: u64,
    /// What was registered.
    pub registration: AssetRegistration,
    /// Whether it is confirmed.
    pub state: AssetState,
}

/// A registry of assets.
pub trait AssetRegistry {
    /// Why a call failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// What the registry is, for people: its answer says whether it is backed by NEO.
    fn description(&self) -> &str;

    /// Registers an asset. The same identity again gives the same asset.
    ///
    /// # Errors
    ///
    /// When the identity is taken by another owner, or the registry cannot be written.
    fn register(&mut self, registration: &AssetRegistration) -> Result<Asset, Self::Error>;

    /// Confirms a pending asset.
    ///
    /// # Errors
    ///
    /// When there is no such asset, it is revoked, or the registry cannot be written.
    fn activate(&mut self, token: &Hash32) -> Result<Asset, Self::Error>;

    /// An asset by its id.
    ///
    /// # Errors
    ///
    /// When the registry cannot be read.
    fn asset(&self, token: &Hash32) -> Result<Option<Asset>, Self::Error>;
}
