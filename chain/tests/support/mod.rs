//! Nodes on loopback with a development genesis, and raw HTTP to them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use qlink_chain::{NodeConfig, NodeError, Span, run};
use qlink_client::ChainClient;
use qlink_ledger::{Genesis, Params};
use qlink_types::ids::AccountId;
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{Sender, SignedTransaction, Transaction, TxBody};
use qlink_types::units::{Nonce, TimeMs, Units};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const FUNDS: Units = Units::new(1_000_000_000);

/// The key of development account `n`, from 1.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub(crate) fn account(n: u8) -> AccountId {
    AccountId::from(key(n).public())
}

pub(crate) fn genesis() -> Genesis {
    let accounts = (1..=4).map(|n| (account(n), FUNDS)).collect();
    Genesis::try_new("test", TimeMs::new(1_000), accounts, Params::default()).unwrap()
}

pub(crate) fn chain() -> ChainId {
    genesis().chain_id()
}

pub(crate) fn transfer(from: u8, nonce: u64, to: u8, amount: u64) -> SignedTransaction {
    Transaction {
        chain: chain(),
        sender: Sender::Account {
            account: account(from),
        },
        nonce: Nonce::new(nonce),
        max_fee: Units::new(1_000_000),
        valid_until: TimeMs::ZERO,
        body: TxBody::Transfer {
            to: account(to),
            amount: Units::new(amount),
        },
    }
    .sign(&key(from))
}

/// A configuration in `folder` with its files; blocks every 20 ms, hardly any while idle.
pub(crate) fn config(folder: &Path) -> NodeConfig {
    let genesis_file = folder.join("genesis.json");
    let seat_key = folder.join("seat.key");
    std::fs::write(&genesis_file, serde_json::to_vec(&genesis()).unwrap()).unwrap();
    std::fs::write(&seat_key, "42".repeat(32)).unwrap();
    NodeConfig {
        data_dir: folder.join("chain"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        genesis: genesis_file,
        seat_key,
        block_interval: Span(Duration::from_millis(20)),
        idle_block_interval: Span(Duration::from_secs(3600)),
        ..NodeConfig::default()
    }
}

/// A node in this process.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) client: ChainClient,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), NodeError>>,
}

impl Running {
    pub(crate) async fn start(config: NodeConfig) -> Self {
        let (bound, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let on_bound = move |address| bound.send(address).unwrap();
            run(config, on_bound, async move { drop(stopped.await) }).await
        });
        let address = address.await.expect("the node did not start");
        Self {
            address,
            client: ChainClient::new(&format!("http://{address}")),
            stop,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap().unwrap();
    }

    /// Waits until no block is owed: the last block left the tree as it was.
    pub(crate) async fn settled(&self) -> qlink_client::rpc::StatusAnswer {
        let mut last = self.client.status().await.unwrap();
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(120)).await;
            let now = self.client.status().await.unwrap();
            if now.height == last.height {
                return now;
            }
            last = now;
        }
        panic!("the chain does not come to rest");
    }

    pub(crate) async fn pay(&self, from: u8, nonce: u64, to: u8, amount: u64) {
        let answer = self
            .client
            .submit_and_wait_final(&transfer(from, nonce, to, amount), Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(
            answer.receipt.unwrap().status,
            qlink_types::outcome::Status::Accepted
        );
    }

    /// One request on its own connection; returns status and body.
    pub(crate) async fn raw(&self, head: &str, body: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{head}\r\nhost: node\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }
}
