//! Receipts: signed cumulative statements of a session's counters.

use serde::{Deserialize, Serialize};

use crate::codec::Encode as _;
use crate::ids::{GatewayId, PackageId, SessionId, ViewerKey};
use crate::signature::{ChainId, Domain, PublicKey, SecretKey, Signature, SignatureError};
use crate::units::{Bytes, Incarnation, PackageEpoch, TimeMs};
use crate::{struct_codec, tag_codec};

/// The classes of payload; every payload byte of a session is in exactly one.
///
/// `wire_payload` is the sum of the other seven. The first six only grow; `pending` is a gauge and
/// zero once every flow is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ByteClasses {
    /// All payload bytes that were forwarded, both directions: what is behind TCP and UDP headers, and
    /// behind the IP header for every other protocol.
    pub wire_payload: Bytes,
    /// Content bytes proven and acknowledged for the first time in this session.
    pub verified_unique: Bytes,
    /// Further copies of a stream position with the same bytes.
    pub retransmit: Bytes,
    /// Proven content bytes requested and delivered again.
    pub verified_repeat: Bytes,
    /// Heads and framing of a flow with verified bytes, within the allowance.
    pub overhead_allowed: Bytes,
    /// Proven content bytes that were never acknowledged.
    pub undelivered: Bytes,
    /// Everything else; the session's payer pays for it.
    pub user_charged: Bytes,
    /// Not yet decided.
    pub pending: Bytes,
}

struct_codec!(ByteClasses {
    wire_payload,
    verified_unique,
    retransmit,
    verified_repeat,
    overhead_allowed,
    undelivered,
    user_charged,
    pending,
});

impl ByteClasses {
    /// Whether the classes sum to the wire payload.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        let parts = [
            self.verified_unique,
            self.retransmit,
            self.verified_repeat,
            self.overhead_allowed,
            self.undelivered,
            self.user_charged,
            self.pending,
        ];
        let mut sum = Bytes::ZERO;
        for part in parts {
            let Ok(next) = sum.add(part) else {
                return false;
            };
            sum = next;
        }
        sum == self.wire_payload
    }
}

/// In which role a receipt was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptSigner {
    /// The gateway: content and network bytes.
    Gateway,
    /// The viewer: content bytes.
    Viewer,
    /// The BaseStation: network bytes.
    BaseStation,
}

tag_codec!(ReceiptSigner, "receipt signer", { Gateway = 1, Viewer = 2, BaseStation = 3 });

/// What a party states about a session so far, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Which session.
    pub session: SessionId,
    /// At which gateway.
    pub gateway: GatewayId,
    /// The gateway's counter start.
    pub incarnation: Incarnation,
    /// Number of this statement by this signer, rising.
    #[serde(with = "crate::text")]
    pub sequence: u64,
    /// The sponsoring package; zero: none.
    pub package: PackageId,
    /// Its terms.
    pub package_epoch: PackageEpoch,
    /// The viewer; zero: none.
    pub viewer: ViewerKey,
    /// Inner IP bytes from the subscriber.
    pub uplink_network_bytes: Bytes,
    /// Inner IP bytes to the subscriber.
    pub downlink_network_bytes: Bytes,
    /// Payload by class; a BaseStation leaves it zero, a viewer states `verified_unique` only.
    pub classes: ByteClasses,
    /// When it was stated.
    pub stated_at: TimeMs,
}

struct_codec!(Receipt {
    session,
    gateway,
    incarnation,
    sequence,
    package,
    package_epoch,
    viewer,
    uplink_network_bytes,
    downlink_network_bytes,
    classes,
    stated_at,
});

/// A receipt with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The statement.
    pub receipt: Receipt,
    /// The signer's role.
    pub signer: ReceiptSigner,
    /// The signer's key.
    pub key: PublicKey,
    /// Over role and statement.
    pub signature: Signature,
}

struct_codec!(SignedReceipt {
    receipt,
    signer,
    key,
    signature
});

impl SignedReceipt {
    /// Signs `receipt` in the role `signer`.
    #[must_use]
    pub fn sign(receipt: Receipt, signer: ReceiptSigner, key: &SecretKey, chain: &ChainId) -> Self {
        let signature = key.sign(Domain::Receipt, chain, &Self::payload(&receipt, signer));
        Self {
            receipt,
            signer,
            key: key.public(),
            signature,
        }
    }

    /// Checks the signature against the key in the receipt. Whether that key is the session's is
    /// the caller's question.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when it does not hold.
    pub fn verify(&self, chain: &ChainId) -> Result<(), SignatureError> {
        let payload = Self::payload(&self.receipt, self.signer);
        self.key
            .verify_off_chain(Domain::Receipt, chain, &payload, &self.signature)
    }

    fn payload(receipt: &Receipt, signer: ReceiptSigner) -> Vec<u8> {
        let mut payload = signer.to_bytes();
        receipt.encode(&mut payload);
        payload
    }
}
