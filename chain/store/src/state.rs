//! The chain's state in a store: one atomic write per block holds rows, tree, block, receipts,
//! transaction index and tip.
//!
//! ```text
//! Meta    "tip"                -> Tip
//! Rows    key                  -> value
//! Blocks  height (u64) | 0     -> Summary;  | 1 -> transactions;  | 2 -> receipts
//!         ff | height (u64)    -> nothing; the block has events
//! Index   transaction id       -> height (u64) | index of its receipt (u32)
//! ```
//! The tree is drawn in `tree.rs`.

use jmt::JellyfishMerkleTree;
use qlink_ledger::{Changes, KeyValue, Space, StateError, StateView};
use qlink_types::block::{Block, Certificate, Header, receipts_root};
use qlink_types::codec::{Decode, DecodeError, Encode, List, Reader};
use qlink_types::ids::{BlockId, Hash32, TxId};
use qlink_types::outcome::TxReceipt;
use qlink_types::struct_codec;
use qlink_types::transaction::SignedTransaction;
use qlink_types::units::{BlockHeight, TimeMs};

use crate::kv::{Column, KvStore, StoreError, Sync, WriteBatch};
use crate::layout::Layout;
use crate::proof::StateProof;
use crate::tree::{Blake3, Nodes, Tree, TreeChange, TreeChanges, TreeError, key_hash, root_of};

/// The store of a chain node: six columns, as few as memory for them is dear.
pub const CHAIN_LAYOUT: Layout = Layout {
    magic: *b"QLNKCHAN",
    version: 1,
    columns: &[
        Column::Meta,
        Column::Rows,
        Column::TreeNodes,
        Column::TreeValues,
        Column::Blocks,
        Column::Index,
    ],
};

/// Versions of the tree that stay provable unless told otherwise.
pub const KEEP_VERSIONS: u64 = 256;

const TIP: &[u8] = b"tip";

/// Receipts of one block: one per transaction and one of the ledger itself.
pub type Receipts = List<TxReceipt, 65537>;

/// The last block that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: BlockHeight,
    /// Its id.
    pub block: BlockId,
    /// Its ledger time.
    pub time_ms: TimeMs,
    /// Root of the state after it.
    pub state_root: Hash32,
    /// Root over its receipts.
    pub receipts_root: Hash32,
    /// Whether it changed the tree, so that a block must follow it to carry the new root.
    pub tree: TreeChange,
}

struct_codec!(Tip {
    height,
    block,
    time_ms,
    state_root,
    receipts_root,
    tree
});

qlink_types::tag_codec!(TreeChange, "tree change", { Unchanged = 0, Changed = 1 });

/// A block without its transactions, and what came out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its header.
    pub header: Header,
    /// Why it is final.
    pub certificate: Certificate,
    /// Root of the state after it.
    pub state_root: Hash32,
    /// Root over its receipts.
    pub receipts_root: Hash32,
}

struct_codec!(Summary {
    header,
    certificate,
    state_root,
    receipts_root
});

/// Where a transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxPlace {
    /// The block.
    pub height: BlockHeight,
    /// Index of its receipt in that block's receipts.
    pub receipt: u32,
}

struct_codec!(TxPlace { height, receipt });

/// Why the state was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateStoreError {
    /// The store below failed.
    #[error("the state's store failed")]
    Store(#[from] StoreError),
    /// The tree failed.
    #[error("the state tree failed")]
    Tree(#[from] TreeError),
    /// A record is not what this program writes.
    #[error("the record '{record}' of height {height} is damaged")]
    Damaged {
        /// Which record.
        record: &'static str,
        /// Of which block.
        height: BlockHeight,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// A record that must exist does not.
    #[error("the record '{record}' of height {height} is missing")]
    Missing {
        /// Which record.
        record: &'static str,
        /// Of which block.
        height: BlockHeight,
    },
    /// The block does not continue the chain.
    #[error("block {height} does not follow the stored chain, which expects {expected}")]
    Gap {
        /// The block's height.
        height: BlockHeight,
        /// The height that comes next.
        expected: BlockHeight,
    },
    /// Another block is final at this height.
    #[error("at height {height} the block {stored} is stored, not {offered}")]
    Conflict {
        /// The height.
        height: BlockHeight,
        /// What is stored.
        stored: BlockId,
        /// What was offered.
        offered: BlockId,
    },
    /// Header chain, receipts and tree contradict each other.
    #[error("the {what} of height {height} is {stored}, recomputed {recomputed}")]
    Inconsistent {
        /// Which value.
        what: &'static str,
        /// Of which block.
        height: BlockHeight,
        /// What is stored or stated.
        stored: Hash32,
        /// What it should be.
        recomputed: Hash32,
    },
}

/// A block's write, computed but not yet done.
#[derive(Debug)]
pub struct Prepared {
    batch: WriteBatch,
    tip: Tip,
}

impl Prepared {
    /// The tip that it makes.
    #[must_use]
    pub const fn tip(&self) -> &Tip {
        &self.tip
    }
}

/// The chain's state on a [`KvStore`]. Readers share it; the one writer needs it alone.
#[derive(Debug)]
pub struct StateStore<S> {
    store: S,
    tip: Option<Tip>,
    keep: u64,
}

impl<S: KvStore> StateStore<S> {
    /// The state in `store`, which is claimed for [`CHAIN_LAYOUT`] already; `keep` versions of the
    /// tree stay provable, at least one.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`] when the tip cannot be read.
    pub fn new(store: S, keep: u64) -> Result<Self, StateStoreError> {
        let tip = match store.get(Column::Meta, TIP)? {
            Some(bytes) => Some(decoded("tip", BlockHeight::ZERO, &bytes)?),
            None => None,
        };
        let keep = keep.max(1);
        Ok(Self { store, tip, keep })
    }

    /// The last block; `None` before genesis.
    #[must_use]
    pub const fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    /// The store below.
    #[must_use]
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// Gives the store below up.
    #[must_use]
    pub fn into_store(self) -> S {
        self.store
    }

    /// Stores a block with what it did, durably, and returns the root of the state after it.
    ///
    /// A block that is stored already changes nothing, so an orderer may deliver again after a
    /// restart.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`]; the state is as before then.
    pub fn commit(
        &mut self,
        block: &Block,
        certificate: &Certificate,
        receipts: &[TxReceipt],
        changes: &Changes,
    ) -> Result<Hash32, StateStoreError> {
        match self.prepare(block, certificate, receipts, changes)? {
            Some(prepared) => self.finish(prepared),
            None => self.stored_root(block.header.height),
        }
    }

    /// Computes the write of a block without doing it; `None` when the block is stored already.
    /// Readers may go on meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Self::commit`].
    pub fn prepare(
        &self,
        block: &Block,
        certificate: &Certificate,
        receipts: &[TxReceipt],
        changes: &Changes,
    ) -> Result<Option<Prepared>, StateStoreError> {
        let height = block.header.height;
        let id = block.header.id();
        if self.follows(height, id)? == Position::Stored {
            return Ok(None);
        }
        let mut batch = WriteBatch::new();
        let mut tree_changes = TreeChanges::new();
        for ((space, key), value) in changes {
            match (space, value) {
                (Space::Tree, value) => {
                    tree_changes.insert(key, value.as_deref());
                }
                (Space::Rows, Some(value)) => {
                    batch.put(Column::Rows, key.clone(), value.clone());
                }
                (Space::Rows, None) => batch.delete(Column::Rows, key.clone()),
            }
        }
        let tree = Tree::new(&self.store);
        let update = tree.update(height.get(), &tree_changes, self.keep, &mut batch)?;
        let summary = Summary {
            header: block.header.clone(),
            certificate: certificate.clone(),
            state_root: update.root,
            receipts_root: receipts_root(receipts),
        };
        put_block(&mut batch, &summary, block, receipts);
        let tip = Tip {
            height,
            block: id,
            time_ms: block.header.time_ms,
            state_root: update.root,
            receipts_root: summary.receipts_root,
            tree: update.changed,
        };
        batch.put(Column::Meta, TIP, tip.to_bytes());
        Ok(Some(Prepared { batch, tip }))
    }

    /// Does a prepared write, durably, and returns the root of the state after it.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`]. When the store failed it is unknown whether the write took effect:
    /// open the state again.
    pub fn finish(&mut self, prepared: Prepared) -> Result<Hash32, StateStoreError> {
        let height = prepared.tip.height;
        if self.follows(height, prepared.tip.block)? == Position::Stored {
            return self.stored_root(height);
        }
        self.store.write(prepared.batch, Sync::Durable)?;
        let root = prepared.tip.state_root;
        self.tip = Some(prepared.tip);
        Ok(root)
    }

    fn follows(&self, height: BlockHeight, id: BlockId) -> Result<Position, StateStoreError> {
        let expected = self
            .tip
            .as_ref()
            .map_or(BlockHeight::ZERO, |tip| tip.height.next());
        if height > expected {
            return Err(StateStoreError::Gap { height, expected });
        }
        if height == expected {
            return Ok(Position::Next);
        }
        let stored = self.must_have(height)?.header.id();
        if stored == id {
            return Ok(Position::Stored);
        }
        Err(StateStoreError::Conflict {
            height,
            stored,
            offered: id,
        })
    }

    fn stored_root(&self, height: BlockHeight) -> Result<Hash32, StateStoreError> {
        Ok(self.must_have(height)?.state_root)
    }

    fn must_have(&self, height: BlockHeight) -> Result<Summary, StateStoreError> {
        self.summary(height)?.ok_or(StateStoreError::Missing {
            record: "summary",
            height,
        })
    }

    /// A block without its transactions.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`] when the store fails or the record is damaged.
    pub fn summary(&self, height: BlockHeight) -> Result<Option<Summary>, StateStoreError> {
        self.record("summary", height, SUMMARY)
    }

    /// A block's transactions.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`] when the store fails or the record is damaged.
    pub fn transactions(
        &self,
        height: BlockHeight,
    ) -> Result<Option<List<SignedTransaction, 65536>>, StateStoreError> {
        self.record("transactions", height, TRANSACTIONS)
    }

    /// A block's receipts.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`] when the store fails or the record is damaged.
    pub fn receipts(&self, height: BlockHeight) -> Result<Option<Receipts>, StateStoreError> {
        self.record("receipts", height, RECEIPTS)
    }

    /// Heights of blocks with events, ascending from `from`, at most `limit`: a follower need not
    /// look at the others.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`] when the store fails.
    pub fn heights_with_events(
        &self,
        from: BlockHeight,
        limit: usize,
    ) -> Result<Vec<BlockHeight>, StateStoreError> {
        let after = from
            .get()
            .checked_sub(1)
            .map(BlockHeight::new)
            .map(events_key);
        let found = self
            .store
            .scan(Column::Blocks, &[EVENTS], after.as_deref(), limit)?;
        found
            .iter()
            .map(|(key, _)| decoded("events", from, key.get(1..).unwrap_or_default()))
            .collect()
    }

    /// Where a transaction stands; `None` when no block holds it.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`] when the store fails or the record is damaged.
    pub fn place(&self, tx: &TxId) -> Result<Option<TxPlace>, StateStoreError> {
        match self.store.get(Column::Index, tx.as_bytes())? {
            Some(bytes) => decoded("index", BlockHeight::ZERO, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Proves what stands under `key`, or that nothing does, in the state after `height`.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotKept`] when that state was pruned or is still to come.
    pub fn prove(&self, key: &[u8], height: BlockHeight) -> Result<StateProof, StateStoreError> {
        let version = height.get();
        let not_kept = TreeError::NotKept { height };
        let kept = self.tip.as_ref().is_some_and(|tip| {
            height <= tip.height && tip.height.get().saturating_sub(version) < self.keep
        });
        let tree = Tree::new(&self.store);
        let root = match tree.root(version)? {
            Some(root) if kept => root,
            _ => return Err(not_kept.into()),
        };
        let nodes = Nodes(&self.store);
        let damaged = |source| TreeError::Damaged { version, source };
        let (_, proof) = JellyfishMerkleTree::<_, Blake3>::new(&nodes)
            .get_with_proof(key_hash(key), version)
            .map_err(|error| damaged(error.into()))?;
        Ok(StateProof {
            height,
            root,
            key: key.to_vec(),
            value: tree.value_at(key, version)?,
            proof: borsh::to_vec(&proof).map_err(|error| damaged(error.into()))?,
        })
    }

    /// Checks the last block against tree, receipts and the block before it.
    ///
    /// # Errors
    ///
    /// [`StateStoreError::Inconsistent`] names the first contradiction.
    pub fn check(&self) -> Result<(), StateStoreError> {
        let Some(tip) = &self.tip else {
            return Ok(());
        };
        let height = tip.height;
        let summary = self.must_have(height)?;
        let id = Hash32::new(*summary.header.id().as_bytes());
        agree("block id", height, Hash32::new(*tip.block.as_bytes()), id)?;
        let root = Tree::new(&self.store).root(height.get())?;
        let root = root.ok_or(StateStoreError::Missing {
            record: "tree root",
            height,
        })?;
        agree("state root", height, tip.state_root, root)?;
        agree("state root", height, summary.state_root, root)?;
        let receipts = self.receipts(height)?.ok_or(StateStoreError::Missing {
            record: "receipts",
            height,
        })?;
        agree(
            "receipts root",
            height,
            tip.receipts_root,
            receipts_root(&receipts),
        )?;
        let Some(before) = height.get().checked_sub(1).map(BlockHeight::new) else {
            return Ok(());
        };
        let parent = self.must_have(before)?;
        let header = &summary.header;
        let parent_id = Hash32::new(*parent.header.id().as_bytes());
        agree(
            "parent",
            height,
            Hash32::new(*header.parent.as_bytes()),
            parent_id,
        )?;
        agree(
            "state root",
            before,
            header.state_root_prev,
            parent.state_root,
        )?;
        agree(
            "receipts root",
            before,
            header.receipts_root,
            parent.receipts_root,
        )
    }

    /// Checks the last state root against every value; takes time and memory in proportion to the
    /// state.
    ///
    /// # Errors
    ///
    /// [`StateStoreError::Inconsistent`] when the values have another root.
    pub fn check_values(&self) -> Result<(), StateStoreError> {
        match &self.tip {
            Some(tip) => {
                let recomputed = self.recompute_root()?;
                agree("state root", tip.height, tip.state_root, recomputed)
            }
            None => Ok(()),
        }
    }

    /// Computes the state root from all values, without the tree's nodes. Takes time and memory in
    /// proportion to the state.
    ///
    /// # Errors
    ///
    /// [`StateStoreError`] when the store fails.
    pub fn recompute_root(&self) -> Result<Hash32, StateStoreError> {
        let mut values = Vec::new();
        Tree::new(&self.store).each_value(|key, value| {
            values.push((key.to_vec(), value.to_vec()));
        })?;
        let values = values
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()));
        Ok(root_of(values)?)
    }

    fn record<T: Decode>(
        &self,
        record: &'static str,
        height: BlockHeight,
        kind: u8,
    ) -> Result<Option<T>, StateStoreError> {
        match self.store.get(Column::Blocks, &block_key(height, kind))? {
            Some(bytes) => decoded(record, height, &bytes).map(Some),
            None => Ok(None),
        }
    }
}

fn agree(
    what: &'static str,
    height: BlockHeight,
    stored: Hash32,
    recomputed: Hash32,
) -> Result<(), StateStoreError> {
    if stored == recomputed {
        return Ok(());
    }
    Err(StateStoreError::Inconsistent {
        what,
        height,
        stored,
        recomputed,
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Position {
    Next,
    Stored,
}

const SUMMARY: u8 = 0;
const TRANSACTIONS: u8 = 1;
const RECEIPTS: u8 = 2;

fn put_block(batch: &mut WriteBatch, summary: &Summary, block: &Block, receipts: &[TxReceipt]) {
    let height = block.header.height;
    let key = |kind| block_key(height, kind);
    batch.put(Column::Blocks, key(SUMMARY), summary.to_bytes());
    batch.put(
        Column::Blocks,
        key(TRANSACTIONS),
        block.transactions.to_bytes(),
    );
    let mut bytes = Vec::new();
    let count = u32::try_from(receipts.len()).unwrap_or(u32::MAX);
    count.encode(&mut bytes);
    for (receipt, index) in receipts.iter().zip(0..count) {
        receipt.encode(&mut bytes);
        if !receipt.tx.is_zero() {
            let place = TxPlace {
                height,
                receipt: index,
            };
            batch.put(Column::Index, *receipt.tx.as_bytes(), place.to_bytes());
        }
    }
    batch.put(Column::Blocks, key(RECEIPTS), bytes);
    if receipts.iter().any(|receipt| !receipt.events.is_empty()) {
        batch.put(Column::Blocks, events_key(height), []);
    }
}

/// Above every height's first byte, so that these keys stand apart.
const EVENTS: u8 = 0xff;

fn events_key(height: BlockHeight) -> Vec<u8> {
    (EVENTS, height).to_bytes()
}

fn block_key(height: BlockHeight, kind: u8) -> Vec<u8> {
    (height, kind).to_bytes()
}

fn decoded<T: Decode>(
    record: &'static str,
    height: BlockHeight,
    bytes: &[u8],
) -> Result<T, StateStoreError> {
    let mut reader = Reader::new(bytes);
    T::decode(&mut reader)
        .and_then(|value| reader.finish().map(|()| value))
        .map_err(|source| StateStoreError::Damaged {
            record,
            height,
            source,
        })
}

impl<S: KvStore> StateView for StateStore<S> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        match space {
            Space::Tree => Tree::new(&self.store).get(key).map_err(StateError::new),
            Space::Rows => self.store.get(Column::Rows, key).map_err(StateError::new),
        }
    }

    fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        limit: usize,
        after: Option<&[u8]>,
    ) -> Result<Vec<KeyValue>, StateError> {
        match space {
            Space::Rows => self
                .store
                .scan(Column::Rows, prefix, after, limit)
                .map_err(StateError::new),
            Space::Tree => Err(StateError::new("the tree's keys cannot be scanned")),
        }
    }
}
