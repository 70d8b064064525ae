//! Off-chain statements that let a BaseStation into a gateway's tunnel, one of each side: so the two
//! tunnel keys are those of the two device keys that the chain knows.

use serde::{Deserialize, Serialize};

use crate::codec::{Encode as _, Text};
use crate::ids::{BaseStationId, GatewayId, Hash32};
use crate::signature::{ChainId, Domain, PublicKey, SecretKey, Signature, SignatureError};
use crate::struct_codec;
use crate::units::TimeMs;

/// Longest address or endpoint as text: IPv6 in brackets with a port has 47 characters.
pub const ENDPOINT_TEXT_MAX: usize = 64;

/// An address `ip`, or an endpoint `ip:port`.
pub type EndpointText = Text<ENDPOINT_TEXT_MAX>;

/// A BaseStation's word that a tunnel key is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelKey {
    /// Whose.
    pub basestation: BaseStationId,
    /// At which gateway.
    pub gateway: GatewayId,
    /// X25519 public key of its end of the tunnel.
    pub key: Hash32,
    /// When it was said: a later statement takes the place of an earlier one.
    pub signed_at: TimeMs,
}

struct_codec!(TunnelKey {
    basestation,
    gateway,
    key,
    signed_at
});

impl TunnelKey {
    /// Signs it with the BaseStation's device key.
    #[must_use]
    pub fn sign(&self, key: &SecretKey, chain: &ChainId) -> Signature {
        key.sign(Domain::TunnelKey, chain, &self.to_bytes())
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
        key.verify_off_chain(Domain::TunnelKey, chain, &self.to_bytes(), signature)
    }
}

/// A gateway's answer to a [`TunnelKey`]: its own end of the tunnel, and the BaseStation's address in
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelGrant {
    /// What is answered, unchanged: so an answer to another statement is none to this one.
    pub asked: TunnelKey,
    /// X25519 public key of the gateway's end.
    pub gateway_key: Hash32,
    /// Where the gateway's end is reached, UDP `ip:port`.
    pub endpoint: EndpointText,
    /// Where GTP-U goes in the tunnel, `ip:port`.
    pub gtpu: EndpointText,
    /// The BaseStation's address in the tunnel, `ip`.
    pub address: EndpointText,
}

struct_codec!(TunnelGrant {
    asked,
    gateway_key,
    endpoint,
    gtpu,
    address
});

impl TunnelGrant {
    /// Signs it with the gateway's registered key.
    #[must_use]
    pub fn sign(&self, key: &SecretKey, chain: &ChainId) -> Signature {
        key.sign(Domain::TunnelGrant, chain, &self.to_bytes())
    }

    /// Checks `signature` against the gateway's registered `key`.
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
        key.verify_off_chain(Domain::TunnelGrant, chain, &self.to_bytes(), signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Decode as _;

    fn statement() -> TunnelKey {
        TunnelKey {
            basestation: BaseStationId::new([1; 16]),
            gateway: GatewayId::new([2; 16]),
            key: Hash32::new([3; 32]),
            signed_at: TimeMs::new(4),
        }
    }

    #[test]
    fn a_statement_holds_for_its_signer_its_chain_and_every_field() {
        let (chain, key) = (Hash32::new([9; 32]), SecretKey::from_seed([7; 32]));
        let signature = statement().sign(&key, &chain);
        assert_eq!(
            statement().verify(&key.public(), &chain, &signature),
            Ok(())
        );

        let other = SecretKey::from_seed([8; 32]).public();
        assert!(statement().verify(&other, &chain, &signature).is_err());
        let elsewhere = Hash32::new([10; 32]);
        assert!(
            statement()
                .verify(&key.public(), &elsewhere, &signature)
                .is_err()
        );
        let changed = [
            TunnelKey {
                basestation: BaseStationId::new([5; 16]),
                ..statement()
            },
            TunnelKey {
                gateway: GatewayId::new([5; 16]),
                ..statement()
            },
            TunnelKey {
                key: Hash32::new([5; 32]),
                ..statement()
            },
            TunnelKey {
                signed_at: TimeMs::new(5),
                ..statement()
            },
        ];
        for changed in changed {
            assert!(changed.verify(&key.public(), &chain, &signature).is_err());
        }
    }

    #[test]
    fn a_grant_is_no_statement_and_comes_back_from_its_bytes() {
        let (chain, key) = (Hash32::new([9; 32]), SecretKey::from_seed([7; 32]));
        let text = |text: &str| EndpointText::try_from(text).unwrap();
        let grant = TunnelGrant {
            asked: statement(),
            gateway_key: Hash32::new([6; 32]),
            endpoint: text("198.51.100.1:51820"),
            gtpu: text("10.99.0.1:2152"),
            address: text("10.99.0.2"),
        };
        let signature = grant.sign(&key, &chain);

        assert_eq!(grant.verify(&key.public(), &chain, &signature), Ok(()));
        assert_eq!(TunnelGrant::from_bytes(&grant.to_bytes()), Ok(grant));
        assert!(
            statement()
                .verify(&key.public(), &chain, &signature)
                .is_err()
        );
    }
}
