//! A node: what its threads share, how it starts, runs and stops.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use prometheus::Registry;
use qlink_ledger::{BlockContext, Genesis, StateError, View, genesis_changes};
use qlink_order::{CertificateError, Orderer, SeatSet, Solo, verify_certificate};
use qlink_serve::{HttpMetrics, ServeConfig, ServeError, Server};
use qlink_store::{
    CHAIN_LAYOUT, FormatError, KvStore, RocksOptions, RocksStore, StateStore, StateStoreError, Tip,
};
use qlink_types::codec::{Decode as _, DecodeError};
use qlink_types::ids::TxId;
use qlink_types::signature::{ChainId, SecretKey};
use qlink_types::transaction::{MAX_TRANSACTION_BYTES, SignedTransaction};
use qlink_types::units::BlockHeight;
use tokio::sync::{oneshot, watch};

use crate::config::{NodeConfig, StartCheck};
use crate::executor::{Executor, ExecutorError, Pace};
use crate::genesis::genesis_block;
use crate::mempool::{AdmitError, Mempool};
use crate::metrics::NodeMetrics;
use crate::time;

/// The state on whatever store.
pub(crate) type ChainState = StateStore<Arc<dyn KvStore>>;

/// Why a node did not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A configured value is not allowed.
    #[error("configuration key '{key}': {detail}")]
    Config {
        /// Which key.
        key: &'static str,
        /// What is wrong with it and what would be right.
        detail: String,
    },
    /// The data directory cannot be made.
    #[error("the folder {} cannot be made", path.display())]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The data directory is not one that this program can use.
    #[error("the data directory cannot be used")]
    Format(#[from] FormatError),
    /// The stored chain failed or contradicts itself.
    #[error("the stored chain cannot be used")]
    State(#[from] StateStoreError),
    /// The ledger cannot read the stored state.
    #[error("the stored state cannot be read")]
    Ledger(#[from] StateError),
    /// The directory holds another chain.
    #[error("the data directory holds chain {stored}, the genesis is that of chain {configured}")]
    OtherChain {
        /// The chain that is stored.
        stored: ChainId,
        /// The chain that the configuration means.
        configured: ChainId,
    },
    /// The configured key does not hold the chain's seat.
    #[error("the key in 'seat_key' does not hold the seat of the stored chain")]
    OtherSeat,
    /// The last block's certificate does not hold.
    #[error("the last block's certificate does not hold")]
    Certificate(#[from] CertificateError),
    /// The RPC cannot listen.
    #[error("the RPC cannot start")]
    Serve(#[from] ServeError),
    /// A metric was registered twice.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// Block production stopped.
    #[error("block production stopped")]
    Executor(#[from] ExecutorError),
}

impl NodeError {
    /// Whether the program should end with exit code 64: bad configuration or format.
    #[must_use]
    pub const fn is_bad_configuration(&self) -> bool {
        match self {
            Self::Config { .. } | Self::OtherChain { .. } | Self::OtherSeat => true,
            Self::Format(error) => error.is_bad_format(),
            _ => false,
        }
    }
}

/// What happened to a transaction that was handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submitted {
    Pending(TxId),
    Final(TxId),
}

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    #[error("the transaction has {0} bytes, at most {MAX_TRANSACTION_BYTES} are allowed")]
    TooLong(usize),
    #[error("the bytes are not a signed transaction: {0}")]
    Malformed(DecodeError),
    #[error(transparent)]
    Admit(#[from] AdmitError),
    #[error("the stored chain failed")]
    State(#[from] StateStoreError),
}

/// What RPC and executor share.
///
/// Locks are taken in the order pool, state, and never across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    state: RwLock<ChainState>,
    pool: Mutex<Mempool>,
    pub(crate) chain: ChainId,
    pub(crate) name: String,
    pub(crate) unbacked: bool,
    pub(crate) orderer: &'static str,
    pub(crate) seats: SeatSet,
    pub(crate) heights: watch::Sender<BlockHeight>,
    wake: Sender<()>,
    stop: AtomicBool,
    running: AtomicBool,
    pub(crate) metrics: NodeMetrics,
}

impl Shared {
    pub(crate) fn state(&self) -> RwLockReadGuard<'_, ChainState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, ChainState> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Mempool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether blocks are being made.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn set_running(&self, running: bool) {
        self.running.store(running, Ordering::Release);
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes the executor; a wake that is on its way already is enough.
    fn wake(&self) {
        let _ = self.wake.try_send(());
    }

    /// What the next block will be applied under, as far as it is known now.
    pub(crate) fn next_context(&self, tip: &Tip) -> BlockContext {
        BlockContext {
            chain: self.chain,
            height: tip.height.next(),
            time_ms: time::now().max(tip.time_ms.plus_millis(1)),
        }
    }

    /// Takes a transaction's canonical bytes. The same transaction again gets the same answer,
    /// also when it is final.
    pub(crate) fn submit(&self, bytes: &[u8]) -> Result<Submitted, SubmitError> {
        if bytes.len() > MAX_TRANSACTION_BYTES {
            return Err(SubmitError::TooLong(bytes.len()));
        }
        let transaction = SignedTransaction::from_bytes(bytes).map_err(SubmitError::Malformed)?;
        let id = transaction.id();
        let mut pool = self.pool();
        if pool.contains(&id) {
            return Ok(Submitted::Pending(id));
        }
        let state = self.state();
        if state.place(&id)?.is_some() {
            return Ok(Submitted::Final(id));
        }
        let Some(tip) = state.tip() else {
            return Err(StateStoreError::Missing {
                record: "tip",
                height: BlockHeight::ZERO,
            }
            .into());
        };
        let context = self.next_context(tip);
        let taken = pool.admit(&*state, &context, Arc::new(transaction), bytes.len());
        if let Err(error) = taken {
            let reason = match &error {
                AdmitError::Refused(status) => status.name(),
                AdmitError::Full { .. } => "pool_full",
                AdmitError::State(_) => "state",
            };
            self.metrics.refused.with_label_values(&[reason]).inc();
            return Err(error.into());
        }
        self.metrics.pool_transactions.set(gauge(pool.len()));
        self.metrics.pool_bytes.set(gauge(pool.bytes()));
        self.wake();
        Ok(Submitted::Pending(id))
    }
}

pub(crate) fn gauge(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A node that is open but does not make blocks yet.
struct Opened {
    shared: Arc<Shared>,
    engine: Solo,
    wakes: Receiver<()>,
    registry: Registry,
}

/// Opens the chain in `store`, beginning it if it is new.
fn open(
    store: Arc<dyn KvStore>,
    config: &NodeConfig,
    genesis: &Genesis,
    key: SecretKey,
) -> Result<Opened, NodeError> {
    let chain = genesis.chain_id();
    let mut state = ChainState::new(store, config.keep_versions)?;
    let engine = Solo::new(chain, key, BlockHeight::ZERO);
    let seats = engine.seats().clone();
    match state.tip() {
        None => {
            let (block, certificate) = genesis_block(genesis, &seats);
            state.commit(&block, &certificate, &[], &genesis_changes(genesis))?;
        }
        Some(tip) => {
            check_start(&state, tip.height, chain, &seats)?;
            if config.start_check == StartCheck::Full {
                state.check_values()?;
            }
        }
    }
    let height = state.tip().map_or(BlockHeight::ZERO, |tip| tip.height);
    let row = View::new(&state).chain()?;
    let row = row.ok_or(StateStoreError::Missing {
        record: "chain row",
        height,
    })?;
    let registry = Registry::new();
    let metrics = NodeMetrics::register(&registry)?;
    let (wake, wakes) = bounded(1);
    let shared = Shared {
        state: RwLock::new(state),
        pool: Mutex::new(Mempool::new(config.pool_limits())),
        chain,
        name: row.name.as_str().to_owned(),
        unbacked: row.unbacked,
        orderer: engine.name(),
        seats,
        heights: watch::Sender::new(height),
        wake,
        stop: AtomicBool::new(false),
        running: AtomicBool::new(false),
        metrics,
    };
    Ok(Opened {
        shared: Arc::new(shared),
        engine: engine.at(height),
        wakes,
        registry,
    })
}

/// A disk that disagrees with itself, the genesis or the seat stops the node here.
fn check_start(
    state: &ChainState,
    height: BlockHeight,
    chain: ChainId,
    seats: &SeatSet,
) -> Result<(), NodeError> {
    let missing = StateStoreError::Missing {
        record: "summary",
        height,
    };
    let summary = state.summary(height)?.ok_or(missing)?;
    if summary.header.chain != chain {
        return Err(NodeError::OtherChain {
            stored: summary.header.chain,
            configured: chain,
        });
    }
    if summary.header.next_seats_hash != seats.hash() {
        return Err(NodeError::OtherSeat);
    }
    if height > BlockHeight::ZERO {
        verify_certificate(seats, &summary.header, &summary.certificate)?;
    }
    state.check()?;
    tracing::info!(%height, state_root = %summary.state_root, "stored chain is consistent");
    Ok(())
}

/// Opens or makes the data directory.
fn open_directory(path: &Path) -> Result<RocksStore, NodeError> {
    std::fs::create_dir_all(path).map_err(|source| NodeError::Folder {
        path: path.to_owned(),
        source,
    })?;
    Ok(RocksStore::open(
        path,
        &CHAIN_LAYOUT,
        &RocksOptions::default(),
    )?)
}

/// Runs a node until `shutdown` is ready or block production fails; calls `on_bound` with the RPC's
/// address once it listens.
///
/// # Errors
///
/// [`NodeError`]; exit code 64 where [`NodeError::is_bad_configuration`] says so.
pub async fn run(
    config: NodeConfig,
    on_bound: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    config.validate()?;
    let genesis = config.load_genesis()?;
    let key = config.load_seat_key()?;
    let store = open_directory(&config.data_dir)?;
    let opened = open(Arc::new(store), &config, &genesis, key)?;
    let pace = Pace {
        interval: config.block_interval.0,
        idle: config.idle_block_interval.0,
    };
    let serve = ServeConfig {
        max_connections: config.max_connections,
        max_connections_per_ip: config.max_connections,
        // A full transaction in hexadecimal with its frame.
        max_body_bytes: 2_100_000,
        drain_timeout: Duration::from_secs(2),
        ..ServeConfig::at("chain", config.listen)
    };
    serve_node(opened, pace, serve, on_bound, shutdown).await
}

async fn serve_node(
    opened: Opened,
    pace: Pace,
    serve: ServeConfig,
    on_bound: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    let Opened {
        shared,
        engine,
        wakes,
        registry,
    } = opened;
    let server = Server::bind(serve).await?;
    let http = HttpMetrics::register(&registry, "chain")?;
    server.metrics().register(&registry)?;
    let router = http.measure(crate::rpc::router(Arc::clone(&shared), registry));
    let address = server.local_addr();

    let (ended, mut end) = oneshot::channel();
    let executor = Executor::new(Arc::clone(&shared), Box::new(engine), wakes, pace);
    let thread = std::thread::Builder::new()
        .name("chain-executor".to_owned())
        .stack_size(2 << 20)
        .spawn(move || {
            // The receiver is gone only when the node is already stopping.
            let _ = ended.send(executor.run());
        })
        .map_err(NodeError::Thread)?;
    tracing::info!(%address, chain = %shared.chain, name = shared.name, "node is up");
    on_bound(address);

    let mut outcome = None;
    let stopped = async {
        tokio::select! {
            () = shutdown => {}
            result = &mut end => outcome = result.ok(),
        }
    };
    server.run(router, stopped).await;
    shared.stop();
    if outcome.is_none() {
        outcome = end.await.ok();
    }
    // The thread has sent its result and ends now; the last reference to the store goes with it.
    let joined = tokio::task::spawn_blocking(move || thread.join()).await;
    if !matches!(joined, Ok(Ok(()))) {
        return Err(ExecutorError::Panicked.into());
    }
    outcome.unwrap_or(Err(ExecutorError::Panicked))?;
    Ok(())
}
