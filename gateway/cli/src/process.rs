//! Running one process of the system: read its configuration, run until told to stop, say on
//! standard output when it is ready.

use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use qlink_basestation::{HttpGateway, Tap, TapDirection, TapPacket};
use qlink_localnet::{
    Catalog, ControlClient, Direction, N3Capture, OriginServiceConfig, StationPacket, StationTap,
    ViewersConfig,
};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config;
use crate::output::{self, BadConfiguration};

/// How long a control socket may take to appear.
const CALL_PATIENCE: Duration = Duration::from_secs(1);

/// The one option of every process.
#[derive(Debug, Args)]
pub(crate) struct ConfigOption {
    /// Configuration file (TOML); keys are overridden by QLINK__SECTION__KEY.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// BaseStation only, for simulated networks: keep the simulators' account at the BaseStation,
    /// and capture N3 into this file unless it is empty.
    #[arg(long, value_name = "PCAPNG", num_args = 0..=1, default_missing_value = "", hide = true)]
    pub(crate) sim_tap: Option<String>,
}

/// Options of `qlink dataplane`.
#[derive(Debug, Args)]
pub(crate) struct DataplaneOptions {
    #[command(flatten)]
    config: ConfigOption,
    /// What carries N3, in place of the configuration's `backend`: auto, udp, uring, xdp,
    /// dpdk, packet (a tap that forwards nothing).
    #[arg(long, value_name = "BACKEND")]
    dataplane: Option<qlink_dataplane::N3Backend>,
}

/// Simulated counterparts.
#[derive(Debug, Subcommand)]
pub(crate) enum Sim {
    /// Devices with TCP/IP stacks of their own behind a lossy link.
    Viewers(ConfigOption),
    /// A content server with a TCP/IP stack of its own.
    Origin(ConfigOption),
    /// Send one request to a control socket and print the answer.
    Call {
        /// The socket.
        socket: PathBuf,
        /// The request, a JSON object.
        request: String,
    },
}

/// The runtime of a process: one, with two workers.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        .enable_all()
        .build()
        .context("the system gives no threads")
}

/// Resolves at SIGTERM or SIGINT.
pub(crate) async fn terminated() {
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without signal handlers the default action ends the process, which is what is asked.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Tells a parent process where this one listens.
fn announce(ready: &impl Display) {
    output::line(&json!({ "ready": ready.to_string() }).to_string());
}

/// A flag that turns true at SIGTERM or SIGINT, for processes without async code.
fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            if let Ok(runtime) = runtime {
                runtime.block_on(terminated());
                shared.store(true, Ordering::Relaxed);
            }
        })?;
    Ok(flag)
}

/// Runs an async process with a watch that turns true when it shall stop.
fn run_async<F, Fut>(body: F) -> anyhow::Result<()>
where
    F: FnOnce(watch::Receiver<bool>) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let runtime = runtime()?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let signals = tokio::spawn(async move {
            terminated().await;
            // Nobody listens any more when the process ends by itself.
            let _ended = stop.send(true);
        });
        let result = body(stopped).await;
        signals.abort();
        result
    })
}

async fn until(mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if stop.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Marks an error whose reason is the configuration or a format.
pub(crate) fn judged(is_bad_configuration: bool, error: impl Into<anyhow::Error>) -> anyhow::Error {
    if is_bad_configuration {
        BadConfiguration(error.into()).into()
    } else {
        error.into()
    }
}

/// `qlink node`.
pub(crate) fn node(option: &ConfigOption) -> anyhow::Result<()> {
    let config: qlink_chain::NodeConfig = config::read(&option.config)?;
    run_async(|stop| async move {
        qlink_chain::run(config, |address| announce(&address), until(stop))
            .await
            .map_err(|error| judged(error.is_bad_configuration(), error))
    })
}

/// `qlink gateway`.
pub(crate) fn gateway(option: &ConfigOption) -> anyhow::Result<()> {
    let config: qlink_gateway::GatewayConfig = config::read(&option.config)?;
    run_async(|stop| async move {
        qlink_gateway::run(config, |address| announce(&address), stop)
            .await
            .map_err(|error| judged(error.is_bad_configuration(), error))
    })
}

/// `qlink dataplane`.
pub(crate) fn dataplane(options: &DataplaneOptions) -> anyhow::Result<()> {
    let mut config: qlink_dataplane::DataplaneConfig = config::read(&options.config.config)?;
    config.backend = options.dataplane.unwrap_or(config.backend);
    let stop = stop_flag()?;
    qlink_dataplane::run(&config, |info| announce(&info.n3), &stop)
        .map_err(|error| judged(error.is_bad_configuration(), error))
}

/// `qlink basestation`.
pub(crate) fn basestation(option: &ConfigOption) -> anyhow::Result<()> {
    let config: qlink_basestation::Config = config::read(&option.config)?;
    let stop = stop_flag()?;
    let api = Box::new(HttpGateway::new(&config.api)?);
    let tap: Box<dyn Tap> = match option.sim_tap.as_deref() {
        None => Box::new(qlink_basestation::NoTap),
        Some(file) => Box::new(SimTap::new(file)?),
    };
    announce(&config.radio);
    let count = qlink_basestation::run(&config, api, tap, &stop)
        .map_err(|error| judged(error.is_bad_configuration(), error))?;
    tracing::info!(?count, "BaseStation has ended");
    Ok(())
}

/// `qlink opsim`.
pub(crate) fn opsim(option: &ConfigOption) -> anyhow::Result<()> {
    let config: opsim::Config = config::read(&option.config)?;
    run_async(|stop| async move {
        opsim::run(config, |address| announce(&address), until(stop))
            .await
            .map_err(|error| judged(error.is_bad_configuration(), error))
    })
}

/// `qlink sim`.
pub(crate) fn sim(sim: &Sim) -> anyhow::Result<()> {
    if let Sim::Call { socket, request } = sim {
        return call(socket, request);
    }
    let stop = stop_flag()?;
    match sim {
        Sim::Viewers(option) => {
            let config: ViewersConfig = config::read(&option.config)?;
            announce(&config.radio);
            let count = qlink_localnet::run_viewers(&config, &stop)?;
            tracing::info!(?count, "simulated viewers have ended");
        }
        Sim::Origin(option) => {
            let config: OriginServiceConfig = config::read(&option.config)?;
            announce(&config.n6);
            let count = qlink_localnet::run_origin(&config, &stop)?;
            tracing::info!(?count, "simulated origin has ended");
        }
        Sim::Call { .. } => {}
    }
    Ok(())
}

fn call(socket: &std::path::Path, request: &str) -> anyhow::Result<()> {
    let request: Value = serde_json::from_str(request).context("the request is not JSON")?;
    let mut client = ControlClient::connect(socket, CALL_PATIENCE)?;
    let answer: Value = client.call(&request)?;
    output::line(&answer.to_string());
    Ok(())
}

/// Joins the BaseStation's tap with the simulators' account.
struct SimTap(StationTap);

impl SimTap {
    fn new(file: &str) -> anyhow::Result<Self> {
        let capture = match file {
            "" => None,
            file => Some(N3Capture::create(std::path::Path::new(file))?),
        };
        Ok(Self(StationTap::new(Catalog::default(), capture)))
    }
}

impl Tap for SimTap {
    fn packet(&mut self, packet: &TapPacket<'_>) {
        self.0.packet(&StationPacket {
            direction: match packet.direction {
                TapDirection::Uplink => Direction::Uplink,
                TapDirection::Downlink => Direction::Downlink,
            },
            from: packet.from,
            to: packet.to,
            head: packet.head,
            inner: packet.inner,
        });
    }

    fn ask(&mut self, question: Value) -> Result<Value, String> {
        self.0.ask(question)
    }
}
