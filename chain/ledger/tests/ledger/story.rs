//! Whole lives of packages, told through blocks.

use qlink_ledger::{ModuleAccount, Params, SignatureCheck, admit, apply_block, check_transaction};
use qlink_types::codec::List;
use qlink_types::ids::{AccountId, OperatorId, PackageId};
use qlink_types::outcome::{ClosingReason, Event, Share, Status};
use qlink_types::package::{Audience, CarriageShares, PackageState, Scope};
use qlink_types::record::GradedBytes;
use qlink_types::transaction::{PartyKind, TxBody};
use qlink_types::units::{Bytes, TimeMs, Units};

use crate::world::*;

const VIEW_UNITS: u64 = 10_000_000;

fn film_package(world: &mut World) -> PackageId {
    let terms = world.terms();
    world.buy(terms)
}

fn moved(world: &World, id: &PackageId) -> (u64, u64) {
    let current = world.package(id).current;
    (current.used.get(), current.reward_paid.get())
}

#[test]
fn ten_viewers_of_a_10mb_film_get_a_tenth_of_one_qlc_each() {
    let mut world = World::new();
    let id = film_package(&mut world);

    let seven: Vec<_> = (1..=7).map(|n| (n, FILM_BYTES)).collect();
    world.settle(0, world.watch(id, &seven));
    assert_eq!(moved(&world, &id), (70_000_000, 70_000_000));

    let ten: Vec<_> = (1..=10).map(|n| (n, FILM_BYTES)).collect();
    world.settle(0, world.watch(id, &ten));
    assert_eq!(moved(&world, &id), (100_000_000, 100_000_000));
    for n in 1..=10 {
        assert_eq!(world.viewer(&id, n).claimable().get(), VIEW_UNITS);
        let claim = world.claim(id, n, VIEW_UNITS);
        assert_eq!(world.submit(claim).status, Status::Accepted);
    }
    assert_eq!(world.balance(&wallet()), 100_000_000);
    assert_eq!(world.package(&id).totals.escrow, Units::ZERO);
}

#[test]
fn carriage_is_paid_with_the_bytes_to_the_owners_of_the_path() {
    let mut world = World::new();
    let id = film_package(&mut world);
    let before = |key| world.balance(&account(&key));
    let (operator_before, basestation_before) =
        (before(operator_owner()), before(basestation_owner()));

    let receipt = world.settle(0, world.watch(id, &[(1, FILM_BYTES)]));

    assert_eq!(
        world.balance(&account(&operator_owner())),
        operator_before + 300_000
    );
    assert_eq!(
        world.balance(&account(&basestation_owner())),
        basestation_before + 500_000
    );
    let paid: Vec<_> = receipt
        .events
        .iter()
        .filter_map(|event| match event {
            Event::CarriagePaid { share, units, .. } => Some((*share, units.get())),
            _ => None,
        })
        .collect();
    assert_eq!(
        paid,
        [
            (Share::Operator, 300_000),
            (Share::BaseStation, 500_000),
            (Share::Gateway, 200_000)
        ]
    );
}

#[test]
fn a_closed_package_returns_the_rest_and_still_pays_claims() {
    let mut world = World::new();
    let id = film_package(&mut world);
    world.settle(0, world.watch(id, &[(1, FILM_BYTES), (0, 5_000_000)]));
    let before = world.balance(&account(&provider()));

    world.accept(&provider(), TxBody::ClosePackage { package: id });
    let receipt = world.settle(0, world.batch(0, Vec::new(), Vec::new(), world.finals(id)));

    let fee = Params::default().close_fee.get();
    let carriage = 1_500_000 / 100 * 100;
    let refund = 110_000_000 - 10_000_000 - carriage;
    assert_eq!(world.package(&id).state, PackageState::Closed);
    assert_eq!(world.balance(&account(&provider())), before - fee + refund);
    assert!(receipt.events.contains(&Event::PackageClosed {
        package: id,
        used_bytes: Bytes::new(15_000_000),
        reward_units: Units::new(10_000_000),
        unclaimed_units: Units::new(5_000_000),
        dust_units: Units::ZERO,
        carriage_units: Units::new(carriage),
        refund_units: Units::new(refund),
    }));
    let claim = world.claim(id, 1, VIEW_UNITS);
    assert_eq!(world.submit(claim).status, Status::Accepted);
    let late = world.sign_batch(0, world.watch(id, &[(1, 1), (2, 1)]));
    let refused = world.submit(late).refused;
    assert!(
        refused
            .iter()
            .all(|record| record.status == Status::PackageClosed)
    );
    assert_eq!(refused.len(), 3);
}

#[test]
fn without_a_final_the_deadline_closes_the_package() {
    let mut world = World::new();
    let id = film_package(&mut world);
    world.accept(&provider(), TxBody::ClosePackage { package: id });

    let last = world.watch(id, &[(1, 1_000)]);
    world.settle(0, last);
    assert!(world.wait(Params::default().closing_ms - 10_000).is_empty());
    assert_eq!(world.package(&id).state, PackageState::Closing);
    let receipts = world.wait(10_000);

    assert!(receipts[0].tx.is_zero());
    assert_eq!(world.package(&id).state, PackageState::Closed);
    assert_eq!(world.viewer(&id, 1).claimable().get(), 1_000);
}

#[test]
fn expiry_closes_a_package_in_two_steps_by_itself() {
    let mut world = World::new();
    let id = film_package(&mut world);
    let until = world.package(&id).valid_until.get();

    let before = world.wait(until - world.time_ms - 1_001);
    world.time_ms -= 999;
    let first = world.block(&[]);
    let second = world.wait(Params::default().closing_ms - 1_000);

    assert!(before.is_empty());
    assert_eq!(world.time_ms, until + Params::default().closing_ms);
    assert!(matches!(
        first[0].events[0],
        Event::PackageClosing {
            reason: ClosingReason::Expired,
            ..
        }
    ));
    assert!(matches!(second[0].events[0], Event::PackageClosed { .. }));
    assert_eq!(world.package(&id).totals.refund.get(), 110_000_000);
}

#[test]
fn a_claim_pays_what_earlier_claims_have_not() {
    let mut world = World::new();
    let id = film_package(&mut world);
    world.settle(0, world.watch(id, &[(1, 1_000)]));

    for total in [400, 900] {
        let claim = world.claim(id, 1, total);
        assert_eq!(world.submit(claim).status, Status::Accepted);
    }

    assert_eq!(world.balance(&wallet()), 900);
    assert_eq!(world.viewer(&id, 1).claimable().get(), 100);
}

#[test]
fn a_gateway_owners_other_income_does_not_pay_its_fee() {
    let mut world = World::new();
    // The poor owner also owns an operator; registering it takes all it has.
    let fee = Params::default().register_party_fee.get();
    let gift = TxBody::Transfer {
        to: account(&poor_owner()),
        amount: Units::new(fee),
    };
    world.accept(&provider(), gift);
    let own = OperatorId::derive(
        &account(&poor_owner()),
        world.account(&account(&poor_owner())).nonce,
    );
    let body = world.register(&poor_owner(), PartyKind::Operator, &key(50));
    world.accept(&poor_owner(), body);
    let mut terms = world.terms();
    terms.gateways = List::try_from(vec![gateway(2)]).unwrap();
    let id = world.buy(terms);
    let mut path = world.carriage(id, (2, 1), (1, 1), 25_000);
    path.key.operator = own;
    let ratio = vec![world.ratio(id, 1, (2, 1), 25_000)];

    // C_op pays 750, C_gw 500, the fee is 510.
    let batch = world.batch(2, ratio, vec![path], Vec::new());
    let receipt = world.submit(world.sign_batch(2, batch));

    assert_eq!(receipt.status, Status::InsufficientFunds);
}

#[test]
fn a_top_up_opens_the_next_terms_with_what_the_last_ones_left() {
    let mut world = World::new();
    let id = film_package(&mut world);
    world.settle(0, world.watch(id, &[(1, FILM_BYTES)]));
    let until = world.package(&id).valid_until;

    world.accept(&provider(), top_up(id, 10_000_000, 60_000_000, until));
    assert_eq!(world.package(&id).state, PackageState::RollingOver);
    let last = world.watch(id, &[(1, FILM_BYTES), (2, 5_000_000)]);
    world.settle(0, last);
    let done = world.batch(0, Vec::new(), Vec::new(), world.finals(id));
    let old = world.watch(id, &[(2, 6_000_000)]);
    world.settle(0, done);

    let package = world.package(&id);
    assert_eq!(package.package_epoch, epoch(1));
    assert_eq!(package.current.bytes.get(), 95_000_000);
    assert_eq!(package.current.reward.get(), 145_000_000);
    assert_eq!(package.current.carriage.operator.get(), 2_550_000);
    let mut old = old;
    old.sequence += 1;
    let receipt = world.settle(0, old);
    assert_eq!(receipt.refused[0].status, Status::WrongPackageEpoch);
    // The cap holds over all terms: viewer 1 has had its film.
    let more = world.watch(id, &[(1, 1)]);
    let receipt = world.settle(0, more);
    assert_eq!(receipt.refused[0].status, Status::ViewerCapExceeded);
    world.settle(0, world.watch(id, &[(2, 5_000_000)]));
    assert_eq!(
        world.viewer(&id, 2).earned().get(),
        5_000_000 + 145_000_000 * 5 / 95
    );
    let first = world.view().package_epoch(&id, epoch(0)).unwrap().unwrap();
    assert_eq!(first.used.get(), 15_000_000);
}

#[test]
fn dust_goes_to_the_largest_remainders_and_ties_to_the_smaller_key() {
    let mut world = World::new();
    let mut terms = world.terms();
    terms.bytes = Bytes::new(3);
    terms.reward = Units::new(2);
    terms.carriage = CarriageShares::default();
    let id = world.buy(terms);
    world.settle(0, world.watch(id, &[(1, 1), (2, 1), (3, 1)]));
    assert_eq!(world.package(&id).current.reward_paid, Units::ZERO);

    world.accept(&provider(), TxBody::ClosePackage { package: id });
    world.settle(0, world.batch(0, Vec::new(), Vec::new(), world.finals(id)));

    let mut by_key: Vec<_> = (1..=3).map(|n| (viewer(n), n)).collect();
    by_key.sort();
    let earned: Vec<_> = by_key
        .iter()
        .map(|(_, n)| world.viewer(&id, *n).earned().get())
        .collect();
    assert_eq!(earned, [1, 1, 0]);
    assert_eq!(world.package(&id).totals.dust.get(), 2);
}

#[test]
fn an_older_or_doubled_record_changes_nothing() {
    let mut world = World::new();
    let id = film_package(&mut world);
    let old = world.watch(id, &[(1, 1_000), (2, 500)]);
    world.settle(0, world.watch(id, &[(1, 3_000), (2, 700)]));
    let before = (world.package(&id), world.viewer(&id, 1));

    let mut again = old;
    again.sequence += 1;
    let receipt = world.settle(0, again);

    assert!(receipt.refused.is_empty());
    assert_eq!((world.package(&id), world.viewer(&id, 1)), before);
}

#[test]
fn a_viewers_bytes_are_the_sum_over_gateways_and_incarnations() {
    let mut world = World::new();
    let mut terms = world.terms();
    terms.gateways = List::try_from(vec![gateway(0), gateway(1)]).unwrap();
    let id = world.buy(terms);

    for (n, incarnation) in [(0, 1), (0, 2), (1, 1)] {
        let batch = world.batch(
            n,
            vec![world.ratio(id, 1, (n, incarnation), 1_000)],
            vec![world.carriage(id, (n, incarnation), (1, 2), 1_000)],
            Vec::new(),
        );
        world.settle(n, batch);
    }

    assert_eq!(world.viewer(&id, 1).bytes.get(), 3_000);
    assert_eq!(world.viewer(&id, 1).components.len(), 3);
}

#[test]
fn a_personal_package_counts_any_bytes_and_rewards_nobody() {
    let mut world = World::new();
    let mut terms = world.terms();
    terms.scope = Scope::Any;
    terms.reward = Units::ZERO;
    terms.audience = Audience::Keys {
        keys: List::try_from(vec![viewer(1)]).unwrap(),
    };
    terms.viewer_cap = terms.bytes;
    let id = world.buy(terms);

    let receipt = world.settle(0, world.watch(id, &[(1, 60_000_000)]));
    assert!(receipt.refused.is_empty());
    assert_eq!(moved(&world, &id), (60_000_000, 0));

    // A top-up raises the cap with the volume.
    let until = world.package(&id).valid_until;
    world.accept(&provider(), top_up(id, 50_000_000, 0, until));
    world.settle(0, world.batch(0, Vec::new(), Vec::new(), world.finals(id)));
    assert_eq!(world.package(&id).viewer_cap.get(), 150_000_000);
    assert_eq!(world.package(&id).current.bytes.get(), 90_000_000);
}

#[test]
fn a_package_with_one_bad_record_is_refused_alone_and_whole() {
    let mut world = World::new();
    let (first, second) = (film_package(&mut world), film_package(&mut world));
    let mut bad = world.ratio(second, 2, (0, 1), 200);
    bad.units = Units::new(7);
    let ratio = vec![
        world.ratio(first, 1, (0, 1), 100),
        world.ratio(second, 1, (0, 1), 100),
        bad,
    ];
    let carriage = vec![
        world.carriage(first, (0, 1), (1, 1), 100),
        world.carriage(second, (0, 1), (1, 1), 300),
    ];

    let receipt = world.settle(0, world.batch(0, ratio, carriage, Vec::new()));

    let refused: Vec<_> = receipt
        .refused
        .iter()
        .map(|record| (record.index, record.status))
        .collect();
    assert_eq!(
        refused,
        [
            (1, Status::CarriageMismatch),
            (2, Status::UnitsMismatch),
            (4, Status::CarriageMismatch)
        ]
    );
    assert_eq!(moved(&world, &first), (100, 100));
    assert_eq!(moved(&world, &second), (0, 0));
    assert_eq!(world.viewer(&second, 1).bytes, Bytes::ZERO);
}

#[test]
fn a_gateway_without_funds_pays_its_fee_from_its_own_share_only() {
    let mut world = World::new();
    let mut terms = world.terms();
    terms.gateways = List::try_from(vec![gateway(2)]).unwrap();
    let id = world.buy(terms);
    let counted = |bytes: u64| {
        let ratio = vec![world.ratio(id, 1, (2, 1), bytes)];
        let carriage = vec![world.carriage(id, (2, 1), (1, 1), bytes)];
        world.sign_batch(2, world.batch(2, ratio, carriage, Vec::new()))
    };
    // C_gw is 2 units per 100 bytes; the fee of two records is 510.
    let (short, enough) = (counted(25_000), counted(50_000));

    let refused = world.submit(short);
    assert_eq!(refused.status, Status::InsufficientFunds);
    assert_eq!(moved(&world, &id), (0, 0));
    let receipt = world.submit(enough);

    assert_eq!(receipt.status, Status::Accepted);
    assert_eq!(receipt.fee.get(), 510);
    assert_eq!(world.balance(&account(&poor_owner())), 1_000 - 510);
    assert_eq!(moved(&world, &id), (50_000, 50_000));
}

#[test]
fn an_operators_share_without_payee_returns_at_close() {
    let mut world = World::new();
    let id = film_package(&mut world);
    let batch = world.batch(
        0,
        vec![world.ratio(id, 1, (0, 1), FILM_BYTES)],
        vec![world.carriage(id, (0, 1), (0, 1), FILM_BYTES)],
        Vec::new(),
    );
    world.settle(0, batch);

    world.accept(&provider(), TxBody::ClosePackage { package: id });
    world.settle(0, world.batch(0, Vec::new(), Vec::new(), world.finals(id)));

    let totals = world.package(&id).totals;
    assert_eq!(totals.carriage_paid.operator, Units::ZERO);
    assert_eq!(totals.carriage_paid.basestation.get(), 500_000);
    assert_eq!(totals.refund.get(), 110_000_000 - 10_000_000 - 700_000);
}

#[test]
fn fees_go_to_the_community_pool() {
    let mut world = World::new();
    let before = world.balance(&ModuleAccount::Community.id());

    let receipt = world.accept(
        &provider(),
        TxBody::Transfer {
            to: wallet(),
            amount: Units::new(5),
        },
    );

    assert_eq!(receipt.fee, Params::default().transfer_fee);
    assert_eq!(
        world.balance(&ModuleAccount::Community.id()),
        before + receipt.fee.get()
    );
}

#[test]
fn one_bad_signature_in_a_block_refuses_that_transaction_alone() {
    let mut world = World::new();
    let transfer = |to: AccountId| TxBody::Transfer {
        to,
        amount: Units::new(5),
    };
    let good = world.sign(&provider(), transfer(wallet()));
    let forged = world
        .unsigned(&gateway_owner(), transfer(wallet()))
        .sign(&provider());

    let receipts = world.block(&[forged, good]);

    let statuses: Vec<_> = receipts.iter().map(|receipt| receipt.status).collect();
    assert_eq!(statuses, [Status::BadSignature, Status::Accepted]);
}

#[test]
fn a_rotated_key_counts_from_the_next_transaction_on() {
    for check in [SignatureCheck::Check, SignatureCheck::AlreadyVerified] {
        let mut world = World::new();
        world.check = check;
        let id = film_package(&mut world);
        let body = TxBody::RotateKey {
            party: qlink_types::transaction::Party::Gateway {
                gateway: gateway(0),
            },
            key: key(90).public(),
            key_proof: qlink_types::transaction::prove_key(
                &key(90),
                &world.chain,
                &account(&gateway_owner()),
            ),
        };
        let rotate = world.sign(&gateway_owner(), body);
        let batch = world.unsigned_batch(world.watch(id, &[(1, 10)]));

        let receipts = world.block(&[
            rotate,
            batch.clone().sign(&gateway_key(0)),
            batch.sign(&key(90)),
        ]);

        let statuses: Vec<_> = receipts.iter().map(|receipt| receipt.status).collect();
        assert_eq!(
            statuses,
            [Status::Accepted, Status::BadSignature, Status::Accepted]
        );
    }
}

#[test]
fn pending_transactions_of_one_sender_are_admitted_in_sequence() {
    let world = World::new();
    let context = world.context();
    let mut pending = qlink_ledger::Changes::new();
    let transfer = |nonce: u64| {
        let body = TxBody::Transfer {
            to: wallet(),
            amount: Units::new(5),
        };
        let mut transaction = world.unsigned(&provider(), body);
        for _ in 0..nonce {
            transaction.nonce = transaction.nonce.next();
        }
        transaction.sign(&provider())
    };

    assert_eq!(
        check_transaction(&world.state, &context, &transfer(1)).unwrap(),
        Status::WrongNonce
    );
    for nonce in 0..3 {
        let status = admit(&world.state, &context, &mut pending, &transfer(nonce)).unwrap();
        assert_eq!(status, Status::Accepted);
    }

    let block = [transfer(0), transfer(1), transfer(2)];
    let outcome = apply_block(&world.state, &context, &block, world.check).unwrap();
    assert_eq!(outcome.changes, pending);
}

#[test]
fn a_state_without_genesis_or_with_a_corrupt_row_stops_the_block() {
    let world = World::new();
    let empty = qlink_ledger::MemoryState::new();
    let mut corrupt = world.state.clone();
    let row = corrupt
        .iter()
        .find(|((_, key), _)| key.first() == Some(&b'm'))
        .map(|(key, value)| (key.clone(), value.clone()))
        .unwrap();
    let newer = [&[2], &row.1[1..]].concat();
    corrupt.apply(&qlink_ledger::Changes::from([(row.0, Some(newer))]));

    for state in [empty, corrupt] {
        assert!(apply_block(&state, &world.context(), &[], world.check).is_err());
    }
}

#[test]
fn grades_without_a_rule_of_their_own_are_refused() {
    let mut world = World::new();
    let id = film_package(&mut world);
    let mut batch = world.watch(id, &[(1, 10)]);
    let mut record = batch.ratio[0].clone();
    record.bytes = GradedBytes {
        verified: Bytes::ZERO,
        edge: Bytes::new(10),
        receipt: Bytes::ZERO,
    };
    batch.ratio = List::try_from(vec![record]).unwrap();
    batch.root = batch.compute_root();

    let receipt = world.settle(0, batch);

    assert_eq!(receipt.refused[0].status, Status::GradeNotAccepted);
}

#[test]
fn a_package_not_yet_valid_takes_no_bytes() {
    let mut world = World::new();
    let mut terms = world.terms();
    terms.valid_from = TimeMs::new(world.time_ms + 60_000);
    let id = world.buy(terms);

    let early = world.settle(0, world.watch(id, &[(1, 10)]));
    world.wait(60_000);
    let later = world.settle(0, world.watch(id, &[(1, 10)]));

    assert_eq!(early.refused[0].status, Status::PackageNotYetValid);
    assert!(later.refused.is_empty());
}
