//! How rows are named and encoded: a key of one letter and an id, a value that begins with a
//! version byte.
//!
//! ```text
//! Tree  'a' account          'c' content     'g' 'b' 'o' party     'm' chain     's' supply
//!       'p' package          't' package: terms                    'e' package, package_epoch
//!       'n' candidate        'w' voter, candidate: vote              'l' voter
//!       'j' seats            'x' seat key
//! Rows  'v' package, viewer                  'd' time, package: due
//!       'k' package, package_epoch, gateway, incarnation, operator, basestation: path
//!       'i' package, package_epoch, gateway, incarnation: sums
//!       'y' package, package_epoch, share, payee
//!       'r' time, voter, candidate, kind: stake that waits
//!       'A' account, 'P' package, 'N' candidate, 'W' voter, candidate: listings
//! ```

use qlink_types::codec::{Decode, DecodeError, Encode, Reader};
use qlink_types::units::Units;

use crate::state::{Space, StateError};

/// Version of all row encodings.
const ROW_VERSION: u8 = 1;

/// Units that a row holds, by line of the supply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    /// Balances of accounts of people.
    pub(crate) accounts: Units,
    /// Balance of the bridge.
    pub(crate) bridge: Units,
    /// Balance of the community pool.
    pub(crate) community: Units,
    /// Escrow of a package.
    pub(crate) escrow: Units,
    /// Earned by viewers and not yet claimed.
    pub(crate) claimable: Units,
    /// Earned by nobody's key.
    pub(crate) unclaimed: Units,
    /// Locked behind a candidate, or waiting to be released.
    pub(crate) staked: Units,
    /// Set apart for voters.
    pub(crate) rewards: Units,
}

/// A kind of row.
pub(crate) trait Row: Encode + Decode + Clone {
    /// What names one row of this kind.
    type Key: Ord + Copy;

    /// Where rows of this kind live.
    const SPACE: Space;

    /// The storage key.
    fn key(key: &Self::Key) -> Vec<u8>;

    /// The key of an entry in [`Space::Rows`] that lets this row be found by a scan.
    fn listing_key(_key: &Self::Key) -> Option<Vec<u8>> {
        None
    }

    /// The units in this row.
    fn held(&self, _key: &Self::Key) -> Held {
        Held::default()
    }
}

/// A stored value is not what the ledger writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row under key {key:02x?} is corrupt")]
pub struct CorruptRow {
    /// Its key.
    pub key: Vec<u8>,
    /// What is wrong with it.
    #[source]
    pub cause: DecodeError,
}

/// The stored form of `row`.
pub(crate) fn encode_row<R: Encode>(row: &R) -> Vec<u8> {
    let mut out = vec![ROW_VERSION];
    row.encode(&mut out);
    out
}

/// The row behind a stored value.
pub(crate) fn decode_row<R: Decode>(key: &[u8], value: &[u8]) -> Result<R, StateError> {
    decode_value(value).map_err(|cause| {
        StateError::new(CorruptRow {
            key: key.to_vec(),
            cause,
        })
    })
}

fn decode_value<R: Decode>(value: &[u8]) -> Result<R, DecodeError> {
    let mut reader = Reader::new(value);
    match u8::decode(&mut reader)? {
        ROW_VERSION => {
            let row = R::decode(&mut reader)?;
            reader.finish()?;
            Ok(row)
        }
        other => Err(DecodeError::UnknownTag {
            what: "row version",
            value: other.into(),
        }),
    }
}

/// The value of a listing entry.
pub(crate) fn listing_value() -> Vec<u8> {
    vec![ROW_VERSION]
}

/// A storage key of a letter and parts.
pub(crate) fn join(letter: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut key = Vec::with_capacity(length.saturating_add(1));
    key.push(letter);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}
