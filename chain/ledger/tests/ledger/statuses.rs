//! Every status that the ledger can give, each from the transaction or record that causes it.

#![expect(clippy::too_many_lines, reason = "tables of cases")]

use std::collections::BTreeSet;

use qlink_ledger::apply_block;
use qlink_types::batch::Batch;
use qlink_types::codec::{List, Text};
use qlink_types::ids::BaseStationId;
use qlink_types::ids::{AccountId, ContentId, GatewayId, Hash32, OperatorId, PackageId, ViewerKey};
use qlink_types::outcome::{Event, Status, TxReceipt};
use qlink_types::package::{Audience, PackageTerms, Scope, VersionedTerms};
use qlink_types::signature::SecretKey;
use qlink_types::transaction::{Party, PartyKind, Sender, SignedTransaction, TxBody, prove_key};
use qlink_types::units::{Bytes, Incarnation, Nonce, SUPPLY_UNITS, TimeMs, Units};

use crate::stake_refusals::stake_refusals;
use crate::world::*;

fn transfer(amount: u64) -> TxBody {
    TxBody::Transfer {
        to: wallet(),
        amount: Units::new(amount),
    }
}

/// Changes an otherwise good transfer before it is signed.
fn changed(
    world: &World,
    change: impl Fn(&mut qlink_types::transaction::Transaction),
) -> SignedTransaction {
    let mut transaction = world.unsigned(&provider(), transfer(5));
    change(&mut transaction);
    transaction.sign(&provider())
}

fn bought(world: &World, change: impl Fn(&mut PackageTerms)) -> SignedTransaction {
    let mut terms = world.terms();
    change(&mut terms);
    let body = TxBody::BuyPackage {
        terms: VersionedTerms(terms),
    };
    world.sign(&provider(), body)
}

fn registered(
    world: &World,
    change: impl Fn(&mut qlink_types::content::ContentRegistration),
) -> SignedTransaction {
    let mut registration = registration(ContentId::new([9; 32]), 100);
    change(&mut registration);
    world.sign(&provider(), TxBody::RegisterContent { registration })
}

fn rotation(world: &World, party: Party, owner: &SecretKey) -> SignedTransaction {
    let body = TxBody::RotateKey {
        party,
        key: key(90).public(),
        key_proof: prove_key(&key(90), &world.chain, &account(owner)),
    };
    world.sign(owner, body)
}

fn with_package(world: &mut World) -> PackageId {
    let terms = world.terms();
    world.buy(terms)
}

/// Makes a transaction on a world that it may prepare.
pub(crate) type Make = fn(&mut World) -> SignedTransaction;

/// A transaction that is refused as a whole leaves no trace and pays no fee.
fn refusals() -> Vec<(Status, Make)> {
    let mut all = envelope_refusals();
    all.extend(register_refusals());
    all.extend(package_refusals());
    all.extend(terms_refusals());
    all.extend(batch_refusals());
    all.extend(stake_refusals());
    all
}

fn envelope_refusals() -> Vec<(Status, Make)> {
    vec![
        (Status::BadSignature, |world| {
            world.unsigned(&provider(), transfer(5)).sign(&key(77))
        }),
        (Status::WrongChain, |world| {
            changed(world, |tx| tx.chain = Hash32::new([1; 32]))
        }),
        (Status::TransactionExpired, |world| {
            let now = world.context().time_ms;
            changed(world, |tx| tx.valid_until = now)
        }),
        (Status::WrongNonce, |world| {
            changed(world, |tx| tx.nonce = tx.nonce.next())
        }),
        (Status::WrongNonce, |world| {
            changed(world, |tx| tx.nonce = Nonce::ZERO)
        }),
        (Status::WrongSender, |world| {
            let body = world.claim(PackageId::ZERO, 1, 1).transaction.body;
            world.sign(&provider(), body)
        }),
        (Status::WrongSender, |world| {
            changed(world, |tx| {
                tx.sender = Sender::Viewer { viewer: viewer(1) };
            })
        }),
        (Status::FeeTooLow, |world| {
            changed(world, |tx| tx.max_fee = Units::new(999))
        }),
        (Status::InsufficientFunds, |world| {
            let balance = world.balance(&account(&provider()));
            world.sign(&provider(), transfer(balance - 999))
        }),
        (Status::AmountZero, |world| {
            world.sign(&provider(), transfer(0))
        }),
        (Status::AmountTooLarge, |world| {
            world.sign(&provider(), transfer(SUPPLY_UNITS.get() + 1))
        }),
    ]
}

fn register_refusals() -> Vec<(Status, Make)> {
    vec![
        (Status::KeyProofInvalid, |world| {
            let body = world.register(&poor_owner(), PartyKind::Operator, &key(90));
            world.sign(&provider(), body)
        }),
        (Status::KeyProofInvalid, |world| {
            let body = TxBody::RotateKey {
                party: Party::Gateway {
                    gateway: gateway(0),
                },
                key: key(91).public(),
                key_proof: prove_key(&key(90), &world.chain, &account(&gateway_owner())),
            };
            world.sign(&gateway_owner(), body)
        }),
        (Status::NotOwner, |world| {
            let party = Party::Gateway {
                gateway: gateway(0),
            };
            rotation(world, party, &provider())
        }),
        (Status::UnknownGateway, |world| {
            let gateway = GatewayId::ZERO;
            rotation(world, Party::Gateway { gateway }, &provider())
        }),
        (Status::UnknownBaseStation, |world| {
            let basestation = BaseStationId::ZERO;
            rotation(world, Party::BaseStation { basestation }, &provider())
        }),
        (Status::UnknownOperator, |world| {
            let operator = OperatorId::ZERO;
            rotation(world, Party::Operator { operator }, &provider())
        }),
        (Status::DuplicateContent, |world| {
            world.sign(&gateway_owner(), content(film(), 1))
        }),
        (Status::ContentInvalid, |world| {
            registered(world, |content| content.size = Bytes::ZERO)
        }),
        (Status::ContentInvalid, |world| {
            registered(world, |content| content.group_log = 5)
        }),
        (Status::ContentInvalid, |world| {
            registered(world, |content| content.royalty_units = Units::new(1))
        }),
    ]
}

fn package_refusals() -> Vec<(Status, Make)> {
    vec![
        (Status::UnknownPackage, |world| {
            let package = PackageId::ZERO;
            world.sign(&provider(), TxBody::ClosePackage { package })
        }),
        (Status::UnknownPackage, |world| {
            world.claim(PackageId::ZERO, 1, 1)
        }),
        (Status::NotOwner, |world| {
            let package = with_package(world);
            world.sign(&gateway_owner(), TxBody::ClosePackage { package })
        }),
        (Status::NotOwner, |world| {
            let package = with_package(world);
            let until = world.package(&package).valid_until;
            world.sign(&gateway_owner(), top_up(package, 1, 1, until))
        }),
        (Status::PackageClosing, |world| {
            let package = with_package(world);
            world.accept(&provider(), TxBody::ClosePackage { package });
            world.sign(&provider(), TxBody::ClosePackage { package })
        }),
        (Status::PackageClosing, |world| {
            let package = with_package(world);
            let until = world.package(&package).valid_until;
            world.accept(&provider(), top_up(package, 1, 1, until));
            world.sign(&provider(), top_up(package, 1, 1, until))
        }),
        (Status::PackageClosed, |world| {
            let package = with_package(world);
            world.accept(&provider(), TxBody::ClosePackage { package });
            world.wait(DAY_MS);
            world.sign(&provider(), TxBody::ClosePackage { package })
        }),
        (Status::PackageExpired, |world| {
            let package = with_package(world);
            let until = TimeMs::new(world.time_ms + 2 * DAY_MS);
            world.wait(DAY_MS);
            world.sign(&provider(), top_up(package, 1, 1, until))
        }),
        (Status::AmountZero, |world| {
            let package = with_package(world);
            let until = world.package(&package).valid_until;
            world.sign(&provider(), top_up(package, 0, 1, until))
        }),
        (Status::AmountTooLarge, |world| {
            let package = with_package(world);
            let until = world.package(&package).valid_until;
            world.sign(&provider(), top_up(package, u64::MAX, 1, until))
        }),
        (Status::TermsInvalid, |world| {
            let package = with_package(world);
            world.sign(&provider(), top_up(package, 1, 1, TimeMs::new(1)))
        }),
        (Status::NothingToClaim, |world| {
            let package = with_package(world);
            world.claim(package, 1, 0)
        }),
        (Status::NothingToClaim, |world| {
            let package = with_package(world);
            world.settle(0, world.watch(package, &[(1, 1_000)]));
            let claim = world.claim(package, 1, 1_000);
            assert_eq!(world.submit(claim.clone()).status, Status::Accepted);
            claim
        }),
        (Status::ClaimExceedsReward, |world| {
            let package = with_package(world);
            world.settle(0, world.watch(package, &[(1, 1_000)]));
            world.claim(package, 1, 1_001)
        }),
        (Status::WrongSender, |world| {
            let package = with_package(world);
            world.settle(0, world.watch(package, &[(0, 1_000)]));
            world.claim(package, 0, 1_000)
        }),
    ]
}

fn any(terms: &mut PackageTerms) {
    terms.scope = Scope::Any;
    terms.reward = Units::ZERO;
    terms.audience = Audience::Keys {
        keys: List::try_from(vec![viewer(1)]).unwrap(),
    };
    terms.viewer_cap = terms.bytes;
}

fn scope(contents: Vec<ContentId>) -> Scope {
    Scope::Contents {
        contents: List::try_from(contents).unwrap(),
    }
}

fn terms_refusals() -> Vec<(Status, Make)> {
    let mut all: Vec<(Status, Make)> = vec![
        (Status::AudienceNotSupported, |world| {
            bought(world, |terms| {
                terms.audience = Audience::InviteCodes { root: Hash32::ZERO };
            })
        }),
        (Status::AudienceNotSupported, |world| {
            bought(world, |terms| {
                terms.audience = Audience::Operators {
                    operators: List::new(),
                };
            })
        }),
        (Status::AudienceNotSupported, |world| {
            bought(world, |terms| {
                terms.audience = Audience::Regions {
                    regions: List::new(),
                };
            })
        }),
        (Status::PackageExpired, |world| {
            let now = world.context().time_ms;
            bought(world, |terms| terms.valid_until = now)
        }),
        (Status::UnknownContent, |world| {
            bought(world, |terms| {
                terms.scope = scope(vec![ContentId::new([1; 32])])
            })
        }),
        (Status::UnknownGateway, |world| {
            bought(world, |terms| {
                terms.gateways = List::try_from(vec![GatewayId::ZERO]).unwrap();
            })
        }),
        (Status::AmountTooLarge, |world| {
            bought(world, |terms| terms.reward = Units::new(u64::MAX))
        }),
        (Status::AmountTooLarge, |world| {
            bought(world, |terms| terms.reward = SUPPLY_UNITS)
        }),
        (Status::InsufficientFunds, |world| {
            let balance = world.balance(&account(&provider()));
            bought(world, |terms| {
                terms.reward = Units::new(balance - 10_000_000)
            })
        }),
    ];
    let invalid: [Make; 12] = [
        |world| bought(world, |terms| terms.bytes = Bytes::ZERO),
        |world| bought(world, |terms| terms.viewer_cap = Bytes::ZERO),
        |world| bought(world, |terms| terms.viewer_cap = Bytes::new(FILM_BYTES + 1)),
        |world| bought(world, |terms| terms.valid_from = terms.valid_until),
        |world| bought(world, |terms| terms.gateways = List::new()),
        |world| {
            bought(world, |terms| {
                terms.gateways = List::try_from(vec![gateway(0); 2]).unwrap();
            })
        },
        |world| bought(world, |terms| terms.scope = scope(Vec::new())),
        |world| bought(world, |terms| terms.scope = scope(vec![film(); 2])),
        |world| {
            bought(world, |terms| {
                terms.audience = Audience::Keys { keys: List::new() }
            })
        },
        |world| {
            bought(world, |terms| {
                any(terms);
                terms.reward = Units::new(1);
            })
        },
        |world| {
            bought(world, |terms| {
                any(terms);
                terms.audience = Audience::Open;
            })
        },
        |world| {
            bought(world, |terms| {
                any(terms);
                terms.viewer_cap = Bytes::new(1);
            })
        },
    ];
    all.extend(invalid.map(|make| (Status::TermsInvalid, make)));
    all
}

fn rooted(mut batch: Batch) -> Batch {
    batch.root = batch.compute_root();
    batch
}

fn batch_refusals() -> Vec<(Status, Make)> {
    vec![
        (Status::BadSignature, |world| {
            let package = with_package(world);
            world
                .unsigned_batch(world.watch(package, &[(1, 10)]))
                .sign(&gateway_key(1))
        }),
        (Status::UnknownGateway, |world| {
            let mut batch = world.batch(0, Vec::new(), Vec::new(), Vec::new());
            batch.gateway = GatewayId::ZERO;
            world.sign_batch(0, batch)
        }),
        (Status::WrongSender, |world| {
            let batch = world.batch(1, Vec::new(), Vec::new(), Vec::new());
            let mut transaction = world.unsigned_batch(batch);
            transaction.sender = Sender::Gateway {
                gateway: gateway(0),
            };
            transaction.sign(&gateway_key(0))
        }),
        (Status::WrongSender, |world| {
            let batch = world.batch(0, Vec::new(), Vec::new(), Vec::new());
            world.sign(&gateway_owner(), TxBody::SettleBatch { batch })
        }),
        (Status::WrongNonce, |world| {
            let batch = world.batch(0, Vec::new(), Vec::new(), Vec::new());
            let mut transaction = world.unsigned_batch(batch);
            transaction.nonce = transaction.nonce.next();
            transaction.sign(&gateway_key(0))
        }),
        (Status::BatchRootMismatch, |world| {
            let package = with_package(world);
            let mut batch = world.watch(package, &[(1, 10)]);
            batch.root = Hash32::ZERO;
            world.sign_batch(0, batch)
        }),
        (Status::BatchSequence, |world| {
            let package = with_package(world);
            let batch = world.watch(package, &[(1, 10)]);
            world.settle(0, batch.clone());
            world.sign_batch(0, batch)
        }),
        (Status::FeeTooLow, |world| {
            let batch = world.batch(0, Vec::new(), Vec::new(), Vec::new());
            let mut transaction = world.unsigned_batch(batch);
            transaction.max_fee = Units::new(499);
            transaction.sign(&gateway_key(0))
        }),
        (Status::InsufficientFunds, |world| {
            let batch = world.batch(2, Vec::new(), Vec::new(), Vec::new());
            world.sign_batch(2, batch)
        }),
    ]
}

#[test]
fn a_refused_transaction_has_its_status_no_fee_and_no_effect() {
    for (number, (status, make)) in refusals().into_iter().enumerate() {
        let mut world = World::new();
        let transaction = make(&mut world);
        let before = world.state.clone();

        let block = [transaction];
        let mut outcome = apply_block(&before, &world.context(), &block, world.check).unwrap();
        let receipt = outcome.receipts.pop().unwrap();

        assert_eq!(receipt.status, status, "case {number}");
        assert_eq!(receipt.fee, Units::ZERO, "case {number}");
        assert!(receipt.refused.is_empty(), "case {number}");
        assert!(outcome.changes.is_empty(), "case {number} ({status})");
    }
}

/// The status of record 0 of a batch by gateway 0.
type MakeBatch = fn(&mut World) -> Batch;

fn one_record(
    world: &World,
    package: PackageId,
    change: impl Fn(&mut qlink_types::record::RatioRecord),
) -> Batch {
    let mut record = world.ratio(package, 1, (0, 1), 10);
    change(&mut record);
    world.batch(0, vec![record], Vec::new(), Vec::new())
}

fn path_of(world: &mut World, operator_id: OperatorId, basestation_id: BaseStationId) -> Batch {
    let package = with_package(world);
    let mut record = world.carriage(package, (0, 1), (0, 0), 10);
    record.key.operator = operator_id;
    record.key.basestation = basestation_id;
    world.batch(0, Vec::new(), vec![record], Vec::new())
}

fn record_refusals() -> Vec<(Status, MakeBatch)> {
    vec![
        (Status::UnknownPackage, |world| {
            let package = with_package(world);
            one_record(world, package, |record| {
                record.key.package = PackageId::ZERO
            })
        }),
        (Status::GatewayNotListed, |world| {
            let mut terms = world.terms();
            terms.gateways = List::try_from(vec![gateway(1)]).unwrap();
            let package = world.buy(terms);
            one_record(world, package, |_| ())
        }),
        (Status::PackageNotYetValid, |world| {
            let mut terms = world.terms();
            terms.valid_from = TimeMs::new(world.time_ms + 60_000);
            let package = world.buy(terms);
            one_record(world, package, |_| ())
        }),
        (Status::PackageClosed, |world| {
            let package = with_package(world);
            world.accept(&provider(), TxBody::ClosePackage { package });
            world.wait(DAY_MS);
            one_record(world, package, |_| ())
        }),
        (Status::RecordForeign, |world| {
            let package = with_package(world);
            one_record(world, package, |record| record.key.gateway = gateway(1))
        }),
        (Status::RecordForeign, |world| {
            let package = with_package(world);
            one_record(world, package, |record| {
                record.key.incarnation = Incarnation::new(1_001);
            })
        }),
        (Status::RecordForeign, |world| {
            let package = with_package(world);
            let mut record = world.carriage(package, (0, 1), (0, 0), 10);
            record.key.gateway = gateway(1);
            world.batch(0, Vec::new(), vec![record], Vec::new())
        }),
        (Status::WrongPackageEpoch, |world| {
            let package = with_package(world);
            one_record(world, package, |record| record.key.package_epoch = epoch(1))
        }),
        (Status::GradeNotAccepted, |world| {
            let package = with_package(world);
            one_record(world, package, |record| {
                record.bytes.receipt = Bytes::new(1)
            })
        }),
        (Status::UnitsMismatch, |world| {
            let package = with_package(world);
            one_record(world, package, |record| record.units = Units::new(9))
        }),
        (Status::PackageExhausted, |world| {
            let package = with_package(world);
            one_record(world, package, |record| {
                record.bytes.verified = Bytes::new(100_000_001);
            })
        }),
        (Status::PackageExhausted, |world| {
            let package = with_package(world);
            let all: Vec<_> = (1..=10).map(|n| (n, FILM_BYTES)).collect();
            world.settle(0, world.watch(package, &all));
            one_record(world, package, |record| record.key.viewer = viewer(11))
        }),
        (Status::ViewerCapExceeded, |world| {
            let package = with_package(world);
            one_record(world, package, |record| {
                record.bytes.verified = Bytes::new(FILM_BYTES + 1);
                record.units = Units::new(FILM_BYTES + 1);
            })
        }),
        (Status::ViewerNotInAudience, |world| {
            let mut terms = world.terms();
            terms.audience = Audience::Keys {
                keys: List::try_from(vec![viewer(1)]).unwrap(),
            };
            let package = world.buy(terms);
            one_record(world, package, |record| record.key.viewer = viewer(2))
        }),
        (Status::CarriageMismatch, |world| {
            let package = with_package(world);
            one_record(world, package, |_| ())
        }),
        (Status::UnknownOperator, |world| {
            path_of(world, OperatorId::new([1; 16]), BaseStationId::ZERO)
        }),
        (Status::UnknownBaseStation, |world| {
            path_of(world, OperatorId::ZERO, BaseStationId::new([1; 16]))
        }),
        (Status::AmountTooLarge, |world| {
            let package = with_package(world);
            let path = |n, bytes| world.carriage(package, (0, 1), (n, 0), bytes);
            let batch = world.batch(
                0,
                Vec::new(),
                vec![path(2, 1), path(1, u64::MAX)],
                Vec::new(),
            );
            let mut carriage = batch.carriage.to_vec();
            carriage.reverse();
            rooted(Batch {
                carriage: List::try_from(carriage).unwrap(),
                ..batch
            })
        }),
        (Status::LimitReached, |world| {
            let package = with_package(world);
            let records = (0..256)
                .map(|n| world.ratio(package, 1, (0, n), 1))
                .collect();
            let paths = (0..256)
                .map(|n| world.carriage(package, (0, n), (1, 1), 1))
                .collect();
            let full = world.batch(0, records, paths, Vec::new());
            assert!(world.settle(0, full).refused.is_empty());
            one_record(world, package, |record| {
                record.key.incarnation = Incarnation::new(256)
            })
        }),
    ]
}

#[test]
fn a_refused_record_has_its_status_and_moves_nothing() {
    for (number, (status, make)) in record_refusals().into_iter().enumerate() {
        let mut world = World::new();
        let batch = make(&mut world);
        let moved = |world: &World| {
            let view = world.view();
            let packages = view.packages(10, None).unwrap();
            let row = |id| view.package(id).unwrap().unwrap();
            packages.iter().map(row).collect::<Vec<_>>()
        };
        let before = moved(&world);

        let receipt = world.settle(0, batch);

        assert!(
            receipt.refused.iter().any(|record| record.status == status),
            "case {number} ({status}): {:?}",
            receipt.refused
        );
        assert_eq!(moved(&world), before, "case {number}");
    }
}

#[test]
fn every_status_is_tested_here() {
    let tested: BTreeSet<Status> = refusals()
        .into_iter()
        .map(|(status, _)| status)
        .chain(record_refusals().into_iter().map(|(status, _)| status))
        .chain([Status::Accepted])
        .collect();

    let all: BTreeSet<Status> = Status::ALL.iter().copied().collect();
    assert_eq!(tested, all);
}

#[test]
fn a_duplicate_names_the_first_owner() {
    let mut world = World::new();
    let again = world.sign(&gateway_owner(), content(film(), 1));

    let receipt: TxReceipt = world.submit(again);

    assert_eq!(
        receipt.events.to_vec(),
        [Event::ContentRegistered {
            content: film(),
            owner: account(&provider()),
            size: Bytes::new(FILM_BYTES),
        }]
    );
}

#[test]
fn nobody_signs_for_the_zero_key_or_a_module_account() {
    let mut world = World::new();
    let package = with_package(&mut world);
    world.settle(0, world.watch(package, &[(0, 1_000)]));
    // A signature of small order that ZIP-215 accepts for the zero key and any message.
    let mut small = [0; 64];
    small[0] = 1;
    let mut forged = world.claim(package, 1, 1_000);
    forged.transaction.sender = Sender::Viewer {
        viewer: ViewerKey::ZERO,
    };
    forged.signature = qlink_types::signature::Signature::new(small);
    let mut module = world.sign(&provider(), transfer(5));
    module.transaction.sender = Sender::Account {
        account: qlink_ledger::ModuleAccount::Bridge.id(),
    };

    let mut nobody = world.sign(&provider(), transfer(5));
    nobody.transaction.sender = Sender::Account {
        account: AccountId::ZERO,
    };
    nobody.signature = forged.signature;

    assert_eq!(world.submit(forged).status, Status::WrongSender);
    assert_eq!(world.submit(nobody).status, Status::WrongSender);
    assert_eq!(world.submit(module).status, Status::WrongSender);
}

#[test]
fn a_name_and_an_asset_are_kept_with_the_party() {
    let world = World::new();
    let party = Party::BaseStation {
        basestation: basestation(1),
    };

    let row = world.view().party(&party).unwrap().unwrap();

    assert_eq!(row.owner, account(&basestation_owner()));
    assert_eq!(row.key, key(31).public());
    assert_eq!(row.name, Text::try_from("name").unwrap());
}
