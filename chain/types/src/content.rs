//! What the chain holds about a content.

use serde::{Deserialize, Serialize};

use crate::codec::Text;
use crate::ids::{ContentId, Hash32};
use crate::struct_codec;
use crate::units::{Bytes, Units};

/// log2 of BLAKE3 chunks per group: 4, that is groups of 16 KiB.
pub const GROUP_LOG: u8 = 4;

/// Bytes of one group.
pub const GROUP_BYTES: u64 = 16 * 1024;

/// A registration of content, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRegistration {
    /// BLAKE3 root of the bytes.
    pub content: ContentId,
    /// Length; at least 1.
    pub size: Bytes,
    /// log2 of chunks per group; must be [`GROUP_LOG`].
    #[serde(with = "crate::text")]
    pub group_log: u8,
    /// SHA-256 of the bytes, for HTTP digests (RFC 9530).
    pub sha256: Hash32,
    /// BLAKE3 of the concatenated group values; the values themselves stay off the chain.
    pub groups_hash: Hash32,
    /// Media type for people; nominates nothing.
    pub media_type: Text<100>,
    /// Units owed to the registrant per full view; must be zero in this version.
    pub royalty_units: Units,
}

struct_codec!(ContentRegistration {
    content,
    size,
    group_log,
    sha256,
    groups_hash,
    media_type,
    royalty_units,
});
