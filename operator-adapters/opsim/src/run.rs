//! The process: server, clock, callbacks.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Method, Request, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use qlink_operator::{
    FileJournal, JournalError, KeyError, SIGNATURE_HEADER, SharedKey, TIMESTAMP_HEADER,
    signing_input,
};
use qlink_serve::{ServeConfig, ServeError, Server};
use tokio::sync::mpsc;

use crate::config::{Config, FaultScript};
use crate::http::{Desk, Shared, callback_body, now_ms, router, sign};
use crate::operator::{Callback, Operator};

const TICK: Duration = Duration::from_millis(10);
/// Callbacks that may wait; beyond it they are lost, as with a real platform.
const CALLBACKS_MAX: usize = 1024;
const CALLBACK_TRIES: u32 = 3;
const CALLBACK_PAUSE: Duration = Duration::from_millis(200);
const CALLBACK_DEADLINE: Duration = Duration::from_secs(5);

/// Why the simulated operator stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The shared key.
    #[error("the shared key is of no use")]
    Key(#[from] KeyError),
    /// The address.
    #[error("the server cannot start")]
    Serve(#[from] ServeError),
    /// The durable state; `NewerVersion` means exit 64.
    #[error("the durable state is of no use")]
    Journal(#[from] JournalError),
    /// A file or folder.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A fault script or a record of the state does not read.
    #[error("{path} does not read")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What was wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The callback address.
    #[error("{url:?} is not an http address")]
    CallbackUrl {
        /// What was given.
        url: String,
    },
}

impl RunError {
    /// Whether the configuration or a format is to blame: exit code 64 at the shell.
    #[must_use]
    pub const fn is_bad_configuration(&self) -> bool {
        matches!(
            self,
            Self::Key(_)
                | Self::Format { .. }
                | Self::CallbackUrl { .. }
                | Self::Journal(JournalError::NewerVersion { .. })
        )
    }
}

/// Runs the simulated operator until `shutdown` resolves; `ready` gets the bound address.
///
/// # Errors
///
/// [`RunError`], before `ready` was called for all but a journal that fails later.
pub async fn run(
    config: Config,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let key = SharedKey::load(&config.key_path)?;
    let target = config
        .callback_url
        .as_deref()
        .map(callback_target)
        .transpose()?;
    let desk = open_desk(&config, key.clone())?;
    let server = Server::bind(ServeConfig::at("opsim", config.addr)).await?;
    let shared = Shared {
        desk: Arc::new(Mutex::new(desk)),
        key: key.clone(),
    };
    let (callbacks, waiting) = mpsc::channel(CALLBACKS_MAX);

    ready(server.local_addr());
    let serving = server.run(router(shared.clone()), shutdown);
    tokio::select! {
        _drained = serving => Ok(()),
        failed = keep_time(shared, callbacks) => Err(failed.into()),
        () = call_back(waiting, target, key) => Ok(()),
    }
}

fn open_desk(config: &Config, key: SharedKey) -> Result<Desk, RunError> {
    let script = match &config.faults_path {
        Some(path) => {
            let text = std::fs::read(path).map_err(|source| RunError::File {
                path: path.clone(),
                source,
            })?;
            serde_json::from_slice(&text).map_err(|source| RunError::Format {
                path: path.clone(),
                source,
            })?
        }
        None => FaultScript::default(),
    };
    let mut operator = Operator::new(config.clone(), key, script);
    let Some(dir) = &config.dir else {
        return Ok(Desk {
            operator,
            journal: None,
        });
    };
    std::fs::create_dir_all(dir).map_err(|source| RunError::File {
        path: dir.clone(),
        source,
    })?;
    let path = dir.join("opsim.journal");
    let opened = FileJournal::open(&path)?;
    for record in &opened.records {
        let change = serde_json::from_slice(record).map_err(|source| RunError::Format {
            path: path.clone(),
            source,
        })?;
        operator.apply(change);
    }
    Ok(Desk {
        operator,
        journal: Some(opened.journal),
    })
}

fn callback_target(url: &str) -> Result<Uri, RunError> {
    let refused = || RunError::CallbackUrl {
        url: url.to_owned(),
    };
    let uri: Uri = url.parse().map_err(|_| refused())?;
    let good = uri.scheme_str() == Some("http") && uri.authority().is_some();
    if good { Ok(uri) } else { Err(refused()) }
}

/// Moves transactions on; ends only when the journal fails.
async fn keep_time(shared: Shared, callbacks: mpsc::Sender<Callback>) -> JournalError {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        match shared.with(|desk| desk.tick(now_ms())) {
            Ok(due) => {
                for callback in due {
                    if callbacks.try_send(callback).is_err() {
                        tracing::warn!("callback lost: too many wait");
                    }
                }
            }
            Err(error) => return error,
        }
    }
}

async fn call_back(mut waiting: mpsc::Receiver<Callback>, target: Option<Uri>, key: SharedKey) {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    while let Some(callback) = waiting.recv().await {
        let Some(target) = &target else { continue };
        let body = Bytes::from(callback_body(&callback.transaction).await);
        for _ in 0..callback.copies {
            deliver(&client, target, &key, &body).await;
        }
    }
}

async fn deliver(
    client: &Client<HttpConnector, Full<Bytes>>,
    target: &Uri,
    key: &SharedKey,
    body: &Bytes,
) {
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    for _ in 0..CALLBACK_TRIES {
        let time = now_ms();
        let signature = sign(key, &signing_input("POST", path, time, body));
        let request = Request::builder()
            .method(Method::POST)
            .uri(target)
            .header(header::CONTENT_TYPE, "application/json")
            .header(TIMESTAMP_HEADER, time)
            .header(SIGNATURE_HEADER, signature)
            .body(Full::new(body.clone()));
        let Ok(request) = request else { return };
        match tokio::time::timeout(CALLBACK_DEADLINE, client.request(request)).await {
            Ok(Ok(response)) if response.status().is_success() => return,
            _ => tokio::time::sleep(CALLBACK_PAUSE).await,
        }
    }
    tracing::warn!("callback given up");
}
