//! Applies blocks and answers whether a transaction would be accepted.

use qlink_types::codec::List;
use qlink_types::ids::{AccountId, TxId};
use qlink_types::outcome::{Event, RefusedRecord, Status, TxReceipt};
use qlink_types::signature::{ChainId, PublicKey};
use qlink_types::transaction::{Party, Sender, SignedTransaction, Transaction, TxBody};
use qlink_types::units::{BlockHeight, Nonce, TimeMs, Units};

use crate::account::ModuleAccount;
use crate::params::Params;
use crate::signatures::{KnownKey, signature_holds, verify_block};
use crate::state::{Changes, Layered, StateError, StateView};
use crate::working::{Defect, Done, Stop, WorkingSet};
use crate::{claim, close, purchase, register, settle, stake};

/// What a block is applied under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockContext {
    /// The chain.
    pub chain: ChainId,
    /// The block's height.
    pub height: BlockHeight,
    /// Ledger time: the header's `time_ms`.
    pub time_ms: TimeMs,
}

/// Whether signatures are still to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureCheck {
    /// Check every signature.
    Check,
    /// The caller has checked the signatures of account and viewer senders, which depend on the
    /// transaction alone. Gateways' signatures are checked all the same: their key is state.
    AlreadyVerified,
}

/// What a block did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// One receipt per transaction, in order; before them one with a zero transaction id if the
    /// ledger itself acted.
    pub receipts: Vec<TxReceipt>,
    /// The rows to store.
    pub changes: Changes,
}

/// Applies a block to the state before it.
///
/// # Errors
///
/// [`StateError`] when the storage fails or holds what the ledger cannot have written; the caller
/// stops. A refused transaction is no error: its receipt says why.
pub fn apply_block(
    state: &dyn StateView,
    context: &BlockContext,
    transactions: &[SignedTransaction],
    signatures: SignatureCheck,
) -> Result<Outcome, StateError> {
    let mut set = WorkingSet::new(state, context)?;
    let mut receipts = Vec::with_capacity(transactions.len().saturating_add(1));
    let events = run_ledger(&mut set)?;
    if !events.is_empty() {
        let done = Done {
            events,
            ..Done::default()
        };
        receipts.push(receipt(TxId::ZERO, Status::Accepted, done)?);
    }
    let known = verify_block(&mut set, transactions, signatures)?;
    for (transaction, known) in transactions.iter().zip(known) {
        receipts.push(execute(&mut set, transaction, known)?);
    }
    Ok(Outcome {
        receipts,
        changes: set.finish()?,
    })
}

/// What the ledger does by itself at the start of a block. The turn of the seats is first, since an
/// election reads the state before the block.
fn run_ledger(set: &mut WorkingSet<'_>) -> Result<Vec<Event>, StateError> {
    let mut events = stake::turn(set).map_err(Stop::of_own_step)?;
    stake::run_releases(set, &mut events).map_err(Stop::of_own_step)?;
    close::run_due(set, &mut events)?;
    Ok(events)
}

/// Whether `transaction` would be accepted as the next one on `state`.
///
/// # Errors
///
/// [`StateError`] when the storage fails.
pub fn check_transaction(
    state: &dyn StateView,
    context: &BlockContext,
    transaction: &SignedTransaction,
) -> Result<Status, StateError> {
    let mut set = WorkingSet::new(state, context)?;
    Ok(execute(&mut set, transaction, None)?.status)
}

/// Whether `transaction` would be accepted on `state` with `pending` on top; if so, adds what it
/// changes to `pending`, so that several transactions of one sender can be admitted in sequence.
///
/// # Errors
///
/// [`StateError`] when the storage fails.
pub fn admit(
    state: &dyn StateView,
    context: &BlockContext,
    pending: &mut Changes,
    transaction: &SignedTransaction,
) -> Result<Status, StateError> {
    let layered = Layered::new(state, pending);
    let mut set = WorkingSet::new(&layered, context)?;
    let status = execute(&mut set, transaction, None)?.status;
    if status == Status::Accepted {
        let mut changes = set.finish()?;
        pending.append(&mut changes);
    }
    Ok(status)
}

/// Runs one transaction; refused, it leaves no trace but its receipt.
fn execute(
    set: &mut WorkingSet<'_>,
    signed: &SignedTransaction,
    known: KnownKey,
) -> Result<TxReceipt, StateError> {
    let id = signed.id();
    let refused = |status, events| {
        let done = Done {
            events,
            ..Done::default()
        };
        receipt(id, status, done)
    };
    match run(set, signed, known) {
        Ok(done) => {
            set.commit();
            receipt(id, Status::Accepted, done)
        }
        Err(Stop::Refused(status)) => {
            set.rollback_all();
            refused(status, Vec::new())
        }
        Err(Stop::Duplicate(event)) => {
            set.rollback_all();
            refused(Status::DuplicateContent, vec![*event])
        }
        Err(Stop::State(error)) => Err(error),
    }
}

fn receipt(tx: TxId, status: Status, done: Done) -> Result<TxReceipt, StateError> {
    let refused: List<RefusedRecord, _> =
        List::try_from(done.refused).map_err(|_| Defect::Missing {
            what: "room for refused records in a receipt",
        })?;
    let events: List<Event, _> = List::try_from(done.events).map_err(|_| Defect::Missing {
        what: "room for events in a receipt",
    })?;
    Ok(TxReceipt {
        tx,
        status,
        fee: done.fee,
        refused,
        events,
    })
}

fn run(
    set: &mut WorkingSet<'_>,
    signed: &SignedTransaction,
    known: KnownKey,
) -> Result<Done, Stop> {
    let transaction = &signed.transaction;
    if transaction.chain != set.context.chain {
        return Err(Status::WrongChain.into());
    }
    let valid_until = transaction.valid_until;
    if valid_until != TimeMs::ZERO && set.context.time_ms >= valid_until {
        return Err(Status::TransactionExpired.into());
    }
    let holds = |key: PublicKey| {
        if known == Some(key) || signature_holds(signed, key) {
            Ok(())
        } else {
            Err(Status::BadSignature)
        }
    };
    match (&transaction.sender, &transaction.body) {
        (Sender::Viewer { viewer }, TxBody::Claim { package, to, total }) if !viewer.is_zero() => {
            holds((*viewer).into())?;
            if transaction.nonce != Nonce::ZERO {
                return Err(Status::WrongNonce.into());
            }
            claim::claim(set, *viewer, *package, to, *total)
        }
        (Sender::Gateway { gateway }, TxBody::SettleBatch { batch }) => {
            let party = Party::Gateway { gateway: *gateway };
            let row = set.parties.read(set.state, &party)?;
            let row = row.ok_or(Status::UnknownGateway)?;
            holds(row.key)?;
            if *gateway != batch.gateway {
                return Err(Status::WrongSender.into());
            }
            if transaction.nonce.get() != batch.sequence {
                return Err(Status::WrongNonce.into());
            }
            settle::settle_batch(set, row, batch, transaction.max_fee)
        }
        (Sender::Account { account }, body) if !ModuleAccount::is_reserved(account) => {
            let fee = fee(&set.params, body).ok_or(Status::WrongSender)?;
            holds((*account).into())?;
            run_account(set, account, transaction, fee)
        }
        _ => Err(Status::WrongSender.into()),
    }
}

/// Fee of what an account may send; `None` for what it may not.
const fn fee(params: &Params, body: &TxBody) -> Option<Units> {
    Some(match body {
        TxBody::Transfer { .. } => params.transfer_fee,
        TxBody::RegisterParty { .. } => params.register_party_fee,
        TxBody::RotateKey { .. } => params.rotate_key_fee,
        TxBody::RegisterContent { .. } => params.register_content_fee,
        TxBody::BuyPackage { .. } => params.buy_package_fee,
        TxBody::TopUpPackage { .. } => params.top_up_fee,
        TxBody::ClosePackage { .. } => params.close_fee,
        TxBody::RegisterCandidate { .. } => params.register_candidate_fee,
        TxBody::UpdateCandidate { .. }
        | TxBody::RotateSeatKey { .. }
        | TxBody::ResignCandidate
        | TxBody::Vote { .. }
        | TxBody::Unvote { .. }
        | TxBody::Redelegate { .. }
        | TxBody::CollectRewards { .. }
        | TxBody::ReportEquivocation { .. } => params.stake_fee,
        TxBody::Claim { .. } | TxBody::SettleBatch { .. } => return None,
    })
}

fn run_account(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    transaction: &Transaction,
    fee: Units,
) -> Result<Done, Stop> {
    let handle = set.accounts.load(set.state, sender)?;
    let mut account = set.accounts.get(handle).copied().unwrap_or_default();
    if transaction.nonce != account.nonce {
        return Err(Status::WrongNonce.into());
    }
    if fee > transaction.max_fee {
        return Err(Status::FeeTooLow.into());
    }
    account.nonce = account.nonce.next();
    set.accounts.set(handle, account);
    let nonce = transaction.nonce;
    let events = match &transaction.body {
        TxBody::Transfer { to, amount } => register::transfer(set, sender, to, *amount),
        TxBody::RegisterParty {
            party_kind,
            key,
            key_proof,
            asset,
            name,
        } => {
            let party = party_kind.derive(sender, nonce);
            let row = register::new_party(sender, *key, *asset, name);
            register::register_party(set, party, row, key_proof)
        }
        TxBody::RotateKey {
            party,
            key,
            key_proof,
        } => register::rotate_key(set, sender, party, *key, key_proof),
        TxBody::RegisterContent { registration } => {
            register::register_content(set, sender, registration)
        }
        TxBody::BuyPackage { terms } => purchase::buy(set, sender, nonce, &terms.0),
        TxBody::TopUpPackage {
            package,
            bytes,
            reward,
            carriage,
            valid_until,
        } => {
            let top_up = crate::package::PendingTopUp {
                bytes: *bytes,
                reward: *reward,
                carriage: *carriage,
                valid_until: *valid_until,
            };
            purchase::top_up(set, sender, package, top_up)
        }
        TxBody::ClosePackage { package } => close::close_package(set, sender, package),
        TxBody::Claim { .. } | TxBody::SettleBatch { .. } => Err(Status::WrongSender.into()),
        body => run_stake(set, sender, body),
    }?;
    set.charge(sender, fee)?;
    Ok(Done {
        fee,
        refused: Vec::new(),
        events,
    })
}

/// What an account does about seats and stake.
fn run_stake(
    set: &mut WorkingSet<'_>,
    sender: &AccountId,
    body: &TxBody,
) -> Result<Vec<Event>, Stop> {
    match body {
        TxBody::RegisterCandidate {
            seat_key,
            key_proof,
            stake,
            commission,
            info,
        } => {
            let wanted = stake::Registration {
                seat_key: *seat_key,
                key_proof,
                stake: *stake,
                commission: *commission,
                info,
            };
            stake::register(set, sender, &wanted)
        }
        TxBody::UpdateCandidate { rate, info } => stake::update(set, sender, *rate, info),
        TxBody::RotateSeatKey {
            seat_key,
            key_proof,
        } => stake::rotate(set, sender, *seat_key, key_proof),
        TxBody::ResignCandidate => stake::resign(set, sender),
        TxBody::Vote { candidate, units } => stake::vote(set, sender, candidate, *units),
        TxBody::Unvote { candidate, units } => stake::unvote(set, sender, candidate, *units),
        TxBody::Redelegate { from, to, units } => stake::redelegate(set, sender, from, to, *units),
        TxBody::CollectRewards { candidate } => stake::collect(set, sender, candidate),
        TxBody::ReportEquivocation { proof } => stake::report(set, sender, proof),
        _ => Err(Status::WrongSender.into()),
    }
}
