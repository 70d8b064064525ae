//! Merkle trees in the shape of RFC 6962 with BLAKE3; the root binds the number of leaves.
//!
//! ```text
//! leaf  = H(0x00 || bytes)
//! node  = H(0x01 || left || right)      left holds the largest power of two of leaves
//! root  = H(0x02 || u64 leaf count || head)      head of no leaves = H("")
//! ```
//!
//! Source: RFC 6962 §2.1, for the shape.

use serde::{Deserialize, Serialize};

use crate::codec::List;
use crate::ids::Hash32;
use crate::struct_codec;

/// Siblings on the way from a leaf to the head; 64 levels cover any `u64` count.
pub type Path = List<Hash32, 64>;

/// Shows that a leaf stands at an index of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionProof {
    /// Position of the leaf, from 0.
    #[serde(with = "crate::text")]
    pub index: u64,
    /// Number of leaves in the tree.
    #[serde(with = "crate::text")]
    pub count: u64,
    /// Siblings, lowest first.
    pub path: Path,
}

struct_codec!(InclusionProof { index, count, path });

/// Root over the leaves' bytes.
#[must_use]
pub fn root<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Hash32 {
    let hashes: Vec<Hash32> = leaves.into_iter().map(leaf_hash).collect();
    bind_count(hashes.len(), &head(&hashes))
}

/// Proof for the leaf at `index`, or `None` when there is no such leaf.
#[must_use]
pub fn prove<'a>(
    leaves: impl IntoIterator<Item = &'a [u8]>,
    index: usize,
) -> Option<InclusionProof> {
    let hashes: Vec<Hash32> = leaves.into_iter().map(leaf_hash).collect();
    if index >= hashes.len() {
        return None;
    }
    let mut path = Vec::new();
    collect_path(&hashes, index, &mut path);
    Some(InclusionProof {
        index: u64::try_from(index).ok()?,
        count: u64::try_from(hashes.len()).ok()?,
        path: Path::try_from(path).ok()?,
    })
}

impl InclusionProof {
    /// Whether `leaf` stands at this proof's index under `root`.
    #[must_use]
    pub fn verify(&self, root: &Hash32, leaf: &[u8]) -> bool {
        if self.index >= self.count {
            return false;
        }
        let mut siblings = self.path.iter();
        let Some(head) = climb(self.index, self.count, leaf_hash(leaf), &mut siblings) else {
            return false;
        };
        siblings.next().is_none() && bind_count_u64(self.count, &head) == *root
    }
}

/// Recomputes the head over `count` leaves from the leaf at `index`; `None` when the path is short.
fn climb(
    index: u64,
    count: u64,
    leaf: Hash32,
    siblings: &mut std::slice::Iter<'_, Hash32>,
) -> Option<Hash32> {
    if count <= 1 {
        return Some(leaf);
    }
    let left = split_u64(count);
    if index < left {
        let below = climb(index, left, leaf, siblings)?;
        Some(node_hash(&below, siblings.next()?))
    } else {
        let below = climb(
            index.saturating_sub(left),
            count.saturating_sub(left),
            leaf,
            siblings,
        )?;
        Some(node_hash(siblings.next()?, &below))
    }
}

fn collect_path(hashes: &[Hash32], index: usize, path: &mut Vec<Hash32>) {
    if hashes.len() <= 1 {
        return;
    }
    let (left, right) = hashes.split_at(split(hashes.len()));
    if index < left.len() {
        collect_path(left, index, path);
        path.push(head(right));
    } else {
        collect_path(right, index.saturating_sub(left.len()), path);
        path.push(head(left));
    }
}

fn head(hashes: &[Hash32]) -> Hash32 {
    match hashes {
        [] => Hash32::new(*blake3::hash(&[]).as_bytes()),
        [one] => *one,
        many => {
            let (left, right) = many.split_at(split(many.len()));
            node_hash(&head(left), &head(right))
        }
    }
}

/// The largest power of two below `count`, for `count` >= 2.
fn split(count: usize) -> usize {
    usize::try_from(split_u64(u64::try_from(count).unwrap_or(u64::MAX))).unwrap_or(count)
}

fn split_u64(count: u64) -> u64 {
    let below = count.saturating_sub(1).max(1);
    1u64.checked_shl(63u32.saturating_sub(below.leading_zeros()))
        .unwrap_or(1)
}

fn leaf_hash(bytes: &[u8]) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[0]);
    hasher.update(bytes);
    Hash32::new(*hasher.finalize().as_bytes())
}

fn node_hash(left: &Hash32, right: &Hash32) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Hash32::new(*hasher.finalize().as_bytes())
}

fn bind_count(count: usize, head: &Hash32) -> Hash32 {
    bind_count_u64(u64::try_from(count).unwrap_or(u64::MAX), head)
}

fn bind_count_u64(count: u64, head: &Hash32) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[2]);
    hasher.update(&count.to_be_bytes());
    hasher.update(head.as_bytes());
    Hash32::new(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|n| format!("leaf {n}").into_bytes())
            .collect()
    }

    #[test]
    fn every_leaf_of_every_size_is_provable_and_nothing_else_is() {
        for count in 1..40 {
            let leaves = leaves(count);
            let root = root(leaves.iter().map(Vec::as_slice));
            for index in 0..count {
                let proof = prove(leaves.iter().map(Vec::as_slice), index).unwrap();

                assert!(proof.verify(&root, &leaves[index]), "{index} of {count}");
                assert!(!proof.verify(&root, b"another leaf"));
                let moved = InclusionProof {
                    index: proof.index ^ 1,
                    ..proof.clone()
                };
                assert!(!moved.verify(&root, &leaves[index]), "{index} of {count}");
                let longer = InclusionProof {
                    count: proof.count + 1,
                    ..proof
                };
                assert!(!longer.verify(&root, &leaves[index]), "{index} of {count}");
            }
        }
    }

    #[test]
    fn the_root_binds_the_number_of_leaves() {
        let one = leaves(1);

        assert_ne!(root(one.iter().map(Vec::as_slice)), root([]));
        assert_eq!(prove([], 0), None);
    }

    #[test]
    fn a_node_cannot_pass_as_a_leaf() {
        let two = leaves(2);
        let forged: Vec<u8> = [leaf_hash(&two[0]), leaf_hash(&two[1])]
            .iter()
            .flat_map(|hash| *hash.as_bytes())
            .collect();

        assert_ne!(
            root(two.iter().map(Vec::as_slice)),
            root([forged.as_slice()])
        );
    }
}
