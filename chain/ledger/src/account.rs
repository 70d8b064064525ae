//! Accounts and the accounts that belong to the ledger itself.

use qlink_types::ids::AccountId;
use qlink_types::struct_codec;
use qlink_types::units::{Nonce, Units};
use serde::{Deserialize, Serialize};

use crate::row::{Held, Row, join};
use crate::state::Space;

/// What an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Units it may spend.
    pub balance: Units,
    /// The number its next transaction must carry.
    pub nonce: Nonce,
}

struct_codec!(Account { balance, nonce });

impl Row for Account {
    type Key = AccountId;
    const SPACE: Space = Space::Tree;

    fn key(key: &AccountId) -> Vec<u8> {
        join(b'a', &[key.as_bytes()])
    }

    fn listing_key(key: &AccountId) -> Option<Vec<u8>> {
        Some(join(b'A', &[key.as_bytes()]))
    }

    fn held(&self, key: &AccountId) -> Held {
        let mut held = Held::default();
        if *key == ModuleAccount::Bridge.id() {
            held.bridge = self.balance;
        } else if *key == ModuleAccount::Community.id() {
            held.community = self.balance;
        } else {
            held.accounts = self.balance;
        }
        held
    }
}

/// An account without a key, moved by the ledger alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleAccount {
    /// Holds every unit that has not come over from NEO.
    Bridge,
    /// Receives fees.
    Community,
}

/// BLAKE3 in key derivation mode, context `qlink/v1/module-account`, of `bridge`.
const BRIDGE: AccountId = AccountId::new([
    0x7d, 0xf0, 0x52, 0x63, 0x6d, 0x9f, 0x9b, 0xd5, 0x0a, 0x3a, 0x5d, 0x6c, 0x57, 0x5a, 0x92, 0x08,
    0x38, 0xe3, 0x71, 0xb3, 0x12, 0x73, 0x0e, 0x25, 0x2f, 0xb9, 0x99, 0x67, 0x1b, 0x67, 0xd0, 0x9e,
]);

/// The same of `community`.
const COMMUNITY: AccountId = AccountId::new([
    0x45, 0x83, 0x3a, 0x4f, 0x9f, 0xc8, 0xb5, 0x12, 0x21, 0x37, 0xf9, 0xef, 0xab, 0xe7, 0xc5, 0x5b,
    0x72, 0xcc, 0xa8, 0x41, 0x29, 0x08, 0x51, 0x09, 0xb1, 0x20, 0x99, 0x87, 0xba, 0xd6, 0xc2, 0x68,
]);

impl ModuleAccount {
    /// Its id: a hash of its name, so that nobody knows a key for it.
    #[must_use]
    pub const fn id(self) -> AccountId {
        match self {
            Self::Bridge => BRIDGE,
            Self::Community => COMMUNITY,
        }
    }

    /// Whether `account` must not act by a signature: the module accounts, and the zero id, for
    /// which anybody can sign because it is a curve point of small order.
    pub(crate) fn is_reserved(account: &AccountId) -> bool {
        account.is_zero() || *account == Self::Bridge.id() || *account == Self::Community.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_accounts_are_hashes_of_their_names() {
        for (module, name) in [
            (ModuleAccount::Bridge, "bridge"),
            (ModuleAccount::Community, "community"),
        ] {
            let hash = blake3::derive_key("qlink/v1/module-account", name.as_bytes());

            assert_eq!(hex::encode(module.id().as_bytes()), hex::encode(hash));
        }
    }
}
