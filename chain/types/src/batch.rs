//! A gateway's signed list of records with its Merkle root.

use serde::{Deserialize, Serialize};

use crate::codec::{Encode as _, List};
use crate::ids::{GatewayId, Hash32, PackageId};
use crate::merkle::{self, InclusionProof};
use crate::record::{CarriageRecord, Leaf, RatioRecord};
use crate::struct_codec;
use crate::units::{Incarnation, PackageEpoch};

/// Most records of each kind in one batch (chosen: 4096 rows of 181 bytes stay below a 1 MB block).
pub const MAX_RECORDS: usize = 4096;

/// A gateway's word that it has no further record for terms that are closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Final {
    /// The package.
    pub package: PackageId,
    /// The terms that end.
    pub package_epoch: PackageEpoch,
}

struct_codec!(Final {
    package,
    package_epoch
});

/// Records of one gateway, cumulative, in one transaction signed by the gateway's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Who counted; every record names the same gateway.
    pub gateway: GatewayId,
    /// The gateway's counter start when the batch was made.
    pub incarnation: Incarnation,
    /// Number of this batch, rising by at least one from batch to batch of the gateway.
    #[serde(with = "crate::text")]
    pub sequence: u64,
    /// What viewers received.
    pub ratio: List<RatioRecord, MAX_RECORDS>,
    /// Who carried it.
    pub carriage: List<CarriageRecord, MAX_RECORDS>,
    /// Closing terms for which this gateway is done.
    pub finals: List<Final, 256>,
    /// Merkle root over all leaves: ratio records, then carriage records, in order.
    pub root: Hash32,
}

struct_codec!(Batch {
    gateway,
    incarnation,
    sequence,
    ratio,
    carriage,
    finals,
    root
});

impl Batch {
    /// Encodings of the leaves in tree order.
    #[must_use]
    pub fn leaves(&self) -> Vec<Vec<u8>> {
        let ratio = self
            .ratio
            .iter()
            .map(|record| Leaf::Ratio(record.clone()).to_bytes());
        let carriage = self
            .carriage
            .iter()
            .map(|record| Leaf::Carriage(record.clone()).to_bytes());
        ratio.chain(carriage).collect()
    }

    /// Merkle root over [`Self::leaves`].
    #[must_use]
    pub fn compute_root(&self) -> Hash32 {
        merkle::root(self.leaves().iter().map(Vec::as_slice))
    }

    /// Proof for the leaf at `index` in tree order; `None` when there is no such leaf.
    #[must_use]
    pub fn prove(&self, index: usize) -> Option<InclusionProof> {
        merkle::prove(self.leaves().iter().map(Vec::as_slice), index)
    }
}
