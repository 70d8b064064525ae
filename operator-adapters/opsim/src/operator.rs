//! The operator's machine: transactions, balance, usage, statement. No socket, no clock.

use std::collections::BTreeMap;

use qlink_operator::{
    Money, Op, OpId, Period, Reason, SharedKey, StatementLine, StatementPage, countersigning_input,
};
use serde::{Deserialize, Serialize};

use crate::config::{Action, Config, FaultScript, Point};
use crate::http::sign;

/// Transactions and usage records kept at most.
const ROWS_MAX: usize = 1 << 20;
const BYTES_PER_MB: u128 = 1_000_000;

/// Where a transaction stands. CONFIRMED and SUBMITTED are not final; COMPLETED may still be
/// REVERSED. Source: DT One, "Handling transactions".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Priced, not confirmed.
    Created,
    /// Confirmed and paid for.
    Confirmed,
    /// With the network.
    Submitted,
    /// Done.
    Completed,
    /// Refused at creation.
    Rejected,
    /// Withdrawn before it was confirmed.
    Cancelled,
    /// Done and taken back.
    Reversed,
    /// Refused after creation.
    Declined,
}

impl State {
    /// Whether the transaction's price is taken from the balance.
    const fn is_charged(self) -> bool {
        matches!(self, Self::Confirmed | Self::Submitted | Self::Completed)
    }
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The operator's name of it.
    pub id: String,
    /// The customer's name of it.
    pub reference: OpId,
    /// What was asked.
    pub op: Op,
    /// Where it stands.
    pub state: State,
    /// What it costs.
    pub price: Money,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When it came to its state, milliseconds since 1970.
    #[serde(with = "text")]
    pub time_ms: u64,
    /// Signature over the statement root of a completed payout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub countersignature: Option<String>,
}

/// What the operator's own meter counted for a reference since the last record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// A package id for carriage.
    pub reference: String,
    /// Total bytes so far.
    #[serde(with = "text")]
    pub bytes: u64,
    /// Total units so far.
    #[serde(with = "text")]
    pub units: u64,
}

/// What the journal holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// A transaction as it stands now.
    Transaction(Transaction),
    /// An increment of usage.
    Usage(StatementLine),
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the reference was used with another body")]
    KeyReused,
    #[error("there is no such transaction")]
    NotFound,
    #[error("the transaction's state does not allow it")]
    WrongState,
    #[error("the simulator is full")]
    Full,
    #[error("the simulator failed")]
    Failed,
}

/// A callback to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Callback {
    pub(crate) transaction: Transaction,
    pub(crate) copies: u8,
}

/// The simulated operator.
#[derive(Debug)]
pub(crate) struct Operator {
    config: Config,
    key: SharedKey,
    script: FaultScript,
    passes: BTreeMap<Point, u64>,
    transactions: Vec<Transaction>,
    by_reference: BTreeMap<OpId, usize>,
    reversals: BTreeMap<usize, u64>,
    usage: Vec<StatementLine>,
    totals: BTreeMap<String, (u64, u64)>,
}

impl Operator {
    pub(crate) const fn new(config: Config, key: SharedKey, script: FaultScript) -> Self {
        Self {
            config,
            key,
            script,
            passes: BTreeMap::new(),
            transactions: Vec::new(),
            by_reference: BTreeMap::new(),
            reversals: BTreeMap::new(),
            usage: Vec::new(),
            totals: BTreeMap::new(),
        }
    }

    /// Takes in a durable change.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Transaction(transaction) => {
                let next = self.transactions.len();
                let at = *self
                    .by_reference
                    .entry(transaction.reference)
                    .or_insert(next);
                match self.transactions.get_mut(at) {
                    Some(place) => *place = transaction,
                    None => self.transactions.push(transaction),
                }
            }
            Change::Usage(line) => {
                let total = self.totals.entry(line.reference.clone()).or_default();
                total.0 = total.0.saturating_add(line.bytes);
                total.1 = total.1.saturating_add(line.units);
                self.usage.push(line);
            }
        }
    }

    /// The fault that strikes at a point, counting the pass.
    pub(crate) fn fault(&mut self, point: Point, reference: Option<&OpId>) -> Option<Action> {
        let pass = self.passes.entry(point).or_default();
        *pass = pass.saturating_add(1);
        let pass = *pass;
        let reference = reference.map(OpId::to_string);
        let fits = |fault: &&crate::config::Fault| {
            fault.on == point
                && fault.nth.is_none_or(|nth| nth == pass)
                && (fault.reference.is_none() || fault.reference == reference)
        };
        self.script
            .faults
            .iter()
            .find(fits)
            .map(|fault| fault.action.clone())
    }

    pub(crate) fn find(&self, reference: &OpId) -> Option<&Transaction> {
        self.transactions.get(*self.by_reference.get(reference)?)
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<&Transaction> {
        self.transactions
            .iter()
            .find(|transaction| transaction.id == id)
    }

    /// Creates a transaction; the same again answers the first.
    pub(crate) fn create(
        &self,
        reference: OpId,
        op: Op,
        time_ms: u64,
    ) -> Result<(Transaction, Option<Change>), Refusal> {
        if let Some(known) = self.find(&reference) {
            return if known.op == op {
                Ok((known.clone(), None))
            } else {
                Err(Refusal::KeyReused)
            };
        }
        if self.transactions.len() >= ROWS_MAX {
            return Err(Refusal::Full);
        }
        let (units, reason) = match self.price(&op) {
            Ok(units) => (units, None),
            Err(reason) => (0, Some(reason)),
        };
        let transaction = Transaction {
            id: format!("T{:08}", self.transactions.len().saturating_add(1)),
            reference,
            op,
            state: if reason.is_some() {
                State::Rejected
            } else {
                State::Created
            },
            price: Money {
                units,
                ..self.config.balance.clone()
            },
            reason,
            time_ms,
            countersignature: None,
        };
        Ok((transaction.clone(), Some(Change::Transaction(transaction))))
    }

    fn price(&self, op: &Op) -> Result<i128, Reason> {
        match op {
            Op::Activate {
                offer,
                subscriber_ref,
                volume_bytes,
            } => {
                let offer = self.config.offers.get(offer).ok_or(Reason::UnknownOffer)?;
                if subscriber_ref.is_empty() {
                    return Err(Reason::UnknownSubscriber);
                }
                let megabytes = u128::from(volume_bytes.get()).div_ceil(BYTES_PER_MB);
                let price = megabytes.saturating_mul(u128::from(offer.units_per_mb));
                i128::try_from(price).map_err(|_| Reason::BadRequest)
            }
            Op::Refund { of } => match self.find(of).map(|original| original.state) {
                Some(State::Completed) => Ok(0),
                _ => Err(Reason::Declined),
            },
            Op::Payout { .. } => Ok(0),
        }
    }

    /// The balance left.
    pub(crate) fn balance(&self) -> Money {
        let charged = self
            .transactions
            .iter()
            .filter(|one| one.state.is_charged());
        let units = charged.fold(self.config.balance.units, |left, one| {
            left.saturating_sub(one.price.units)
        });
        Money {
            units,
            ..self.config.balance.clone()
        }
    }

    /// Confirms a created transaction; a repeated confirm answers the state.
    pub(crate) fn confirm(
        &self,
        id: &str,
        time_ms: u64,
    ) -> Result<(Transaction, Option<Change>), Refusal> {
        let known = self.by_id(id).ok_or(Refusal::NotFound)?;
        if known.state != State::Created {
            return Ok((known.clone(), None));
        }
        let covered = self.balance().units >= known.price.units;
        let (state, reason) = if covered {
            (State::Confirmed, None)
        } else {
            (State::Declined, Some(Reason::InsufficientBalance))
        };
        let next = Transaction {
            state,
            reason,
            time_ms,
            ..known.clone()
        };
        Ok((next.clone(), Some(Change::Transaction(next))))
    }

    /// Cancels a created transaction.
    pub(crate) fn cancel(
        &self,
        id: &str,
        time_ms: u64,
    ) -> Result<(Transaction, Option<Change>), Refusal> {
        let known = self.by_id(id).ok_or(Refusal::NotFound)?;
        match known.state {
            State::Cancelled => Ok((known.clone(), None)),
            State::Created => {
                let (state, reason) = (State::Cancelled, Some(Reason::Cancelled));
                let next = Transaction {
                    state,
                    reason,
                    time_ms,
                    ..known.clone()
                };
                Ok((next.clone(), Some(Change::Transaction(next))))
            }
            State::Confirmed
            | State::Submitted
            | State::Completed
            | State::Rejected
            | State::Reversed
            | State::Declined => Err(Refusal::WrongState),
        }
    }

    /// The increment by which a total grew, if it did.
    pub(crate) fn usage(&self, usage: &Usage, time_ms: u64) -> Result<Option<Change>, Refusal> {
        let (bytes, units) = self
            .totals
            .get(&usage.reference)
            .copied()
            .unwrap_or_default();
        let line = StatementLine {
            reference: usage.reference.clone(),
            bytes: usage.bytes.saturating_sub(bytes),
            units: usage.units.saturating_sub(units),
            time_ms,
        };
        if line.bytes == 0 && line.units == 0 {
            return Ok(None);
        }
        if self.usage.len() >= ROWS_MAX {
            return Err(Refusal::Full);
        }
        Ok(Some(Change::Usage(line)))
    }

    /// Moves transactions on whose time has come: what changed, and what to call back.
    pub(crate) fn tick(&mut self, now_ms: u64) -> (Vec<Change>, Vec<Callback>) {
        let (mut changes, mut callbacks) = (Vec::new(), Vec::new());
        for at in 0..self.transactions.len() {
            let Some(known) = self.transactions.get(at).cloned() else {
                continue;
            };
            let rested = now_ms.saturating_sub(known.time_ms) >= self.config.step_ms;
            match known.state {
                State::Confirmed if rested => {
                    let state = State::Submitted;
                    let next = Transaction {
                        state,
                        time_ms: now_ms,
                        ..known
                    };
                    changes.push(Change::Transaction(next));
                }
                State::Submitted if rested => {
                    self.complete(at, known, now_ms, &mut changes, &mut callbacks);
                }
                State::Completed if self.reversals.get(&at).is_some_and(|due| *due <= now_ms) => {
                    self.reversals.remove(&at);
                    reverse(known, now_ms, &mut changes, &mut callbacks);
                }
                _ => {}
            }
        }
        (changes, callbacks)
    }

    fn complete(
        &mut self,
        at: usize,
        known: Transaction,
        now_ms: u64,
        changes: &mut Vec<Change>,
        callbacks: &mut Vec<Callback>,
    ) {
        let fault = self.fault(Point::Complete, Some(&known.reference));
        let declined = fault == Some(Action::Decline);
        let countersignature = match &known.op {
            Op::Payout { statement_root, .. } => {
                Some(sign(&self.key, &countersigning_input(statement_root)))
            }
            Op::Activate { .. } | Op::Refund { .. } => None,
        };
        let next = if declined {
            let (state, reason) = (State::Declined, Some(Reason::Declined));
            Transaction {
                state,
                reason,
                time_ms: now_ms,
                ..known
            }
        } else {
            Transaction {
                state: State::Completed,
                time_ms: now_ms,
                countersignature,
                ..known
            }
        };
        if let Some(Action::LateReversal { after_ms }) = fault {
            self.reversals.insert(at, now_ms.saturating_add(after_ms));
        }
        if let (Op::Refund { of }, false) = (&next.op, declined)
            && let Some(original) = self.find(of).cloned()
            && original.state == State::Completed
        {
            reverse(original, now_ms, changes, callbacks);
        }
        let copies = if fault == Some(Action::DuplicateCallback) {
            2
        } else {
            1
        };
        callbacks.push(Callback {
            transaction: next.clone(),
            copies,
        });
        changes.push(Change::Transaction(next));
    }

    /// One page of the statement: usage of the period, summed by reference.
    pub(crate) fn statement(&mut self, period: Period, cursor: Option<&str>) -> StatementPage {
        let mut sums: BTreeMap<String, StatementLine> = BTreeMap::new();
        for record in &self.usage {
            if (period.from_ms..period.until_ms).contains(&record.time_ms) {
                let sum = sums
                    .entry(record.reference.clone())
                    .or_insert_with(|| StatementLine {
                        bytes: 0,
                        units: 0,
                        ..record.clone()
                    });
                sum.bytes = sum.bytes.saturating_add(record.bytes);
                sum.units = sum.units.saturating_add(record.units);
                sum.time_ms = sum.time_ms.max(record.time_ms);
            }
        }
        let mut total_more = 0;
        match self.fault(Point::Statement, None) {
            Some(Action::WrongTotal { more_units }) => total_more = more_units,
            Some(Action::WrongLine { line, more_units }) => {
                if let Some(line) = sums.get_mut(&line) {
                    line.units = line.units.saturating_add(more_units);
                }
            }
            _ => {}
        }
        let total = sums
            .values()
            .fold(total_more, |sum, line| sum.saturating_add(line.units));
        let after =
            |line: &StatementLine| cursor.is_none_or(|cursor| line.reference.as_str() > cursor);
        let mut rest = sums.into_values().filter(after);
        let lines: Vec<_> = rest
            .by_ref()
            .take(self.config.page_lines.clamp(1, 1000))
            .collect();
        let next = rest
            .next()
            .and_then(|_| lines.last())
            .map(|line| line.reference.clone());
        StatementPage {
            lines,
            next,
            total_units: total,
        }
    }
}

fn reverse(
    known: Transaction,
    now_ms: u64,
    changes: &mut Vec<Change>,
    callbacks: &mut Vec<Callback>,
) {
    let (state, reason) = (State::Reversed, Some(Reason::Reversed));
    let next = Transaction {
        state,
        reason,
        time_ms: now_ms,
        ..known
    };
    callbacks.push(Callback {
        transaction: next.clone(),
        copies: 1,
    });
    changes.push(Change::Transaction(next));
}

/// Integers as strings.
pub(crate) mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
