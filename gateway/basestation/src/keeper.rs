//! Keeps the BaseStation enrolled: a thread that looks at the link, and enrols again when the gateway
//! has lost us, has changed, or our key is to be replaced.
//!
//! ```text
//! new key -> `key_file.next` -> enrol -> both ends up -> the new one has keys, takes over
//!         -> 10 s later: `key_file`, the earlier end goes, the gateway hears that it may forget it
//! ```
//!
//! Invariant: the key in `key_file` or the one in use is always one that the gateway lets in, so a
//! crash at any point costs one enrolment.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qlink_io::clock;
use qlink_io::secret_file::{SecretFileError, replace_secret_file};
use qlink_tunnel::PrivateKey;
use qlink_types::signature::PublicKey;

use crate::agent::{Agent, random};
use crate::config::Config;
use crate::enrol::{EnrolError, Enrolment, Granted, wait};
use crate::link::TunnelLink;
use crate::renewal::{Deed, Outcome, Renewal, Schedule};
use crate::worker::{WorkerError, WorkerGone};

/// How often it looks (chosen: a fifth of the shortest pause).
const LOOK: Duration = Duration::from_millis(200);

/// Why an end was not renewed.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    NewKey(#[from] NewKeyError),
    #[error("the new tunnel key cannot take its place")]
    Replace(#[source] std::io::Error),
    #[error(transparent)]
    Gone(#[from] WorkerGone),
    #[error("the new end of the tunnel cannot be brought up")]
    Begin(#[source] WorkerError),
}

/// Why there is no new tunnel key.
#[derive(Debug, thiserror::Error)]
pub enum NewKeyError {
    /// The system has no random bytes.
    #[error("no random bytes for a new tunnel key")]
    Random(#[source] std::io::Error),
    /// The file cannot be written.
    #[error("the new tunnel key cannot be kept")]
    Keep(#[from] SecretFileError),
}

/// A BaseStation that enrolled.
pub(crate) struct Keeper<'a> {
    /// Ids and chain.
    pub(crate) config: &'a Config,
    /// The table `tunnel`.
    pub(crate) link: &'a TunnelLink,
    /// The gateway's device key.
    pub(crate) gateway_key: &'a PublicKey,
    /// Our tunnel key.
    pub(crate) key: PrivateKey,
    /// What the gateway granted last.
    pub(crate) granted: Granted,
    /// What was before, while the new end is not confirmed.
    before: Option<(PrivateKey, Granted)>,
    /// Where the key waits that is not in `key_file` yet.
    waits_in: Option<PathBuf>,
}

impl<'a> Keeper<'a> {
    /// One that enrolled just now with `key`.
    pub(crate) const fn new(
        (config, link): (&'a Config, &'a TunnelLink),
        gateway_key: &'a PublicKey,
        key: PrivateKey,
        granted: Granted,
    ) -> Self {
        Self {
            config,
            link,
            gateway_key,
            key,
            granted,
            before: None,
            waits_in: None,
        }
    }

    /// Looks and renews until told to stop, or forwarding ends.
    pub(crate) fn run(mut self, agent: &Agent, stop: &AtomicBool) {
        let schedule = Schedule {
            refresh: self.link.refresh_every.0,
            rotate: self.link.rotate_every.map(|every| every.0),
        };
        let mut renewal = Renewal::new(schedule, clock::now_ns());
        while !stop.load(Ordering::Relaxed) {
            wait(LOOK, stop);
            let Ok(sight) = agent.worker().sight() else {
                return;
            };
            let deed = renewal.step(clock::now_ns(), sight);
            if deed == Deed::Wait {
                continue;
            }
            let outcome = self.perform(agent, deed).unwrap_or_else(|error| {
                let denied = matches!(&error, KeepError::Enrol(error) if error.is_key_denied());
                tracing::warn!(?deed, error = %with_cause(&error), "the tunnel is not renewed");
                match denied {
                    true => Outcome::KeyDenied,
                    false => Outcome::Failed,
                }
            });
            renewal.done(clock::now_ns(), deed, outcome, chance());
        }
    }

    fn perform(&mut self, agent: &Agent, deed: Deed) -> Result<Outcome, KeepError> {
        match deed {
            Deed::Wait => Ok(Outcome::Unchanged),
            Deed::Enrol => self.enrol(agent),
            Deed::Rotate => self.rotate(agent),
            Deed::Confirm => self.confirm(agent),
            Deed::Abandon => {
                agent.worker().end_beside()?;
                tracing::warn!("the gateway's new end of the tunnel does not answer");
                // The earlier one is in use still.
                if let Some((key, granted)) = self.before.take() {
                    (self.key, self.granted) = (key, granted);
                    agent.move_to(self.granted.n3);
                }
                self.waits_in = None;
                Ok(Outcome::Failed)
            }
        }
    }

    fn ask(&self, agent: &Agent, key: &PrivateKey) -> Result<Granted, EnrolError> {
        let enrolment = Enrolment {
            config: self.config,
            key: &agent.identity().key,
            tunnel_key: key.public(),
            gateway_key: self.gateway_key,
            api: agent.api(),
            may_change_key: false,
        };
        enrolment.attempt()
    }

    /// States the key that we have.
    fn enrol(&mut self, agent: &Agent) -> Result<Outcome, KeepError> {
        let granted = self.ask(agent, &self.key)?;
        if granted == self.granted {
            return Ok(Outcome::Unchanged);
        }
        self.begin(agent, self.key.clone(), granted)
    }

    /// States a new key.
    fn rotate(&mut self, agent: &Agent) -> Result<Outcome, KeepError> {
        let file = next_file(&self.link.key_file);
        let key = new_key(&file)?;
        let granted = self.ask(agent, &key)?;
        let outcome = self.begin(agent, key, granted)?;
        self.waits_in = Some(file);
        Ok(outcome)
    }

    fn begin(
        &mut self,
        agent: &Agent,
        key: PrivateKey,
        granted: Granted,
    ) -> Result<Outcome, KeepError> {
        let setup = self.link.setup(key.clone(), &granted);
        agent.worker().begin(setup)?.map_err(KeepError::Begin)?;
        if granted.n3 != self.granted.n3 {
            agent.move_to(granted.n3);
        }
        tracing::info!(
            endpoint = %granted.endpoint, n3 = %granted.n3, key = %key.public(),
            "a new end of the tunnel is brought up"
        );
        let earlier = std::mem::replace(&mut self.key, key);
        self.before = Some((earlier, self.granted));
        self.granted = granted;
        Ok(Outcome::Begun)
    }

    /// The new end carries everything: the earlier one goes on both sides.
    fn confirm(&mut self, agent: &Agent) -> Result<Outcome, KeepError> {
        if let Some(file) = &self.waits_in {
            std::fs::rename(file, &self.link.key_file).map_err(KeepError::Replace)?;
        }
        (self.waits_in, self.before) = (None, None);
        agent.worker().end_beside()?;
        let outcome = self.enrol(agent)?;
        tracing::info!(key = %self.key.public(), "the tunnel is renewed");
        Ok(outcome)
    }
}

/// Makes a key and keeps it in a file.
pub(crate) fn new_key(file: &Path) -> Result<PrivateKey, NewKeyError> {
    let secret = random().map_err(NewKeyError::Random)?;
    let digits: String = secret
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    replace_secret_file(file, &digits)?;
    Ok(PrivateKey::from_bytes(*secret.as_bytes()))
}

/// Where a key waits until it is in use.
fn next_file(key_file: &Path) -> PathBuf {
    let mut name = key_file.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// 0 to 1023.
fn chance() -> u64 {
    clock::unix_ns() & 1023
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_read_from_its_file_again_and_is_another_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = next_file(&folder.path().join("tunnel.key"));

        let first = new_key(&file).unwrap().public();
        let second = new_key(&file).unwrap().public();

        assert_ne!(first, second);
        let kept = qlink_tunnel::read_key_file(&file).unwrap().public();
        assert_eq!(kept, second);
        assert!(file.ends_with("tunnel.key.next"));
    }
}
