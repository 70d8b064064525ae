//! Off-chain statements that open a session: the viewer's acceptance and the BaseStation's request.

use serde::{Deserialize, Serialize};

use crate::codec::Encode as _;
use crate::ids::{BaseStationId, GatewayId, Hash32, PackageId, Teid, ViewerKey};
use crate::signature::{ChainId, Domain, PublicKey, SecretKey, Signature, SignatureError};
use crate::struct_codec;
use crate::units::TimeMs;

/// A viewer's word that it takes part in a package at a gateway. Without it nobody is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Which package.
    pub package: PackageId,
    /// Who.
    pub viewer: ViewerKey,
    /// Where.
    pub gateway: GatewayId,
    /// Until when a session may be opened with it.
    pub valid_until: TimeMs,
    /// Makes two acceptances different.
    pub nonce: Hash32,
}

struct_codec!(Acceptance {
    package,
    viewer,
    gateway,
    valid_until,
    nonce
});

/// An acceptance with the viewer's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAcceptance {
    /// What is accepted.
    pub acceptance: Acceptance,
    /// By the viewer's key in domain `Acceptance`.
    pub signature: Signature,
}

struct_codec!(SignedAcceptance {
    acceptance,
    signature
});

impl SignedAcceptance {
    /// Signs `acceptance`; `key` must be the viewer's.
    #[must_use]
    pub fn sign(acceptance: Acceptance, key: &SecretKey, chain: &ChainId) -> Self {
        let signature = key.sign(Domain::Acceptance, chain, &acceptance.to_bytes());
        Self {
            acceptance,
            signature,
        }
    }

    /// Checks the signature against the viewer named inside.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when it does not hold.
    pub fn verify(&self, chain: &ChainId) -> Result<(), SignatureError> {
        PublicKey::from(self.acceptance.viewer).verify_off_chain(
            Domain::Acceptance,
            chain,
            &self.acceptance.to_bytes(),
            &self.signature,
        )
    }
}

/// A BaseStation's request to open a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpen {
    /// Who forwards.
    pub basestation: BaseStationId,
    /// Where.
    pub gateway: GatewayId,
    /// Tunnel endpoint at the BaseStation for downlink packets.
    pub downlink_teid: Teid,
    /// Hash of the signed acceptance; zero: none, the session is not sponsored.
    pub acceptance_hash: Hash32,
    /// Package with scope `any` that pays `user_charged` bytes; zero: none.
    pub personal_package: PackageId,
    /// Until when the request is good.
    pub valid_until: TimeMs,
    /// Makes two requests different; the same request opens one session.
    pub nonce: Hash32,
}

struct_codec!(SessionOpen {
    basestation,
    gateway,
    downlink_teid,
    acceptance_hash,
    personal_package,
    valid_until,
    nonce,
});

impl SessionOpen {
    /// Signs it with the BaseStation's device key.
    #[must_use]
    pub fn sign(&self, key: &SecretKey, chain: &ChainId) -> Signature {
        key.sign(Domain::SessionOpen, chain, &self.to_bytes())
    }

    /// Checks `signature` against the BaseStation's registered `key`.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when it does not hold.
    pub fn verify(
        &self,
        key: &PublicKey,
        chain: &ChainId,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        key.verify_off_chain(Domain::SessionOpen, chain, &self.to_bytes(), signature)
    }
}
