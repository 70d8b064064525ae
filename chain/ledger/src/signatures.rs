//! Signatures of a block's transactions.
//!
//! The whole block is checked by one batch equation first; only when that fails are transactions
//! checked one by one. ZIP-215 gives both the same answer.

use qlink_types::codec::Encode as _;
use qlink_types::ids::GatewayId;
use qlink_types::signature::{Claim, Domain, PublicKey, verify_all_on_chain};
use qlink_types::transaction::{Party, Sender, SignedTransaction};

use crate::apply::SignatureCheck;
use crate::state::StateError;
use crate::working::WorkingSet;

/// The key under which a transaction's signature is known to hold, if any.
pub(crate) type KnownKey = Option<PublicKey>;

/// Checks what can be checked before the first transaction runs. A gateway's key may change inside
/// the block, so the result is compared with the key at the time of execution.
pub(crate) fn verify_block(
    set: &mut WorkingSet<'_>,
    transactions: &[SignedTransaction],
    check: SignatureCheck,
) -> Result<Vec<KnownKey>, StateError> {
    let mut keys = Vec::with_capacity(transactions.len());
    for transaction in transactions {
        keys.push(match transaction.transaction.sender {
            Sender::Account { account } => Some(account.into()),
            Sender::Viewer { viewer } => Some(viewer.into()),
            Sender::Gateway { gateway } if check == SignatureCheck::Check => {
                gateway_key(set, gateway)?
            }
            Sender::Gateway { .. } => None,
        });
    }
    if check == SignatureCheck::AlreadyVerified || all_hold(set, transactions, &keys) {
        return Ok(keys);
    }
    let single = |(transaction, key): (&SignedTransaction, KnownKey)| {
        key.filter(|key| signature_holds(transaction, *key))
    };
    Ok(transactions.iter().zip(keys).map(single).collect())
}

fn gateway_key(set: &mut WorkingSet<'_>, gateway: GatewayId) -> Result<KnownKey, StateError> {
    let handle = set.parties.load(set.state, &Party::Gateway { gateway })?;
    Ok(set.parties.get(handle).map(|party| party.key))
}

fn all_hold(set: &WorkingSet<'_>, transactions: &[SignedTransaction], keys: &[KnownKey]) -> bool {
    let chain = set.context.chain;
    // A transaction for another chain is refused before its signature matters.
    let wanted = || {
        transactions
            .iter()
            .zip(keys)
            .filter(|(signed, _)| signed.transaction.chain == chain)
            .filter_map(|(signed, key)| key.map(|key| (signed, key)))
    };
    let payloads: Vec<Vec<u8>> = wanted()
        .map(|(signed, _)| signed.transaction.to_bytes())
        .collect();
    let claims: Vec<Claim<'_>> = wanted()
        .zip(&payloads)
        .map(|((signed, key), payload)| Claim {
            key,
            domain: Domain::Transaction,
            payload,
            signature: signed.signature,
        })
        .collect();
    claims.is_empty() || verify_all_on_chain(&chain, &claims)
}

/// Whether the signature holds for `key`.
pub(crate) fn signature_holds(signed: &SignedTransaction, key: PublicKey) -> bool {
    key.verify_on_chain(
        Domain::Transaction,
        &signed.transaction.chain,
        &signed.transaction.to_bytes(),
        &signed.signature,
    )
    .is_ok()
}
