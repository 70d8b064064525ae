//! Stops 6 and 7 as a process: read counters, make the next batch, keep it, send it, wait until it
//! is final. One batch is on its way at a time; what grows meanwhile is in the next one.
//!
//! Also follows the packages that this gateway settles: when terms end, open sessions roll over to
//! the next terms or stop, and the batch after that says that this gateway is done with them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qlink_client::http::HttpError;
use qlink_client::rpc::EventAnswer;
use qlink_client::{EventFollower, FileCursor, FollowError, SubmitError};
use qlink_ledger::Params;
use qlink_pfcp::{Answer, Cause, Request, SessionChanges};
use qlink_types::batch::{Batch, Final};
use qlink_types::ids::{PackageId, SessionId};
use qlink_types::outcome::{ClosingReason, Event, Status, TxReceipt};
use qlink_types::rating::Ratio;
use qlink_types::transaction::{Party, Sender, SignedTransaction, Transaction, TxBody};
use qlink_types::units::{Bytes, Nonce, PackageEpoch, TimeMs};

use crate::causes::with_causes;
use crate::outbox::{Outbox, OutboxError};
use crate::registry::RegistryError;
use crate::service::{Service, ServiceError};
use crate::session::{Leg, Session, Stage};
use crate::tally::{BatchError, BatchHead, Paths, Ratios, next_batch};

/// How long a batch may take to become final before it is sent again.
const FINAL_WITHIN: Duration = Duration::from_secs(20);

/// Events read at a time.
const EVENTS: usize = 256;

/// Why a tick did not succeed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The node could not be asked.
    #[error("the node could not be asked")]
    Node(#[from] HttpError),
    /// Events could not be followed.
    #[error("events could not be followed")]
    Follow(#[from] FollowError),
    /// A batch was not taken or is not final.
    #[error("a batch is not final")]
    Submit(#[from] SubmitError),
    /// A batch could not be made.
    #[error("a batch could not be made")]
    Batch(#[from] BatchError),
    /// The outbox failed.
    #[error("the outbox could not be used")]
    Outbox(#[from] OutboxError),
    /// Sessions could not be kept.
    #[error("sessions could not be kept")]
    Registry(#[from] RegistryError),
    /// The data plane did not do its part.
    #[error("the data plane did not do its part")]
    Service(#[from] ServiceError),
    /// Counters of a session that must be split could not be read.
    #[error("the counters of session {0} cannot be read yet")]
    Unread(SessionId),
    /// The data plane answered another question.
    #[error("unexpected answer of the data plane: {0}")]
    Confused(String),
    /// The gateway is not registered.
    #[error("gateway {0} is not registered on the chain")]
    NotRegistered(String),
}

/// The settlement of one gateway.
#[derive(Debug)]
pub(crate) struct Settlement {
    service: Arc<Service>,
    outbox: Outbox,
    follower: EventFollower<FileCursor>,
    params: Params,
    ratios: Ratios,
    ending: BTreeMap<Final, ClosingReason>,
    finals: BTreeSet<Final>,
    sequence: u64,
}

impl Settlement {
    /// Continues where the outbox and the event cursor in `directory` stand.
    ///
    /// # Errors
    ///
    /// [`SettleError`] when the node does not answer or this gateway is not registered.
    pub(crate) async fn resume(
        service: Arc<Service>,
        directory: &Path,
    ) -> Result<Self, SettleError> {
        let party = Party::Gateway {
            gateway: service.gateway(),
        };
        let registration = service
            .node
            .party(&party)
            .await?
            .ok_or_else(|| SettleError::NotRegistered(service.gateway().to_string()))?;
        let cursor = FileCursor::new(&directory.join("settle.cursor"));
        let follower = EventFollower::resume(service.node.clone(), cursor)?;
        let outbox = Outbox::new(Arc::clone(&service.store));
        let params = service.node.fees().await?;
        Ok(Self {
            service,
            outbox,
            follower,
            params,
            ratios: Ratios::new(),
            ending: BTreeMap::new(),
            finals: BTreeSet::new(),
            sequence: registration.batch_sequence,
        })
    }

    /// Ticks until `stop` says so; failures are logged, counted and tried again.
    pub(crate) async fn run(mut self, stop: tokio::sync::watch::Receiver<bool>) {
        let pause = Duration::from_millis(self.service.config.settle_every_ms);
        while !*stop.borrow() {
            if let Err(error) = self.tick().await {
                self.service.metrics.settle_failures.inc();
                tracing::warn!(error = %with_causes(&error), "settlement will try again");
            }
            tokio::time::sleep(pause).await;
        }
        // What was counted last goes out before the process ends, if the node still answers.
        if let Err(error) = self.tick().await {
            tracing::warn!(error = %with_causes(&error), "last settlement before the end failed");
        }
    }

    /// One round.
    ///
    /// # Errors
    ///
    /// [`SettleError`]; everything durable is consistent then, and the next tick continues.
    pub(crate) async fn tick(&mut self) -> Result<(), SettleError> {
        self.deliver_waiting().await?;
        self.follow_events().await?;
        let service = Arc::clone(&self.service);
        let refreshed = tokio::task::spawn_blocking(move || service.refresh()).await;
        refreshed.map_err(|_| ServiceError::Task)?;
        self.end_terms()?;
        loop {
            self.learn_ratios().await?;
            if !self.send_next().await? {
                return Ok(());
            }
        }
    }

    /// Sends again what a crash left in the outbox.
    async fn deliver_waiting(&mut self) -> Result<(), SettleError> {
        let waiting = self.outbox.waiting()?;
        for (sequence, batch) in waiting {
            self.sequence = self.sequence.max(sequence);
            self.deliver(sequence, &batch).await?;
        }
        self.service.metrics.outbox_rows.set(0);
        Ok(())
    }

    /// What became of a batch; `None` when it can never take effect, because a later one has
    /// overtaken it or its key is no longer this gateway's. Its content is cumulative and comes
    /// again with the next batch.
    async fn deliver(
        &mut self,
        sequence: u64,
        batch: &SignedTransaction,
    ) -> Result<Option<TxReceipt>, SettleError> {
        let sent = self
            .service
            .node
            .submit_and_wait_final(batch, FINAL_WITHIN)
            .await;
        let receipt = match sent {
            Ok(answer) => answer.receipt,
            Err(SubmitError::Call { source, .. }) if is_permanent(source.refusal_code()) => {
                tracing::error!(sequence, error = %source, "a batch can never take effect");
                let party = Party::Gateway {
                    gateway: self.service.gateway(),
                };
                if let Some(known) = self.service.node.party(&party).await? {
                    self.sequence = self.sequence.max(known.batch_sequence);
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.outbox.done(sequence)?;
        Ok(receipt)
    }

    /// Takes note of refusals: a refused ratio record stays out of further batches, so that it
    /// cannot hold up the others of its package. Whether anything was refused.
    fn report(
        &self,
        sequence: u64,
        batch: &Batch,
        receipt: &TxReceipt,
    ) -> Result<bool, SettleError> {
        self.service.metrics.batches_final.inc();
        for record in &receipt.refused {
            self.service.metrics.records_refused.inc();
            let index = usize::try_from(record.index).unwrap_or(usize::MAX);
            let status = record.status;
            tracing::error!(sequence, index, %status, "the ledger refused a record");
            if let Some(row) = batch.ratio.get(index)
                && status != Status::CarriageMismatch
            {
                self.service.registry().refuse(&row.key, status)?;
            }
        }
        Ok(!receipt.refused.is_empty())
    }

    /// Takes over what has happened on the chain. A page is acknowledged only when everything that
    /// follows from it is done or durable: a kill in between repeats it.
    async fn follow_events(&mut self) -> Result<(), SettleError> {
        loop {
            let events = self.follower.next(EVENTS).await?;
            let Some(last) = events.last().map(|event| event.cursor.clone()) else {
                return Ok(());
            };
            for event in &events {
                self.take_event(event).await?;
            }
            self.end_terms()?;
            self.follower.acknowledge(&last)?;
        }
    }

    async fn take_event(&mut self, answer: &EventAnswer) -> Result<(), SettleError> {
        if let Event::PackageClosing {
            package,
            package_epoch,
            reason,
            ..
        } = &answer.event
            && let Some(known) = self.service.node.package(package).await?
            && known.terms.gateways.contains(&self.service.gateway())
            && known.ledger.package_epoch >= *package_epoch
        {
            let ending = Final {
                package: *package,
                package_epoch: *package_epoch,
            };
            self.ending.insert(ending, *reason);
        }
        Ok(())
    }

    /// Fixes, for terms that end, which bytes belong to them; from then on they are final here.
    fn end_terms(&mut self) -> Result<(), SettleError> {
        while let Some((ending, reason)) = self.ending.pop_first() {
            if let Err(error) = self.end_one(&ending, reason) {
                self.ending.insert(ending, reason);
                return Err(error);
            }
            self.finals.insert(ending);
        }
        Ok(())
    }

    fn end_one(&self, ending: &Final, reason: ClosingReason) -> Result<(), SettleError> {
        let touched: Vec<SessionId> = {
            let mut registry = self.service.registry();
            registry.end(ending.package, ending.package_epoch);
            let open = registry.open_sessions();
            open.filter(|session| session.stage == Stage::Open && names(session, ending))
                .map(|session| session.session)
                .collect()
        };
        // A split at counters that could not be read would put bytes under the wrong terms.
        let read = self.service.refresh();
        if let Some(first) = touched.first().filter(|_| read.is_empty()) {
            return Err(SettleError::Unread(*first));
        }
        for id in touched {
            match reason {
                ClosingReason::TopUp => {
                    // A session that has lived through too many terms goes on without a sponsor.
                    if self.roll_over(&id, ending).is_err() {
                        self.stop(&id, ending)?;
                    }
                }
                ClosingReason::Owner | ClosingReason::Expired => self.stop(&id, ending)?,
            }
        }
        Ok(())
    }

    fn roll_over(&self, id: &SessionId, ending: &Final) -> Result<(), SettleError> {
        let next = ending.package_epoch.next();
        self.service.registry().update_open(id, |session| {
            let sponsored = session.sponsored_bytes();
            let charged = session.usage.personal_bytes;
            for (leg, bytes) in [
                (&mut session.sponsor, sponsored),
                (&mut session.personal, charged),
            ] {
                if let Some(leg) = leg.as_mut().filter(|leg| leg.package == ending.package) {
                    leg.roll_over(next, bytes)?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Lets the package pay nothing beyond what it has paid, then reads what that is.
    fn stop(&self, id: &SessionId, ending: &Final) -> Result<(), SettleError> {
        let Some(session) = self.service.registry().session(id)? else {
            return Ok(());
        };
        let sponsored = session.usage.classes.verified_unique;
        let charged = session.usage.personal_bytes;
        let limit_of = |leg: &Option<Leg>, bytes: Bytes| {
            leg.as_ref()
                .filter(|leg| leg.package == ending.package)
                .map(|_| bytes)
        };
        let changes = SessionChanges {
            path: None,
            sponsor_limit: limit_of(&session.sponsor, sponsored),
            personal_limit: limit_of(&session.personal, charged),
        };
        let request = Request::Modify {
            session: *id,
            changes,
        };
        match self
            .service
            .link
            .request(request)
            .map_err(ServiceError::from)?
        {
            Answer::Modified { .. } => {}
            Answer::Refused { refusal } if refusal.cause == Cause::SessionUnknown => {}
            other => return Err(SettleError::Confused(format!("{other:?}"))),
        }
        self.service.refresh();
        self.service.registry().update_open(id, |session| {
            for (leg, bytes) in [
                (&mut session.sponsor, session.usage.classes.verified_unique),
                (&mut session.personal, session.usage.personal_bytes),
            ] {
                if let Some(leg) = leg.as_mut().filter(|leg| leg.package == ending.package) {
                    leg.limit = bytes;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Terms of every path that has grown, as far as the chain has opened them.
    async fn learn_ratios(&mut self) -> Result<(), SettleError> {
        let unknown: BTreeSet<PackageId> = self
            .service
            .registry()
            .totals()
            .keys()
            .filter(|path| {
                !self
                    .ratios
                    .contains_key(&(path.package, path.package_epoch))
            })
            .map(|path| path.package)
            .collect();
        for package in unknown {
            if let Some(answer) = self.service.node.package(&package).await? {
                let (epoch, terms) = (answer.ledger.package_epoch, answer.ledger.current);
                if let Ok(ratio) = Ratio::new(terms.reward, terms.bytes) {
                    self.ratios.insert((package, epoch), ratio);
                }
            }
        }
        Ok(())
    }

    /// Makes, keeps and delivers the next batch; false when there is nothing to send.
    async fn send_next(&mut self) -> Result<bool, SettleError> {
        let (mut sent, totals) = {
            let registry = self.service.registry();
            (registry.sent().clone(), self.ratable(registry.totals()))
        };
        let Some(incarnation) = self.service.link.info().map(|info| info.incarnation) else {
            return Ok(false);
        };
        let sequence = self.sequence.saturating_add(1);
        let head = BatchHead {
            gateway: self.service.gateway(),
            incarnation,
            sequence,
        };
        let made = next_batch(head, &totals, &mut sent, &self.ratios, &self.finals);
        if let Err(BatchError::Rating { key, .. }) = &made {
            self.service
                .registry()
                .refuse(key, Status::PackageExhausted)?;
        }
        let Some(batch) = made? else {
            return Ok(false);
        };
        let stated = batch.clone();
        let finals: Vec<Final> = batch.finals.to_vec();
        let records = batch.ratio.len().saturating_add(batch.carriage.len());
        let transaction = Transaction {
            chain: self.service.chain,
            sender: Sender::Gateway {
                gateway: self.service.gateway(),
            },
            nonce: Nonce::new(sequence),
            max_fee: self.params.batch_fee_for(records).unwrap_or_default(),
            valid_until: TimeMs::ZERO,
            body: TxBody::SettleBatch { batch },
        };
        let signed = transaction.sign(self.service.key());
        self.outbox.keep(sequence, &signed)?;
        self.service.metrics.outbox_rows.set(1);
        self.sequence = sequence;
        let receipt = self.deliver(sequence, &signed).await?;
        self.service.metrics.outbox_rows.set(0);
        let Some(receipt) = receipt else {
            return Ok(false);
        };
        if receipt.status != Status::Accepted {
            tracing::error!(sequence, status = %receipt.status, "the ledger refused a batch");
            return Ok(false);
        }
        if self.report(sequence, &stated, &receipt)? {
            // What was refused with others is stated again, without the cause, by the next tick.
            return Ok(false);
        }
        self.service.registry().mark_sent(sent);
        for done in finals {
            self.finals.remove(&done);
        }
        Ok(true)
    }

    /// Leaves out paths of terms that the chain has not opened yet: they follow with the next tick.
    fn ratable(&self, totals: Paths) -> Paths {
        totals
            .into_iter()
            .filter(|(path, _)| {
                self.ratios
                    .contains_key(&(path.package, path.package_epoch))
            })
            .collect()
    }
}

/// Refusals that no repetition of the same bytes can change.
fn is_permanent(code: Option<&str>) -> bool {
    [
        Status::BatchSequence,
        Status::WrongNonce,
        Status::BadSignature,
        Status::FeeTooLow,
        Status::BatchRootMismatch,
    ]
    .iter()
    .any(|status| code == Some(status.name()))
}

fn names(session: &Session, ending: &Final) -> bool {
    let legs = session.sponsor.iter().chain(&session.personal);
    legs.clone().any(|leg| {
        leg.package == ending.package
            && leg.package_epoch() <= PackageEpoch::new(ending.package_epoch.get())
    })
}
