//! Enrolment for the gateway's tunnel: our device key signs our tunnel key, the gateway's device key
//! signs its end. Neither side takes the word of the network in between.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qlink_api::tunnel::{EnrolTunnelRequest, EnrolledTunnel};
use qlink_tunnel::PublicKey as TunnelPublicKey;
use qlink_types::ids::Hash32;
use qlink_types::signature::{PublicKey, SecretKey, SignatureError};
use qlink_types::tunnel::TunnelKey;

use crate::agent::now;
use crate::config::Config;
use crate::gateway_api::{GatewayApi, GatewayError, jitter};
use crate::renewal::{PAUSE_MAX_NS, PAUSE_NS};

/// Pause after the first refusal; doubled each time, plus up to half of it by chance.
const PAUSE: Duration = Duration::from_nanos(PAUSE_NS);

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_nanos(PAUSE_MAX_NS);

/// How often a pause looks whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Why one attempt brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("the answer is not signed by tunnel.gateway_device_key: {0}")]
    Signature(#[from] SignatureError),
    #[error("the answer is to another statement than ours")]
    OtherStatement,
    #[error("the answer's {what} is {value:?}, which is none")]
    Unusable { what: &'static str, value: String },
}

impl EnrolError {
    /// Whether the gateway denies our tunnel key, so that only another one comes in.
    pub(crate) fn is_key_denied(&self) -> bool {
        matches!(self, Self::Gateway(error) if error.is_refused_as("tunnel_key_denied"))
    }
}

/// How the first enrolment ended.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The gateway has let us in.
    Granted(Granted),
    /// It denies our tunnel key.
    KeyDenied,
    /// We were told to stop before.
    Stopped,
}

/// The gateway's end of the tunnel, and our address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The gateway's tunnel key.
    pub(crate) gateway_key: TunnelPublicKey,
    /// Where it is reached.
    pub(crate) endpoint: SocketAddr,
    /// Where GTP-U goes in the tunnel.
    pub(crate) gtpu: SocketAddr,
    /// Our address and GTP-U port in the tunnel.
    pub(crate) n3: SocketAddr,
}

/// Who enrols, and with whom.
pub(crate) struct Enrolment<'a> {
    /// Ids and chain.
    pub(crate) config: &'a Config,
    /// Our device key.
    pub(crate) key: &'a SecretKey,
    /// Our tunnel key.
    pub(crate) tunnel_key: TunnelPublicKey,
    /// The gateway's device key.
    pub(crate) gateway_key: &'a PublicKey,
    /// The gateway.
    pub(crate) api: &'a dyn GatewayApi,
    /// Whether a denied tunnel key may be replaced.
    pub(crate) may_change_key: bool,
}

impl Enrolment<'_> {
    /// Enrols, however long it takes. A refusal is no end: our registration may not be final yet.
    pub(crate) fn run(&self, stop: &AtomicBool) -> Entry {
        let mut pause = PAUSE;
        while !stop.load(Ordering::Relaxed) {
            match self.attempt() {
                Ok(granted) => {
                    tracing::info!(endpoint = %granted.endpoint, n3 = %granted.n3, "enrolled for the tunnel");
                    return Entry::Granted(granted);
                }
                Err(error) => {
                    tracing::warn!(%error, ?pause, "not enrolled for the tunnel; trying again");
                    if error.is_key_denied() && self.may_change_key {
                        return Entry::KeyDenied;
                    }
                }
            }
            wait(pause.saturating_add(jitter(pause)), stop);
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        Entry::Stopped
    }

    /// One attempt.
    pub(crate) fn attempt(&self) -> Result<Granted, EnrolError> {
        let statement = TunnelKey {
            basestation: self.config.basestation,
            gateway: self.config.gateway,
            key: Hash32::new(self.tunnel_key.to_bytes()),
            signed_at: now(Duration::ZERO),
        };
        let request = EnrolTunnelRequest {
            statement,
            signature: statement.sign(self.key, &self.config.chain),
        };
        let answer = self.api.enrol(self.config.basestation, &request)?;
        self.check(&statement, &answer)
    }

    fn check(&self, statement: &TunnelKey, answer: &EnrolledTunnel) -> Result<Granted, EnrolError> {
        let grant = &answer.grant;
        grant.verify(self.gateway_key, &self.config.chain, &answer.signature)?;
        if grant.asked != *statement {
            return Err(EnrolError::OtherStatement);
        }
        let unusable = |what, value: &str| EnrolError::Unusable {
            what,
            value: value.to_owned(),
        };
        let endpoint = |what, text: &str| text.parse().map_err(|_| unusable(what, text));
        let gtpu: SocketAddr = endpoint("gtpu", grant.gtpu.as_str())?;
        let address = grant.address.as_str();
        let own = address.parse().map_err(|_| unusable("address", address))?;
        let key = TunnelPublicKey::from_bytes(*grant.gateway_key.as_bytes());
        Ok(Granted {
            gateway_key: key
                .map_err(|_| unusable("gateway_key", &grant.gateway_key.to_string()))?,
            endpoint: endpoint("endpoint", grant.endpoint.as_str())?,
            gtpu,
            n3: SocketAddr::new(own, gtpu.port()),
        })
    }
}

pub(crate) fn wait(pause: Duration, stop: &AtomicBool) {
    let mut left = pause;
    while !left.is_zero() && !stop.load(Ordering::Relaxed) {
        let step = left.min(LOOK);
        std::thread::sleep(step);
        left = left.saturating_sub(step);
    }
}

#[cfg(test)]
#[path = "enrol_tests.rs"]
mod tests;
