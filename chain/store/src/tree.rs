//! The state tree: a Jellyfish Merkle tree with BLAKE3 over hashed keys, one version per block.
//!
//! ```text
//! TreeNodes   00 | version | nibbles (count, packed)     -> node
//!             01 | stale since | 00 | node's key         -> nothing
//!             01 | stale since | 01 | key hash           -> nothing
//! TreeValues  00 | key                                   -> changed at (u64) | value
//!             01 | key hash | changed at                 -> value before that change
//! ```
//!
//! Current values stand beside the tree, so reading one costs one lookup. Older values are an undo
//! log: it costs one entry per overwritten key and goes with the nodes of its version.
//!
//! The crate `jmt` takes any hasher through its own small trait; its other way, the `Digest` trait
//! of RustCrypto, is not needed.

use std::collections::BTreeMap;

use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, SimpleHasher, Version};
use qlink_types::codec::{Decode as _, Encode as _};
use qlink_types::ids::Hash32;
use qlink_types::units::BlockHeight;

use crate::kv::{Column, KvStore, StoreError, WriteBatch};

/// BLAKE3 as the tree's hash function.
#[derive(Debug, Default)]
pub(crate) struct Blake3(blake3::Hasher);

impl SimpleHasher for Blake3 {
    fn new() -> Self {
        Self::default()
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Why the tree cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store below failed.
    #[error("the tree's store failed")]
    Store(#[from] StoreError),
    /// What is stored is not a tree that this program wrote.
    #[error("the state tree is damaged at version {version}")]
    Damaged {
        /// The version in question.
        version: u64,
        /// What the tree found.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The version was pruned, or is not there yet.
    #[error("the state of height {height} is not kept")]
    NotKept {
        /// The height that was asked for.
        height: BlockHeight,
    },
}

fn damaged(version: u64, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TreeError {
    TreeError::Damaged {
        version,
        source: source.into(),
    }
}

/// What a block does to the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) root: Hash32,
    pub(crate) changed: TreeChange,
}

/// Whether a block left the tree as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeChange {
    /// The root is the same.
    Unchanged,
    /// Some value differs.
    Changed,
}

/// New values by key; `None` removes.
pub(crate) type TreeChanges<'a> = BTreeMap<&'a [u8], Option<&'a [u8]>>;

/// The tree in a store.
#[derive(Debug)]
pub(crate) struct Tree<'a, S> {
    store: &'a S,
}

impl<'a, S: KvStore> Tree<'a, S> {
    pub(crate) const fn new(store: &'a S) -> Self {
        Self { store }
    }

    /// The value of `key` after the last version.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.current(key)?.map(|(_, value)| value))
    }

    /// The value of `key` after `version`, which must be kept.
    pub(crate) fn value_at(&self, key: &[u8], version: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let current = self.current(key)?;
        if let Some((changed_at, value)) = current
            && changed_at <= version
        {
            return Ok(Some(value));
        }
        // The oldest change after `version` says what was there before it.
        let prefix = undo_prefix(key_hash(key));
        let after = [prefix.as_slice(), &version.to_be_bytes()].concat();
        let undo = self
            .store
            .scan(Column::TreeValues, &prefix, Some(&after), 1)?;
        match undo.into_iter().next() {
            Some((_, before)) => Option::<Value>::from_bytes(&before).map_or_else(
                |error| Err(damaged(version, error)),
                |before| Ok(before.map(|Value(bytes)| bytes)),
            ),
            None => Ok(None),
        }
    }

    /// Root hash after `version`.
    pub(crate) fn root(&self, version: u64) -> Result<Option<Hash32>, TreeError> {
        let nodes = Nodes(self.store);
        JellyfishMerkleTree::<_, Blake3>::new(&nodes)
            .get_root_hash_option(version)
            .map(|root| root.map(|root| Hash32::new(root.0)))
            .map_err(|error| damaged(version, error))
    }

    /// Adds to `batch` what makes `version` out of the version before; `keep` versions stay
    /// readable.
    pub(crate) fn update(
        &self,
        version: u64,
        changes: &TreeChanges<'_>,
        keep: u64,
        batch: &mut WriteBatch,
    ) -> Result<Update, TreeError> {
        let mut values = Vec::new();
        for (key, value) in changes {
            let before = self.current(key)?;
            if before.as_ref().map(|(_, bytes)| bytes.as_slice()) == *value {
                continue;
            }
            let hash = key_hash(key);
            log_undo(hash, version, before.map(|(_, bytes)| bytes), batch);
            match value {
                Some(value) => {
                    let stored = [&version.to_be_bytes(), *value].concat();
                    batch.put(Column::TreeValues, value_key(key), stored);
                }
                None => batch.delete(Column::TreeValues, value_key(key)),
            }
            values.push((hash, value.map(<[u8]>::to_vec)));
        }
        let changed = if values.is_empty() {
            TreeChange::Unchanged
        } else {
            TreeChange::Changed
        };
        let root = self.put(version, values, batch)?;
        self.prune(version, keep, batch)?;
        Ok(Update { root, changed })
    }

    fn put(
        &self,
        version: u64,
        values: Vec<(KeyHash, Option<OwnedValue>)>,
        batch: &mut WriteBatch,
    ) -> Result<Hash32, TreeError> {
        let nodes = Nodes(self.store);
        let empty = values.is_empty();
        let (root, update) = JellyfishMerkleTree::<_, Blake3>::new(&nodes)
            .put_value_set(values, version)
            .map_err(|error| damaged(version, error))?;
        for (key, node) in update.node_batch.nodes() {
            let bytes = borsh::to_vec(node).map_err(|error| damaged(version, error))?;
            batch.put(Column::TreeNodes, node_key(key), bytes);
        }
        for stale in &update.stale_node_index_batch {
            let key = node_key(&stale.node_key);
            let index = stale_node(stale.stale_since_version, &key);
            batch.put(Column::TreeNodes, index, []);
        }
        if let Some(previous) = version.checked_sub(1).filter(|_| empty) {
            // The tree copies the root node of a version without changes and does not call the
            // old one stale.
            let index = stale_node(version, &root_key(previous));
            batch.put(Column::TreeNodes, index, []);
        }
        Ok(Hash32::new(root.0))
    }

    /// Removes what only versions up to `version - keep` need.
    fn prune(&self, version: u64, keep: u64, batch: &mut WriteBatch) -> Result<(), TreeError> {
        let Some(oldest) = version.checked_sub(keep).map(|last| last.saturating_add(1)) else {
            return Ok(());
        };
        // Most entries removed per block (chosen): a shorter history than before is approached in
        // steps instead of in one giant write.
        const MOST: usize = 50_000;
        for (index, _) in self.store.scan(Column::TreeNodes, &[1], None, MOST)? {
            let Some((since, kind, key)) = split_stale(&index) else {
                return Err(damaged(version, "stale index"));
            };
            if since > oldest {
                break;
            }
            match kind {
                STALE_NODE => batch.delete(Column::TreeNodes, key),
                _ => {
                    let undo = [&[1], key, &since.to_be_bytes()].concat();
                    batch.delete(Column::TreeValues, undo);
                }
            }
            batch.delete(Column::TreeNodes, index);
        }
        Ok(())
    }

    fn current(&self, key: &[u8]) -> Result<Option<(u64, Vec<u8>)>, TreeError> {
        let Some(stored) = self.store.get(Column::TreeValues, &value_key(key))? else {
            return Ok(None);
        };
        match stored.split_first_chunk::<8>() {
            Some((changed_at, value)) => {
                Ok(Some((u64::from_be_bytes(*changed_at), value.to_vec())))
            }
            None => Err(damaged(0, "value without its version")),
        }
    }

    /// All current values in order of their keys, page by page, to `visit`.
    pub(crate) fn each_value(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), TreeError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self
                .store
                .scan(Column::TreeValues, &[0], after.as_deref(), 1024)?;
            for (key, stored) in &page {
                if let (Some((_, key)), Some((_, value))) =
                    (key.split_first(), stored.split_first_chunk::<8>())
                {
                    visit(key, value);
                }
            }
            match page.into_iter().next_back() {
                Some((last, _)) => after = Some(last),
                None => return Ok(()),
            }
        }
    }
}

/// The nodes of a store as `jmt` reads them. Values are not read through it.
#[derive(Debug)]
pub(crate) struct Nodes<'a, S>(pub(crate) &'a S);

impl<S: KvStore> TreeReader for Nodes<'_, S> {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        match self.0.get(Column::TreeNodes, &node_key(key))? {
            Some(bytes) => Ok(Some(borsh::from_slice(&bytes)?)),
            None => Ok(None),
        }
    }

    /// `jmt` asks for a value only to hand it to the caller of `get_with_proof`; here that caller
    /// has it from the values' own column.
    fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        Ok(Some(OwnedValue::new()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        anyhow::bail!("the tree is never restored leaf by leaf")
    }
}

/// Root over `values` from nothing: what every history that ends in them must have.
pub(crate) fn root_of<'a>(
    values: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Hash32, TreeError> {
    let store = crate::memory::MemoryStore::new();
    let changes: TreeChanges<'_> = values
        .into_iter()
        .map(|(key, value)| (key, Some(value)))
        .collect();
    let mut batch = WriteBatch::new();
    let update = Tree::new(&store).update(0, &changes, 1, &mut batch)?;
    Ok(update.root)
}

/// An owned value with a length in front.
struct Value(Vec<u8>);

impl qlink_types::codec::Decode for Value {
    fn decode(
        reader: &mut qlink_types::codec::Reader<'_>,
    ) -> Result<Self, qlink_types::codec::DecodeError> {
        let length = reader.remaining();
        reader.take(length).map(|bytes| Self(bytes.to_vec()))
    }
}

impl qlink_types::codec::Encode for Value {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

fn log_undo(hash: KeyHash, version: u64, before: Option<Vec<u8>>, batch: &mut WriteBatch) {
    let key = [undo_prefix(hash).as_slice(), &version.to_be_bytes()].concat();
    batch.put(Column::TreeValues, key, before.map(Value).to_bytes());
    let index = [
        &[1],
        version.to_be_bytes().as_slice(),
        &[STALE_VALUE],
        &hash.0,
    ]
    .concat();
    batch.put(Column::TreeNodes, index, []);
}

/// The tree's key of a state key.
pub(crate) fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(*blake3::hash(key).as_bytes())
}

const STALE_NODE: u8 = 0;
const STALE_VALUE: u8 = 1;

fn value_key(key: &[u8]) -> Vec<u8> {
    [&[0], key].concat()
}

fn undo_prefix(hash: KeyHash) -> Vec<u8> {
    [&[1], hash.0.as_slice()].concat()
}

fn stale_node(since: u64, node: &[u8]) -> Vec<u8> {
    [&[1], since.to_be_bytes().as_slice(), &[STALE_NODE], node].concat()
}

fn split_stale(index: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (_, rest) = index.split_first()?;
    let (since, rest) = rest.split_first_chunk::<8>()?;
    let (kind, key) = rest.split_first()?;
    Some((u64::from_be_bytes(*since), *kind, key))
}

fn root_key(version: u64) -> Vec<u8> {
    [&[0], version.to_be_bytes().as_slice(), &[0]].concat()
}

fn node_key(key: &NodeKey) -> Vec<u8> {
    let path = key.nibble_path();
    let count = u8::try_from(path.num_nibbles()).unwrap_or(u8::MAX);
    let mut out = [&[0], key.version().to_be_bytes().as_slice(), &[count]].concat();
    let mut high = None;
    for nibble in path.nibbles() {
        let nibble = u8::from(nibble);
        match high.take() {
            None => high = Some(nibble << 4),
            Some(bits) => out.push(bits | nibble),
        }
    }
    out.extend(high);
    out
}
