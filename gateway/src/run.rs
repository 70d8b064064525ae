//! The gateway process: opens what is durable, starts link, settlement and server, drains at the
//! end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qlink_client::ChainClient;
use qlink_client::http::HttpError;
use qlink_io::secret_file::{SecretFileError, read_secret_file};
use qlink_serve::{HttpMetrics, ServeConfig, ServeError, Server};
use qlink_store::{Column, FormatError, KvStore, Layout, RocksOptions, RocksStore};
use qlink_types::signature::SecretKey;
use tokio::sync::watch;

use crate::config::{ConfigError, GatewayConfig};
use crate::copies::Copies;
use crate::deny::Reconcile;
use crate::http::router;
use crate::link::Link;
use crate::metrics::GatewayMetrics;
use crate::registry::{AddressPool, Registry, RegistryError};
use crate::rulings::Rulings;
use crate::service::{Parts, Service};
use crate::settle::{SettleError, Settlement};
use crate::tunnels::Tunnels;

/// The gateway's durable directory, version 1.
const LAYOUT: Layout = Layout {
    magic: *b"QLGATEWY",
    version: 1,
    columns: &[Column::Meta, Column::Outbox, Column::Sessions],
};

/// How long the node may take to answer at the start.
const NODE_WITHIN: Duration = Duration::from_secs(30);

/// Pause between two looks whether the data plane was reached anew.
const TUNNEL_LOOK: Duration = Duration::from_millis(250);

/// Longest pause while a denial waits for its effect.
const TUNNEL_LOOK_MAX: Duration = Duration::from_secs(8);

/// Why the gateway did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is not usable.
    #[error("the configuration is not usable")]
    Config(#[from] ConfigError),
    /// The directory is not usable.
    #[error("the directory {directory} is not usable")]
    Format {
        /// Which.
        directory: String,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// The file with the secret key cannot be read, or others may open it.
    #[error(transparent)]
    KeyFile(#[from] SecretFileError),
    /// It holds no key.
    #[error("key file {0} does not hold 64 hexadecimal digits")]
    Key(PathBuf),
    /// Sessions cannot be read.
    #[error("sessions cannot be read")]
    Registry(#[from] RegistryError),
    /// The system refused something.
    #[error("the system refused something")]
    Io(#[from] std::io::Error),
    /// The node does not answer.
    #[error("the node does not answer")]
    Node(#[from] HttpError),
    /// Settlement cannot start.
    #[error("settlement cannot start")]
    Settle(#[from] SettleError),
    /// The listener cannot start.
    #[error("the listener cannot start")]
    Serve(#[from] ServeError),
    /// Metrics cannot be registered.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl RunError {
    /// Whether the program should end with exit code 64 (bad configuration or format).
    #[must_use]
    pub const fn is_bad_configuration(&self) -> bool {
        match self {
            Self::Config(_) | Self::KeyFile(_) | Self::Key(_) => true,
            Self::Format { source, .. } => source.is_bad_format(),
            _ => false,
        }
    }
}

/// Reads a secret key: 64 hexadecimal digits in a file that only its owner may read.
///
/// # Errors
///
/// [`RunError::Key`]; the file's content is never part of it.
pub fn read_key(path: &Path) -> Result<SecretKey, RunError> {
    let text = read_secret_file(path)?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text, &mut seed).map_err(|_| RunError::Key(path.to_owned()))?;
    Ok(SecretKey::from_seed(seed))
}

/// Runs the gateway until `stop` turns true; `ready` is told where it listens.
///
/// # Errors
///
/// [`RunError`] when it cannot start.
pub async fn run(
    config: GatewayConfig,
    ready: impl FnOnce(SocketAddr),
    stop: watch::Receiver<bool>,
) -> Result<(), RunError> {
    config.check()?;
    let registry = prometheus::Registry::new();
    let service = Arc::new(open(config.clone(), &registry).await?);
    let settlement = Settlement::resume(Arc::clone(&service), &config.directory).await?;

    let mut serve = ServeConfig::at("gateway", config.listen);
    serve.max_body_bytes = config.upload_bytes_max;
    serve.body_timeout = Duration::from_secs(600);
    let server = Server::bind(serve).await?;
    server.metrics().register(&registry)?;
    let http = HttpMetrics::register(&registry, "gateway")?;
    let routes = http.measure(router(Arc::clone(&service), registry));
    let resolving = Arc::clone(&service);
    let resolved = tokio::task::spawn_blocking(move || resolving.resolve_opening()).await;
    if let Ok(Err(error)) = resolved {
        tracing::warn!(%error, "half-open sessions stay reserved until the next start");
    }
    let keeping = tokio::spawn(keep_tunnel(Arc::clone(&service), stop.clone()));
    ready(server.local_addr());

    let settling = tokio::spawn(settlement.run(stop.clone()));
    let drained = server.run(routes, stopped(stop)).await;
    tracing::info!(?drained, "server has ended");
    if keeping.await.is_err() {
        tracing::error!("the task that keeps the tunnel ended early");
    }
    if settling.await.is_err() {
        tracing::error!("the settlement task ended early");
    }
    Ok(())
}

/// Tells the data plane who may come through the tunnel whenever it is reached anew, and what it has
/// not heard of a denial until it has.
async fn keep_tunnel(service: Arc<Service>, stop: watch::Receiver<bool>) {
    let mut told = 0;
    let mut pause = TUNNEL_LOOK;
    while !*stop.borrow() {
        let connections = service.link.connections();
        let what = match (connections == told, service.has_untold()) {
            (false, _) => Some(Reconcile::All),
            (true, true) => Some(Reconcile::Pending),
            (true, false) => None,
        };
        if let Some(what) = what {
            let keeping = Arc::clone(&service);
            let done = tokio::task::spawn_blocking(move || keeping.reconcile_tunnel(what));
            if done.await.is_ok() {
                told = connections;
            }
        }
        // A data plane that refuses is not asked four times a second.
        pause = match service.has_untold() {
            true => pause.saturating_mul(2).min(TUNNEL_LOOK_MAX),
            false => TUNNEL_LOOK,
        };
        let mut stop = stop.clone();
        let _stopped = tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await;
    }
}

/// Resolves when `stop` turns true, or when nobody is left who could turn it.
async fn stopped(mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if stop.changed().await.is_err() {
            return;
        }
    }
}

async fn open(config: GatewayConfig, registry: &prometheus::Registry) -> Result<Service, RunError> {
    let key = read_key(&config.key_file)?;
    fs::create_dir_all(&config.directory)?;
    let store = RocksStore::open(
        &config.directory.join("db"),
        &LAYOUT,
        &RocksOptions::default(),
    )
    .map_err(|source| RunError::Format {
        directory: config.directory.display().to_string(),
        source,
    })?;
    let store: Arc<dyn KvStore> = Arc::new(store);
    let node = ChainClient::new(&config.node);
    let status = wait_for_node(&node).await?;
    let pool = AddressPool {
        base: config.ue_base,
        count: config.ue_count,
    };
    Ok(Service::new(Parts {
        chain: status,
        link: Link::start(&config.dataplane)?,
        copies: Copies::open(&config.directory.join("contents"))?,
        metrics: GatewayMetrics::register(registry)?,
        registry: Registry::open(Arc::clone(&store), pool)?,
        tunnels: Tunnels::open(Arc::clone(&store))?,
        rulings: Rulings::open(Arc::clone(&store))?,
        node,
        store,
        key,
        config,
    }))
}

async fn wait_for_node(node: &ChainClient) -> Result<qlink_types::signature::ChainId, HttpError> {
    let started = tokio::time::Instant::now();
    loop {
        match node.status().await {
            Ok(status) => return Ok(status.chain_id),
            Err(error) if error.is_transient() && started.elapsed() < NODE_WITHIN => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
