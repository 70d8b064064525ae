//! A wallet's pseudonym in one package.

use qlink_types::ids::{AccountId, GatewayId, Hash32, PackageId, ViewerKey};
use qlink_types::receipt::{Receipt, ReceiptSigner, SignedReceipt};
use qlink_types::session::{Acceptance, SignedAcceptance};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{Sender, SignedTransaction, Transaction, TxBody};
use qlink_types::units::{Nonce, TimeMs, Units};

/// Derivation context of viewer keys; changing it changes every viewer's key.
const CONTEXT: &str = "qlink v1 viewer key per (wallet, package)";

/// The key pair by which a wallet appears in one package.
#[derive(Debug, Clone)]
pub struct Pseudonym {
    package: PackageId,
    key: SecretKey,
}

impl Pseudonym {
    /// Derives the pseudonym of `wallet` in `package`.
    #[must_use]
    pub fn derive(wallet: &SecretKey, package: PackageId) -> Self {
        let seed = wallet.derive_seed(CONTEXT, package.as_bytes());
        Self {
            package,
            key: SecretKey::from_seed(seed),
        }
    }

    /// What the chain shows.
    #[must_use]
    pub fn viewer(&self) -> ViewerKey {
        ViewerKey::from(self.key.public())
    }

    /// Accepts the package at `gateway` for sessions opened before `valid_until`.
    #[must_use]
    pub fn accept(
        &self,
        gateway: GatewayId,
        valid_until: TimeMs,
        nonce: Hash32,
        chain: &ChainId,
    ) -> SignedAcceptance {
        let acceptance = Acceptance {
            package: self.package,
            viewer: self.viewer(),
            gateway,
            valid_until,
            nonce,
        };
        SignedAcceptance::sign(acceptance, &self.key, chain)
    }

    /// Signs what this viewer received.
    #[must_use]
    pub fn sign_receipt(&self, receipt: Receipt, chain: &ChainId) -> SignedReceipt {
        SignedReceipt::sign(receipt, ReceiptSigner::Viewer, &self.key, chain)
    }

    /// Signs a transaction that this viewer sends.
    #[must_use]
    pub fn sign_transaction(&self, transaction: Transaction) -> SignedTransaction {
        transaction.sign(&self.key)
    }

    /// Claims everything earned so far, `total` units in all claims together, to an account.
    #[must_use]
    pub fn claim(&self, to: AccountId, total: Units, chain: ChainId) -> SignedTransaction {
        let transaction = Transaction {
            chain,
            sender: Sender::Viewer {
                viewer: self.viewer(),
            },
            nonce: Nonce::ZERO,
            max_fee: Units::ZERO,
            valid_until: TimeMs::ZERO,
            body: TxBody::Claim {
                package: self.package,
                to,
                total,
            },
        };
        self.sign_transaction(transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_packages_cannot_be_linked_to_one_wallet_by_their_keys() {
        let wallet = SecretKey::from_seed([5; 32]);
        let first = Pseudonym::derive(&wallet, PackageId::new([1; 16]));
        let second = Pseudonym::derive(&wallet, PackageId::new([2; 16]));

        assert_ne!(first.viewer(), second.viewer());
        assert_ne!(first.viewer(), ViewerKey::from(wallet.public()));
        let again = Pseudonym::derive(&wallet, PackageId::new([1; 16]));
        assert_eq!(again.viewer(), first.viewer());
    }

    #[test]
    fn an_acceptance_holds_only_unchanged() {
        let chain = ChainId::new([3; 32]);
        let wallet = SecretKey::from_seed([5; 32]);
        let viewer = Pseudonym::derive(&wallet, PackageId::new([1; 16]));
        let signed = viewer.accept(
            GatewayId::new([2; 16]),
            TimeMs::new(10),
            Hash32::ZERO,
            &chain,
        );

        let mut changed = signed.clone();
        changed.acceptance.package = PackageId::new([9; 16]);

        assert!(signed.verify(&chain).is_ok());
        assert!(changed.verify(&chain).is_err());
    }
}
