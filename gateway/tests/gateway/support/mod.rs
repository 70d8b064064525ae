//! One gateway between real parts: a solo node of `qlink-chain` with its RocksDB, and a data plane
//! of which the packets alone are missing. See [`plane`] for what stands in for them.

pub(crate) mod client;
pub(crate) mod plane;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use qlink_api::session::OpenSessionRequest;
use qlink_chain::{NodeConfig, Span};
use qlink_client::ChainClient;
use qlink_client::rpc::TransactionAnswer;
use qlink_gateway::{GatewayConfig, TunnelConfig, acceptance_hash};
use qlink_ledger::{Genesis, Params};
use qlink_types::codec::{Encode as _, List, Text};
use qlink_types::ids::{
    AccountId, BaseStationId, ContentId, GatewayId, Hash32, OperatorId, PackageId, SessionId, Teid,
};
use qlink_types::outcome::Status;
use qlink_types::package::{Audience, CarriageShares, PackageTerms, RepeatPolicy, Scope};
use qlink_types::receipt::{Receipt, ReceiptSigner, SignedReceipt};
use qlink_types::session::{SessionOpen, SignedAcceptance};
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{
    Party, PartyKind, Sender, SignedTransaction, Transaction, TxBody, prove_key,
};
use qlink_types::units::{Bytes, Nonce, PackageEpoch, TimeMs, Units};
use qlink_viewer::Pseudonym;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use client::Client;
use plane::SimPlane;

/// What every wait here is bounded by.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// What the funded account begins with: 1,000 QLC.
pub(crate) const FUNDS: Units = Units::new(100_000_000_000);

/// A key for tests.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

/// Its account.
pub(crate) fn account(n: u8) -> AccountId {
    AccountId::from(key(n).public())
}

/// Owns the gateway, the operator and the BaseStation, buys packages.
pub(crate) const PROVIDER: u8 = 1;
/// An account that holds nothing.
pub(crate) const POOR: u8 = 2;
/// Device key of the BaseStation.
pub(crate) const STATION: u8 = 7;
/// Key of the gateway.
pub(crate) const GATEWAY: u8 = 8;
/// Wallets of viewers begin here.
const WALLET: u8 = 100;

/// Now, as the wall clock of this machine says.
pub(crate) fn now() -> TimeMs {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    TimeMs::new(u64::try_from(since.as_millis()).unwrap())
}

/// Everything that runs, in one folder that goes when this goes.
pub(crate) struct World {
    pub(crate) http: Client,
    pub(crate) node: ChainClient,
    pub(crate) plane: SimPlane,
    pub(crate) chain: ChainId,
    pub(crate) gateway: GatewayId,
    pub(crate) basestation: BaseStationId,
    config: GatewayConfig,
    // In the order in which they end: settlement's last batch needs the node.
    running: Option<Component>,
    _node: Component,
    pub(crate) folder: tempfile::TempDir,
}

/// A component with threads and a runtime of its own, as its process would have. It is stopped and
/// waited for when it is dropped: a store must be closed before its process ends.
struct Component {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Component {
    fn spawn<F>(name: &str, body: impl FnOnce(watch::Receiver<bool>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()>,
    {
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build();
            runtime.unwrap().block_on(body(stopped));
        });
        Self {
            stop,
            thread: Some(thread.unwrap()),
        }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // What a component says about its own failure, the test has seen already.
            let _ended = thread.join();
        }
    }
}

impl World {
    /// Starts node, data plane and gateway; parties are registered.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (node_address, running_node) = start_node(folder.path()).await;
        let node = ChainClient::new(&format!("http://{node_address}"));
        let chain = node.status().await.unwrap().chain_id;
        for (nonce, (kind, party_key)) in [
            (PartyKind::Gateway, GATEWAY),
            (PartyKind::Operator, PROVIDER),
            (PartyKind::BaseStation, STATION),
        ]
        .into_iter()
        .enumerate()
        {
            register(&node, chain, nonce, kind, party_key).await;
        }
        let owner = account(PROVIDER);
        let plane = SimPlane::start(folder.path());
        let config = GatewayConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            node: format!("http://{node_address}"),
            dataplane: plane.socket().to_owned(),
            directory: folder.path().join("gateway"),
            key_file: write_key(folder.path(), GATEWAY),
            gateway: GatewayId::derive(&owner, Nonce::new(0)),
            operator: OperatorId::derive(&owner, Nonce::new(1)),
            ue_base: Ipv4Addr::new(10, 45, 0, 1),
            ue_count: 64,
            origins: Vec::new(),
            upload_bytes_max: 20_000_000,
            settle_every_ms: 50,
            tunnel: Some(TunnelConfig {
                endpoint: "198.51.100.1:51820".parse().unwrap(),
                base: "10.99.0.2".parse().unwrap(),
                count: 2,
            }),
        };
        let gateway = config.gateway;
        let (address, running) = start_gateway(&config).await;
        let world = Self {
            http: Client::new(address),
            node,
            plane,
            chain,
            gateway,
            basestation: BaseStationId::derive(&owner, Nonce::new(2)),
            config,
            running: Some(running),
            _node: running_node,
            folder,
        };
        world.ready().await;
        world
    }

    async fn ready(&self) {
        until("the gateway is ready", async || {
            self.http.get("/readyz").await.status == 200
        })
        .await;
    }

    /// Ends the gateway and starts it again over what it kept.
    pub(crate) async fn restart_gateway(&mut self) {
        drop(self.running.take());
        let (address, running) = start_gateway(&self.config).await;
        (self.http, self.running) = (Client::new(address), Some(running));
        self.ready().await;
    }

    /// Registers another BaseStation with device key `n`.
    pub(crate) async fn station(&self, n: u8) -> BaseStationId {
        let owner = account(PROVIDER);
        let next = self.node.account(&owner).await.unwrap().nonce;
        let nonce = usize::try_from(next.get()).unwrap();
        register(&self.node, self.chain, nonce, PartyKind::BaseStation, n).await;
        BaseStationId::derive(&owner, next)
    }

    /// Quotes at `path`, signs with the key of account `n`, submits and waits until it is final.
    pub(crate) async fn transact(
        &self,
        path: &str,
        n: u8,
        mut request: Value,
    ) -> (Value, TransactionAnswer) {
        request
            .as_object_mut()
            .unwrap()
            .insert("account".to_owned(), json!(account(n)));
        let quote = self.http.post(&format!("{path}/quote"), &request).await;
        assert_eq!(quote.status, 200, "{}", quote.text);
        let signed = sign(&quote.json(), &key(n));
        let answer = self.http.post(path, &json!({"transaction": signed})).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let submitted = answer.json();
        let id = submitted["transaction"].as_str().unwrap().parse().unwrap();
        (submitted, self.final_answer(id).await)
    }

    /// Waits until a transaction is final.
    pub(crate) async fn final_answer(&self, id: qlink_types::ids::TxId) -> TransactionAnswer {
        let mut found = None;
        until("the transaction is final", async || {
            found = self
                .node
                .transaction(&id)
                .await
                .ok()
                .filter(|answer| answer.receipt.is_some());
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Uploads `bytes` and registers them.
    pub(crate) async fn film(&self, bytes: &[u8]) -> ContentId {
        let content = ContentId::new(*blake3::hash(bytes).as_bytes());
        let path = format!("/v1/contents/{content}/bytes");
        let uploaded = self
            .http
            .call(
                "PUT",
                &path,
                &[("content-type", "application/octet-stream")],
                bytes,
            )
            .await;
        assert_eq!(uploaded.status, 200, "{}", uploaded.text);
        let request = json!({"content": content, "media_type": "video/mp4"});
        let (_, answer) = self.transact("/v1/contents", PROVIDER, request).await;
        assert_eq!(answer.receipt.unwrap().status, Status::Accepted);
        content
    }

    /// Terms over one content: B bytes, Q units, everybody, a day.
    pub(crate) fn terms(
        &self,
        content: ContentId,
        bytes: u64,
        reward: u64,
        cap: u64,
    ) -> PackageTerms {
        PackageTerms {
            scope: Scope::Contents {
                contents: list(vec![content]),
            },
            bytes: Bytes::new(bytes),
            reward: Units::new(reward),
            carriage: CarriageShares {
                operator: Units::new(2_000_000),
                basestation: Units::new(2_000_000),
                gateway: Units::new(1_000_000),
            },
            valid_from: TimeMs::ZERO,
            valid_until: now().plus_millis(86_400_000),
            audience: Audience::Open,
            viewer_cap: Bytes::new(cap),
            repeat: RepeatPolicy::ChargeUser,
            gateways: list(vec![self.gateway]),
        }
    }

    /// Buys a package; it is final when this returns.
    pub(crate) async fn buy(&self, terms: &PackageTerms) -> PackageId {
        let (submitted, answer) = self
            .transact("/v1/packages", PROVIDER, json!({"terms": terms}))
            .await;
        assert_eq!(answer.receipt.unwrap().status, Status::Accepted);
        submitted["package"].as_str().unwrap().parse().unwrap()
    }

    /// The package that will be bought next: its id follows from its owner's next number, so its
    /// viewers are known before it is.
    pub(crate) async fn next_package(&self) -> PackageId {
        let owner = account(PROVIDER);
        let next = self.node.account(&owner).await.unwrap().nonce;
        PackageId::derive(&owner, next)
    }

    /// The pseudonym of viewer `n` in a package.
    pub(crate) fn viewer(&self, package: PackageId, n: u8) -> Pseudonym {
        Pseudonym::derive(&key(WALLET + n), package)
    }

    /// A good request of viewer `n` for a session on `package`.
    pub(crate) fn open_request(&self, package: PackageId, n: u8) -> OpenSessionRequest {
        let soon = now().plus_millis(60_000);
        let nonce = Hash32::new([n; 32]);
        let acceptance = self
            .viewer(package, n)
            .accept(self.gateway, soon, nonce, &self.chain);
        self.request_with(Some(acceptance), n)
    }

    /// A request with whatever acceptance, signed by the BaseStation.
    pub(crate) fn request_with(
        &self,
        acceptance: Option<SignedAcceptance>,
        n: u8,
    ) -> OpenSessionRequest {
        let open = SessionOpen {
            basestation: self.basestation,
            gateway: self.gateway,
            downlink_teid: Teid::new(1000 + u32::from(n)),
            acceptance_hash: acceptance_hash(acceptance.as_ref()),
            personal_package: PackageId::ZERO,
            valid_until: now().plus_millis(60_000),
            nonce: Hash32::new([n; 32]),
        };
        OpenSessionRequest {
            signature: open.sign(&key(STATION), &self.chain),
            open,
            acceptance,
            personal: None,
            peer: "127.9.9.2:2152".to_owned(),
        }
    }

    /// Opens a session that must be granted.
    pub(crate) async fn open(&self, package: PackageId, n: u8) -> SessionId {
        let request = serde_json::to_value(self.open_request(package, n)).unwrap();
        let answer = self.http.post("/v1/sessions", &request).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["session"].as_str().unwrap().parse().unwrap()
    }

    /// Closes a session with the BaseStation's receipt.
    pub(crate) async fn close(&self, session: SessionId) -> client::Answer {
        let receipt = Receipt {
            session,
            gateway: self.gateway,
            incarnation: plane::INCARNATION,
            sequence: 1,
            package: PackageId::ZERO,
            package_epoch: PackageEpoch::ZERO,
            viewer: qlink_types::ids::ViewerKey::ZERO,
            uplink_network_bytes: Bytes::ZERO,
            downlink_network_bytes: Bytes::ZERO,
            classes: qlink_types::receipt::ByteClasses::default(),
            stated_at: now(),
        };
        let signed = SignedReceipt::sign(
            receipt,
            ReceiptSigner::BaseStation,
            &key(STATION),
            &self.chain,
        );
        let body = json!({"basestation_receipt": signed});
        self.http
            .post(&format!("/v1/sessions/{session}/close"), &body)
            .await
    }

    /// Waits until the chain has settled `bytes` of a package.
    pub(crate) async fn settled(&self, package: PackageId, bytes: u64) {
        until("the bytes are settled", async || {
            let answer = self.node.package(&package).await.unwrap().unwrap();
            answer.ledger.totals.used == Bytes::new(bytes)
        })
        .await;
    }
}

/// A bounded list of what surely fits.
pub(crate) fn list<T, const MAX: usize>(items: Vec<T>) -> List<T, MAX>
where
    List<T, MAX>: TryFrom<Vec<T>>,
    <List<T, MAX> as TryFrom<Vec<T>>>::Error: std::fmt::Debug,
{
    List::try_from(items).unwrap()
}

/// Signs the transaction of a quote.
pub(crate) fn sign(quote: &Value, key: &SecretKey) -> String {
    use qlink_types::codec::Decode as _;
    let bytes = hex::decode(quote["unsigned_transaction"].as_str().unwrap()).unwrap();
    let transaction = Transaction::from_bytes(&bytes).unwrap();
    hex::encode(transaction.sign(key).to_bytes())
}

/// Waits for `condition`, at most [`WITHIN`].
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = tokio::time::Instant::now();
    while !condition().await {
        assert!(started.elapsed() < WITHIN, "not within {WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn start_gateway(config: &GatewayConfig) -> (SocketAddr, Component) {
    let (bound, address) = oneshot::channel();
    let config = config.clone();
    let running = Component::spawn("gateway", async move |stopped| {
        qlink_gateway::run(config, move |address| bound.send(address).unwrap(), stopped)
            .await
            .unwrap();
    });
    let address = tokio::time::timeout(WITHIN, address)
        .await
        .expect("the gateway did not start in time")
        .expect("the gateway did not start");
    (address, running)
}

async fn start_node(folder: &Path) -> (SocketAddr, Component) {
    let genesis = Genesis::try_new(
        "gateway-test",
        TimeMs::new(1_000),
        vec![(account(PROVIDER), FUNDS)],
        Params::default(),
    );
    let genesis_file = folder.join("genesis.json");
    let seat_key = folder.join("seat.key");
    std::fs::write(
        &genesis_file,
        serde_json::to_vec(&genesis.unwrap()).unwrap(),
    )
    .unwrap();
    std::fs::write(&seat_key, "42".repeat(32)).unwrap();
    std::fs::set_permissions(&seat_key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = NodeConfig {
        data_dir: folder.join("chain"),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        genesis: genesis_file,
        seat_key,
        block_interval: Span(Duration::from_millis(20)),
        idle_block_interval: Span(Duration::from_secs(2)),
        ..NodeConfig::default()
    };
    let (bound, address) = oneshot::channel();
    let running = Component::spawn("node", async move |mut stopped| {
        let on_bound = move |address| bound.send(address).unwrap();
        let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
        qlink_chain::run(config, on_bound, shutdown).await.unwrap();
    });
    let address = tokio::time::timeout(WITHIN, address).await;
    (address.expect("in time").expect("the node starts"), running)
}

async fn register(
    node: &ChainClient,
    chain: ChainId,
    nonce: usize,
    party_kind: PartyKind,
    party_key: u8,
) {
    let owner = account(PROVIDER);
    let transaction = Transaction {
        chain,
        sender: Sender::Account { account: owner },
        nonce: Nonce::new(u64::try_from(nonce).unwrap()),
        max_fee: Units::new(1_000_000),
        valid_until: TimeMs::ZERO,
        body: TxBody::RegisterParty {
            party_kind,
            key: key(party_key).public(),
            key_proof: prove_key(&key(party_key), &chain, &owner),
            asset: Hash32::ZERO,
            name: Text::try_from("test").unwrap(),
        },
    };
    let signed: SignedTransaction = transaction.sign(&key(PROVIDER));
    let answer = node.submit_and_wait_final(&signed, WITHIN).await.unwrap();
    assert_eq!(answer.receipt.unwrap().status, Status::Accepted);
    let party: Party = party_kind.derive(&owner, Nonce::new(u64::try_from(nonce).unwrap()));
    assert!(node.party(&party).await.unwrap().is_some());
}

fn write_key(folder: &Path, n: u8) -> std::path::PathBuf {
    let path = folder.join("gateway.key");
    std::fs::write(&path, hex::encode([n; 32])).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
