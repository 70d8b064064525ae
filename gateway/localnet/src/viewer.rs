//! One simulated user device: a stack, its connections, the jobs they belong to.
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

use crate::browser::{ResponseReader, encode_request};
use crate::packet::tcp_ports;
use crate::script::{
    CloseKind, ConnectionScript, FetchResult, FetchScript, Order, Outcome, RequestResult,
};
use crate::stack::{SocketSize, Stack, StackClock};

/// First local port, as Linux and RFC 6335 have it.
const PORT_MIN: u16 = 49_152;

/// Jobs that one viewer works on at a time; more are refused.
const JOBS_MAX: usize = 64;

/// Names a job in the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Why a viewer refuses a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JobRefused {
    /// The viewer has its fill of jobs.
    #[error("viewer already works on {JOBS_MAX} jobs")]
    Busy,
    /// The script has no connection or a connection has no request.
    #[error("script holds nothing to fetch")]
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Talking,
    Quiet,
    Closing,
    Ended,
}

#[derive(Debug)]
struct Connection {
    job: JobId,
    index: usize,
    handle: SocketHandle,
    local_port: u16,
    script: ConnectionScript,
    host: String,
    phase: Phase,
    request: usize,
    outgoing: Vec<u8>,
    sent: usize,
    reader: ResponseReader,
    body_bytes: u64,
    results: Vec<RequestResult>,
}

#[derive(Debug)]
struct Job {
    id: JobId,
    script: FetchScript,
    next: usize,
    started: Instant,
    results: Vec<(usize, Vec<RequestResult>)>,
}

/// A simulated user device with its own address.
#[derive(Debug)]
pub struct Viewer {
    stack: Stack,
    next_port: u16,
    size: SocketSize,
    connections: Vec<Connection>,
    jobs: Vec<Job>,
    /// Local ports of connections that vanished: nothing comes out of them or goes in.
    silent: Vec<u16>,
    last_packet: Instant,
}

impl Viewer {
    /// A device at `address`; `seed` decides its sequence numbers and first port.
    #[must_use]
    pub fn new(
        address: Ipv4Addr,
        mtu: usize,
        seed: u64,
        size: SocketSize,
        clock: StackClock,
    ) -> Self {
        Self {
            stack: Stack::new(address, mtu, seed, clock),
            next_port: PORT_MIN,
            size,
            connections: Vec::new(),
            jobs: Vec::new(),
            silent: Vec::new(),
            last_packet: Instant::now(),
        }
    }

    /// Starts a job.
    ///
    /// # Errors
    ///
    /// [`JobRefused`]; nothing was started then.
    pub fn start(&mut self, id: JobId, script: FetchScript) -> Result<(), JobRefused> {
        if self.jobs.len() >= JOBS_MAX {
            return Err(JobRefused::Busy);
        }
        if script.connections.is_empty() || script.connections.iter().any(|c| c.requests.is_empty())
        {
            return Err(JobRefused::Empty);
        }
        let first = match script.order {
            Order::InTurn => 1,
            Order::AtOnce => script.connections.len(),
        };
        let results = Vec::with_capacity(script.connections.len());
        let mut job = Job {
            id,
            script,
            next: 0,
            started: Instant::now(),
            results,
        };
        for _ in 0..first {
            self.open_next(&mut job);
        }
        self.jobs.push(job);
        Ok(())
    }

    fn open_next(&mut self, job: &mut Job) {
        let index = job.next;
        let Some(script) = job.script.connections.get(index).cloned() else {
            return;
        };
        job.next = index.saturating_add(1);
        let handle = self.stack.add_socket(self.size);
        let local_port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(PORT_MIN);
        let remote = (*job.script.origin.ip(), job.script.origin.port());
        let mut connection = Connection {
            job: job.id,
            index,
            handle,
            local_port,
            script,
            host: job.script.host.clone(),
            phase: Phase::Talking,
            request: 0,
            outgoing: Vec::new(),
            sent: 0,
            reader: ResponseReader::new("GET"),
            body_bytes: 0,
            results: Vec::new(),
        };
        connection.prepare_request();
        if self.stack.connect(handle, remote, local_port).is_err() {
            connection.end(Outcome::Broken);
        }
        self.connections.push(connection);
    }

    /// Takes a packet from the network.
    pub fn push(&mut self, packet: &[u8]) {
        let silent = tcp_ports(packet).is_some_and(|(_, port)| self.silent.contains(&port));
        if !silent {
            self.last_packet = Instant::now();
            self.stack.push(packet);
        }
    }

    /// The next packet for the network.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        while let Some(packet) = self.stack.pop() {
            if !tcp_ports(&packet).is_some_and(|(port, _)| self.silent.contains(&port)) {
                return Some(packet);
            }
        }
        None
    }

    /// Works off what came in and moves every connection on; finished jobs are returned.
    pub fn poll(&mut self, now: Instant) -> Vec<(JobId, FetchResult)> {
        self.stack.poll();
        let quiet_for = now.saturating_duration_since(self.last_packet);
        let Self {
            stack, connections, ..
        } = self;
        for connection in connections.iter_mut() {
            connection.step(stack, quiet_for);
        }
        self.expire(now);
        self.stack.poll();
        self.sweep();
        self.finished(now)
    }

    fn expire(&mut self, now: Instant) {
        let Self {
            stack,
            connections,
            jobs,
            ..
        } = self;
        for job in jobs.iter_mut() {
            let limit = Duration::from_millis(job.script.timeout_ms.into());
            if now.saturating_duration_since(job.started) < limit {
                continue;
            }
            job.next = job.script.connections.len();
            for connection in connections.iter_mut().filter(|c| c.job == job.id) {
                if connection.phase != Phase::Ended {
                    stack.socket(connection.handle).abort();
                    connection.end(Outcome::TimedOut);
                }
            }
        }
    }

    /// Removes ended connections and opens their jobs' next ones.
    fn sweep(&mut self) {
        let (ended, open): (Vec<_>, Vec<_>) = self
            .connections
            .drain(..)
            .partition(|connection| connection.phase == Phase::Ended);
        self.connections = open;
        for connection in ended {
            self.stack.remove_socket(connection.handle);
            if connection.script.close == CloseKind::Vanish {
                self.silent.push(connection.local_port);
            }
            let Some(at) = self.jobs.iter().position(|job| job.id == connection.job) else {
                continue;
            };
            let mut job = self.jobs.swap_remove(at);
            job.results.push((connection.index, connection.results));
            if job.script.order == Order::InTurn {
                self.open_next(&mut job);
            }
            self.jobs.push(job);
        }
    }

    fn finished(&mut self, now: Instant) -> Vec<(JobId, FetchResult)> {
        let connections = &self.connections;
        let busy = |job: &Job| {
            job.next < job.script.connections.len() || connections.iter().any(|c| c.job == job.id)
        };
        let (open, done): (Vec<_>, Vec<_>) = self.jobs.drain(..).partition(busy);
        self.jobs = open;
        done.into_iter()
            .map(|mut job| {
                job.results.sort_by_key(|(index, _)| *index);
                let elapsed = now.saturating_duration_since(job.started).as_millis();
                let result = FetchResult {
                    requests: job.results.into_iter().flat_map(|(_, rows)| rows).collect(),
                    elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
                };
                (job.id, result)
            })
            .collect()
    }

    /// Wall time until [`Self::poll`] has something to do without a new packet.
    pub fn poll_delay(&mut self) -> Option<Duration> {
        let quiet = self.connections.iter().any(|c| c.phase == Phase::Quiet);
        let idle = self.connections.is_empty();
        match self.stack.poll_delay() {
            _ if quiet => Some(Duration::from_millis(1)),
            None if idle => None,
            None => Some(Duration::from_millis(50)),
            Some(delay) => Some(delay),
        }
    }
}

impl Connection {
    fn prepare_request(&mut self) {
        let Some(request) = self.script.requests.get(self.request) else {
            return;
        };
        self.outgoing = encode_request(request, &self.host);
        self.sent = 0;
        self.reader = ResponseReader::new(&request.method);
    }

    fn step(&mut self, stack: &mut Stack, quiet_for: Duration) {
        match self.phase {
            Phase::Talking => self.talk(stack),
            Phase::Quiet => {
                if quiet_for >= Duration::from_millis(self.script.quiet_ms.into()) {
                    self.close(stack);
                }
            }
            Phase::Closing => {
                // What still comes is thrown away, so that the peer's FIN finds an open window.
                while stack
                    .socket(self.handle)
                    .recv(|bytes| (bytes.len(), bytes.len()))
                    .unwrap_or(0)
                    > 0
                {}
                if stack.socket(self.handle).state() == State::Closed {
                    self.phase = Phase::Ended;
                }
            }
            Phase::Ended => {}
        }
    }

    fn talk(&mut self, stack: &mut Stack) {
        let socket = stack.socket(self.handle);
        if socket.state() == State::Closed {
            return self.end(Outcome::Broken);
        }
        if socket.can_send() {
            let rest = self.outgoing.get(self.sent..).unwrap_or_default();
            let sent = socket.send_slice(rest).unwrap_or(0);
            self.sent = self.sent.saturating_add(sent);
        }
        while self.phase == Phase::Talking && stack.socket(self.handle).can_recv() {
            let reader = &mut self.reader;
            let before = reader.body_bytes();
            let fed = stack
                .socket(self.handle)
                .recv(|bytes| match reader.feed(bytes) {
                    Ok(used) => (used, Ok(used)),
                    Err(error) => (bytes.len(), Err(error)),
                });
            let came = self.reader.body_bytes().saturating_sub(before);
            self.body_bytes = self.body_bytes.saturating_add(came);
            match fed {
                Ok(Ok(_)) => self.after_bytes(stack, false),
                Ok(Err(_)) | Err(_) => self.give_up(stack, Outcome::Broken),
            }
        }
        let at_end = {
            let socket = stack.socket(self.handle);
            !socket.may_recv() && !matches!(socket.state(), State::SynSent | State::SynReceived)
        };
        if self.phase == Phase::Talking && at_end {
            self.after_bytes(stack, true);
            if self.phase == Phase::Talking {
                self.give_up(stack, Outcome::Broken);
            }
        }
    }

    fn after_bytes(&mut self, stack: &mut Stack, at_close: bool) {
        if self.reader.is_done(at_close) {
            self.record(Outcome::Complete);
            self.request = self.request.saturating_add(1);
            if self.request < self.script.requests.len() {
                self.prepare_request();
            } else if self.script.quiet_ms > 0 {
                self.phase = Phase::Quiet;
            } else {
                self.close(stack);
            }
        } else if self
            .script
            .abort_after_bytes
            .is_some_and(|limit| self.body_bytes >= limit)
        {
            self.give_up(stack, Outcome::Aborted);
        }
    }

    fn give_up(&mut self, stack: &mut Stack, outcome: Outcome) {
        self.record(outcome);
        self.close(stack);
    }

    fn record(&mut self, outcome: Outcome) {
        let path = self
            .script
            .requests
            .get(self.request)
            .map_or("", |request| &request.path);
        self.results.push(self.reader.result(path, outcome));
    }

    fn close(&mut self, stack: &mut Stack) {
        match self.script.close {
            CloseKind::Fin => {
                stack.socket(self.handle).close();
                self.phase = Phase::Closing;
            }
            CloseKind::Reset => {
                stack.socket(self.handle).abort();
                stack.poll();
                self.phase = Phase::Ended;
            }
            CloseKind::Vanish => self.phase = Phase::Ended,
        }
    }

    /// Ends a connection that has no way to close.
    fn end(&mut self, outcome: Outcome) {
        if self.results.len() < self.script.requests.len() {
            self.record(outcome);
        }
        self.phase = Phase::Ended;
    }
}
