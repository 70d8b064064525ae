//! Registers content: its BLAKE3 root, the values of its 16 KiB groups, its SHA-256.
//!
//! A group value is the BLAKE3 chaining value of one 16 KiB subtree (chunk-group log 4), so the
//! values lead to the root and each proves its group alone. Source: BLAKE3 paper, section 2.
//! A content of one group has no inner node: its only group value is the root itself.

use std::io;

use blake3::hazmat::{
    HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};
use sha2::{Digest as _, Sha256};

use qlink_types::codec::Text;
use qlink_types::content::{ContentRegistration, GROUP_BYTES, GROUP_LOG};
use qlink_types::ids::{ContentId, Hash32};
use qlink_types::units::{Bytes, Units};

/// Why bytes could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Nothing can be proven about no bytes.
    #[error("content of 0 bytes cannot be registered")]
    Empty,
    /// Reading the bytes failed.
    #[error("content could not be read")]
    Read(#[source] io::Error),
}

/// A copy does not have the bytes of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the copy has root {found}, not {expected}")]
pub struct WrongCopy {
    /// The root of the bytes given.
    pub found: ContentId,
    /// The root asked for.
    pub expected: ContentId,
}

/// The group values of one content: 32 bytes per 16 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTree {
    size: u64,
    values: Vec<[u8; 32]>,
}

impl GroupTree {
    /// The values, first group first.
    #[must_use]
    pub fn values(&self) -> &[[u8; 32]] {
        &self.values
    }

    /// Length of the content.
    #[must_use]
    pub const fn size(&self) -> Bytes {
        Bytes::new(self.size)
    }

    /// Whether `bytes` are exactly group number `index` of the content.
    #[must_use]
    pub fn verify_group(&self, index: u64, bytes: &[u8]) -> bool {
        let value = usize::try_from(index).ok().and_then(|i| self.values.get(i));
        let single = self.size <= GROUP_BYTES;
        let start = index.saturating_mul(GROUP_BYTES);
        let length = GROUP_BYTES.min(self.size.saturating_sub(start));
        bytes.len() as u64 == length && value == Some(&group_value(start, bytes, single))
    }

    /// The root that the values lead to.
    #[must_use]
    pub fn root(&self) -> ContentId {
        match self.values.as_slice() {
            [only] => ContentId::new(*only),
            values => {
                let (left, right) = self.split(values, 0, self.size);
                let root = merge_subtrees_root(&left, &right, Mode::Hash);
                ContentId::new(*root.as_bytes())
            }
        }
    }

    /// BLAKE3 of the concatenated values, as registered.
    #[must_use]
    pub fn groups_hash(&self) -> Hash32 {
        let mut hasher = blake3::Hasher::new();
        for value in &self.values {
            hasher.update(value);
        }
        Hash32::new(*hasher.finalize().as_bytes())
    }

    fn split(&self, values: &[[u8; 32]], start: u64, len: u64) -> ([u8; 32], [u8; 32]) {
        let left_len = left_subtree_len(len);
        let left_groups = usize::try_from(left_len.div_ceil(GROUP_BYTES)).unwrap_or(usize::MAX);
        let (left, right) = values.split_at(left_groups.min(values.len()));
        let right_start = start.saturating_add(left_len);
        (
            self.subtree(left, start, left_len),
            self.subtree(right, right_start, len.saturating_sub(left_len)),
        )
    }

    fn subtree(&self, values: &[[u8; 32]], start: u64, len: u64) -> [u8; 32] {
        match values {
            [] => [0; 32],
            [only] => *only,
            _ => {
                let (left, right) = self.split(values, start, len);
                merge_subtrees_non_root(&left, &right, Mode::Hash)
            }
        }
    }
}

fn group_value(start: u64, bytes: &[u8], single: bool) -> [u8; 32] {
    if single {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// A registration and the group values behind its `groups_hash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// What goes on the chain.
    pub registration: ContentRegistration,
    /// What stays off it.
    pub groups: GroupTree,
}

/// Registers bytes in memory.
///
/// # Errors
///
/// [`RegistrationError::Empty`] for no bytes.
pub fn register_bytes(
    bytes: &[u8],
    media_type: Text<100>,
) -> Result<Registered, RegistrationError> {
    register_reader(bytes, media_type)
}

/// Registers what `reader` yields until its end; holds one group in memory.
///
/// # Errors
///
/// [`RegistrationError::Empty`] for no bytes, [`RegistrationError::Read`] when reading fails.
pub fn register_reader(
    mut reader: impl io::Read,
    media_type: Text<100>,
) -> Result<Registered, RegistrationError> {
    let mut root = blake3::Hasher::new();
    let mut sha256 = Sha256::new();
    let mut values = Vec::new();
    let mut size = 0_u64;
    let mut group = vec![0_u8; usize::try_from(GROUP_BYTES).unwrap_or(16_384)];
    loop {
        let filled = fill_group(&mut reader, &mut group).map_err(RegistrationError::Read)?;
        let bytes = group.get(..filled).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        root.update(bytes);
        sha256.update(bytes);
        values.push(group_value(size, bytes, false));
        size = size.saturating_add(bytes.len() as u64);
        if filled < group.len() {
            break;
        }
    }
    if size == 0 {
        return Err(RegistrationError::Empty);
    }
    let root = *root.finalize().as_bytes();
    if let [only] = values.as_mut_slice() {
        *only = root;
    }
    let groups = GroupTree { size, values };
    let registration = ContentRegistration {
        content: ContentId::new(root),
        size: Bytes::new(size),
        group_log: GROUP_LOG,
        sha256: Hash32::new(sha256.finalize().into()),
        groups_hash: groups.groups_hash(),
        media_type,
        royalty_units: Units::ZERO,
    };
    Ok(Registered {
        registration,
        groups,
    })
}

/// Reads until `group` is full or the input ends; how much there was.
fn fill_group(reader: &mut impl io::Read, group: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0_usize;
    while let Some(room) = group.get_mut(filled..).filter(|room| !room.is_empty()) {
        match reader.read(room) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Checks that `copy` has the bytes of `content`; a copy is compared against only after this.
///
/// # Errors
///
/// [`WrongCopy`] with the root found.
pub fn verify_copy(copy: &[u8], content: &ContentId) -> Result<(), WrongCopy> {
    let found = ContentId::new(*blake3::hash(copy).as_bytes());
    if found == *content {
        return Ok(());
    }
    let expected = *content;
    Err(WrongCopy { found, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect()
    }

    fn media() -> Text<100> {
        Text::try_from("video/mp4").unwrap()
    }

    #[test]
    fn group_values_lead_to_the_root_at_every_size() {
        for len in [
            1, 1023, 1024, 16_383, 16_384, 16_385, 32_768, 49_153, 100_000, 1_000_000,
        ] {
            let content = bytes(len);

            let registered = register_bytes(&content, media()).unwrap();

            let root = ContentId::new(*blake3::hash(&content).as_bytes());
            assert_eq!(registered.registration.content, root, "{len}");
            assert_eq!(registered.groups.root(), root, "{len}");
            assert_eq!(registered.registration.size.get(), len as u64);
            assert_eq!(
                registered.registration.groups_hash,
                registered.groups.groups_hash()
            );
        }
    }

    #[test]
    fn every_group_proves_itself_and_no_other() {
        let content = bytes(50_000);
        let groups = register_bytes(&content, media()).unwrap().groups;

        for (i, group) in content.chunks(16_384).enumerate() {
            assert!(groups.verify_group(i as u64, group));
            assert!(!groups.verify_group(i as u64 + 1, group));
            let mut bad = group.to_vec();
            bad[7] ^= 1;
            assert!(!groups.verify_group(i as u64, &bad));
            assert!(!groups.verify_group(i as u64, &group[1..]));
        }
    }

    #[test]
    fn the_sha256_is_the_known_one() {
        let registered = register_bytes(b"abc", media()).unwrap();

        // FIPS 180-4 example.
        let wanted = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(registered.registration.sha256.to_string(), wanted);
        assert!(registered.groups.verify_group(0, b"abc"));
    }

    #[test]
    fn content_of_0_bytes_is_refused() {
        assert!(matches!(
            register_bytes(b"", media()),
            Err(RegistrationError::Empty)
        ));
    }

    #[test]
    fn a_copy_with_one_other_bit_is_refused() {
        let mut content = bytes(20_000);
        let id = register_bytes(&content, media())
            .unwrap()
            .registration
            .content;
        assert_eq!(verify_copy(&content, &id), Ok(()));

        content[19_999] ^= 0x80;

        assert!(verify_copy(&content, &id).is_err());
    }
}
