//! A node killed under load goes on where it was; what was final stays final.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code"
)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qlink_chain::run;
use qlink_client::ChainClient;
use qlink_client::rpc::TransactionState;
use qlink_types::units::{Nonce, SUPPLY_UNITS, Units};
use support::{Running, account, config, transfer};

const FOLDER: &str = "QLINK_NODE_KILL_TEST";

/// Not a test by itself: the process that the test below kills.
#[test]
fn node_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let on_bound = |address| println!("listening {address}");
        // Bounded, should the parent die first.
        let end = tokio::time::sleep(Duration::from_secs(60));
        run(config(Path::new(&folder)), on_bound, end)
            .await
            .unwrap();
    });
}

fn spawn(folder: &Path) -> (Child, ChainClient) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "node_process", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| line.split("listening ").nth(1).map(str::to_owned))
        .expect("the node did not start");
    (child, ChainClient::new(&format!("http://{address}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_killed_under_load_keeps_what_was_final_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut finals = 0;
    for round in 0..5_u64 {
        let (mut child, client) = spawn(folder.path());
        let next = client.account(&account(1)).await.unwrap().nonce.get();
        assert!(next >= finals, "{next} < {finals}");
        // Everything is sent without waiting; the kill meets blocks in every stage.
        for nonce in next..next + 60 {
            client.submit(&transfer(1, nonce, 9, 1)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(round * 11)).await;
        for nonce in (next..next + 60).rev() {
            let id = transfer(1, nonce, 9, 1).id();
            if client.transaction(&id).await.unwrap().state == TransactionState::Final {
                finals = nonce + 1;
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let node = Running::start(config(folder.path())).await;

    let payer = node.client.account(&account(1)).await.unwrap();
    let payee = node.client.account(&account(9)).await.unwrap();
    assert!(payer.nonce >= Nonce::new(finals));
    assert!(finals > 0);
    assert_eq!(payee.balance_units, Units::new(payer.nonce.get()));
    assert_eq!(node.settled().await.supply_units, SUPPLY_UNITS);
    let (_, _, supply) = node.raw("GET /v1/supply?audit=true HTTP/1.1", b"").await;
    assert!(supply.contains("\"audit_is_clean\":true"), "{supply}");
    node.pay(1, payer.nonce.get(), 9, 1).await;
    node.stop().await;
}
