//! Terms of a package.

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, DecodeError, Encode, List, Reader, Text};
use crate::ids::{ContentId, GatewayId, Hash32, OperatorId, ViewerKey};
use crate::units::{ArithmeticError, Bytes, TimeMs, Units};
use crate::{struct_codec, tag_codec};

/// What a package pays for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Scope {
    /// Bytes proven to be one of these contents.
    Contents {
        /// The contents, each registered; 1 to 256.
        contents: List<ContentId, 256>,
    },
    /// Any bytes of the buyer's own sessions: a personal data package.
    Any,
}

crate::enum_codec!(Scope, "package scope", { Contents { contents } = 1, Any = 2 });

/// Who may be a viewer of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Audience {
    /// Everybody.
    Open,
    /// The viewers listed.
    Keys {
        /// 1 to 4096 viewers.
        keys: List<ViewerKey, 4096>,
    },
    /// Holders of an invite code. Not accepted in this version.
    InviteCodes {
        /// Merkle root over the codes' hashes.
        root: Hash32,
    },
    /// Subscribers of these operators. Not accepted in this version.
    Operators {
        /// The operators.
        operators: List<OperatorId, 64>,
    },
    /// Subscribers in these regions. Not accepted in this version.
    Regions {
        /// ISO 3166 codes.
        regions: List<Text<8>, 64>,
    },
}

crate::enum_codec!(Audience, "audience", {
    Open = 0,
    Keys { keys } = 1,
    InviteCodes { root } = 2,
    Operators { operators } = 3,
    Regions { regions } = 4,
});

/// Carriage, split at purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CarriageShares {
    /// C_op: for the mobile operator.
    pub operator: Units,
    /// C_bs: for the BaseStation's owner.
    pub basestation: Units,
    /// C_gw: for the gateway; pays batch fees when the gateway's account is short.
    pub gateway: Units,
}

struct_codec!(CarriageShares {
    operator,
    basestation,
    gateway
});

impl CarriageShares {
    /// C: all three.
    ///
    /// # Errors
    ///
    /// [`ArithmeticError`] above 64 bits.
    pub fn total(&self) -> Result<Units, ArithmeticError> {
        self.operator.add(self.basestation)?.add(self.gateway)
    }
}

/// Who pays for proven bytes that a viewer has received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatPolicy {
    /// The session's payer.
    #[default]
    ChargeUser,
    /// Nobody: neither viewer nor package; the gateway carries it.
    Free,
}

tag_codec!(RepeatPolicy, "repeat policy", { ChargeUser = 1, Free = 2 });

/// Terms of a package as bought, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageTerms {
    /// What it pays for.
    pub scope: Scope,
    /// B: volume; at least 1.
    pub bytes: Bytes,
    /// Q: reward for viewers.
    pub reward: Units,
    /// C: carriage.
    pub carriage: CarriageShares,
    /// First ledger time at which bytes count.
    pub valid_from: TimeMs,
    /// First ledger time at which they no longer count.
    pub valid_until: TimeMs,
    /// Who may be a viewer.
    pub audience: Audience,
    /// Most bytes one viewer may use of this package; at most the contents' sizes together.
    pub viewer_cap: Bytes,
    /// What happens with repeated views.
    pub repeat: RepeatPolicy,
    /// Gateways that may settle it; 1 to 64.
    pub gateways: List<GatewayId, 64>,
}

struct_codec!(PackageTerms {
    scope,
    bytes,
    reward,
    carriage,
    valid_from,
    valid_until,
    audience,
    viewer_cap,
    repeat,
    gateways,
});

impl PackageTerms {
    /// What the buyer puts into escrow: Q + C. Fees come on top.
    ///
    /// # Errors
    ///
    /// [`ArithmeticError`] above 64 bits.
    pub fn deposit(&self) -> Result<Units, ArithmeticError> {
        self.reward.add(self.carriage.total()?)
    }

    /// Whether `viewer` may use the package. Kinds that this version does not accept admit nobody.
    #[must_use]
    pub fn admits(&self, viewer: &ViewerKey) -> bool {
        match &self.audience {
            Audience::Open => true,
            Audience::Keys { keys } => keys.contains(viewer),
            Audience::InviteCodes { .. }
            | Audience::Operators { .. }
            | Audience::Regions { .. } => false,
        }
    }
}

/// Where a package is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageState {
    /// Bytes count.
    Open,
    /// A top-up ended the running terms; listed gateways deliver their last records, then the next
    /// package_epoch opens.
    RollingOver,
    /// No new bytes; listed gateways deliver their last records until the deadline.
    Closing,
    /// Settled and refunded; later records are refused.
    Closed,
}

tag_codec!(PackageState, "package state", { Open = 1, RollingOver = 2, Closing = 3, Closed = 4 });

/// A decoder for optional future use must name the version: terms are preceded by it on the chain.
pub const TERMS_VERSION: u16 = 1;

/// Terms behind their version number, as transactions carry them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionedTerms(pub PackageTerms);

impl Encode for VersionedTerms {
    fn encode(&self, out: &mut Vec<u8>) {
        TERMS_VERSION.encode(out);
        self.0.encode(out);
    }
}

impl Decode for VersionedTerms {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u16::decode(reader)? {
            TERMS_VERSION => PackageTerms::decode(reader).map(Self),
            other => Err(DecodeError::UnknownTag {
                what: "package terms version",
                value: other.into(),
            }),
        }
    }
}
