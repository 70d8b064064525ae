//! The engine with one seat: what it proposes is final at once.

use std::fmt;

use qlink_types::block::{Block, Certificate, Header, MAX_BLOCK_BYTES, SCHEME_SOLO, tx_root};
use qlink_types::codec::{Blob, List};
use qlink_types::signature::{ChainId, Domain, SecretKey};
use qlink_types::units::{BlockHeight, SeatEpoch, TimeMs};

use crate::certificate::SeatSet;
use crate::orderer::{
    CheckError, Content, Evidence, Final, MAX_AHEAD_MS, Orderer, Parent, ProposeError, check_block,
    transactions_bytes,
};

/// One seat with its key; its seat_epoch never ends.
pub struct Solo {
    chain: ChainId,
    key: SecretKey,
    seats: SeatSet,
    acknowledged: BlockHeight,
    pending: Option<Final>,
}

impl fmt::Debug for Solo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Solo")
            .field("chain", &self.chain)
            .field("seat", &self.key.public())
            .field("acknowledged", &self.acknowledged)
            .finish_non_exhaustive()
    }
}

impl Solo {
    /// The engine of `chain` after the block of height `stored`.
    #[must_use]
    pub fn new(chain: ChainId, key: SecretKey, stored: BlockHeight) -> Self {
        Self {
            chain,
            seats: SeatSet::single(SeatEpoch::ZERO, key.public()),
            key,
            acknowledged: stored,
            pending: None,
        }
    }

    /// The same engine after the block of height `stored`; what was pending is dropped.
    #[must_use]
    pub fn at(self, stored: BlockHeight) -> Self {
        Self {
            acknowledged: stored,
            pending: None,
            ..self
        }
    }

    fn certify(&self, header: &Header) -> Certificate {
        let id = header.id();
        let signature = self
            .key
            .sign(Domain::Certificate, &self.chain, id.as_bytes());
        Certificate {
            scheme: SCHEME_SOLO,
            seat_epoch: header.seat_epoch,
            // 64 bytes are below the limit of 65536.
            proof: Blob::try_from(signature.as_bytes().to_vec()).unwrap_or_default(),
        }
    }
}

/// The time of a block after `parent`: the clock's, or just above the parent's when the clock is
/// behind.
fn next_time(parent: TimeMs, now: TimeMs) -> Result<TimeMs, ProposeError> {
    let time = now.max(parent.plus_millis(1));
    if time <= parent || time > now.plus_millis(MAX_AHEAD_MS) {
        return Err(ProposeError::ClockBehind { parent, now });
    }
    Ok(time)
}

impl Orderer for Solo {
    fn name(&self) -> &'static str {
        "solo"
    }

    fn seats(&self) -> &SeatSet {
        &self.seats
    }

    fn propose(
        &mut self,
        parent: &Parent,
        content: Content,
        now: TimeMs,
    ) -> Result<(), ProposeError> {
        let height = parent.height.next();
        if self.pending.is_some() || parent.height != self.acknowledged {
            return Err(ProposeError::OutOfOrder { height });
        }
        let bytes = transactions_bytes(&content);
        let too_large = ProposeError::TooLarge { bytes };
        if bytes > MAX_BLOCK_BYTES {
            return Err(too_large);
        }
        let transactions = List::try_from(content).map_err(|_| too_large)?;
        let header = Header {
            chain: self.chain,
            height,
            parent: parent.id,
            time_ms: next_time(parent.time_ms, now)?,
            seat_epoch: self.seats.seat_epoch,
            proposer: self.key.public(),
            engine_context: Blob::default(),
            state_root_prev: parent.state_root,
            tx_root: tx_root(&transactions),
            receipts_root: parent.receipts_root,
            next_seats_hash: self.next_set().hash(),
        };
        let certificate = self.certify(&header);
        let block = Block {
            header,
            transactions,
        };
        self.pending = Some(Final { block, certificate });
        Ok(())
    }

    fn check(&self, parent: &Parent, block: &Block, now: TimeMs) -> Result<(), CheckError> {
        let next = self.next_set();
        check_block(&self.chain, parent, block, &self.seats, &next, now)
    }

    fn take_final(&mut self) -> Option<Final> {
        self.pending.clone()
    }

    fn acknowledge(&mut self, height: BlockHeight) {
        let done = |pending: &mut Final| pending.block.header.height <= height;
        if self.pending.take_if(done).is_some() {
            self.acknowledged = height;
        }
    }

    /// A seat alone cannot contradict anyone.
    fn evidence(&mut self) -> Vec<Evidence> {
        Vec::new()
    }

    fn next_set(&self) -> SeatSet {
        self.seats.clone()
    }
}
