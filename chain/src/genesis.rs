//! Block 0.

use qlink_ledger::Genesis;
use qlink_order::SeatSet;
use qlink_types::block::{Block, Certificate, Header, receipts_root, tx_root};
use qlink_types::codec::{Blob, List};
use qlink_types::ids::{BlockId, Hash32};
use qlink_types::signature::PublicKey;
use qlink_types::units::BlockHeight;

/// Certificate scheme of block 0: none. Nobody votes for it; whoever knows the chain id knows it.
pub const SCHEME_GENESIS: u16 = 0;

/// Block 0 of the chain that `genesis` describes and `seats` begin.
#[must_use]
pub fn genesis_block(genesis: &Genesis, seats: &SeatSet) -> (Block, Certificate) {
    let header = Header {
        chain: genesis.chain_id(),
        height: BlockHeight::ZERO,
        parent: BlockId::ZERO,
        time_ms: genesis.time_ms(),
        seat_epoch: seats.seat_epoch,
        proposer: PublicKey::default(),
        engine_context: Blob::default(),
        state_root_prev: Hash32::ZERO,
        tx_root: tx_root(&[]),
        receipts_root: receipts_root(&[]),
        next_seats_hash: seats.hash(),
    };
    let certificate = Certificate {
        scheme: SCHEME_GENESIS,
        seat_epoch: seats.seat_epoch,
        proof: Blob::default(),
    };
    let block = Block {
        header,
        transactions: List::new(),
    };
    (block, certificate)
}
