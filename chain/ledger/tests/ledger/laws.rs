//! Laws 4, 5 and 7 over random histories: several packages, viewers, gateways and incarnations;
//! records shuffled, doubled, stale, batched anew, dropped and sent again, lied about; top-ups,
//! closes, expiry and claims. After every block the ledger equals the model.
//!
//! `QLINK_PROPERTY_PACKAGES` sets how many packages live through it (2,000).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use qlink_ledger::{ModuleAccount, Params, SignatureCheck};
use qlink_types::batch::{Batch, Final};
use qlink_types::codec::List;
use qlink_types::ids::{Hash32, PackageId};
use qlink_types::outcome::Status;
use qlink_types::package::{
    Audience, CarriageShares, PackageState, PackageTerms, Scope, VersionedTerms,
};
use qlink_types::rating::Ratio;
use qlink_types::signature::Signature;
use qlink_types::transaction::{SignedTransaction, Transaction, TxBody};
use qlink_types::units::{Bytes, Incarnation, Nonce, TimeMs, Units};

use crate::model::{Added, Carried, Counter, Model, ModelPackage, Path, Row, Terms};
use crate::world::*;

/// Packages of one history.
const PACKAGES: usize = 3;
/// Viewers besides the `unclaimed` line.
const VIEWERS: usize = 5;

static BASE: LazyLock<World> = LazyLock::new(|| {
    let mut world = World::new();
    world.check = SignatureCheck::AlreadyVerified;
    world
});

#[derive(Debug, Clone)]
struct Spec {
    bytes: u64,
    reward: u64,
    carriage: [u64; 3],
    cap: u64,
    gateways: u8,
    life_ms: u64,
    personal: bool,
}

#[derive(Debug, Clone)]
enum Op {
    Watch {
        package: usize,
        viewer: usize,
        gateway: usize,
        path: (usize, usize),
        part: Part,
    },
    Send {
        gateway: usize,
        how: How,
        salt: u64,
    },
    Restart {
        gateway: usize,
    },
    TopUp {
        package: usize,
        bytes: u64,
        reward: u64,
        carriage: [u64; 3],
        longer_ms: u64,
    },
    Close {
        package: usize,
    },
    Final {
        package: usize,
        gateway: usize,
    },
    /// Every listed gateway sends all it has and is done.
    Finish {
        package: usize,
    },
    Claim {
        package: usize,
        viewer: usize,
        permille: u64,
    },
    Block {
        wait_ms: u64,
    },
}

/// How much of what is left a viewer fetches.
#[derive(Debug, Clone, Copy)]
enum Part {
    Few(u64),
    Permille(u64),
}

#[derive(Debug, Clone, Copy)]
enum How {
    Full,
    Partial,
    DoubledAndStale,
    Replay,
    Lie,
}

fn magnitude(max_bits: u32) -> impl Strategy<Value = u64> {
    (0..=max_bits, any::<u64>()).prop_map(|(bits, value)| match bits {
        0 => 0,
        bits => value >> (64 - bits),
    })
}

fn carriage() -> impl Strategy<Value = [u64; 3]> {
    [magnitude(40), magnitude(40), magnitude(40)]
}

fn spec() -> impl Strategy<Value = Spec> {
    (
        (magnitude(62), magnitude(50), carriage(), magnitude(63)),
        (1u8..8, 60_000u64..20_000_000, prop::bool::weighted(0.2)),
    )
        .prop_map(
            |((bytes, reward, carriage, cap), (gateways, life_ms, personal))| Spec {
                bytes: bytes.max(1),
                reward: if personal { 0 } else { reward },
                carriage,
                cap: if personal {
                    bytes.max(1)
                } else {
                    cap.clamp(1, HUGE_BYTES)
                },
                gateways,
                life_ms,
                personal,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let part = prop_oneof![
        (1u64..20).prop_map(Part::Few),
        (0u64..=1_000).prop_map(Part::Permille),
        Just(Part::Permille(1_000)),
    ];
    let permille = prop_oneof![3 => 100u64..900, 1 => Just(1_000), 1 => Just(1_001), 1 => Just(0)];
    let how = prop_oneof![
        3 => Just(How::Full),
        3 => Just(How::Partial),
        2 => Just(How::DoubledAndStale),
        1 => Just(How::Replay),
        1 => Just(How::Lie),
    ];
    prop_oneof![
        36 => (0..PACKAGES, 0..=VIEWERS, 0..3usize, (0..3usize, 0..4usize), part).prop_map(
            |(package, viewer, gateway, path, part)| Op::Watch { package, viewer, gateway, path, part }
        ),
        24 => (0..3usize, how, any::<u64>())
            .prop_map(|(gateway, how, salt)| Op::Send { gateway, how, salt }),
        2 => (0..3usize).prop_map(|gateway| Op::Restart { gateway }),
        4 => (0..PACKAGES, magnitude(60), magnitude(48), carriage(), 0u64..2_000_000).prop_map(
            |(package, bytes, reward, carriage, longer_ms)| Op::TopUp {
                package, bytes, reward, carriage, longer_ms,
            }
        ),
        1 => (0..PACKAGES).prop_map(|package| Op::Close { package }),
        3 => (0..PACKAGES, 0..3usize).prop_map(|(package, gateway)| Op::Final { package, gateway }),
        6 => (0..PACKAGES).prop_map(|package| Op::Finish { package }),
        12 => (0..PACKAGES, 1..=VIEWERS, permille)
            .prop_map(|(package, viewer, permille)| Op::Claim { package, viewer, permille }),
        14 => prop_oneof![12 => 0u64..5_000, 1 => 0u64..2_000_000]
            .prop_map(|wait_ms| Op::Block { wait_ms }),
    ]
}

/// What the gateways have counted, sent or not.
#[derive(Default)]
struct Counted {
    rows: BTreeMap<(usize, u32, usize, Counter), u64>,
    paths: BTreeMap<(usize, u32, Path), u64>,
}

/// What a transaction should do.
enum Expected {
    Status(Status),
    Refused(Vec<(usize, Status)>),
}

type Records = (Vec<Row>, Vec<Carried>);

struct History {
    world: World,
    model: Model,
    counted: Counted,
    incarnations: [u64; 3],
    sequences: [u64; 3],
    nonce: Nonce,
    last: [Records; 3],
    block: Vec<SignedTransaction>,
    expected: Vec<Expected>,
}

fn shares(carriage: [u64; 3]) -> CarriageShares {
    CarriageShares {
        operator: Units::new(carriage[0]),
        basestation: Units::new(carriage[1]),
        gateway: Units::new(carriage[2]),
    }
}

fn status(result: Result<(), Status>) -> Status {
    result.err().unwrap_or(Status::Accepted)
}

impl History {
    fn new() -> Self {
        let world = BASE.clone();
        let accounts = world.view().accounts(100, None).unwrap();
        let balances = accounts.iter().map(|id| (*id, world.balance(id))).collect();
        let model = Model::new(world.time_ms, Params::default(), balances);
        Self {
            nonce: world.account(&account(&provider())).nonce,
            model,
            counted: Counted::default(),
            incarnations: [1; 3],
            sequences: [0; 3],
            last: Default::default(),
            block: Vec::new(),
            expected: Vec::new(),
            world,
        }
    }

    fn push_provider(&mut self, body: TxBody, status: Status) {
        let mut transaction = self.world.unsigned(&provider(), body);
        transaction.nonce = self.nonce;
        if status == Status::Accepted {
            self.nonce = self.nonce.next();
        }
        self.push_unsigned(transaction, Expected::Status(status));
    }

    /// Account and viewer signatures count as checked in these histories.
    fn push_unsigned(&mut self, transaction: Transaction, expected: Expected) {
        self.block.push(SignedTransaction {
            transaction,
            signature: Signature::new([0; 64]),
        });
        self.expected.push(expected);
    }

    fn buy(&mut self, spec: &Spec) {
        let id = PackageId::derive(&account(&provider()), self.nonce);
        let gateways: Vec<usize> = (0..3).filter(|n| spec.gateways & (1 << n) != 0).collect();
        let valid_until = self.model.now + spec.life_ms;
        let terms = PackageTerms {
            scope: if spec.personal {
                Scope::Any
            } else {
                Scope::Contents {
                    contents: List::try_from(vec![huge()]).unwrap(),
                }
            },
            bytes: Bytes::new(spec.bytes),
            reward: Units::new(spec.reward),
            carriage: shares(spec.carriage),
            audience: Audience::Keys {
                keys: List::try_from((1..=VIEWERS).map(viewer).collect::<Vec<_>>()).unwrap(),
            },
            viewer_cap: Bytes::new(spec.cap),
            valid_until: TimeMs::new(valid_until),
            gateways: List::try_from(gateways.iter().map(|n| gateway(*n)).collect::<Vec<_>>())
                .unwrap(),
            ..self.world.terms()
        };
        let result = self.model.buy(
            id,
            Terms {
                bytes: spec.bytes,
                reward: spec.reward,
                carriage: spec.carriage,
                cap: spec.cap,
                gateways,
                valid_until,
                personal: spec.personal,
            },
        );
        let terms = VersionedTerms(terms);
        self.push_provider(TxBody::BuyPackage { terms }, status(result));
    }

    fn run(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match *op {
            Op::Watch {
                package,
                viewer,
                gateway,
                path,
                part,
            } => {
                self.watch(package, viewer, gateway, path, part);
            }
            Op::Send { gateway, how, salt } => self.send(gateway, how, salt),
            Op::Restart { gateway } => self.incarnations[gateway] += 1,
            Op::TopUp {
                package,
                bytes,
                reward,
                carriage,
                longer_ms,
            } => {
                let model = &self.model.packages[package];
                let added = Added {
                    bytes,
                    reward: if model.terms.personal { 0 } else { reward },
                    carriage,
                    valid_until: model.terms.valid_until + longer_ms,
                };
                let body = TxBody::TopUpPackage {
                    package: model.id,
                    bytes: Bytes::new(added.bytes),
                    reward: Units::new(added.reward),
                    carriage: shares(carriage),
                    valid_until: TimeMs::new(added.valid_until),
                };
                let status = status(self.model.top_up(package, added));
                self.push_provider(body, status);
            }
            Op::Close { package } => {
                let id = self.model.packages[package].id;
                let status = status(self.model.close(package));
                self.push_provider(TxBody::ClosePackage { package: id }, status);
            }
            Op::Final { package, gateway } => {
                let epoch = self.model.packages[package].epoch;
                self.submit(gateway, Records::default(), &[(package, epoch)]);
            }
            Op::Finish { package } => {
                let epoch = self.model.packages[package].epoch;
                for gateway in self.model.packages[package].terms.gateways.clone() {
                    let records = self.all_records(gateway);
                    self.submit(gateway, records, &[(package, epoch)]);
                }
            }
            Op::Claim {
                package,
                viewer,
                permille,
            } => {
                let model = &self.model.packages[package];
                let claimed = model.claimed.get(&viewer).copied().unwrap_or(0);
                let open = u128::from(model.earned(viewer) - claimed);
                let more = u64::try_from(open * u128::from(permille) / 1_000).unwrap();
                let total = claimed + more + u64::from(permille == 1_001);
                let claim = self.world.claim(model.id, viewer, total).transaction;
                let status = status(self.model.claim(package, viewer, total));
                self.push_unsigned(claim, Expected::Status(status));
            }
            Op::Block { wait_ms } => self.close_block(wait_ms)?,
        }
        Ok(())
    }

    /// Counts bytes as a gateway would: within the viewer's cap and the package's volume.
    fn watch(&mut self, n: usize, viewer: usize, gateway: usize, path: (usize, usize), part: Part) {
        let package = &self.model.packages[n];
        if package.state == PackageState::Closed {
            return;
        }
        let listed = &package.terms.gateways;
        let gateway = listed[gateway % listed.len()];
        let counted = |wanted: &dyn Fn(usize) -> bool| -> u64 {
            let here = |(p, epoch, v, _): &(usize, u32, usize, Counter)| {
                *p == n && *epoch == package.epoch && wanted(*v)
            };
            self.counted
                .rows
                .iter()
                .filter(|(key, _)| here(key))
                .map(|(_, bytes)| *bytes)
                .sum()
        };
        let settled = package.settled_bytes.get(&viewer).copied().unwrap_or(0);
        let all_left = package.bytes - counted(&|_| true);
        let left = if viewer == 0 {
            all_left
        } else {
            all_left.min(package.terms.cap - settled - counted(&|v| v == viewer))
        };
        let bytes = match part {
            Part::Few(bytes) => bytes.min(left),
            Part::Permille(part) => {
                u64::try_from(u128::from(left) * u128::from(part) / 1_000).unwrap()
            }
        };
        let counter = (gateway, self.incarnations[gateway]);
        let epoch = package.epoch;
        *self
            .counted
            .rows
            .entry((n, epoch, viewer, counter))
            .or_insert(0) += bytes;
        let path = (counter, path.0, path.1);
        *self.counted.paths.entry((n, epoch, path)).or_insert(0) += bytes;
    }

    /// Everything a gateway has ever counted, as cumulative records.
    fn all_records(&self, gateway: usize) -> Records {
        let rows = self.counted.rows.iter();
        let rows = rows.filter(|((_, _, _, counter), _)| counter.0 == gateway);
        let paths = self.counted.paths.iter();
        let paths = paths.filter(|((_, _, (counter, _, _)), _)| counter.0 == gateway);
        (
            rows.map(|((package, epoch, viewer, counter), bytes)| Row {
                package: *package,
                epoch: *epoch,
                viewer: *viewer,
                incarnation: counter.1,
                bytes: *bytes,
            })
            .collect(),
            paths
                .map(
                    |((package, epoch, (counter, operator, basestation)), bytes)| Carried {
                        package: *package,
                        epoch: *epoch,
                        incarnation: counter.1,
                        operator: *operator,
                        basestation: *basestation,
                        bytes: *bytes,
                    },
                )
                .collect(),
        )
    }

    fn send(&mut self, gateway: usize, how: How, salt: u64) {
        let mut records = self.all_records(gateway);
        match how {
            How::Full => {}
            How::Partial => records = self.partial(gateway, records, salt),
            How::DoubledAndStale => {
                let stale: Vec<_> = records
                    .0
                    .iter()
                    .map(|row| Row {
                        bytes: row.bytes / 2,
                        ..*row
                    })
                    .collect();
                records.0 = [stale, records.0.clone(), records.0].concat();
                records.1 = [records.1.clone(), records.1].concat();
                shuffle(&mut records.0, salt);
                shuffle(&mut records.1, salt);
            }
            How::Replay => records = self.last[gateway].clone(),
            How::Lie => lie(&mut records, salt),
        }
        self.submit(gateway, records, &[]);
    }

    /// Some of the viewers, with just so much of the paths as they have grown: the rest was
    /// dropped and comes later.
    fn partial(&self, gateway: usize, (mut rows, mut paths): Records, salt: u64) -> Records {
        shuffle(&mut rows, salt);
        let keep = usize::try_from(salt % 7).unwrap();
        rows.truncate(rows.len().saturating_sub(keep));
        let mut growth: BTreeMap<(usize, u32, u64), u64> = BTreeMap::new();
        for row in &rows {
            let package = &self.model.packages[row.package];
            let key = (row.viewer, (gateway, row.incarnation));
            let before = match package.epoch == row.epoch {
                true => package.counters.get(&key).copied().unwrap_or(0),
                false => 0,
            };
            let grown = growth
                .entry((row.package, row.epoch, row.incarnation))
                .or_insert(0);
            *grown += row.bytes.saturating_sub(before);
        }
        for path in &mut paths {
            let package = &self.model.packages[path.package];
            let key = ((gateway, path.incarnation), path.operator, path.basestation);
            let before = match package.epoch == path.epoch {
                true => package.paths.get(&key).copied().unwrap_or(0),
                false => 0,
            };
            let open = growth
                .entry((path.package, path.epoch, path.incarnation))
                .or_insert(0);
            let grown = (*open).min(path.bytes.saturating_sub(before));
            *open -= grown;
            path.bytes = before + grown;
        }
        (rows, paths)
    }

    fn submit(&mut self, n: usize, (rows, paths): Records, finals: &[(usize, u32)]) {
        if rows.len() > 1_000 || paths.len() > 1_000 {
            return;
        }
        let ratio: Vec<_> = rows.iter().map(|row| self.ratio_record(n, row)).collect();
        let carried: Vec<_> = paths
            .iter()
            .map(|path| self.carriage_record(n, path))
            .collect();
        let ends = finals.iter().map(|(package, number)| Final {
            package: self.model.packages[*package].id,
            package_epoch: epoch(*number),
        });
        let mut batch = Batch {
            gateway: gateway(n),
            incarnation: Incarnation::new(self.incarnations[n]),
            sequence: self.sequences[n] + 1,
            ratio: List::try_from(ratio).unwrap(),
            carriage: List::try_from(carried).unwrap(),
            finals: List::try_from(ends.collect::<Vec<_>>()).unwrap(),
            root: Hash32::ZERO,
        };
        batch.root = batch.compute_root();
        let signed = self.world.sign_batch(n, batch);
        self.block.push(signed);
        let expected = match self.model.batch(n, &rows, &paths, finals) {
            Ok(refused) => {
                self.sequences[n] += 1;
                Expected::Refused(refused)
            }
            Err(status) => Expected::Status(status),
        };
        self.expected.push(expected);
        self.last[n] = (rows, paths);
    }

    fn ratio_record(&self, n: usize, row: &Row) -> qlink_types::record::RatioRecord {
        let package = &self.model.packages[row.package];
        let rated = Ratio::new(Units::new(package.reward), Bytes::new(package.bytes)).unwrap();
        qlink_types::record::RatioRecord {
            key: qlink_types::record::RatioKey {
                package: package.id,
                package_epoch: epoch(row.epoch),
                viewer: viewer(row.viewer),
                gateway: gateway(n),
                incarnation: Incarnation::new(row.incarnation),
            },
            bytes: qlink_types::record::GradedBytes {
                verified: Bytes::new(row.bytes),
                ..Default::default()
            },
            units: rated.owed(Bytes::new(row.bytes)).unwrap_or_default(),
            lease: Bytes::ZERO,
            evidence_root: Hash32::ZERO,
        }
    }

    fn carriage_record(&self, n: usize, path: &Carried) -> qlink_types::record::CarriageRecord {
        qlink_types::record::CarriageRecord {
            key: qlink_types::record::CarriageKey {
                package: self.model.packages[path.package].id,
                package_epoch: epoch(path.epoch),
                gateway: gateway(n),
                incarnation: Incarnation::new(path.incarnation),
                operator: operator(path.operator),
                basestation: basestation(path.basestation),
            },
            bytes: Bytes::new(path.bytes),
        }
    }

    /// Applies the block, compares, and begins the next one `wait_ms` later.
    fn close_block(&mut self, wait_ms: u64) -> Result<(), TestCaseError> {
        let block = std::mem::take(&mut self.block);
        let mut receipts = self.world.block(&block);
        if receipts.first().is_some_and(|receipt| receipt.tx.is_zero()) {
            receipts.remove(0);
        }
        for (receipt, expected) in receipts.iter().zip(self.expected.drain(..)) {
            match expected {
                Expected::Status(status) => prop_assert_eq!(receipt.status, status),
                Expected::Refused(refused) => {
                    prop_assert_eq!(receipt.status, Status::Accepted);
                    let found: Vec<_> = receipt
                        .refused
                        .iter()
                        .map(|refused| (usize::try_from(refused.index).unwrap(), refused.status))
                        .collect();
                    prop_assert_eq!(found, refused);
                }
            }
        }
        self.compare()?;
        self.world.time_ms += wait_ms;
        self.model.begin_block(self.world.time_ms + 1_000);
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        for (account, balance) in &self.model.balances {
            prop_assert_eq!(self.world.balance(account), *balance, "{}", account);
        }
        for package in &self.model.packages {
            if self.world.view().package(&package.id).unwrap().is_some() {
                self.compare_package(package)?;
            }
        }
        Ok(())
    }

    fn compare_package(&self, package: &ModelPackage) -> Result<(), TestCaseError> {
        let row = self.world.package(&package.id);
        prop_assert_eq!(row.state, package.state);
        prop_assert_eq!(row.package_epoch.get(), package.epoch);
        let totals = row.totals;
        let viewers = package.all_viewers();
        let earned: u64 = viewers
            .iter()
            .filter(|n| **n != 0)
            .map(|n| package.earned(*n))
            .sum();
        prop_assert_eq!(totals.deposit.get(), package.deposit);
        prop_assert_eq!(totals.escrow.get(), package.escrow());
        prop_assert_eq!(totals.reward_paid.get(), earned);
        prop_assert_eq!(totals.unclaimed.get(), package.earned(0));
        prop_assert_eq!(totals.claimed.get(), package.claimed.values().sum::<u64>());
        prop_assert_eq!(totals.refund.get(), package.refund);
        prop_assert_eq!(totals.dust.get(), package.dust);
        prop_assert_eq!(
            totals.carriage_paid.operator.get(),
            package.carriage_paid_total(0)
        );
        prop_assert_eq!(
            totals.carriage_paid.basestation.get(),
            package.carriage_paid_total(1)
        );
        prop_assert_eq!(
            totals.carriage_paid.gateway.get(),
            package.carriage_paid_total(2)
        );
        if package.state != PackageState::Closed {
            prop_assert_eq!(row.current.bytes.get(), package.bytes);
            prop_assert_eq!(row.current.reward.get(), package.reward);
            prop_assert_eq!(row.current.carriage, shares(package.carriage));
            prop_assert_eq!(row.current.used.get(), package.used());
        }
        let bytes = package.viewers();
        for n in 0..=VIEWERS {
            let found = self.world.viewer(&package.id, n);
            let settled = package.settled_bytes.get(&n).unwrap_or(&0);
            let all = settled + bytes.get(&n).unwrap_or(&0);
            prop_assert_eq!(found.earned().get(), package.earned(n));
            prop_assert_eq!(found.bytes_total().get(), all);
        }
        Ok(())
    }

    /// Closes everything; then only claims and refunds are left of every deposit.
    fn end(&mut self) -> Result<(), TestCaseError> {
        self.close_block(0)?;
        for package in 0..PACKAGES {
            self.run(&Op::Close { package })?;
        }
        for _ in 0..4 {
            self.close_block(Params::default().closing_ms)?;
        }
        for _ in 0..4 {
            self.close_block(20_000_000)?;
        }
        for package in &self.model.packages {
            prop_assert_eq!(package.state, PackageState::Closed);
            prop_assert_eq!(self.world.package(&package.id).totals.escrow, Units::ZERO);
        }
        let community = self.world.balance(&ModuleAccount::Community.id());
        prop_assert!(community > 0);
        Ok(())
    }
}

/// Breaks a batch in one place.
fn lie((rows, paths): &mut Records, salt: u64) {
    let pick = |length: usize| usize::try_from(salt / 4).unwrap_or(0) % length.max(1);
    let row = pick(rows.len());
    match (salt % 4, rows.get_mut(row)) {
        (0, Some(row)) => row.bytes = row.bytes.saturating_add(1),
        (1, Some(row)) => row.bytes = u64::MAX,
        (2, Some(row)) => row.epoch += 1,
        _ if !paths.is_empty() => drop(paths.remove(pick(paths.len()))),
        _ => {}
    }
}

/// A permutation drawn from `salt` (Fisher-Yates over a linear congruential sequence).
fn shuffle<T>(values: &mut [T], mut salt: u64) {
    for index in (1..values.len()).rev() {
        salt = salt
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(salt >> 33).unwrap() % (index + 1);
        values.swap(index, other);
    }
}

fn packages_wanted() -> u32 {
    match std::env::var("QLINK_PROPERTY_PACKAGES") {
        Ok(text) => text.parse().expect("QLINK_PROPERTY_PACKAGES is a number"),
        Err(_) => 2_000,
    }
}

#[test]
fn random_histories_keep_every_byte_and_unit() {
    let config = ProptestConfig {
        cases: packages_wanted().div_ceil(u32::try_from(PACKAGES).unwrap()),
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..ProptestConfig::default()
    };
    let input = (
        prop::collection::vec(spec(), PACKAGES),
        prop::collection::vec(op(), 1..120),
    );
    let result = TestRunner::new(config).run(&input, |(specs, ops)| {
        let mut history = History::new();
        history.model.begin_block(history.world.time_ms + 1_000);
        for spec in &specs {
            history.buy(spec);
        }
        for op in &ops {
            history.run(op)?;
        }
        history.end()
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
