//! The local control socket: JSON lines over a Unix stream socket (mode 0600).
//!
//! ```text
//! -> {"id":1,"op":"open","request":{"radio":"127.1.0.9:4000","acceptance":{...}}}
//! <- {"id":1,"ok":{"session":"ses_...","ue_address":"10.1.0.7",...}}
//! -> {"id":2,"op":"close","session":"ses_...","viewer_receipt":{...}}
//! <- {"id":2,"error":"no session ses_... here"}
//! ```
//! `radio` is absent where the radio side is an interface. Operations: `open`, `close`, `session`
//! (one session's counters), `count` (all counters and drops), `tap` (asks the tap), `stop`.
//! Requests of one connection are answered in order; integers are strings.
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use qlink_types::ids::SessionId;
use qlink_types::receipt::SignedReceipt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::agent::{Agent, AgentError, OpenRequest};
use crate::forward::{DropReason, NetworkCount};
use crate::worker::WorkerCount;

/// Connections at a time; a further one is hung up on.
const CONNECTIONS_MAX: usize = 16;

/// Longest request, in bytes.
const LINE_MAX: u64 = 64 * 1024;

/// How often a waiting connection looks at the stop flag.
const PATIENCE: Duration = Duration::from_millis(100);

/// A control request without its `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Opens a session; answered with [`crate::Opened`].
    Open {
        /// The subscriber's wish.
        request: Box<OpenRequest>,
    },
    /// Closes a session; answered with [`crate::Closed`].
    Close {
        /// Which.
        session: SessionId,
        /// The viewer's final receipt, passed on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        viewer_receipt: Option<Box<SignedReceipt>>,
    },
    /// Answered with [`NetworkCounters`].
    Session {
        /// Which.
        session: SessionId,
    },
    /// Answered with [`Counters`].
    Count {},
    /// Asks the tap; answered with what it says.
    Tap {
        /// The question.
        question: Value,
    },
    /// Ends the process; answered with `{}`.
    Stop {},
}

/// Network bytes and packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCounters {
    /// Inner IP bytes from subscribers.
    #[serde(with = "qlink_types::text")]
    pub uplink_bytes: u64,
    /// Inner IP bytes to subscribers.
    #[serde(with = "qlink_types::text")]
    pub downlink_bytes: u64,
    /// Packets from subscribers.
    #[serde(with = "qlink_types::text")]
    pub uplink_packets: u64,
    /// Packets to subscribers.
    #[serde(with = "qlink_types::text")]
    pub downlink_packets: u64,
}

impl From<NetworkCount> for NetworkCounters {
    fn from(count: NetworkCount) -> Self {
        Self {
            uplink_bytes: count.uplink_bytes,
            downlink_bytes: count.downlink_bytes,
            uplink_packets: count.uplink_packets,
            downlink_packets: count.downlink_packets,
        }
    }
}

/// All counters of a BaseStation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// All sessions, closed ones included.
    pub network: NetworkCounters,
    /// Sessions open now.
    #[serde(with = "qlink_types::text")]
    pub sessions: u64,
    /// GTP-U echo requests answered.
    #[serde(with = "qlink_types::text")]
    pub echoes: u64,
    /// GTP-U error indications received.
    #[serde(with = "qlink_types::text")]
    pub error_indications: u64,
    /// Packets dropped, by reason; every reason is listed.
    pub drops: BTreeMap<DropReason, String>,
}

impl From<WorkerCount> for Counters {
    fn from(count: WorkerCount) -> Self {
        let drops = DropReason::ALL
            .iter()
            .map(|why| (*why, count.drops.of(*why).to_string()));
        Self {
            network: count.network.into(),
            sessions: count.sessions as u64,
            echoes: count.echoes,
            error_indications: count.error_indications,
            drops: drops.collect(),
        }
    }
}

/// Serves the control socket until `stop` is set or a caller asks for it.
///
/// # Errors
///
/// When the socket cannot be created or accepting fails.
pub(crate) fn serve(path: &Path, agent: &Agent, stop: &AtomicBool) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let connections = AtomicUsize::new(0);
    let result = std::thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) if connections.load(Ordering::Relaxed) < CONNECTIONS_MAX => {
                    connections.fetch_add(1, Ordering::Relaxed);
                    let connections = &connections;
                    scope.spawn(move || {
                        if let Err(error) = converse(&stream, agent, stop) {
                            tracing::debug!(%error, "control connection failed");
                        }
                        connections.fetch_sub(1, Ordering::Relaxed);
                    });
                }
                Ok(_) => tracing::warn!(limit = CONNECTIONS_MAX, "too many control connections"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    use std::os::fd::AsFd as _;
                    qlink_io::wait::wait(&[listener.as_fd()], Some(PATIENCE))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    });
    stop.store(true, Ordering::Relaxed);
    let _ = std::fs::remove_file(path);
    result
}

fn converse(mut stream: &UnixStream, agent: &Agent, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let room = LINE_MAX.saturating_sub(line.len() as u64);
        match reader.by_ref().take(room).read_until(b'\n', &mut line) {
            Ok(_) if line.last() == Some(&b'\n') => {
                let answer = answer(&line, agent, stop);
                stream.write_all(format!("{answer}\n").as_bytes())?;
                line.clear();
            }
            Ok(_) => return Ok(()),
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn answer(line: &[u8], agent: &Agent, stop: &AtomicBool) -> Value {
    let mut message: Value = match serde_json::from_slice(line) {
        Ok(message) => message,
        Err(error) => return json!({"id": null, "error": error.to_string()}),
    };
    let id = message
        .as_object_mut()
        .and_then(|object| object.remove("id"))
        .unwrap_or_default();
    let result = serde_json::from_value(message)
        .map_err(|error| error.to_string())
        .and_then(|request| perform(request, agent, stop));
    match result {
        Ok(value) => json!({"id": id, "ok": value}),
        Err(reason) => json!({"id": id, "error": reason}),
    }
}

fn perform(request: ControlRequest, agent: &Agent, stop: &AtomicBool) -> Result<Value, String> {
    match request {
        ControlRequest::Open { request } => told(agent.open(*request)),
        ControlRequest::Close {
            session,
            viewer_receipt,
        } => told(agent.close(session, viewer_receipt.map(|receipt| *receipt))),
        ControlRequest::Session { session } => {
            let count = agent.worker().session(session).map_err(AgentError::from);
            told(count.and_then(|count| {
                count
                    .map(NetworkCounters::from)
                    .ok_or(AgentError::UnknownSession(session))
            }))
        }
        ControlRequest::Count {} => told(
            agent
                .worker()
                .count()
                .map(Counters::from)
                .map_err(AgentError::from),
        ),
        ControlRequest::Tap { question } => agent
            .worker()
            .ask_tap(question)
            .map_err(|error| error.to_string())?,
        ControlRequest::Stop {} => {
            stop.store(true, Ordering::Relaxed);
            Ok(json!({}))
        }
    }
}

fn told<T: Serialize>(result: Result<T, AgentError>) -> Result<Value, String> {
    let value = result.map_err(|error| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}
