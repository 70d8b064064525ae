//! The BaseStation process: one forwarding thread, one control thread per connection.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use qlink_io::PacketPort;
use qlink_tunnel::read_key_file;
use qlink_types::signature::SecretKey;

use crate::agent::{Agent, Identity};
use crate::config::{Config, ConfigError, Radio, Way};
use crate::control::serve;
use crate::enrol::{Enrolment, Entry};
use crate::forward::Forwarder;
use crate::gateway_api::GatewayApi;
use crate::keeper::{Keeper, new_key};
use crate::key::{KeyError, read_key};
use crate::link::LinkSetup;
use crate::tap::Tap;
use crate::worker::{Worker, WorkerCount, WorkerError, WorkerHandle};

/// Why a BaseStation ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is wrong.
    #[error("configuration")]
    Config(#[from] ConfigError),
    /// The device key cannot be used.
    #[error("device key")]
    Key(#[from] KeyError),
    /// The tunnel key cannot be used.
    #[error("tunnel key")]
    TunnelKey(#[from] qlink_tunnel::KeyFileError),
    /// A denied tunnel key cannot be replaced.
    #[error("new tunnel key")]
    NewKey(#[from] crate::keeper::NewKeyError),
    /// Forwarding failed.
    #[error("forwarding")]
    Worker(#[from] WorkerError),
    /// The control socket failed.
    #[error("control socket")]
    Control(#[from] std::io::Error),
    /// A thread ended by a panic.
    #[error("forwarding thread panicked")]
    Panicked,
}

impl RunError {
    /// Whether the configuration is to blame: exit code 64 at the shell.
    #[must_use]
    pub const fn is_bad_configuration(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Key(_) | Self::TunnelKey(_))
    }
}

/// Runs a BaseStation until `stop` is set or it is told to stop; its final counters come back.
///
/// # Errors
///
/// [`RunError`].
pub fn run(
    config: &Config,
    api: Box<dyn GatewayApi>,
    tap: Box<dyn Tap>,
    stop: &AtomicBool,
) -> Result<WorkerCount, RunError> {
    config.validate()?;
    let key = read_key(&config.key_file)?;
    let Some(reach) = reach(config, &key, &*api, stop)? else {
        return Ok(WorkerCount::default());
    };
    let Reach {
        link,
        trusted,
        keeper,
    } = reach;
    let forwarder = Forwarder::new(trusted, config.sessions_max);
    let parts = (config, key, api, keeper);
    match &config.radio {
        Radio::Udp(radio) => {
            let bound = Worker::bind(*radio, link, forwarder, tap)?;
            forward(parts, bound, stop)
        }
        Radio::Interface(radio) => {
            let bound = Worker::attach(&radio.tun, link, forwarder, tap)?;
            forward(parts, bound, stop)
        }
    }
}

/// How the gateway is reached.
struct Reach<'a> {
    link: LinkSetup,
    /// The addresses there from which GTP-U is taken.
    trusted: Vec<SocketAddr>,
    /// Who keeps us enrolled, where we enrolled.
    keeper: Option<Keeper<'a>>,
}

/// How the gateway is reached; `None` when told to stop before the gateway has let us into its
/// tunnel.
fn reach<'a>(
    config: &'a Config,
    key: &SecretKey,
    api: &dyn GatewayApi,
    stop: &AtomicBool,
) -> Result<Option<Reach<'a>>, RunError> {
    Ok(match config.way()? {
        Way::Plain(n3) => Some(Reach {
            link: n3.into(),
            trusted: config.trusted_gateways.clone(),
            keeper: None,
        }),
        Way::Tunnel(link, end) => {
            let key = read_key_file(&link.key_file)?;
            Some(Reach {
                link: link.setup(key, &end).into(),
                trusted: vec![end.gtpu],
                keeper: None,
            })
        }
        Way::Enrol(link, gateway_key) => {
            let mut tunnel_key = read_key_file(&link.key_file)?;
            let granted = loop {
                let enrolment = Enrolment {
                    config,
                    key,
                    tunnel_key: tunnel_key.public(),
                    gateway_key,
                    api,
                    may_change_key: link.rotate_every.is_some(),
                };
                match enrolment.run(stop) {
                    Entry::Granted(granted) => break granted,
                    Entry::KeyDenied => tunnel_key = new_key(&link.key_file)?,
                    Entry::Stopped => return Ok(None),
                }
            };
            Some(Reach {
                link: link.setup(tunnel_key.clone(), &granted).into(),
                trusted: vec![granted.gtpu],
                keeper: Some(Keeper::new(
                    (config, link),
                    gateway_key,
                    tunnel_key,
                    granted,
                )),
            })
        }
    })
}

/// What forwarding is controlled with.
type Parts<'a> = (
    &'a Config,
    SecretKey,
    Box<dyn GatewayApi>,
    Option<Keeper<'a>>,
);

fn forward<R: PacketPort + Send>(
    (config, key, api, keeper): Parts<'_>,
    (worker, handle): (Worker<R>, WorkerHandle),
    stop: &AtomicBool,
) -> Result<WorkerCount, RunError> {
    let identity = Identity {
        chain: config.chain,
        basestation: config.basestation,
        gateway: config.gateway,
        key,
        n3: worker.n3_addr(),
    };
    let agent = Agent::new(identity, api, handle)?;
    tracing::info!(radio = %config.radio, n3 = %worker.n3_addr(), "forwarding");
    std::thread::scope(|scope| {
        let forwarding = scope.spawn(|| {
            let result = worker.run();
            // Without forwarding there is nothing to control.
            stop.store(true, Ordering::Relaxed);
            result
        });
        let agent = &agent;
        let keeping = keeper.map(|keeper| scope.spawn(move || keeper.run(agent, stop)));
        let controlled = serve(&config.control, agent, stop);
        // It asks the worker, so it ends first.
        let kept = keeping.map_or(Ok(()), std::thread::ScopedJoinHandle::join);
        agent.worker().stop();
        kept.map_err(|_| RunError::Panicked)?;
        let count = forwarding.join().map_err(|_| RunError::Panicked)??;
        controlled?;
        Ok(count)
    })
}
