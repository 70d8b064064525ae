//! A node over real loopback: what it makes final, and that it stays so.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::time::Duration;

use qlink_chain::{NodeError, StartCheck, export_directory, export_node, run};
use qlink_client::rpc::TransactionState;
use qlink_ledger::Account;
use qlink_store::StateProof;
use qlink_types::codec::{Decode as _, Encode as _};
use qlink_types::outcome::Status;
use qlink_types::units::{BlockHeight, Nonce, SUPPLY_UNITS, Units};
use support::{FUNDS, Running, account, config, transfer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_becomes_final_and_its_account_provable_under_the_next_header() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;

    node.pay(1, 0, 9, 500).await;

    let payee = node.client.account(&account(9)).await.unwrap();
    assert_eq!(payee.balance_units, Units::new(500));
    let payer = node.client.account(&account(1)).await.unwrap();
    assert_eq!(payer.nonce, Nonce::new(1));
    let status = node.settled().await;
    assert_eq!(status.orderer, "solo");
    assert_eq!(status.validators, 1);
    assert!(status.unbacked);
    assert_eq!(status.supply_units, SUPPLY_UNITS);
    let path = format!("GET /v1/proofs/account/{} HTTP/1.1", account(9));
    let (_, _, body) = node.raw(&path, b"").await;
    let proof: qlink_client::rpc::ProofAnswer = serde_json::from_str(&body).unwrap();
    let before = BlockHeight::new(proof.height.get() - 1);
    let earlier = format!(
        "GET /v1/proofs/account/{}?height={before} HTTP/1.1",
        account(9)
    );
    let (_, _, body) = node.raw(&earlier, b"").await;
    let proof: qlink_client::rpc::ProofAnswer = serde_json::from_str(&body).unwrap();
    let next = node
        .client
        .block(proof.height.next())
        .await
        .unwrap()
        .unwrap();
    let value = hex::decode(proof.value.unwrap()).unwrap();
    StateProof::verify(
        &next.header.state_root_prev,
        &hex::decode(&proof.key).unwrap(),
        Some(&value),
        &hex::decode(&proof.proof).unwrap(),
    )
    .unwrap();
    let row = Account::from_bytes(value.get(1..).unwrap()).unwrap();
    assert_eq!(row.balance, Units::new(500));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_changed_the_tree_is_followed_and_then_the_chain_rests() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    let before = node.settled().await;

    node.pay(1, 0, 2, 1).await;

    let after = node.settled().await;
    assert_eq!(after.height.get(), before.height.get() + 2);
    let last = node.client.block(after.height).await.unwrap().unwrap();
    assert_eq!(last.header.state_root_prev, after.state_root);
    assert!(last.transactions.is_empty());
    let (_, _, supply) = node.raw("GET /v1/supply?audit=true HTTP/1.1", b"").await;
    assert!(supply.contains("\"audit_is_clean\":true"), "{supply}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_with_the_same_height_root_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    node.pay(1, 0, 2, 7).await;
    let before = node.settled().await;
    node.stop().await;

    let node = Running::start(config(folder.path())).await;

    assert_eq!(node.client.status().await.unwrap(), before);
    let paid = transfer(1, 0, 2, 7);
    let found = node.client.transaction(&paid.id()).await.unwrap();
    assert_eq!(found.state, TransactionState::Final);
    node.pay(1, 1, 2, 7).await;
    let payee = node.client.account(&account(2)).await.unwrap();
    assert_eq!(payee.balance_units.get(), FUNDS.get() + 14);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_handed_in_again_gets_the_same_answer_and_moves_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    let paid = transfer(1, 0, 9, 5);

    let first = node.client.submit(&paid).await.unwrap();
    let waiting = node.client.submit(&paid).await.unwrap();
    node.client
        .submit_and_wait_final(&paid, Duration::from_secs(10))
        .await
        .unwrap();
    // At rest the pool has let it go: only the chain itself can know it now.
    node.settled().await;
    let done = node.client.submit(&paid).await.unwrap();
    let octets = "POST /v1/transactions HTTP/1.1\r\ncontent-type: application/octet-stream";
    let (status, _, _) = node.raw(octets, &paid.to_bytes()).await;

    assert_eq!((first, waiting, done), (paid.id(), paid.id(), paid.id()));
    assert_eq!(status, 200);
    node.settled().await;
    let payee = node.client.account(&account(9)).await.unwrap();
    assert_eq!(payee.balance_units, Units::new(5));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pending_transactions_of_one_account_become_final_in_sequence() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;

    for nonce in 0..100 {
        node.client.submit(&transfer(1, nonce, 9, 1)).await.unwrap();
    }

    node.settled().await;
    for nonce in 0..100 {
        let id = transfer(1, nonce, 9, 1).id();
        let found = node.client.transaction(&id).await.unwrap();
        assert_eq!(found.receipt.unwrap().status, Status::Accepted, "{nonce}");
    }
    let payee = node.client.account(&account(9)).await.unwrap();
    assert_eq!(payee.balance_units, Units::new(100));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_from_a_directory_in_use_and_from_its_node_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(config(folder.path())).await;
    node.pay(1, 0, 2, 7).await;
    let status = node.settled().await;
    let mut from_node = Vec::new();
    let mut from_directory = Vec::new();

    let count = export_node(&node.client, &mut from_node).await.unwrap();
    export_directory(&folder.path().join("chain"), &mut from_directory).unwrap();

    assert_eq!(from_node, from_directory);
    assert_eq!(count, status.height.get() + 1);
    node.stop().await;
}

/// Every root and record agrees, only one value differs: what bit rot below the checksums would do.
#[tokio::test]
async fn a_disk_that_disagrees_stops_the_node_with_a_clear_message() {
    use qlink_store::{CHAIN_LAYOUT, Column, KvStore, RocksOptions, RocksStore, Sync, WriteBatch};
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    Running::start(config.clone()).await.stop().await;
    let store =
        RocksStore::open(&config.data_dir, &CHAIN_LAYOUT, &RocksOptions::default()).unwrap();
    let key = [&[0], b"a".as_slice(), account(1).as_bytes()].concat();
    let mut value = store.get(Column::TreeValues, &key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    let mut batch = WriteBatch::new();
    batch.put(Column::TreeValues, key, value);
    store.write(batch, Sync::Durable).unwrap();
    drop(store);

    config.start_check = StartCheck::Full;
    let refused = run(config, |_| {}, async {}).await.unwrap_err();

    let NodeError::State(cause) = refused else {
        panic!("{refused}");
    };
    assert!(cause.to_string().contains("state root"), "{cause}");
}

#[tokio::test]
async fn another_seat_or_another_chain_is_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    Running::start(config.clone()).await.stop().await;
    let start = async |config| run(config, |_| {}, async {}).await.unwrap_err();

    let other_key = folder.path().join("other.key");
    std::fs::write(&other_key, "43".repeat(32)).unwrap();
    let good_key = std::mem::replace(&mut config.seat_key, other_key);
    let other_seat = start(config.clone()).await;
    config.seat_key = good_key;
    let text = std::fs::read_to_string(&config.genesis).unwrap();
    std::fs::write(&config.genesis, text.replace("\"test\"", "\"tset\"")).unwrap();
    let other_chain = start(config).await;

    assert!(matches!(other_seat, NodeError::OtherSeat));
    assert!(matches!(other_chain, NodeError::OtherChain { .. }));
    assert!(other_seat.is_bad_configuration() && other_chain.is_bad_configuration());
}
