//! A made-up chain whose every block is a function of its height.

use qlink_ledger::{Changes, Space};
use qlink_store::{KvStore, StateStore};
use qlink_types::block::{Block, Certificate, Header, SCHEME_SOLO, tx_root};
use qlink_types::codec::{Blob, List};
use qlink_types::ids::{BlockId, Hash32, TxId};
use qlink_types::outcome::{Status, TxReceipt};
use qlink_types::signature::PublicKey;
use qlink_types::units::{BlockHeight, SeatEpoch, TimeMs, Units};

/// The block after the store's tip.
pub(crate) fn next_block<S: KvStore>(state: &StateStore<S>) -> Block {
    let tip = state.tip();
    let height = tip.map_or(BlockHeight::ZERO, |tip| tip.height.next());
    Block {
        header: Header {
            chain: Hash32::new([7; 32]),
            height,
            parent: tip.map_or(BlockId::ZERO, |tip| tip.block),
            time_ms: TimeMs::new(1000 + height.get()),
            seat_epoch: SeatEpoch::ZERO,
            proposer: PublicKey::default(),
            engine_context: Blob::default(),
            state_root_prev: tip.map_or(Hash32::ZERO, |tip| tip.state_root),
            tx_root: tx_root(&[]),
            receipts_root: tip.map_or(Hash32::ZERO, |tip| tip.receipts_root),
            next_seats_hash: Hash32::ZERO,
        },
        transactions: List::new(),
    }
}

/// A certificate that nobody checks here.
pub(crate) fn certificate() -> Certificate {
    Certificate {
        scheme: SCHEME_SOLO,
        seat_epoch: SeatEpoch::ZERO,
        proof: Blob::default(),
    }
}

/// One receipt whose id names the height.
pub(crate) fn receipts(height: BlockHeight) -> Vec<TxReceipt> {
    let mut tx = [0; 32];
    tx[..8].copy_from_slice(&(height.get() + 1).to_be_bytes());
    vec![TxReceipt {
        tx: TxId::new(tx),
        status: Status::Accepted,
        fee: Units::new(height.get()),
        refused: List::new(),
        events: List::new(),
    }]
}

/// Sixteen writes and removals over a small range of keys, in both spaces.
pub(crate) fn changes(height: BlockHeight) -> Changes {
    let mut changes = Changes::new();
    for n in 0..16_u64 {
        let mix = (height.get() * 16 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let space = if n % 2 == 0 { Space::Tree } else { Space::Rows };
        let key = format!("key {}", mix % 97).into_bytes();
        let value = (!mix.is_multiple_of(5)).then(|| format!("value {height} {n}").into_bytes());
        changes.insert((space, key), value);
    }
    changes
}

/// Commits the next block.
pub(crate) fn advance<S: KvStore>(state: &mut StateStore<S>) -> Hash32 {
    let block = next_block(state);
    let height = block.header.height;
    state
        .commit(&block, &certificate(), &receipts(height), &changes(height))
        .unwrap()
}
