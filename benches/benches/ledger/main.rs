//! Settlement: apply of a commit, a gateway's batch, rating.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "bench code: an input that cannot be built ends the run"
)]

mod settlement;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use qlink_benches::Random;
use qlink_ledger::{SignatureCheck, apply_block};
use qlink_types::batch::Batch;
use qlink_types::codec::{Decode as _, Encode as _};
use qlink_types::rating::Ratio;
use qlink_types::transaction::SignedTransaction;
use qlink_types::units::{Bytes, Units};
use settlement::{Chain, PACKAGES, ROUNDS, VIEWERS};

fn main() {
    let mut criterion = qlink_benches::criterion();
    let chain = Chain::new();
    apply(&mut criterion, &chain);
    batch(&mut criterion, &chain);
    rating(&mut criterion);
    criterion.final_summary();
}

/// One commit: every key ten times. Decode, signature and root checks, rating, merge, and the
/// encoding of the changed rows; not their storage. Elements are ratio records.
fn apply(criterion: &mut Criterion, chain: &Chain) {
    let encoded = chain.commit();
    let run = |check| {
        let transactions: Vec<SignedTransaction> = encoded
            .iter()
            .map(|bytes| SignedTransaction::from_bytes(bytes).unwrap())
            .collect();
        apply_block(&chain.state, &chain.context(), &transactions, check).unwrap()
    };
    settlement::assert_all_accepted(&run(SignatureCheck::Check));
    let mut group = criterion.benchmark_group("ledger::settle");
    group.sample_size(10);
    let records = PACKAGES * VIEWERS * ROUNDS;
    group.throughput(Throughput::Elements(records as u64));
    let name = format!("packages={PACKAGES} viewers={VIEWERS} times={ROUNDS}");
    group.bench_function(name, |bencher| bencher.iter(|| run(SignatureCheck::Check)));
    group.finish();
}

/// What a gateway does with records: leaves, root, encoding, signature.
fn batch(criterion: &mut Criterion, chain: &Chain) {
    let transaction = chain.first_batch();
    let records = transaction.ratio.len() + transaction.carriage.len();
    let mut group = criterion.benchmark_group("types::batch");
    group.throughput(Throughput::Elements(records as u64));
    group.bench_function(format!("root/records={records}"), |bencher| {
        bencher.iter(|| transaction.compute_root());
    });
    group.bench_function(format!("encode/records={records}"), |bencher| {
        bencher.iter(|| transaction.to_bytes());
    });
    let whole = format!("build_sign_encode/records={records}");
    group.bench_function(whole, |bencher| {
        bencher.iter(|| {
            let mut batch: Batch = transaction.clone();
            batch.root = batch.compute_root();
            chain.sign(batch).to_bytes()
        });
    });
    group.finish();
}

/// Bytes to units.
fn rating(criterion: &mut Criterion) {
    let ratio = Ratio::new(Units::new(9_999_999_967), Bytes::new(100_000_000_000)).unwrap();
    let mut random = Random::new(1);
    let used: Vec<Bytes> = (0..1000)
        .map(|_| Bytes::new(random.next_u64() % 100_000_000_000))
        .collect();
    let mut group = criterion.benchmark_group("types::rating");
    group.throughput(Throughput::Elements(used.len() as u64));
    group.bench_function(format!("owed/records={}", used.len()), |bencher| {
        bencher.iter(|| {
            used.iter().fold(0_u64, |sum, used| {
                sum ^ black_box(ratio).owed(*used).unwrap().get()
            })
        });
    });
    group.finish();
}
