//! The gateway's end of the control socket to its data plane: one thread, one request at a time.
//!
//! Every request may be repeated: the data plane answers a repetition as it did the first time. So
//! when the connection breaks in the middle of an exchange, the request is sent again on the next
//! one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qlink_io::seqpacket::{SeqConn, SeqError};
use qlink_pfcp::{
    Answer, DataPlaneInfo, MAX_MESSAGE_BYTES, Request, decode_answer, encode_request,
};

/// Requests that may wait; more are refused at once.
const QUEUE: usize = 64;

/// How long one exchange may take, reconnecting included.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Pause between attempts to connect.
const RECONNECT: Duration = Duration::from_millis(50);

/// After which silence a data plane is greeted (chosen: a BaseStation takes longer to notice).
const IDLE: Duration = Duration::from_secs(1);

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Too many requests wait.
    #[error("{QUEUE} requests to the data plane wait already")]
    Overloaded,
    /// No data plane answered in time.
    #[error("the data plane at {socket} does not answer: {detail}")]
    Down {
        /// Its socket.
        socket: String,
        /// What happened last.
        detail: String,
    },
    /// The link has ended.
    #[error("the link to the data plane has ended")]
    Ended,
}

type Reply = SyncSender<Result<Answer, LinkError>>;

/// A handle to the link; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    requests: SyncSender<(Request, Reply)>,
    info: Arc<Mutex<Option<DataPlaneInfo>>>,
    connections: Arc<AtomicU64>,
}

impl Link {
    /// Starts the link's thread; it connects, and connects again whenever the data plane restarts.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub(crate) fn start(socket: &Path) -> std::io::Result<Self> {
        let (requests, waiting) = sync_channel(QUEUE);
        let info = Arc::new(Mutex::new(None));
        let connections = Arc::new(AtomicU64::new(0));
        let thread = LinkThread {
            socket: socket.to_owned(),
            info: Arc::clone(&info),
            connections: Arc::clone(&connections),
            connection: None,
            heard: Instant::now(),
            sequence: 0,
        };
        thread::Builder::new()
            .name("dataplane-link".to_owned())
            .spawn(move || thread.run(&waiting))?;
        Ok(Self {
            requests,
            info,
            connections,
        })
    }

    /// Who the data plane is, once it has said so.
    #[must_use]
    pub(crate) fn info(&self) -> Option<DataPlaneInfo> {
        self.info
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How often a data plane was reached: each time it may be another process, with other state.
    #[must_use]
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Asks and waits for the answer. Blocks: call it outside of async code.
    ///
    /// # Errors
    ///
    /// [`LinkError`] when there is no answer; whether the request took effect is then unknown, and
    /// asking again is sound.
    pub(crate) fn request(&self, request: Request) -> Result<Answer, LinkError> {
        let (reply, answer) = sync_channel(1);
        self.requests
            .try_send((request, reply))
            .map_err(|error| match error {
                std::sync::mpsc::TrySendError::Full(_) => LinkError::Overloaded,
                std::sync::mpsc::TrySendError::Disconnected(_) => LinkError::Ended,
            })?;
        answer.recv().map_err(|_| LinkError::Ended)?
    }
}

struct LinkThread {
    socket: PathBuf,
    info: Arc<Mutex<Option<DataPlaneInfo>>>,
    connections: Arc<AtomicU64>,
    connection: Option<SeqConn>,
    /// When an exchange ended last.
    heard: Instant,
    sequence: u32,
}

impl LinkThread {
    fn run(mut self, waiting: &Receiver<(Request, Reply)>) {
        loop {
            // Between requests the link keeps itself connected, so `info` is known early.
            if self.connection.is_none() {
                let _still_down = self.connect();
            }
            match waiting.recv_timeout(RECONNECT) {
                Ok((request, reply)) => {
                    let answer = self.ask(&request);
                    // A caller that has gone needs no answer.
                    let _gone = reply.send(answer);
                }
                Err(RecvTimeoutError::Timeout) => self.greet_if_idle(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Greets a data plane of which nothing was asked for a while: one that has ended is found out
    /// before somebody needs it, and so is another in its place.
    fn greet_if_idle(&mut self) {
        if self.connection.is_none() || self.heard.elapsed() < IDLE {
            return;
        }
        if self.exchange(&Request::Hello).is_err() {
            self.connection = None;
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, LinkError> {
        let started = Instant::now();
        let mut detail = "no connection".to_owned();
        while started.elapsed() < DEADLINE {
            if self.connection.is_none()
                && let Err(error) = self.connect()
            {
                detail = error;
                thread::sleep(RECONNECT);
                continue;
            }
            match self.exchange(request) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    detail = error;
                    self.connection = None;
                }
            }
        }
        Err(LinkError::Down {
            socket: self.socket.display().to_string(),
            detail,
        })
    }

    fn connect(&mut self) -> Result<(), String> {
        let connection = SeqConn::connect(&self.socket).map_err(|error| describe(&error))?;
        self.connection = Some(connection);
        match self.exchange(&Request::Hello) {
            Ok(Answer::Hello { info }) => {
                *self.info.lock().unwrap_or_else(PoisonError::into_inner) = Some(info);
                self.connections.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Ok(other) => {
                self.connection = None;
                Err(format!("unexpected answer to hello: {other:?}"))
            }
            Err(error) => {
                self.connection = None;
                Err(error)
            }
        }
    }

    fn exchange(&mut self, request: &Request) -> Result<Answer, String> {
        let connection = self.connection.as_ref().ok_or("no connection")?;
        self.sequence = self.sequence.wrapping_add(1);
        let message = encode_request(self.sequence, request).map_err(|error| error.to_string())?;
        connection
            .send(&message)
            .map_err(|error| describe(&error))?;
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let length = connection
            .recv(&mut buffer, Some(ANSWER))
            .map_err(|error| describe(&error))?
            .ok_or("no answer in time")?;
        let answer = buffer.get(..length).unwrap_or_default();
        let (sequence, answer) = decode_answer(answer).map_err(|error| error.to_string())?;
        self.heard = Instant::now();
        if sequence == self.sequence {
            Ok(answer)
        } else {
            Err(format!("answer {sequence} to request {}", self.sequence))
        }
    }
}

fn describe(error: &SeqError) -> String {
    error.to_string()
}
