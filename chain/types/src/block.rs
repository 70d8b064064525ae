//! Blocks: header, certificate, transactions.

use serde::{Deserialize, Serialize};

use crate::codec::{Blob, Decode, DecodeError, Encode, List, Reader};
use crate::ids::{BlockId, Hash32};
use crate::merkle;
use crate::outcome::TxReceipt;
use crate::signature::{ChainId, Domain, PublicKey};
use crate::struct_codec;
use crate::transaction::SignedTransaction;
use crate::units::{BlockHeight, SeatEpoch, TimeMs};

/// Version of the header format.
pub const HEADER_VERSION: u16 = 1;

/// Most bytes of all transactions of a block together.
pub const MAX_BLOCK_BYTES: usize = 1_000_000;

/// A block header, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The chain.
    pub chain: ChainId,
    /// Position; genesis is 0.
    pub height: BlockHeight,
    /// The block before; zero for genesis.
    pub parent: BlockId,
    /// Ledger time: strictly above the parent's, at most 2 s ahead of a verifier's clock.
    pub time_ms: TimeMs,
    /// The delegate set that certifies it.
    pub seat_epoch: SeatEpoch,
    /// The seat that made it.
    pub proposer: PublicKey,
    /// What the consensus engine needs to find in it.
    pub engine_context: Blob<128>,
    /// Root of the state tree before this block.
    pub state_root_prev: Hash32,
    /// Merkle root over the transactions' encodings.
    pub tx_root: Hash32,
    /// Merkle root over the previous block's receipts: execution never delays voting.
    pub receipts_root: Hash32,
    /// Hash of the next delegate set.
    pub next_seats_hash: Hash32,
}

impl Encode for Header {
    fn encode(&self, out: &mut Vec<u8>) {
        HEADER_VERSION.encode(out);
        self.chain.encode(out);
        self.height.encode(out);
        self.parent.encode(out);
        self.time_ms.encode(out);
        self.seat_epoch.encode(out);
        self.proposer.encode(out);
        self.engine_context.encode(out);
        self.state_root_prev.encode(out);
        self.tx_root.encode(out);
        self.receipts_root.encode(out);
        self.next_seats_hash.encode(out);
    }
}

impl Decode for Header {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u16::decode(reader)? {
            HEADER_VERSION => Ok(Self {
                chain: Decode::decode(reader)?,
                height: Decode::decode(reader)?,
                parent: Decode::decode(reader)?,
                time_ms: Decode::decode(reader)?,
                seat_epoch: Decode::decode(reader)?,
                proposer: Decode::decode(reader)?,
                engine_context: Decode::decode(reader)?,
                state_root_prev: Decode::decode(reader)?,
                tx_root: Decode::decode(reader)?,
                receipts_root: Decode::decode(reader)?,
                next_seats_hash: Decode::decode(reader)?,
            }),
            other => Err(DecodeError::UnknownTag {
                what: "header version",
                value: other.into(),
            }),
        }
    }
}

impl Header {
    /// Its id: the hash of its bytes.
    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId::new(*Domain::Header.hash(&self.to_bytes()).as_bytes())
    }
}

/// Proof that the delegate set finalized a block: an object of its own, outside the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Which scheme the bytes follow: 1 = one ed25519 seat (ZIP-215) in domain `Certificate`,
    /// 2 = votes of more than two thirds of the seats.
    #[serde(with = "crate::text")]
    pub scheme: u16,
    /// The delegate set.
    pub seat_epoch: SeatEpoch,
    /// The scheme's bytes.
    pub proof: Blob<65536>,
}

struct_codec!(Certificate {
    scheme,
    seat_epoch,
    proof
});

/// The certificate scheme of a chain with one seat.
pub const SCHEME_SOLO: u16 = 1;

/// The certificate scheme of the BFT engine: ed25519 votes that name their seats.
pub const SCHEME_SIMPLEX: u16 = 2;

/// A header with its transactions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The transactions in order of execution.
    pub transactions: List<SignedTransaction, 65536>,
}

struct_codec!(Block {
    header,
    transactions
});

/// Merkle root over the transactions' encodings.
#[must_use]
pub fn tx_root(transactions: &[SignedTransaction]) -> Hash32 {
    root_of(transactions)
}

/// Merkle root over the receipts' encodings.
#[must_use]
pub fn receipts_root(receipts: &[TxReceipt]) -> Hash32 {
    root_of(receipts)
}

fn root_of<T: Encode>(values: &[T]) -> Hash32 {
    let encodings: Vec<Vec<u8>> = values.iter().map(Encode::to_bytes).collect();
    merkle::root(encodings.iter().map(Vec::as_slice))
}
