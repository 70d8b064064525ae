//! Performs what engine and settlement cycles decide: journal first, then the adapter.
//!
//! The journal's fdatasync blocks the calling thread for the disk's latency: this is control
//! plane, some operations a second. After any error of the journal the desk refuses everything;
//! [`Desk::recover`] from the journal is the way back, as after a crash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::adapter::{AdapterError, OperatorAdapter, fetch_statement};
use crate::books::{Books, BooksError};
use crate::engine::{Effect, Engine, EngineError, Event, OpRecord, OpState};
use crate::journal::{Journal, JournalError};
use crate::op::{Op, OpId, Outcome, Reason};
use crate::reconcile::Tolerance;
use crate::settlement::{CycleEffect, CycleError, CycleEvent, SettlementCycle, Summary};

/// Settlements remembered at most.
const CYCLES_MAX: usize = 1 << 16;

/// One record of the journal, JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// About an operation.
    Op(OpRecord),
    /// A settlement was opened.
    CycleOpened {
        /// Its id, `set_…`.
        settlement: String,
        /// Start of the period, milliseconds since 1970.
        from_ms: u64,
        /// Tolerance of its lines.
        tolerance: Tolerance,
        /// Cursor of the last chain event of the period before.
        after: Option<u64>,
    },
    /// About a settlement.
    Cycle {
        /// Its id.
        settlement: String,
        /// What happened.
        event: CycleEvent,
    },
}

/// Why the desk refused.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The journal failed; recover from it.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// A record of the journal does not read.
    #[error("record {sequence} of the journal does not read")]
    Record {
        /// Its number, from 0.
        sequence: usize,
        /// What was wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A record does not serialise.
    #[error("a record does not serialise")]
    Serialise(#[source] serde_json::Error),
    /// The engine refused.
    #[error("the operation was refused")]
    Engine(#[from] EngineError),
    /// The settlement refused.
    #[error("the settlement refused")]
    Cycle(#[from] CycleError),
    /// The books refused an entry of a settlement.
    #[error("the books refused an entry")]
    Books(#[from] BooksError),
    /// The operator gave no statement.
    #[error("there is no statement")]
    Statement(#[from] AdapterError),
    /// No such settlement.
    #[error("there is no settlement {settlement}")]
    UnknownSettlement {
        /// What was named.
        settlement: String,
    },
    /// The id is not `[A-Za-z0-9_-]+`, or there are too many settlements.
    #[error("settlement {settlement} cannot be opened")]
    CannotOpen {
        /// What was named.
        settlement: String,
    },
    /// The operator refused to be paid.
    #[error("the operator refused the payout of {settlement}: {}", reason.as_str())]
    PayoutRejected {
        /// The settlement.
        settlement: String,
        /// Why.
        reason: Reason,
    },
    /// The operator's signature over the statement root is missing or wrong.
    #[error("the countersignature of {settlement} does not verify")]
    BadProof {
        /// The settlement.
        settlement: String,
    },
    /// An earlier failure of the journal.
    #[error("the desk stopped after a failure of its journal")]
    Stopped,
}

/// Operations, settlements and books of one operator, over one journal.
#[derive(Debug)]
pub struct Desk<J> {
    journal: J,
    operator: String,
    engine: Engine,
    cycles: BTreeMap<String, SettlementCycle>,
    books: Books,
    alarms: u64,
    stopped: bool,
}

impl<J: Journal> Desk<J> {
    /// A desk in the state that the journal's records lead to. Call [`Self::resolve_open`] next.
    ///
    /// # Errors
    ///
    /// [`DeskError::Record`], or what a record that does not follow leads to.
    pub fn recover(operator: &str, journal: J, records: &[Vec<u8>]) -> Result<Self, DeskError> {
        let mut desk = Self {
            journal,
            operator: operator.to_owned(),
            engine: Engine::new(operator.to_owned()),
            cycles: BTreeMap::new(),
            books: Books::new(),
            alarms: 0,
            stopped: false,
        };
        for (sequence, bytes) in records.iter().enumerate() {
            let record = serde_json::from_slice(bytes)
                .map_err(|source| DeskError::Record { sequence, source })?;
            desk.apply(&record)?;
        }
        Ok(desk)
    }

    /// The books.
    #[must_use]
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// The operations.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Times the operator contradicted itself since this desk started; someone must look.
    #[must_use]
    pub const fn alarms(&self) -> u64 {
        self.alarms
    }

    /// A settlement.
    #[must_use]
    pub fn cycle(&self, settlement: &str) -> Option<&SettlementCycle> {
        self.cycles.get(settlement)
    }

    /// Asks for an operation once; the same request again gives its state, or resolves it if it
    /// is open. [`OpState::Pending`] means: call [`Self::resolve`] later.
    ///
    /// # Errors
    ///
    /// [`DeskError::Engine`] for another body under the same id; [`DeskError::Journal`].
    pub async fn request(
        &mut self,
        adapter: &dyn OperatorAdapter,
        id: OpId,
        op: Op,
        now_ms: u64,
    ) -> Result<OpState, DeskError> {
        self.run(Some(adapter), Event::Request { id, op }, now_ms)
            .await?;
        self.state_of(id)
    }

    /// Asks the operator once about an open operation.
    ///
    /// # Errors
    ///
    /// [`DeskError::Engine`] when it is not known; [`DeskError::Journal`].
    pub async fn resolve(
        &mut self,
        adapter: &dyn OperatorAdapter,
        id: OpId,
        now_ms: u64,
    ) -> Result<OpState, DeskError> {
        let open = self.engine.open().find(|(open, _)| *open == id);
        if let Some((_, op)) = open {
            let outcome = adapter.resolve(id, &op.clone()).await;
            self.outcome(id, outcome, now_ms).await?;
        }
        self.state_of(id)
    }

    /// Asks once about every open operation; gives how many stay open.
    ///
    /// # Errors
    ///
    /// [`DeskError::Journal`].
    pub async fn resolve_open(
        &mut self,
        adapter: &dyn OperatorAdapter,
        now_ms: u64,
    ) -> Result<usize, DeskError> {
        self.run(Some(adapter), Event::Recovered, now_ms).await?;
        Ok(self.engine.open().count())
    }

    /// Takes in how an operation ended, from a verified callback.
    ///
    /// # Errors
    ///
    /// [`DeskError::Engine`] when it is not known; [`DeskError::Journal`].
    pub async fn outcome(
        &mut self,
        id: OpId,
        outcome: Outcome,
        now_ms: u64,
    ) -> Result<OpState, DeskError> {
        self.run(None, Event::Outcome { id, outcome }, now_ms)
            .await?;
        self.state_of(id)
    }

    /// Takes in that the operator took an operation back, from a verified callback.
    ///
    /// # Errors
    ///
    /// [`DeskError::Engine`] when it is not known; [`DeskError::Journal`].
    pub async fn reversal(&mut self, id: OpId, now_ms: u64) -> Result<OpState, DeskError> {
        self.run(None, Event::Reversal { id }, now_ms).await?;
        self.state_of(id)
    }

    /// Opens a settlement; the same again changes nothing.
    ///
    /// # Errors
    ///
    /// [`DeskError::CannotOpen`] for an id that is not `[A-Za-z0-9_-]+`, or one too many;
    /// [`DeskError::Journal`].
    pub fn open_cycle(
        &mut self,
        settlement: &str,
        from_ms: u64,
        tolerance: Tolerance,
        after: Option<u64>,
    ) -> Result<(), DeskError> {
        if self.cycles.contains_key(settlement) {
            return Ok(());
        }
        let named = !settlement.is_empty()
            && settlement
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'));
        if self.cycles.len() >= CYCLES_MAX || !named {
            return Err(DeskError::CannotOpen {
                settlement: settlement.to_owned(),
            });
        }
        let settlement = settlement.to_owned();
        self.persist(&Record::CycleOpened {
            settlement,
            from_ms,
            tolerance,
            after,
        })
    }

    /// Feeds an event to a settlement; a replay changes nothing.
    ///
    /// # Errors
    ///
    /// [`DeskError::Cycle`] when it does not belong there; [`DeskError::Journal`].
    pub fn cycle_event(&mut self, settlement: &str, event: CycleEvent) -> Result<(), DeskError> {
        for effect in self.known_cycle(settlement)?.step(event)? {
            if let CycleEffect::Persist(event) = effect {
                self.persist(&Record::Cycle {
                    settlement: settlement.to_owned(),
                    event,
                })?;
            }
        }
        Ok(())
    }

    /// Takes a settlement as far as the operator lets it: statement, clearing, payout, proof.
    /// Nothing happens while it is open. An unknown payout leaves it `cleared`: call again.
    ///
    /// # Errors
    ///
    /// [`DeskError::Statement`], [`DeskError::PayoutRejected`], [`DeskError::BadProof`],
    /// [`DeskError::Journal`]; what was reached stays reached.
    pub async fn run_cycle(
        &mut self,
        adapter: &dyn OperatorAdapter,
        settlement: &str,
        now_ms: u64,
    ) -> Result<Summary, DeskError> {
        while let Some(due) = self.known_cycle(settlement)?.due() {
            let event = match due {
                CycleEffect::Persist(event) => event,
                CycleEffect::FetchStatement(period) => {
                    CycleEvent::Statement(fetch_statement(adapter, period).await?)
                }
                CycleEffect::Clear => CycleEvent::Clear,
                CycleEffect::Pay { id, op } => match self.request(adapter, id, op, now_ms).await? {
                    OpState::Done(receipt) => CycleEvent::Paid { receipt },
                    OpState::Pending => break,
                    OpState::Rejected(reason) => {
                        let settlement = settlement.to_owned();
                        return Err(DeskError::PayoutRejected { settlement, reason });
                    }
                    OpState::Reversed(_) => {
                        let (settlement, reason) = (settlement.to_owned(), Reason::Reversed);
                        return Err(DeskError::PayoutRejected { settlement, reason });
                    }
                },
                CycleEffect::VerifyProof {
                    statement_root,
                    countersignature,
                } => match countersignature {
                    Some(signature)
                        if adapter.verify_countersignature(&statement_root, &signature) =>
                    {
                        CycleEvent::Proved {
                            countersignature: signature,
                        }
                    }
                    _ => {
                        return Err(DeskError::BadProof {
                            settlement: settlement.to_owned(),
                        });
                    }
                },
            };
            self.cycle_event(settlement, event)?;
        }
        Ok(self.known_cycle(settlement)?.summary())
    }

    fn known_cycle(&self, settlement: &str) -> Result<&SettlementCycle, DeskError> {
        self.cycles
            .get(settlement)
            .ok_or_else(|| DeskError::UnknownSettlement {
                settlement: settlement.to_owned(),
            })
    }

    fn state_of(&self, id: OpId) -> Result<OpState, DeskError> {
        Ok(self
            .engine
            .state(&id)
            .cloned()
            .ok_or(EngineError::Unknown { id })?)
    }

    /// Performs an event's effects. An Unknown outcome ends there: the caller owns the clock and
    /// decides when to resolve.
    async fn run(
        &mut self,
        adapter: Option<&dyn OperatorAdapter>,
        event: Event,
        now_ms: u64,
    ) -> Result<(), DeskError> {
        for effect in self.engine.step(event, now_ms)? {
            let (id, outcome) = match (effect, adapter) {
                (Effect::Persist(record), _) => {
                    self.persist(&Record::Op(record))?;
                    continue;
                }
                (Effect::Alarm { .. }, _) => {
                    self.alarms = self.alarms.saturating_add(1);
                    continue;
                }
                (Effect::Submit { id, op }, Some(adapter)) => (id, adapter.submit(id, &op).await),
                (Effect::Resolve { id, op, .. }, Some(adapter)) => {
                    (id, adapter.resolve(id, &op).await)
                }
                (Effect::Submit { .. } | Effect::Resolve { .. }, None) => continue,
            };
            for effect in self.engine.step(Event::Outcome { id, outcome }, now_ms)? {
                match effect {
                    Effect::Persist(record) => self.persist(&Record::Op(record))?,
                    Effect::Alarm { .. } => self.alarms = self.alarms.saturating_add(1),
                    Effect::Submit { .. } | Effect::Resolve { .. } => {}
                }
            }
        }
        Ok(())
    }

    fn persist(&mut self, record: &Record) -> Result<(), DeskError> {
        if self.stopped {
            return Err(DeskError::Stopped);
        }
        let bytes = serde_json::to_vec(record).map_err(DeskError::Serialise)?;
        let outcome = match self.journal.append(&bytes) {
            Ok(_) => self.apply(record),
            Err(error) => Err(error.into()),
        };
        // A record that was too large was never begun: nothing is in doubt.
        let too_large = matches!(
            outcome,
            Err(DeskError::Journal(JournalError::TooLarge { .. }))
        );
        self.stopped = outcome.is_err() && !too_large;
        outcome
    }

    fn apply(&mut self, record: &Record) -> Result<(), DeskError> {
        match record {
            Record::Op(record) => Ok(self.engine.apply(record, &mut self.books)?),
            Record::CycleOpened {
                settlement,
                from_ms,
                tolerance,
                after,
            } => {
                let cycle = SettlementCycle::open(
                    settlement.clone(),
                    self.operator.clone(),
                    *from_ms,
                    *tolerance,
                    *after,
                );
                self.cycles.insert(settlement.clone(), cycle);
                Ok(())
            }
            Record::Cycle { settlement, event } => {
                let unknown = DeskError::UnknownSettlement {
                    settlement: settlement.clone(),
                };
                let cycle = self.cycles.get_mut(settlement).ok_or(unknown)?;
                cycle.apply(event)?;
                for entry in cycle.entries() {
                    self.books.post(entry)?;
                }
                Ok(())
            }
        }
    }
}
