//! The pool's rules on a development genesis, without threads or clock.

use qlink_ledger::{Genesis, MemoryState, Params, apply_block, genesis_changes};
use qlink_ledger::{Outcome, SignatureCheck};
use qlink_types::codec::Encode as _;
use qlink_types::ids::{AccountId, GatewayId, ViewerKey};
use qlink_types::signature::SecretKey;
use qlink_types::transaction::{Transaction, TxBody};
use qlink_types::units::{BlockHeight, Nonce, Units};

use super::*;

const TRANSFER: usize = 252;

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn account(n: u8) -> AccountId {
    AccountId::from(key(n).public())
}

fn genesis() -> Genesis {
    let accounts = (1..=3)
        .map(|n| (account(n), Units::new(100_000_000)))
        .collect();
    Genesis::try_new("pool", TimeMs::new(1_000), accounts, Params::default()).unwrap()
}

fn context(height: u64) -> BlockContext {
    BlockContext {
        chain: genesis().chain_id(),
        height: BlockHeight::new(height),
        time_ms: TimeMs::new(1_000 + height),
    }
}

struct Fixture {
    state: MemoryState,
    pool: Mempool,
    height: u64,
}

impl Fixture {
    fn new(limits: PoolLimits) -> Self {
        let mut state = MemoryState::new();
        state.apply(&genesis_changes(&genesis()));
        Self {
            state,
            pool: Mempool::new(limits),
            height: 1,
        }
    }

    fn admit(&mut self, transaction: &SignedTransaction) -> Result<(), AdmitError> {
        let bytes = transaction.to_bytes().len();
        let transaction = Arc::new(transaction.clone());
        self.pool
            .admit(&self.state, &context(self.height), transaction, bytes)
    }

    /// Makes a block of what the pool gives.
    fn block(&mut self, budget: usize) -> Vec<(TxId, Status)> {
        let chosen: Vec<SignedTransaction> = self
            .pool
            .select(budget)
            .iter()
            .map(|chosen| (**chosen).clone())
            .collect();
        let at = context(self.height);
        let Outcome { receipts, changes } =
            apply_block(&self.state, &at, &chosen, SignatureCheck::Check).unwrap();
        self.state.apply(&changes);
        self.height += 1;
        let results: Vec<(TxId, Status)> = receipts
            .iter()
            .filter(|receipt| !receipt.tx.is_zero())
            .map(|receipt| (receipt.tx, receipt.status))
            .collect();
        self.pool
            .settle(&self.state, &context(self.height), &results)
            .unwrap();
        results
    }
}

fn signed(from: u8, nonce: u64, valid_until: u64, body: TxBody) -> SignedTransaction {
    Transaction {
        chain: genesis().chain_id(),
        sender: Sender::Account {
            account: account(from),
        },
        nonce: Nonce::new(nonce),
        max_fee: Units::new(1_000_000),
        valid_until: TimeMs::new(valid_until),
        body,
    }
    .sign(&key(from))
}

fn pay(from: u8, nonce: u64, to: u8, amount: u64) -> SignedTransaction {
    let to = account(to);
    let amount = Units::new(amount);
    signed(from, nonce, 0, TxBody::Transfer { to, amount })
}

fn refusal(result: Result<(), AdmitError>) -> Status {
    match result {
        Err(AdmitError::Refused(status)) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accounts_transactions_enter_in_sequence_on_top_of_each_other() {
    let mut fixture = Fixture::new(PoolLimits::default());

    fixture.admit(&pay(1, 0, 9, 5_000_000)).unwrap();
    assert_eq!(refusal(fixture.admit(&pay(1, 2, 9, 1))), Status::WrongNonce);
    fixture.admit(&pay(1, 1, 9, 1)).unwrap();
    fixture.admit(&pay(1, 2, 9, 1)).unwrap();
    // Money that is still pending can be spent again.
    fixture.admit(&pay(9, 0, 2, 1_000_000)).unwrap();
    assert_eq!(
        refusal(fixture.admit(&pay(9, 1, 2, 90_000_000))),
        Status::InsufficientFunds
    );

    let results = fixture.block(1_000_000);

    assert_eq!(results.len(), 4);
    assert!(
        results
            .iter()
            .all(|(_, status)| *status == Status::Accepted)
    );
    assert!(fixture.pool.is_empty());
    assert_eq!(fixture.pool.bytes(), 0);
}

#[test]
fn a_transaction_that_waits_is_taken_again_without_effect() {
    let mut fixture = Fixture::new(PoolLimits::default());
    fixture.admit(&pay(1, 0, 9, 1)).unwrap();

    fixture.admit(&pay(1, 0, 9, 1)).unwrap();

    assert_eq!(fixture.pool.len(), 1);
}

#[test]
fn every_bound_refuses_by_its_name_and_frees_its_place_after_a_block() {
    let wide = PoolLimits::default();
    for (limits, bound) in [
        (
            PoolLimits {
                transactions: 3,
                ..wide
            },
            "transactions",
        ),
        (
            PoolLimits {
                bytes: 3 * TRANSFER,
                ..wide
            },
            "bytes",
        ),
        (
            PoolLimits {
                per_sender: 3,
                ..wide
            },
            "per_sender",
        ),
    ] {
        let mut fixture = Fixture::new(limits);
        for nonce in 0..3 {
            fixture.admit(&pay(1, nonce, 9, 1)).unwrap();
        }

        let full = fixture.admit(&pay(1, 3, 9, 1));

        assert!(
            matches!(full, Err(AdmitError::Full { bound: found }) if found == bound),
            "{bound}: {full:?}"
        );
        fixture.block(1_000_000);
        fixture.admit(&pay(1, 3, 9, 1)).unwrap();
    }
}

#[test]
fn a_block_takes_a_prefix_and_the_rest_stays_valid() {
    let mut fixture = Fixture::new(PoolLimits::default());
    for nonce in 0..40 {
        fixture.admit(&pay(1, nonce, 9, 1)).unwrap();
    }

    let mut made = 0;
    while !fixture.pool.is_empty() {
        let results = fixture.block(10 * TRANSFER);
        assert!(
            results
                .iter()
                .all(|(_, status)| *status == Status::Accepted)
        );
        made += results.len();
        // New ones still fit behind what is pending, also after the state was built anew.
        if made < 40 {
            assert_eq!(
                refusal(fixture.admit(&pay(1, 41, 9, 1))),
                Status::WrongNonce
            );
        }
    }

    assert_eq!(made, 40);
    assert!(fixture.height > 4);
}

/// Entries of other senders need gateways and packages; what a block takes does not depend on them.
#[test]
fn metering_and_claims_keep_their_share_under_a_flood_of_transfers() {
    let mut pool = Mempool::new(PoolLimits::default());
    let put = |pool: &mut Mempool, sender, number: u64| {
        let mut transaction = pay(1, number, 9, 1);
        transaction.transaction.sender = sender;
        let id = transaction.id();
        pool.insert(id, Arc::new(transaction), 1_000, TimeMs::ZERO);
    };
    let gateway = Sender::Gateway {
        gateway: GatewayId::new([1; 16]),
    };
    let viewer = Sender::Viewer {
        viewer: ViewerKey::new([2; 32]),
    };
    let flood = Sender::Account {
        account: account(1),
    };
    for number in 0..2_000 {
        put(&mut pool, flood, number);
    }
    for number in 0..800 {
        put(&mut pool, gateway, number);
        put(&mut pool, viewer, number);
    }

    let chosen = pool.select(1_000_000);

    let count = |lane| {
        let of_lane = chosen.iter().filter(|chosen| Lane::of(chosen) == lane);
        of_lane.count()
    };
    assert_eq!(count(Lane::Metering), 500);
    assert_eq!(count(Lane::Claims), 100);
    assert_eq!(count(Lane::Accounts), 400);
}

#[test]
fn a_lane_takes_what_the_others_leave() {
    let mut fixture = Fixture::new(PoolLimits::default());
    for nonce in 0..20 {
        fixture.admit(&pay(1, nonce, 9, 1)).unwrap();
    }

    let chosen = fixture.pool.select(20 * TRANSFER);

    assert_eq!(chosen.len(), 20);
}

#[test]
fn what_has_expired_or_waited_too_long_drops_out() {
    let mut fixture = Fixture::new(PoolLimits {
        wait_ms: 5,
        ..PoolLimits::default()
    });
    let close = TxBody::Transfer {
        to: account(9),
        amount: Units::new(1),
    };
    fixture.admit(&signed(1, 0, 1_004, close)).unwrap();
    fixture.admit(&pay(2, 0, 9, 1)).unwrap();
    let rebuild = |fixture: &mut Fixture, height| {
        let state = fixture.state.clone();
        fixture.pool.rebuild(&state, &context(height)).unwrap()
    };

    let early = rebuild(&mut fixture, 2);
    let expired = rebuild(&mut fixture, 4);
    let waited = rebuild(&mut fixture, 6);

    assert_eq!((early, expired, waited), (0, 1, 1));
    assert!(fixture.pool.is_empty());
}

#[test]
fn a_block_that_did_something_else_makes_the_pool_look_again() {
    let mut fixture = Fixture::new(PoolLimits::default());
    fixture.admit(&pay(1, 0, 9, 1)).unwrap();
    fixture.admit(&pay(1, 1, 9, 1)).unwrap();
    // Another seat's block took nonce 0 with another transfer.
    let foreign = pay(1, 0, 2, 77);
    let at = context(fixture.height);
    let outcome = apply_block(
        &fixture.state,
        &at,
        std::slice::from_ref(&foreign),
        SignatureCheck::Check,
    )
    .unwrap();
    fixture.state.apply(&outcome.changes);

    let dropped = fixture
        .pool
        .settle(
            &fixture.state,
            &context(2),
            &[(foreign.id(), Status::Accepted)],
        )
        .unwrap();

    assert_eq!(dropped, 1);
    assert!(fixture.pool.contains(&pay(1, 1, 9, 1).id()));
}
