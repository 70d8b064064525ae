//! The settlement of one operator for one period.
//!
//! ```text
//! Open --CutOff--> CutOff --Statement--> Reconciled --Clear--> Cleared --Paid--> Paid --Proved--> Proved
//! ```
//!
//! `step` checks an event and says what to make durable, `apply` takes it in, `due` names what
//! the shell owes next: after a restart the journal is replayed and `due` asked again. Disputed
//! lines are kept apart; the undisputed part goes all the way.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::adapter::Period;
use crate::books::{Asset, Entry, Posting};
use crate::op::{Money, Op, OpId, OperatorReceipt};
use crate::reconcile::{Line, Reconciliation, Statement, Tolerance, reconcile};

/// References per source of one period at most.
const LINES_MAX: usize = 1 << 20;
const QLC_SCALE: u8 = 8;

/// Where a settlement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleState {
    /// Lines come in.
    Open,
    /// The period is over; the statement is awaited.
    CutOff,
    /// The three sources are joined; a person may object to lines.
    Reconciled,
    /// The payable sum is fixed.
    Cleared,
    /// The operator confirmed the payment.
    Paid,
    /// The operator countersigned the statement root.
    Proved,
}

/// Units that a finalized event moved to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainLine {
    /// Position in the stream of finalized events; only ever larger ones count.
    #[serde(with = "qlink_types::text")]
    pub cursor: u64,
    /// What this event adds: bytes and units are increments, not totals.
    pub line: Line,
}

/// What happens to a settlement; also what its journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleEvent {
    /// A finalized event of the chain; increments.
    Chain(ChainLine),
    /// Our meter's totals for a reference; they only grow.
    Meter(Line),
    /// The period ends before this time, milliseconds since 1970.
    CutOff {
        /// First millisecond of the next period.
        until_ms: u64,
    },
    /// The operator's statement; a corrected one may follow until the sum is cleared.
    Statement(Statement),
    /// A person objects to a line.
    Dispute {
        /// Which.
        reference: String,
    },
    /// The payable sum is fixed.
    Clear,
    /// The operator confirmed the payment.
    Paid {
        /// Its confirmation.
        receipt: OperatorReceipt,
    },
    /// The operator's signature over the statement root was verified.
    Proved {
        /// The signature.
        countersignature: String,
    },
}

/// What the shell owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CycleEffect {
    /// Make the event durable, then [`SettlementCycle::apply`] it.
    Persist(CycleEvent),
    /// Read the operator's statement and feed it in.
    FetchStatement(Period),
    /// Feed `Clear`, once nobody objects to a line any more.
    Clear,
    /// Perform the payout through the engine and feed `Paid`.
    Pay {
        /// Derived from the settlement's id.
        id: OpId,
        /// What is paid.
        op: Op,
    },
    /// Verify the receipt's countersignature over this root and feed `Proved`.
    VerifyProof {
        /// `0x` and 64 hexadecimal digits.
        statement_root: String,
        /// As the operator gave it; none if it gave none.
        countersignature: Option<String>,
    },
}

/// Why an event was refused; nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CycleError {
    /// The event does not belong to the state.
    #[error("settlement {settlement} is {state:?}, so {event} is refused")]
    WrongState {
        /// The settlement.
        settlement: String,
        /// Where it stands.
        state: CycleState,
        /// What was fed.
        event: &'static str,
    },
    /// The end of the period lies before its start.
    #[error("settlement {settlement} starts at {from_ms}, so it cannot end at {until_ms}")]
    EmptyPeriod {
        /// The settlement.
        settlement: String,
        /// Start.
        from_ms: u64,
        /// End given.
        until_ms: u64,
    },
    /// Nobody has a line of that reference.
    #[error("settlement {settlement} has no line {reference}")]
    UnknownLine {
        /// The settlement.
        settlement: String,
        /// What was named.
        reference: String,
    },
    /// A sum leaves 64 bits, or there are too many lines.
    #[error("settlement {settlement} cannot take more")]
    Overflow {
        /// The settlement.
        settlement: String,
    },
}

/// What the world sees of a settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the operator.
    pub operator: String,
    /// `open`, `cut_off`, `reconciled`, `cleared`, `paid`, then `settled` or, with lines held,
    /// `disputed`.
    pub state: String,
    /// Units paid or to be paid for undisputed lines; before the join, all that moved.
    #[serde(with = "qlink_types::text")]
    pub units: u128,
    /// Units on held lines.
    #[serde(with = "qlink_types::text")]
    pub held_units: u128,
    /// Lines held.
    #[serde(with = "qlink_types::text")]
    pub held_lines: usize,
    /// Root over the reconciled lines; none before the join.
    pub statement_root: Option<String>,
}

/// One operator, one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettlementCycle {
    settlement: String,
    operator: String,
    from_ms: u64,
    until_ms: Option<u64>,
    tolerance: Tolerance,
    cursor: Option<u64>,
    state: CycleState,
    chain: BTreeMap<String, Line>,
    meter: BTreeMap<String, Line>,
    statement: Option<Statement>,
    disputed: BTreeSet<String>,
    reconciliation: Option<Reconciliation>,
    receipt: Option<OperatorReceipt>,
    countersignature: Option<String>,
}

impl SettlementCycle {
    /// Opens a settlement. `after` is the cursor of the last chain event of the period before.
    #[must_use]
    pub const fn open(
        settlement: String,
        operator: String,
        from_ms: u64,
        tolerance: Tolerance,
        after: Option<u64>,
    ) -> Self {
        Self {
            settlement,
            operator,
            from_ms,
            until_ms: None,
            tolerance,
            cursor: after,
            state: CycleState::Open,
            chain: BTreeMap::new(),
            meter: BTreeMap::new(),
            statement: None,
            disputed: BTreeSet::new(),
            reconciliation: None,
            receipt: None,
            countersignature: None,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> CycleState {
        self.state
    }

    /// Cursor of the last chain event taken in: where to resume, and what the next period opens
    /// with.
    #[must_use]
    pub const fn cursor(&self) -> Option<u64> {
        self.cursor
    }

    /// The join, once there is a statement.
    #[must_use]
    pub const fn reconciliation(&self) -> Option<&Reconciliation> {
        self.reconciliation.as_ref()
    }

    /// Checks an event; gives one `Persist` if it is news, nothing if it is a replay.
    ///
    /// # Errors
    ///
    /// [`CycleError`]; nothing changes.
    pub fn step(&self, event: CycleEvent) -> Result<Vec<CycleEffect>, CycleError> {
        Ok(if self.is_news(&event)? {
            vec![CycleEffect::Persist(event)]
        } else {
            Vec::new()
        })
    }

    fn is_news(&self, event: &CycleEvent) -> Result<bool, CycleError> {
        use CycleState as S;
        let refused = |event| CycleError::WrongState {
            settlement: self.settlement.clone(),
            state: self.state,
            event,
        };
        match (event, self.state) {
            (CycleEvent::Chain(line), _) if self.cursor.is_some_and(|seen| line.cursor <= seen) => {
                Ok(false)
            }
            (CycleEvent::Chain(chain), S::Open) => self.grown(chain).map(|_| true),
            (CycleEvent::Chain(_), _) => Err(refused("a chain line")),
            (CycleEvent::Meter(line), _) if self.covers(line) => Ok(false),
            (CycleEvent::Meter(_), S::Open) if self.meter.len() >= LINES_MAX => {
                Err(CycleError::Overflow {
                    settlement: self.settlement.clone(),
                })
            }
            (CycleEvent::Meter(_), S::Open) => Ok(true),
            (CycleEvent::Meter(_), _) => Err(refused("a meter line")),
            (CycleEvent::CutOff { until_ms }, S::Open) if *until_ms > self.from_ms => Ok(true),
            (CycleEvent::CutOff { until_ms }, S::Open) => Err(CycleError::EmptyPeriod {
                settlement: self.settlement.clone(),
                from_ms: self.from_ms,
                until_ms: *until_ms,
            }),
            (CycleEvent::CutOff { until_ms }, _) if self.until_ms == Some(*until_ms) => Ok(false),
            (CycleEvent::CutOff { .. }, _) => Err(refused("a cut-off")),
            (CycleEvent::Statement(statement), _) if self.statement.as_ref() == Some(statement) => {
                Ok(false)
            }
            (CycleEvent::Statement(_), S::CutOff | S::Reconciled) => Ok(true),
            (CycleEvent::Statement(_), _) => Err(refused("a statement")),
            (CycleEvent::Dispute { reference }, S::Reconciled) => self.dispute_is_news(reference),
            (CycleEvent::Dispute { .. }, _) => Err(refused("a dispute")),
            (CycleEvent::Clear, S::Reconciled) => Ok(true),
            (CycleEvent::Clear, S::Cleared | S::Paid | S::Proved) => Ok(false),
            (CycleEvent::Clear, _) => Err(refused("clearing")),
            (CycleEvent::Paid { .. }, S::Cleared) => Ok(true),
            (CycleEvent::Paid { receipt }, S::Paid | S::Proved)
                if self.receipt.as_ref() == Some(receipt) =>
            {
                Ok(false)
            }
            (CycleEvent::Paid { .. }, _) => Err(refused("a payment")),
            (CycleEvent::Proved { .. }, S::Paid) => Ok(true),
            (CycleEvent::Proved { countersignature }, S::Proved)
                if self.countersignature.as_ref() == Some(countersignature) =>
            {
                Ok(false)
            }
            (CycleEvent::Proved { .. }, _) => Err(refused("a proof")),
        }
    }

    /// Whether the meter's totals stand here already: a replay, or an older reading.
    fn covers(&self, line: &Line) -> bool {
        let seen = self.meter.get(&line.reference);
        seen.is_some_and(|seen| line.bytes <= seen.bytes && line.units <= seen.units)
    }

    fn dispute_is_news(&self, reference: &str) -> Result<bool, CycleError> {
        let known = self
            .reconciliation
            .as_ref()
            .is_some_and(|join| join.lines.iter().any(|line| line.reference == reference));
        if known {
            Ok(!self.disputed.contains(reference))
        } else {
            Err(CycleError::UnknownLine {
                settlement: self.settlement.clone(),
                reference: reference.to_owned(),
            })
        }
    }

    /// The chain's line after an increment.
    fn grown(&self, chain: &ChainLine) -> Result<Line, CycleError> {
        let overflow = || CycleError::Overflow {
            settlement: self.settlement.clone(),
        };
        let more = &chain.line;
        let Some(seen) = self.chain.get(&more.reference) else {
            return if self.chain.len() < LINES_MAX {
                Ok(more.clone())
            } else {
                Err(overflow())
            };
        };
        Ok(Line {
            reference: seen.reference.clone(),
            bytes: seen.bytes.checked_add(more.bytes).ok_or_else(overflow)?,
            units: seen.units.checked_add(more.units).ok_or_else(overflow)?,
            time_ms: seen.time_ms.max(more.time_ms),
        })
    }

    /// Takes in a durable event; a replay changes nothing.
    ///
    /// # Errors
    ///
    /// [`CycleError`], as [`Self::step`].
    pub fn apply(&mut self, event: &CycleEvent) -> Result<(), CycleError> {
        if !self.is_news(event)? {
            return Ok(());
        }
        match event {
            CycleEvent::Chain(chain) => {
                let line = self.grown(chain)?;
                self.chain.insert(line.reference.clone(), line);
                self.cursor = Some(chain.cursor);
            }
            CycleEvent::Meter(line) => {
                let seen = self
                    .meter
                    .entry(line.reference.clone())
                    .or_insert_with(|| line.clone());
                seen.bytes = seen.bytes.max(line.bytes);
                seen.units = seen.units.max(line.units);
                seen.time_ms = seen.time_ms.max(line.time_ms);
            }
            CycleEvent::CutOff { until_ms } => {
                self.until_ms = Some(*until_ms);
                self.state = CycleState::CutOff;
            }
            CycleEvent::Statement(statement) => {
                self.statement = Some(statement.clone());
                self.state = CycleState::Reconciled;
                self.join();
            }
            CycleEvent::Dispute { reference } => {
                self.disputed.insert(reference.clone());
                self.join();
            }
            CycleEvent::Clear => self.state = CycleState::Cleared,
            CycleEvent::Paid { receipt } => {
                self.receipt = Some(receipt.clone());
                self.state = CycleState::Paid;
            }
            CycleEvent::Proved { countersignature } => {
                self.countersignature = Some(countersignature.clone());
                self.state = CycleState::Proved;
            }
        }
        Ok(())
    }

    fn join(&mut self) {
        let (Some(statement), Some(until_ms)) = (&self.statement, self.until_ms) else {
            return;
        };
        let lines = |map: &BTreeMap<String, Line>| map.values().cloned().collect::<Vec<_>>();
        let (meter, chain) = (lines(&self.meter), lines(&self.chain));
        let join = reconcile(
            &meter,
            statement,
            &chain,
            until_ms,
            self.tolerance,
            &self.disputed,
        );
        self.reconciliation = Some(join);
    }

    /// What the shell owes in this state; none while lines come in and once all is proved.
    #[must_use]
    pub fn due(&self) -> Option<CycleEffect> {
        match self.state {
            CycleState::Open | CycleState::Proved => None,
            CycleState::CutOff => Some(CycleEffect::FetchStatement(Period {
                from_ms: self.from_ms,
                until_ms: self.until_ms?,
            })),
            CycleState::Reconciled => Some(CycleEffect::Clear),
            CycleState::Cleared => Some(CycleEffect::Pay {
                id: OpId::of_settlement(&self.settlement),
                op: Op::Payout {
                    settlement: self.settlement.clone(),
                    amount: Money {
                        asset: "QLC".into(),
                        scale: QLC_SCALE,
                        units: i128::try_from(self.reconciliation.as_ref()?.payable_units).ok()?,
                    },
                    statement_root: self.root()?,
                },
            }),
            CycleState::Paid => Some(CycleEffect::VerifyProof {
                statement_root: self.root()?,
                countersignature: self.receipt.as_ref()?.countersignature.clone(),
            }),
        }
    }

    fn root(&self) -> Option<String> {
        self.reconciliation
            .as_ref()
            .map(|join| join.root.to_string())
    }

    /// The entries that this state has led to; posting them again changes nothing.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let (Some(join), Some(until_ms)) = (&self.reconciliation, self.until_ms) else {
            return Vec::new();
        };
        if self.state < CycleState::Cleared {
            return Vec::new();
        }
        let whole = |units: u128| i128::try_from(units).unwrap_or(i128::MAX);
        let (payable, held) = (whole(join.payable_units), whole(join.held_units));
        let operator = &self.operator;
        let entry = |step: &str, time_ms, sides: &[(String, i128)]| Entry {
            reference: format!("{}-{step}", self.settlement),
            time_ms,
            postings: sides
                .iter()
                .filter(|(_, amount)| *amount != 0)
                .map(|(account, amount)| Posting {
                    account: account.clone(),
                    asset: Asset {
                        code: "QLC".into(),
                        scale: QLC_SCALE,
                    },
                    amount: *amount,
                })
                .collect(),
        };
        let cleared = entry(
            "cleared",
            until_ms.saturating_sub(1),
            &[
                (
                    format!("expenses:carriage:{operator}"),
                    payable.saturating_add(held),
                ),
                (
                    format!("liabilities:payable:{operator}"),
                    payable.saturating_neg(),
                ),
                (
                    format!("liabilities:suspense:{operator}"),
                    held.saturating_neg(),
                ),
            ],
        );
        let paid = self.receipt.as_ref().map(|receipt| {
            let sides = [
                (format!("liabilities:payable:{operator}"), payable),
                ("assets:escrow".to_owned(), payable.saturating_neg()),
            ];
            entry("paid", receipt.time_ms, &sides)
        });
        let not_empty = |entry: &Entry| !entry.postings.is_empty();
        [Some(cleared), paid]
            .into_iter()
            .flatten()
            .filter(not_empty)
            .collect()
    }

    /// What the world sees.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let held_lines = self
            .reconciliation
            .as_ref()
            .map_or(0, |join| join.held().count());
        let state = match self.state {
            CycleState::Open => "open",
            CycleState::CutOff => "cut_off",
            CycleState::Reconciled => "reconciled",
            CycleState::Cleared => "cleared",
            CycleState::Paid => "paid",
            CycleState::Proved if held_lines > 0 => "disputed",
            CycleState::Proved => "settled",
        };
        let moved = || self.chain.values().map(|line| u128::from(line.units)).sum();
        Summary {
            operator: self.operator.clone(),
            state: state.to_owned(),
            units: self
                .reconciliation
                .as_ref()
                .map_or_else(moved, |join| join.payable_units),
            held_units: self
                .reconciliation
                .as_ref()
                .map_or(0, |join| join.held_units),
            held_lines,
            statement_root: self.root(),
        }
    }
}
