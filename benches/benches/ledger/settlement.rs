//! A chain with packages and viewers, and a commit full of cumulative records for them.

use qlink_benches::Random;
use qlink_ledger::{
    BlockContext, Genesis, MemoryState, Outcome, Params, SignatureCheck, apply_block,
    genesis_changes,
};
use qlink_types::batch::Batch;
use qlink_types::codec::{Encode as _, List, Text};
use qlink_types::content::{ContentRegistration, GROUP_LOG};
use qlink_types::ids::{
    AccountId, BaseStationId, ContentId, GatewayId, Hash32, OperatorId, PackageId, ViewerKey,
};
use qlink_types::outcome::Status;
use qlink_types::package::{
    Audience, CarriageShares, PackageTerms, RepeatPolicy, Scope, VersionedTerms,
};
use qlink_types::rating::Ratio;
use qlink_types::record::{CarriageKey, CarriageRecord, GradedBytes, RatioKey, RatioRecord};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{
    PartyKind, Sender, SignedTransaction, Transaction, TxBody, prove_key,
};
use qlink_types::units::{BlockHeight, Bytes, Incarnation, Nonce, PackageEpoch, TimeMs, Units};

/// Packages of the commit.
pub(crate) const PACKAGES: usize = 100;
/// Viewers of each package, each with one counter.
pub(crate) const VIEWERS: usize = 1000;
/// How often each counter stands in the commit, larger each time.
pub(crate) const ROUNDS: usize = 10;
/// Packages in one batch: the gateway puts at most 2048 viewers into one.
const PACKAGES_PER_BATCH: usize = 2;

const FILM_BYTES: u64 = 10_000_000;
const PACKAGE_BYTES: u64 = FILM_BYTES * VIEWERS as u64;
/// No divisor of the volume, so that every rating has a remainder.
const REWARD: u64 = 9_999_999_967;

/// The chain before the commit: every viewer has a row already, as in a running system.
pub(crate) struct Chain {
    pub(crate) state: MemoryState,
    id: ChainId,
    height: u64,
    viewers: Vec<Vec<ViewerKey>>,
}

fn provider() -> SecretKey {
    SecretKey::from_seed([1; 32])
}

fn owner() -> SecretKey {
    SecretKey::from_seed([2; 32])
}

fn gateway_key() -> SecretKey {
    SecretKey::from_seed([3; 32])
}

fn account(key: &SecretKey) -> AccountId {
    key.public().into()
}

fn gateway() -> GatewayId {
    GatewayId::derive(&account(&owner()), Nonce::ZERO)
}

fn basestation() -> BaseStationId {
    BaseStationId::derive(&account(&owner()), Nonce::new(1))
}

fn operator() -> OperatorId {
    OperatorId::derive(&account(&owner()), Nonce::new(2))
}

const fn film() -> ContentId {
    ContentId::new([0xf1; 32])
}

/// The provider's first transaction registers the film.
fn package(number: usize) -> PackageId {
    PackageId::derive(&account(&provider()), Nonce::new(number as u64 + 1))
}

impl Chain {
    pub(crate) fn new() -> Self {
        let accounts = vec![
            (account(&provider()), Units::new(10_000_000_000_000_000)),
            (account(&owner()), Units::new(10_000_000_000)),
        ];
        let genesis =
            Genesis::try_new("bench", TimeMs::new(1), accounts, Params::default()).unwrap();
        let mut state = MemoryState::new();
        state.apply(&genesis_changes(&genesis));
        let mut random = Random::new(1);
        let mut chain = Self {
            state,
            id: genesis.chain_id(),
            height: 0,
            viewers: (0..PACKAGES)
                .map(|_| {
                    let mut viewers: Vec<ViewerKey> = (0..VIEWERS)
                        .map(|_| ViewerKey::new(random.bytes32()))
                        .collect();
                    viewers.sort_unstable();
                    viewers
                })
                .collect(),
        };
        let registrations = chain.registrations();
        chain.block(&registrations);
        let first = chain.round(0);
        chain.block(&first);
        chain
    }

    pub(crate) const fn context(&self) -> BlockContext {
        BlockContext {
            chain: self.id,
            height: BlockHeight::new(self.height + 1),
            time_ms: TimeMs::new(1_000 * (self.height + 1)),
        }
    }

    fn block(&mut self, transactions: &[SignedTransaction]) {
        let check = SignatureCheck::Check;
        let outcome = apply_block(&self.state, &self.context(), transactions, check).unwrap();
        assert_all_accepted(&outcome);
        self.state.apply(&outcome.changes);
        self.height += 1;
    }

    fn registrations(&self) -> Vec<SignedTransaction> {
        let parties = [
            PartyKind::Gateway,
            PartyKind::BaseStation,
            PartyKind::Operator,
        ];
        let parties = (0..).zip(parties).map(|(nonce, party_kind)| {
            let body = TxBody::RegisterParty {
                party_kind,
                key: gateway_key().public(),
                key_proof: prove_key(&gateway_key(), &self.id, &account(&owner())),
                asset: Hash32::ZERO,
                name: Text::try_from("bench").unwrap(),
            };
            self.by_account(&owner(), nonce, body)
        });
        let bodies = std::iter::once(register_film()).chain((0..PACKAGES).map(|_| buy()));
        let bought = (0..).zip(bodies);
        let bought = bought.map(|(nonce, body)| self.by_account(&provider(), nonce, body));
        parties.chain(bought).collect()
    }

    fn by_account(&self, key: &SecretKey, nonce: u64, body: TxBody) -> SignedTransaction {
        self.transaction(
            Sender::Account {
                account: account(key),
            },
            nonce,
            body,
        )
        .sign(key)
    }

    const fn transaction(&self, sender: Sender, nonce: u64, body: TxBody) -> Transaction {
        Transaction {
            chain: self.id,
            sender,
            nonce: Nonce::new(nonce),
            max_fee: Units::new(1_000_000),
            valid_until: TimeMs::ZERO,
            body,
        }
    }

    /// A batch in its transaction, signed by the gateway.
    pub(crate) fn sign(&self, batch: Batch) -> SignedTransaction {
        let sender = Sender::Gateway {
            gateway: batch.gateway,
        };
        self.transaction(sender, batch.sequence, TxBody::SettleBatch { batch })
            .sign(&gateway_key())
    }

    /// The batches of one round over all packages.
    fn round(&self, round: usize) -> Vec<SignedTransaction> {
        (0..PACKAGES)
            .step_by(PACKAGES_PER_BATCH)
            .map(|first| self.sign(self.batch(round, first)))
            .collect()
    }

    fn batch(&self, round: usize, first: usize) -> Batch {
        let numbers = first..first + PACKAGES_PER_BATCH;
        let ratio: Vec<RatioRecord> = numbers
            .clone()
            .flat_map(|number| {
                self.viewers[number]
                    .iter()
                    .zip(0..)
                    .map(move |v| (number, v))
            })
            .map(|(number, (viewer, place))| ratio_record(number, *viewer, used(round, place)))
            .collect();
        let carriage: Vec<CarriageRecord> = numbers
            .map(|number| carriage_record(number, round))
            .collect();
        let mut batch = Batch {
            gateway: gateway(),
            incarnation: Incarnation::new(1),
            sequence: ((round * PACKAGES + first) / PACKAGES_PER_BATCH + 1) as u64,
            ratio: List::try_from(ratio).unwrap(),
            carriage: List::try_from(carriage).unwrap(),
            finals: List::new(),
            root: Hash32::ZERO,
        };
        batch.root = batch.compute_root();
        batch
    }

    /// The transactions of the commit as they come over the wire.
    pub(crate) fn commit(&self) -> Vec<Vec<u8>> {
        (1..=ROUNDS)
            .flat_map(|round| self.round(round))
            .map(|transaction| transaction.to_bytes())
            .collect()
    }

    /// The first batch of the commit.
    pub(crate) fn first_batch(&self) -> Batch {
        self.batch(1, 0)
    }
}

/// Cumulative bytes of a viewer after a round: grows every time, stays below the film.
const fn used(round: usize, viewer: u64) -> u64 {
    (round as u64 + 1) * 900_000 + viewer
}

fn ratio_record(number: usize, viewer: ViewerKey, bytes: u64) -> RatioRecord {
    let bytes = Bytes::new(bytes);
    let ratio = Ratio::new(Units::new(REWARD), Bytes::new(PACKAGE_BYTES)).unwrap();
    RatioRecord {
        key: RatioKey {
            package: package(number),
            package_epoch: PackageEpoch::ZERO,
            viewer,
            gateway: gateway(),
            incarnation: Incarnation::new(1),
        },
        bytes: GradedBytes {
            verified: bytes,
            ..GradedBytes::default()
        },
        units: ratio.owed(bytes).unwrap(),
        lease: Bytes::ZERO,
        evidence_root: Hash32::ZERO,
    }
}

fn carriage_record(number: usize, round: usize) -> CarriageRecord {
    CarriageRecord {
        key: CarriageKey {
            package: package(number),
            package_epoch: PackageEpoch::ZERO,
            gateway: gateway(),
            incarnation: Incarnation::new(1),
            operator: operator(),
            basestation: basestation(),
        },
        bytes: Bytes::new((0..VIEWERS as u64).map(|viewer| used(round, viewer)).sum()),
    }
}

fn register_film() -> TxBody {
    TxBody::RegisterContent {
        registration: ContentRegistration {
            content: film(),
            size: Bytes::new(FILM_BYTES),
            group_log: GROUP_LOG,
            sha256: Hash32::ZERO,
            groups_hash: Hash32::ZERO,
            media_type: Text::try_from("video/mp4").unwrap(),
            royalty_units: Units::ZERO,
        },
    }
}

fn buy() -> TxBody {
    TxBody::BuyPackage {
        terms: VersionedTerms(PackageTerms {
            scope: Scope::Contents {
                contents: List::try_from(vec![film()]).unwrap(),
            },
            bytes: Bytes::new(PACKAGE_BYTES),
            reward: Units::new(REWARD),
            carriage: CarriageShares {
                operator: Units::new(300_000_007),
                basestation: Units::new(500_000_009),
                gateway: Units::new(200_000_003),
            },
            valid_from: TimeMs::ZERO,
            valid_until: TimeMs::new(24 * 60 * 60 * 1000),
            audience: Audience::Open,
            viewer_cap: Bytes::new(FILM_BYTES),
            repeat: RepeatPolicy::ChargeUser,
            gateways: List::try_from(vec![gateway()]).unwrap(),
        }),
    }
}

/// A figure counts only if nothing was refused.
pub(crate) fn assert_all_accepted(outcome: &Outcome) {
    for receipt in &outcome.receipts {
        assert_eq!(receipt.status, Status::Accepted);
        assert!(receipt.refused.is_empty());
    }
}
