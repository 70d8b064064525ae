//! The thread that answers over HTTP.
//!
//! A runtime of one thread, beside workers and control thread: nothing that it does can make a
//! packet wait.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use prometheus::Registry;
use qlink_io::clock;
use qlink_serve::{Problem, ServeConfig, ServeError, Server, families_response};
use tokio::sync::watch;

use super::arena::families;
use super::control::ControlMetrics;
use super::standing::{Hindrance, Phase, Standing};
use crate::process::DataplaneError;

/// How long an answer in flight may still take at the end.
const DRAIN: Duration = Duration::from_secs(1);

/// Connections at one time (chosen: a few collectors and load balancers).
const CONNECTIONS_MAX: usize = 32;

/// Everything that is told, and the thread that tells it where there is one.
#[derive(Debug)]
pub(crate) struct MetricsEndpoint {
    pub(crate) control: ControlMetrics,
    pub(crate) standing: Arc<Standing>,
    thread: Option<(watch::Sender<bool>, JoinHandle<()>)>,
}

/// What the routes need.
#[derive(Debug)]
struct Told {
    registry: Registry,
    standing: Arc<Standing>,
}

impl MetricsEndpoint {
    /// Listens on `address`, if any.
    ///
    /// # Errors
    ///
    /// [`DataplaneError`] when the address is not to be had.
    pub(crate) fn open(address: Option<SocketAddr>) -> Result<Self, DataplaneError> {
        let registry = Registry::new();
        let control = ControlMetrics::register(&registry)?;
        let standing = Arc::new(Standing::new());
        let told = Told {
            registry,
            standing: Arc::clone(&standing),
        };
        let thread = address.map(|address| listen(address, told)).transpose()?;
        Ok(Self {
            control,
            standing,
            thread,
        })
    }
}

impl Drop for MetricsEndpoint {
    fn drop(&mut self) {
        self.standing.enter(Phase::Stopping);
        if let Some((stop, thread)) = self.thread.take() {
            stop.send_replace(true);
            if thread.join().is_err() {
                tracing::error!("the thread for metrics ended by a panic");
            }
        }
    }
}

type Ready = SyncSender<Result<SocketAddr, ServeError>>;

fn listen(
    address: SocketAddr,
    told: Told,
) -> Result<(watch::Sender<bool>, JoinHandle<()>), DataplaneError> {
    let (stop, stopped) = watch::channel(false);
    let (ready, heard) = sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_name("qlink-probe")
        .build()?;
    let name = std::thread::Builder::new().name("qlink-metrics".into());
    let thread = name.spawn(move || runtime.block_on(serve(address, told, &ready, stopped)))?;
    match heard.recv() {
        Ok(Ok(address)) => {
            tracing::info!(%address, "metrics are served");
            Ok((stop, thread))
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(io::Error::other("the thread for metrics ended at once").into()),
    }
}

async fn serve(address: SocketAddr, told: Told, ready: &Ready, mut stop: watch::Receiver<bool>) {
    let config = ServeConfig {
        drain_timeout: DRAIN,
        max_connections: CONNECTIONS_MAX,
        max_connections_per_ip: CONNECTIONS_MAX,
        max_body_bytes: 0,
        ..ServeConfig::at("dataplane", address)
    };
    let server = match Server::bind(config).await {
        Ok(server) => server,
        Err(error) => return drop(ready.send(Err(error))),
    };
    if let Err(error) = server.metrics().register(&told.registry) {
        tracing::error!(%error, "the listener's own counters are not served");
    }
    if ready.send(Ok(server.local_addr())).is_err() {
        return;
    }
    let told = Arc::new(told);
    let drained = server.run(router(told), async move {
        // An error says that nobody is left who could ask for a stop.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    let drained = drained.await;
    tracing::debug!(?drained, "metrics are served no more");
}

fn router(told: Arc<Told>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async || Problem::of_status(StatusCode::NOT_FOUND, "no such resource"))
        .with_state(told)
}

async fn metrics(State(told): State<Arc<Told>>) -> Response {
    let mut all = told.registry.gather();
    // Before the start there are no arenas: what is there already is told.
    let arenas = told.standing.arenas().map(families).transpose();
    match arenas {
        Ok(arenas) => all.extend(arenas.into_iter().flatten()),
        Err(error) => tracing::error!(%error, "the workers' counters are not served"),
    }
    families_response(&all)
}

/// Workers may have to be waited for, so they are asked on another thread.
async fn readyz(State(told): State<Arc<Told>>) -> Result<&'static str, Problem> {
    let check = move || told.standing.check(clock::now_ns());
    let checked = tokio::task::spawn_blocking(check).await;
    let refused = |code, detail: String| {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::new(status, code, detail).with_retry_after(1)
    };
    match checked {
        Ok(Ok(())) => Ok("ready\n"),
        Ok(Err(hindrance)) => Err(refused(code(hindrance), hindrance.to_string())),
        Err(error) => Err(refused("not_ready", error.to_string())),
    }
}

/// The stable name of a hindrance.
const fn code(hindrance: Hindrance) -> &'static str {
    match hindrance {
        Hindrance::Starting => "starting",
        Hindrance::Stopping => "stopping",
        Hindrance::ControlAway(_) => "control_away",
        Hindrance::WorkerAway(_) => "worker_away",
        Hindrance::PfcpJournal => "pfcp_journal",
        Hindrance::ControlJournal => "control_journal",
    }
}
