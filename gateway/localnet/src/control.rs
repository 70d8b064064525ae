//! The simulators' control socket: JSON lines over a Unix stream socket (mode 0600).
//!
//! ```text
//! -> {"id":1,"op":"watch","viewer":"10.1.0.7"}
//! <- {"id":1,"ok":{}}
//! -> {"id":2,"op":"fetch","script":{...}}
//! <- {"id":2,"error":"no viewer at 10.1.0.9"}
//! ```
//! `id` is the caller's choice. An answer may come long after its request and after later ones'
//! answers. A line that is no request is answered with `"id":null`.
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Callers at a time; a further one is refused.
const CALLERS_MAX: usize = 16;

/// Longest request line, in bytes.
const LINE_MAX: usize = 1024 * 1024;

/// Longest answer that may wait for a caller, in bytes; a caller that reads slower is dropped.
const BACKLOG_MAX: usize = 16 * 1024 * 1024;

/// Why a control call failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The socket failed.
    #[error("control socket {path}")]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// An answer or request is not what was agreed.
    #[error("unreadable control message")]
    Format(#[from] serde_json::Error),
    /// The other side refused.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side hung up.
    #[error("control connection closed")]
    Closed,
}

/// Names a caller's request, so that it can be answered later.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Caller {
    connection: u64,
    id: Value,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    broken: bool,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    #[serde(flatten)]
    request: Value,
}

/// The serving end.
#[derive(Debug)]
pub(crate) struct ControlServer {
    path: PathBuf,
    listener: UnixListener,
    connections: Vec<Connection>,
    next_number: u64,
}

impl ControlServer {
    pub(crate) fn bind(path: &Path) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Socket {
            path: path.to_owned(),
            source,
        };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, mode).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            listener,
            connections: Vec::new(),
            next_number: 0,
        })
    }

    /// Descriptors to wait on.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let connections = self
            .connections
            .iter()
            .map(|connection| connection.stream.as_fd());
        std::iter::once(self.listener.as_fd()).chain(connections)
    }

    /// Takes new callers and their complete lines; what is no request is answered here.
    pub(crate) fn requests<R: DeserializeOwned>(&mut self) -> Vec<(Caller, R)> {
        self.accept();
        let mut requests = Vec::new();
        for connection in &mut self.connections {
            for line in connection.lines() {
                let parsed = serde_json::from_slice::<Envelope>(&line)
                    .map_err(|error| (Value::Null, error))
                    .and_then(|envelope| {
                        let Envelope { id, request } = envelope;
                        serde_json::from_value(request)
                            .map(|r| (id.clone(), r))
                            .map_err(|e| (id, e))
                    });
                match parsed {
                    Ok((id, request)) => {
                        requests.push((
                            Caller {
                                connection: connection.number,
                                id,
                            },
                            request,
                        ));
                    }
                    Err((id, error)) => {
                        connection.answer(&json!({"id": id, "error": error.to_string()}));
                    }
                }
            }
        }
        self.connections.retain(|connection| !connection.broken);
        requests
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() < CALLERS_MAX && stream.set_nonblocking(true).is_ok() {
                self.next_number = self.next_number.wrapping_add(1);
                self.connections.push(Connection {
                    number: self.next_number,
                    stream,
                    input: Vec::new(),
                    output: Vec::new(),
                    broken: false,
                });
            }
        }
    }

    /// Answers a request; a caller that has gone is nobody's loss.
    pub(crate) fn answer<T: Serialize>(&mut self, caller: &Caller, answer: Result<&T, String>) {
        let message = match answer.map(serde_json::to_value) {
            Ok(Ok(value)) => json!({"id": caller.id, "ok": value}),
            Ok(Err(error)) => json!({"id": caller.id, "error": error.to_string()}),
            Err(reason) => json!({"id": caller.id, "error": reason}),
        };
        let mut connections = self.connections.iter_mut();
        if let Some(connection) = connections.find(|c| c.number == caller.connection) {
            connection.answer(&message);
        }
    }

    /// Sends what waits. Returns whether something still waits.
    pub(crate) fn flush(&mut self) -> bool {
        self.connections.iter_mut().for_each(Connection::flush);
        self.connections
            .iter()
            .any(|connection| !connection.output.is_empty())
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.flush();
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Connection {
    fn lines(&mut self) -> Vec<Vec<u8>> {
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.broken = true,
                Ok(len) => self
                    .input
                    .extend_from_slice(chunk.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => self.broken |= error.kind() != io::ErrorKind::WouldBlock,
            }
            let more = self.input.len().is_multiple_of(chunk.len()) && !self.input.is_empty();
            if self.broken || !more || self.input.len() > LINE_MAX {
                break;
            }
        }
        let mut lines = Vec::new();
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let rest = self.input.split_off(end.saturating_add(1));
            lines.push(std::mem::replace(&mut self.input, rest));
        }
        self.broken |= self.input.len() > LINE_MAX;
        lines
    }

    fn answer(&mut self, message: &Value) {
        self.output
            .extend_from_slice(message.to_string().as_bytes());
        self.output.push(b'\n');
        self.broken |= self.output.len() > BACKLOG_MAX;
        self.flush();
    }

    fn flush(&mut self) {
        while !self.output.is_empty() && !self.broken {
            match self.stream.write(&self.output) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.broken = true,
            }
        }
    }
}

/// The calling end.
#[derive(Debug)]
pub struct ControlClient {
    path: PathBuf,
    reader: BufReader<UnixStream>,
    next_id: u64,
    /// Answers that came while another was waited for.
    early: Vec<(u64, Result<Value, String>)>,
}

impl ControlClient {
    /// Connects; waits up to `patience` for the socket to appear.
    ///
    /// # Errors
    ///
    /// [`ControlError::Socket`].
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ControlError> {
        let deadline = std::time::Instant::now().checked_add(patience);
        loop {
            match UnixStream::connect(path) {
                Ok(stream) => {
                    let reader = BufReader::new(stream);
                    return Ok(Self {
                        path: path.to_owned(),
                        reader,
                        next_id: 1,
                        early: Vec::new(),
                    });
                }
                Err(source) => {
                    if deadline.is_none_or(|deadline| std::time::Instant::now() >= deadline) {
                        return Err(ControlError::Socket {
                            path: path.to_owned(),
                            source,
                        });
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    /// Sends a request without waiting; its answer comes from [`Self::wait`] under the number
    /// returned.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn submit<R: Serialize>(&mut self, request: &R) -> Result<u64, ControlError> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let mut message = serde_json::to_value(request)?;
        if let Some(object) = message.as_object_mut() {
            object.insert("id".to_owned(), id.into());
        }
        let line = format!("{message}\n");
        self.reader
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|source| ControlError::Socket {
                path: self.path.clone(),
                source,
            })?;
        Ok(id)
    }

    /// Waits for the answer to a submitted request.
    ///
    /// # Errors
    ///
    /// [`ControlError`]; [`ControlError::Refused`] holds the other side's reason.
    pub fn wait<T: DeserializeOwned>(&mut self, id: u64) -> Result<T, ControlError> {
        let answer = loop {
            if let Some(at) = self.early.iter().position(|(early, _)| *early == id) {
                break self.early.swap_remove(at).1;
            }
            let (answered, answer) = self.next_answer()?;
            if answered == Some(id) {
                break answer;
            }
            match answered {
                Some(other) => self.early.push((other, answer)),
                None => return Err(ControlError::Refused(answer.err().unwrap_or_default())),
            }
        };
        answer
            .map_err(ControlError::Refused)
            .and_then(|value| Ok(serde_json::from_value(value)?))
    }

    fn next_answer(&mut self) -> Result<(Option<u64>, Result<Value, String>), ControlError> {
        #[derive(Deserialize)]
        struct Answer {
            id: Option<u64>,
            ok: Option<Value>,
            error: Option<String>,
        }
        let mut line = String::new();
        let read = self
            .reader
            .read_line(&mut line)
            .map_err(|source| ControlError::Socket {
                path: self.path.clone(),
                source,
            })?;
        if read == 0 {
            return Err(ControlError::Closed);
        }
        let answer: Answer = serde_json::from_str(&line)?;
        Ok((
            answer.id,
            answer
                .error
                .map_or_else(|| Ok(answer.ok.unwrap_or_default()), Err),
        ))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub fn call<R: Serialize, T: DeserializeOwned>(
        &mut self,
        request: &R,
    ) -> Result<T, ControlError> {
        let id = self.submit(request)?;
        self.wait(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "op", rename_all = "snake_case")]
    enum Ask {
        Echo { text: String },
    }

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let mut server = ControlServer::bind(&path).unwrap();
        let mut client = ControlClient::connect(&path, Duration::ZERO).unwrap();

        let ids = ["a", "b"].map(|t| client.submit(&Ask::Echo { text: t.to_owned() }).unwrap());
        let requests = server.requests::<Ask>();
        for (caller, Ask::Echo { text }) in requests.iter().rev() {
            server.answer(caller, Ok(text));
        }

        assert_eq!(requests.len(), 2);
        assert_eq!(client.wait::<String>(ids[0]).unwrap(), "a");
        assert_eq!(client.wait::<String>(ids[1]).unwrap(), "b");
    }

    #[test]
    fn malformed_lines_are_answered_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let mut server = ControlServer::bind(&path).unwrap();
        let mut stream = UnixStream::connect(&path).unwrap();

        stream
            .write_all(b"nonsense\n{\"id\":7,\"op\":\"fly\"}\n")
            .unwrap();
        assert!(server.requests::<Ask>().is_empty());

        let mut lines = BufReader::new(stream).lines();
        assert!(lines.next().unwrap().unwrap().starts_with(r#"{"error":"#));
        let second: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(second["id"], 7);
    }

    #[test]
    fn socket_is_closed_to_other_users() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");

        let _server = ControlServer::bind(&path).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
