//! An asset registry in one journal file.
//!
//! The file is a journal of `qlink-operator` (checked records, durable before `append` returns,
//! torn tail cut at open). Each record is one JSON object:
//!
//! ```text
//! record 0   {"magic":"qlink-local-registry","version":1}
//! record n   {"registered":{"kind","identity","owner","configuration"}}
//!          | {"activated":{"token"}} | {"revoked":{"token"}}
//! ```
//!
//! Invariant: the assets in memory are what the records, applied in order, give; a refused call
//! writes nothing. Assets are never removed, and an identity keeps its first owner for ever.

use std::collections::BTreeMap;
use std::path::Path;

use qlink_client::asset::{Asset, AssetRegistration, AssetRegistry, AssetState};
use qlink_operator::{FileJournal, Journal as _, JournalError};
use qlink_types::ids::{AccountId, Hash32};
use serde::{Deserialize, Serialize};

/// Version of the records that this build reads and writes.
pub const REGISTRY_VERSION: u32 = 1;
/// Most assets of one registry; chosen: about 400 MB of journal, far above any local network.
pub const ASSETS_MAX: usize = 1 << 20;

const MAGIC: &str = "qlink-local-registry";
const TOKEN_CONTEXT: &str = "qlink v1 local registry token";

/// Why the registry cannot be opened, or refused a call.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Its journal cannot be opened or written.
    #[error("the registry's journal failed")]
    Journal(#[from] JournalError),
    /// The journal belongs to something else.
    #[error("the journal is not a local asset registry")]
    NotARegistry,
    /// A newer release wrote it; nothing was changed. The shell exits 64.
    #[error("the registry has version {found}, this build knows {REGISTRY_VERSION}")]
    NewerVersion {
        /// Version in its first record.
        found: u32,
    },
    /// A whole record does not read, or does not follow from those before it.
    #[error("record {number} of the registry is not valid")]
    InvalidRecord {
        /// Its number in the journal, from 0.
        number: u64,
    },
    /// A record could not be written as JSON.
    #[error("the record cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// The identity stands under another owner.
    #[error("identity {identity} is registered by {owner}")]
    IdentityTaken {
        /// Which identity.
        identity: Hash32,
        /// Who registered it first.
        owner: AccountId,
    },
    /// No asset has this token.
    #[error("no asset has token {token}")]
    UnknownAsset {
        /// What was asked for.
        token: Hash32,
    },
    /// The asset is out of use for ever.
    #[error("asset {token} is revoked")]
    Revoked {
        /// Which asset.
        token: Hash32,
    },
    /// The registry is full.
    #[error("the registry holds {ASSETS_MAX} assets and takes no more")]
    Full,
}

/// First record of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    magic: String,
    version: u32,
}

/// Every later record: one thing that happened.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Record {
    Registered(AssetRegistration),
    Activated { token: Hash32 },
    Revoked { token: Hash32 },
}

/// Telecom assets of a local network, kept in one file; not connected to NEO.
///
/// One process holds the file at a time.
#[derive(Debug)]
pub struct LocalRegistry {
    journal: FileJournal,
    assets: Assets,
}

impl LocalRegistry {
    /// Opens the registry at `path`, or creates it.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Journal`], `NotARegistry`, `NewerVersion` and `InvalidRecord`; the file's
    /// whole records are untouched then.
    pub fn open(path: &Path) -> Result<Self, RegistryError> {
        let opened = FileJournal::open(path)?;
        let mut registry = Self {
            journal: opened.journal,
            assets: Assets::default(),
        };
        let Some((first, rest)) = opened.records.split_first() else {
            registry.write(&Header {
                magic: MAGIC.to_owned(),
                version: REGISTRY_VERSION,
            })?;
            return Ok(registry);
        };
        check_header(first)?;
        for (number, bytes) in (1..).zip(rest) {
            let invalid = || RegistryError::InvalidRecord { number };
            let record = serde_json::from_slice(bytes).map_err(|_| invalid())?;
            registry.assets.apply(record).ok_or_else(invalid)?;
        }
        Ok(registry)
    }

    /// All assets, oldest first.
    #[must_use]
    pub fn assets(&self) -> &[Asset] {
        &self.assets.list
    }

    /// Takes an asset out of use for ever; its identity and token are never used again.
    ///
    /// # Errors
    ///
    /// [`RegistryError::UnknownAsset`], or the journal failed.
    pub fn revoke(&mut self, token: &Hash32) -> Result<Asset, RegistryError> {
        let asset = self.known(token)?;
        if asset.state == AssetState::Revoked {
            return Ok(asset.clone());
        }
        self.commit(Record::Revoked { token: *token })
    }

    fn known(&self, token: &Hash32) -> Result<&Asset, RegistryError> {
        self.assets
            .get(token)
            .ok_or(RegistryError::UnknownAsset { token: *token })
    }

    /// Makes a record durable, then effective.
    fn commit(&mut self, record: Record) -> Result<Asset, RegistryError> {
        let number = self.write(&record)?;
        self.assets
            .apply(record)
            .ok_or(RegistryError::InvalidRecord { number })
    }

    fn write(&mut self, record: &impl Serialize) -> Result<u64, RegistryError> {
        let payload = serde_json::to_vec(record).map_err(RegistryError::Encode)?;
        Ok(self.journal.append(&payload)?)
    }
}

impl AssetRegistry for LocalRegistry {
    type Error = RegistryError;

    fn description(&self) -> &'static str {
        "local registry of this network, not NEO: its assets exist in one file on this machine"
    }

    fn register(&mut self, registration: &AssetRegistration) -> Result<Asset, RegistryError> {
        let token = token_of(&registration.identity);
        if let Some(asset) = self.assets.get(&token) {
            let owner = asset.registration.owner;
            if owner != registration.owner {
                let identity = registration.identity;
                return Err(RegistryError::IdentityTaken { identity, owner });
            }
            return Ok(asset.clone());
        }
        if self.assets.list.len() >= ASSETS_MAX {
            return Err(RegistryError::Full);
        }
        self.commit(Record::Registered(registration.clone()))
    }

    fn activate(&mut self, token: &Hash32) -> Result<Asset, RegistryError> {
        let asset = self.known(token)?;
        match asset.state {
            AssetState::Active => Ok(asset.clone()),
            AssetState::Revoked => Err(RegistryError::Revoked { token: *token }),
            AssetState::Pending => self.commit(Record::Activated { token: *token }),
        }
    }

    fn asset(&self, token: &Hash32) -> Result<Option<Asset>, RegistryError> {
        Ok(self.assets.get(token).cloned())
    }
}

/// What the records say so far.
#[derive(Debug, Default)]
struct Assets {
    list: Vec<Asset>,
    by_token: BTreeMap<Hash32, usize>,
}

impl Assets {
    fn get(&self, token: &Hash32) -> Option<&Asset> {
        self.list.get(*self.by_token.get(token)?)
    }

    /// Applies one record and gives the asset it touched; `None` when it does not follow from the
    /// records before it, and then nothing changed.
    fn apply(&mut self, record: Record) -> Option<Asset> {
        match record {
            Record::Registered(registration) => self.add(registration),
            Record::Activated { token } => {
                self.step(&token, AssetState::Pending, AssetState::Active)
            }
            Record::Revoked { token } => {
                let state = self.get(&token)?.state;
                if state == AssetState::Revoked {
                    return None;
                }
                self.step(&token, state, AssetState::Revoked)
            }
        }
    }

    fn add(&mut self, registration: AssetRegistration) -> Option<Asset> {
        let token = token_of(&registration.identity);
        let index = self.list.len();
        if self.by_token.contains_key(&token) || index >= ASSETS_MAX {
            return None;
        }
        let asset = Asset {
            token,
            registration_index: u64::try_from(index).ok()?,
            registration,
            state: AssetState::Pending,
        };
        self.by_token.insert(token, index);
        self.list.push(asset.clone());
        Some(asset)
    }

    fn step(&mut self, token: &Hash32, from: AssetState, to: AssetState) -> Option<Asset> {
        let asset = self.list.get_mut(*self.by_token.get(token)?)?;
        if asset.state != from {
            return None;
        }
        asset.state = to;
        Some(asset.clone())
    }
}

fn check_header(payload: &[u8]) -> Result<(), RegistryError> {
    let header: Header =
        serde_json::from_slice(payload).map_err(|_| RegistryError::NotARegistry)?;
    if header.magic != MAGIC || header.version == 0 {
        return Err(RegistryError::NotARegistry);
    }
    if header.version > REGISTRY_VERSION {
        return Err(RegistryError::NewerVersion {
            found: header.version,
        });
    }
    Ok(())
}

/// An asset's token: fixed by its identity, so a caller may know it before registering.
fn token_of(identity: &Hash32) -> Hash32 {
    Hash32::new(blake3::derive_key(TOKEN_CONTEXT, identity.as_bytes()))
}
