//! The due queue: packages for which something happens at a stated time.

use qlink_types::codec::{Decode, DecodeError, Encode, Reader};
use qlink_types::ids::PackageId;
use qlink_types::units::TimeMs;

use crate::row::{Row, join};
use crate::state::Space;

/// Most packages that one block takes from the queue (chosen: bounds the work before a block's
/// first transaction; the rest waits for the next block).
pub(crate) const MAX_DUE_PER_BLOCK: usize = 64;

/// A queue entry; its key says everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due;

impl Encode for Due {
    fn encode(&self, _out: &mut Vec<u8>) {}
}

impl Decode for Due {
    fn decode(_reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl Row for Due {
    type Key = (TimeMs, PackageId);
    const SPACE: Space = Space::Rows;

    fn key((time, package): &Self::Key) -> Vec<u8> {
        join(b'd', &[&time.get().to_be_bytes(), package.as_bytes()])
    }
}

/// Prefix of all entries.
pub(crate) const PREFIX: &[u8] = b"d";

/// The time and package in a storage key.
pub(crate) fn parse_key(key: &[u8]) -> Result<(TimeMs, PackageId), DecodeError> {
    let mut reader = Reader::new(key);
    reader.take(PREFIX.len())?;
    let time = TimeMs::decode(&mut reader)?;
    let package = PackageId::decode(&mut reader)?;
    reader.finish()?;
    Ok((time, package))
}
