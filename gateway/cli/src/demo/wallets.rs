//! Keys of everybody in the demo, derived from its seed: a development network, not a secret.

use qlink_types::ids::AccountId;
use qlink_types::signature::SecretKey;

/// Maker of keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wallets {
    seed: u64,
}

impl Wallets {
    /// Keys of this seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed of the key of `name`.
    pub(crate) fn seed_of(self, name: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("qlink development network key");
        hasher.update(&self.seed.to_be_bytes());
        hasher.update(name.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The key of `name`.
    pub(crate) fn key(self, name: &str) -> SecretKey {
        SecretKey::from_seed(self.seed_of(name))
    }

    /// The account of `name`.
    pub(crate) fn account(self, name: &str) -> AccountId {
        AccountId::from(self.key(name).public())
    }
}
