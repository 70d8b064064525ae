//! Registered parties: gateways, BaseStations, operators.

use qlink_types::codec::Text;
use qlink_types::ids::{AccountId, Hash32};
use qlink_types::outcome::Status;
use qlink_types::signature::PublicKey;
use qlink_types::struct_codec;
use qlink_types::transaction::Party;
use serde::{Deserialize, Serialize};

use crate::row::{Row, join};
use crate::state::Space;

/// A party as the chain holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyRow {
    /// Whose it is; receives its carriage and pays a gateway's batch fees.
    pub owner: AccountId,
    /// Its current key.
    pub key: PublicKey,
    /// The asset on NEO behind a BaseStation; zero: none.
    pub asset: Hash32,
    /// Name for people.
    pub name: Text<100>,
    /// Number of a gateway's last batch; zero: none yet.
    #[serde(with = "qlink_types::text")]
    pub batch_sequence: u64,
    /// Root of that batch.
    pub batch_root: Hash32,
}

struct_codec!(PartyRow {
    owner,
    key,
    asset,
    name,
    batch_sequence,
    batch_root,
});

impl Row for PartyRow {
    type Key = Party;
    const SPACE: Space = Space::Tree;

    fn key(key: &Party) -> Vec<u8> {
        match key {
            Party::Gateway { gateway } => join(b'g', &[gateway.as_bytes()]),
            Party::BaseStation { basestation } => join(b'b', &[basestation.as_bytes()]),
            Party::Operator { operator } => join(b'o', &[operator.as_bytes()]),
        }
    }
}

/// The status that says that `party` does not exist.
pub(crate) const fn unknown(party: &Party) -> Status {
    match party {
        Party::Gateway { .. } => Status::UnknownGateway,
        Party::BaseStation { .. } => Status::UnknownBaseStation,
        Party::Operator { .. } => Status::UnknownOperator,
    }
}
