//! Domain-tagged hashes and signatures.
//!
//! Two rules, never mixed:
//! - What the chain judges (transactions, batches, certificates) is checked by **ZIP-215**, which
//!   gives one answer for single and batch verification. Crate: `ed25519-consensus`.
//! - What parties show each other off the chain (session opens, acceptances, receipts) is checked
//!   by `verify_strict` of `ed25519-dalek`, which also refuses small-order keys.
//!
//! A signed message is `"qlink/v1/<domain>" || 0x00 || chain id || payload`, so a signature for one
//! purpose, or for one chain, is worthless for another.

use std::fmt;

use ed25519_dalek::Signer as _;
use rand_chacha_03::ChaCha20Rng;
use rand_core_06::SeedableRng as _;
use serde::{Deserialize, Serialize};

use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::ids::Hash32;

/// Names a chain: the BLAKE3 hash of its genesis, or a chosen value for a development chain.
pub type ChainId = Hash32;

/// What a signature or hash is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// A transaction.
    Transaction,
    /// A block header.
    Header,
    /// A seat's vote for a block.
    Certificate,
    /// A key's proof that its owner holds the secret.
    KeyProof,
    /// A batch of ratio records.
    Batch,
    /// A BaseStation's request to open a session.
    SessionOpen,
    /// A viewer's acceptance of a package.
    Acceptance,
    /// A receipt.
    Receipt,
    /// A period statement of an operator's settlement.
    Statement,
    /// A BaseStation's tunnel key.
    TunnelKey,
    /// A gateway's answer to it.
    TunnelGrant,
    /// A gateway's ruling on who may come through its tunnel.
    TunnelRuling,
}

impl Domain {
    /// The text that stands in front of every message of this domain.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Transaction => "qlink/v1/transaction",
            Self::Header => "qlink/v1/header",
            Self::Certificate => "qlink/v1/certificate",
            Self::KeyProof => "qlink/v1/key-proof",
            Self::Batch => "qlink/v1/batch",
            Self::SessionOpen => "qlink/v1/session-open",
            Self::Acceptance => "qlink/v1/acceptance",
            Self::Receipt => "qlink/v1/receipt",
            Self::Statement => "qlink/v1/statement",
            Self::TunnelKey => "qlink/v1/tunnel-key",
            Self::TunnelGrant => "qlink/v1/tunnel-grant",
            Self::TunnelRuling => "qlink/v1/tunnel-ruling",
        }
    }

    /// The bytes that are signed for `payload`.
    #[must_use]
    pub fn message(self, chain: &ChainId, payload: &[u8]) -> Vec<u8> {
        let tag = self.tag().as_bytes();
        let mut message =
            Vec::with_capacity(tag.len().saturating_add(33).saturating_add(payload.len()));
        message.extend_from_slice(tag);
        message.push(0);
        message.extend_from_slice(chain.as_bytes());
        message.extend_from_slice(payload);
        message
    }

    /// BLAKE3 of `payload` under this domain's key derivation context.
    #[must_use]
    pub fn hash(self, payload: &[u8]) -> Hash32 {
        let mut hasher = blake3::Hasher::new_derive_key(self.tag());
        hasher.update(payload);
        Hash32::new(*hasher.finalize().as_bytes())
    }
}

/// An ed25519 public key.
///
/// Source: RFC 8032 §5.1.5.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// From its 32 bytes; whether they are a curve point shows at the first verification.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks an on-chain signature by ZIP-215.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when the key is no point or the signature does not hold.
    pub fn verify_on_chain(
        &self,
        domain: Domain,
        chain: &ChainId,
        payload: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        self.verify_framed_on_chain(&domain.message(chain, payload), signature)
    }

    /// Checks an on-chain signature by ZIP-215 over a message that carries its own frame: a
    /// consensus engine's vote. Everything else goes through [`Self::verify_on_chain`].
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when the key is no point or the signature does not hold.
    pub fn verify_framed_on_chain(
        &self,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let key = ed25519_consensus::VerificationKey::try_from(self.0)
            .map_err(|_| SignatureError::Key { key: *self })?;
        let signature = ed25519_consensus::Signature::from(signature.0);
        key.verify(&signature, message)
            .map_err(|_| SignatureError::Mismatch { key: *self })
    }

    /// Checks an off-chain signature strictly.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when the key is no point or weak, or the signature does not hold.
    pub fn verify_off_chain(
        &self,
        domain: Domain,
        chain: &ChainId,
        payload: &[u8],
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .map_err(|_| SignatureError::Key { key: *self })?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&domain.message(chain, payload), &signature)
            .map_err(|_| SignatureError::Mismatch { key: *self })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ed25519:")?;
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for PublicKey {
    type Err = DecodeError;
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("ed25519:");
        match digits.map(|digits| hex::decode_to_slice(digits, &mut bytes)) {
            Some(Ok(())) => Ok(Self(bytes)),
            _ => Err(DecodeError::Invalid {
                what: "public key 'ed25519:<64 hex digits>'",
            }),
        }
    }
}

impl Encode for PublicKey {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for PublicKey {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.take_array().map(Self)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An ed25519 signature; in JSON 128 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// From its 64 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Encode for Signature {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Signature {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.take_array().map(Self)
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key is not a usable curve point.
    #[error("{key} is not a usable public key")]
    Key {
        /// The key in question.
        key: PublicKey,
    },
    /// Key, message and signature do not belong together.
    #[error("signature does not match key {key} and message")]
    Mismatch {
        /// The key that was expected to have signed.
        key: PublicKey,
    },
}

/// An ed25519 secret key. It has no text form and its memory is cleared when dropped.
#[derive(Clone)]
pub struct SecretKey(ed25519_dalek::SigningKey);

impl SecretKey {
    /// From a 32-byte seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The seed that it was made from: for handing it to a consensus engine, which signs by itself.
    /// Whoever holds it clears it.
    #[must_use]
    pub fn expose_seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `payload` for one purpose on one chain.
    #[must_use]
    pub fn sign(&self, domain: Domain, chain: &ChainId, payload: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.message(chain, payload)).to_bytes())
    }

    /// A 32-byte secret derived from this key for `context`, for example a viewer key's seed.
    #[must_use]
    pub fn derive_seed(&self, context: &'static str, material: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(self.0.as_bytes());
        hasher.update(material);
        *hasher.finalize().as_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(public {})", self.public())
    }
}

/// One signature of a [`verify_all_on_chain`] call.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// Who is said to have signed.
    pub key: PublicKey,
    /// For which purpose.
    pub domain: Domain,
    /// Which bytes.
    pub payload: &'a [u8],
    /// The signature.
    pub signature: Signature,
}

/// Checks many on-chain signatures together: true exactly when each of them would pass
/// [`PublicKey::verify_on_chain`].
///
/// The batch equation needs weights that a signer cannot foresee. They are drawn from a generator
/// seeded with a hash over all claims, so the check is a function of its input alone.
#[must_use]
pub fn verify_all_on_chain(chain: &ChainId, claims: &[Claim<'_>]) -> bool {
    let mut seed = blake3::Hasher::new_derive_key("qlink/v1/batch-verification-weights");
    let mut verifier = ed25519_consensus::batch::Verifier::new();
    for claim in claims {
        let message = claim.domain.message(chain, claim.payload);
        seed.update(&claim.key.0);
        seed.update(&claim.signature.0);
        seed.update(blake3::hash(&message).as_bytes());
        let key = ed25519_consensus::VerificationKeyBytes::from(claim.key.0);
        let signature = ed25519_consensus::Signature::from(claim.signature.0);
        verifier.queue((key, signature, &message));
    }
    let weights = ChaCha20Rng::from_seed(*seed.finalize().as_bytes());
    verifier.verify(weights).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: ChainId = ChainId::new([9; 32]);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    #[test]
    fn a_signature_is_bound_to_domain_chain_and_payload() {
        let signature = key(1).sign(Domain::Transaction, &CHAIN, b"pay");
        let public = key(1).public();

        assert!(
            public
                .verify_on_chain(Domain::Transaction, &CHAIN, b"pay", &signature)
                .is_ok()
        );
        assert!(
            public
                .verify_off_chain(Domain::Transaction, &CHAIN, b"pay", &signature)
                .is_ok()
        );
        assert!(
            public
                .verify_on_chain(Domain::Receipt, &CHAIN, b"pay", &signature)
                .is_err()
        );
        assert!(
            public
                .verify_on_chain(Domain::Transaction, &CHAIN, b"pat", &signature)
                .is_err()
        );
        let other_chain = ChainId::new([8; 32]);
        assert!(
            public
                .verify_on_chain(Domain::Transaction, &other_chain, b"pay", &signature)
                .is_err()
        );
    }

    #[test]
    fn one_bad_signature_spoils_a_batch() {
        let payloads: Vec<[u8; 1]> = (0..20).map(|n| [n]).collect();
        let mut claims: Vec<Claim<'_>> = payloads
            .iter()
            .map(|payload| Claim {
                key: key(payload[0]).public(),
                domain: Domain::Batch,
                payload,
                signature: key(payload[0]).sign(Domain::Batch, &CHAIN, payload),
            })
            .collect();
        assert!(verify_all_on_chain(&CHAIN, &claims));

        claims[7].signature = claims[8].signature;

        assert!(!verify_all_on_chain(&CHAIN, &claims));
    }

    /// The identity point as key with a signature of R = identity, s = 0 passes under ZIP-215
    /// (cofactored) for every message, alone and in a batch, and never off-chain.
    #[test]
    fn small_order_keys_get_one_answer_on_chain_and_are_refused_off_chain() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let public = PublicKey::new(identity);
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let signature = Signature::new(bytes);

        let single = public
            .verify_on_chain(Domain::Batch, &CHAIN, b"x", &signature)
            .is_ok();
        let claim = Claim {
            key: public,
            domain: Domain::Batch,
            payload: b"x",
            signature,
        };

        assert!(single);
        assert_eq!(verify_all_on_chain(&CHAIN, &[claim]), single);
        assert!(
            public
                .verify_off_chain(Domain::Batch, &CHAIN, b"x", &signature)
                .is_err()
        );
    }

    #[test]
    fn a_secret_key_does_not_print() {
        let text = format!("{:?}", key(3));

        assert!(!text.contains(&hex::encode([3; 32])));
    }
}
