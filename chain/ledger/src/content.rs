//! Registered contents.

use qlink_types::content::ContentRegistration;
use qlink_types::ids::{AccountId, ContentId};
use qlink_types::struct_codec;
use qlink_types::units::BlockHeight;
use serde::{Deserialize, Serialize};

use crate::row::{Row, join};
use crate::state::Space;

/// A content as the chain holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// What was registered.
    pub registration: ContentRegistration,
    /// By whom.
    pub owner: AccountId,
    /// In which block.
    pub height: BlockHeight,
}

struct_codec!(Content {
    registration,
    owner,
    height
});

impl Row for Content {
    type Key = ContentId;
    const SPACE: Space = Space::Tree;

    fn key(key: &ContentId) -> Vec<u8> {
        join(b'c', &[key.as_bytes()])
    }
}
