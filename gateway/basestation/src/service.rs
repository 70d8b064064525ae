//! The BaseStation process: one forwarding thread, one control thread per connection.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use qlink_io::PacketPort;
use qlink_tunnel::read_key_file;
use qlink_types::signature::SecretKey;

use crate::agent::{Agent, Identity};
use crate::config::{Config, ConfigError, Radio, Way};
use crate::control::serve;
use crate::enrol::Enrolment;
use crate::forward::Forwarder;
use crate::gateway_api::GatewayApi;
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
    let Some((link, trusted)) = reach(config, &key, &*api, stop)? else {
        return Ok(WorkerCount::default());
    };
    let forwarder = Forwarder::new(trusted, config.sessions_max);
    match &config.radio {
        Radio::Udp(radio) => {
            let bound = Worker::bind(*radio, link, forwarder, tap)?;
            forward(config, key, api, bound, stop)
        }
        Radio::Interface(radio) => {
            let bound = Worker::attach(&radio.tun, link, forwarder, tap)?;
            forward(config, key, api, bound, stop)
        }
    }
}

/// How the gateway is reached, and the addresses there from which GTP-U is taken; `None` when told to
/// stop before the gateway has let us into its tunnel.
fn reach(
    config: &Config,
    key: &SecretKey,
    api: &dyn GatewayApi,
    stop: &AtomicBool,
) -> Result<Option<(LinkSetup, Vec<SocketAddr>)>, RunError> {
    Ok(match config.way()? {
        Way::Plain(n3) => Some((n3.into(), config.trusted_gateways.clone())),
        Way::Tunnel(link, end) => {
            let key = read_key_file(&link.key_file)?;
            Some((link.setup(key, &end), vec![end.gtpu]))
        }
        Way::Enrol(link, gateway_key) => {
            let tunnel_key = read_key_file(&link.key_file)?;
            let enrolment = Enrolment {
                config,
                key,
                tunnel_key: tunnel_key.public(),
                gateway_key,
                api,
            };
            let end = enrolment.run(stop);
            end.map(|end| (link.setup(tunnel_key, &end), vec![end.gtpu]))
        }
    })
}

fn forward<R: PacketPort + Send>(
    config: &Config,
    key: SecretKey,
    api: Box<dyn GatewayApi>,
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
        let controlled = serve(&config.control, &agent, stop);
        agent.worker().stop();
        let count = forwarding.join().map_err(|_| RunError::Panicked)??;
        controlled?;
        Ok(count)
    })
}
