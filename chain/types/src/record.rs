//! Ratio records and carriage records: the rows in which usage reaches the chain.
//!
//! Both are **cumulative**: a row states everything since its key began, never a difference, so a
//! replayed, reordered or duplicated row changes nothing. A row carries bytes and units; the ledger
//! rates the bytes again and refuses a row whose units differ.

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, DecodeError, Encode, Reader};
use crate::ids::{BaseStationId, GatewayId, Hash32, OperatorId, PackageId, ViewerKey};
use crate::struct_codec;
use crate::units::{ArithmeticError, Bytes, Incarnation, PackageEpoch, Units};

/// Whose bytes a ratio record states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RatioKey {
    /// The package that pays.
    pub package: PackageId,
    /// Its terms.
    pub package_epoch: PackageEpoch,
    /// Who is paid; zero: the package's `unclaimed` line.
    pub viewer: ViewerKey,
    /// Who counted.
    pub gateway: GatewayId,
    /// Since when: the counter start of that gateway.
    pub incarnation: Incarnation,
}

struct_codec!(RatioKey {
    package,
    package_epoch,
    viewer,
    gateway,
    incarnation
});

/// Proven content bytes by grade of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GradedBytes {
    /// V: compared or hashed in the path.
    pub verified: Bytes,
    /// E: served and verified by our edge, acknowledged.
    pub edge: Bytes,
    /// R: the receiver's receipt, capped by the wire meter.
    pub receipt: Bytes,
}

struct_codec!(GradedBytes {
    verified,
    edge,
    receipt
});

impl GradedBytes {
    /// All grades together.
    ///
    /// # Errors
    ///
    /// [`ArithmeticError`] above 64 bits.
    pub fn total(&self) -> Result<Bytes, ArithmeticError> {
        self.verified.add(self.edge)?.add(self.receipt)
    }

    /// Per grade the larger of the two.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        Self {
            verified: self.verified.max(other.verified),
            edge: self.edge.max(other.edge),
            receipt: self.receipt.max(other.receipt),
        }
    }
}

/// Cumulative settlement row of one viewer, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatioRecord {
    /// Whose bytes.
    pub key: RatioKey,
    /// Cumulative bytes of this key.
    pub bytes: GradedBytes,
    /// `owed` of the key's bytes alone, by [`crate::rating::Ratio`] of the package's reward.
    ///
    /// The viewer's pay is rated over the sum of all its keys; this field lets anyone check one
    /// row without the others.
    pub units: Units,
    /// Bytes of the package that the gateway has reserved for this viewer.
    pub lease: Bytes,
    /// Merkle root over the session receipts behind this row; zero: none.
    pub evidence_root: Hash32,
}

struct_codec!(RatioRecord {
    key,
    bytes,
    units,
    lease,
    evidence_root
});

/// Whose carriage a carriage record states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CarriageKey {
    /// The package that pays.
    pub package: PackageId,
    /// Its terms.
    pub package_epoch: PackageEpoch,
    /// Who counted, and who is paid the gateway's share.
    pub gateway: GatewayId,
    /// Since when.
    pub incarnation: Incarnation,
    /// Who is paid the operator's share; zero: nobody, the share returns at close.
    pub operator: OperatorId,
    /// Whose owner is paid the BaseStation's share; zero: nobody.
    pub basestation: BaseStationId,
}

struct_codec!(CarriageKey {
    package,
    package_epoch,
    gateway,
    incarnation,
    operator,
    basestation
});

/// Cumulative row of one carriage path. The bytes of a gateway's carriage records and of its ratio
/// records for the same terms and incarnation have equal sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriageRecord {
    /// Which path.
    pub key: CarriageKey,
    /// Cumulative proven bytes carried on it.
    pub bytes: Bytes,
}

struct_codec!(CarriageRecord { key, bytes });

/// A leaf of a batch's Merkle tree: a record behind its kind and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Leaf {
    /// A ratio record, version 1.
    Ratio(RatioRecord),
    /// A carriage record, version 1.
    Carriage(CarriageRecord),
}

impl Encode for Leaf {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ratio(record) => {
                0x0101u16.encode(out);
                record.encode(out);
            }
            Self::Carriage(record) => {
                0x0201u16.encode(out);
                record.encode(out);
            }
        }
    }
}

impl Decode for Leaf {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u16::decode(reader)? {
            0x0101 => RatioRecord::decode(reader).map(Self::Ratio),
            0x0201 => CarriageRecord::decode(reader).map(Self::Carriage),
            other => Err(DecodeError::UnknownTag {
                what: "leaf kind",
                value: other.into(),
            }),
        }
    }
}
