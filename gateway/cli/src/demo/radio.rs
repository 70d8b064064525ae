//! Talking to BaseStation, viewers and origin over their control sockets, from async code.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use qlink_localnet::{ControlClient, ControlError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a process may take to open its control socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control connection shared by tasks; calls run one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Control(Arc<Mutex<ControlClient>>);

impl Control {
    /// Connects to the process that serves `socket`.
    pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let path = socket.to_owned();
        let connected =
            tokio::task::spawn_blocking(move || ControlClient::connect(&path, PATIENCE)).await?;
        let client = connected.with_context(|| format!("control socket {}", socket.display()))?;
        Ok(Self(Arc::new(Mutex::new(client))))
    }

    /// One call. The inner result is the process's own answer.
    pub(crate) async fn call<R, T>(&self, request: R) -> anyhow::Result<Result<T, String>>
    where
        R: Serialize + Send + 'static,
        T: DeserializeOwned + Send + 'static,
    {
        let client = Arc::clone(&self.0);
        let answer = tokio::task::spawn_blocking(move || {
            client
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .call(&request)
        })
        .await?;
        match answer {
            Ok(value) => Ok(Ok(value)),
            Err(ControlError::Refused(reason)) => Ok(Err(reason)),
            Err(error) => Err(error.into()),
        }
    }

    /// One call that must not be refused.
    pub(crate) async fn ask<R, T>(&self, request: R) -> anyhow::Result<T>
    where
        R: Serialize + Send + 'static,
        T: DeserializeOwned + Send + 'static,
    {
        self.call(request)
            .await?
            .map_err(|reason| anyhow::anyhow!("refused: {reason}"))
    }

    /// Several calls at once; answers in the order of `requests`.
    pub(crate) async fn ask_all<R, T>(&self, requests: Vec<R>) -> anyhow::Result<Vec<T>>
    where
        R: Serialize + Send + 'static,
        T: DeserializeOwned + Send + 'static,
    {
        let client = Arc::clone(&self.0);
        let answers = tokio::task::spawn_blocking(move || -> Result<Vec<T>, ControlError> {
            let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
            let mut ids = Vec::with_capacity(requests.len());
            for request in &requests {
                ids.push(client.submit(request)?);
            }
            ids.into_iter().map(|id| client.wait(id)).collect()
        });
        Ok(answers.await??)
    }
}
