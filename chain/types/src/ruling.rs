//! Off-chain rulings about who may come through a gateway's tunnel: whoever runs the gateway signs
//! them with the gateway's registered key, so they can be sent over any network.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::Encode as _;
use crate::ids::{BaseStationId, GatewayId, Hash32};
use crate::signature::{ChainId, Domain, PublicKey, SecretKey, Signature, SignatureError};
use crate::units::TimeMs;
use crate::{enum_codec, struct_codec, tag_codec};

/// Whom a ruling is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// A BaseStation, whatever its tunnel key: it opens no sessions and enrols no key.
    #[serde(rename = "basestation")]
    BaseStation {
        /// Its id.
        basestation: BaseStationId,
    },
    /// An X25519 tunnel key, whoever states it: one that was copied or lost. Its BaseStation may go
    /// on with another.
    TunnelKey {
        /// The public key.
        key: Hash32,
    },
}

enum_codec!(Subject, "subject of a ruling", {
    BaseStation { basestation } = 1,
    TunnelKey { key } = 2,
});

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BaseStation { basestation } => write!(f, "BaseStation {basestation}"),
            Self::TunnelKey { key } => write!(f, "tunnel key {key}"),
        }
    }
}

/// Why somebody may not come. The list is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenyReason {
    /// The operator names no reason.
    Unstated,
    /// The device was lost or stolen.
    Lost,
    /// A secret key is known to others.
    Compromised,
    /// It sent what it should not.
    Misuse,
    /// It is out of service.
    Retired,
}

tag_codec!(DenyReason, "reason of a denial", {
    Unstated = 1,
    Lost = 2,
    Compromised = 3,
    Misuse = 4,
    Retired = 5,
});

impl DenyReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Unstated,
        Self::Lost,
        Self::Compromised,
        Self::Misuse,
        Self::Retired,
    ];

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unstated => "unstated",
            Self::Lost => "lost",
            Self::Compromised => "compromised",
            Self::Misuse => "misuse",
            Self::Retired => "retired",
        }
    }
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No reason has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no reason; there are unstated, lost, compromised, misuse and retired")]
pub struct NoReason(String);

impl std::str::FromStr for DenyReason {
    type Err = NoReason;

    fn from_str(text: &str) -> Result<Self, NoReason> {
        let known = Self::ALL.into_iter().find(|reason| reason.name() == text);
        known.ok_or_else(|| NoReason(text.to_owned()))
    }
}

/// Whether somebody may come through a gateway's tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelRuling {
    /// At which gateway.
    pub gateway: GatewayId,
    /// Who.
    pub subject: Subject,
    /// Why not; absent: it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<DenyReason>,
    /// When it was said: a later ruling on the same subject takes the place of an earlier one.
    pub signed_at: TimeMs,
}

struct_codec!(TunnelRuling {
    gateway,
    subject,
    denied,
    signed_at
});

impl TunnelRuling {
    /// Signs it with the gateway's registered key.
    #[must_use]
    pub fn sign(&self, key: &SecretKey, chain: &ChainId) -> Signature {
        key.sign(Domain::TunnelRuling, chain, &self.to_bytes())
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
        key.verify_off_chain(Domain::TunnelRuling, chain, &self.to_bytes(), signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Decode as _;

    fn ruling() -> TunnelRuling {
        TunnelRuling {
            gateway: GatewayId::new([2; 16]),
            subject: Subject::BaseStation {
                basestation: BaseStationId::new([1; 16]),
            },
            denied: Some(DenyReason::Lost),
            signed_at: TimeMs::new(4),
        }
    }

    #[test]
    fn a_ruling_holds_for_its_signer_its_chain_and_every_field() {
        let (chain, key) = (Hash32::new([9; 32]), SecretKey::from_seed([7; 32]));
        let signature = ruling().sign(&key, &chain);
        let holds = |ruling: TunnelRuling| ruling.verify(&key.public(), &chain, &signature);
        assert_eq!(holds(ruling()), Ok(()));

        let other = SecretKey::from_seed([8; 32]).public();
        assert!(ruling().verify(&other, &chain, &signature).is_err());
        let elsewhere = Hash32::new([10; 32]);
        assert!(
            ruling()
                .verify(&key.public(), &elsewhere, &signature)
                .is_err()
        );
        for changed in [
            TunnelRuling {
                gateway: GatewayId::new([5; 16]),
                ..ruling()
            },
            TunnelRuling {
                subject: Subject::TunnelKey {
                    key: Hash32::new([1; 32]),
                },
                ..ruling()
            },
            TunnelRuling {
                denied: None,
                ..ruling()
            },
            TunnelRuling {
                signed_at: TimeMs::new(5),
                ..ruling()
            },
        ] {
            assert!(holds(changed).is_err(), "{changed:?}");
        }
    }

    #[test]
    fn a_ruling_comes_back_from_its_bytes_and_every_reason_from_its_name() {
        assert_eq!(TunnelRuling::from_bytes(&ruling().to_bytes()), Ok(ruling()));
        for reason in DenyReason::ALL {
            assert_eq!(reason.name().parse(), Ok(reason));
            assert_eq!(DenyReason::from_bytes(&reason.to_bytes()), Ok(reason));
            assert_eq!(serde_json::json!(reason), reason.name());
        }
        assert!("theft".parse::<DenyReason>().is_err());
    }
}
