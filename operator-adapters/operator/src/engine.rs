//! The machine of operations: Intent, effect, Result.
//!
//! `step` decides and changes nothing; `apply` changes and is called only with records that are
//! durable. Replaying the journal calls `apply` alone, so a live engine and a recovered one are
//! the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::books::{Asset, Books, BooksError, Entry, Posting};
use crate::op::{Op, OpId, OperatorReceipt, Outcome, Reason};

/// Operations remembered at most; a request beyond is refused.
const OPS_MAX: usize = 1 << 20;

/// What the journal holds about operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum OpRecord {
    /// We are about to ask.
    Intent {
        /// The operation.
        id: OpId,
        /// What is asked.
        op: Op,
        /// Our clock, milliseconds since 1970.
        time_ms: u64,
    },
    /// It happened.
    Done {
        /// The operation.
        id: OpId,
        /// What the operator gave.
        receipt: OperatorReceipt,
    },
    /// It will not happen.
    Rejected {
        /// The operation.
        id: OpId,
        /// Why.
        reason: Reason,
    },
    /// It happened and was taken back by the operator.
    Reversed {
        /// The operation.
        id: OpId,
        /// Our clock, milliseconds since 1970.
        time_ms: u64,
    },
}

/// Where an operation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpState {
    /// Asked, or about to be; the outcome is unknown.
    Pending,
    /// It happened.
    Done(OperatorReceipt),
    /// It will not happen.
    Rejected(Reason),
    /// It happened and was taken back.
    Reversed(OperatorReceipt),
}

/// What happens to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Someone wants an operation.
    Request {
        /// Derived id.
        id: OpId,
        /// What is wanted.
        op: Op,
    },
    /// An adapter or a callback says how it ended.
    Outcome {
        /// The operation.
        id: OpId,
        /// How.
        outcome: Outcome,
    },
    /// The operator says it took a completed operation back.
    Reversal {
        /// The operation.
        id: OpId,
    },
    /// The process came back: every Intent without Result is asked about.
    Recovered,
}

/// What the shell must do, in order; nothing after a `Persist` happens before it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the record durable, then [`Engine::apply`] it.
    Persist(OpRecord),
    /// Ask for the operation.
    Submit {
        /// The operation.
        id: OpId,
        /// What is asked.
        op: Op,
    },
    /// Find out, after a pause, what became of it.
    Resolve {
        /// The operation.
        id: OpId,
        /// What was asked.
        op: Op,
        /// Milliseconds to wait first.
        after_ms: u64,
    },
    /// Someone must look: the operator contradicts itself. Nothing was changed.
    Alarm {
        /// The operation.
        id: OpId,
        /// What is odd.
        detail: &'static str,
    },
}

/// Why an event was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EngineError {
    /// The id names another operation already.
    #[error("{id} was asked for with another body")]
    KeyReused {
        /// The operation.
        id: OpId,
    },
    /// No such operation.
    #[error("{id} is not known")]
    Unknown {
        /// The operation.
        id: OpId,
    },
    /// A refund names nothing that is done.
    #[error("{of} is not done, so it cannot be refunded")]
    NothingToRefund {
        /// The operation named.
        of: OpId,
    },
    /// The table is full.
    #[error("{OPS_MAX} operations are remembered already")]
    Full,
    /// A record does not follow from the ones before it.
    #[error("the record for {id} does not follow from its state")]
    OutOfOrder {
        /// The operation.
        id: OpId,
    },
    /// The books refused the record's entry.
    #[error("the books refused an entry")]
    Books(#[from] BooksError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    op: Op,
    state: OpState,
}

/// All operations of one operator link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    operator: String,
    ops: BTreeMap<OpId, Known>,
}

impl Engine {
    /// An engine for the operator of that name.
    #[must_use]
    pub const fn new(operator: String) -> Self {
        Self {
            operator,
            ops: BTreeMap::new(),
        }
    }

    /// Where an operation stands.
    #[must_use]
    pub fn state(&self, id: &OpId) -> Option<&OpState> {
        self.ops.get(id).map(|known| &known.state)
    }

    /// Operations whose outcome is unknown, with what was asked.
    pub fn open(&self) -> impl Iterator<Item = (OpId, &Op)> {
        let pending = |known: &Known| known.state == OpState::Pending;
        self.ops
            .iter()
            .filter(move |(_, known)| pending(known))
            .map(|(id, known)| (*id, &known.op))
    }

    /// Decides what an event leads to; the clock is the caller's, milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// [`EngineError`]; nothing changes.
    pub fn step(&self, event: Event, now_ms: u64) -> Result<Vec<Effect>, EngineError> {
        match event {
            Event::Request { id, op } => self.request(id, op, now_ms),
            Event::Outcome { id, outcome } => self.outcome(id, outcome),
            Event::Reversal { id } => self.reversal(id, now_ms),
            Event::Recovered => Ok(self
                .open()
                .map(|(id, op)| Effect::Resolve {
                    id,
                    op: op.clone(),
                    after_ms: 0,
                })
                .collect()),
        }
    }

    fn request(&self, id: OpId, op: Op, time_ms: u64) -> Result<Vec<Effect>, EngineError> {
        if let Some(known) = self.ops.get(&id) {
            return match known.state {
                _ if known.op != op => Err(EngineError::KeyReused { id }),
                // Never submitted twice: an open one is asked about.
                OpState::Pending => Ok(vec![Effect::Resolve {
                    id,
                    op,
                    after_ms: 0,
                }]),
                OpState::Done(_) | OpState::Rejected(_) | OpState::Reversed(_) => Ok(Vec::new()),
            };
        }
        if self.ops.len() >= OPS_MAX {
            return Err(EngineError::Full);
        }
        if let Op::Refund { of } = &op
            && !matches!(self.state(of), Some(OpState::Done(_)))
        {
            return Err(EngineError::NothingToRefund { of: *of });
        }
        let intent = OpRecord::Intent {
            id,
            op: op.clone(),
            time_ms,
        };
        Ok(vec![Effect::Persist(intent), Effect::Submit { id, op }])
    }

    fn outcome(&self, id: OpId, outcome: Outcome) -> Result<Vec<Effect>, EngineError> {
        let known = self.ops.get(&id).ok_or(EngineError::Unknown { id })?;
        let alarm = |detail| Ok(vec![Effect::Alarm { id, detail }]);
        match (&known.state, outcome) {
            (OpState::Pending, Outcome::Done(receipt)) if !is_sound(&receipt) => {
                alarm("a receipt with a price that is not one")
            }
            (OpState::Pending, Outcome::Done(receipt)) => {
                Ok(vec![Effect::Persist(OpRecord::Done { id, receipt })])
            }
            (OpState::Pending, Outcome::Rejected { reason }) => {
                Ok(vec![Effect::Persist(OpRecord::Rejected { id, reason })])
            }
            (OpState::Pending, Outcome::Unknown { retry_after_ms }) => Ok(vec![Effect::Resolve {
                id,
                op: known.op.clone(),
                after_ms: retry_after_ms,
            }]),
            (OpState::Done(seen) | OpState::Reversed(seen), Outcome::Done(receipt)) => {
                if *seen == receipt {
                    Ok(Vec::new())
                } else {
                    alarm("done twice with different receipts")
                }
            }
            (OpState::Rejected(_), Outcome::Done(_)) => alarm("done after it was rejected"),
            (OpState::Done(_), Outcome::Rejected { .. }) => alarm("rejected after it was done"),
            (OpState::Rejected(_) | OpState::Reversed(_), Outcome::Rejected { .. })
            | (_, Outcome::Unknown { .. }) => Ok(Vec::new()),
        }
    }

    fn reversal(&self, id: OpId, time_ms: u64) -> Result<Vec<Effect>, EngineError> {
        let known = self.ops.get(&id).ok_or(EngineError::Unknown { id })?;
        Ok(match known.state {
            OpState::Done(_) => vec![Effect::Persist(OpRecord::Reversed { id, time_ms })],
            OpState::Pending => {
                let reason = Reason::Reversed;
                vec![Effect::Persist(OpRecord::Rejected { id, reason })]
            }
            OpState::Rejected(_) | OpState::Reversed(_) => Vec::new(),
        })
    }

    /// Takes in a durable record and posts its entry.
    ///
    /// # Errors
    ///
    /// [`EngineError::OutOfOrder`] when the record cannot follow (a journal of other hands),
    /// [`EngineError::Books`] when its entry is refused.
    pub fn apply(&mut self, record: &OpRecord, books: &mut Books) -> Result<(), EngineError> {
        match record {
            OpRecord::Intent { id, op, .. } => {
                let known = Known {
                    op: op.clone(),
                    state: OpState::Pending,
                };
                if self.ops.insert(*id, known).is_some() {
                    return Err(EngineError::OutOfOrder { id: *id });
                }
                Ok(())
            }
            OpRecord::Done { id, receipt } => {
                let op = self.conclude(*id, OpState::Done(receipt.clone()))?;
                match op {
                    Op::Activate { .. } => self.post_activation(*id, receipt, books),
                    Op::Refund { of } => self.take_back(of, receipt.time_ms, books),
                    // The settlement cycle books its own payout.
                    Op::Payout { .. } => Ok(()),
                }
            }
            OpRecord::Rejected { id, reason } => {
                self.conclude(*id, OpState::Rejected(*reason)).map(drop)
            }
            OpRecord::Reversed { id, time_ms } => self.take_back(*id, *time_ms, books),
        }
    }

    /// Ends a pending operation and gives what was asked.
    fn conclude(&mut self, id: OpId, state: OpState) -> Result<Op, EngineError> {
        match self.ops.get_mut(&id) {
            Some(known) if known.state == OpState::Pending => {
                known.state = state;
                Ok(known.op.clone())
            }
            _ => Err(EngineError::OutOfOrder { id }),
        }
    }

    fn post_activation(
        &self,
        id: OpId,
        receipt: &OperatorReceipt,
        books: &mut Books,
    ) -> Result<(), EngineError> {
        let price = &receipt.price;
        if price.units == 0 {
            return Ok(());
        }
        let asset = Asset {
            code: price.asset.clone(),
            scale: price.scale,
        };
        let side = |account: &str, amount| Posting {
            account: format!("{account}:{}", self.operator),
            asset: asset.clone(),
            amount,
        };
        let postings = vec![
            side("assets:prepaid-data", price.units),
            side("liabilities:payable", price.units.saturating_neg()),
        ];
        let entry = Entry {
            reference: id.to_string(),
            time_ms: receipt.time_ms,
            postings,
        };
        books.post(entry)?;
        Ok(())
    }

    /// Marks a done operation as reversed and posts the correcting entry.
    fn take_back(&mut self, id: OpId, time_ms: u64, books: &mut Books) -> Result<(), EngineError> {
        let known = self
            .ops
            .get_mut(&id)
            .ok_or(EngineError::OutOfOrder { id })?;
        let receipt = match &known.state {
            OpState::Done(receipt) => receipt.clone(),
            // A refund and the reversal notice for it are one event.
            OpState::Reversed(_) => return Ok(()),
            OpState::Pending | OpState::Rejected(_) => {
                return Err(EngineError::OutOfOrder { id });
            }
        };
        known.state = OpState::Reversed(receipt);
        match books.correct(&id.to_string(), format!("{id}-reversed"), time_ms) {
            // A free activation, or a payout, has no entry of ours to correct.
            Ok(_) | Err(BooksError::Unknown { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A price that the books can take: not negative, a proper asset.
fn is_sound(receipt: &OperatorReceipt) -> bool {
    let code = &receipt.price.asset;
    receipt.price.units >= 0
        && receipt.price.units <= i128::from(u64::MAX)
        && receipt.price.scale <= 18
        && (1..=12).contains(&code.len())
        && code.bytes().all(|c| c.is_ascii_uppercase())
}
