//! The solo engine through the seam.
#![expect(clippy::unwrap_used, reason = "test code")]

use qlink_order::{
    CertificateError, CheckError, Final, Orderer, Parent, ProposeError, SeatSet, Solo,
    verify_certificate,
};
use qlink_types::codec::Blob;
use qlink_types::ids::{AccountId, BlockId, Hash32};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{Sender, SignedTransaction, Transaction, TxBody};
use qlink_types::units::{BlockHeight, Nonce, SeatEpoch, TimeMs, Units};

const CHAIN: ChainId = ChainId::new([4; 32]);

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn parent(height: u64, time: u64) -> Parent {
    Parent {
        height: BlockHeight::new(height),
        id: BlockId::new([1; 32]),
        time_ms: TimeMs::new(time),
        state_root: Hash32::new([2; 32]),
        receipts_root: Hash32::new([3; 32]),
    }
}

fn transaction(nonce: u64) -> SignedTransaction {
    Transaction {
        chain: CHAIN,
        sender: Sender::Account {
            account: AccountId::from(key(9).public()),
        },
        nonce: Nonce::new(nonce),
        max_fee: Units::new(1),
        valid_until: TimeMs::ZERO,
        body: TxBody::Transfer {
            to: AccountId::new([1; 32]),
            amount: Units::new(1),
        },
    }
    .sign(&key(9))
}

fn produce(engine: &mut Solo, parent: &Parent, now: u64) -> Final {
    engine
        .propose(parent, vec![transaction(0)], TimeMs::new(now))
        .unwrap();
    engine.take_final().unwrap()
}

fn engine() -> Solo {
    Solo::new(CHAIN, key(1), BlockHeight::new(5))
}

#[test]
fn a_proposed_block_is_final_with_a_certificate_that_anyone_can_check() {
    let mut engine = engine();
    let parent = parent(5, 1_000);

    let made = produce(&mut engine, &parent, 2_000);

    let header = &made.block.header;
    assert_eq!(header.height, BlockHeight::new(6));
    assert_eq!(header.time_ms, TimeMs::new(2_000));
    assert_eq!(
        engine.check(&parent, &made.block, TimeMs::new(2_000)),
        Ok(())
    );
    assert_eq!(
        verify_certificate(engine.seats(), header, &made.certificate),
        Ok(())
    );
}

#[test]
fn a_certificate_holds_for_one_header_one_seat_and_one_epoch() {
    let mut engine = engine();
    let made = produce(&mut engine, &parent(5, 1_000), 2_000);
    let seats = engine.seats().clone();

    let mut header = made.block.header.clone();
    header.time_ms = header.time_ms.plus_millis(1);
    assert!(matches!(
        verify_certificate(&seats, &header, &made.certificate),
        Err(CertificateError::Signature(_))
    ));
    let other = SeatSet::single(SeatEpoch::ZERO, key(2).public());
    assert!(matches!(
        verify_certificate(&other, &made.block.header, &made.certificate),
        Err(CertificateError::ForeignProposer { .. })
    ));
    let later = SeatSet::single(SeatEpoch::new(1), key(1).public());
    assert!(matches!(
        verify_certificate(&later, &made.block.header, &made.certificate),
        Err(CertificateError::SeatEpoch { .. })
    ));
    let mut short = made.certificate.clone();
    short.proof = Blob::try_from(vec![0; 63]).unwrap();
    assert!(matches!(
        verify_certificate(&seats, &made.block.header, &short),
        Err(CertificateError::ProofLength { length: 63, .. })
    ));
    let mut unknown = made.certificate;
    unknown.scheme = 99;
    assert!(matches!(
        verify_certificate(&seats, &made.block.header, &unknown),
        Err(CertificateError::UnknownScheme { scheme: 99 })
    ));
}

#[test]
fn time_rises_strictly_under_a_clock_that_goes_back() {
    let mut engine = engine();

    let made = produce(&mut engine, &parent(5, 10_000), 9_000);

    assert_eq!(made.block.header.time_ms, TimeMs::new(10_001));
}

#[test]
fn no_block_is_made_more_than_two_seconds_ahead_of_the_clock() {
    let mut engine = engine();

    let refused = engine.propose(&parent(5, 10_000), Vec::new(), TimeMs::new(8_000));

    assert!(matches!(refused, Err(ProposeError::ClockBehind { .. })));
    assert!(engine.take_final().is_none());
}

#[test]
fn a_block_is_delivered_again_until_it_is_acknowledged() {
    let mut engine = engine();
    let made = produce(&mut engine, &parent(5, 1_000), 2_000);

    assert_eq!(engine.take_final(), Some(made));
    assert!(matches!(
        engine.propose(&parent(5, 1_000), Vec::new(), TimeMs::new(2_000)),
        Err(ProposeError::OutOfOrder { .. })
    ));
    engine.acknowledge(BlockHeight::new(6));

    assert!(engine.take_final().is_none());
    assert!(
        engine
            .propose(&parent(6, 2_000), Vec::new(), TimeMs::new(3_000))
            .is_ok()
    );
}

#[test]
fn a_block_that_breaks_one_rule_is_not_voted_for() {
    let mut engine = engine();
    let parent = parent(5, 1_000);
    let good = produce(&mut engine, &parent, 2_000).block;
    let now = TimeMs::new(2_000);
    let check = |change: &dyn Fn(&mut qlink_types::block::Block)| {
        let mut block = good.clone();
        change(&mut block);
        engine.check(&parent, &block, now).unwrap_err()
    };

    let wrong_chain = check(&|block| block.header.chain = ChainId::ZERO);
    let not_next = check(&|block| block.header.height = BlockHeight::new(7));
    let not_child = check(&|block| block.header.parent = BlockId::ZERO);
    let not_rising = check(&|block| block.header.time_ms = TimeMs::new(1_000));
    let ahead = check(&|block| block.header.time_ms = TimeMs::new(4_001));
    let epoch = check(&|block| block.header.seat_epoch = SeatEpoch::new(1));
    let foreign = check(&|block| block.header.proposer = key(2).public());
    let state = check(&|block| block.header.state_root_prev = Hash32::ZERO);
    let receipts = check(&|block| block.header.receipts_root = Hash32::ZERO);
    let seats = check(&|block| block.header.next_seats_hash = Hash32::ZERO);
    let transactions = check(&|block| {
        block.transactions = vec![transaction(1)].try_into().unwrap();
    });

    assert!(matches!(wrong_chain, CheckError::WrongChain { .. }));
    assert!(matches!(not_next, CheckError::NotNext { .. }));
    assert!(matches!(not_child, CheckError::NotNext { .. }));
    assert!(matches!(not_rising, CheckError::TimeNotRising { .. }));
    assert!(matches!(ahead, CheckError::TimeAhead { .. }));
    assert!(matches!(epoch, CheckError::SeatEpoch { .. }));
    assert!(matches!(foreign, CheckError::ForeignProposer));
    for (found, field) in [
        (state, "state_root_prev"),
        (receipts, "receipts_root"),
        (seats, "next_seats_hash"),
        (transactions, "tx_root"),
    ] {
        assert!(matches!(found, CheckError::Mismatch { what, .. } if what == field));
    }
}
