//! The seam between the node and whatever orders its blocks.

use qlink_types::block::{Block, Certificate, Header, MAX_BLOCK_BYTES, tx_root};
use qlink_types::codec::Encode as _;
use qlink_types::ids::{BlockId, Hash32};
use qlink_types::signature::ChainId;
use qlink_types::transaction::SignedTransaction;
use qlink_types::units::{BlockHeight, SeatEpoch, TimeMs};

use crate::certificate::SeatSet;

/// How far a block's time may be ahead of a verifier's clock, in milliseconds.
///
/// Source: design, section 5, "Chain".
pub const MAX_AHEAD_MS: u64 = 2_000;

/// The block that the next one builds on, and what came out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its height.
    pub height: BlockHeight,
    /// Its id.
    pub id: BlockId,
    /// Its time.
    pub time_ms: TimeMs,
    /// Root of the state after it.
    pub state_root: Hash32,
    /// Root over its receipts.
    pub receipts_root: Hash32,
}

/// What the node wants in the next block, within the limits that it was given.
pub type Content = Vec<SignedTransaction>;

/// A block that cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Final {
    /// The block.
    pub block: Block,
    /// Why it is final.
    pub certificate: Certificate,
}

/// Proof that a seat broke the engine's rules; the ledger judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The engine's own bytes.
    pub bytes: Vec<u8>,
}

/// Why no block was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The parent is at least 2 s ahead of the clock: time must strictly rise and may not run away.
    #[error("the parent's time {parent} is too far ahead of {now}")]
    ClockBehind {
        /// The parent's time.
        parent: TimeMs,
        /// The time that the engine was told.
        now: TimeMs,
    },
    /// The transactions are more than a block may hold.
    #[error("{bytes} bytes of transactions exceed the limit of {limit}", limit = MAX_BLOCK_BYTES)]
    TooLarge {
        /// Their length, in bytes.
        bytes: usize,
    },
    /// The block before is not acknowledged, or the parent is not the last one acknowledged.
    #[error("height {height} does not follow the last acknowledged block")]
    OutOfOrder {
        /// The height that was to be made.
        height: BlockHeight,
    },
}

/// Why a block must not be voted for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// It is for another chain.
    #[error("the block is for chain {chain}")]
    WrongChain {
        /// The chain it names.
        chain: ChainId,
    },
    /// It is not the parent's child.
    #[error("block {height} with parent {parent} is not the next one")]
    NotNext {
        /// Its height.
        height: BlockHeight,
        /// The parent it names.
        parent: BlockId,
    },
    /// Its time does not rise.
    #[error("time {time} is not above the parent's {parent}")]
    TimeNotRising {
        /// Its time.
        time: TimeMs,
        /// The parent's.
        parent: TimeMs,
    },
    /// Its time is more than [`MAX_AHEAD_MS`] ahead.
    #[error("time {time} is more than 2 s ahead of {now}")]
    TimeAhead {
        /// Its time.
        time: TimeMs,
        /// The verifier's.
        now: TimeMs,
    },
    /// A root or hash in the header is not what the verifier has.
    #[error("{what} is {stated}, expected {expected}")]
    Mismatch {
        /// Which field.
        what: &'static str,
        /// What the header states.
        stated: Hash32,
        /// What it should be.
        expected: Hash32,
    },
    /// It is of another seat_epoch.
    #[error("seat_epoch {stated}, expected {expected}")]
    SeatEpoch {
        /// What the header states.
        stated: SeatEpoch,
        /// What it should be.
        expected: SeatEpoch,
    },
    /// It was made by nobody who sits.
    #[error("the proposer holds no seat")]
    ForeignProposer,
    /// It is larger than a block may be.
    #[error("{bytes} bytes of transactions exceed the limit of {limit}", limit = MAX_BLOCK_BYTES)]
    TooLarge {
        /// Length of its transactions, in bytes.
        bytes: usize,
    },
}

/// An engine that orders blocks. It has no clock and no I/O: time is an argument, effects are
/// return values.
pub trait Orderer: Send {
    /// The engine's name in status and logs.
    fn name(&self) -> &'static str;

    /// Seats that vote now.
    fn seats(&self) -> &SeatSet;

    /// Most bytes of transactions that the next block takes.
    fn budget(&self) -> usize {
        MAX_BLOCK_BYTES
    }

    /// Makes the block after `parent` of `content` and offers it.
    ///
    /// # Errors
    ///
    /// [`ProposeError`]; nothing was offered then.
    fn propose(
        &mut self,
        parent: &Parent,
        content: Content,
        now: TimeMs,
    ) -> Result<(), ProposeError>;

    /// Whether this seat may vote for `block` after `parent`.
    ///
    /// # Errors
    ///
    /// [`CheckError`] names the first rule that is broken.
    fn check(&self, parent: &Parent, block: &Block, now: TimeMs) -> Result<(), CheckError>;

    /// The next final block in order, if there is one. Until it is acknowledged it may be handed
    /// over again.
    fn take_final(&mut self) -> Option<Final>;

    /// The block of `height` is stored durably.
    fn acknowledge(&mut self, height: BlockHeight);

    /// Proofs of broken rules since the last call.
    fn evidence(&mut self) -> Vec<Evidence>;

    /// The set that sits after the running seat_epoch; its hash stands in headers.
    fn next_set(&self) -> SeatSet;
}

/// The rules that hold for every engine's blocks. Pure.
///
/// # Errors
///
/// [`CheckError`] names the first rule that is broken.
pub fn check_block(
    chain: &ChainId,
    parent: &Parent,
    block: &Block,
    seats: &SeatSet,
    next: &SeatSet,
    now: TimeMs,
) -> Result<(), CheckError> {
    let header = &block.header;
    if header.chain != *chain {
        return Err(CheckError::WrongChain {
            chain: header.chain,
        });
    }
    if header.height != parent.height.next() || header.parent != parent.id {
        return Err(CheckError::NotNext {
            height: header.height,
            parent: header.parent,
        });
    }
    check_time(header.time_ms, parent.time_ms, now)?;
    if header.seat_epoch != seats.seat_epoch {
        return Err(CheckError::SeatEpoch {
            stated: header.seat_epoch,
            expected: seats.seat_epoch,
        });
    }
    if !seats.seats.contains(&header.proposer) {
        return Err(CheckError::ForeignProposer);
    }
    let bytes = transactions_bytes(&block.transactions);
    if bytes > MAX_BLOCK_BYTES {
        return Err(CheckError::TooLarge { bytes });
    }
    check_roots(header, parent, tx_root(&block.transactions), next.hash())
}

fn check_time(time: TimeMs, parent: TimeMs, now: TimeMs) -> Result<(), CheckError> {
    if time <= parent {
        return Err(CheckError::TimeNotRising { time, parent });
    }
    if time > now.plus_millis(MAX_AHEAD_MS) {
        return Err(CheckError::TimeAhead { time, now });
    }
    Ok(())
}

fn check_roots(
    header: &Header,
    parent: &Parent,
    tx_root: Hash32,
    next_seats: Hash32,
) -> Result<(), CheckError> {
    let fields = [
        ("state_root_prev", header.state_root_prev, parent.state_root),
        ("receipts_root", header.receipts_root, parent.receipts_root),
        ("tx_root", header.tx_root, tx_root),
        ("next_seats_hash", header.next_seats_hash, next_seats),
    ];
    for (what, stated, expected) in fields {
        if stated != expected {
            return Err(CheckError::Mismatch {
                what,
                stated,
                expected,
            });
        }
    }
    Ok(())
}

/// Length of the transactions' encodings together, in bytes.
pub(crate) fn transactions_bytes(transactions: &[SignedTransaction]) -> usize {
    transactions.iter().fold(0, |sum: usize, transaction| {
        sum.saturating_add(transaction.to_bytes().len())
    })
}
