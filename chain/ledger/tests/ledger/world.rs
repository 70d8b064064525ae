//! A small chain to test on: four owners, three gateways, three BaseStations, two operators, two
//! contents.

use qlink_ledger::{
    Account, BlockContext, Genesis, MemoryState, Package, Params, SignatureCheck, View, ViewerRow,
    apply_block, audit, genesis_changes,
};
use qlink_types::batch::{Batch, Final};
use qlink_types::codec::{List, Text};
use qlink_types::content::{ContentRegistration, GROUP_LOG};
use qlink_types::ids::{
    AccountId, BaseStationId, ContentId, GatewayId, Hash32, OperatorId, PackageId, ViewerKey,
};
use qlink_types::outcome::{Status, TxReceipt};
use qlink_types::package::{
    Audience, CarriageShares, PackageTerms, RepeatPolicy, Scope, VersionedTerms,
};
use qlink_types::rating::Ratio;
use qlink_types::record::{CarriageKey, CarriageRecord, GradedBytes, RatioKey, RatioRecord};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{
    Party, PartyKind, Sender, SignedTransaction, Transaction, TxBody, prove_key,
};
use qlink_types::units::{BlockHeight, Bytes, Incarnation, Nonce, PackageEpoch, TimeMs, Units};

pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
pub(crate) const FILM_BYTES: u64 = 10_000_000;
/// A content so large that sums of a few of it leave 64 bits.
pub(crate) const HUGE_BYTES: u64 = 1 << 63;

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) state: MemoryState,
    pub(crate) chain: ChainId,
    pub(crate) height: u64,
    pub(crate) time_ms: u64,
    pub(crate) check: SignatureCheck,
}

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub(crate) fn account(key: &SecretKey) -> AccountId {
    key.public().into()
}

/// Buys packages.
pub(crate) fn provider() -> SecretKey {
    key(1)
}

/// Owns the gateways 0 and 1.
pub(crate) fn gateway_owner() -> SecretKey {
    key(2)
}

/// Owns the BaseStations.
pub(crate) fn basestation_owner() -> SecretKey {
    key(3)
}

/// Owns the operators.
pub(crate) fn operator_owner() -> SecretKey {
    key(4)
}

/// Owns gateway 2 and has nothing once it is registered.
pub(crate) fn poor_owner() -> SecretKey {
    key(5)
}

pub(crate) fn film() -> ContentId {
    ContentId::new([0xf1; 32])
}

pub(crate) fn huge() -> ContentId {
    ContentId::new([0xf2; 32])
}

pub(crate) fn gateway(n: usize) -> GatewayId {
    match n {
        2 => GatewayId::derive(&account(&poor_owner()), Nonce::ZERO),
        _ => GatewayId::derive(&account(&gateway_owner()), Nonce::new(n as u64)),
    }
}

pub(crate) fn gateway_key(n: usize) -> SecretKey {
    key(20 + u8::try_from(n).unwrap())
}

/// From 1; 0 is nobody.
pub(crate) fn basestation(n: usize) -> BaseStationId {
    match n {
        0 => BaseStationId::ZERO,
        _ => BaseStationId::derive(&account(&basestation_owner()), Nonce::new(n as u64 - 1)),
    }
}

/// From 1; 0 is nobody.
pub(crate) fn operator(n: usize) -> OperatorId {
    match n {
        0 => OperatorId::ZERO,
        _ => OperatorId::derive(&account(&operator_owner()), Nonce::new(n as u64 - 1)),
    }
}

pub(crate) fn viewer_key(n: usize) -> SecretKey {
    key(100 + u8::try_from(n).unwrap())
}

/// From 1; 0 is the `unclaimed` line.
pub(crate) fn viewer(n: usize) -> ViewerKey {
    match n {
        0 => ViewerKey::ZERO,
        _ => viewer_key(n).public().into(),
    }
}

/// Where claims go in these tests.
pub(crate) fn wallet() -> AccountId {
    AccountId::new([0xaa; 32])
}

impl World {
    /// The chain right after genesis.
    pub(crate) fn bare() -> Self {
        Self::with(Params::default())
    }

    /// The same under other parameters.
    pub(crate) fn with(params: Params) -> Self {
        let funds = |units| Units::new(units);
        let poor = params.register_party_fee;
        let accounts = vec![
            (account(&provider()), funds(30_000_000_000_000_000)),
            (account(&gateway_owner()), funds(1_000_000_000)),
            (account(&basestation_owner()), funds(1_000_000_000)),
            (account(&operator_owner()), funds(1_000_000_000)),
            (account(&poor_owner()), poor),
        ];
        let genesis = Genesis::try_new("test", TimeMs::new(1_000), accounts, params).unwrap();
        let mut state = MemoryState::new();
        state.apply(&genesis_changes(&genesis));
        Self {
            state,
            chain: genesis.chain_id(),
            height: 0,
            time_ms: 1_000_000,
            check: SignatureCheck::Check,
        }
    }

    /// With parties and contents registered.
    pub(crate) fn new() -> Self {
        let mut world = Self::bare();
        let parties = [
            (gateway_owner(), PartyKind::Gateway, 20),
            (gateway_owner(), PartyKind::Gateway, 21),
            (poor_owner(), PartyKind::Gateway, 22),
            (basestation_owner(), PartyKind::BaseStation, 31),
            (basestation_owner(), PartyKind::BaseStation, 32),
            (basestation_owner(), PartyKind::BaseStation, 33),
            (operator_owner(), PartyKind::Operator, 41),
            (operator_owner(), PartyKind::Operator, 42),
        ];
        for (owner, kind, party_key) in parties {
            world.accept(&owner, world.register(&owner, kind, &key(party_key)));
        }
        world.accept(&provider(), content(film(), FILM_BYTES));
        world.accept(&provider(), content(huge(), HUGE_BYTES));
        world
    }

    pub(crate) fn register(&self, owner: &SecretKey, kind: PartyKind, key: &SecretKey) -> TxBody {
        TxBody::RegisterParty {
            party_kind: kind,
            key: key.public(),
            key_proof: prove_key(key, &self.chain, &account(owner)),
            asset: Hash32::ZERO,
            name: Text::try_from("name").unwrap(),
        }
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(&self.state)
    }

    pub(crate) fn account(&self, id: &AccountId) -> Account {
        self.view().account(id).unwrap()
    }

    pub(crate) fn balance(&self, id: &AccountId) -> u64 {
        self.account(id).balance.get()
    }

    pub(crate) fn package(&self, id: &PackageId) -> Package {
        self.view().package(id).unwrap().unwrap()
    }

    pub(crate) fn viewer(&self, package: &PackageId, n: usize) -> ViewerRow {
        let row = self.view().viewer(package, &viewer(n)).unwrap();
        row.unwrap_or_default()
    }

    pub(crate) fn context(&self) -> BlockContext {
        BlockContext {
            chain: self.chain,
            height: BlockHeight::new(self.height + 1),
            time_ms: TimeMs::new(self.time_ms + 1_000),
        }
    }

    /// Applies a block a second after the last one and audits the state.
    pub(crate) fn block(&mut self, transactions: &[SignedTransaction]) -> Vec<TxReceipt> {
        let context = self.context();
        let outcome = apply_block(&self.state, &context, transactions, self.check).unwrap();
        self.state.apply(&outcome.changes);
        self.height += 1;
        self.time_ms += 1_000;
        let audit = audit(&self.state).unwrap();
        assert!(audit.is_clean(), "{audit:?}");
        outcome.receipts
    }

    /// Lets time pass, then applies an empty block.
    pub(crate) fn wait(&mut self, millis: u64) -> Vec<TxReceipt> {
        self.time_ms += millis;
        self.block(&[])
    }

    pub(crate) fn unsigned(&self, sender: &SecretKey, body: TxBody) -> Transaction {
        Transaction {
            chain: self.chain,
            sender: Sender::Account {
                account: account(sender),
            },
            nonce: self.account(&account(sender)).nonce,
            max_fee: Units::new(1_000_000),
            valid_until: TimeMs::ZERO,
            body,
        }
    }

    pub(crate) fn sign(&self, sender: &SecretKey, body: TxBody) -> SignedTransaction {
        self.unsigned(sender, body).sign(sender)
    }

    /// One transaction in a block of its own.
    pub(crate) fn submit(&mut self, transaction: SignedTransaction) -> TxReceipt {
        self.block(&[transaction]).pop().unwrap()
    }

    pub(crate) fn run(&mut self, sender: &SecretKey, body: TxBody) -> TxReceipt {
        self.submit(self.sign(sender, body))
    }

    pub(crate) fn accept(&mut self, sender: &SecretKey, body: TxBody) -> TxReceipt {
        let receipt = self.run(sender, body);
        assert_eq!(receipt.status, Status::Accepted);
        receipt
    }

    /// Terms of the acceptance example, with carriage.
    pub(crate) fn terms(&self) -> PackageTerms {
        PackageTerms {
            scope: Scope::Contents {
                contents: List::try_from(vec![film()]).unwrap(),
            },
            bytes: Bytes::new(100_000_000),
            reward: Units::new(100_000_000),
            carriage: CarriageShares {
                operator: Units::new(3_000_000),
                basestation: Units::new(5_000_000),
                gateway: Units::new(2_000_000),
            },
            valid_from: TimeMs::ZERO,
            valid_until: TimeMs::new(self.time_ms + DAY_MS),
            audience: Audience::Open,
            viewer_cap: Bytes::new(FILM_BYTES),
            repeat: RepeatPolicy::ChargeUser,
            gateways: List::try_from(vec![gateway(0)]).unwrap(),
        }
    }

    pub(crate) fn buy(&mut self, terms: PackageTerms) -> PackageId {
        let id = PackageId::derive(
            &account(&provider()),
            self.account(&account(&provider())).nonce,
        );
        self.accept(
            &provider(),
            TxBody::BuyPackage {
                terms: VersionedTerms(terms),
            },
        );
        id
    }

    pub(crate) fn claim(&self, package: PackageId, n: usize, total: u64) -> SignedTransaction {
        Transaction {
            chain: self.chain,
            sender: Sender::Viewer { viewer: viewer(n) },
            nonce: Nonce::ZERO,
            max_fee: Units::ZERO,
            valid_until: TimeMs::ZERO,
            body: TxBody::Claim {
                package,
                to: wallet(),
                total: Units::new(total),
            },
        }
        .sign(&viewer_key(n))
    }

    /// A ratio record with the right units.
    pub(crate) fn ratio(
        &self,
        package: PackageId,
        viewer_n: usize,
        (gateway_n, incarnation): (usize, u64),
        bytes: u64,
    ) -> RatioRecord {
        let package_epoch = self.package(&package).package_epoch;
        let terms = self.package(&package).current;
        let rated = Ratio::new(terms.reward, terms.bytes).unwrap();
        RatioRecord {
            key: RatioKey {
                package,
                package_epoch,
                viewer: viewer(viewer_n),
                gateway: gateway(gateway_n),
                incarnation: Incarnation::new(incarnation),
            },
            bytes: GradedBytes {
                verified: Bytes::new(bytes),
                ..GradedBytes::default()
            },
            units: rated.owed(Bytes::new(bytes)).unwrap_or_default(),
            lease: Bytes::ZERO,
            evidence_root: Hash32::ZERO,
        }
    }

    pub(crate) fn carriage(
        &self,
        package: PackageId,
        (gateway_n, incarnation): (usize, u64),
        (operator_n, basestation_n): (usize, usize),
        bytes: u64,
    ) -> CarriageRecord {
        CarriageRecord {
            key: CarriageKey {
                package,
                package_epoch: self.package(&package).package_epoch,
                gateway: gateway(gateway_n),
                incarnation: Incarnation::new(incarnation),
                operator: operator(operator_n),
                basestation: basestation(basestation_n),
            },
            bytes: Bytes::new(bytes),
        }
    }

    /// A batch of gateway `n` with the next sequence and the right root.
    pub(crate) fn batch(
        &self,
        n: usize,
        ratio: Vec<RatioRecord>,
        carriage: Vec<CarriageRecord>,
        finals: Vec<Final>,
    ) -> Batch {
        let party = Party::Gateway {
            gateway: gateway(n),
        };
        let sequence = self.view().party(&party).unwrap().unwrap().batch_sequence + 1;
        let mut batch = Batch {
            gateway: gateway(n),
            incarnation: Incarnation::new(1_000),
            sequence,
            ratio: List::try_from(ratio).unwrap(),
            carriage: List::try_from(carriage).unwrap(),
            finals: List::try_from(finals).unwrap(),
            root: Hash32::ZERO,
        };
        batch.root = batch.compute_root();
        batch
    }

    pub(crate) fn unsigned_batch(&self, batch: Batch) -> Transaction {
        Transaction {
            chain: self.chain,
            sender: Sender::Gateway {
                gateway: batch.gateway,
            },
            nonce: Nonce::new(batch.sequence),
            max_fee: Units::new(1_000_000),
            valid_until: TimeMs::ZERO,
            body: TxBody::SettleBatch { batch },
        }
    }

    pub(crate) fn sign_batch(&self, n: usize, batch: Batch) -> SignedTransaction {
        self.unsigned_batch(batch).sign(&gateway_key(n))
    }

    /// Viewers (number, cumulative bytes) at gateway 0, all through one path.
    pub(crate) fn watch(&self, package: PackageId, viewers: &[(usize, u64)]) -> Batch {
        let counted = viewers
            .iter()
            .map(|(n, bytes)| self.ratio(package, *n, (0, 1), *bytes))
            .collect();
        let sum = viewers.iter().map(|(_, bytes)| *bytes).sum();
        let carried = self.carriage(package, (0, 1), (1, 1), sum);
        self.batch(0, counted, vec![carried], Vec::new())
    }

    pub(crate) fn finals(&self, package: PackageId) -> Vec<Final> {
        vec![Final {
            package,
            package_epoch: self.package(&package).package_epoch,
        }]
    }

    pub(crate) fn settle(&mut self, n: usize, batch: Batch) -> TxReceipt {
        let receipt = self.submit(self.sign_batch(n, batch));
        assert_eq!(receipt.status, Status::Accepted);
        receipt
    }
}

pub(crate) fn content(content: ContentId, size: u64) -> TxBody {
    TxBody::RegisterContent {
        registration: registration(content, size),
    }
}

pub(crate) fn registration(content: ContentId, size: u64) -> ContentRegistration {
    ContentRegistration {
        content,
        size: Bytes::new(size),
        group_log: GROUP_LOG,
        sha256: Hash32::ZERO,
        groups_hash: Hash32::ZERO,
        media_type: Text::try_from("video/mp4").unwrap(),
        royalty_units: Units::ZERO,
    }
}

pub(crate) fn top_up(package: PackageId, bytes: u64, reward: u64, valid_until: TimeMs) -> TxBody {
    TxBody::TopUpPackage {
        package,
        bytes: Bytes::new(bytes),
        reward: Units::new(reward),
        carriage: CarriageShares::default(),
        valid_until,
    }
}

pub(crate) const fn epoch(n: u32) -> PackageEpoch {
    PackageEpoch::new(n)
}
