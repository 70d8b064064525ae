//! The listener: caps, accept loop, graceful drain.

use std::collections::HashMap;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use crate::connection::{Shared, serve};
use crate::metrics::ServerMetrics;
use crate::problem::Problem;

/// Pause after an accept error such as EMFILE, so that the loop does not spin on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Address, deadlines and limits of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeConfig {
    /// Component named in the listener's metrics, `[a-z_]+`. `server`.
    pub component: &'static str,
    /// Where to listen; port 0 takes any.
    pub addr: SocketAddr,
    /// From connecting (or a request's first byte) to the end of its head. 5 s.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the request body. 15 s.
    pub body_timeout: Duration,
    /// How long a kept-alive connection may rest between requests. 60 s.
    pub idle_timeout: Duration,
    /// How long a peer may take nothing of an answer. 30 s.
    pub write_timeout: Duration,
    /// How long requests in flight may still run once shutdown is asked for. 10 s.
    pub drain_timeout: Duration,
    /// Header lines per request. 64.
    pub max_headers: usize,
    /// Bytes of a request head; values under 8192 count as 8192. 16 KiB.
    pub max_header_bytes: usize,
    /// Bytes of a request body. 1 MiB.
    pub max_body_bytes: u64,
    /// Connections at one time. 256.
    pub max_connections: usize,
    /// Connections at one time from one address. 128.
    pub max_connections_per_ip: usize,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            component: "server",
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
            max_headers: 64,
            max_header_bytes: 16 << 10,
            max_body_bytes: 1 << 20,
            max_connections: 256,
            max_connections_per_ip: 128,
        }
    }
}

impl ServeConfig {
    /// The defaults for a component at an address.
    #[must_use]
    pub fn at(component: &'static str, addr: SocketAddr) -> Self {
        Self {
            component,
            addr,
            ..Self::default()
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A limit of zero would refuse everything.
    #[error("{limit} must be at least 1")]
    ZeroLimit {
        /// Name of the field.
        limit: &'static str,
    },
    /// The component cannot stand in a metric name.
    #[error("{component:?} cannot stand in a metric name")]
    Component {
        /// The name given.
        component: &'static str,
        /// What the metrics library said.
        #[source]
        source: prometheus::Error,
    },
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves after shutdown was asked for.
    pub finished: usize,
    /// Connections cut at the drain deadline.
    pub aborted: usize,
}

/// A bound listener; requests are answered once [`Server::run`] is polled.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    config: ServeConfig,
    metrics: ServerMetrics,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    ///
    /// [`ServeError::ZeroLimit`] for a limit of zero, [`ServeError::Component`] for a name that
    /// metrics refuse, [`ServeError::Bind`] when the address is
    /// taken or not ours.
    pub async fn bind(config: ServeConfig) -> Result<Self, ServeError> {
        let limits = [
            ("max_headers", config.max_headers),
            ("max_connections", config.max_connections),
            ("max_connections_per_ip", config.max_connections_per_ip),
        ];
        if let Some((limit, _)) = limits.into_iter().find(|(_, value)| *value == 0) {
            return Err(ServeError::ZeroLimit { limit });
        }
        let component = config.component;
        let metrics = ServerMetrics::new(component)
            .map_err(|source| ServeError::Component { component, source })?;
        let addr = config.addr;
        let bind = |source| ServeError::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;
        Ok(Self {
            listener,
            local_addr,
            config,
            metrics,
        })
    }

    /// The bound address, with the real port.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Counters of the listener, to register with the component's others.
    #[must_use]
    pub const fn metrics(&self) -> &ServerMetrics {
        &self.metrics
    }

    /// Serves until `shutdown` resolves, then finishes the requests in flight, ends SSE streams,
    /// and cuts what is left at the drain deadline.
    pub async fn run(self, router: Router, shutdown: impl Future<Output = ()>) -> Drained {
        let (drain_tx, drain) = watch::channel(false);
        let drain_timeout = self.config.drain_timeout;
        let shared = Shared::new(self.config.clone(), router, self.metrics.clone(), drain);
        let mut pool = Pool::new(&self.config, self.metrics, Arc::new(shared));
        let mut shutdown = std::pin::pin!(shutdown);

        loop {
            tokio::select! {
                () = shutdown.as_mut() => break,
                Some(ended) = pool.tasks.join_next_with_id() => pool.forget(&ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => pool.admit(stream, peer),
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }

        drop(self.listener);
        drain_tx.send_replace(true);
        pool.drain(drain_timeout).await
    }
}

/// The live connections; never more than the caps.
struct Pool {
    tasks: JoinSet<()>,
    addresses: HashMap<Id, IpAddr>,
    per_ip: HashMap<IpAddr, usize>,
    max: usize,
    max_per_ip: usize,
    metrics: ServerMetrics,
    shared: Arc<Shared>,
}

impl Pool {
    fn new(config: &ServeConfig, metrics: ServerMetrics, shared: Arc<Shared>) -> Self {
        Self {
            tasks: JoinSet::new(),
            addresses: HashMap::new(),
            per_ip: HashMap::new(),
            max: config.max_connections,
            max_per_ip: config.max_connections_per_ip,
            metrics,
            shared,
        }
    }

    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) {
        let ip = peer.ip();
        let from_ip = self.per_ip.get(&ip).copied().unwrap_or(0);
        if self.tasks.len() >= self.max {
            self.metrics.refused_all.inc();
            turn_away(stream);
        } else if from_ip >= self.max_per_ip {
            self.metrics.refused_per_ip.inc();
            turn_away(stream);
        } else {
            // Small answers must not wait for the peer's delayed ACK; failing to say so is harmless.
            let _ = stream.set_nodelay(true);
            let handle = self
                .tasks
                .spawn(serve(stream, peer, Arc::clone(&self.shared)));
            self.addresses.insert(handle.id(), ip);
            self.per_ip.insert(ip, from_ip.saturating_add(1));
            self.metrics.connections.inc();
        }
    }

    fn forget(&mut self, ended: &Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a handler panicked");
                }
                error.id()
            }
        };
        let Some(ip) = self.addresses.remove(&id) else {
            return;
        };
        self.metrics.connections.dec();
        match self.per_ip.get(&ip).copied().unwrap_or(0) {
            0 | 1 => drop(self.per_ip.remove(&ip)),
            more => drop(self.per_ip.insert(ip, more.saturating_sub(1))),
        }
    }

    async fn drain(mut self, allowed: Duration) -> Drained {
        let open = self.tasks.len();
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.forget(&ended);
            }
        };
        let in_time = tokio::time::timeout(allowed, all).await.is_ok();
        let aborted = if in_time { 0 } else { self.tasks.len() };
        self.tasks.shutdown().await;
        self.metrics.connections.set(0);
        Drained {
            finished: open.saturating_sub(aborted),
            aborted,
        }
    }
}

/// Says 503 in one write and closes. No task is spawned and nothing is waited for: this is the
/// path of an overload. What the peer has sent so far is read away, since closing on unread
/// bytes resets the connection and takes the answer with it.
fn turn_away(stream: TcpStream) {
    let Ok(mut stream) = stream.into_std() else {
        return;
    };
    let problem = Problem::of_status(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many connections; try again in a second",
    );
    let body = problem.to_json();
    let mut answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
         retry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    // The socket does not block: whatever fails here, the peer sees a closed connection.
    let _ = stream.write(&answer);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0_u8; 4096]);
}
